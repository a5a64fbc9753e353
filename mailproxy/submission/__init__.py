"""
The SMTP front door: programs that know nothing but SMTP hand their mail in.

:mod:`~mailproxy.submission.commands` reads MAIL and RCPT, :mod:`~mailproxy.submission.protocol` is
one connection, :mod:`~mailproxy.submission.gate` says who may come in, :mod:`~mailproxy.submission.
intake` makes a message of what came, and :mod:`~mailproxy.submission.listener` opens the door.
"""
