"""A reactor in memory that knows names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer


@implementer(IHostResolution)
class _Resolution:
    name = "peer.test"

    def cancel(self) -> None:
        raise NotImplementedError


@implementer(IHostnameResolver)
class _Names:
    def __init__(self, reactor: NamedReactor) -> None:
        self._reactor = reactor

    def resolveHostName(
        self, resolutionReceiver: IResolutionReceiver, hostName: str, *args: Any, **kwargs: Any
    ) -> IHostResolution:
        self._reactor.asked.append(hostName)
        resolution = _Resolution()
        resolutionReceiver.resolutionBegan(resolution)
        if self._reactor.addresses is None:
            return resolution
        for address in self._reactor.addresses:
            kind = IPv6Address if ":" in address else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", address, 25))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IReactorPluggableNameResolver)
class NamedReactor(MemoryReactorClock):
    """
    Every name has these *addresses*; with None, no answer ever comes.

    :ivar asked: the names that were asked for.
    """

    def __init__(self, addresses: Sequence[str] | None) -> None:
        super().__init__()
        self.addresses = addresses
        self.asked: list[str] = []
        self.nameResolver = _Names(self)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        raise NotImplementedError
