"""The timeline as the file keeps it: intents without events, and more than is shown."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.store.timeline import STEPS
from tests.build import account_spec, deferral, new_message, put_off, record
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh


class KeptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.account = result(self.store.put_account(account_spec(), self.clock.now()))

    def post(self) -> None:
        result(self.store.enqueue([new_message()], self.clock.now(), 5.0))

    def attempt(self, seconds: float, *, last: bool = False, outcome: bytes = b"{}") -> None:
        """An attempt that takes *seconds*, and is put off unless it is the *last*."""
        now = self.clock.now()
        (claimed,) = result(self.store.claim(self.account.pk, 1, now))
        result(self.store.begin([(claimed.pk, claimed.token)], "acct", now))
        self.clock.advance(seconds)
        now = self.clock.now()
        if last:
            item = record(claimed, at=now, outcome=outcome)
        else:
            item = deferral(claimed, put_off(), at=now, next_at=now, outcome=outcome)
        result(self.store.record([item]))
        self.clock.advance(seconds)

    def clear(self) -> None:
        for table in ("events", "messages", "attempts", "recipients"):
            self.opened.sql(f"DELETE FROM {table}")

    def intent_event(self, n: int) -> None:
        """Write the event that an older program wrote for the intent of the attempt *n*."""
        data = f'{{"attempt":{n}}}'
        self.opened.sql(
            "INSERT INTO events (pk, event_id, message_pk, generation, kind, at, final, data) "
            "SELECT led_to.pk - 1, randomblob(16), tried.message_pk, tried.generation, 'intent', "
            f"tried.intent_at, 0, CAST('{data}' AS BLOB) "
            "FROM attempts AS tried JOIN events AS led_to ON led_to.at = tried.outcome_at "
            f"WHERE tried.n = {n}"
        )

    def timeline(self) -> list[dict[str, Any]]:
        return result(self.store.timeline("default", "m1"))

    def told(self) -> list[tuple[int, str, int | None, float]]:
        return [
            (step["generation"], step["kind"], step.get("attempt", {}).get("n"), step["at"])
            for step in self.timeline()
        ]

    def test_intents(self) -> None:
        """An intent is kept as the attempt's row alone, and stands where it was."""
        for seconds in (0.0, 1.0):
            self.clear()
            self.post()
            self.attempt(seconds)
            self.attempt(seconds, last=True)
            self.opened.sql("UPDATE messages SET state = 'failed'")
            self.opened.sql("UPDATE recipients SET state = 'failed'")
            self.post()
            self.attempt(seconds)
            (claimed,) = result(self.store.claim(self.account.pk, 1, self.clock.now()))
            result(self.store.begin([(claimed.pk, claimed.token)], "acct", self.clock.now()))
            self.assertEqual(
                [
                    (1, "accepted", None),
                    (1, "intent", 1),
                    (1, "deferred", 1),
                    (1, "intent", 2),
                    (1, "outcome", 2),
                    (2, "generation", None),
                    (2, "intent", 1),
                    (2, "deferred", 1),
                    (2, "intent", 2),
                ],
                [step[:3] for step in self.told()],
            )
            intent = self.timeline()[1]
            self.assertNotIn("event_id", intent)
            self.assertEqual({"attempt": 1, "account": "acct"}, intent["data"])

    def test_intents_with_events(self) -> None:
        """Where an older program has written events for some of them, each is still told once."""
        self.post()
        self.attempt(1.0)
        self.attempt(1.0, last=True)
        whole = self.told()
        for n in (1, 2):
            self.opened.sql("DELETE FROM events WHERE kind = 'intent'")
            self.intent_event(n)
            self.assertEqual(whole, self.told())
        self.assertIn("event_id", self.timeline()[3])
        # Said before the intent, by a node whose clock is ahead.
        self.opened.sql(
            "INSERT INTO events (pk, event_id, message_pk, generation, kind, at, final) "
            "SELECT pk - 1, randomblob(16), message_pk, generation, 'note', at + 9, 0 "
            "FROM events WHERE kind = 'intent'"
        )
        kinds = ["accepted", "intent", "deferred", "note", "intent", "outcome"]
        self.assertEqual(kinds, [step[1] for step in self.told()])

    def test_clock_set_back(self) -> None:
        """What was attempted when the clock was set back comes after it was accepted."""
        self.post()
        (claimed,) = result(self.store.claim(self.account.pk, 1, self.clock.now()))
        self.clock.rightNow -= 3600.0
        result(self.store.begin([(claimed.pk, claimed.token)], "acct", self.clock.now()))
        self.assertEqual(["accepted", "intent"], [step[1] for step in self.told()])
        result(self.store.record([record(claimed, at=self.clock.now() + 1.0)]))
        self.assertEqual(["accepted", "intent", "outcome"], [step[1] for step in self.told()])

    def test_bounded(self) -> None:
        """Of a long life the newest steps are shown, and that there were others."""
        self.post()
        for _ in range(STEPS // 2 + 1):
            self.attempt(0.5)
        steps = self.timeline()
        self.assertEqual(STEPS, len(steps))
        self.assertEqual([True], [step["cut"] for step in steps if "cut" in step])
        self.assertTrue(steps[0]["cut"])
        self.assertEqual(STEPS // 2 + 1, steps[-1]["attempt"]["n"])
        self.assertEqual(sorted(step["at"] for step in steps), [step["at"] for step in steps])

    def test_bounded_bytes(self) -> None:
        """Long replies count as well."""
        self.post()
        outcome = b'{"final": "%s"}' % (b"x" * 500_000)
        for _ in range(5):
            self.attempt(0.5, outcome=outcome)
        steps = self.timeline()
        self.assertTrue(steps[0]["cut"])
        shown = [step for step in steps if "final" in step.get("attempt", {})]
        self.assertEqual(3, len(shown))
