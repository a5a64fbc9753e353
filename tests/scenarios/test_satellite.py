"""
A Postfix on the application's machine that relays all its mail to the service: with TLS, whose
certificate it insists on, and a login.
"""

from __future__ import annotations

import smtplib
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.need import need_program
from tests.scenarios.door import PASSWORD, STRANGER, USER, OpenDoor, digest, parted, queue_id
from tests.scenarios.postfix import Postfix
from tests.scenarios.processes import wait_until

SENDER = "erp@example.test"

BODY = "Grüße \t\r\n.\r\n..two\r\n \r\n" + "x" * 500 + "\r\n"


class SatelliteTests(SynchronousTestCase):
    door: ClassVar[OpenDoor]
    postfix: ClassVar[Postfix]

    @classmethod
    def setUpClass(cls) -> None:
        need_program("postfix")
        cls.door = door = OpenDoor()
        cls.addClassCleanup(door.close)
        directory = door.directory / "satellite"
        directory.mkdir()
        passwords = directory / "passwords"
        relay = f"[localhost]:{door.port}"
        passwords.write_text(f"{relay} {USER}:{PASSWORD}\n")
        cls.postfix = Postfix(
            directory,
            relay,
            *("smtp_host_lookup = native", f"smtp_bind_address = {STRANGER}"),
            *("smtp_tls_security_level = secure", f"smtp_tls_CAfile = {door.ca}"),
            *("smtp_sasl_auth_enable = yes", "smtp_sasl_security_options = noanonymous"),
            f"smtp_sasl_password_maps = texthash:{passwords}",
            # Tried again when a test says so, not by the clock.
            *("minimal_backoff_time = 900s", "queue_run_delay = 900s"),
        )
        cls.addClassCleanup(cls.postfix.stop)

    def hand_in(self, *recipients: str, fields: str = "") -> bytes:
        """Give Postfix a message, and return its bytes."""
        sent = (
            "Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n"
            f"Message-ID: <{recipients[0]}>\r\nFrom: Erp <{SENDER}>\r\nTo: {recipients[0]}\r\n"
            f"{fields}Subject: x\r\n\r\n{BODY}"
        ).encode()
        with smtplib.SMTP("127.0.0.1", self.postfix.port, timeout=20) as client:
            client.ehlo()
            client.mail(SENDER, ["body=8bitmime"])
            for recipient in recipients:
                client.rcpt(recipient)
            code, said = client.data(sent)
            self.assertEqual(250, code, said)
        return sent

    def answers(self, recipient: str) -> list[str]:
        """What Postfix logged of each try for *recipient*."""
        return [line for line in self.postfix.said().splitlines() if f"to=<{recipient}>" in line]

    def test_all_the_way(self) -> None:
        """It trusts the certificate, logs in, and all it gave arrives, behind its own Received."""
        to = "anna@example.test"
        sent = self.hand_in(
            to,
            "bert@example.test",
            fields="Bcc: hidden@example.test\r\nX-Mailproxy-Id: INV-9\r\n",
        )
        copy, raw = self.door.arrived(to)
        self.assertEqual([to, "bert@example.test"], copy["recipients"])
        self.assertEqual((SENDER, "INV-9"), (copy["sender"], copy["mail_id"]))
        self.assertIn(b" with ESMTPSA id INV-9;", raw)
        names, rest = parted(raw)
        self.assertEqual(["X-Genro-Mail-ID", "Received"], names)
        own, rest = parted(rest)
        self.assertEqual(["Received"], own)
        kept = sent.replace(b"Bcc: hidden@example.test\r\nX-Mailproxy-Id: INV-9\r\n", b"")
        self.assertEqual(digest(kept), digest(rest), rest)
        report = self.door.reported("INV-9")
        self.assertEqual(["sent", "sent"], [each["state"] for each in report["recipients"]])

        wait_until(lambda: "status=sent" in "".join(self.answers(to)), what="Postfix's log")
        self.assertEqual("INV-9", queue_id(self.answers(to)[0]))
        wait_until(lambda: self.postfix.queued() == 0, what="an empty queue")

    def test_put_off_once(self) -> None:
        """A 4xx at the end of the data: it keeps the message, tries again, and it arrives once."""
        to = "later@example.test"
        self.door.service.call("POST", "/tenant", {"id": "default", "active": False})
        sent = self.hand_in(to)
        wait_until(lambda: "status=deferred" in "".join(self.answers(to)), what="Postfix's log")
        self.assertIn("450 4.7.1", self.answers(to)[0])
        self.assertEqual((1, []), (self.postfix.queued(), self.door.copies(to)))

        self.door.service.call("PUT", "/tenant/default", {"active": True})
        self.postfix.flush()

        _, raw = self.door.arrived(to)
        self.assertTrue(raw.endswith(sent.partition(b"\r\n\r\n")[2]))
        wait_until(lambda: self.postfix.queued() == 0, what="an empty queue")
        self.assertEqual(1, len(self.door.copies(to)))

    def test_killed_in_between(self) -> None:
        """The service is killed while it takes mail: what it did not acknowledge comes again."""
        recipients = [f"r{n}@example.test" for n in range(40)]
        for n, to in enumerate(recipients):
            self.hand_in(to)
            if n == 20:
                self.door.service.kill()
        wait_until(
            lambda: "status=deferred" in "".join(self.answers(recipients[-1])), what="Postfix's log"
        )
        self.door.service.start()

        def all_arrived() -> bool:
            self.postfix.flush()
            return {to for copy in self.door.copies() for to in copy["recipients"]} >= {*recipients}

        wait_until(all_arrived, what="all of them", step=0.5)
        wait_until(lambda: self.postfix.queued() == 0, what="an empty queue")
