"""
What the service takes from the machine it runs on, besides the reactor.

With :mod:`mailproxy.service` and :mod:`mailproxy.service_parts` it knows all stages. Each of these
is the machine's own unless a simulation brings another: then a seed decides all of them.
"""

from __future__ import annotations

import gc
import random
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import attrs

from mailproxy.api.call import Route
from mailproxy.clock import seeded
from mailproxy.config import Settings
from mailproxy.config_secrets import Secrets, obtain
from mailproxy.delivery.names import Lookup
from mailproxy.notify import tell
from mailproxy.service_store import open_store
from mailproxy.signals import Signals
from mailproxy.threads import Threads

#: New objects, net, after which the collector looks at the youngest.
COLLECT_AFTER = 20_000

#: Seconds a thread may keep the interpreter while another waits for it.
SWITCH_SECONDS = 0.0005


def tune_interpreter() -> None:
    """
    What was made for the start stays for ever: the collector need not look at it again, nor wake
    for every few hundred of the short-lived values that a busy minute makes by the million. The
    store's thread and the reactor's hand the interpreter to each other many times a message, so
    neither may keep it for long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 100)
    sys.setswitchinterval(SWITCH_SECONDS)


def _all(route: Route) -> bool:
    return True


@attrs.frozen
class Machine:
    """
    :param secrets: the token and the keys, as configured or kept.
    :param store: makes the store; see :func:`mailproxy.service_store.open_store`.
    :param threads: makes a pool of threads: the reactor, its name, its size.
    :param rng: a source of randomness for names and for what spreads load; a new one each time.
    :param lookup: finds the addresses of upstreams.
    :param wall: the system's clock, in Unix seconds.
    :param signals: hears the signals that are sent to the process.
    :param tune: called once everything is made.
    :param serves: whether an endpoint is served.
    :param tell: tells whoever started the process how far it is; see :mod:`mailproxy.notify`.
    """

    secrets: Callable[[Settings], Secrets] = obtain
    store: Callable[..., Any] = open_store
    threads: Callable[[Any, str, int], Threads] = Threads
    rng: Callable[[], random.Random] = seeded
    lookup: Lookup = socket.getaddrinfo
    wall: Callable[[], float] = time.time
    signals: Callable[[Any], Signals] = Signals
    tune: Callable[[], None] = tune_interpreter
    serves: Callable[[Route], bool] = _all
    tell: Callable[[str], None] = tell


#: The one that the program runs on.
THIS_MACHINE = Machine()
