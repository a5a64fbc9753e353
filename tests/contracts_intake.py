"""What every store promises of taking mail in, and what a claim then says of it."""

from __future__ import annotations

from mailproxy.model import Enqueued
from mailproxy.states import Verdict
from tests.build import content, new_message
from tests.contracts_base import DAY, MAX_AGE, StoreContract
from tests.fakes import FakeObserver

QUEUED = Enqueued(Verdict.QUEUED)


class IntakeContract(StoreContract):
    async def test_accepted_mail_is_stored(self) -> None:
        """What was answered *queued* is there, also after the process is killed."""
        answers = await self.submit(new_message(id="m1"), new_message(id="m2"))

        await self.killed()

        self.assertEqual([QUEUED, QUEUED], answers)
        self.assertEqual({"m1", "m2"}, {each.id for each in await self.listed()})
        self.assertEqual({"m1", "m2"}, {each.id for each in await self.claim()})

    async def test_nothing_to_do(self) -> None:
        """An empty submission gets an empty answer."""
        self.assertEqual([], await self.submit())

    async def test_one_verdict_each(self) -> None:
        """Each message is judged alone: a rejected one does not take its neighbours along."""
        answers = await self.submit(
            new_message(id="m1"),
            new_message(id="m2", account_id="nobody"),
            new_message(id="m3", tenant_id="nowhere"),
            new_message(id="m4"),
        )

        self.assertEqual(
            [
                QUEUED,
                Enqueued(Verdict.REJECTED, "account not found"),
                Enqueued(Verdict.REJECTED, "tenant not found"),
                QUEUED,
            ],
            answers,
        )
        self.assertEqual({"m1", "m4"}, {each.id for each in await self.listed()})

    async def test_inactive_tenant(self) -> None:
        """A tenant that is not active submits nothing."""
        await self.add_tenant("closed", active=False)
        await self.put(tenant_id="closed")

        answer = await self.post(tenant_id="closed")

        self.assertEqual(Enqueued(Verdict.REJECTED, "tenant inactive"), answer)
        self.assertEqual([], await self.listed())

    async def test_account_of_another_tenant(self) -> None:
        """A tenant cannot send through another tenant's account."""
        await self.add_tenant("other")
        await self.put(tenant_id="other", id="theirs")

        answer = await self.post(account_id="theirs")

        self.assertEqual(Enqueued(Verdict.REJECTED, "account not found"), answer)

    async def test_same_id_of_two_tenants(self) -> None:
        """Ids are unique within a tenant only."""
        await self.add_tenant("other")
        theirs = await self.put(tenant_id="other", id="theirs")

        answers = await self.submit(
            new_message(text="ours"), new_message(tenant_id="other", text="theirs")
        )

        self.assertEqual([QUEUED, QUEUED], answers)
        self.assertEqual("default", (await self.claim_one()).tenant_id)
        self.assertEqual("other", (await self.claim_one(theirs)).tenant_id)

    async def test_dispatcher_is_woken(self) -> None:
        """Observers are told the accounts that got mail, once it is stored."""
        other = await self.put(id="other")
        self.observer.forget()

        await self.submit(
            new_message(id="m1", account_id="acct"),
            new_message(id="m2", account_id="other"),
            new_message(id="m3", account_id="nobody"),
        )

        self.assertEqual({self.acct.pk, other.pk}, set(self.observer.due_accounts))
        self.assertEqual([], self.observer.reportable_tenants)

    async def test_observer_that_left_is_not_told(self) -> None:
        """Whoever ended its subscription hears nothing more; the others do."""
        short = FakeObserver()
        leave = self.store.subscribe(short)
        leave()

        await self.post()

        self.assertEqual([], short.due_accounts)
        self.assertEqual([self.acct.pk], self.observer.due_accounts)

    async def test_notes_are_in_the_timeline(self) -> None:
        """What was noted when a message was taken in stands in its timeline."""
        await self.post(notes=("dropped header X-Odd",))

        timeline = await self.store.timeline("default", "m1")

        self.assertIn("accepted", await self.kinds())
        self.assertIn("dropped header X-Odd", repr(timeline))

    async def test_timeline_begins_with_the_acceptance(self) -> None:
        """The first event of a message is that it was accepted; it is not reported."""
        await self.post()

        (first, *_) = await self.store.timeline("default", "m1")

        self.assertEqual(
            ("accepted", self.now, 1, False),
            (str(first["kind"]), first["at"], first["generation"], bool(first["final"])),
        )
        self.assertEqual([], await self.offered())
        self.assertEqual([], await self.store.timeline("default", "nothing"))


