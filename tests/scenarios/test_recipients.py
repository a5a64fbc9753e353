"""Recipients of one message that the upstream answers differently, through service and sink."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.processes import Service, SinkProcess, account, http, message, wait_until

SENT, GREY, REFUSED = "user@example.test", "grey@example.test", "reject@example.test"


class RecipientTests(SynchronousTestCase):
    def test_f31_each_has_its_own_end_and_one_copy(self) -> None:
        """F31: 250, 450 and 550 in one envelope: one copy, one more copy later, and a failure."""
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-recipients-"))
        sink = SinkProcess(directory).start()
        self.addCleanup(sink.end)
        service = Service(
            directory, GMP_CLIENT_SYNC_URL=sink.sync_url, GMP_RETRY_DELAYS="0.3"
        ).start()
        self.addCleanup(service.end)
        service.call("POST", "/account", account(sink.smtp_port))
        self.declare_impatient(service, sink)
        service.add(message("mixed", to=[SENT, GREY, REFUSED]))
        ends = {"mixed": "failed", "late": "expired"}
        wait_until(lambda: service.states() == ends, what="the end of it")

        kept = http("GET", f"{sink.url}/messages").body["messages"]
        self.assertEqual([[SENT], [GREY]], [each["recipients"] for each in kept])
        records = {each["id"]: each for each in service.messages()}
        self.assertIn("4.2.2 Mailbox full", records["late"]["error"])
        self.assertLess(2, len(self.tries(service, "late")))
        record = records["mixed"]
        self.assertIn(REFUSED, record["error"])
        self.assertIn("550", record["error"])
        wait_until(lambda: ends.keys() == self._told(sink).keys(), what="the reports")
        told = self._told(sink)["mixed"]
        self.assertIsNone(told["sent_ts"])
        states = {each["address"]: each["state"] for each in told["recipients"]}
        self.assertEqual({SENT: "sent", GREY: "sent", REFUSED: "failed"}, states)

    def declare_impatient(self, service: Service, sink: SinkProcess) -> None:
        """An account of its own schedule and age limit, with mail that its upstream never takes."""
        fields = account(sink.smtp_port, id="impatient", retry_delays=[1], max_age_seconds=4)
        self.assertEqual(200, service.call("POST", "/account", fields).status)
        service.add(message("late", account_id="impatient", to=["full@example.test"]))

    def tries(self, service: Service, id: str) -> list[dict[str, Any]]:
        history = service.call("GET", f"/v1/messages/{id}").body["message"]["history"]
        return [event for event in history if event["kind"] == "intent"]

    def _told(self, sink: SinkProcess) -> dict[str, dict[str, Any]]:
        """The final items the sink was told, by id."""
        reports = http("GET", f"{sink.url}/reports").body["reports"]
        items = [item for each in reports for item in each["items"]]
        return {item["id"]: item for item in items if item["error_ts"] is not None}
