"""The service against a third-party server: real mails, byte for byte."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import tempfile
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.address import parse_mailbox, parse_mailboxes
from mailproxy.compose import compose
from mailproxy.lines import canonical
from mailproxy.model import Content
from tests.scenarios.processes import Service, account, free_port, message, wait_until
from tests.scenarios.upstream import PASSWORD, USER, Certificate, Upstream

#: Bodies that have broken mail programs.
AWKWARD = {
    "empty": "",
    "lone-dot": ".\r\n",
    "dot-without-newline": ".",
    "dots": "." * 5 + "\n" + "\n".join("." * n for n in range(1, 80)) + "\n",
    "dot-first": ".hidden\n..two\n",
    "looks-like-an-end": "a\r\n.\r\nMAIL FROM:<evil@example.test>\r\nDATA\r\n",
    "bare-lf-dot": "a\n.\nb\n",
    "bare-cr-dot": "a\r.\rb\r",
    "mixed": "a\r\n.\nb\r.\r\nc\n\r.",
    "no-final-newline": "the last line has no end",
    "only-newlines": "\n\n\r\n\r\r\n",
    "line-998": "x" * 998 + "\n",
    "line-999": "x" * 999 + "\n",
    "line-20000": "x" * 20000,
    "dots-at-block-edges": "\n".join("x" * 16382 + "\n." for _ in range(5)),
    "trailing-space": "a  \nb\t\n \n",
    "from-line": "From here on\n>From there\n",
    "unicode": "Grüße, 世界, \u202e\u05e9\u05dc\u05d5\u05dd\U0001f600\n" * 50,
    "controls": "a\tb\x0cc\x07d\x1b[0m\n",
}


def corpus() -> dict[str, bytes]:
    """The messages of the interpreter's own e-mail tests, where it ships them."""
    spec = find_spec("test")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "test_email" / "data"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("msg_*.txt"))}


def parsed(raw: bytes) -> EmailMessage:
    found = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


