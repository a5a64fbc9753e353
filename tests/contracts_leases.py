"""What every store promises who calls a tenant: one has the right to; who lost it parks nothing."""

from __future__ import annotations

from mailproxy.records import ReportLease, Said
from tests.contracts_base import StoreContract


class ReportLeaseContract(StoreContract):
    async def hold(self, tenant_id: str = "default") -> ReportLease:
        """Take the right to call a tenant, which nobody else has."""
        lease = await self.store.hold_reports(tenant_id, 330.0)
        assert lease is not None
        return lease

    async def test_renewed(self) -> None:
        """Who has the right may renew it, and take it again after giving it back."""
        first = await self.hold()
        second = await self.hold()
        self.assertNotEqual(first.token, second.token)
        await self.store.release_reports(first, Said())
        await self.store.release_reports(second, Said())
        third = await self.hold()
        self.assertEqual("default", third.tenant_id)
        self.assertEqual("other", (await self.hold("other")).tenant_id)

    async def test_parked_under_it(self) -> None:
        """Who has the right can park what was refused; who lost it cannot, and hears so."""
        await self.deliver(id="m1")
        (item,) = await self.offered()
        lost = await self.hold()
        mine = await self.hold()

        self.assertFalse(await self.store.park_event(item.event_pks, "no", self.now, lost))
        self.assertEqual([item], await self.offered())

        self.assertTrue(await self.store.park_event(item.event_pks, "no", self.now, mine))
        self.assertEqual([], await self.offered())

    async def test_lost_ack(self) -> None:
        """What was taken is marked, whoever has the right by then; and parked no more."""
        await self.deliver(id="m1")
        (item,) = await self.offered()
        await self.hold()
        mine = await self.hold()

        await self.ack([item])

        self.assertEqual([], await self.offered())
        reported = (await self.stored("m1")).reported_ts
        self.assertEqual(self.now, reported)
        await self.store.park_event(item.event_pks, "no", self.now, mine)
        self.assertEqual(reported, (await self.stored("m1")).reported_ts)

    async def test_trusted(self) -> None:
        """A node that was heard of just now is not cut off."""
        await self.store.heartbeat(self.now)
        self.assertFalse(self.store.cut_off())

    async def test_next_process(self) -> None:
        """What a killed process had is the next one's, and its token is worth nothing."""
        await self.deliver(id="m1")
        (item,) = await self.offered()
        lost = await self.hold()
        await self.killed()
        await self.hold()
        await self.hold()
        self.assertFalse(await self.store.park_event(item.event_pks, "no", self.now, lost))
