"""The dispatcher at a rate limit, on virtual time: over the fake store and over the real one."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.dispatcher import Dispatcher, DispatchOptions
from mailproxy.interfaces import IFeed, IStore
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed, NewMessage, Outcome
from mailproxy.records import ListQuery
from mailproxy.tenancy import RateLimits, Tenant
from tests.build import account_spec, new_message
from tests.dispatch.test_dispatcher import ScriptedCourier, delivered
from tests.fake_store import FakeStore
from tests.fakes import EPOCH, FakeClock, result
from tests.store.opened import Opened, fresh

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object


class TimingCourier(ScriptedCourier):
    """Notes when each body was begun, and how often an intent was refused."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.times: list[tuple[str, float]] = []
        self.refused = 0

    async def carry(self, account: Account, feed: IFeed) -> None:
        self.carries.append(account.id)
        while (message := feed.next()) is not None:
            if not await feed.begin(message):
                self.refused += 1
                continue
            self.times.append((message.id, self._clock.seconds()))
            await feed.finish(message, self.answer(message))


class LimitCases(_Base):
    """:ivar calls: how often each method of the store was called."""

    clock: FakeClock
    store: IStore

    def make_store(self) -> IStore:
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = self.make_store()
        self.courier = TimingCourier(self.clock)
        self.claims: list[int] = []
        claim = self.store.claim

        def counted(pk: int, *args: Any, **kwargs: Any) -> Any:
            self.claims.append(pk)
            return claim(pk, *args, **kwargs)

        self.store.claim = counted  # type: ignore[method-assign,assignment]
        self.dispatcher = Dispatcher(
            self.store, self.courier, self.clock, random.Random(1), Metrics(), DispatchOptions()
        )
        self.dispatcher.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        done = self.dispatcher.stopService()
        self.clock.pump([0.02] * 60)
        self.successResultOf(done)

    def put(self, id: str = "acct", **options: Any) -> Account:
        spec = account_spec(id=id, options=json.dumps(options))
        return result(self.store.put_account(spec, self.clock.now()))

    def add(self, *ids: str, **overrides: Any) -> None:
        messages: list[NewMessage] = [new_message(id=id, **overrides) for id in ids]
        result(self.store.enqueue(messages, self.clock.now(), 5.0))

    def pass_time(self, seconds: float, step: float = 0.125) -> None:
        """Let time go by; timers stand at instants of their own in between."""
        self.clock.pump([step] * int(seconds / step))

    def states(self) -> dict[str, str]:
        return {each.id: each.state for each in result(self.store.messages(ListQuery()))}

    def test_exact_instants(self) -> None:
        """Each message leaves at the very instant at which the window has room for it."""
        self.put(limit_per_minute=2)
        self.add("a")
        self.pass_time(7)
        self.add("b", "c", "d", "e")
        self.pass_time(130)
        self.assertEqual([0.0, 7.0, 60.0, 67.0, 120.0], [at for _, at in self.courier.times])
        self.assertEqual({"sent"}, set(self.states().values()))

    def test_between_two_polls(self) -> None:
        """An instant that comes before the next poll is met, also where something is due later."""
        self.put(limit_per_minute=4)
        self.put("other")
        self.add("later", account_id="other", not_before=EPOCH + 60.4375)
        for n in range(4):
            self.add(f"m{n}", account_id="acct")
            self.clock.advance(0.0625)
        self.add(*(f"n{n}" for n in range(4)), account_id="acct")
        self.clock.pump([0.0625] * 1000)
        times = [at for _, at in self.courier.times]
        self.assertEqual([0.0, 0.0625, 0.125, 0.1875], times[:4])
        self.assertEqual([60.0, 60.0625, 60.125, 60.1875, 60.4375], times[4:])

    def test_waiting_costs_nothing(self) -> None:
        """While an account waits for its limit nobody claims of it, nor begins in vain."""
        account = self.put(limit_per_hour=3)
        self.add(*(f"m{n}" for n in range(200)))
        self.pass_time(10)
        self.claims.clear()
        self.pass_time(3000)
        self.assertEqual([], [pk for pk in self.claims if pk == account.pk])
        self.assertEqual(3, len(self.courier.times))
        self.assertEqual(0, self.courier.refused)

    def test_others_are_not_delayed(self) -> None:
        """Mail of another account leaves at once while much waits for a limit."""
        self.put(limit_per_day=1)
        self.put(id="other")
        self.add(*(f"m{n}" for n in range(200)), account_id="acct")
        self.pass_time(2)
        self.add("urgent", account_id="other")
        self.assertEqual(("urgent", 2.0), self.courier.times[-1])

    def test_urgent_goes_first(self) -> None:
        """Priority 0 obeys the limit, and has the room there is before all that waits."""
        self.put(limit_per_minute=1)
        self.add("m0", "m1", "m2")
        self.pass_time(10)
        self.add("urgent", priority=0)
        self.pass_time(60)
        self.assertEqual([("m0", 0.0), ("urgent", 60.0)], self.courier.times)

    def test_raised(self) -> None:
        """A limit that is raised lets mail go at once, one taken back all of it."""
        self.put(limit_per_hour=1)
        self.add("a", "b", "c", "d")
        self.pass_time(10)
        self.put(limit_per_hour=2)
        self.assertEqual(2, len(self.courier.times))
        self.pass_time(1)
        self.put()
        self.assertEqual(4, len(self.courier.times))

    def test_rejected(self) -> None:
        """At a limit of an account that rejects, what is due fails soon, and is reported."""
        self.put(limit_per_minute=2, limit_behavior="reject")
        self.add(*(f"m{n}" for n in range(120)))
        self.pass_time(2)
        states = list(self.states().values())
        self.assertEqual((2, 118), (states.count("sent"), states.count("failed")))
        self.assertEqual(2, len(self.courier.times))
        items = result(self.store.unreported("default", 500))
        errors = [item.error or "" for item in items if item.error_ts is not None]
        self.assertEqual(118, sum("rate limit exceeded (per minute)" in each for each in errors))

    def test_tenant(self) -> None:
        """The accounts of a limited tenant wait together, and all go on."""

        def limit(old: Tenant | None) -> Tenant:
            return attrs.evolve(old or Tenant("default"), rate_limits=RateLimits(3))

        self.put(id="a")
        self.put(id="b")
        result(self.store.change_tenant("default", limit, self.clock.now()))
        self.add("a0", "a1", account_id="a")
        self.add("b0", "b1", "b2", account_id="b")
        self.pass_time(100)
        self.assertEqual(3, len(self.courier.times))
        self.pass_time(3510)
        self.assertEqual([3600.0] * 2, [at for _, at in self.courier.times[3:]])

    def test_failed_attempts_count(self) -> None:
        """An attempt that was put off counts, and its retry waits for the limit like all mail."""

        def put_off(message: Claimed) -> Outcome:
            outcome = delivered(message)
            assert outcome.final is not None
            return attrs.evolve(outcome, final=attrs.evolve(outcome.final, code=451))

        self.put(limit_per_hour=1)
        self.courier.answer = put_off
        self.add("a")
        self.pass_time(600, 0.5)
        self.assertEqual(1, len(self.courier.times))
        self.courier.answer = delivered
        self.pass_time(3010, 0.5)
        self.assertEqual([("a", 0.0), ("a", 3600.0)], self.courier.times)


class FakeStoreTests(LimitCases, SynchronousTestCase):
    def make_store(self) -> IStore:
        return FakeStore(self.clock)


class RealStoreTests(LimitCases, SynchronousTestCase):
    def make_store(self) -> IStore:
        opened = Opened(fresh(self), self.clock)
        self.addCleanup(opened.close)
        self.assertEqual(EPOCH, self.clock.now())
        return opened.store
