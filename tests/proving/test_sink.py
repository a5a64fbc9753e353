"""The whole sink over loopback, with clients that are not ours: smtplib, urllib, curl."""

from __future__ import annotations

import json
import shutil
import smtplib
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import attrs
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase

from mailproxy.proving.house import Terms
from mailproxy.proving.receiver import Credentials
from mailproxy.proving.sink import Sink, SinkOptions
from tests.scratch import scratch

T = TypeVar("T")

MAIL = b"Subject: try\r\nMessage-ID: <1@x>\r\n\r\n.one\r\n..\r\n"


class SinkCase(TestCase):
    timeout = 30

    def start(self, **options: Any) -> Sink:
        """A sink on free ports, that ends with the test."""
        self.said: list[str] = []
        free = {"smtp_port": 0, "tls_port": 0, "http_port": 0, **options}
        sink = Sink(reactor, SinkOptions(**free), self.said.append)
        sink.startService()
        self.addCleanup(sink.stopService)
        return sink

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Run a blocking client beside the sink."""
        return await deferToThread(function, *args)

    async def get(self, sink: Sink, path: str) -> Any:
        def fetch() -> Any:
            with urlopen(f"http://127.0.0.1:{sink.http_port}{path}", timeout=10) as response:
                return json.load(response)

        return await self.blocking(fetch)

    def trusting(self, sink: Sink) -> ssl.SSLContext:
        """A client's context that trusts the sink's certificate and nothing else."""
        context = ssl.create_default_context(cadata=sink.identity.certificate)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context


class SmtplibTests(SinkCase):
    async def test_plain(self) -> None:
        """smtplib delivers in clear; what arrives is what was sent."""
        sink = self.start()

        def deliver() -> dict[str, Any]:
            with smtplib.SMTP("127.0.0.1", sink.smtp_port or 0, timeout=10) as client:
                to = ["b@y.org", "reject@y.org"]
                return client.sendmail("a@x.org", to, MAIL, ["body=8bitmime"])

        refused = await self.blocking(deliver)

        self.assertEqual({"reject@y.org": (550, b"5.1.1 No such user here")}, refused)
        (message,) = (await self.get(sink, "/messages"))["messages"]
        self.assertEqual("", message["tls"])
        self.assertEqual(["b@y.org"], message["recipients"])
        self.assertEqual([MAIL], [body for _, body in sink.ledger.messages()])

    async def test_starttls_and_auth(self) -> None:
        """smtplib delivers over verified STARTTLS with PLAIN and LOGIN, and not without."""
        sink = self.start(terms=Terms(user="anna", password="geheim", require_tls=True))

        def deliver(method: str) -> bytes:
            with smtplib.SMTP("localhost", sink.smtp_port or 0, timeout=10) as client:
                client.ehlo()
                assert client.has_extn("starttls")
                assert not client.has_extn("auth")
                assert client.mail("a@x.org")[0] == 530
                client.starttls(context=self.trusting(sink))
                client.ehlo()
                assert not client.has_extn("starttls")
                client.user, client.password = "anna", "geheim"
                client.auth(method, getattr(client, f"auth_{method.lower()}"))
                client.sendmail("a@x.org", ["b@y.org"], MAIL)
                return client.noop()[1]

        for method in ("PLAIN", "LOGIN"):
            self.assertEqual(b"2.0.0 Ok", await self.blocking(deliver, method))

        messages = (await self.get(sink, "/messages"))["messages"]
        self.assertEqual(["anna", "anna"], [message["user"] for message in messages])
        self.assertEqual(["TLSv1.3", "TLSv1.3"], [message["tls"] for message in messages])
        stats = await self.get(sink, "/stats")
        self.assertEqual((2, 2), (stats["tls"], stats["logins"]))

    async def test_wrong_password(self) -> None:
        """A wrong password is refused."""
        sink = self.start(terms=Terms(user="anna", password="geheim"))

        def login() -> None:
            with smtplib.SMTP("127.0.0.1", sink.smtp_port or 0, timeout=10) as client:
                client.login("anna", "falsch")

        with self.assertRaises(smtplib.SMTPAuthenticationError):
            await self.blocking(login)

    async def test_implicit_tls(self) -> None:
        """smtplib delivers over implicit TLS, verified by address."""
        sink = self.start()

        def deliver() -> bool:
            context = self.trusting(sink)
            with smtplib.SMTP_SSL(
                "127.0.0.1", sink.tls_port or 0, context=context, timeout=10
            ) as client:
                client.sendmail("a@x.org", ["b@y.org"], MAIL)
                return client.has_extn("starttls")

        self.assertFalse(await self.blocking(deliver))
        (message,) = (await self.get(sink, "/messages"))["messages"]
        self.assertEqual("TLSv1.3", message["tls"])

    async def test_untrusted(self) -> None:
        """A client that was not told to trust the certificate does not."""
        sink = self.start()

        def deliver() -> None:
            with smtplib.SMTP("localhost", sink.smtp_port or 0, timeout=10) as client:
                client.starttls(context=ssl.create_default_context())

        with self.assertRaises(ssl.SSLCertVerificationError):
            await self.blocking(deliver)

    async def test_commands_behind_starttls(self) -> None:
        """Commands sent in clear behind STARTTLS are never carried out."""
        sink = self.start()

        def inject() -> bytes:
            with socket.create_connection(("127.0.0.1", sink.smtp_port or 0), 10) as client:
                client.sendall(b"EHLO me\r\nSTARTTLS\r\nMAIL FROM:<evil@x.org>\r\n")
                file = client.makefile("rb")
                return file.read()

        answer = await self.blocking(inject)

        self.assertEqual(b"554", answer.splitlines()[-1][:3])

    async def test_large_message(self) -> None:
        """A message of many megabytes with awkward lines arrives as it was."""
        sink = self.start()
        body = b".\r\n" * 100_000 + (b"x" * 997 + b"\r\n") * 5000 + b"y" * 200_000 + b"\r\n"

        def deliver() -> None:
            with smtplib.SMTP("127.0.0.1", sink.smtp_port or 0, timeout=10) as client:
                client.sendmail("a@x.org", ["b@y.org"], body)

        await self.blocking(deliver)

        self.assertEqual([body], [kept for _, kept in sink.ledger.messages()])


class CurlTests(SinkCase):
    """The call with which the application's side is tested by hand."""

    PATH = "/email/mailproxy/mp_endpoint/proxy_sync"

    async def call(self, sink: Sink, user: str, password: str) -> tuple[int, dict[str, Any]]:
        """POST an empty report with Basic credentials, by curl if there is one."""
        url = f"http://127.0.0.1:{sink.http_port}{self.PATH}"
        data = '{"delivery_report": []}'
        curl = shutil.which("curl")
        if curl is None:
            return await self.blocking(self.by_urllib, url, f"{user}:{password}", data)
        out, err, code = await getProcessOutputAndValue(
            curl,
            [
                *("--silent", "--show-error", "--noproxy", "*", "-u", f"{user}:{password}", url),
                *("-H", "Content-Type: application/json", "-d", data, "-w", "\n%{http_code}"),
            ],
            env={},
        )
        self.assertEqual((0, b""), (code, err))
        body, _, status = out.rpartition(b"\n")
        return int(status), json.loads(body)

    def by_urllib(self, url: str, credentials: str, data: str) -> tuple[int, dict[str, Any]]:
        basic = b64encode(credentials.encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
        try:
            with urlopen(Request(url, data.encode(), headers), timeout=10) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            return error.code, json.load(error)

    async def test_right(self) -> None:
        """With the right user and password an empty report is taken and printed."""
        sink = self.start(credentials=Credentials("syncuser", "syncpass"))

        answer = await self.call(sink, "syncuser", "syncpass")

        self.assertEqual((200, {"ok": True, "queued": 0}), answer)
        self.assertEqual([f"report: nothing new ({self.PATH})"], self.said)
        self.assertEqual(1, (await self.get(sink, "/reports"))["empty"])

    async def test_wrong(self) -> None:
        """With a wrong password it is refused."""
        sink = self.start(credentials=Credentials("syncuser", "syncpass"))

        status, answer = await self.call(sink, "syncuser", "nonsense")

        self.assertEqual((401, False), (status, answer["ok"]))
        self.assertEqual([], self.said)


class ServiceTests(SinkCase):
    async def test_report_port(self) -> None:
        """Reports are taken on a port of their own, too, and are the same reports."""
        sink = self.start(report_port=0)

        def post() -> int:
            url = f"http://127.0.0.1:{sink.report_port}/x"
            with urlopen(Request(url, b'{"delivery_report": []}'), timeout=10) as response:
                return int(response.status)

        self.assertEqual(200, await self.blocking(post))
        self.assertNotEqual(sink.report_port, sink.http_port)
        self.assertEqual(1, (await self.get(sink, "/reports"))["calls"])

    async def test_files(self) -> None:
        """The ledgers and the certificate are written where they shall be."""
        folder = scratch(self)
        paths = {name: folder / name for name in ("ledger", "report_ledger", "certificate")}
        sink = self.start(**{name: str(path) for name, path in paths.items()})

        def deliver() -> None:
            with smtplib.SMTP("127.0.0.1", sink.smtp_port or 0, timeout=10) as client:
                client.sendmail("a@x.org", ["b@y.org"], MAIL)
            urlopen(
                Request(f"http://127.0.0.1:{sink.http_port}/x", b'{"delivery_report": []}'),
                timeout=10,
            ).close()

        await self.blocking(deliver)

        self.assertEqual("<1@x>", json.loads(paths["ledger"].read_bytes())["mail_id"])
        self.assertEqual("/x", json.loads(paths["report_ledger"].read_bytes())["path"])
        self.assertEqual(sink.identity.certificate, paths["certificate"].read_text())

    async def test_stops(self) -> None:
        """A stopped sink has closed its connections, and its ports are free."""
        sink = self.start()
        port = sink.smtp_port or 0
        client = await self.blocking(socket.create_connection, ("127.0.0.1", port), 10)
        self.addCleanup(client.close)
        await self.blocking(client.recv, 1000)

        await sink.stopService()

        self.assertEqual(b"", await self.blocking(client.recv, 1000))
        again = Sink(reactor, SinkOptions(smtp_port=port, http_port=0))
        again.startService()
        await again.stopService()

    async def test_port_in_use(self) -> None:
        """A sink that cannot have a port leaves nothing behind."""
        sink = self.start()
        other = Sink(reactor, SinkOptions(smtp_port=0, http_port=sink.http_port or 0))

        self.assertRaises(CannotListenError, other.startService)

    def test_ready(self) -> None:
        """The line that says the sink is ready names every port, and a seed that matters."""
        sink = self.start(tls_port=None, report_port=0, seed=7, delay=(0.0, 0.01))

        self.assertEqual(
            f"sink ready smtp=127.0.0.1:{sink.smtp_port} http=127.0.0.1:{sink.http_port} "
            f"reports=127.0.0.1:{sink.report_port} seed=7",
            sink.ready(),
        )

    def test_ready_ipv6(self) -> None:
        """An IPv6 address stands in brackets."""
        if not socket.has_ipv6:
            raise SkipTest("no IPv6 here")
        try:
            sink = self.start(host="::1")
        except CannotListenError as error:
            raise SkipTest("no IPv6 loopback here") from error

        self.assertIn(f"smtp=[::1]:{sink.smtp_port} ", sink.ready())

    def test_secrets_are_not_shown(self) -> None:
        """The representation of the options has no password in it."""
        options = SinkOptions(
            terms=Terms(user="anna", password="geheim"), credentials=Credentials("a", "geheim")
        )

        self.assertNotIn("geheim", repr(options))
        self.assertNotIn("geheim", repr(attrs.evolve(options, seed=1)))
