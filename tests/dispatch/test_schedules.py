"""An account's own retry schedule and age limit, from its declaration to its attempts."""

from __future__ import annotations

from itertools import pairwise

from mailproxy.dispatch.retry import JITTER
from mailproxy.model import Claimed, Outcome
from tests.build import account_spec
from tests.dispatch.test_dispatcher import DispatchCase, put_off
from tests.fakes import result


class SchedulesTests(DispatchCase):
    def setUp(self) -> None:
        super().setUp()
        self.tried: list[tuple[str, float]] = []
        self.courier.answer = self.answer

    def answer(self, message: Claimed) -> Outcome:
        self.tried.append((message.id, self.clock.now()))
        return put_off(message)

    def pauses(self, id: str) -> list[float]:
        when = [at for name, at in self.tried if name == id]
        return [after - before for before, after in pairwise(when)]

    def check(self, expected: float, pause: float) -> None:
        self.assertLessEqual(abs(expected - pause), expected * JITTER + 0.5)

    def test_of_its_own(self) -> None:
        """Each account has its own pauses, the last repeated, and its mail its own end."""
        short = account_spec(id="short", retry_delays=(10.0, 100.0), max_age_seconds=365.0)
        result(self.store.put_account(short, self.clock.now()))
        self.add("own", account_id="short")
        self.add("usual", account_id="acct")
        self.clock.pump([0.5] * 900)
        self.assertEqual({"own": "expired", "usual": "deferred"}, self.store.states())
        for expected, pause in zip((10.0, 100.0, 100.0, 100.0), self.pauses("own"), strict=True):
            self.check(expected, pause)
        for expected, pause in zip((60.0, 300.0), self.pauses("usual"), strict=True):
            self.check(expected, pause)

    def test_changed_meanwhile(self) -> None:
        """A schedule that is declared while mail waits holds from its next attempt on."""
        self.add("m")
        changed = account_spec(retry_delays=(5.0,))
        result(self.store.put_account(changed, self.clock.now()))
        self.clock.pump([0.5] * 160)
        first, *others = self.pauses("m")
        self.check(60.0, first)
        self.assertGreater(len(others), 0)
        for pause in others:
            self.check(5.0, pause)
