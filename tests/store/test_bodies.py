"""Bodies: large ones in pieces of their own, orphans removed, damaged ones put aside."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.errors import StoreUnavailable
from mailproxy.model import Attachment, Claimed
from mailproxy.records import ListQuery
from mailproxy.states import Verdict
from mailproxy.store.options import StoreOptions
from tests.build import account_spec, content, new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

SMALL = StoreOptions(chunk_bytes=100, large_body_bytes=1_000)


class BodiesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock, options=SMALL)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.account = result(self.store.put_account(account_spec(), self.clock.now()))

    def post(self, *parts: bytes, id: str = "m1", **fields: Any) -> Verdict:
        message = new_message(id=id, parts=parts, **fields)
        (answer,) = result(self.store.enqueue([message], self.clock.now(), 5.0))
        return answer.verdict

    def claim(self) -> list[Claimed]:
        return result(self.store.claim(self.account.pk, 10, self.clock.now()))

    def count(self, table: str) -> int:
        ((count,),) = self.opened.sql(f"SELECT count(*) FROM {table}")
        return int(count)

    def upkeep(self) -> None:
        while result(self.store.upkeep(self.clock.now())):
            pass

    def parts(self, claimed: Claimed) -> dict[int, bytes]:
        return dict(result(self.store.contents([claimed.pk]))[claimed.pk].parts)


class BroughtAlongTests(SynchronousTestCase):
    """Contents that come with the claim, so that nobody has to fetch them one by one."""

    def claimed(self, sizes: list[int], **options: int) -> list[bool]:
        """For each message of *sizes*, claimed together, whether its content came along."""
        clock = FakeClock()
        opened = Opened(fresh(self), clock, options=StoreOptions(**options))
        self.addCleanup(opened.close)
        account = result(opened.store.put_account(account_spec(), clock.now()))
        posted = [new_message(id=f"m{n}", size=size) for n, size in enumerate(sizes)]
        result(opened.store.enqueue(posted, clock.now(), 5.0))
        claimed = result(opened.store.claim(account.pk, len(sizes), clock.now()))
        found = {each.id: each.payload for each in claimed}
        for each in posted:
            self.assertIn(found[each.id], (each.payload, None))
        return [found[each.id] is not None for each in posted]

    def test_up_to_a_size(self) -> None:
        """What is small enough comes along, and nothing that is larger."""
        self.assertEqual([True, False], self.claimed([1_000, 1_001], inline_payload_bytes=1_000))

    def test_so_much_in_all(self) -> None:
        """However many are claimed, their contents are not more than a claim may bring."""
        self.assertEqual([True] * 4, self.claimed([1_000] * 4, claim_bytes=4_000))
        self.assertEqual([False] * 5, self.claimed([1_000] * 5, claim_bytes=4_000))
        self.assertEqual([True, False, True], self.claimed([900, 1_400, 1_300], claim_bytes=4_000))


class LargeTests(BodiesCase):
    """Bodies that are written in works of their own."""

    def test_pieces_come_back_in_order(self) -> None:
        """A large body, written piece by piece, comes back byte for byte."""
        parts = (bytes(range(256)) * 5, b"", b"end" * 40)
        self.post(*parts)

        (claimed,) = self.claim()

        self.assertEqual(dict(enumerate(parts, 1)), self.parts(claimed))
        self.assertEqual(
            [(100,)], self.opened.sql("SELECT max(length(data)) FROM chunks WHERE part=1")
        )
        self.assertEqual(0, self.count("loose_bodies"))

    def test_pieces_do_not_share_a_transaction(self) -> None:
        """Each piece of a large body is committed by itself, so that nobody waits for all."""
        ((before,),) = self.opened.sql("SELECT value FROM settings WHERE name='serial'")

        self.post(b"x" * 1_100)

        ((after,),) = self.opened.sql("SELECT value FROM settings WHERE name='serial'")
        self.assertEqual(11 + 1, int(after) - int(before))

    def test_the_body_of_a_rejected_message(self) -> None:
        """Pieces that no message came for are removed after an hour."""
        self.assertEqual(Verdict.REJECTED, self.post(b"x" * 1_100, account_id="nobody"))
        self.upkeep()
        self.assertEqual(11, self.count("chunks"))

        self.clock.advance(3601)
        self.upkeep()

        self.assertEqual([0, 0], [self.count("chunks"), self.count("loose_bodies")])

    def test_a_large_body_replaced_by_a_large_one(self) -> None:
        """New content written ahead takes the place of the old, which upkeep removes."""
        self.post(b"o" * 5_000, text="old", size=6_000)
        self.assertEqual(Verdict.REPLACED, self.post(b"n" * 2_000, text="new", size=3_000))

        (claimed,) = self.claim()

        self.assertEqual({1: b"n" * 2_000}, self.parts(claimed))
        self.upkeep()
        self.assertEqual([20, 0], [self.count("chunks"), self.count("loose_bodies")])

    def test_a_kept_message_keeps_its_body(self) -> None:
        """Pieces of a message that is kept as it was are removed; its own stay."""
        self.post(b"o" * 1_100, text="old")
        (claimed,) = self.claim()
        result(self.store.begin([(claimed.pk, claimed.token)], "acct", self.clock.now()))
        self.assertEqual(Verdict.KEPT, self.post(b"n" * 1_100, text="new"))

        self.clock.advance(3601)
        self.upkeep()

        self.assertEqual({1: b"o" * 1_100}, self.parts(claimed))
        self.assertEqual(11, self.count("chunks"))


class DamagedTests(BodiesCase):
    """F17: one damaged row."""

    def damage(self, statement: str) -> None:
        """Damage m1's body, then read m1 and m2: m1 is held, m2 is there."""
        self.post(b"attached")
        self.post(b"attached", id="m2")
        first, second = self.claim()
        self.opened.sql(statement.format(body=first.pk))

        found = result(self.store.contents([first.pk, second.pk]))

        self.assertEqual([second.pk], list(found))
        listed = result(self.store.messages(ListQuery()))
        self.assertEqual({"m1": "held", "m2": "queued"}, {each.id: each.state for each in listed})
        begun = [(first.pk, first.token), (second.pk, second.token)]
        self.assertEqual([False, True], result(self.store.begin(begun, "acct", self.clock.now())))
        kinds = [each["kind"] for each in result(self.store.timeline("default", "m1"))]
        self.assertEqual(["accepted", "held"], kinds)

    def test_malformed_payload(self) -> None:
        """A payload that is no JSON puts its message aside; others go on."""
        self.damage("UPDATE payloads SET json=x'7b7b' WHERE body_pk={body}")

    def test_missing_text(self) -> None:
        """A message without its text is put aside, and not sent empty; others go on."""
        self.damage("DELETE FROM texts WHERE body_pk={body}")

    def test_missing_payload(self) -> None:
        """A message without payload is put aside; others go on."""
        self.damage("DELETE FROM payloads WHERE body_pk={body}")

    def test_missing_part(self) -> None:
        """A message without its attachment is put aside; others go on."""
        self.damage("DELETE FROM chunks WHERE body_pk={body}")

    def test_shortened_part(self) -> None:
        """An attachment that has not its size puts the message aside."""
        attached = content(attachments=(Attachment("a.txt", "text/plain", 1, size=8),))
        self.post(b"attached", payload=payload.dump(attached))
        (claimed,) = self.claim()
        self.assertEqual({1: b"attached"}, self.parts(claimed))
        self.opened.sql("UPDATE chunks SET data=x'00'")

        self.assertEqual({}, result(self.store.contents([claimed.pk])))


class ClosedTests(BodiesCase):
    def test_a_closed_store_refuses(self) -> None:
        """After its end a store neither reads nor writes, and says so."""
        self.successResultOf(self.store.close())

        self.assertRaises(StoreUnavailable, result, self.store.counts(1.0))
        self.assertRaises(StoreUnavailable, result, self.store.heartbeat(1.0))
        self.assertFalse(self.store.healthy())
