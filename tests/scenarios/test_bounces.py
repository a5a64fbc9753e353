"""Senders of mail by SMTP are told what did not arrive: over sockets, once, over crashes."""

from __future__ import annotations

import smtplib
import tempfile
from email.message import Message
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.processes import SinkProcess, account, free_port, http, wait_until
from tests.scenarios.test_crashpoints import Crasher

MAIL = "From: Erp <erp@example.test>\r\nSubject: Invoice 7\r\n\r\nIt is due.\r\n"


class BounceScenario(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-bounces-"))
        self.sink = SinkProcess(self.directory).start()
        self.addCleanup(self.sink.end)
        self.port = free_port()
        self.service = Crasher(
            self.directory,
            GMP_CLIENT_SYNC_URL=self.sink.sync_url,
            GMP_SMTP_LISTEN=f"tcp:{self.port}:interface=127.0.0.1",
            GMP_SMTP_ALLOW="127.0.0.1",
            GMP_RETRY_DELAYS="0.2",
        )
        self.addCleanup(self.service.end)

    def begin(self, point: str = "", count: int = 1) -> None:
        """Start the service, which dies at *point*; the tenant wants bounces."""
        self.service.point, self.service.count = point, count
        self.service.start()
        self.service.call("POST", "/account", account(self.sink.smtp_port))
        wanted = self.service.call("PUT", "/tenant/default", {"bounces": {"enabled": True}})
        self.assertEqual(200, wanted.status, wanted.raw)

    def hand_in(self, *options: str) -> str:
        """To one who accepts and one who does not; the id that the service gave."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as client:
            client.ehlo()
            client.mail("erp@example.test", list(options))
            client.rcpt("anna@example.test")
            client.rcpt("reject@example.test")
            code, text = client.data(MAIL)
            self.assertEqual(250, code, text)
        return text.rpartition(b" ")[2].decode()

    def bounce(self) -> Message:
        """The only bounce that arrives, once nothing is left to be done."""
        wait_until(lambda: self.settled() == 2, what="the bounce")
        (copy,) = [each for each in self.sink.get("/messages")["messages"] if self.is_bounce(each)]
        raw = http("GET", f"{self.sink.url}/messages/{copy['n']}").raw
        return cast("Message", BytesParser(policy=default).parsebytes(raw))

    def is_bounce(self, copy: dict[str, Any]) -> bool:
        raw = http("GET", f"{self.sink.url}/messages/{copy['n']}").raw
        return b"Auto-Submitted: auto-replied" in raw

    def settled(self) -> int:
        """How many messages ended."""
        states = self.service.states().values()
        return sum(state in ("sent", "failed") for state in states)

    def told(self, mail: Message) -> None:
        _, report, returned = cast("list[Message]", mail.get_payload())
        about, one = cast("list[Message]", report.get_payload())
        self.assertEqual("multipart/report", mail.get_content_type())
        self.assertEqual("erp@example.test", mail["To"])
        self.assertEqual("rfc822; reject@example.test", one["Final-Recipient"])
        self.assertEqual("failed", one["Action"])
        self.assertTrue(one["Diagnostic-Code"].startswith("smtp; 550 "), one["Diagnostic-Code"])
        self.assertEqual("dns; 127.0.0.1", one["Remote-MTA"])
        self.assertIsNotNone(about["Reporting-MTA"])
        self.assertIn("Subject: Invoice 7", returned.as_string())

    def test_a_recipient_is_refused(self) -> None:
        """The sender gets one bounce that names who was refused; the application one report."""
        self.begin()
        id = self.hand_in()
        mail = self.bounce()
        self.told(mail)
        self.assertNotIn("It is due.", mail.as_string())
        wait_until(lambda: len(self.items()) > 0, what="the report")
        self.assertEqual([id], [item["id"] for item in self.items()])

    def items(self) -> list[dict[str, Any]]:
        return [item for report in self.sink.get("/reports")["reports"] for item in report["items"]]

    def crash(self, point: str, count: int) -> None:
        """Hand a message in to a service that dies at *point*, then start a sound one."""
        self.begin(point, count)
        self.hand_in("RET=HDRS")
        wait_until(lambda: not self.service.alive, what=f"the crash at {point}")
        self.service.point = ""
        self.service.start()

    def test_crash_before_the_bounce(self) -> None:
        """I1, I2: killed when the failure is stored, the next start sends the bounce; once."""
        self.crash("outcome-commit", 1)
        self.told(self.bounce())

    def test_crash_behind_the_bounce(self) -> None:
        """I2: killed when the bounce is stored and not sent, the next start sends it; once."""
        self.crash("enqueue-commit", 2)
        self.told(self.bounce())
