"""What every store promises of mail that another account carries than its own."""

from __future__ import annotations

import attrs

from mailproxy.model import Account, Claimed
from mailproxy.states import EventKind
from mailproxy.tenancy import RateLimits, Tenant
from tests.build import deferral, put_off, record, refused
from tests.contracts_base import StoreContract


class ThroughContract(StoreContract):
    """:ivar other: an account of the same tenant."""

    other: Account

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.other = await self.put(id="other")

    async def through(self, *claimed: Claimed, account: Account | None = None) -> list[bool]:
        """Begin attempts that the other account carries."""
        carrier = account or self.other
        return await self.store.begin(
            [(m.pk, m.token) for m in claimed],
            carrier.id,
            self.now,
            through=(carrier.pk, carrier.version),
        )

    async def park(self, account: Account, *, closed: bool, after: float = 60.0) -> None:
        await self.store.park_account(
            account.pk, account.version, "down", self.now + after, self.now, closed=closed
        )

    async def test_parked_and_open(self) -> None:
        """While others carry the mail of a parked account, it is claimed and begun as before."""
        await self.post(account_id="acct")
        await self.park(self.acct, closed=False)

        parked = await self.store.account(self.acct.pk)
        assert parked is not None
        self.assertEqual(
            ("down", self.now, self.now + 60),
            (parked.parked_reason, parked.parked_since, parked.probe_at),
        )
        self.assertEqual([self.acct.pk], (await self.store.due_accounts(self.now))[0])
        claimed = await self.claim_one()
        self.assertEqual([True], await self.through(claimed))

    async def test_opened(self) -> None:
        """A closed account is opened when somebody is found to carry its mail, which is told."""
        await self.post(account_id="acct")
        await self.park(self.acct, closed=True)
        self.assertEqual([], await self.claim())
        since = self.now
        self.later(10)
        self.observer.forget()

        await self.park(self.acct, closed=False)

        self.assertIn(self.acct.pk, self.observer.due_accounts)
        self.assertEqual("m1", (await self.claim_one()).id)
        parked = await self.store.account(self.acct.pk)
        assert parked is not None
        self.assertEqual((since, self.now + 60), (parked.parked_since, parked.probe_at))

    async def test_closed_again(self) -> None:
        """An account whose mail nobody can carry any more is closed until its probe."""
        await self.post(account_id="acct")
        await self.park(self.acct, closed=False)
        claimed = await self.claim_one()
        await self.park(self.acct, closed=True)

        self.assertEqual([False], await self.through(claimed))
        await self.store.release([(claimed.pk, claimed.token)])
        self.assertEqual([], await self.claim())
        self.later(60)
        self.assertEqual("m1", (await self.claim_one()).id)

    async def test_unfit(self) -> None:
        """Nothing is begun through an account that was deleted, changed or closed meanwhile."""
        await self.post(account_id="acct")
        claimed = await self.claim_one()
        await self.put(id="other", host="new.example.net")
        self.assertEqual([False], await self.through(claimed))
        (known,) = [a for a in await self.store.accounts("default") if a.id == "other"]
        await self.park(known, closed=True)
        self.assertEqual([False], await self.through(claimed, account=known))
        self.later(60)
        await self.store.delete_account("default", "other", self.now)
        self.assertEqual([False], await self.through(claimed, account=known))

        self.assertEqual([True], await self.begin(claimed))

    async def test_own_fences(self) -> None:
        """Whoever carries it: a message that was taken back or suspended is not begun."""
        await self.post(account_id="acct")
        claimed = await self.claim_one()
        await self.store.suspend("default", None, self.now)
        self.assertEqual([False], await self.through(claimed))
        await self.store.activate("default", None, self.now)
        await self.store.delete_account("default", "acct", self.now)
        self.assertEqual([False], await self.through(claimed))

    async def test_limited(self) -> None:
        """What an account has no room for is claimed where others carry it, and counts there."""
        await self.put(options='{"limit_per_hour":1}', is_default=True)
        await self.put(id="other", options='{"limit_per_hour":2}')
        accounts = {each.id: each for each in await self.store.accounts("default")}
        other = accounts["other"]
        for n in range(5):
            await self.post(id=f"m{n}")
        await self.finish(await self.claim_first())
        self.assertEqual([], await self.claim())

        spilt = await self.claim(spill=True)

        self.assertEqual(4, len(spilt))
        self.observer.forget()
        begun = await self.through(*spilt, account=other)
        self.assertEqual([True, True, False, False], begun)
        self.assertIn(other.pk, [pk for pk, _ in self.observer.limits])
        left = [(each.pk, each.token) for each in spilt[2:]]
        await self.store.release(left)
        self.assertEqual([], await self.claim())
        self.later(3601)
        self.assertEqual(1, len(await self.claim()))

    async def claim_first(self) -> Claimed:
        (first,) = await self.claim(limit=1)
        return first

    async def test_limited_tenant(self) -> None:
        """The tenant's limits hold whoever carries its mail."""
        await self.put(is_default=True)

        def change(old: Tenant | None) -> Tenant:
            return attrs.evolve(old or Tenant("default"), rate_limits=RateLimits(1, None))

        await self.store.change_tenant("default", change, self.now)
        for n in range(3):
            await self.post(id=f"m{n}")
        (first,) = await self.claim(spill=True)
        await self.through(first)
        self.assertEqual([], await self.claim(spill=True))

    async def test_together(self) -> None:
        """Whom one account cannot carry does not keep another's mail from being begun."""
        await self.post(id="m1", account_id="acct")
        await self.post(id="m2", account_id="other")
        mine, theirs = await self.claim_one(), await self.claim_one(self.other)
        gone = await self.put(id="gone")
        await self.store.delete_account("default", "gone", self.now)

        refused = await self.through(mine, account=gone)
        begun = await self.begin(theirs, account="other")

        self.assertEqual([[False], [True]], [refused, begun])

    async def test_sent_through(self) -> None:
        """The report names the message's account, and beside it the one that carried it."""
        await self.post(account_id="acct")
        claimed = await self.claim_one()
        self.assertEqual([True], await self.through(claimed))
        told = record(claimed, at=self.now, through="other")
        self.assertEqual([True], await self.store.record([told]))

        (item,) = await self.offered()

        self.assertEqual(("acct", "other"), (item.account_id, item.through))
        self.assertEqual((self.now, None), (item.sent_ts, item.error_ts))
        self.assertEqual("sent", await self.state())

    async def test_failed_through(self) -> None:
        """So does that of a message which failed, and of one that was put off."""
        for message_id in ("m1", "m2"):
            await self.post(id=message_id, account_id="acct")
        failed, waiting = await self.claim()
        await self.through(failed, waiting)
        later = self.now + 60
        await self.store.record(
            [
                record(failed, refused(), at=self.now, through="other"),
                deferral(waiting, at=self.now, next_at=later, through="other"),
            ]
        )
        items = {item.id: item for item in await self.offered()}
        self.assertEqual(["other", "other"], [items[name].through for name in ("m1", "m2")])
        self.assertIsNotNone(items["m1"].error_ts)
        self.assertEqual(later, items["m2"].deferred_ts)

    async def test_own_account(self) -> None:
        """What its own account carried names no other."""
        await self.deliver(account_id="acct")
        (item,) = await self.offered()
        self.assertEqual(("acct", ""), (item.account_id, item.through))

    async def test_doubted(self) -> None:
        """After an uncertain attempt a claim says which account it went through."""
        await self.post(account_id="acct")
        claimed = await self.claim_one()
        self.assertEqual("", claimed.doubted_at)
        await self.through(claimed)
        unsure = record(
            claimed,
            put_off(),
            at=self.now,
            kind=EventKind.UNCERTAIN,
            next_at=self.now,
            through="other",
        )
        await self.store.record([unsure])

        again = await self.claim_one()

        self.assertEqual((1, "other"), (again.uncertain, again.doubted_at))

    async def test_not_doubted(self) -> None:
        """An attempt that was put off for certain leaves the choice of the account free."""
        await self.post(account_id="acct")
        claimed = await self.claim_one()
        await self.through(claimed)
        await self.store.record([record(claimed, put_off(), at=self.now, next_at=self.now)])
        self.assertEqual("", (await self.claim_one()).doubted_at)

    async def test_cut_off_by_a_kill(self) -> None:
        """Whoever takes over an attempt that was cut off learns which account carried it."""
        await self.post(account_id="acct")
        await self.through(await self.claim_one())
        await self.killed()
        (found,) = await self.store.abandoned(self.now)
        unsure = record(
            found, put_off(), at=self.now, kind=EventKind.UNCERTAIN, next_at=self.now, attempt=1
        )
        await self.store.record([unsure])

        self.assertEqual("other", (await self.claim_one()).doubted_at)
