"""HTTP as the world outside speaks it: a client of the API, and the server that takes reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.simulation.network import End, Network
from tests.simulation.timeline import Owner, Timer


@attrs.frozen
class Reply:
    """An answer. :param status: of HTTP."""

    status: int
    json: Any


def _whole(data: bytes) -> tuple[bytes, bytes] | None:
    """Head and body of a message with a length, once it is complete."""
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return (head, body[:length]) if len(body) >= length else None


class Call:
    """One request on a connection of its own; ``done`` fires with a :class:`Reply`, or None."""

    noisy = False

    def __init__(
        self, net: Network, owner: Owner, port: int, method: str, path: str, token: str, body: Any
    ) -> None:
        self._net = net
        self._owner = owner
        data = b"" if body is None else json.dumps(body).encode()
        self._request = (
            f"{method} {path} HTTP/1.1\r\nHost: api.sim\r\nConnection: close\r\n"
            f"X-API-Token: {token}\r\nContent-Length: {len(data)}\r\n\r\n"
        ).encode() + data
        self._answer = b""
        self.done: Deferred[Reply | None] = Deferred()
        self._port = port
        self._timer: Timer | None = None
        self.transport: End | None = None

    def send(self, timeout: float) -> Deferred[Reply | None]:
        self._timer = self._net.line.later(self._owner, timeout, self._late)
        self._net.connect(self._owner, "10.0.0.1", self._port, self, 5.0)
        return self.done

    def _late(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()
        self._end(None)

    def _end(self, reply: Reply | None) -> None:
        if not self.done.called:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self.done.callback(reply)

    # -- a factory for one connection ---------------------------------------------------------

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...

    def startedConnecting(self, connector: object) -> None: ...

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._end(None)

    def buildProtocol(self, address: IPv4Address) -> Call | None:
        return None if self.done.called else self

    # -- a protocol ---------------------------------------------------------------------------

    def makeConnection(self, transport: End) -> None:
        self.transport = transport
        transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._answer += data
        whole = _whole(self._answer)
        if whole is not None and self.transport is not None:
            head, body = whole
            self.transport.loseConnection()
            self._end(Reply(int(head.split()[1]), json.loads(body) if body else None))

    def connectionLost(self, reason: Failure) -> None:
        self._end(None)


class Receiver:
    """
    Takes POSTs.

    :param answer: called with the request's JSON and a function that answers, at any time, with
        status and body; None as the status ends the connection instead.
    """

    noisy = False

    def __init__(self, answer: Callable[[Any, Callable[[int | None, bytes], None]], None]) -> None:
        self.answer = answer

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...

    def buildProtocol(self, address: IPv4Address) -> _Post:
        return _Post(self)


class _Post:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._request = b""
        self._read = False

    def makeConnection(self, transport: End) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        whole = _whole(self._request)
        if whole is not None and not self._read:
            self._read = True
            self._receiver.answer(json.loads(whole[1]), self._write)

    def _write(self, status: int | None, body: bytes) -> None:
        if status is None:
            self.transport.abortConnection()
            return
        self.transport.write(
            f"HTTP/1.1 {status} So\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None: ...
