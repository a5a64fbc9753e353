"""What a service does that has its store, and cannot write to it yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import load
from mailproxy.errors import StoreBusy, StoreUnavailable
from mailproxy.service import AGAIN, MailProxy


class Away:
    """A store whose first writes end with *failures*."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.acts: list[str] = []

    async def suspend(self, *_: Any) -> None:
        self.acts.append("suspend")

    async def declare_accounts(self, *_: Any) -> None:
        self.acts.append("declare")
        if self._failures:
            raise self._failures.pop(0)

    def subscribe(self, _: Any) -> None:
        self.acts.append("go")


class Startable:
    """Has any part, and each can be started."""

    def __getattr__(self, name: str) -> Any:
        return Startable()

    def startService(self) -> None:
        """It goes."""


class StartTests(SynchronousTestCase):
    def begin(self, store: Away, active: str) -> tuple[MailProxy, Clock, Deferred[None]]:
        clock = Clock()
        settings = load({"GMP_SCHEDULER_ACTIVE": active})
        service = MailProxy(clock, settings, lambda: settings)
        # Of the other parts only matters that they are started when the store has been told.
        parts: Any = Startable()
        parts.store = store
        parts.book = SimpleNamespace(ready=lambda: succeed(None), any_signing=False)
        service._parts = parts
        return service, clock, Deferred.fromCoroutine(service._go(parts))

    def test_away_for_a_while(self) -> None:
        """It tells the store again, and only then lets mail move."""
        store = Away(StoreBusy("late"), StoreUnavailable("away"))
        _, clock, done = self.begin(store, "no")
        self.assertEqual(["suspend", "declare"], store.acts)
        clock.advance(AGAIN)
        self.assertNoResult(done)
        clock.advance(AGAIN)
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(["suspend", "declare"] * 3 + ["go"], store.acts)

    def test_stopped_meanwhile(self) -> None:
        """Stopped before the store is back, nothing moves."""
        store = Away(StoreBusy("late"))
        service, clock, done = self.begin(store, "yes")
        service._parts = None
        clock.advance(AGAIN)
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(["declare"], store.acts)

    def test_a_stop_does_not_wait_for_it(self) -> None:
        """Stopped while it waits to tell the store again, it leaves no timer."""
        service, clock, done = self.begin(Away(StoreBusy("late")), "yes")
        pause, service._parts = service._pause, None
        assert pause is not None
        pause.cancel()  # as stopService does
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual([], clock.getDelayedCalls())

    def test_something_else(self) -> None:
        """What does not pass by itself ends the start."""
        _, _, done = self.begin(Away(ValueError("a bug")), "yes")
        self.failureResultOf(done, ValueError)
