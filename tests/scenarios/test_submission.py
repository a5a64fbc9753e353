"""Programs that know nothing but SMTP: from their login to the report on their mail."""

from __future__ import annotations

import smtplib
import ssl
import subprocess
import tempfile
import threading
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.delivery.certificates import Authority
from tests.need import need_program
from tests.scenarios.processes import Service, SinkProcess, account, free_port, http, wait_until

PASSWORD = "correct horse"


class SubmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-submission-"))
        authority = Authority()
        self.ca = self.directory / "ca.pem"
        self.ca.write_text(authority.pem)
        door = self.directory / "door.pem"
        door.write_bytes(authority.issue("localhost", "127.0.0.1"))
        self.sink = SinkProcess(self.directory).start()
        self.addCleanup(self.sink.end)
        self.port = free_port()
        self.service = Service(
            self.directory,
            GMP_CLIENT_SYNC_URL=self.sink.sync_url,
            GMP_SMTP_LISTEN=f"tcp:{self.port}:interface=127.0.0.1",
            GMP_SMTP_TLS_CERT=str(door),
            GMP_SMTP_TLS_KEY=str(door),
            GMP_SMTP_ALLOW="127.0.0.1",
            GMP_RETRY_DELAYS="0.3",
            GMP_LOG_LEVEL="DEBUG",
        ).start()
        self.addCleanup(self.service.end)
        self.service.call("POST", "/account", account(self.sink.smtp_port))
        made = self.service.call(
            "POST",
            "/v1/credentials",
            {"user": "erp", "password": PASSWORD, "senders": ["@example.test"]},
        )
        self.assertEqual(200, made.status, made.raw)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def client(self, source: str = "127.0.0.9") -> smtplib.SMTP:
        """A client on an address that is not trusted, unless it is told another."""
        client = smtplib.SMTP("127.0.0.1", self.port, timeout=20, source_address=(source, 0))
        self.addCleanup(client.close)
        return client

    def copies(self) -> list[dict[str, Any]]:
        return list(self.sink.get("/messages")["messages"])

    def reports(self) -> list[dict[str, Any]]:
        return [item for report in self.sink.get("/reports")["reports"] for item in report["items"]]

    def mail(self, subject: str, to: str = "anna@example.test") -> EmailMessage:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "Erp <erp@example.test>", to, subject
        mail.set_content("Grüße\n.\n..two dots\n" + "x" * 300 + "\n")
        mail.add_attachment(
            bytes(range(256)) * 400, "application", "octet-stream", filename="a.bin"
        )
        return mail

    def test_smtplib(self) -> None:
        """smtplib logs in over TLS; the mail arrives as it was, and its outcome is reported."""
        client = self.client()
        with self.assertRaises(smtplib.SMTPException):
            client.sendmail("erp@example.test", ["anna@example.test"], "From: erp@example.test\n\n")
        client.starttls(context=self.context())
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            client.login("erp", "wrong password")
        client.login("erp", PASSWORD)
        mail = self.mail("Grüße aus dem ERP")
        mail["Bcc"] = "secret@example.test"
        mail["X-Mailproxy-Id"] = "INV-7"
        refused = client.send_message(mail, to_addrs=["anna@example.test", "reject@example.test"])
        self.assertEqual({}, refused)
        with self.assertRaises(smtplib.SMTPSenderRefused):
            client.sendmail("other@example.org", ["anna@example.test"], "From: a@example.org\n\n")
        client.quit()

        wait_until(lambda: bool(self.reports()), what="the report")
        (item,) = self.reports()
        self.assertEqual("INV-7", item["id"])
        self.assertIn("reject@example.test: 550", item["error"])
        self.assertEqual(
            {"anna@example.test": "sent", "reject@example.test": "failed"},
            {each["address"]: each["state"] for each in item["recipients"]},
        )
        (copy,) = self.copies()
        raw = http("GET", f"{self.sink.url}/messages/{copy['n']}").raw
        self.assertNotIn(b"secret@example.test", raw)
        self.assertIn(b" with ESMTPSA id INV-7;", raw)
        arrived, sent = message_from_bytes(raw), self.mail("Grüße aus dem ERP")
        self.assertEqual(
            [part.get_payload() for part in sent.walk() if not part.is_multipart()],
            [
                str(part.get_payload()).replace("\r\n", "\n")
                for part in arrived.walk()
                if not part.is_multipart()
            ],
        )

    def test_trusted_address(self) -> None:
        """A program on a trusted address needs no login; one on another needs it."""
        trusted = self.client("127.0.0.1")
        trusted.send_message(self.mail("no login"))
        with self.assertRaises(smtplib.SMTPSenderRefused):
            self.client().send_message(self.mail("no login"))
        wait_until(lambda: len(self.copies()) == 1, what="the copy")

    def test_many_at_once(self) -> None:
        """Many clients at once, each waiting for each 250: all of it arrives, once."""

        def submit(n: int) -> None:
            client = self.client("127.0.0.1")
            for m in range(10):
                client.send_message(self.mail(f"{n}.{m}"))

        threads = [threading.Thread(target=submit, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        wait_until(lambda: len(self.copies()) >= 80, what="the copies")
        self.assertEqual(80, len(self.copies()))

    def test_smtp_source(self) -> None:
        """Postfix's smtp-source, over five connections, hands in two hundred messages."""
        program = need_program("smtp-source")
        done = subprocess.run(
            [
                *(program, "-s", "5", "-m", "200", "-l", "2048", "-f", "erp@example.test"),
                *("-t", "anna@example.test", f"127.0.0.1:{self.port}"),
            ],
            capture_output=True,
            timeout=60,
        )
        self.assertEqual(0, done.returncode, done.stderr)
        wait_until(lambda: len(self.copies()) >= 200, what="the copies")
        self.assertEqual(200, len(self.copies()))

    def test_stop(self) -> None:
        """A service that stops answers what it has taken, and closes the door."""
        client = self.client("127.0.0.1")
        client.send_message(self.mail("before the stop"))
        self.service.terminate()
        with self.assertRaises((smtplib.SMTPException, OSError)):
            client.send_message(self.mail("after the stop"))

    def test_secrets(self) -> None:
        """I8: no password that was said by SMTP, right or wrong, is in the log at DEBUG."""
        client = self.client()
        client.starttls(context=self.context())
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            client.login("erp", "wrong-secret-word")
        client.login("erp", PASSWORD)
        client.quit()
        log = self.service.output()
        for secret in ("wrong-secret-word", PASSWORD):
            self.assertNotIn(secret, log)
