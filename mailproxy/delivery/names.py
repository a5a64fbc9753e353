"""
The addresses of upstreams, looked up in threads of their own.

Neither blocking work nor the names that clients give can take these threads. Whoever asks for a
name that is being looked up waits for that answer, so that a name server which says nothing costs
one thread for a name. What could not be found is not asked for again for a while, less than the
five minutes of RFC 2308, section 5; what was found is not kept: that is the system's business.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from mailproxy.interfaces import InThread

#: Seconds for which a name that was not found is taken not to be there.
NEGATIVE = 30.0

#: Seconds a lookup may take until those who wait are told that there is no answer.
DEADLINE = 20.0

#: Lookups at once.
THREADS = 16

_WORDS = {
    socket.EAI_NONAME: "it does not exist",
    socket.EAI_AGAIN: "the name server does not answer, or cannot",
    socket.EAI_FAIL: "the name server refuses",
    socket.EAI_FAMILY: "it has no address that can be used",
}
for _missing in ("EAI_NODATA", "EAI_ADDRFAMILY"):
    if hasattr(socket, _missing):
        _WORDS[getattr(socket, _missing)] = "it has no address"

#: As ``socket.getaddrinfo``.
Lookup = Callable[..., Sequence[Any]]


class Unresolved(DNSLookupError):
    """A name has no address; the text says why, as far as it is known."""


@implementer(IHostResolution)
@attrs.define(eq=False)
class _Asked:
    """One who waits for the addresses of *name*."""

    name: str
    port: int
    receiver: IResolutionReceiver
    over: bool = False

    def cancel(self) -> None:
        self.tell(())

    def tell(self, addresses: Sequence[str]) -> None:
        """Once; what comes later is nobody's business any more."""
        if self.over:
            return
        self.over = True
        for each in addresses:
            self.receiver.addressResolved(_address(each, self.port))
        self.receiver.resolutionComplete()


@implementer(IHostnameResolver)
class Names:
    """
    :param in_thread: where names are looked up.
    :param lookup: the system's way to do that.
    """

    def __init__(
        self,
        in_thread: InThread,
        clock: IReactorTime,
        *,
        lookup: Lookup = socket.getaddrinfo,
        deadline: float = DEADLINE,
        negative: float = NEGATIVE,
    ) -> None:
        self._in_thread = in_thread
        self._clock = clock
        self._lookup = lookup
        self._deadline = deadline
        self._negative = negative
        self._waiting: dict[str, list[_Asked]] = {}
        self._missing: dict[str, tuple[float, str]] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Every address, of whatever kind, in the order in which it is best tried."""
        asked = _Asked(hostName, portNumber, resolutionReceiver)
        resolutionReceiver.resolutionBegan(asked)
        if isIPAddress(hostName) or isIPv6Address(hostName):
            asked.tell((hostName,))
        elif self.missing(hostName):
            asked.tell(())
        elif hostName in self._waiting:
            self._waiting[hostName].append(asked)
        else:
            self._waiting[hostName] = [asked]
            self._ask(hostName)
        return asked

    def missing(self, name: str) -> str:
        """Why *name* is taken to have no address; "" if it is not."""
        until, why = self._missing.get(name, (0.0, ""))
        return why if self._clock.seconds() < until else ""

    def _ask(self, name: str) -> None:
        late = self._clock.callLater(self._deadline, self._too_late, name)

        async def look_up() -> Sequence[str]:
            found = await self._in_thread(self._lookup, name, None, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(each[4][0]) for each in found))

        def over(result: Any) -> None:
            if late.active():
                late.cancel()
            if isinstance(result, Failure):
                self._remember(name, _why(result.value))
                result = ()
            elif not result:
                self._remember(name, "it has no address")
            else:
                self._missing.pop(name, None)
            self._tell(name, result)

        Deferred.fromCoroutine(look_up()).addBoth(over)

    def _too_late(self, name: str) -> None:
        """The thread goes on; until it is done nobody else asks for this name."""
        self._remember(name, f"no answer within {self._deadline:g} s")
        told, self._waiting[name] = self._waiting[name], []
        for asked in told:
            asked.tell(())

    def _tell(self, name: str, addresses: Sequence[str]) -> None:
        for asked in self._waiting.pop(name):
            asked.tell(addresses)

    def _remember(self, name: str, why: str) -> None:
        now = self._clock.seconds()
        for each, (until, _) in tuple(self._missing.items()):
            if until <= now:
                del self._missing[each]
        self._missing[name] = (now + self._negative, why)


def _why(error: BaseException | None) -> str:
    code = error.errno if isinstance(error, socket.gaierror) else None
    if isinstance(error, UnicodeError):
        return "it is no host name"
    return _WORDS.get(code, "it could not be looked up") if code is not None else "no lookup"


def _address(text: str, port: int) -> IAddress:
    address: IAddress = (IPv6Address if ":" in text else IPv4Address)("TCP", text, port)
    return address


@implementer(IReactorPluggableNameResolver)
class Knowing:
    """The reactor, save that names are looked up by *names*."""

    def __init__(self, reactor: Any, names: IHostnameResolver) -> None:
        self._reactor = reactor
        self.nameResolver = names

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Nobody changes it here."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
