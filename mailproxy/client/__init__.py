"""
For programs that use a mailproxy: hand mail in, see what became of it, run the service.

    with Client("http://localhost:8000", token) as client:
        client.send("shop@example.com", "ann@example.org", "Your order", "Thank you.")

It knows nothing of how the service is made: importing it brings no Twisted, and no database.
"""

from __future__ import annotations

from mailproxy.client.acts import GroupActs, MessageActs
from mailproxy.client.administration import Administration, NewKey
from mailproxy.client.caller import join
from mailproxy.client.errors import (
    BadAnswer,
    ClientError,
    Conflict,
    Fault,
    Forbidden,
    NotFound,
    Refused,
    Rejected,
    ServerFault,
    Unauthorized,
    Unavailable,
    Untrusted,
)
from mailproxy.client.mail import Mail, attachment, envelopes, new_id
from mailproxy.client.transport import Retry

__all__ = [
    "BadAnswer",
    "Client",
    "ClientError",
    "Conflict",
    "Fault",
    "Forbidden",
    "GroupActs",
    "MessageActs",
    "NewKey",
    "NotFound",
    "Refused",
    "Rejected",
    "Retry",
    "ServerFault",
    "Unauthorized",
    "Unavailable",
    "Untrusted",
    "attachment",
    "envelopes",
    "join",
    "new_id",
]


class Client(Mail, Administration):
    """
    Everything a mailproxy is asked over HTTP; see :class:`~mailproxy.client.caller.Caller` and
    :class:`~mailproxy.client.transport.Transport` for the parameters. One for each thread.
    """
