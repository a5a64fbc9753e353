"""A thousand final replies that are lost on real connections: what each policy makes of them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.processes import Service, SinkProcess, account, message, wait_until

#: How often a message leaves whose account has this policy, if the reply to it is lost each time.
COPIES = {"hold": 1, "retry": 2, "fail": 1}

#: Messages of each policy: together they lose a thousand replies.
EACH = 250

#: Accounts of each policy: one that loses reply after reply rests, longer each time.
ACCOUNTS = {"hold": 25, "retry": 50, "fail": 25}


class LostRepliesTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-lost-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.ledger = directory / "ledger.jsonl"
        options = ("--drop-rate", "1", "--seed", "5", "--ledger", str(self.ledger), "--quiet")
        self.sink = SinkProcess(directory, *options).start()
        self.addCleanup(self.sink.end)
        self.service = Service(
            directory, GMP_RETRY_DELAYS="0.01", GMP_SEND_LOOP_INTERVAL="0.05"
        ).start()
        self.addCleanup(self.service.end)

    def test_each_policy(self) -> None:
        """
        Held and failed is what left once and was not answered; what is retried leaves twice, and
        the timeline admits each copy. Nothing of it is ever called sent.
        """
        for policy in COPIES:
            self.post(policy)
        wait_until(self.settled, 60.0, "the end of all", 0.25)

        records = self.service.messages()
        self.assertEqual(3 * EACH, len(records))
        kept = self.kept()
        self.assertEqual(1000, sum(kept.values()))
        for record in records:
            id, policy = record["id"], record["id"].partition("-")[0]
            self.assertEqual(COPIES[policy], kept[id], id)
            ended = policy == "fail"
            self.assertEqual("failed" if ended else "uncertain", record["state"], id)
            told = record["error"] if ended else record["deferred_reason"]
            self.assertTrue(told.startswith("uncertain: "), told)
            self.assertIsNone(record["sent_ts"])
            if policy == "retry":
                self.assertEqual(2, self.admitted(id), id)

    def post(self, policy: str) -> None:
        names = [f"{policy}-{n}" for n in range(ACCOUNTS[policy])]
        for name in names:
            fields = account(self.sink.smtp_port, id=name, on_uncertain=policy, max_sessions=1)
            self.assertEqual(200, self.service.call("POST", "/account", fields).status)
        batch = [message(f"{policy}-{n}", account_id=names[n % len(names)]) for n in range(EACH)]
        self.assertEqual(EACH, self.service.add(*batch).body["queued"])

    def settled(self) -> bool:
        return set(self.service.states().values()) <= {"sent", "failed", "uncertain"}

    def kept(self) -> Counter[str]:
        """How often the sink has each message."""
        copies = (json.loads(line) for line in self.ledger.read_text().splitlines())
        return Counter(each["recipients"][0].partition("@")[0] for each in copies)

    def admitted(self, id: str) -> int:
        """Attempts of which the timeline says that nobody knows what became of them."""
        found = self.service.call("GET", f"/v1/messages/{id}").body["message"]
        return [event["kind"] for event in found["history"]].count("uncertain")
