"""``mailproxy sink`` as a process of its own."""

from __future__ import annotations

import json
import smtplib
import socket
from typing import Any
from urllib.request import Request, urlopen

from click.testing import CliRunner
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailproxy.proving.command import sink
from tests.cli.process import Running
from tests.scratch import scratch


class ProcessTests(TestCase):
    timeout = 60

    def start(self, *options: str) -> Running:
        return Running(self, ["sink", "--smtp-port=0", "--http-port=0", *options])

    async def test_lives(self) -> None:
        """It says where it is, takes mail and reports, prints these, and ends on SIGTERM."""
        process = self.start("--tls-port=0")
        ready = await process.says(
            r"sink ready smtp=127\.0\.0\.1:(\d+) smtps=127\.0\.0\.1:(\d+) http=127\.0\.0\.1:(\d+)\n"
        )
        smtp, _, http = (int(port) for port in ready.groups())

        def use() -> Any:
            with smtplib.SMTP("127.0.0.1", smtp, timeout=10) as client:
                client.sendmail("a@x.org", ["b@y.org"], b"Subject: hi\r\n\r\n")
            url = f"http://127.0.0.1:{http}"
            body = b'{"delivery_report": [{"id": "M\x1b[2J", "sent_ts": 0}]}'.replace(
                b"\x1b", b"\\u001b"
            )
            urlopen(Request(f"{url}/sync", body), timeout=10).close()
            with urlopen(f"{url}/messages", timeout=10) as response:
                return json.load(response)

        messages = (await deferToThread(use))["messages"]

        self.assertEqual(["hi"], [message["subject"] for message in messages])
        await process.says(r"report: M\\x1b\[2J sent at 00:00:00 UTC\n")
        self.assertEqual(0, await process.terminate())

    async def test_port_in_use(self) -> None:
        """A port that is in use is one line, and exit status 1."""
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        process = self.start(f"--tls-port={taken.getsockname()[1]}")

        self.assertEqual(1, await process.ended)
        (line,) = process.out.splitlines()
        self.assertIn("in use", line)

    async def test_unwritable_ledger(self) -> None:
        """A ledger that cannot be opened is one line, and exit status 1."""
        process = self.start(f"--ledger={scratch(self) / 'nowhere' / 'ledger'}")

        self.assertEqual(1, await process.ended)
        (line,) = process.out.splitlines()
        self.assertIn("No such file", line)


class UsageTests(SynchronousTestCase):
    def test_wrong_options(self) -> None:
        """Wrong options are named."""
        for arguments, named in (
            (["--delay", "soon"], "--delay"),
            (["--drop-rate", "2"], "--drop-rate"),
            (["--smtp-port", "70000"], "--smtp-port"),
            (["--user", "anna"], "--password"),
            (["--report-password", "x"], "--report-user"),
        ):
            result = CliRunner().invoke(sink, arguments)
            self.assertEqual(2, result.exit_code)
            self.assertIn(named, result.stderr)

    def test_wrong_scenario(self) -> None:
        """A scenario that is wrong is told of in one line, with its place."""
        path = scratch(self) / "bad.toml"
        path.write_text("title = 'x'\n[[rule]]\nat = 'rcpt'\nreplies = 'no'\n")
        for name, said in (
            (str(path), f"{path}:4: [rule] 1: replies: unknown; known here:"),
            ("no-such", "no file, and not the name of a shipped scenario"),
        ):
            result = CliRunner().invoke(sink, ["--scenario", name])
            self.assertEqual(2, result.exit_code)
            self.assertIn(said, result.stderr)
