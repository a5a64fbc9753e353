"""The dispatcher over a store in memory and a courier that does as told."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailproxy.clock import SystemClock
from mailproxy.dispatch.dispatcher import Dispatcher, DispatchOptions
from mailproxy.errors import AccountFault, StoreUnavailable
from mailproxy.interfaces import ICourier, IFeed
from mailproxy.log import hide
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed, NewMessage, Outcome, Reply
from mailproxy.states import Phase
from tests.build import account_spec, new_message
from tests.fake_store import FakeStore
from tests.fakes import EPOCH, FakeClock, result

OK = Reply(250, "2.0.0 queued")
NO = Reply(550, "5.1.1 no such user")
GO = Reply(354, "go")


def put_off(message: Claimed) -> Outcome:
    return Outcome(Phase.FINAL, OK, (OK,), GO, Reply(451, "4.3.0 later"))


def delivered(message: Claimed) -> Outcome:
    count = len(message.recipients)
    return Outcome(Phase.FINAL, OK, (OK,) * count, Reply(354, "go"), OK)


@implementer(ICourier)
class ScriptedCourier:
    """
    Carries as told.

    ``answer`` makes the outcome of a message; ``fault`` is raised for every carry while it is set;
    while ``gate`` is a Deferred, bodies that were begun, and faults, wait for it.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Claimed], Outcome] = delivered
        self.fault: AccountFault | None = None
        self.gate: Deferred[None] | None = None
        self.begun: list[str] = []
        self.carries: list[str] = []
        self.raises: dict[str, Exception] = {}
        self.closed: list[float] = []

    def completes(self, message: Claimed, feed: IFeed) -> bool:
        return False

    async def carry(self, account: Account, feed: IFeed) -> None:
        self.carries.append(account.id)
        if (fault := self.fault) is not None:
            await self._wait()
            raise fault
        while (message := feed.next()) is not None:
            if message.id in self.raises:
                await feed.broken(message, self.raises[message.id])
                continue
            if not await feed.begin(message):
                continue
            self.begun.append(message.id)
            await self._wait()
            await feed.finish(message, self.answer(message))

    async def _wait(self) -> None:
        if self.gate is not None:
            waiting: Deferred[None] = Deferred()
            self.gate.addCallback(_pass, waiting)
            await waiting

    async def close(self, deadline: float) -> None:
        self.closed.append(deadline)


class Settable(SystemClock):
    """The clock of the program on a machine whose wall clock is set: *offset* and *mono*."""

    def __init__(self, mono: Clock, offset: list[float]) -> None:
        super().__init__(mono, lambda: offset[0] + mono.seconds())
        self.pump = mono.pump
        self.advance = mono.advance


class ReadFailingStore(FakeStore):
    """
    A store whose next *unread* readings of an account fail.

    :ivar claims: accounts claimed from, and *refused*: messages whose intent was, in order.
    """

    unread = 0

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.claims: list[int] = []
        self.refused: list[int] = []

    async def claim(self, account_pk: int, *args: Any, **how: Any) -> list[Claimed]:
        self.claims.append(account_pk)
        return await super().claim(account_pk, *args, **how)

    async def begin(self, intents: Any, *args: Any, **how: Any) -> list[bool]:
        begun = await super().begin(intents, *args, **how)
        self.refused += [pk for (pk, _), good in zip(intents, begun, strict=True) if not good]
        return begun

    async def account(self, pk: int) -> Account | None:
        if self.unread:
            self.unread -= 1
            raise StoreUnavailable("locked")
        return await super().account(pk)


def _pass(value: None, waiting: Deferred[None]) -> None:
    waiting.callback(None)


class DispatchCase(SynchronousTestCase):
    """A dispatcher, started; ``options`` are its own."""

    options = DispatchOptions()

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store: FakeStore = ReadFailingStore(self.clock)
        self.courier = ScriptedCourier()
        self.metrics = Metrics()
        self.account = result(self.store.put_account(account_spec(), self.clock.now()))
        self.start()

    def start(self) -> None:
        self.dispatcher = Dispatcher(
            self.store, self.courier, self.clock, random.Random(1), self.metrics, self.options
        )
        self.dispatcher.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        if self.dispatcher.running:
            done = self.dispatcher.stopService()
            self.clock.pump([0.02] * 60)
            self.successResultOf(done)

    def add(self, *ids: str, **overrides: Any) -> None:
        messages: list[NewMessage] = [new_message(id=id, **overrides) for id in ids]
        result(self.store.enqueue(messages, self.clock.now(), 5.0))

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


