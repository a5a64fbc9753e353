"""``mailproxy sendmail``, as other programs call it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.cli.sendmail import (
    Failed,
    complete,
    named_in,
    read_message,
    stays_here,
    with_from,
)
from tests.scenarios.processes import Service, SinkProcess, account, free_port, http, wait_until
from tests.scratch import scratch

MAIL = (
    b"To: Anna <anna@example.test>,\n bert@example.test\nBcc: secret@example.test\n"
    b"Subject: x\n\nHi\n"
)


class ReadingTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Lines end in CRLF, the last one too; a lone dot ends the message unless it may not."""
        data = b"Subject: x\n\n.\nrest"
        self.assertEqual(b"Subject: x\r\n\r\n", read_message(data, dots=True))
        self.assertEqual(b"Subject: x\r\n\r\n.\r\nrest\r\n", read_message(data, dots=False))
        self.assertEqual(b"a..\r\n", read_message(b"a..", dots=True))

    def test_recipients(self) -> None:
        """Recipients stand in To, Cc and Bcc, folded or not."""
        found = named_in(read_message(MAIL, dots=False))
        self.assertEqual(["anna@example.test", "bert@example.test", "secret@example.test"], found)
        with self.assertRaises(Failed) as caught:
            named_in(b"To: undisclosed-recipients:;\r\n\r\n")
        self.assertEqual(65, caught.exception.code)

    def test_from(self) -> None:
        """A From is put in front only where there is none in the header."""
        with_one = b"Subject: x\r\nFROM : a@x.org\r\n\r\n"
        self.assertEqual(with_one, with_from(with_one, "me@x.org", ""))
        for data in (b"Subject: x\r\n\r\nFrom: in the body\r\n", b"\r\nFrom: in the body\r\n"):
            expected = b'From: "M \\"x\\"" <me@x.org>\r\n' + data
            self.assertEqual(expected, with_from(data, "me@x.org", 'M "x"'))

    def test_names_alone(self) -> None:
        """A name alone is at the machine's domain."""
        self.assertEqual("root@host.example", complete("root", "host.example"))
        with self.assertRaises(Failed):
            complete("a b@c", "host.example")

    def test_s5_a_password_in_clear(self) -> None:
        """S5: without TLS a password is said to a socket of this machine only."""
        for family, peer, stays in (
            (socket.AF_UNIX, "/run/smtp.sock", True),
            (socket.AF_INET, ("127.0.0.9", 25), True),
            (socket.AF_INET6, ("::1", 25, 0, 0), True),
            (socket.AF_INET, ("192.0.2.1", 25), False),
            (socket.AF_INET6, ("fe80::1%eth0", 25, 0, 2), False),
        ):
            self.assertEqual(stays, stays_here(family, peer), peer)


class HandingInTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = scratch(self)
        self.sink = SinkProcess(self.directory).start()
        self.addCleanup(self.sink.end)
        self.port = free_port()
        self.socket = self.directory / "smtp.sock"
        self.service = Service(
            self.directory,
            GMP_SMTP_LISTEN=f"unix:{self.socket}:mode=600 tcp:{self.port}:interface=127.0.0.1",
            GMP_SMTP_ALLOW="unix",
            GMP_MAX_RECIPIENTS="3",
        ).start()
        self.addCleanup(self.service.end)
        self.service.call("POST", "/account", account(self.sink.smtp_port))

    def run_it(self, *arguments: str, data: bytes = MAIL, server: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mailproxy", "sendmail"),
                *("--server", server or f"unix:{self.socket}", *arguments),
            ],
            input=data,
            capture_output=True,
            timeout=60,
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    def test_on_the_way(self) -> None:
        """As PHP and cron call it: the message arrives, and the exit status says what happened."""
        status, said = self.run_it("-t", "-i", "-v", "-fphp@example.test", "-oi")
        self.assertEqual(0, status, said)
        self.assertIn("queued as", said)
        wait_until(lambda: bool(self.sink.get("/messages")["messages"]), what="the copy")
        (copy,) = self.sink.get("/messages")["messages"]
        raw = http("GET", f"{self.sink.url}/messages/{copy['n']}").raw
        self.assertIn(b"From: <php@example.test>\r\n", raw)
        self.assertNotIn(b"secret@", raw)
        self.assertEqual(3, len(copy["recipients"]))

        for arguments, data, wanted in (
            (("-t",), b"Subject: nobody\n\nx\n", 64),
            (("anna@example.test",), b"", 66),
            (("-bs",), MAIL, 64),
            (("not an address@",), MAIL, 65),
            (("-t", "a@example.test"), MAIL, 75),
            (("a@example.test",), b"From: a@b.c\nFrom: a@b.c\n\nx\n", 65),
        ):
            self.assertEqual(wanted, self.run_it(*arguments, data=data)[0], arguments)
        login = self.run_it("a@example.test", server=f"127.0.0.1:{self.port}")
        self.assertEqual(77, login[0], login)
        away = self.run_it("a@example.test", server=f"unix:{Path('/nonexistent')}")
        self.assertEqual(75, away[0], away)
        self.assertEqual(1, len(self.sink.get("/messages")["messages"]))