class UpstreamTests(SynchronousTestCase):
    """One service and one server with STARTTLS and AUTH."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-scenario-"))
        self.certificate = Certificate(self.directory)
        self.port = free_port()
        self.upstream = Upstream(self.port, self.certificate.context(), login=True).start()
        self.addCleanup(self.upstream.stop)
        self.service = Service(self.directory).start()
        self.addCleanup(self.service.end)
        given = account(
            self.port,
            user=USER,
            password=PASSWORD,
            tls_mode="starttls",
            ca_pem=self.certificate.pem,
        )
        self.assertEqual(200, self.service.call("POST", "/account", given).status)

    def send(self, *messages: dict[str, Any]) -> dict[str, bytes]:
        """Submit, wait for all to arrive once, and give what arrived by id."""
        answer = self.service.add(*messages)
        self.assertEqual((200, []), (answer.status, answer.body["rejected"]), answer.raw)
        wait_until(
            lambda: len(self.upstream.mailroom.arrived) >= len(messages),
            60.0,
            "the mail to arrive",
        )
        found = self.upstream.mailroom.by_id()
        self.assertEqual({each["id"] for each in messages}, set(found))
        self.assertTrue(all(len(copies) == 1 for copies in found.values()))
        self.assertTrue(all(self.upstream.mailroom.tls))
        return {id: copies[0] for id, copies in found.items()}

    def assertByteForByte(self, raw: bytes, given: dict[str, Any], content: Content) -> None:
        """What arrived is exactly what composing gives for its date and Message-ID."""
        mail = parsed(raw)
        expected = compose(
            content,
            mail_id=given["id"],
            message_id=str(mail["Message-ID"]),
            date=parsedate_to_datetime(str(mail["Date"])).timestamp(),
            parts={},
        )
        self.assertEqual(expected, raw)

    def test_awkward_bodies_arrive_byte_for_byte(self) -> None:
        """Dots, long lines, bare CR and LF, missing newlines: each arrives as composed."""
        bodies = AWKWARD | {
            f"corpus-{name}": raw.decode("latin-1").replace("\0", "")
            for name, raw in corpus().items()
        }
        given = {id: message(id, body=body) for id, body in bodies.items()}
        for id, raw in self.send(*given.values()).items():
            content = Content(
                sender=parse_mailbox("sender@example.test"),
                to=parse_mailboxes([f"{id}@example.test"]),
                subject=f"Message {id}",
                plain=bodies[id],
            )
            self.assertByteForByte(raw, given[id], content)
            text = parsed(raw).get_content()
            self.assertEqual(
                canonical(bodies[id].encode()).rstrip(b"\r\n"),
                canonical(text.encode()).rstrip(b"\r\n"),
                id,
            )

    def test_attachments_arrive_as_given(self) -> None:
        """The corpus of messages and ten random megabytes arrive as the same bytes."""
        big = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(320 * 1024))
        files = corpus() | {"groß \u4e16.bin": big}
        given = message(
            "files",
            subject="Anhänge für Jürgen",
            to=['"Müller, Jürgen" <juergen@example.test>'],
            body_plain="Im Anhang.",
            body_html="<p>Im <b>Anhang</b>.</p>",
            attachments=[
                {
                    "filename": name,
                    "storage_path": "base64:" + base64.b64encode(raw).decode(),
                    "mime_type": "application/octet-stream",
                }
                for name, raw in files.items()
            ],
        )
        mail = parsed(self.send(given)["files"])
        self.assertEqual("Anhänge für Jürgen", mail["Subject"])
        self.assertEqual("Müller, Jürgen", mail["To"].addresses[0].display_name)
        arrived = {part.get_filename(): part.get_content() for part in mail.iter_attachments()}
        self.assertEqual(files, arrived)
        html, plain = mail.get_body(("html",)), mail.get_body(("plain",))
        assert isinstance(html, EmailMessage)
        assert isinstance(plain, EmailMessage)
        self.assertEqual("<p>Im <b>Anhang</b>.</p>", html.get_content().strip())
        self.assertEqual("Im Anhang.", plain.get_content().strip())

    def test_of_a_hundred_recipients_each_is_told_its_own(self) -> None:
        """The refused ones are named with their reply, the others get the message, Bcc is gone."""
        names = [f"{'refused' if n % 10 == 3 else 'user'}{n}@example.test" for n in range(100)]
        self.send(message("many", to=names[:50], cc=names[50:90], bcc=names[90:]))
        wait_until(lambda: self.service.states() == {"many": "failed"}, what="the end")
        (envelope,) = self.upstream.mailroom.arrived
        self.assertEqual({n for n in names if n.startswith("user")}, set(envelope.rcpt_tos))
        content = envelope.original_content
        assert isinstance(content, bytes)
        for hidden in names[90:]:
            self.assertNotIn(hidden.encode(), content)
        (record,) = self.service.messages()
        for name in names:
            if name.startswith("refused"):
                self.assertIn(name, record["error"])
        self.assertIn("550", record["error"])

    def test_a_wrong_password_parks_the_account_and_a_right_one_resumes_it(self) -> None:
        """No mail fails because of a wrong password; the right one sends it at once."""
        wrong = account(
            self.port,
            user=USER,
            password="wrong",
            tls_mode="starttls",
            ca_pem=self.certificate.pem,
        )
        self.service.call("POST", "/account", wrong)
        self.service.add(message("waits"))
        wait_until(lambda: ("relay", "wrong") in self.upstream.logins, what="a refused login")
        wait_until(
            lambda: self.service.messages()[0]["deferred_reason"] is not None, what="a deferral"
        )
        self.assertIsNone(self.service.messages()[0]["error"])
        self.service.call("POST", "/account", wrong | {"password": PASSWORD})
        wait_until(lambda: self.service.states() == {"waits": "sent"}, what="the mail to leave")
        self.assertNotIn("wrong", self.service.call("GET", "/accounts").raw.decode())
        self.assertNotIn(PASSWORD, self.service.output())


class OpportunisticTests(SynchronousTestCase):
    def test_a_self_signed_relay_without_login_is_used_encrypted(self) -> None:
        """On a plain port, without credentials, an unknown certificate does not stop the mail."""
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-scenario-"))
        port = free_port()
        upstream = Upstream(port, Certificate(directory).context()).start()
        self.addCleanup(upstream.stop)
        service = Service(directory).start()
        self.addCleanup(service.end)
        service.call("POST", "/account", account(port))
        service.add(message("m1"))
        wait_until(lambda: service.states() == {"m1": "sent"}, what="the mail to arrive")
        self.assertEqual([True], upstream.mailroom.tls)
        (record,) = service.call("GET", "/messages?include_history=1").body["messages"]
        notes = [note for event in record["history"] for note in event["data"].get("notes", [])]
        self.assertEqual(["the certificate was not verified: it is self-signed"], notes)