class DispatcherTests(DispatchCase):
    def test_new_mail_leaves_at_once(self) -> None:
        """An accepted message is sent without any time passing."""
        self.add("a", "b")
        self.assertEqual({"a": "sent", "b": "sent"}, self.store.states())

    def test_mail_from_before_the_start_leaves(self) -> None:
        """What waited when the dispatcher started is found without being told."""
        self.stop()
        self.add("a")
        self.start()
        self.assertEqual({"a": "sent"}, self.store.states())

    def test_scheduled_mail_leaves_at_its_instant(self) -> None:
        """A message with a time to wait for leaves then, not at the poll after it."""
        self.add("later", not_before=self.clock.now() + 10.25)
        self.clock.pump([0.5] * 20)
        self.assertEqual({"later": "queued"}, self.store.states())
        self.clock.advance(0.26)
        self.assertEqual({"later": "sent"}, self.store.states())

    def test_a_deferred_message_is_tried_again(self) -> None:
        """451, then 250: deferred, then sent by the schedule, with two attempts."""
        self.courier.answer = lambda _: Outcome(Phase.MAIL, Reply(451, "4.3.0 later"))
        self.add("a")
        self.assertEqual({"a": "deferred"}, self.store.states())
        self.courier.answer = delivered
        self.clock.pump([0.5] * 140)
        self.assertEqual({"a": "sent"}, self.store.states())
        self.assertEqual(["a", "a"], self.courier.begun)
        self.assertEqual(
            1.0, self.sample("gmp_deferred_total", tenant_id="default", account_id="acct")
        )

    def test_the_urgent_overtakes_what_is_not_begun(self) -> None:
        """Priority 0 leaves before everything whose intent is not stored."""
        self.courier.gate = Deferred()
        self.add(*[f"bulk{n}" for n in range(200)], priority=3)
        begun = len(self.courier.begun)
        self.assertLess(begun, 20)
        self.add("now", priority=0)
        gate, self.courier.gate = self.courier.gate, None
        gate.callback(None)
        self.assertLess(self.courier.begun.index("now"), begun + 1)
        self.assertEqual({"sent"}, set(self.store.states().values()))

    def test_nothing_starves(self) -> None:
        """While more urgent mail keeps coming, the oldest message gets its turn."""
        self.courier.gate = Deferred()
        self.add(*[f"filler{n}" for n in range(8)], priority=1)
        self.add("patient", priority=3)
        self.clock.advance(1.0)
        self.add(*[f"bulk{n}" for n in range(600)], priority=1)
        gate, self.courier.gate = self.courier.gate, None
        gate.callback(None)
        place = self.courier.begun.index("patient")
        self.assertLess(place, 300)
        self.assertEqual(609, len(self.courier.begun))

    def test_a_broken_account_is_parked_and_probed(self) -> None:
        """No session: the account is parked, told once, probed with one message, then resumed."""
        self.courier.fault = AccountFault("connect", "refused")
        self.add(*[f"m{n}" for n in range(10)])
        account = result(self.store.account(self.account.pk))
        assert account is not None
        self.assertEqual("connect: refused", account.parked_reason)
        self.assertEqual(
            {"deferred", "queued"} & set(self.store.states().values()),
            set(self.store.states().values()),
        )
        carries = len(self.courier.carries)
        self.clock.pump([0.5] * 100)
        self.assertEqual(carries, len(self.courier.carries))
        self.clock.pump([0.5] * 30)
        self.assertEqual(carries + 1, len(self.courier.carries))
        self.courier.fault = None
        self.clock.pump([1.0] * 400)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        self.assertEqual(
            0.0, self.sample("mailproxy_accounts_parked", tenant_id="default", account_id="acct")
        )

    def test_after_an_outage_all_sessions_are_opened_again(self) -> None:
        """What refused sessions was the outage: the account has all of them back at once."""
        self.courier.gate = Deferred()
        self.courier.fault = AccountFault("connect", "refused")
        self.add(*[f"m{n}" for n in range(60)])
        self.courier.fault = None
        gate, self.courier.gate = self.courier.gate, None
        gate.callback(None)
        self.clock.pump([1.0] * 400)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        self.courier.gate = Deferred()
        self.courier.begun.clear()
        self.add(*[f"n{n}" for n in range(60)])
        self.assertEqual(self.account.max_sessions, len(self.courier.begun))
        gate, self.courier.gate = self.courier.gate, None
        gate.callback(None)

    def test_a_changed_account_is_tried_at_once(self) -> None:
        """Changing a parked account resumes it without waiting for the probe."""
        self.courier.fault = AccountFault("auth", "535 no", 535)
        self.add("a")
        labels = {"tenant_id": "default", "account_id": "acct"}
        self.assertEqual(1.0, self.sample("mailproxy_accounts_parked", **labels))
        self.courier.fault = None
        result(self.store.put_account(account_spec(host="other.example.net"), self.clock.now()))
        self.assertEqual({"a": "sent"}, self.store.states())
        self.assertEqual(0.0, self.sample("mailproxy_accounts_parked", **labels))

    def test_a_message_that_raises_three_times_is_held(self) -> None:
        """A message nobody can handle is quarantined; its neighbours leave."""
        self.courier.raises["bad"] = ValueError("damaged payload")
        self.add("good1", "bad", "good2")
        self.assertEqual({"good1": "sent", "bad": "held", "good2": "sent"}, self.store.states())
        self.assertEqual(1.0, self.sample("mailproxy_quarantined_total"))

    def test_a_message_that_was_taken_back_is_not_quarantined(self) -> None:
        """What cannot be read any more because it was deleted alarms nobody."""
        self.courier.raises["bad"] = ValueError("the stored content is damaged")
        self.store.stall("claim", stored=True)
        self.add("bad")
        result(self.store.remove("default", ["bad"], self.clock.now()))
        self.store.resume()
        self.assertEqual({}, self.store.states())
        self.assertEqual(0.0, self.sample("mailproxy_quarantined_total"))

    def test_a_quarantined_message_keeps_its_traceback(self) -> None:
        """The event says what was raised and where, without this process's secrets."""
        hide("s3cret-of-the-account")
        self.courier.raises["bad"] = ValueError("damaged s3cret-of-the-account")
        self.add("bad")
        held = result(self.store.timeline("default", "bad"))[-1]
        self.assertEqual("held", held["kind"])
        self.assertIn("ValueError: damaged", held["data"]["traceback"])
        self.assertNotIn("s3cret-of-the-account", str(held))

    def test_f31_each_recipient_has_its_own_end(self) -> None:
        """F31: 250, 450 and 550 in one envelope: sent, tried again alone, failed, and told so."""
        answers = {"a@x.test": OK, "b@x.test": Reply(450, "4.2.1 later"), "c@x.test": NO}
        asked: list[list[str]] = []

        def answer(message: Claimed) -> Outcome:
            asked.append([each.address for each in message.recipients])
            replies = tuple(answers[each.address] for each in message.recipients)
            return Outcome(Phase.FINAL, OK, replies, Reply(354, "go"), OK)

        self.courier.answer = answer
        self.add("m", to=list(answers))
        self.assertEqual({"m": "deferred"}, self.store.states())
        answers["b@x.test"] = OK
        self.clock.pump([1.0] * 70)
        self.assertEqual([list(answers), ["b@x.test"]], asked)
        self.assertEqual({"m": "failed"}, self.store.states())
        (item,) = result(self.store.unreported("default", 10))
        self.assertIn("c@x.test", item.error or "")
        told = {each.address: each.state for each in item.recipients}
        self.assertEqual({"a@x.test": "sent", "b@x.test": "sent", "c@x.test": "failed"}, told)

    def test_f49_the_clock_of_the_machine_is_set(self) -> None:
        """F49: an hour or a year, either way: nothing expires, due mail leaves, retries come."""
        for step in (3600.0, -3600.0, 365 * 86400.0, -365 * 86400.0):
            with self.subTest(step=step):
                self.stop()
                mono, offset = Clock(), [EPOCH]
                self.clock = cast(FakeClock, Settable(mono, offset))
                self.store = ReadFailingStore(self.clock)
                self.courier = ScriptedCourier()
                self.account = result(self.store.put_account(account_spec(), self.clock.now()))
                self.start()
                self.courier.answer = put_off
                self.add("waits")
                offset[0] += step
                mono.pump([1.0] * 65)
                self.courier.answer = delivered
                self.add("new")
                self.assertEqual("sent", self.store.states()["new"])
                mono.pump([1.0] * 700)
                self.assertEqual({"waits": "sent", "new": "sent"}, self.store.states())

    def test_nothing_is_begun_while_an_outcome_cannot_be_stored(self) -> None:
        """The store refuses an outcome: it is kept, and no further body leaves before it is in."""
        self.store.fail_next(StoreUnavailable("disk full"), "record", times=3)
        self.add("a")
        self.add("b", "c")
        self.assertEqual(["a"], self.courier.begun)
        self.clock.pump([0.1] * 20)
        self.assertEqual({"a": "sent", "b": "sent", "c": "sent"}, self.store.states())
        self.assertEqual(3, len(self.courier.begun))

    def test_a_store_that_cannot_claim_is_asked_again(self) -> None:
        """A failed claim is repeated by the poll."""
        self.store.fail_next(StoreUnavailable("locked"), "claim", times=2)
        self.add("a")
        self.assertEqual({"a": "queued"}, self.store.states())
        self.clock.pump([0.5] * 4)
        self.assertEqual({"a": "sent"}, self.store.states())

    def test_a_lease_the_store_did_not_take_back_is_given_back_later(self) -> None:
        """The store fails for an intent and for the release after it: the message still leaves."""
        for method in ("begin", "release"):
            self.store.fail_next(StoreUnavailable("disk full"), method)
        self.add("a")
        self.assertEqual({"a": "queued"}, self.store.states())
        self.clock.pump([0.5] * 4)
        self.assertEqual({"a": "sent"}, self.store.states())

    def test_a_claim_whose_account_could_not_be_read_is_not_forgotten(self) -> None:
        """The store fails between the claim and the account: the next poll goes on from there."""
        assert isinstance(self.store, ReadFailingStore)
        self.store.unread = 1
        self.add("a")
        self.assertEqual({"a": "queued"}, self.store.states())
        self.clock.pump([0.5] * 4)
        self.assertEqual({"a": "sent"}, self.store.states())

    def test_a_dead_process_leaves_uncertainty(self) -> None:
        """An intent without outcome from before the start is uncertain, and tried once more."""
        self.courier.gate = Deferred()
        self.add("a")
        self.assertEqual({"a": "in_flight"}, self.store.states())
        self.store = self.store.crash()
        self.courier = ScriptedCourier()
        self.start()
        self.assertEqual({"a": "deferred"}, self.store.states())
        self.clock.pump([0.5] * 140)
        self.assertEqual({"a": "sent"}, self.store.states())
        kinds = [e["kind"] for e in result(self.store.timeline("default", "a"))]
        self.assertEqual(1, kinds.count("uncertain"), kinds)

    def test_draining_keeps_its_leases(self) -> None:
        """While bodies have time to end, the node goes on saying that it lives; then it stops."""
        gate: Deferred[None] = Deferred()
        self.courier.gate = gate
        self.add("a")
        done = Deferred.fromCoroutine(self.dispatcher.drain(100.0))
        self.store.writes.clear()
        self.clock.pump([1.0] * 60)
        self.assertGreaterEqual(self.store.writes.count("heartbeat"), 3)
        gate.callback(None)
        self.clock.pump([0.02] * 3)
        self.successResultOf(done)
        self.assertEqual({"a": "sent"}, self.store.states())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_draining_gives_back_what_is_not_begun(self) -> None:
        """On the way down nothing new is begun, and what was claimed is free for the next start."""
        self.courier.gate = Deferred()
        self.add(*[f"m{n}" for n in range(100)])
        begun = list(self.courier.begun)
        done = Deferred.fromCoroutine(self.dispatcher.drain(5.0))
        self.assertEqual([5.0], self.courier.closed)
        gate, self.courier.gate = self.courier.gate, None
        gate.callback(None)
        self.clock.pump([0.02] * 10)
        self.successResultOf(done)
        self.assertEqual(begun, self.courier.begun)
        states = self.store.states()
        self.assertEqual({"sent"}, {states[id] for id in begun})
        self.assertEqual(100 - len(begun), list(states.values()).count("queued"))
        self.stop()
        self.start()
        self.assertEqual({"sent"}, set(self.store.states().values()))

    def test_accounts_do_not_wait_for_each_other(self) -> None:
        """While one account hangs with much waiting, another's mail leaves at once."""
        result(self.store.put_account(account_spec(id="other"), self.clock.now()))
        self.courier.gate = Deferred()
        self.add(*[f"m{n}" for n in range(300)], account_id="acct")
        gate, self.courier.gate = self.courier.gate, None
        self.add("quick", account_id="other")
        self.assertEqual("sent", self.store.states()["quick"])
        gate.callback(None)


class TestModeTests(DispatchCase):
    """In test mode nothing moves by itself."""

    options = DispatchOptions(test_mode=True)

    def test_run_now_lets_what_is_due_go_once(self) -> None:
        """Nothing leaves before run-now; what comes after it waits for the next."""
        self.add("a")
        self.clock.pump([0.5] * 4)
        self.assertEqual({"a": "queued"}, self.store.states())
        self.dispatcher.run_now()
        self.assertEqual({"a": "sent"}, self.store.states())
        self.clock.advance(1.0)
        self.add("b")
        self.clock.pump([0.5] * 4)
        self.assertEqual({"a": "sent", "b": "queued"}, self.store.states())
