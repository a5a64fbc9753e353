"""
mailproxy takes mail from applications, keeps it safe, sends it, and tells what became of it.

Read it in the order a message travels:

* :mod:`mailproxy.api` is the front door: a request becomes checked messages.
* :mod:`mailproxy.submission` is the other one: mail handed in by SMTP becomes the same.
* :mod:`mailproxy.store` makes them durable; nothing is answered before.
* :mod:`mailproxy.dispatch` decides when a message leaves, and what an upstream's answer means.
* :mod:`mailproxy.delivery` composes it and carries it through an SMTP session.
* :mod:`mailproxy.report` tells the application.

What they all speak of is in :mod:`~mailproxy.model`, :mod:`~mailproxy.states`,
:mod:`~mailproxy.records`, :mod:`~mailproxy.errors`, :mod:`~mailproxy.interfaces` and
:mod:`~mailproxy.metrics`. A stage imports these and itself, never another stage;
:mod:`mailproxy.service` puts them together and is the only module that knows them all.

Beside the way of a message stand :mod:`mailproxy.cli`, the command line, and
:mod:`mailproxy.proving`, an upstream and report receiver to try the service against, and what kills
it to see whether it loses anything. :mod:`mailproxy.client` is for the programs that use a service;
it knows nothing of how one is made.
"""

__version__ = "0.1.0"
