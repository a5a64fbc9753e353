"""
The process dies at each named place of a message's way; the next start must make it good.

F1 to F9 of the fault table: whatever the place, an accepted message arrives, a second copy is
admitted by the timeline, and the outcome is reported.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.crash import VARIABLE
from tests.scenarios.gate import Gate
from tests.scenarios.mutant import ROOT
from tests.scenarios.processes import Service, SinkProcess, account, message, wait_until

#: Before the commit of a submission; all other places are crash points.
ENQUEUE = "enqueue"


class Crasher(Service):
    """A service that kills itself at the *count*-th passing of *point*, while that is set."""

    point = ""
    count = 1

    def command(self) -> list[str]:
        if self.point != ENQUEUE:
            return super().command()
        return [sys.executable, "-m", "tests.scenarios.crasher", str(self.count), "serve"]

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        made = super().environment() | {"PYTHONPATH": path}
        if self.point not in ("", ENQUEUE):
            made |= {VARIABLE: f"{self.point}:{self.count}"}
        return made


class CrashPointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-crash-"))
        ledgers = [
            *("--ledger", str(self.directory / "copies.jsonl")),
            *("--report-ledger", str(self.directory / "reports.jsonl")),
        ]
        self.sink = SinkProcess(self.directory, *ledgers).start()
        self.addCleanup(self.sink.end)
        self.service = Crasher(
            self.directory,
            GMP_CLIENT_SYNC_URL=self.sink.sync_url,
            GMP_RETRY_DELAYS="0.2",
        )
        self.addCleanup(self.service.end)

    def ledger(self, name: str) -> list[dict[str, object]]:
        path = self.directory / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def crash(self, point: str, count: int = 1) -> None:
        """Submit one message to a service that dies at *point*, then start a sound one."""
        self.service.start()
        self.service.call("POST", "/account", account(self.sink.smtp_port))
        self.service.terminate()
        self.service.point, self.service.count = point, count
        self.service.start()
        try:
            self.answered = self.service.add(message("m1")).status == 200
        except OSError:
            self.answered = False
        wait_until(lambda: not self.service.alive, what=f"the crash at {point}")
        self.service.point = ""
        self.service.start()

    def settled(self, copies: int, uncertain: int) -> None:
        """In the end the message is sent and reported, in *copies*, as the timeline says."""
        wait_until(
            lambda: [each["reported_ts"] is not None for each in self.service.messages()] == [True],
            what="the report",
        )
        (record,) = self.service.messages()
        self.assertEqual("sent", record["state"])
        arrived = [each["mail_id"] for each in self.ledger("copies.jsonl")]
        self.assertEqual(["m1"] * copies, arrived)
        attempts = 1 + uncertain
        self.assertEqual(attempts, record["attempts"])
        if copies == 2:
            first, second = (each["sha256"] for each in self.ledger("copies.jsonl"))
            self.assertEqual(first, second, "both attempts are the same bytes")

    def test_f1_before_the_commit_of_the_submission(self) -> None:
        """F1: all is written but not committed: nothing is there, and submitting again works."""
        self.crash(ENQUEUE)
        self.assertFalse(self.answered)
        self.assertEqual([], self.service.messages())
        answer = self.service.call(
            "POST", "/commands/add-messages?verbose=1", {"messages": [message("m1")]}
        )
        self.assertEqual([{"id": "m1", "state": "queued"}], answer.body["items"])
        self.settled(copies=1, uncertain=0)

    def test_f2_after_the_commit_of_the_submission(self) -> None:
        """F2: no answer came, but it is stored; submitting again is a success, not a copy."""
        self.crash("enqueue-commit")
        self.assertFalse(self.answered)
        answer = self.service.call(
            "POST", "/commands/add-messages?verbose=1", {"messages": [message("m1")]}
        )
        self.assertEqual(1, answer.body["queued"])
        self.settled(copies=1, uncertain=0)

    def test_f3_between_claim_and_connect(self) -> None:
        """F3: a lease of a dead process holds nothing up and burns no attempt."""
        self.crash("claim")
        self.settled(copies=1, uncertain=0)

    def test_f4_after_the_intent(self) -> None:
        """F4: the intent stands and nobody knows what followed: uncertain, tried once more."""
        self.crash("intent")
        self.settled(copies=1, uncertain=1)

    def test_f5_in_the_middle_of_a_body(self) -> None:
        """F5: half of a large body has left: the server discards it, and the retry is one copy."""
        gate = Gate(self.sink.smtp_port, 300_000)
        self.addCleanup(gate.close)
        self.service.start()
        self.service.call("POST", "/account", account(gate.port))
        self.service.add(message("m1", body="0123456789" * 200_000))
        self.assertTrue(gate.shut.wait(20.0), "the upstream got half a body")
        self.service.kill()
        self.assertEqual([], self.ledger("copies.jsonl"))
        self.service.start()
        self.settled(copies=1, uncertain=1)

    def test_f6_after_the_dot(self) -> None:
        """F6: the body was handed over whole; at most one more copy, and it is admitted."""
        self.crash("body-written")
        arrived = len(self.ledger("copies.jsonl"))
        self.assertLessEqual(arrived, 1)
        wait_until(lambda: len(self.ledger("copies.jsonl")) > arrived, what="the retry")
        self.settled(copies=arrived + 1, uncertain=1)

    def test_f7_after_the_reply(self) -> None:
        """F7: the reply was read and not stored: for us the same as no reply."""
        self.crash("reply-read")
        wait_until(lambda: len(self.ledger("copies.jsonl")) == 2, what="the retry")
        self.settled(copies=2, uncertain=1)

    def test_f8_after_the_outcome(self) -> None:
        """F8: the outcome is stored: it is reported after the restart, and nothing is sent."""
        self.crash("outcome-commit")
        self.settled(copies=1, uncertain=0)

    def test_f9_after_the_report(self) -> None:
        """F9: the report was taken but not noted: it is repeated with the same event id."""
        self.crash("report-post", 2)  # the first call is the empty one of the start
        self.settled(copies=1, uncertain=0)
        items = [item for call in self.ledger("reports.jsonl") for item in _items(call)]
        self.assertEqual(2, len(items), items)
        self.assertEqual(1, len({item["event_id"] for item in items}))

    def test_after_the_acknowledgement(self) -> None:
        """Once the acknowledgement is stored, nothing is told again."""
        self.crash("ack-commit")
        self.settled(copies=1, uncertain=0)
        items = [item for call in self.ledger("reports.jsonl") for item in _items(call)]
        self.assertEqual(1, len(items))


def _items(call: dict[str, object]) -> list[dict[str, object]]:
    items = call["items"]
    assert isinstance(items, list)
    return items
