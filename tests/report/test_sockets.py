"""The HTTP sink over real sockets: every connection has an end, and certificates are verified."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mailproxy.clock import SystemClock
from mailproxy.errors import ConfigurationError, ReportUnanswered, SinkUnavailable
from mailproxy.metrics import Metrics
from mailproxy.report.agent import make_agent
from mailproxy.report.answer import Taken
from mailproxy.report.http import HttpSink
from mailproxy.report.reporter import Reporter
from tests.fakes import FakeClock
from tests.report.fakes import FakeReports, item
from tests.report.server import Authority, Receiver, Script, answer, hang, raw


@implementer(IHostnameResolver)
class PrivateNames:
    """Knows one name, of which only the second address answers."""

    def resolveHostName(
        self, resolutionReceiver: Any, hostName: str, portNumber: int = 0, *_: Any, **__: Any
    ) -> Any:
        resolutionReceiver.resolutionBegan(self)
        for host in ("127.0.0.2", "127.0.0.1") if hostName == "my_app" else ():
            resolutionReceiver.addressResolved(IPv4Address("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()
        return self


OK = answer("200 OK", b'{"ok": true, "queued": 0}')


class SocketCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.clock = SystemClock(reactor)

    def listen(self, script: Script, tls: Any = None, scheme: str = "http") -> str:
        """Start a receiver; its URL."""
        self.receiver = Receiver(script)
        if tls is None:
            port = self.reactor.listenTCP(0, self.receiver, interface="127.0.0.1")
        else:
            port = self.reactor.listenSSL(0, self.receiver, tls, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(self.hang_up)
        return f"{scheme}://127.0.0.1:{port.getHost().port}/sync"

    def hang_up(self) -> Deferred[None]:
        for connection in set(self.receiver.connections) - self.receiver.lost:
            connection.transport.abortConnection()
        return self.receiver.all_closed()

    def sink(self, url: str, ca_file: Path | None = None, **options: Any) -> HttpSink:
        agent = make_agent(self.reactor, None if ca_file is None else str(ca_file))
        return HttpSink(agent, self.clock, url, **options)

    async def refused(self, sink: HttpSink, *items: Any) -> SinkUnavailable:
        try:
            await sink.send(items)
        except SinkUnavailable as error:
            return error
        raise AssertionError("the report was taken")


class PlainTests(SocketCase):
    async def test_taken(self) -> None:
        """A report is taken over one connection that ends with it."""
        sink = self.sink(self.listen(OK))
        for _ in range(3):
            self.assertEqual(Taken(), await sink.send([item()]))
        await self.receiver.all_closed()
        self.assertEqual(3, len(self.receiver.connections))
        self.assertIn(b"Connection: close", self.receiver.requests[0][0])

    async def test_a_full_report(self) -> None:
        """500 items arrive whole."""
        sink = self.sink(self.listen(OK))
        await sink.send([item(number, error="x" * 3000) for number in range(500)])
        self.assertEqual(500, self.receiver.requests[0][1].count(b'"event_id"'))

    async def test_old_servers(self) -> None:
        """An answer without a length ends with its connection, and may be empty."""
        for data in (
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ):
            sink = self.sink(self.listen(raw(data, close=True)))
            self.assertEqual(Taken(), await sink.send([]))

    async def test_a_broken_answer(self) -> None:
        """An answer that breaks off is no acknowledgement, however good its beginning."""
        for data in (
            b"",
            b"HTTP/1.1 200",
            b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
            b"220 smtp.test ESMTP\r\n",
            b"\0" * 100,
        ):
            sink = self.sink(self.listen(raw(data, close=True)))
            error = await self.refused(sink, item())
            self.assertIs(SinkUnavailable, type(error))

    async def test_a_receiver_that_hangs(self) -> None:
        """At the deadline the connection is really closed, before the answer's head as after."""
        for script in (hang, raw(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{")):
            sink = self.sink(self.listen(script), timeout=0.1)
            error = await self.refused(sink, item())
            self.assertIsInstance(error, ReportUnanswered)
            await self.receiver.all_closed()

    async def test_a_receiver_that_does_not_read(self) -> None:
        """A report that cannot be written ends at the deadline, and so does its connection."""
        sink = self.sink(self.listen(hang), timeout=0.3)
        call = Deferred.fromCoroutine(self.refused(sink, item(error="x" * 20_000_000)))
        while not self.receiver.connections:
            await deferLater(self.reactor, 0.005)
        self.receiver.connections[0].transport.pauseProducing()
        self.assertIsInstance(await call, ReportUnanswered)
        self.receiver.connections[0].transport.resumeProducing()
        await self.receiver.all_closed()

    async def test_an_endless_answer(self) -> None:
        """An answer without end is cut off, in its body as in its head."""
        for data in (
            b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 8_000_000,
            b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 500_000,
        ):
            sink = self.sink(self.listen(raw(data)))
            await self.refused(sink, item())
            await self.receiver.all_closed()

    async def test_a_page_after_a_refusal_is_not_read(self) -> None:
        """Of an answer that is no 2xx the status is enough."""
        sink = self.sink(self.listen(raw(b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 100)))
        self.assertEqual("HTTP 500", str(await self.refused(sink, item())))
        await self.receiver.all_closed()

    async def test_nobody_listens(self) -> None:
        """A receiver that is not there is a plain refusal with its reason."""
        port = self.reactor.listenTCP(0, Receiver(OK), interface="127.0.0.1")
        url = f"http://127.0.0.1:{port.getHost().port}/"
        await port.stopListening()
        error = await self.refused(self.sink(url), item())
        self.assertIn("refused", str(error))

    async def test_a_name_that_only_the_resolver_knows(self) -> None:
        """A host is called if the resolver knows it, whatever its name looks like."""
        port = urlsplit(self.listen(OK)).port
        before = self.reactor.installNameResolver(PrivateNames())
        self.addCleanup(self.reactor.installNameResolver, before)
        self.assertEqual(Taken(), await self.sink(f"http://my_app:{port}/").send([]))
        error = await self.refused(self.sink(f"http://no_app:{port}/"), item())
        self.assertIn("no_app", str(error))
        error = await self.refused(self.sink(f"https://my_app:{port}/"), item())
        self.assertIs(SinkUnavailable, type(error))
        await self.receiver.all_closed()

    async def test_ended_by_us(self) -> None:
        """Ending a call closes its connection."""
        sink = self.sink(self.listen(hang))
        call = Deferred.fromCoroutine(sink.send([item()]))
        while not self.receiver.requests:
            await deferLater(self.reactor, 0.005)
        call.addErrback(lambda failure: failure.trap(SinkUnavailable))
        call.cancel()
        await call
        await self.receiver.all_closed()

    async def test_one_agent_for_all(self) -> None:
        """Sinks that share an agent share nothing else."""
        url = self.listen(answer("200 OK", b"{}", "Set-Cookie: a=b"))
        agent = make_agent(self.reactor)
        await HttpSink(agent, self.clock, url, token="first-token").send([])
        await HttpSink(agent, self.clock, url).send([])
        head = self.receiver.requests[1][0].lower()
        self.assertNotIn(b"authorization", head)
        self.assertNotIn(b"cookie", head)


class TlsTests(SocketCase):
    def setUp(self) -> None:
        super().setUp()
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.authority = Authority(Path(directory.name))

    async def test_private_authority(self) -> None:
        """A certificate of a private authority is accepted when its root was given."""
        tls = self.authority.server("127.0.0.1")
        sink = self.sink(self.listen(OK, tls, "https"), self.authority.ca_file, token="t0ken")
        for _ in range(2):
            self.assertEqual(Taken(), await sink.send([item()]))
        self.assertIn(b"Authorization: Bearer t0ken", self.receiver.requests[0][0])
        await self.receiver.all_closed()

    async def test_unknown_authority(self) -> None:
        """Without its root nothing is sent, the credentials least of all."""
        tls = self.authority.server("127.0.0.1")
        sink = self.sink(self.listen(OK, tls, "https"), token="t0ken")
        error = await self.refused(sink, item())
        self.assertIn("certificate verify failed", str(error))
        self.assertEqual([], self.receiver.requests)

    async def test_another_host(self) -> None:
        """A certificate for another host is not accepted."""
        tls = self.authority.server("other.test", "127.0.0.2")
        sink = self.sink(self.listen(OK, tls, "https"), self.authority.ca_file)
        error = await self.refused(sink, item())
        self.assertEqual("TLS: the certificate is for another host", str(error))
        self.assertEqual([], self.receiver.requests)

    async def test_no_tls_at_all(self) -> None:
        """A receiver that speaks no TLS is refused under https."""
        error = await self.refused(self.sink(self.listen(OK, scheme="https"), timeout=0.5), item())
        self.assertIsInstance(error, SinkUnavailable)

    async def test_a_receiver_that_does_not_close(self) -> None:
        """A TLS peer that ignores our close is cut off a little later."""
        tls = self.authority.server("127.0.0.1")
        agent = make_agent(self.reactor, str(self.authority.ca_file), linger=0.05)
        sink = HttpSink(agent, self.clock, self.listen(OK, tls, "https"))

        def deaf(connection: Any) -> None:
            OK(connection)
            connection.transport.pauseProducing()

        self.receiver.script = deaf
        await sink.send([item()])
        while any(isinstance(each, Client) for each in self.reactor.getReaders()):
            await deferLater(self.reactor, 0.01)
        self.receiver.connections[0].transport.resumeProducing()
        await self.receiver.all_closed()

    async def test_a_refusal_and_the_end_at_once(self) -> None:
        """A refusal that comes together with the end of its connection is read as it is."""
        tls = self.authority.server("127.0.0.1")
        script = raw(b"HTTP/1.0 503 No\r\nRetry-After: 9\r\n\r\n", close=True)
        sink = self.sink(self.listen(script, tls, "https"), self.authority.ca_file)
        for _ in range(3):
            self.assertEqual(9.0, (await self.refused(sink, item())).retry_after)
        await self.receiver.all_closed()

    async def test_a_tls_receiver_that_hangs(self) -> None:
        """The deadline closes a TLS connection as well."""
        tls = self.authority.server("127.0.0.1")
        url = self.listen(raw(b"HTTP/1.1 200 OK\r\n\r\n{"), tls, "https")
        sink = self.sink(url, self.authority.ca_file, timeout=0.3)
        self.assertIsInstance(await self.refused(sink, item()), ReportUnanswered)
        await self.receiver.all_closed()

    def test_files_without_roots(self) -> None:
        """A root file that cannot be used stops the start, naming its variable."""
        empty = self.authority.ca_file.with_name("empty.pem")
        empty.write_text("nothing")
        for path in (empty, empty.with_name("missing.pem")):
            error = self.assertRaises(ConfigurationError, make_agent, self.reactor, str(path))
            self.assertEqual("GMP_CA_FILE", error.variable)


class WholeTests(SocketCase):
    async def test_a_backlog(self) -> None:
        """A backlog goes out in reports of 500, one call after the other, and nothing is left."""
        store = FakeReports(FakeClock())
        store.add(*(f"m{number}" for number in range(3000)))
        sink = self.sink(self.listen(OK))
        metrics = Metrics()
        reporter = Reporter(store, lambda tenant: sink, self.clock, metrics)
        reporter.startService()
        while store.waiting():
            await deferLater(self.reactor, 0.01)
        await reporter.stopService()
        await self.receiver.all_closed()
        sizes = [body.count(b'"event_id"') for _, body in self.receiver.requests]
        self.assertEqual([500] * 6, [each for each in sizes if each])
