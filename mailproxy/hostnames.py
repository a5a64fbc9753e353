"""
The way to a host, whatever its name looks like.

Names in private networks need not be internationalised domain names: container networks have
underscores in them. Whatever the resolver knows can be called.
"""

from __future__ import annotations

from typing import Any

import idna
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from zope.interface import implementer


def endpoint_of(reactor: Any, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
    """
    Where *host* is reached, whether it is an address, a domain name or just known.

    Names are resolved by the reactor's resolver, that is by ``getaddrinfo`` in its bounded threads.

    :param host: ASCII; an IPv6 address may be in brackets.
    :param timeout: seconds until a connection must stand.
    """
    host = host.removeprefix("[").removesuffix("]")
    if not (isIPAddress(host) or isIPv6Address(host)):
        try:
            idna.encode(host.strip("."))
        except idna.IDNAError:
            return _KnownName(reactor, host, port, timeout)
    return HostnameEndpoint(reactor, host, port, timeout=timeout)


@implementer(IStreamClientEndpoint)
class _KnownName:
    """A host whose addresses are asked for by its bare name, and tried in order."""

    def __init__(self, reactor: Any, host: str, port: int, timeout: float) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        found = _Found()
        self._reactor.nameResolver.resolveHostName(found, self._host, self._port)
        failure: Exception = DNSLookupError(f"no address found for {self._host}")
        for address in await found.addresses:
            kind = TCP6ClientEndpoint if isinstance(address, IPv6Address) else TCP4ClientEndpoint
            endpoint = kind(self._reactor, address.host, self._port, timeout=self._timeout)
            try:
                protocol: IProtocol = await endpoint.connect(factory)
            except (CancelledError, ConnectingCancelledError):
                raise  # whoever asked does not want another address tried either
            except Exception as error:
                failure = error
            else:
                return protocol
        raise failure


@implementer(IResolutionReceiver)
class _Found:
    """:ivar addresses: fires with those that were found, when there are no more."""

    def __init__(self) -> None:
        self.addresses: Deferred[list[Any]] = Deferred()
        self._addresses: list[Any] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing is known yet."""

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        if not self.addresses.called:
            self.addresses.callback(self._addresses)
