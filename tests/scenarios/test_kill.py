"""
The service is killed again and again while it works; afterwards three ledgers must agree.

What was accepted (by the submitter), what arrived (at the sink) and what was reported (at the
receiver) are compared with the timeline. The seed is printed; ``MAILPROXY_SEED`` replays it.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import random
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.retry import JITTER
from tests.scenarios.processes import TOKEN, Service, SinkProcess, account, message, wait_until

MESSAGES = 2000
SECONDS = 60.0
BATCH = 4

#: The share of submissions whose answer the client does not wait for.
HANG_UPS = 0.03

#: Seconds after *SECONDS* in which the last message is taken, and the last kill falls. What is
#: uncertain is tried once more after that: a message whose second attempt is cut off too rests
#: with an operator, by policy.
SPARE = 5.0

PATH = "/commands/add-messages?verbose=1"

#: What an element's verdict is only if it was stored before.
STORED = frozenset({"duplicate", "kept"})


class Submitter(threading.Thread):
    """
    Submits *MESSAGES* messages evenly over *SECONDS*; what got no answer is submitted again.

    Now and then it hangs up before the answer, as a client does that has waited too long.

    :ivar accepted: ids whose acceptance was answered.
    :ivar repeated: ids that were submitted again although they were stored already.
    """

    def __init__(self, service: Service, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.service = service
        self.rng = rng
        self.accepted: set[str] = set()
        self.repeated: set[str] = set()
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            start = time.monotonic()
            for first in range(0, MESSAGES, BATCH):
                ids = [f"k{n}" for n in range(first, min(first + BATCH, MESSAGES))]
                if self.rng.random() < HANG_UPS:
                    self._hang_up(ids)
                self._submit(ids)
                ahead = start + SECONDS * (first + BATCH) / MESSAGES - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)
            # Whose answer was lost long ago: by now most of these have been sent.
            self._submit([f"k{n}" for n in range(BATCH)])
        except Exception as error:
            self.failure = error

    def _hang_up(self, ids: list[str]) -> None:
        """Submit, and do not wait for the answer."""
        body = json.dumps({"messages": [message(id) for id in ids]})
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=5.0)
        with contextlib.suppress(OSError):
            connection.request("POST", PATH, body, {"X-API-Token": TOKEN})
            time.sleep(0.2)
        connection.close()

    def _submit(self, ids: list[str]) -> None:
        while True:
            try:
                answer = self.service.call(
                    "POST", PATH, {"messages": [message(id) for id in ids]}, timeout=10.0
                )
            except (OSError, ValueError):
                time.sleep(0.05)
                continue
            if answer.status == 503:
                time.sleep(0.05)
                continue
            assert answer.status == 200, answer.raw
            states = {each["id"]: each["state"] for each in answer.body["items"]}
            assert set(states) == set(ids), answer.raw
            assert "rejected" not in states.values(), answer.raw
            self.repeated |= {id for id, state in states.items() if state in STORED}
            self.accepted.update(ids)
            return


class KillTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.seed = int(os.environ.get("MAILPROXY_SEED") or random.SystemRandom().randrange(2**32))
        print(f"kill -9 scenario: MAILPROXY_SEED={self.seed}")
        self.rng = random.Random(self.seed)
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-kill-"))
        self.sink = SinkProcess(
            self.directory,
            *("--delay", "0-50ms", "--seed", str(self.seed)),
            *("--ledger", str(self.directory / "ledger.jsonl")),
        ).start()
        self.addCleanup(self.sink.end)
        self.service = Service(
            self.directory,
            GMP_CLIENT_SYNC_URL=self.sink.sync_url,
            GMP_LOG_LEVEL="WARNING",
        )
        self.calm = time.monotonic() + SECONDS + SPARE
        self.addCleanup(self.service.end)
        self.start()
        self.service.call("POST", "/account", account(self.sink.smtp_port, max_sessions=4))

    def start(self) -> None:
        """Start the service; what it finds cut off is tried again when no kill comes any more."""
        delay = max(1.0, (self.calm - time.monotonic()) / (1.0 - JITTER))
        self.service.settings["GMP_RETRY_DELAYS"] = f"{delay:.1f}"
        self.service.start()

    def test_nothing_is_lost_and_no_second_copy_is_silent(self) -> None:
        """F10: after many kills, all accepted mail arrived, repeats are admitted, all reported."""
        submitter = Submitter(self.service, self.rng)
        submitter.start()
        kills = self.kill_while(submitter)
        submitter.join(60.0)
        if submitter.failure is not None:
            raise submitter.failure
        self.assertEqual(MESSAGES, len(submitter.accepted))
        self.settle()
        self.reconcile(submitter, kills)

    def kill_while(self, submitter: Submitter) -> int:
        """Kill and restart at random while there is work; the kills that met unfinished work."""
        met = 0
        while submitter.is_alive() and time.monotonic() < self.calm - 1.0:
            time.sleep(self.rng.uniform(0.1, 1.2))
            self.service.kill()
            met += self.unfinished() > 0
            self.start()
        return met

    def query(self, statement: str) -> list[Any]:
        """Read the file as the next start will find it (the service is not running)."""
        connection = sqlite3.connect(self.directory / "mail.db")
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def unfinished(self) -> int:
        (row,) = self.query(
            "SELECT count(*) FROM messages WHERE state IN ('queued', 'deferred', 'in_flight')"
        )
        return int(row[0])

    def settle(self) -> None:
        """Wait until nothing is left to be sent or reported."""

        def done() -> bool:
            records = self.service.messages()
            return len(records) == MESSAGES and all(
                each["state"] == "sent" and each["reported_ts"] is not None for each in records
            )

        wait_until(done, SPARE + 75.0, "everything to be sent and reported", step=0.5)

    def reconcile(self, submitter: Submitter, kills: int) -> None:
        states = self.service.states()
        self.service.terminate()
        copies = collections.Counter(
            json.loads(line)["mail_id"]
            for line in (self.directory / "ledger.jsonl").read_text().splitlines()
        )
        uncertain = dict(
            self.query(
                "SELECT m.id, count(*) FROM events e JOIN messages m ON m.pk = e.message_pk "
                "WHERE e.kind = 'uncertain' GROUP BY m.id"
            )
        )
        reported = {
            item["id"]
            for report in self.sink.get("/reports")["reports"]
            for item in report["items"]
        }
        figures = (
            f"seed={self.seed} kills on work={kills} uncertain={sum(uncertain.values())} "
            f"second copies={sum(count > 1 for count in copies.values())} "
            f"submitted again though stored={len(submitter.repeated)}"
        )
        print(figures)
        self.assertEqual({"sent"}, set(states.values()), figures)
        self.assertEqual(set(), submitter.accepted - set(copies), figures)
        for id, count in copies.items():
            self.assertLessEqual(count, 1 + uncertain.get(id, 0), f"{id}: {figures}")
        self.assertEqual(submitter.accepted, reported, figures)
        self.assertGreaterEqual(kills, 15, figures)
        self.assertGreaterEqual(sum(uncertain.values()), 3, figures)
        self.assertGreaterEqual(len(submitter.repeated), 1, figures)
