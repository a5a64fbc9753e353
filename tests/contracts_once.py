"""What every store promises of requests that carry an idempotency key, and of test messages."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from mailproxy.model import Enqueued, NewMessage
from mailproxy.states import Verdict
from mailproxy.tenancy import Answered, KeyReused, Once
from tests.build import new_message, refused
from tests.contracts_base import DAY, DEADLINE, StoreContract

A, B = "a@example.org", "b@example.org"


def answer(verdicts: Sequence[Enqueued]) -> bytes:
    return ",".join(verdict.verdict for verdict in verdicts).encode()


def once(body: str = "body", key: str = "k", tenant_id: str = "default") -> Once:
    return Once(tenant_id, key, sha256(body.encode()).digest(), answer)


class OnceContract(StoreContract):
    async def ask(self, *messages: NewMessage, **named: str) -> list[Enqueued]:
        return await self.store.enqueue(messages, self.now, DEADLINE, once(**named))

    async def test_the_first_is_done(self) -> None:
        """A request with a new key is done like any other."""
        self.assertEqual([Enqueued(Verdict.QUEUED)], await self.ask(new_message()))
        self.assertEqual("queued", await self.state())

    async def test_the_second_gets_the_first_answer(self) -> None:
        """The same request again is not done: it gets the answer of the first."""
        await self.ask(new_message())
        await self.finish(await self.claim_one())
        await self.report()

        error = await self.answered(Answered, new_message())

        self.assertEqual(b"queued", error.answer)
        self.assertEqual([], await self.offered(), "the message was not looked at again")

    async def answered(self, kind: type[Answered], *messages: NewMessage, **named: str) -> Answered:
        try:
            await self.ask(*messages, **named)
        except kind as error:
            return error
        raise self.failureException(f"not {kind.__name__}")

    async def test_another_request(self) -> None:
        """Another request with the same key is refused, and nothing of it is stored."""
        await self.ask(new_message())
        with self.assertRaises(KeyReused):
            await self.ask(new_message(id="m2"), body="other")
        self.assertEqual(["m1"], [each.id for each in await self.listed()])

    async def test_keys_are_the_tenants_own(self) -> None:
        """The same key of another tenant is another key."""
        await self.add_tenant("other")
        await self.put(tenant_id="other", id="acct")
        await self.ask(new_message())
        answers = await self.ask(new_message(tenant_id="other"), tenant_id="other")
        self.assertEqual([Enqueued(Verdict.QUEUED)], answers)

    async def test_no_messages(self) -> None:
        """The answer to a request without messages is kept as well."""
        self.assertEqual([], await self.ask())
        self.assertEqual(b"", (await self.answered(Answered)).answer)
        with self.assertRaises(KeyReused):
            await self.ask(new_message(), body="other")

    async def test_a_day(self) -> None:
        """An answer is given again for 24 hours, then the key is new."""
        await self.ask(new_message())
        self.later(DAY - 1)
        await self.upkeep()
        await self.answered(Answered, new_message())
        self.later(2)
        await self.upkeep()
        self.assertEqual([Enqueued(Verdict.QUEUED)], await self.ask(new_message(), body="other"))

    async def test_after_a_crash(self) -> None:
        """The answer is as durable as the messages."""
        await self.ask(new_message())
        await self.killed()
        self.assertEqual(b"queued", (await self.answered(Answered, new_message())).answer)

    async def test_many_messages(self) -> None:
        """The answer to a request with very many messages tells of all of them."""
        await self.ask(*(new_message(id=f"m{n}") for n in range(1200)))
        error = await self.answered(Answered)
        self.assertEqual(1200, len(error.answer.split(b",")))


class MailTestContract(StoreContract):
    async def test_ends_as_sent(self) -> None:
        """A test is never claimed; it is reported as sent, as a test, and says who was spared."""
        self.observer.forget()

        self.assertEqual(Enqueued(Verdict.QUEUED), await self.post(to=[A, B], test=True))

        self.assertEqual([], await self.claim())
        self.assertEqual("sent", await self.state())
        self.assertEqual(["default"], self.observer.reportable_tenants)
        (item,) = await self.offered()
        self.assertEqual((True, self.now, None), (item.test, item.sent_ts, item.error))
        self.assertEqual(
            [("sent", None, "test: not sent")] * 2,
            [(each.state, each.code, each.reply) for each in item.recipients],
        )
        self.assertEqual(0, (await self.store.counts(self.now)).pending)
        self.assertNotIn("intent", await self.kinds())

    async def test_real_mail_is_no_test(self) -> None:
        """The report of a message that was sent does not say that it was a test."""
        await self.deliver()
        self.assertEqual([False], [each.test for each in await self.offered()])

    async def test_again(self) -> None:
        """A test that is posted again is reported again, with the same event."""
        await self.post(test=True)
        (before,) = await self.report()
        self.assertEqual(Verdict.DUPLICATE, (await self.post(test=True)).verdict)
        (after,) = await self.offered()
        self.assertEqual((before.event_id, True), (after.event_id, after.test))

    async def test_then_real(self) -> None:
        """Real mail with the id of a test is sent to all, and reported as no test."""
        await self.post(to=[A, B], test=True)
        await self.report()

        self.assertEqual(Enqueued(Verdict.QUEUED), await self.post(to=[A, B]))

        claimed = await self.claim_one()
        self.assertEqual(2, claimed.generation)
        self.assertEqual([A, B], [rcpt.address for rcpt in claimed.recipients])
        await self.finish(claimed)
        (item,) = await self.offered()
        self.assertEqual((False, self.now), (item.test, item.sent_ts))

    async def test_then_real_before_the_report(self) -> None:
        """A test that was not reported yet is still reported as one after real mail came."""
        await self.post(test=True)
        await self.post()
        self.assertEqual([True], [each.test for each in await self.offered()])

    async def test_removed_then_real(self) -> None:
        """A test that was removed keeps no real mail with its id from anybody."""
        await self.post(test=True)
        await self.bury()
        await self.post()
        claimed = await self.claim_one()
        self.assertEqual(1, len(claimed.recipients))

    async def test_real_mail_is_left_alone(self) -> None:
        """A test with the id of real mail changes nothing of it, wherever that is on its way."""
        await self.post(priority=3)
        self.assertEqual(Enqueued(Verdict.KEPT), await self.post(test=True, text="x", priority=0))
        claimed = await self.claim_one()
        self.assertEqual(3, claimed.priority)
        self.assertEqual(Enqueued(Verdict.KEPT), await self.post(test=True, text="x"))
        await self.finish(claimed, refused())
        (told,) = await self.report()

        self.assertEqual(Verdict.DUPLICATE, (await self.post(test=True)).verdict)

        self.assertEqual("failed", await self.state())
        (again,) = await self.offered()
        self.assertEqual((told.event_id, False), (again.event_id, again.test))
        await self.bury()
        self.assertEqual(Verdict.DUPLICATE, (await self.post(test=True)).verdict)
        self.assertEqual([], await self.claim())
        await self.post()
        self.assertEqual(1, len(await self.claim()))
