"""What every store promises of addresses that get no mail of a tenant."""

from __future__ import annotations

from typing import Any

import attrs

from mailproxy.model import Enqueued, RecipientChange
from mailproxy.states import RecipientState, Verdict
from mailproxy.tenancy import Suppression, Tenant
from tests.build import new_message, refused
from tests.contracts_base import StoreContract

A, B, C = "a@example.org", "b@example.org", "c@example.org"


def listed(address: str, **fields: Any) -> Suppression:
    return Suppression(**{"tenant_id": "default", "address": address, "since": 5.0, **fields})


class SuppressionListContract(StoreContract):
    async def addresses(self, tenant_id: str | None = "default") -> list[tuple[str, str]]:
        found = await self.store.suppressions(tenant_id, None, 100)
        return [(each.tenant_id, each.address) for each in found]

    async def test_added_once(self) -> None:
        """What is on the list stays as it is; only what is new counts."""
        first = listed(A, reason="asked for it")
        self.assertEqual(1, await self.store.suppress([first], self.now))
        again = [listed(A, source="import"), listed(B)]
        self.assertEqual(1, await self.store.suppress(again, self.now))
        self.assertEqual([first], await self.store.suppressed("default", [A, C]))

    async def test_removed(self) -> None:
        """What is taken off the list counts if it was there; its mail is sent again."""
        await self.store.suppress([listed(A), listed(B)], self.now)
        self.assertEqual(1, await self.store.unsuppress("default", [A, C]))
        self.assertEqual([("default", B)], await self.addresses())
        await self.post(to=[A])
        self.assertEqual(1, len(await self.claim()))

    async def test_pages(self) -> None:
        """The lists are read by tenant and address, page by page, one tenant's or all."""
        entries = [listed(each, tenant_id=tenant) for each in (A, B, C) for tenant in ("x", "a")]
        await self.store.suppress(entries, self.now)
        whole = [(tenant, each) for tenant in ("a", "x") for each in (A, B, C)]
        self.assertEqual(whole, await self.addresses(None))
        for tenant_id, expected in ((None, whole), ("a", whole[:3]), ("x", whole[3:])):
            for limit in (1, 2, 4):
                seen: list[tuple[str, str]] = []
                while page := await self.store.suppressions(
                    tenant_id, seen[-1] if seen else None, limit
                ):
                    self.assertLessEqual(len(page), limit)
                    seen += [(each.tenant_id, each.address) for each in page]
                self.assertEqual(expected, seen)

    async def test_many(self) -> None:
        """However many are imported, each new one counts once."""
        entries = [listed(f"u{n}@example.org", source="import") for n in range(1200)]
        self.assertEqual(1200, await self.store.suppress(entries * 2, self.now))


