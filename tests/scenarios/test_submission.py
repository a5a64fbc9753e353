"""Programs that know nothing but SMTP: from their login to the report on their mail."""

from __future__ import annotations

import smtplib
import threading
from email import message_from_bytes
from email.message import EmailMessage

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.door import PASSWORD, STRANGER, TRUSTED, USER, OpenDoor
from tests.scenarios.processes import http, wait_until


class SubmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = OpenDoor()
        self.addCleanup(self.door.close)

    def client(self, source: str = STRANGER) -> smtplib.SMTP:
        """A client on an address that is not trusted, unless it is told another."""
        client = self.door.client(source)
        self.addCleanup(client.close)
        return client

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
        client.starttls(context=self.door.context())
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            client.login("erp", "wrong password")
        client.login(USER, PASSWORD)
        mail = self.mail("Grüße aus dem ERP")
        mail["Bcc"] = "secret@example.test"
        mail["X-Mailproxy-Id"] = "INV-7"
        refused = client.send_message(mail, to_addrs=["anna@example.test", "reject@example.test"])
        self.assertEqual({}, refused)
        with self.assertRaises(smtplib.SMTPSenderRefused):
            client.sendmail("other@example.org", ["anna@example.test"], "From: a@example.org\n\n")
        client.quit()

        wait_until(lambda: bool(self.door.reports()), what="the report")
        (item,) = self.door.reports()
        self.assertEqual("INV-7", item["id"])
        self.assertIn("reject@example.test: 550", item["error"])
        self.assertEqual(
            {"anna@example.test": "sent", "reject@example.test": "failed"},
            {each["address"]: each["state"] for each in item["recipients"]},
        )
        (copy,) = self.door.copies()
        raw = http("GET", f"{self.door.sink.url}/messages/{copy['n']}").raw
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
        trusted = self.client(TRUSTED)
        trusted.send_message(self.mail("no login"))
        with self.assertRaises(smtplib.SMTPSenderRefused):
            self.client().send_message(self.mail("no login"))
        wait_until(lambda: len(self.door.copies()) == 1, what="the copy")

    def test_many_at_once(self) -> None:
        """Many clients at once, each waiting for each 250: all of it arrives, once."""

        def submit(n: int) -> None:
            client = self.client(TRUSTED)
            for m in range(10):
                client.send_message(self.mail(f"{n}.{m}"))

        threads = [threading.Thread(target=submit, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        wait_until(lambda: len(self.door.copies()) >= 80, what="the copies")
        self.assertEqual(80, len(self.door.copies()))

    def test_stop(self) -> None:
        """A service that stops answers what it has taken, and closes the door."""
        client = self.client(TRUSTED)
        client.send_message(self.mail("before the stop"))
        self.door.service.terminate()
        with self.assertRaises((smtplib.SMTPException, OSError)):
            client.send_message(self.mail("after the stop"))

    def test_secrets(self) -> None:
        """I8: no password that was said by SMTP, right or wrong, is in the log at DEBUG."""
        client = self.client()
        client.starttls(context=self.door.context())
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            client.login("erp", "wrong-secret-word")
        client.login(USER, PASSWORD)
        client.quit()
        log = self.door.service.output()
        for secret in ("wrong-secret-word", PASSWORD):
            self.assertNotIn(secret, log)
