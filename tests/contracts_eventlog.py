"""What every store promises to applications that read their events, or want them once more."""

from __future__ import annotations

from mailproxy.records import ReportItem
from tests.build import new_message, record, refused
from tests.contracts_base import RETENTION, StoreContract


class EventLogContract(StoreContract):
    async def log(self, after: int = 0, limit: int = 100) -> list[ReportItem]:
        return await self.store.events("default", after, limit)

    async def replay(self, since: float | None = None, ids: list[str] | None = None) -> int:
        return await self.store.replay("default", since, ids, self.now)

    async def test_every_event_once(self) -> None:
        """The log has each reportable event as an item of its own, reported or not, in order."""
        await self.post()
        await self.defer(await self.claim_one())
        (told,) = await self.report()
        self.later(60)
        await self.finish(await self.claim_one())

        deferred, sent = await self.log()

        self.assertEqual(told.event_id, deferred.event_id)
        self.assertEqual(("m1", "451 4.2.0 greylisted"), (deferred.id, deferred.deferred_reason))
        self.assertEqual(self.now, sent.sent_ts)
        self.assertEqual([1, 1], [len(each.event_pks) for each in (deferred, sent)])
        self.assertLess(deferred.event_pks, sent.event_pks)

    async def test_from_where_one_left_off(self) -> None:
        """Read piece by piece from the last number seen, the log has every event once."""
        for n in range(5):
            await self.deliver(id=f"m{n}")
        whole = [each.id for each in await self.log()]
        self.assertEqual([f"m{n}" for n in range(5)], whole)
        seen, after = [], 0
        while piece := await self.log(after, 2):
            seen += [each.id for each in piece]
            after = piece[-1].event_pks[-1]
        self.assertEqual(whole, seen)

    async def test_own_events_only(self) -> None:
        """A tenant's log has no other tenant's events."""
        await self.add_tenant("other")
        other = await self.put(tenant_id="other", id="acct")
        await self.post(tenant_id="other")
        await self.finish(await self.claim_one(other))
        self.assertEqual([], await self.log())
        self.assertEqual(1, len(await self.store.events("other", 0, 10)))

    async def test_offered_again_is_news(self) -> None:
        """An event that is offered again stands in the log behind the number it was seen with."""
        await self.deliver()
        (seen,) = await self.log()
        await self.report()
        await self.post()
        (again,) = await self.log(seen.event_pks[-1])
        self.assertEqual(seen.event_id, again.event_id)

    async def test_replay_since(self) -> None:
        """F63: events since an instant are offered again with their ids, in order, and once."""
        await self.deliver(id="before")
        await self.report()
        self.later(10)
        since = self.now
        await self.post(id="m1")
        await self.defer(await self.claim_one())
        told = {each.event_id for each in await self.report()}
        self.later(60)
        await self.finish(await self.claim_one(), refused())
        told |= {each.event_id for each in await self.report()}
        self.observer.forget()

        self.assertEqual(2, await self.replay(since))

        (item,) = await self.offered()
        self.assertEqual(("m1", 2), (item.id, len(item.event_pks)))
        self.assertIsNotNone(item.error)
        self.assertIn(item.event_id, told)
        self.assertEqual(["default"], self.observer.reportable_tenants)
        await self.ack([item])
        self.assertEqual([], await self.offered())

    async def test_replay_of_what_is_not_reported_yet(self) -> None:
        """What was deferred, reported and then sent is told as sent, whatever is offered again."""
        await self.post()
        await self.defer(await self.claim_one())
        await self.report()
        self.later(60)
        await self.finish(await self.claim_one())

        await self.replay(since=0.0)

        (item,) = await self.offered()
        self.assertIsNotNone(item.sent_ts)

    async def test_replay_by_id(self) -> None:
        """The final events of the messages named are offered again; unknown ids do nothing."""
        for name in ("m1", "m2", "m3"):
            await self.deliver(id=name)
        before = {each.id: each.event_id for each in await self.report()}

        self.assertEqual(2, await self.replay(ids=["m1", "m3", "nobody"]))

        again = {each.id: each.event_id for each in await self.offered()}
        self.assertEqual({"m1": before["m1"], "m3": before["m3"]}, again)

    async def test_a_report_under_way_does_not_cover_it(self) -> None:
        """An event that is offered again while a report of it is open stays to be reported."""
        await self.deliver()
        items = await self.offered()
        await self.replay(ids=["m1"])
        await self.ack(items)
        self.assertEqual([items[0].event_id], [each.event_id for each in await self.offered()])

    async def test_parked_events(self) -> None:
        """Events that were put aside are offered again too."""
        await self.deliver()
        (item,) = await self.offered()
        await self.store.park_event(item.event_pks, "refused", self.now)
        self.assertEqual([], await self.offered())
        self.assertEqual(1, await self.replay(since=0.0))
        self.assertEqual(1, len(await self.offered()))

    async def test_kept_until_taken(self) -> None:
        """A message whose end is told again is kept until that is taken, and not listed as told."""
        await self.deliver()
        await self.report()
        self.later(RETENTION - 10)
        await self.replay(ids=["m1"])
        self.assertIsNone((await self.stored()).reported_ts)
        self.later(20)
        await self.upkeep()
        self.assertEqual(1, len(await self.listed()))

        await self.bury()

        self.assertEqual([], await self.listed())

    async def test_many(self) -> None:
        """However many events are asked for, each is offered again once."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(600)))
        claimed = await self.claim()
        await self.begin(*claimed)
        await self.store.record([record(each, at=self.now) for each in claimed])
        await self.store.ack_all("default", self.now)
        self.assertEqual(600, await self.replay(since=0.0))
        self.assertEqual(600, await self.store.ack_all("default", self.now))
        self.assertEqual(600, await self.replay(ids=[f"m{n}" for n in range(600)]))
        self.assertEqual(600, await self.store.ack_all("default", self.now))

    async def test_message(self) -> None:
        """A message is found by its id, with or without its tenant."""
        await self.add_tenant("other")
        await self.put(tenant_id="other", id="acct")
        await self.post(tenant_id="other")
        self.later(1)
        await self.post()
        for tenant_id, expected in (("default", "default"), ("other", "other"), (None, "other")):
            found = await self.store.message(tenant_id, "m1")
            assert found is not None
            self.assertEqual(expected, found.tenant_id)
            self.assertEqual([("to@example.org", "waiting")],
                             [(each.address, each.state) for each in found.recipients])  # fmt: skip
        self.assertIsNone(await self.store.message("default", "m2"))
        self.assertIsNone(await self.store.message(None, "m2"))
