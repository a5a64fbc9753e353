"""
A thousand lost final replies, over the store as it is on disk: what each policy makes of them.

The upstream takes every message and never answers its end. Nobody on our side knows whether it was
accepted; the upstream does, and what it has is what the copies are counted in.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailproxy.acts import Act, Operation
from mailproxy.dispatch.dispatcher import Dispatcher, DispatchOptions
from mailproxy.interfaces import ICourier, IFeed
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed, Outcome, Reply
from mailproxy.records import ListQuery
from mailproxy.states import OnUncertain, Phase
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

#: Messages of each policy: a thousand replies are lost at the first attempts alone.
EACH = 334
#: Where it is not about how many.
FEW = 20

OK = Reply(250, "2.0.0 Ok")


def lost(message: Claimed) -> Outcome:
    """The final dot was handed over, and no reply came within the time for it."""
    oks = (OK,) * len(message.recipients)
    return Outcome(Phase.FINAL, OK, oks, Reply(354, "Go on"), None, error="no reply in 600 s")


@implementer(ICourier)
class Deaf:
    """Carries everything there, and hears nothing back. :ivar copies: what is there, by id."""

    def __init__(self) -> None:
        self.copies: Counter[str] = Counter()
        self.answer = lost

    def completes(self, message: Claimed, feed: IFeed) -> bool:
        return False

    async def carry(self, account: Account, feed: IFeed) -> None:
        while (message := feed.next()) is not None:
            if await feed.begin(message):
                self.copies[message.id] += 1
                await feed.finish(message, self.answer(message))

    async def close(self, deadline: float) -> None:
        """There is nothing to close."""


class LostRepliesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.courier = Deaf()
        self.dispatcher = Dispatcher(
            self.store, self.courier, self.clock, random.Random(1), Metrics(), DispatchOptions()
        )
        self.put_accounts()
        self.dispatcher.startService()
        self.addCleanup(self.stop)

    def put_accounts(self) -> None:
        """Declare an account of each policy; declared anew, one that rests goes on at once."""
        for policy in OnUncertain:
            spec = account_spec(
                id=policy.value, on_uncertain=policy, retry_delays=(60.0,), max_sessions=1
            )
            result(self.store.put_account(spec, self.clock.now()))

    def post(self, count: int) -> None:
        """Post so many messages of each policy."""
        for policy in OnUncertain:
            name = policy.value
            messages = [new_message(id=f"{name}-{n}", account_id=name) for n in range(count)]
            result(self.store.enqueue(messages, self.clock.now(), 60.0))

    def stop(self) -> None:
        done = self.dispatcher.stopService()
        self.clock.pump([0.02] * 60)
        self.successResultOf(done)

    def wait(self, seconds: float) -> None:
        """
        Let time pass, in steps that let everything have its turn.

        That every reply is lost makes the accounts rest; somebody sees to that.
        """
        for _ in range(int(seconds / 20.0)):
            self.put_accounts()
            self.clock.advance(20.0)

    def timeline(self, id: str) -> list[dict[str, Any]]:
        return result(self.store.timeline("default", id))

    def states(self) -> Counter[tuple[str, str]]:
        records = result(self.store.messages(ListQuery(limit=10 * EACH)))
        return Counter((each.account_id, each.state) for each in records)

    def test_lost(self) -> None:
        """
        Those held or failed leave once, those retried twice and never again, however long one
        waits; the timeline admits each copy, and what nobody knows is reported as that.
        """
        self.post(EACH)
        self.wait(10.0 * EACH)
        once = {f"{policy}-{n}": 1 for policy in ("hold", "fail") for n in range(EACH)}
        twice = {f"retry-{n}": 2 for n in range(EACH)}
        self.assertEqual(once | twice, dict(self.courier.copies))
        self.assertEqual(
            {("hold", "uncertain"): EACH, ("retry", "uncertain"): EACH, ("fail", "failed"): EACH},
            self.states(),
        )
        for id, count in self.courier.copies.items():
            kinds = [step["kind"] for step in self.timeline(id)]
            expected = ["accepted", *["intent", "uncertain"] * count]
            # What is deferred besides waited for its account, and nothing of it was begun.
            self.assertEqual(expected, [kind for kind in kinds if kind != "deferred"], id)
        self.check_reports()

        self.clock.advance(86_400.0)
        self.wait(600.0)
        self.assertEqual(once | twice, dict(self.courier.copies))

    def check_reports(self) -> None:
        items = result(self.store.unreported("default", 10 * EACH))
        self.assertEqual(3 * EACH, len(items))
        for item in items:
            final = item.account_id == "fail"
            told = item.error if final else item.deferred_reason
            self.assertTrue((told or "").startswith("uncertain: "), item)
            self.assertEqual((None, not final), (item.sent_ts, item.error_ts is None), item)

    def test_posted_again(self) -> None:
        """Whatever the policy, an application that posts all of it again makes no further copy."""
        self.post(FEW)
        self.wait(600.0)
        before = dict(self.courier.copies)
        self.post(FEW)
        self.wait(600.0)
        self.assertEqual(before, dict(self.courier.copies))

    def test_resent(self) -> None:
        """An operator's resend makes one further copy, which the timeline admits."""
        self.post(FEW)
        self.wait(600.0)
        for policy in OnUncertain:
            asked = Operation(Act.RESEND, self.clock.now(), "admin")
            answer = result(self.store.act("default", f"{policy}-0", asked))
            assert answer is not None
            self.assertTrue(answer.changed)
        self.wait(600.0)
        for name, copies in (("hold", 2), ("retry", 3), ("fail", 2)):
            id = f"{name}-0"
            self.assertEqual(copies, self.courier.copies[id], id)
            acts = [step["data"].get("act") for step in self.timeline(id)]
            self.assertEqual(1, acts.count("resend"), id)