class SuppressedContract(StoreContract):
    async def test_nobody_else(self) -> None:
        """A message to suppressed addresses alone fails at once, and is reported so."""
        await self.store.suppress([listed(A), listed(B)], self.now)
        self.observer.forget()

        self.assertEqual(Enqueued(Verdict.QUEUED), await self.post(to=[A, B]))

        self.assertEqual([], await self.claim())
        self.assertEqual(0, (await self.store.counts(self.now)).pending)
        (item,) = await self.offered()
        self.assertIn("suppressed", item.error or "")
        self.assertEqual(self.now, item.error_ts)
        self.assertEqual([("failed", "suppressed")] * 2,
                         [(each.state, each.reply) for each in item.recipients])  # fmt: skip
        self.assertEqual(["default"], self.observer.reportable_tenants)
        self.assertEqual("failed", await self.state())

    async def test_the_others_get_it(self) -> None:
        """A message goes to those who are not suppressed; its end names who was."""
        await self.store.suppress([listed(B)], self.now)
        await self.post(to=[A, B, C])

        claimed = await self.claim_one()

        self.assertEqual([A, C], [rcpt.address for rcpt in claimed.recipients])
        self.assertEqual([], await self.offered())
        await self.finish(claimed)
        (item,) = await self.offered()
        self.assertIsNone(item.sent_ts)
        self.assertIn(f"{B}: suppressed", item.error or "")
        self.assertIn(f"accepted by {A}, {C}", item.error or "")

    async def test_a_new_generation(self) -> None:
        """A failed message that is posted again does not go to who was suppressed meanwhile."""
        await self.deliver(refused())
        await self.report()
        await self.store.suppress([listed("to@example.org")], self.now)
        await self.post()
        self.assertEqual([], await self.claim())
        (item,) = await self.offered()
        self.assertIn("suppressed", item.error or "")
        await self.store.unsuppress("default", ["to@example.org"])
        await self.post()
        self.assertEqual(3, (await self.claim_one()).generation)

    async def test_removed_and_posted_again(self) -> None:
        """The end of a removed message that fails at once when it is posted again is told again."""
        await self.deliver(refused())
        await self.bury()
        await self.store.suppress([listed("to@example.org")], self.now)
        await self.post()
        (told,) = await self.report()
        self.assertEqual(2, told.generation)
        await self.store.replay("default", None, ["m1"], self.now)
        self.assertEqual([told.event_id], [each.event_id for each in await self.offered()])

    async def test_replaced(self) -> None:
        """A waiting message whose content is replaced is judged anew."""
        await self.post(to=[A], text="one")
        await self.store.suppress([listed(B)], self.now)
        self.assertEqual(Verdict.REPLACED, (await self.post(to=[B], text="two")).verdict)
        self.assertEqual("failed", await self.state())

    async def test_other_tenants(self) -> None:
        """One tenant's list is not another's."""
        await self.add_tenant("other")
        other = await self.put(tenant_id="other", id="acct")
        await self.store.suppress([listed(A)], self.now)
        await self.post(tenant_id="other", to=[A])
        self.assertEqual(1, len(await self.claim(other)))

    async def test_among_many(self) -> None:
        """Of many messages in one request exactly those to suppressed addresses fail."""
        await self.store.suppress([listed(f"u{n}@example.org") for n in range(0, 40, 2)], self.now)
        await self.submit(*(new_message(id=f"m{n}", to=[f"u{n}@example.org"]) for n in range(40)))
        self.assertEqual({f"m{n}" for n in range(1, 40, 2)}, {m.id for m in await self.claim()})
        self.assertEqual(20, len(await self.offered()))


class RefusedContract(StoreContract):
    """Addresses that enter the list by themselves."""

    async def wanted(self, wanted: bool = True) -> None:
        def change(tenant: Tenant | None) -> Tenant:
            assert tenant is not None
            return attrs.evolve(tenant, suppress_refused=wanted)

        await self.store.change_tenant("default", change, self.now)

    async def entered(self, *changes: RecipientChange) -> list[Suppression]:
        await self.deliver(*changes)
        return await self.store.suppressions("default", None, 10)

    async def test_no_such_mailbox(self) -> None:
        """Who is refused for good as unknown enters the list, with the reply as the reason."""
        await self.wanted()
        (entry,) = await self.entered(refused(0, "5.1.1 no such user"))
        self.assertEqual(
            Suppression("default", "to@example.org", "5.1.1 no such user", "refused", self.now),
            entry,
        )
        await self.post(id="m2")
        self.assertEqual([], await self.claim())

    async def test_other_refusals(self) -> None:
        """Other refusals, and those about the sender's address, say nothing of the recipient."""
        await self.wanted()
        for status in ("5.7.1", "5.2.2", "5.1.7", "5.1.8"):
            self.assertEqual([], await self.entered(refused(0, f"{status} no")), status)
        temporary = RecipientChange(0, RecipientState.FAILED, 451, "5.1.1", "451 5.1.1")
        self.assertEqual([], await self.entered(temporary))

    async def test_not_wanted(self) -> None:
        """Where the tenant does not want it nobody enters."""
        self.assertEqual([], await self.entered(refused(0, "5.1.1 no such user")))
