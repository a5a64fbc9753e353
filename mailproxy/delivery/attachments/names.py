"""
The addresses of hosts that clients name.

They are looked up in threads of their own: a name whose servers do not answer keeps a thread for
long, and must not keep it from the upstreams' names.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.error import DNSLookupError

from mailproxy.interfaces import InThread

#: The addresses of a host, the best first. Raises DNSLookupError: there is none.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


def system_names(in_thread: InThread) -> Resolve:
    """The names that the system knows, as ``getaddrinfo`` finds them."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        try:
            found = await in_thread(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise DNSLookupError(host) from None
        return list(dict.fromkeys(str(each[4][0]) for each in found))

    return resolve
