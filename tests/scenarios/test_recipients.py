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
        service.add(message("mixed", to=[SENT, GREY, REFUSED]))
        wait_until(lambda: service.states() == {"mixed": "failed"}, what="the end of it")

        kept = http("GET", f"{sink.url}/messages").body["messages"]
        self.assertEqual([[SENT], [GREY]], [each["recipients"] for each in kept])
        (record,) = service.messages()
        self.assertIn(REFUSED, record["error"])
        self.assertIn("550", record["error"])
        wait_until(lambda: bool(self._told(sink)), what="the report")
        told = self._told(sink)[-1]
        self.assertIsNone(told["sent_ts"])
        states = {each["address"]: each["state"] for each in told["recipients"]}
        self.assertEqual({SENT: "sent", GREY: "sent", REFUSED: "failed"}, states)

    def _told(self, sink: SinkProcess) -> list[dict[str, Any]]:
        """The final items the sink was told."""
        reports = http("GET", f"{sink.url}/reports").body["reports"]
        items = [item for each in reports for item in each["items"]]
        return [item for item in items if item["error_ts"] is not None]
