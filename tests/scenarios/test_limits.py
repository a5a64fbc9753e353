"""Rate limits of the whole service: over a crash, beside an account that has none, and raised."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.processes import Service, SinkProcess, account, message, wait_until

#: Messages that wait for the limit.
MANY = 300


class LimitTests(SynchronousTestCase):
    """One service, and a sink that is both its upstream and its report receiver."""

    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-limits-"))
        self.sink = SinkProcess(directory).start()
        self.addCleanup(self.sink.end)
        self.service = Service(directory, GMP_CLIENT_SYNC_URL=self.sink.sync_url).start()
        self.addCleanup(self.service.end)

    def put(self, id: str, **fields: Any) -> None:
        answer = self.service.call(
            "POST", "/account", account(self.sink.smtp_port, id=id, **fields)
        )
        self.assertEqual({"ok": True}, answer.body)

    def shown(self, id: str) -> dict[str, Any]:
        accounts = self.service.call("GET", "/accounts").body["accounts"]
        (found,) = [each for each in accounts if each["id"] == id]
        return dict(found)

    def arrived(self, prefix: str) -> int:
        copies = self.sink.get("/messages")["messages"]
        return sum(1 for copy in copies if copy["recipients"][0].startswith(prefix))

    def metric(self, line: str) -> float:
        text = self.service.call("GET", "/metrics").raw.decode()
        (found,) = [each for each in text.splitlines() if each.startswith(line)]
        return float(found.rpartition(" ")[2])

    def test_limited(self) -> None:
        """
        An account gets what its limit allows and no more, over a crash as well; another account's
        mail passes what waits; and a limit that is raised lets mail go at once.
        """
        self.put("slow", limit_per_hour=3)
        self.put("free")
        waiting = [message(f"slow-{n}", account_id="slow") for n in range(MANY)]
        self.service.add(*waiting)
        wait_until(lambda: self.arrived("slow-") == 3, what="what the limit allows")
        self.service.add(message("free-1", account_id="free", priority=0))
        wait_until(lambda: self.arrived("free-") == 1, 5.0, what="mail without a limit")
        wait_until(
            lambda: self.metric('gmp_rate_limited_total{account_id="slow"') > 0, what="the count"
        )
        shown = self.shown("slow")
        self.assertEqual({"per_hour": 3}, shown["used"])
        self.assertEqual("rate limit exceeded (per hour)", shown["limited_reason"])
        self.assertIsNone(self.shown("free")["limited_until"])
        self.assertEqual(1.0, self.metric('mailproxy_accounts_limited{account_id="slow"'))

        self.service.kill()
        self.service.start()
        self.service.add(message("free-2", account_id="free"))
        wait_until(lambda: self.arrived("free-") == 2, what="mail after the crash")
        self.assertEqual(3, self.arrived("slow-"))
        self.assertEqual(shown["limited_until"], self.shown("slow")["limited_until"])

        self.put("slow", limit_per_hour=5)
        wait_until(lambda: self.arrived("slow-") == 5, 5.0, what="what the new limit allows")
        wait_until(lambda: list(self.service.states().values()).count("sent") == 7, what="the end")
        states = [state for id, state in self.service.states().items() if id.startswith("slow-")]
        self.assertEqual({"sent", "queued"}, set(states))
        reports = [
            item for report in self.sink.get("/reports")["reports"] for item in report["items"]
        ]
        self.assertEqual([], [item for item in reports if item["deferred_ts"] is not None])

    def test_rejected(self) -> None:
        """An account that rejects at its limit has its mail fail, and that is reported."""
        self.put("strict", limit_per_day=2, limit_behavior="drop")
        self.service.add(*(message(f"m-{n}", account_id="strict") for n in range(120)))

        def failed() -> list[dict[str, Any]]:
            reports = self.sink.get("/reports")["reports"]
            items = [item for report in reports for item in report["items"]]
            return [item for item in items if item["error_ts"] is not None]

        wait_until(lambda: len(failed()) == 118, what="the failures")
        for item in failed():
            self.assertIn("rate limit exceeded (per day)", item["error"])
        self.assertEqual(2, self.arrived("m-"))
