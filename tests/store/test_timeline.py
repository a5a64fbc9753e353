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

    def timeline(self) -> list[dict[str, Any]]:
        return result(self.store.timeline("default", "m1"))

    def told(self) -> list[tuple[int, str, int | None, float]]:
        return [
            (step["generation"], step["kind"], step.get("attempt", {}).get("n"), step["at"])
            for step in self.timeline()
        ]

    def test_intents_without_events(self) -> None:
        """An intent that is kept as the attempt's row alone stands where its event would."""
        for seconds in (0.0, 1.0):
            self.opened.sql("DELETE FROM events")
            self.opened.sql("DELETE FROM messages")
            self.opened.sql("DELETE FROM attempts")
            self.opened.sql("DELETE FROM recipients")
            self.post()
            self.attempt(seconds)
            self.attempt(seconds, last=True)
            self.opened.sql("UPDATE messages SET state = 'failed'")
            self.opened.sql("UPDATE recipients SET state = 'failed'")
            self.post()
            self.attempt(seconds)
            (claimed,) = result(self.store.claim(self.account.pk, 1, self.clock.now()))
            result(self.store.begin([(claimed.pk, claimed.token)], "acct", self.clock.now()))
            whole = self.told()
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
                [step[:3] for step in whole],
            )

            self.opened.sql("DELETE FROM events WHERE kind = 'intent'")
            self.assertEqual(whole, self.told())
            self.assertNotIn("event_id", self.timeline()[1])

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
