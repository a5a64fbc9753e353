"""
The other side of a session, in memory: a transport that keeps every write, and a server that
understands what is written and answers as told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mailproxy.delivery.session import Session, SessionFactory
from mailproxy.interfaces import ITransaction
from mailproxy.lines import Unstuffer
from mailproxy.model import Account, Envelope, Outcome
from mailproxy.states import TlsMode
from tests.fakes import FakeClock

#: What a server offers unless a test says otherwise.
EHLO = b"250-peer.test\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"

#: The same without PIPELINING.
PLAIN_EHLO = b"250-peer.test\r\n250 8BITMIME\r\n"

DEFAULTS = {
    "banner": b"220 peer.test ESMTP\r\n",
    "ehlo": EHLO,
    "helo": b"250 peer.test\r\n",
    "auth": b"235 2.7.0 welcome\r\n",
    "mail": b"250 2.1.0 Ok\r\n",
    "rcpt": b"250 2.1.5 Ok\r\n",
    "data": b"354 go on\r\n",
    "body": b"250 2.0.0 Ok: queued as 4711\r\n",
    "rset": b"250 2.0.0 Ok\r\n",
    "quit": b"221 2.0.0 Bye\r\n",
}


class Cut:
    """An answer: the connection breaks, after *said* if given."""

    def __init__(self, said: bytes = b"", clean: bool = False) -> None:
        self.said = said
        self.error = ConnectionDone() if clean else ConnectionLost()


#: An answer: nothing, for ever.
SILENCE = b""

#: What a server says at a stage: always the same, or one after the other (the last one repeats).
Answer = bytes | Cut | Sequence["bytes | Cut"]


@implementer(ITCPTransport)
class Wire:
    """
    A transport whose other end is a :class:`Server`.

    :param capacity: bytes it takes before a producer has to pause; :meth:`drain` makes room.
    """

    disconnecting = False

    def __init__(self, server: Server, capacity: int | None = None) -> None:
        self.server = server
        self.writes: list[bytes] = []
        self.nodelay = False
        self.aborted = False
        self.producer: IPushProducer | None = None
        self._capacity = capacity
        self._full = 0

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert not self.server.over, "written after the connection was lost"
        self.writes.append(data)
        self.server.hear(data)
        self._full += len(data)
        full = self._capacity is not None and self._full > self._capacity
        if self.producer is not None and full:
            self.producer.pauseProducing()

    def drain(self) -> None:
        self._full = 0
        if self.producer is not None:
            self.producer.resumeProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        assert streaming
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self, *args: Any) -> None:
        self.server.cut(ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self.server.cut(ConnectionAborted())

    def loseWriteConnection(self) -> None:
        raise NotImplementedError

    def getPeer(self) -> Any:
        from twisted.internet.address import IPv4Address

        return IPv4Address("TCP", "192.0.2.1", 25)

    getHost = getPeer

    def getTcpNoDelay(self) -> bool:
        return self.nodelay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.nodelay = enabled

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        raise NotImplementedError


class Server:
    """
    A server that keeps to the protocol but says what it was told to.

    Nothing is said before :meth:`run`, so that a test sees what was written before any answer.

    :param answers: by stage: banner, ehlo, helo, auth, mail, rcpt, data, body, rset, quit.
    :param chunk: bytes of an answer that arrive at once; None for all.

    :ivar heard: the commands, in order.
    :ivar messages: what was accepted: (sender, recipients, body).
    """

    def __init__(
        self, answers: Mapping[str, Answer] | None = None, chunk: int | None = None
    ) -> None:
        self._answers = {**DEFAULTS, **(answers or {})}
        self._counts: dict[str, int] = {}
        self._chunk = chunk
        self._said: deque[bytes | Cut] = deque()
        self._pending = b""
        self._body: Unstuffer | None = None
        self._content = b""
        self._sender = b""
        self._rcpts: list[bytes] = []
        self.heard: list[bytes] = []
        self.messages: list[tuple[bytes, list[bytes], bytes]] = []
        self.dots = 0
        self.over = False
        self._mute = False
        self._kept: list[bytes | Cut] = []
        self.session: Session | None = None
        self._ended: Exception | None = None

    def answer(self, stage: str) -> bytes | Cut:
        told = self._answers[stage]
        if isinstance(told, bytes | Cut):
            return told
        n = self._counts[stage] = self._counts.get(stage, -1) + 1
        return told[min(n, len(told) - 1)]

    def say(self, what: bytes | Cut) -> None:
        self._said.append(what)

    def _reply(self, stage: str) -> bytes | Cut:
        """Answer; once silent, a server keeps what it would say."""
        told = self.answer(stage)
        self._mute = self._mute or told == SILENCE
        if self._mute:
            self._kept.append(told)
        else:
            self.say(told)
        return told

    def unmute(self) -> None:
        """Say everything that was kept."""
        self._mute = False
        self._said += self._kept
        self._kept.clear()

    def hear(self, data: bytes) -> None:
        self._pending += data
        while self._pending:
            if self._body is not None:
                self._content += self._body.feed(self._pending)
                self._pending = b""
                if self._body.done:
                    self._pending, self._body = self._body.rest, None
                    self._ended_body()
                continue
            line, newline, rest = self._pending.partition(b"\r\n")
            if not newline:
                return
            self._pending = rest
            self._command(line)

    def _command(self, line: bytes) -> None:
        self.heard.append(line)
        verb = line[:4].lower().decode("ascii", "replace")
        stage = verb if verb in self._answers else "auth"
        told = self._reply(stage)
        good = isinstance(told, bytes) and told[:1] == b"2"
        if verb == "mail" and good:
            self._sender, self._rcpts = line, []
        elif verb == "rcpt" and good:
            self._rcpts.append(line)
        elif verb == "data" and isinstance(told, bytes) and told[:1] == b"3":
            self._body, self._content = Unstuffer(), b""

    def _ended_body(self) -> None:
        self.dots += 1
        told = self._reply("body")
        if isinstance(told, bytes) and told[:1] == b"2":
            self.messages.append((self._sender, self._rcpts, self._content))

    @property
    def has_news(self) -> bool:
        return not self.over and (bool(self._said) or self._ended is not None)

    def run(self) -> None:
        """Let everything that was said arrive, and everything that follows from it."""
        assert self.session is not None
        while True:
            if self._ended is not None and not self.over:
                self.over = True
                self.session.connectionLost(Failure(self._ended))
            if self.over or not self._said:
                return
            said = self._said.popleft()
            data = said.said if isinstance(said, Cut) else said
            for start in range(0, len(data), self._chunk or len(data) or 1):
                if self._ended is None:
                    self.session.dataReceived(data[start : start + (self._chunk or len(data))])
            if isinstance(said, Cut):
                self.cut(said.error)

    def cut(self, error: Exception) -> None:
        """End the connection; the session learns of it in :meth:`run`."""
        if self._ended is None:
            self._ended = error


@implementer(ITransaction)
class Letter:
    """
    A transaction whose intent is granted as told.

    :param grant: True or False at once; None to have the test decide with :meth:`settle`; or an
        exception to raise.
    """

    def __init__(
        self,
        body: bytes = b"Subject: x\r\n\r\nhello\r\n",
        to: Sequence[str] = ("b@example.org",),
        sender: str = "a@example.com",
        grant: bool | Exception | None = True,
    ) -> None:
        self.envelope = Envelope(sender, tuple(to), body)
        self._grant = grant
        self._asked: Deferred[bool] = Deferred()
        self.begun = 0
        self.results: list[Any] = []

    def begin(self) -> Deferred[bool]:
        self.begun += 1
        if isinstance(self._grant, Exception):
            return fail(self._grant)
        if self._grant is None:
            return self._asked
        return succeed(self._grant)

    def settle(self, granted: bool) -> None:
        self._asked.callback(granted)

    @property
    def settled(self) -> bool:
        return self._asked.called

    def sent_over(self, session: Session) -> Letter:
        """Hand it over; what it comes to is appended to ``results``."""
        session.deliver(self).addBoth(self.results.append)
        return self

    @property
    def outcome(self) -> Outcome:
        """The one outcome."""
        (only,) = self.results
        assert isinstance(only, Outcome), only
        return only

    @property
    def error(self) -> Exception:
        """The one error."""
        (only,) = self.results
        assert isinstance(only, Failure), only
        assert isinstance(only.value, Exception)
        return only.value


def account(**values: Any) -> Account:
    """An account in clear without credentials."""
    fixed: dict[str, Any] = {
        "pk": 1,
        "tenant_id": "default",
        "id": "acc",
        "version": 1,
        "host": "peer.test",
        "port": 25,
        "tls_mode": TlsMode.PLAIN,
    }
    return Account(**{**fixed, **values})


class Opened:
    """A session that is connected to a :class:`Server`; ``result`` is what its opening came to."""

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        to: Account | None = None,
        chunk: int | None = None,
        capacity: int | None = None,
        pipelining: bool = True,
        clock: FakeClock | None = None,
        run: bool = True,
        **options: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.server = Server(answers, chunk)
        self.factory = SessionFactory(
            to or account(), self.clock, "me.test", None, pipelining=pipelining, **options
        )
        self.result: Any = None
        self.factory.ready.addBoth(self._opened)
        self.wire = Wire(self.server, capacity)
        session = self.factory.buildProtocol(None)
        assert session is not None
        self.session = self.server.session = session
        self.server.say(self.server.answer("banner"))
        self.session.makeConnection(self.wire)
        if run:
            self.run()

    def _opened(self, result: Any) -> None:
        self.result = result.value if isinstance(result, Failure) else result

    def run(self) -> None:
        self.server.run()

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.run()


class Network:
    """
    What a pool connects to: each connection is to the next of *servers*.

    :param servers: made when they are connected to; the last one repeats. An exception refuses
        the connection.
    """

    def __init__(self, *servers: Callable[[], Server] | Exception) -> None:
        self._servers = servers or (Server,)
        self.connected: list[Server] = []
        self.wires: list[Wire] = []
        self.factories: list[SessionFactory] = []
        self.attempts = 0

    def connect(self, to: Account, factory: SessionFactory) -> Deferred[IProtocol]:
        make = self._servers[min(self.attempts, len(self._servers) - 1)]
        self.attempts += 1
        if isinstance(make, Exception):
            return fail(make)
        server = make()
        session = factory.buildProtocol(None)
        assert session is not None
        server.session = session
        server.say(server.answer("banner"))
        wire = Wire(server)
        self.connected.append(server)
        self.wires.append(wire)
        self.factories.append(factory)
        session.makeConnection(wire)
        return succeed(session)

    def run(self) -> None:
        """Let everything arrive, everywhere, until nothing happens any more."""
        while any(server.has_news for server in self.connected):
            for server in tuple(self.connected):
                server.run()
