"""The store's contract: the timeline of a message."""

from __future__ import annotations

from typing import Any

import msgspec

from mailproxy.model import Claimed, RecipientChange
from mailproxy.states import EventKind
from tests.build import accepted, put_off, record, refused
from tests.contracts_base import StoreContract

A, B = "a@example.org", "b@example.org"
TRACE = {"phase": "final", "final": "250 2.0.0 Ok", "tls": "TLSv1.3", "peer": "192.0.2.1:25"}


class TimelineContract(StoreContract):
    async def timeline(self, message_id: str = "m1") -> list[dict[str, Any]]:
        return await self.store.timeline("default", message_id)

    async def attempt(
        self, claimed: Claimed, *changes: RecipientChange, account: str = "acct", **more: Any
    ) -> None:
        """Begin, and two seconds later have it come to something."""
        self.assertEqual([True], await self.begin(claimed, account=account))
        self.later(2.0)
        said = [{"n": each.n, "state": each.state.value} for each in changes]
        item = record(
            claimed,
            *changes,
            at=self.now,
            outcome=msgspec.json.encode(TRACE),
            data=msgspec.json.encode({"recipients": said}),
            **more,
        )
        self.assertEqual([True], await self.store.record([item]))

    async def test_attempts(self) -> None:
        """Each attempt stands beside what it led to: account, seconds, replies, connection."""
        await self.post(to=[A, B])
        await self.attempt(
            await self.claim_one(),
            accepted(0),
            put_off(1),
            kind=EventKind.DEFERRED,
            next_at=self.now + 60,
            report=True,
            reason="451 greylisted",
            reason_key="x",
        )
        self.later(60)
        await self.attempt(await self.claim_one(), accepted(1), account="other")
        steps = await self.timeline()
        kinds = ["accepted", "intent", "deferred", "intent", "outcome"]
        self.assertEqual(kinds, [step["kind"] for step in steps])
        node = self.store.node_id
        first = {"n": 1, "account": "acct", "node": node}
        second = {"n": 2, "account": "other", "node": node}
        self.assertNotIn("attempt", steps[0])
        self.assertEqual([first, second], [steps[1]["attempt"], steps[3]["attempt"]])
        self.assertEqual({**first, "seconds": 2.0, **TRACE}, steps[2]["attempt"])
        self.assertEqual({**second, "seconds": 2.0, **TRACE}, steps[4]["attempt"])
        self.assertEqual("451 greylisted", steps[2]["reason"])
        self.assertEqual([A, B], [said["address"] for said in steps[2]["data"]["recipients"]])
        self.assertEqual([B], [said["address"] for said in steps[4]["data"]["recipients"]])
        self.assertEqual([False] * 4 + [True], [step["final"] for step in steps])

    async def test_at_the_same_instant(self) -> None:
        """Attempts that took no time are told apart."""
        await self.post()
        await self.defer(await self.claim_one(), after=0.0)
        await self.defer(await self.claim_one(), after=0.0)
        await self.finish(await self.claim_one())
        steps = await self.timeline()
        numbers = [step["attempt"]["n"] for step in steps if "attempt" in step]
        self.assertEqual([1, 1, 2, 2, 3, 3], numbers)

    async def test_under_way(self) -> None:
        """An attempt that is under way has begun, and come to nothing yet."""
        await self.post()
        await self.begin(await self.claim_one())
        steps = await self.timeline()
        self.assertEqual(["accepted", "intent"], [step["kind"] for step in steps])
        self.assertNotIn("seconds", steps[1]["attempt"])

    async def test_cut_off(self) -> None:
        """What a process that died had begun is the attempt that its successor finds uncertain."""
        await self.post()
        node = self.store.node_id
        await self.begin(await self.claim_one())
        await self.killed()
        (found,) = await self.store.abandoned(self.now)
        self.later(1.0)
        item = record(found, put_off(), at=self.now, attempt=1, kind=EventKind.UNCERTAIN)
        await self.store.record([item])
        step = (await self.timeline())[-1]
        self.assertEqual(("uncertain", node), (step["kind"], step["attempt"]["node"]))

    async def test_generations(self) -> None:
        """The attempts of each generation are its own; of an earlier one nobody is named."""
        await self.post(to=[A])
        await self.attempt(await self.claim_one(), refused(0))
        await self.post(to=[B])
        await self.attempt(await self.claim_one(), accepted(0))
        steps = await self.timeline()
        told = [(step["generation"], step["kind"]) for step in steps]
        first = [(1, "accepted"), (1, "intent"), (1, "outcome")]
        self.assertEqual([*first, (2, "generation"), (2, "intent"), (2, "outcome")], told)
        self.assertEqual([1, 1, 1, 1], [s["attempt"]["n"] for s in steps if "attempt" in s])
        self.assertNotIn("address", steps[2]["data"]["recipients"][0])
        self.assertEqual(B, steps[5]["data"]["recipients"][0]["address"])

    async def test_reported(self) -> None:
        """A step that was told says when."""
        await self.deliver()
        self.assertNotIn("reported_at", (await self.timeline())[-1])
        self.later(5.0)
        await self.report()
        self.assertEqual(self.now, (await self.timeline())[-1]["reported_at"])

    async def test_nothing(self) -> None:
        """What is not there has no timeline, and neither has another tenant's here."""
        await self.add_tenant("acme")
        await self.post()
        self.assertEqual([], await self.timeline("m2"))
        self.assertEqual([], await self.store.timeline("acme", "m1"))
