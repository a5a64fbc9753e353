"""
How often somebody may guess: each failure from an address, and at a user name, makes the next wait.

Pure: the caller brings the time in. What is kept is bounded, the longest forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address, ip_network

import attrs

#: Failures that cost nothing: people mistype.
FREE = 5

#: Seconds to wait after the first failure beyond those; doubled for each one more, up to LONGEST.
FIRST, LONGEST = 2.0, 900.0

#: Seconds without a failure after which the count begins anew.
FORGOTTEN = 3600.0

#: Addresses and names remembered at most.
MOST = 10_000


@attrs.define
class _Count:
    failures: int = 0
    last: float = 0.0
    until: float = 0.0


class Patience:
    """Counts failures by key, and says from when on a key may try again."""

    def __init__(self, free: int = FREE) -> None:
        self._free = free
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds until *key* may try; 0 if it may now."""
        count = self._counts.get(key)
        return 0.0 if count is None else max(0.0, count.until - now)

    def failed(self, key: str, now: float) -> None:
        count = self._counts.get(key)
        if count is None or now - count.last > FORGOTTEN:
            count = self._counts[key] = _Count()
        self._counts.move_to_end(key)
        count.failures += 1
        count.last = now
        beyond = count.failures - self._free
        if beyond > 0:
            count.until = now + min(FIRST * 2.0 ** min(beyond - 1, 16), LONGEST)
        while len(self._counts) > MOST:
            self._counts.popitem(last=False)

    def succeeded(self, key: str) -> None:
        self._counts.pop(key, None)


def neighbourhood(peer: str) -> str:
    """What guesses from *peer* count for: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    return str(address) if address.version == 4 else str(ip_network(f"{address}/64", strict=False))
