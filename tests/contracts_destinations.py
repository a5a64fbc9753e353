"""What every store promises of recipient domains to which nothing is to be sent for now."""

from __future__ import annotations

from mailproxy.model import Claimed, Record
from mailproxy.states import EventKind, RecipientState
from mailproxy.tenancy import Destination
from tests.build import accepted, ended, new_message, put_off, record
from tests.contracts_base import MAX_AGE, StoreContract

ORG, NET, COM = "a@example.org", "b@example.net", "c@example.com"


class DestinationContract(StoreContract):
    async def pause(self, domain: str = "example.org", tenant_id: str = "default") -> bool:
        return await self.store.pause_destination(tenant_id, domain, self.now)

    async def resume(self, domain: str = "example.org") -> bool:
        """Resume, and let the background work be done."""
        was = await self.store.resume_destination("default", domain, self.now)
        await self.upkeep()
        return was

    def addresses(self, claimed: Claimed) -> list[str]:
        return [rcpt.address for rcpt in claimed.recipients]

    async def test_paused_and_resumed(self) -> None:
        """What is paused is listed; pausing or resuming it again changes nothing."""
        self.assertTrue(await self.pause())
        since = self.now
        self.later(5)
        self.assertFalse(await self.pause())
        self.assertEqual(
            [Destination("default", "example.org", since)], await self.store.destinations(None)
        )
        self.assertEqual([], await self.store.destinations("other"))
        self.assertTrue(await self.resume())
        self.assertFalse(await self.resume())
        self.assertEqual([], await self.store.destinations("default"))

    async def test_nothing_is_sent_there(self) -> None:
        """Mail for a paused domain is not claimed; resumed, it is, and its age did not run."""
        await self.post(to=[ORG])
        self.later(10)
        await self.pause()
        self.assertEqual([], await self.claim())
        self.later(1000)
        self.assertEqual([], await self.claim())
        self.assertEqual("queued", await self.state())
        self.assertEqual(1, (await self.store.counts(self.now)).pending)
        self.observer.forget()

        await self.resume()

        self.assertEqual({self.acct.pk}, set(self.observer.due_accounts))
        claimed = await self.claim_one()
        self.assertEqual(self.now - 1010 + MAX_AGE + 1000, claimed.expires_at)
        await self.finish(claimed)
        self.assertEqual("sent", await self.state())

    async def test_nobody_looks_in_vain(self) -> None:
        """What waits for a paused domain is not due once a claim has met it."""
        await self.post(to=[ORG])
        await self.pause()
        await self.claim()
        self.assertEqual(([], None), await self.store.due_accounts(self.now))

    async def test_behind_it(self) -> None:
        """What is behind very many messages for a paused domain is claimed in their stead."""
        await self.submit(*(new_message(id=f"m{n}", to=[ORG]) for n in range(100)))
        await self.post(id="other", to=[NET], priority=3)
        await self.pause()
        for oldest in (False, True):
            claimed = await self.claim(limit=3, oldest=oldest)
            self.assertEqual(["other"], [each.id for each in claimed])
            await self.store.release([(each.pk, each.token) for each in claimed])

    async def test_others_are_served(self) -> None:
        """Of one message the recipients elsewhere are served; the others when it is resumed."""
        await self.post(to=[ORG, NET])
        await self.pause()

        claimed = await self.claim_one()
        self.assertEqual([NET], self.addresses(claimed))
        await self.finish(claimed)

        self.assertEqual([], await self.offered())
        self.assertEqual([], await self.claim())
        await self.resume()
        claimed = await self.claim_one()
        self.assertEqual([ORG], self.addresses(claimed))
        await self.finish(claimed)
        (item,) = await self.offered()
        self.assertEqual(self.now, item.sent_ts)

    async def test_others_are_put_off(self) -> None:
        """While some recipients are tried again, those of a paused domain stay out."""
        await self.post(to=[ORG, NET])
        await self.pause()
        await self.defer(await self.claim_one(), put_off(1))
        self.later(60)
        claimed = await self.claim_one()
        self.assertEqual([NET], self.addresses(claimed))
        await self.store.release([(claimed.pk, claimed.token)])
        await self.resume()
        self.assertEqual([ORG, NET], self.addresses(await self.claim_one()))

    async def test_paused_before_the_intent(self) -> None:
        """A message that was claimed for a domain paused since is not begun."""
        await self.post(to=[ORG, NET])
        claimed = await self.claim_one()
        await self.pause()

        self.assertEqual([False], await self.begin(claimed))

        await self.store.release([(claimed.pk, claimed.token)])
        again = await self.claim_one()
        self.assertEqual([NET], self.addresses(again))
        self.assertEqual([True], await self.begin(again))

    async def test_left_out_before_the_intent(self) -> None:
        """A message that was claimed without the paused domain is begun, as is other mail."""
        await self.post(id="m1", to=[ORG, NET])
        await self.post(id="m2", to=[COM])
        await self.pause()
        claimed = await self.claim()
        self.assertEqual([True, True], await self.begin(*claimed))

    async def test_resumed_and_paused_again(self) -> None:
        """Who was left out once and claimed later is not sent to when the domain is paused anew."""
        await self.post(to=[ORG, NET])
        await self.pause()
        await self.defer(await self.claim_one(), put_off(1))
        await self.resume()
        self.later(60)
        claimed = await self.claim_one()
        self.assertEqual([ORG, NET], self.addresses(claimed))
        await self.pause()
        self.assertEqual([False], await self.begin(claimed))

    async def test_resumed_while_it_is_on_its_way(self) -> None:
        """Who was left out of an attempt is tried after it, if the domain was resumed meanwhile."""
        await self.post(to=[ORG, NET])
        await self.pause()
        claimed = await self.claim_one()
        await self.begin(claimed)
        await self.resume()
        await self.store.record([self.sent(claimed)])
        self.assertEqual([ORG], self.addresses(await self.claim_one()))

    def sent(self, claimed: Claimed) -> Record:
        return record(claimed, accepted(claimed.recipients[0].n), at=self.now)

    async def test_several_domains(self) -> None:
        """A message for several paused domains goes to each as it is resumed."""
        await self.post(to=[ORG, NET])
        await self.pause("example.org")
        await self.pause("example.net")
        self.assertEqual([], await self.claim())
        for domain, address in (("example.net", NET), ("example.org", ORG)):
            await self.resume(domain)
            claimed = await self.claim_one()
            self.assertEqual([address], self.addresses(claimed))
            await self.finish(claimed)
        self.assertEqual("sent", await self.state())

    async def test_exactly_that_domain(self) -> None:
        """Subdomains and other tenants' mail are not paused."""
        await self.add_tenant("other")
        other = await self.put(tenant_id="other", id="acct")
        await self.pause()
        await self.pause("example.net", tenant_id="other")
        await self.post(to=["x@sub.example.org", NET])
        await self.post(tenant_id="other", to=[ORG])
        self.assertEqual(1, len(await self.claim(other)))
        self.assertEqual(2, len((await self.claim_one()).recipients))

    async def test_posted_again_meanwhile(self) -> None:
        """Posting a message that waits for a domain again sends it no sooner, nor loses it."""
        await self.post(to=[ORG])
        await self.pause()
        await self.claim()
        await self.post(to=[ORG], priority=0)
        self.assertEqual([], await self.claim())
        await self.post(to=[ORG], text="new", priority=0)
        self.assertEqual([], await self.claim())
        await self.resume()
        self.assertEqual(0, (await self.claim_one()).priority)

    async def test_removed_meanwhile(self) -> None:
        """A message that waits for a domain can be taken back."""
        await self.post(to=[ORG])
        await self.pause()
        await self.claim()
        self.assertEqual(1, (await self.store.remove("default", ["m1"], self.now)).removed)
        await self.resume()
        self.assertEqual([], await self.claim())

    async def test_account_deleted_meanwhile(self) -> None:
        """A message that waits for a domain fails with its account."""
        await self.post(to=[ORG])
        await self.pause()
        await self.claim()
        await self.store.delete_account("default", "acct", self.now)
        await self.upkeep()
        self.assertEqual("failed", await self.state())
        await self.resume()

    async def test_killed_in_an_attempt(self) -> None:
        """After a kill in an attempt, who was left out of it is not in doubt."""
        await self.post(to=[ORG, NET])
        await self.pause()
        await self.begin(await self.claim_one())
        await self.killed()
        (found,) = await self.store.abandoned(self.now)
        self.assertEqual([NET], self.addresses(found))

    async def test_killed_while_paused(self) -> None:
        """A pause outlives the process, and so does what waits for it."""
        await self.post(to=[ORG])
        await self.pause()
        await self.claim()
        await self.killed()
        self.assertEqual([], await self.claim())
        await self.store.resume_destination("default", "example.org", self.now)
        await self.killed()
        await self.upkeep()
        self.assertEqual(1, len(await self.claim()))

    async def test_many(self) -> None:
        """However many messages wait, each is claimable once more, in steps of their own."""
        await self.submit(*(new_message(id=f"m{n}", to=[ORG]) for n in range(700)))
        await self.pause()
        while (await self.store.due_accounts(self.now))[0]:
            self.assertEqual([], await self.claim(limit=100))
        self.later(60)
        await self.resume()
        claimed = await self.claim()
        self.assertEqual(700, len({each.id for each in claimed}))
        self.assertEqual({self.now + MAX_AGE}, {each.expires_at for each in claimed})

    async def test_an_expired_remainder(self) -> None:
        """When the others expire, who waits for a paused domain still waits."""
        await self.post(to=[ORG, NET])
        await self.pause()
        claimed = await self.claim_one()
        await self.begin(claimed)
        item = record(claimed, ended(1, RecipientState.EXPIRED, "too old"), at=self.now,
                      kind=EventKind.EXPIRED)  # fmt: skip
        await self.store.record([item])
        self.assertEqual([], await self.offered())
        await self.resume()
        self.assertEqual([ORG], self.addresses(await self.claim_one()))
