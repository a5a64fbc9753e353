"""The sink's HTTP side, in memory."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import attrs
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.http import Front, site
from mailproxy.proving.ledger import JsonLines
from mailproxy.proving.receiver import Credentials, Receiver
from tests.proving.talk import Talk

#: Octets a request may have here.
MAX_BODY = 10_000


@attrs.frozen
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HttpCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.talk = Talk()
        self.talk.hello()
        self.credentials = Credentials()
        self.lines: JsonLines | None = None

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """One request, and the response to it."""
        fields = {"Host": "x", "Connection": "close", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    def raw(self, request: bytes) -> Response:
        protocol = site(self.front, self.talk.clock, MAX_BODY).buildProtocol(None)
        transport = StringTransportWithDisconnection()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(request)
        head, _, answer = transport.value().partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        pairs = (field.split(": ", 1) for field in fields)
        return Response(
            int(status.split()[1]), {name.lower(): value for name, value in pairs}, answer
        )

    @property
    def front(self) -> Front:
        if not hasattr(self, "_front"):
            self._front = self.make_front()
        return self._front

    def make_front(self) -> Front:
        return Front(self.talk.house, self.receiver, "PEM")

    @property
    def receiver(self) -> Receiver:
        if not hasattr(self, "_receiver"):
            self._receiver = Receiver(
                self.talk.clock.now, credentials=self.credentials, lines=self.lines
            )
        return self._receiver


class MailTests(HttpCase):
    def test_messages(self) -> None:
        """GET /messages lists what was accepted, with the subject decoded."""
        self.talk.mail(body=b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@x>\r\n\r\n")

        answer = self.ask("GET", "/messages").json

        self.assertEqual(1, answer["accepted"])
        (message,) = answer["messages"]
        self.assertEqual(
            ("Grüße", "<1@x>", ["b@y.org"], 1),
            tuple(message[key] for key in ("subject", "mail_id", "recipients", "n")),
        )

    def test_broken_subject(self) -> None:
        """A subject that cannot be decoded is shown as it came."""
        subject = "=?utf-8?b?!!!?= =?nonsense?q?x?="
        self.talk.mail(body=f"Subject: {subject}\r\n\r\n".encode())

        self.assertEqual(subject, self.ask("GET", "/messages").json["messages"][0]["subject"])

    def test_filters(self) -> None:
        """Messages are found by id and by recipient."""
        self.talk.mail("b@y.org", b"X-Genro-Mail-ID: m 1\r\n\r\n")
        self.talk.mail("c+d@y.org", b"X-Genro-Mail-ID: m2\r\n\r\n")

        for query, found in (
            ("?id=m%201", [1]),
            ("?recipient=c%2Bd@y.org", [2]),
            ("?id=m2&recipient=b@y.org", []),
            ("", [1, 2]),
        ):
            messages = self.ask("GET", f"/messages{query}").json["messages"]
            self.assertEqual(found, [message["n"] for message in messages])

    def test_raw(self) -> None:
        """GET /messages/{n} is the message as it came, never shown as a page."""
        body = b"Content-Type: text/html\r\n\r\n<script>\xff\r\n"
        self.talk.mail(body=body)

        answer = self.ask("GET", "/messages/1")

        self.assertEqual((200, body), (answer.status, answer.body))
        self.assertEqual("message/rfc822", answer.headers["content-type"])
        self.assertEqual("nosniff", answer.headers["x-content-type-options"])
        self.assertIn("attachment", answer.headers["content-disposition"])

    def test_not_there(self) -> None:
        """What is not there is 404, as JSON."""
        for path in ("/", "/messages/1", "/messages/x", "/messages/%C2%B2", "/nothing"):
            answer = self.ask("GET", path)
            self.assertEqual((404, False), (answer.status, answer.json["ok"]), path)
        self.assertEqual(404, self.ask("DELETE", "/stats").status)

    def test_copies(self) -> None:
        """GET /copies tells of each copy of an id, or which ids came how often."""
        for mail_id in (b"m1", b"m2", b"m1"):
            self.talk.mail(body=b"X-Genro-Mail-ID: %b\r\n\r\n" % mail_id)

        found = self.ask("GET", "/copies?id=m1").json
        first, again = found.pop("all")
        self.assertEqual({"id": "m1", "copies": 2, "messages": [1, 3]}, found)
        self.assertEqual((["b@y.org"], 1, 3), (first["recipients"], first["n"], again["n"]))
        self.assertEqual(
            (first["sha256"], first["connection"]), (again["sha256"], again["connection"])
        )
        self.assertEqual(
            {"id": "m9", "copies": 0, "messages": [], "all": []},
            self.ask("GET", "/copies?id=m9").json,
        )
        self.assertEqual({"copies": {"m1": 2, "m2": 1}}, self.ask("GET", "/copies").json)
        self.assertEqual({"copies": {"m1": 2}}, self.ask("GET", "/copies?min=2").json)

    def test_delete(self) -> None:
        """DELETE /messages forgets them, and says how many."""
        self.talk.mail()

        self.assertEqual({"ok": True, "removed": 1}, self.ask("DELETE", "/messages").json)
        self.assertEqual([], self.ask("GET", "/messages").json["messages"])

    def test_close_unanswered(self) -> None:
        """DELETE /held closes the connections left without an answer."""
        self.talk.mail("drop@y.org")

        self.assertEqual({"ok": True, "removed": 1}, self.ask("DELETE", "/held").json)
        self.assertTrue(self.talk.closed)

    def test_stats(self) -> None:
        """GET /stats counts what happened."""
        self.talk.mail(body=b"12345\r\n")
        self.talk.mail("reject@y.org", b"")
        self.talk.mail("drop@y.org")

        stats = self.ask("GET", "/stats").json

        self.assertEqual(
            {"accepted": 2, "recipients": 2, "connections": 1, "open": 1, "unanswered": 1},
            {key: stats[key] for key in ("accepted", "recipients", "connections", "open",
                                         "unanswered")},
        )  # fmt: skip
        self.assertEqual({"550": 1}, stats["refused"])

    def test_certificate(self) -> None:
        """GET /certificate is the certificate, to be trusted by who wants to try TLS."""
        self.assertEqual(b"PEM", self.ask("GET", "/certificate").body)


class ReportTests(HttpCase):
    EMPTY = b'{"delivery_report": []}'

    def test_any_path(self) -> None:
        """A report is taken on any path, also one that shows something to GET."""
        for path in ("/", "/email/mailproxy/mp_endpoint/proxy_sync", "/messages", "/a?b=c"):
            answer = self.ask("POST", path, self.EMPTY)
            self.assertEqual((200, {"ok": True, "queued": 0}), (answer.status, answer.json))

    def test_kept(self) -> None:
        """GET /reports shows the counts and the calls, also by id; DELETE forgets them."""
        for mail_id in ("M1", "M2"):
            self.ask("POST", "/sync", json.dumps({"delivery_report": [{"id": mail_id}]}).encode())

        answer = self.ask("GET", "/reports").json
        self.assertEqual((2, 2, 2), (answer["calls"], answer["items"], len(answer["reports"])))
        (call,) = self.ask("GET", "/reports?id=M2").json["reports"]
        self.assertEqual(("/sync", [{"id": "M2"}]), (call["path"], call["items"]))
        self.assertEqual(2, self.ask("DELETE", "/reports").json["removed"])

    def test_credentials(self) -> None:
        """Who does not show the credentials set is turned away, and counted."""
        self.credentials = Credentials("syncuser", "syncpass")
        right = f"Basic {b64encode(b'syncuser:syncpass').decode()}"

        refused = self.ask("POST", "/sync", self.EMPTY)
        taken = self.ask("POST", "/sync", self.EMPTY, Authorization=right)

        self.assertEqual((401, 200), (refused.status, taken.status))
        self.assertIn("Basic", refused.headers["www-authenticate"])
        self.assertEqual((1, 1), (self.receiver.unauthorised, self.receiver.calls))

    def test_not_a_report(self) -> None:
        """What is no report is 400, and says why."""
        answer = self.ask("POST", "/sync", b'{"delivery_report": 1}')

        self.assertEqual(400, answer.status)
        self.assertIn("array", answer.json["error"])

    def test_unwritable(self) -> None:
        """A report that cannot be written down is not taken."""

        class Full:
            def append(self, item: object) -> None:
                raise OSError(28, "No space left on device")

        self.lines = Full()  # type: ignore[assignment]

        self.assertEqual(503, self.ask("POST", "/sync", self.EMPTY).status)
        self.assertEqual(0, self.receiver.calls)

    def test_declared_too_long(self) -> None:
        """A body that is declared too long is refused before it comes, and none of it is read."""
        answer = self.raw(
            b"POST /sync HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n{" % (MAX_BODY + 1)
        )

        self.assertEqual(413, answer.status)
        self.assertEqual(0, self.receiver.calls)

    def test_turns_out_too_long(self) -> None:
        """A body in chunks is refused as soon as it is too long."""
        chunk = b"100\r\n" + b" " * 0x100 + b"\r\n"

        answer = self.raw(
            b"POST /sync HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + chunk * (MAX_BODY // 0x100 + 1)
        )

        self.assertEqual(413, answer.status)
