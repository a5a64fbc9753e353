"""
The URL reports go to, as it is written on the wire, and the way to hosts with unusual names.

Names in private networks need not be internationalised domain names: container networks have
underscores in them. Whatever the resolver knows can be called.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote, urlsplit

import attrs
import idna
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from zope.interface import implementer

#: What stays as it is in a path or query: reserved characters, and escapes already made.
_SAFE = "/%:@!$&'()*+,;=~-._?"


@attrs.frozen
class Target:
    """
    A parsed URL.

    :param url: what is requested; no user info, no fragment, ASCII.
    :param name: the same without the query: what may stand in a log.
    :param user: of the user info, decoded; None if the URL had none.
    """

    url: str
    name: str
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)


def parse_url(text: str) -> Target:
    """:raises ValueError: *text* names no place to POST to; it is not quoted."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode("ascii")
    except ValueError:
        raise ValueError("not a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("not a URL that begins with http:// or https:// and names a host")
    if not quote(host, safe="[]:._~-") == host:
        raise ValueError("not a URL: look at the host")
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc += f":{port}"
    name = f"{parts.scheme}://{netloc}{quote(parts.path, safe=_SAFE) or '/'}"
    query = quote(parts.query, safe=_SAFE)
    return Target(
        url=f"{name}?{query}" if query else name,
        name=name,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )


def endpoint_of(reactor: Any, host: bytes, port: int, timeout: float) -> IStreamClientEndpoint:
    """
    Where *host* is reached, whether it is an address, a domain name or just known.

    :param timeout: seconds until a connection must stand.
    """
    try:
        idna.encode(host.decode("ascii").strip("."))
    except idna.IDNAError:
        return _KnownName(reactor, host.decode("ascii"), port, timeout)
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
