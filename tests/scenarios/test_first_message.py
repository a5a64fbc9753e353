"""The user's document, step by step, with curl: from the account to the report."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.need import need_program
from tests.scenarios.processes import TOKEN, Service, SinkProcess, message, wait_until


class FirstMessageTests(SynchronousTestCase):
    """One service, and a sink that is both its upstream and its report receiver."""

    def setUp(self) -> None:
        self.curl_path = need_program("curl")
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-first-"))
        self.sink = SinkProcess(
            directory,
            *("--user", "your-email@gmail.com", "--password", "app-specific-password"),
            *("--report-user", "syncuser", "--report-password", "syncpass"),
        ).start()
        self.addCleanup(self.sink.end)
        self.service = Service(
            directory,
            GMP_CLIENT_SYNC_URL=self.sink.sync_url,
            GMP_CLIENT_SYNC_USER="syncuser",
            GMP_CLIENT_SYNC_PASSWORD="syncpass",
            GMP_LOG_LEVEL="DEBUG",
            GMP_LOG_DELIVERY_ACTIVITY="true",
            GMP_RETRY_DELAYS="0.3",
        ).start()
        self.addCleanup(self.service.end)

    def curl(self, path: str, *options: str) -> Any:
        """curl as the document writes it; the decoded answer, or its text."""
        done = subprocess.run(
            [
                self.curl_path, "-sS", "-H", f"X-API-Token: {TOKEN}",
                *options, self.service.url + path,
            ],
            capture_output=True, timeout=30, check=True, text=True,
        )  # fmt: skip
        try:
            return json.loads(done.stdout)
        except ValueError:
            return done.stdout

    def add_account(self) -> None:
        body = {
            "id": "smtp-main", "host": "127.0.0.1", "port": self.sink.smtp_port,
            "user": "your-email@gmail.com", "password": "app-specific-password", "use_tls": False,
            "allow_plaintext_auth": True,
        }  # fmt: skip
        answer = self.curl(
            "/account", "-X", "POST", "-H", "Content-Type: application/json",
            "-d", json.dumps(body),
        )  # fmt: skip
        self.assertTrue(answer["ok"], answer)

    def submit(self, *messages: dict[str, Any]) -> Any:
        return self.curl(
            "/commands/add-messages", "-X", "POST", "-H", "Content-Type: application/json",
            "-d", json.dumps({"messages": messages}),
        )  # fmt: skip

    def reports(self) -> list[dict[str, Any]]:
        """Every item the receiver was told, in order."""
        return [item for report in self.sink.get("/reports")["reports"] for item in report["items"]]

    def test_the_users_document_works_as_written(self) -> None:
        """Every call of the document answers as it says, and the message makes the whole way."""
        self.assertEqual("ok", self.curl("/health")["status"])
        self.assertTrue(self.curl("/status")["ok"])
        self.add_account()
        (account,) = self.curl("/accounts")["accounts"]
        self.assertEqual(("smtp-main", False), (account["id"], account["use_tls"]))
        self.assertNotIn("password", {k for k, v in account.items() if v})
        answer = self.submit(
            {
                "id": "MSG-001", "account_id": "smtp-main", "from": "Genropy <app@example.com>",
                "to": ["customer@example.com"], "subject": "Fattura n° 1", "body": "Buongiorno",
                "priority": 1,
            },
            {"id": "MSG-002", "account_id": "nobody", "from": "app@example.com",
             "to": "x@example.com", "subject": "", "body": ""},
        )  # fmt: skip
        self.assertEqual((True, 1), (answer["ok"], answer["queued"]))
        self.assertEqual([{"id": "MSG-002", "reason": "account not found"}], answer["rejected"])
        self.assertTrue(self.curl("/commands/run-now", "-X", "POST")["ok"])
        wait_until(lambda: bool(self.reports()), what="the report")
        (item,) = self.reports()
        self.assertEqual(
            ("MSG-001", "smtp-main", 1, None, None, None),
            tuple(item[k] for k in
                  ("id", "account_id", "priority", "error_ts", "error", "deferred_ts")),
        )  # fmt: skip
        self.assertIsInstance(item["sent_ts"], (int, float))
        (copy,) = self.sink.get("/messages?id=MSG-001")["messages"]
        self.assertEqual(["customer@example.com"], copy["recipients"])
        wait_until(
            lambda: self.curl("/messages")["messages"][0]["reported_ts"] is not None,
            what="the acknowledgement",
        )
        (record,) = self.curl("/messages")["messages"]
        self.assertEqual("sent", record["state"])
        self.assertEqual([], self.curl("/messages?active_only=true")["messages"])
        metrics = self.curl("/metrics")
        self.assertIn('gmp_sent_total{account_id="smtp-main",tenant_id="default"} 1.0', metrics)
        self.assertIn("gmp_pending_messages 0.0", metrics)
        self.assertTrue(self.curl("/account/smtp-main", "-X", "DELETE")["ok"])
        self.assertEqual([], self.curl("/accounts")["accounts"])
        log = self.service.output()
        self.one_line_per_delivery(log)
        for secret in ("app-specific-password", "syncpass", TOKEN, "Buongiorno"):
            self.assertNotIn(secret, log)

    def one_line_per_delivery(self, log: str) -> None:
        """The attempt has one line at INFO, with what an operator asks about as fields."""
        lines = [json.loads(line) for line in log.splitlines()]
        (line,) = [each for each in lines if each["level"] == "info" and "attempt" in each]
        self.assertEqual(
            {"id": "MSG-001", "tenant": "default", "account": "smtp-main", "attempt": 1,
             "sent": 1, "count": 1, "peer": f"127.0.0.1:{self.sink.smtp_port}", "tls": line["tls"],
             "wait": "-", "logger": "mailproxy.dispatch.activity"},
            {key: value for key, value in line.items()
             if key not in ("time", "level", "message", "reply", "seconds")},
        )  # fmt: skip
        self.assertRegex(line["reply"], "^250 ")
        self.assertRegex(line["tls"], r"^TLSv1\.3 ")
        self.assertGreater(line["seconds"], 0)

    def test_refused_and_deferred_are_told_apart(self) -> None:
        """550 is an error with its reply; 451 is a deferral, then sent."""
        self.add_account()
        self.submit(
            {"id": "no", "from": "app@example.com", "to": ["reject@example.com"], "body": "x"},
            {"id": "wait", "from": "app@example.com", "to": ["later@example.com"], "body": "x"},
        )
        wait_until(
            lambda: (
                {i["id"] for i in self.reports() if i["sent_ts"] or i["error_ts"]} == {"no", "wait"}
            ),
            what="both final reports",
        )
        items = self.reports()
        (refused,) = [item for item in items if item["id"] == "no"]
        self.assertIn("reject@example.com", refused["error"])
        self.assertIn("550", refused["error"])
        waiting = [item for item in items if item["id"] == "wait"]
        self.assertIsNone(waiting[0]["error"])
        self.assertIsNotNone(waiting[0]["deferred_ts"])
        self.assertIn("451", waiting[0]["deferred_reason"])
        self.assertIsNotNone(waiting[-1]["sent_ts"])

    def test_mail_of_a_deleted_account_fails_and_is_reported(self) -> None:
        """What still waits when its account goes is reported as an error, not forgotten."""
        self.add_account()
        self.curl("/commands/suspend", "-X", "POST")
        self.submit({"id": "left", "from": "a@example.com", "to": ["b@example.com"], "body": "x"})
        self.curl("/account/smtp-main", "-X", "DELETE")
        wait_until(lambda: bool(self.reports()), what="the report")
        (item,) = self.reports()
        self.assertEqual("left", item["id"])
        self.assertIn("account deleted", item["error"])
        self.assertEqual(0, self.sink.get("/stats")["accepted"])

    def test_a_stop_with_mail_under_way_loses_nothing(self) -> None:
        """SIGTERM in mid-work ends by itself; after the next start all arrives, once each."""
        self.add_account()
        for first in range(0, 300, 100):
            answer = self.service.add(
                *(
                    message(f"m{n}", account_id="smtp-main", body="x" * 5000)
                    for n in range(first, first + 100)
                )
            )
            self.assertEqual(100, answer.body["queued"])
        self.service.terminate()
        self.service.start()
        wait_until(lambda: set(self.service.states().values()) == {"sent"}, 60.0, "all to be sent")
        self.assertEqual(300, self.sink.get("/stats")["accepted"])
