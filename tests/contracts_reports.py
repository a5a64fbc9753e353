"""What every store promises the reporter: which events are offered, in which order, and acks."""

from __future__ import annotations

import attrs

from mailproxy.tenancy import Tenant
from tests.build import deferral, new_message, record
from tests.contracts_base import StoreContract

A, B, C = "a@example.org", "b@example.org", "c@example.org"


class AckContract(StoreContract):
    async def test_unacked_is_offered_again(self) -> None:
        """An event is offered under the same id until it is acked, and then no more."""
        await self.deliver()
        first, second = await self.offered(), await self.offered()
        self.assertEqual(first, second)

        await self.ack(first)

        self.assertEqual([], await self.offered())
        self.assertEqual([], await self.store.waiting_tenants())

    async def test_event_born_during_the_post(self) -> None:
        """What happens to a message while its report is open is reported next."""
        await self.post()
        await self.defer(await self.claim_one(), after=0)
        open_report = await self.offered()
        await self.finish(await self.claim_one())

        await self.ack(open_report)

        (item,) = await self.offered()
        self.assertEqual((self.now, 1), (item.sent_ts, len(item.event_pks)))
        self.assertNotEqual(open_report[0].event_id, item.event_id)

    async def test_reported_ts(self) -> None:
        """A message counts as reported when its final event is acked, not before."""
        await self.post()
        await self.defer(await self.claim_one(), after=0)
        await self.report()
        self.assertIsNone((await self.stored()).reported_ts)
        await self.finish(await self.claim_one())
        items = await self.offered()
        self.assertIsNone((await self.stored()).reported_ts)
        self.later(7)

        await self.ack(items)

        self.assertEqual(self.now, (await self.stored()).reported_ts)

    async def test_ack_of_some(self) -> None:
        """An ack covers the events it names; others stay."""
        for name in ("m1", "m2", "m3"):
            await self.deliver(id=name)
        one, two, three = await self.offered()
        await self.ack([one, three])
        self.assertEqual([two], await self.offered())

    async def test_ack_twice(self) -> None:
        """The same ack again does nothing; unknown events neither."""
        await self.deliver()
        items = await self.report()
        reported = (await self.stored()).reported_ts
        self.later(10)
        await self.ack(items)
        await self.store.acked([12345], self.now)
        await self.store.acked([], self.now)
        self.assertEqual(reported, (await self.stored()).reported_ts)

    async def test_oldest_first(self) -> None:
        """The oldest events are offered first, as many as are asked for."""
        for number in range(5):
            await self.deliver(id=f"m{number}")
            self.later(1)
        self.assertEqual(
            ["m0", "m1", "m2"], [item.id for item in await self.store.unreported("default", 3)]
        )
        await self.ack(await self.store.unreported("default", 2))
        self.assertEqual(["m2", "m3", "m4"], [item.id for item in await self.offered()])

    async def test_reports_survive_the_process(self) -> None:
        """What was not acked before a kill is offered under the same id after it."""
        await self.deliver(id="m1")
        await self.report()
        await self.deliver(id="m2")
        before = await self.offered()

        await self.killed()

        self.assertEqual(before, await self.offered())
        self.assertEqual(["default"], await self.store.waiting_tenants())

    async def test_clock_that_went_back(self) -> None:
        """What happened last is the newest state, also when the clock was set back at a restart."""
        await self.post()
        await self.defer(await self.claim_one(), after=-7200)
        self.later(-3600)
        await self.killed()

        await self.finish(await self.claim_one())

        (item,) = await self.offered()
        self.assertEqual((self.now, 2), (item.sent_ts, len(item.event_pks)))

    async def test_tenants_are_apart(self) -> None:
        """Each tenant has its own events."""
        await self.add_tenant("other")
        theirs = await self.put(tenant_id="other", id="theirs")
        await self.deliver()
        await self.post(tenant_id="other", id="t1")
        claimed = await self.claim_one(theirs)
        await self.begin(claimed, account="theirs")
        await self.store.record([record(claimed, at=self.now)])

        self.assertEqual(["default", "other"], sorted(await self.store.waiting_tenants()))
        self.assertEqual(["m1"], [item.id for item in await self.offered()])
        self.assertEqual(["t1"], [item.id for item in await self.report("other")])
        self.assertEqual(["default"], await self.store.waiting_tenants())
        self.assertEqual([], await self.offered("nobody"))

    async def test_parked_event(self) -> None:
        """An event the receiver will never take is not offered again; others pass."""
        await self.deliver(id="m1")
        await self.deliver(id="m2")
        bad, good = await self.offered()

        await self.store.park_event(bad.event_pks, "400 Bad Request", self.now)

        self.assertEqual([good], await self.offered())
        self.assertIsNone((await self.stored("m1")).reported_ts)
        await self.ack([good])
        self.assertEqual([], await self.store.waiting_tenants())
        self.assertEqual(0.0, await self.store.report_lag(self.now))

    async def test_lag_of_each_tenant(self) -> None:
        """How long a tenant's oldest event waits is told of each that has one."""
        await self.add_tenant("other")
        theirs = await self.put(tenant_id="other", id="theirs")
        await self.deliver(id="m1")
        self.later(30)
        await self.post(tenant_id="other", id="t1")
        claimed = await self.claim_one(theirs)
        await self.begin(claimed, account="theirs")
        await self.store.record([record(claimed, at=self.now)])
        self.later(10)
        self.assertEqual({"default": 40.0, "other": 10.0}, await self.store.report_lags(self.now))
        await self.report()
        self.assertEqual({"other": 10.0}, await self.store.report_lags(self.now))

    async def test_no_url(self) -> None:
        """Where there is nobody to report to, everything counts as reported."""
        await self.deliver(id="m1")
        await self.post(id="m2")
        await self.defer(await self.claim_one())

        self.assertGreaterEqual(await self.store.ack_all("default", self.now), 1)

        self.assertEqual([], await self.offered())
        self.assertEqual([], await self.store.waiting_tenants())
        self.assertEqual(self.now, (await self.stored("m1")).reported_ts)
        self.assertEqual(0, await self.store.ack_all("default", self.now))

    async def test_url_known_elsewhere(self) -> None:
        """Nothing counts as reported for want of a URL where the store knows one."""

        async def known(base: str | None, url: str | None) -> None:
            def change(old: Tenant | None) -> Tenant:
                tenant = old or Tenant("default")
                return attrs.evolve(tenant, client_base_url=base, client_sync_url=url)

            await self.store.change_tenant("default", change, self.now)

        await self.deliver()
        for base, url in (("https://app.test", None), (None, "http://a/b"), ("", "http://a/b")):
            await known(base, url)
            self.assertEqual(0, await self.store.ack_all("default", self.now))
            self.assertEqual(1, len(await self.offered()))
        await known("", None)
        self.assertEqual(1, await self.store.ack_all("default", self.now))

    async def test_lag(self) -> None:
        """The lag is the age of the oldest unreported event."""
        self.assertEqual(0.0, await self.store.report_lag(self.now))
        await self.deliver(id="m1")
        self.later(30)
        await self.deliver(id="m2")
        self.later(10)
        self.assertEqual(40.0, await self.store.report_lag(self.now))
        (oldest, _) = await self.offered()
        await self.ack([oldest])
        self.assertEqual(10.0, await self.store.report_lag(self.now))

    async def test_suspension_does_not_stop_reports(self) -> None:
        """Reports go on while sending is suspended."""
        await self.post(id="m1")
        await self.post(id="m2", batch="x")
        claimed = {each.id: each for each in await self.claim()}
        await self.begin(claimed["m1"])
        await self.store.suspend(None, None, self.now)
        await self.store.record([record(claimed["m1"], at=self.now)])
        self.assertEqual(["m1"], [item.id for item in await self.report()])

    async def test_many_items(self) -> None:
        """A report of many messages has each exactly once."""
        await self.submit(*(new_message(id=f"m{n}") for n in range(60)))
        claimed = await self.claim()
        await self.begin(*claimed)
        await self.store.record([record(each, at=self.now) for each in claimed])
        seen: list[str] = []
        while items := await self.store.unreported("default", 25):
            self.assertLessEqual(len(items), 25)
            seen += [item.id for item in items]
            await self.ack(items)
        self.assertEqual(sorted(f"m{n}" for n in range(60)), sorted(seen))

    async def test_retry_after_a_reported_deferral(self) -> None:
        """A deferral recorded by nobody's attempt is reported like any other."""
        await self.post()
        waiting = deferral(
            await self.claim_one(),
            at=self.now,
            next_at=self.now + 60,
            begun=False,
            reason="no route",
        )
        await self.store.record([waiting])
        self.assertEqual(["no route"], [item.deferred_reason for item in await self.report()])
