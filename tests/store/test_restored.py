"""A database that is a copy from earlier: what is unfinished is held, on both stores."""

from __future__ import annotations

import random
from typing import Any, cast

from twisted.trial.unittest import TestCase

from mailproxy.acts import CLOSED_SENT, HELD, RESTORED, Act, Acted, Group, Operation
from mailproxy.interfaces import IStore
from mailproxy.states import EventKind, RecipientState
from mailproxy.store import restored
from mailproxy.store.whole import WholeStore
from tests.build import new_message, refused, unknown
from tests.contracts_base import StoreContract
from tests.fakes import FakeClock
from tests.store.opened import Opened, fresh
from tests.store.postgres_opened import Opened as OnServer


class RestoredContract(StoreContract):
    """Runs on either store."""

    opened: Any

    async def reopen_store(self) -> IStore:
        return cast("IStore", self.opened.killed())

    async def add_tenant(self, tenant_id: str, *, active: bool = True) -> None:
        self.opened.add_tenant(tenant_id, active=active)

    async def held(self) -> int:
        """Hold what is unfinished. :return: how many, as it was told last, too."""
        told: list[int] = []
        store = cast("WholeStore", self.store)
        count = await store.hold_unfinished(self.now, told.append)
        self.assertEqual(count, told[-1])
        self.assertEqual(sorted(told), told)
        return count

    async def act(self, act: Act, id: str = "m1") -> Acted:
        found = await self.store.act("default", id, Operation(act, self.now))
        assert found is not None
        return found

    async def test_all_that_waits(self) -> None:
        """Queued, deferred, leased: all of it is held, nothing is claimed, what ended stays."""
        await self.deliver(id="sent")
        await self.deliver(refused(), id="failed")
        await self.post(id="deferred")
        await self.defer(await self.claim_one())
        await self.post(id="queued", priority=0)
        await self.post(id="later", not_before=self.now + 900.0, priority=3)
        await self.post(id="leased", priority=1)
        (claimed,) = await self.claim(limit=1)
        await self.killed()

        self.assertEqual(4, await self.held())

        self.later(1000.0)
        self.assertEqual([], await self.claim())
        states = {each.id: each.state for each in await self.listed()}
        waited = dict.fromkeys(("deferred", "queued", "later", "leased"), "held")
        self.assertEqual({"sent": "sent", "failed": "failed"} | waited, states)
        self.assertEqual(RESTORED, (await self.stored("queued")).deferred_reason)
        self.assertEqual([False], await self.begin(claimed))

    async def test_reports_go_on(self) -> None:
        """What had ended and was not reported is offered still, with the same event id."""
        await self.deliver(id="sent")
        before = await self.offered()
        await self.killed()

        self.assertEqual(0, await self.held())

        after = await self.offered()
        self.assertEqual([item.event_id for item in before], [item.event_id for item in after])

    async def test_released(self) -> None:
        """A release lets it go at once; its age did not run meanwhile; the timeline says why."""
        await self.post()
        await self.held()
        self.later(10 * 86_400.0)
        self.assertEqual(("queued", True), _told(await self.act(Act.RELEASE)))
        await self.finish(await self.claim_one())
        self.assertEqual("sent", await self.state())
        events = await self.store.timeline("default", "m1")
        self.assertEqual(
            ["accepted", "held", "released", "intent", "outcome"],
            [str(event["kind"]) for event in events],
        )
        self.assertEqual({"reason": RESTORED}, events[1]["data"])

    async def test_closed(self) -> None:
        """What turns out to have been sent is closed as that; another hold is not closed so."""
        await self.post()
        await self.held()
        self.assertEqual(("sent", True), _told(await self.act(Act.CLOSE_AS_SENT)))
        (item,) = await self.report()
        self.assertIsNotNone(item.sent_ts)
        self.assertEqual(CLOSED_SENT, (await self.stored()).recipients[0].reply)

        await self.post(id="m2")
        await self.act(Act.HOLD, "m2")
        self.assertEqual(("held", False), _told(await self.act(Act.CLOSE_AS_SENT, "m2")))

    async def test_all_closed(self) -> None:
        """The mail of an account is closed as a whole, and what is held otherwise stays held."""
        for n in range(3):
            await self.post(id=f"m{n}")
        await self.held()
        await self.post(id="own")
        await self.act(Act.HOLD, "own")
        group = Group("default", account_id="acct")
        await self.store.act_on_all(group, Operation(Act.CLOSE_AS_FAILED, self.now))
        await self.upkeep()
        states = {each.id: each.state for each in await self.listed()}
        self.assertEqual({"m0": "failed", "m1": "failed", "m2": "failed", "own": "held"}, states)

    async def test_under_way(self) -> None:
        """A body that was under way is held as well: no recovery sends it once more."""
        await self.post(to=("a@example.org", "b@example.org"))
        await self.begin(await self.claim_one())
        await self.killed()

        self.assertEqual(1, await self.held())

        self.assertEqual([], await self.store.abandoned(self.now))
        self.assertEqual("held", await self.state())
        event = (await self.store.timeline("default", "m1"))[-1]
        self.assertEqual({"reason": RESTORED, "begun": True}, event["data"])
        await self.act(Act.RELEASE)
        await self.finish(await self.claim_one())
        self.assertEqual("sent", await self.state())

    async def test_held_before(self) -> None:
        """What an operator held before is told apart, for whoever releases it."""
        await self.post()
        await self.act(Act.HOLD)
        self.assertEqual(1, await self.held())
        self.assertEqual(f"{RESTORED}; before: {HELD}", (await self.stored()).deferred_reason)
        self.assertEqual(["accepted", "held", "held"], await self.kinds())

    async def test_uncertain(self) -> None:
        """An uncertain message waits for an operator as it is."""
        await self.post()
        await self.finish(await self.claim_one(), unknown(), kind=EventKind.UNCERTAIN)
        self.assertEqual(0, await self.held())
        self.assertEqual("uncertain", await self.state())
        self.assertEqual(RecipientState.UNCERTAIN.value, (await self.stored()).recipients[0].state)

    async def test_again(self) -> None:
        """Repeated it changes nothing, whatever was released in between is held again."""
        await self.post()
        await self.post(id="m2")
        self.assertEqual(2, await self.held())
        self.assertEqual(0, await self.held())
        await self.act(Act.RELEASE, "m2")
        self.assertEqual(1, await self.held())

    async def test_many(self) -> None:
        """More than one step takes."""
        await self.submit(*[new_message(id=f"m{n}") for n in range(restored.STEP + 3)])
        self.assertEqual(restored.STEP + 3, await self.held())
        self.assertEqual({"held"}, {each.state for each in await self.listed()})

    async def test_decisions_under_way(self) -> None:
        """A requeue of a whole account that had begun is given up; a cancellation goes on."""
        await self.deliver(refused(), id="failed")
        await self.post(id="waits")
        group = Group("default", account_id="acct")
        for act in (Act.REQUEUE, Act.CANCEL):
            await self.store.act_on_all(group, Operation(act, self.now))
        await self.killed()

        self.assertEqual(0, await self.held())

        await self.upkeep()
        states = {each.id: each.state for each in await self.listed()}
        self.assertEqual({"failed": "failed", "waits": "cancelled"}, states)


def _told(answer: Acted) -> tuple[str, bool]:
    return answer.state, answer.changed


class EmbeddedRestoredTests(RestoredContract, TestCase):
    async def make_store(self, clock: FakeClock) -> IStore:
        self.opened = Opened(fresh(self), clock, random.Random(7))
        self.addCleanup(self.opened.close)
        return cast("IStore", self.opened.store)


class ServerRestoredTests(RestoredContract, TestCase):
    async def make_store(self, clock: FakeClock) -> IStore:
        self.opened = OnServer(clock, random.Random(7))
        self.addCleanup(self.opened.close)
        return cast("IStore", self.opened.store)
