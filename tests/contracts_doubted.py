"""The store's contract: an id posted again of which nobody knows whether it was accepted."""

from __future__ import annotations

from mailproxy.acts import Act, Operation
from mailproxy.model import RecipientChange
from mailproxy.states import RecipientState
from tests.build import accepted, ended, refused
from tests.contracts_base import StoreContract

A, B, C = "a@example.org", "b@example.org", "c@example.org"


def doubt(n: int = 0) -> RecipientChange:
    """What the policy ``fail`` makes of a recipient whose reply was lost."""
    return ended(n, RecipientState.FAILED, "uncertain: final: no reply")


class DoubtedAgainContract(StoreContract):
    async def told(self) -> list[tuple[str, str]]:
        record = await self.stored()
        return sorted((rcpt.address, rcpt.state) for rcpt in record.recipients)

    async def test_nobody_else(self) -> None:
        """Posted again, it is not sent: its report is offered again, with the same event."""
        await self.deliver(doubt())
        (item,) = await self.report()
        self.assertEqual("duplicate", (await self.post()).verdict.value)
        self.assertEqual([], await self.claim())
        (again,) = await self.report()
        self.assertEqual((item.event_id, item.error), (again.event_id, again.error))
        self.assertIn("uncertain: ", again.error or "")

    async def test_others(self) -> None:
        """Who was refused gets a new generation; who may have it none, and the report says so."""
        await self.deliver(doubt(0), refused(1), to=[A, B])
        await self.report()
        await self.post(to=[A, B])
        claimed = await self.claim_one()
        self.assertEqual([B], [rcpt.address for rcpt in claimed.recipients])
        (n,) = [rcpt.n for rcpt in claimed.recipients]
        await self.finish(claimed, accepted(n))
        self.assertEqual([(A, "failed"), (B, "sent")], await self.told())
        (item,) = await self.report()
        self.assertIn(f"{A}: uncertain: ", item.error or "")
        self.assertIn(f"accepted by {B}", item.error or "")

    async def test_other_content(self) -> None:
        """Whatever else is posted under the id, who may have had it does not get that either."""
        await self.deliver(doubt(0), to=[A])
        await self.post(to=[A, C], text="Other.\n")
        (claimed,) = await self.claim()
        self.assertEqual([C], [rcpt.address for rcpt in claimed.recipients])

    async def test_removed(self) -> None:
        """It is remembered over the removal of the message."""
        await self.deliver(doubt(0), refused(1), to=[A, B])
        await self.bury()
        await self.post(to=[A])
        self.assertEqual([], await self.claim())
        await self.post(to=[A, B], text="Other.\n")
        claimed = await self.claim_one()
        self.assertEqual([B], [rcpt.address for rcpt in claimed.recipients])
        (n,) = [rcpt.n for rcpt in claimed.recipients]
        await self.finish(claimed, accepted(n))
        self.assertEqual([(A, "failed"), (B, "sent")], await self.told())
        await self.bury()
        await self.post(to=[A, B])
        self.assertEqual([], await self.claim())

    async def test_resent(self) -> None:
        """An operator's resend ends the doubt: refused then, it may be posted again."""
        await self.deliver(doubt(0), to=[A])
        answer = await self.store.act("default", "m1", Operation(Act.RESEND, self.now))
        assert answer is not None
        self.assertTrue(answer.changed)
        await self.finish(await self.claim_one(), refused(0))
        await self.bury()
        await self.post(to=[A])
        self.assertEqual([A], [rcpt.address for rcpt in (await self.claim_one()).recipients])

    async def test_a_reply_is_no_doubt(self) -> None:
        """A refusal that only says the word is one."""
        await self.deliver(refused(0, "uncertain: who is this?"), to=[A])
        await self.post(to=[A])
        self.assertEqual(1, len(await self.claim()))