class ClaimedContract(StoreContract):
    """What a claim says of the message that was posted."""

    async def test_claim_carries_the_message(self) -> None:
        """A claim carries what sending needs, as it was posted."""
        message = new_message(
            to=["a@example.org", "b@example.org"],
            account_id="acct",
            priority=1,
            envelope_from="bounce@example.com",
            message_id="<own@example.com>",
        )
        await self.submit(message)
        accepted_at = self.now
        self.later(5)

        claimed = await self.claim_one()

        self.assertEqual(("default", "m1"), (claimed.tenant_id, claimed.id))
        self.assertEqual(
            (self.acct.pk, self.acct.version), (claimed.account_pk, claimed.account_version)
        )
        self.assertEqual((1, 1), (claimed.priority, claimed.generation))
        self.assertEqual((0, 0), (claimed.attempts, claimed.uncertain))
        self.assertEqual((accepted_at, accepted_at), (claimed.accepted_at, claimed.due_since))
        self.assertEqual("<own@example.com>", claimed.message_id)
        self.assertEqual("bounce@example.com", claimed.envelope_from)
        self.assertEqual((message.size, message.payload), (claimed.size, claimed.payload))
        instants = (claimed.accepted_at, claimed.due_since, claimed.expires_at)
        self.assertEqual([float] * 3, [type(each) for each in instants])
        self.assertEqual(
            [(0, "a@example.org", "waiting"), (1, "b@example.org", "waiting")],
            [(rcpt.n, rcpt.address, rcpt.state) for rcpt in claimed.recipients],
        )

    async def test_message_id_is_made_once(self) -> None:
        """A message posted without Message-ID gets one, the same for every attempt."""
        await self.post(message_id=None)
        first = await self.claim_one()
        self.assertRegex(first.message_id, r"^<[^<>@\s]+@[^<>@\s]+>$")

        await self.defer(first, after=60)
        self.later(60)

        self.assertEqual(first.message_id, (await self.claim_one()).message_id)

    async def test_version_of_the_account(self) -> None:
        """A claim names the version of the account it was made for."""
        await self.post()
        changed = await self.put(host="new.example.net")
        self.assertEqual(changed.version, (await self.claim_one()).account_version)

    async def test_large_payload_is_fetched(self) -> None:
        """A claim does not carry a large payload; ``contents`` has it."""
        text = "x" * 300_000
        await self.post(text=text)

        claimed = await self.claim_one()

        self.assertIsNone(claimed.payload)
        stored = (await self.store.contents([claimed.pk]))[claimed.pk]
        self.assertEqual((text, {}), (stored.content.plain, dict(stored.parts)))

    async def test_attachments_are_fetched(self) -> None:
        """Attachments come back by part number, byte for byte, whatever their size."""
        parts = (b"", bytes(range(256)) * 3000, b"\r\n.\r\n")
        await self.post(parts=parts)

        claimed = await self.claim_one()

        self.assertIsNone(claimed.payload)
        stored = (await self.store.contents([claimed.pk]))[claimed.pk]
        self.assertEqual(dict(enumerate(parts, start=1)), dict(stored.parts))

    async def test_contents_of_several(self) -> None:
        """Contents are asked for many messages at once; unknown ones are missing."""
        await self.submit(new_message(id="m1", text="one"), new_message(id="m2", text="two"))
        pks = {each.id: each.pk for each in await self.claim()}

        stored = await self.store.contents([pks["m1"], pks["m2"], 12345])

        self.assertEqual({pks["m1"], pks["m2"]}, set(stored))
        self.assertEqual("one", stored[pks["m1"]].content.plain)
        self.assertEqual("two", stored[pks["m2"]].content.plain)
        self.assertEqual(content(plain="two"), stored[pks["m2"]].content)

    async def test_damaged_payload_is_missing(self) -> None:
        """A payload that cannot be read is missing from the contents; others are not."""
        await self.submit(new_message(id="m1", payload=b"{broken"), new_message(id="m2"))
        pks = {each.id: each.pk for each in await self.claim()}

        self.assertEqual({pks["m2"]}, set(await self.store.contents(list(pks.values()))))


class AgeContract(StoreContract):
    """From when, and until when, a message may be tried."""

    async def test_age_limit(self) -> None:
        """A message may grow as old as the default says."""
        await self.post()
        accepted_at = self.now
        self.later(100)
        self.assertEqual(accepted_at + MAX_AGE, (await self.claim_one()).expires_at)

    async def test_age_limit_of_the_account(self) -> None:
        """An account's own age limit wins."""
        await self.put(max_age_seconds=600.0)
        await self.post()
        self.assertEqual(self.now + 600, (await self.claim_one()).expires_at)

    async def test_mail_for_later(self) -> None:
        """A message is not due before its time, and its age does not run before it."""
        when = self.now + 3 * DAY
        await self.post(not_before=when)

        self.assertEqual(([], when), await self.store.due_accounts(self.now))
        self.assertEqual([], await self.claim())
        self.assertEqual("queued", await self.state())
        self.assertEqual(when, (await self.stored()).not_before)

        self.later(3 * DAY)
        self.assertEqual([self.acct.pk], (await self.store.due_accounts(self.now))[0])
        claimed = await self.claim_one()
        self.assertEqual((when, when + MAX_AGE), (claimed.due_since, claimed.expires_at))

    async def test_time_in_the_past(self) -> None:
        """A message whose time lies in the past is due at once, and has its full age."""
        await self.post(not_before=self.now - 30 * DAY)

        claimed = await self.claim_one()

        self.assertEqual(self.now + MAX_AGE, claimed.expires_at)

    async def test_age_does_not_run_while_suspended(self) -> None:
        """A message that lay suspended for a week has lost nothing of its age."""
        await self.post()
        await self.store.suspend(None, None, self.now)
        self.later(7 * DAY)
        await self.store.activate(None, None, self.now)

        claimed = await self.claim_one()

        self.assertGreaterEqual(claimed.expires_at, self.now + MAX_AGE)
