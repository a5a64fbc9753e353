"""How messages that end are counted: once each, by account, when their end is stored."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.model import Claimed, RecipientChange, Record
from mailproxy.states import EventKind, RecipientState
from tests.build import account_spec, deferral, ended, new_message, record, refused, settled
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh


class FinalCountTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.account = result(self.store.put_account(account_spec(), self.clock.now()))

    def post(self, *ids: str) -> None:
        messages = [new_message(id=each) for each in ids]
        result(self.store.enqueue(messages, self.clock.now(), 5.0))

    def claim(self) -> list[Claimed]:
        return result(self.store.claim(self.account.pk, 100, self.clock.now()))

    def begun(self, *ids: str) -> list[Claimed]:
        self.post(*ids)
        claimed = self.claim()
        pairs = [(each.pk, each.token) for each in claimed]
        result(self.store.begin(pairs, "acct", self.clock.now()))
        return claimed

    def finish(self, claimed: Claimed, *changes: RecipientChange) -> Record:
        done = record(claimed, *changes, at=self.clock.now())
        result(self.store.record([done]))
        return done

    def counted(self, account_id: str = "acct") -> tuple[float | None, float | None]:
        """(sent, errors)."""
        labels = {"tenant_id": "default", "account_id": account_id}
        value = self.opened.metrics.registry.get_sample_value
        return value("gmp_sent_total", labels), value("gmp_errors_total", labels)

    def test_nothing_yet(self) -> None:
        """Before a message has ended its account counts nothing, but is there."""
        (claimed,) = self.begun("m1")
        result(
            self.store.record(
                [deferral(claimed, at=self.clock.now(), next_at=self.clock.now() + 60)]
            )
        )

        self.assertEqual((0.0, 0.0), self.counted())

    def test_ends(self) -> None:
        """What was sent counts as sent; refused and expired as an error; taken back as neither."""
        one, two, three, four, five = self.begun("m1", "m2", "m3", "m4", "m5")

        for claimed, state in ((one, None), (two, None), (three, RecipientState.EXPIRED)):
            self.finish(claimed, *([] if state is None else [ended(0, state)]))
        self.finish(four, refused())
        self.finish(five, ended(0, RecipientState.CANCELLED))

        self.assertEqual((2.0, 2.0), self.counted())

    def test_by_account(self) -> None:
        """Each end counts for the account the message went through."""
        other = account_spec(id="other")
        pk = result(self.store.put_account(other, self.clock.now())).pk
        messages = [new_message(id="m1", account_id="other")]
        result(self.store.enqueue(messages, self.clock.now(), 5.0))
        (claimed,) = result(self.store.claim(pk, 1, self.clock.now()))

        self.finish(claimed, refused())

        self.assertEqual((0.0, 0.0), self.counted())
        self.assertEqual((0.0, 1.0), self.counted("other"))

    def test_not_again(self) -> None:
        """An outcome offered again, and an end reported again, count no second time."""
        (claimed,) = self.begun("m1")
        done = self.finish(claimed)

        result(self.store.record([done]))
        self.post("m1")

        self.assertEqual((1.0, 0.0), self.counted())

    def test_late_evidence(self) -> None:
        """A message that late evidence proves sent counts then."""
        (claimed,) = self.begun("m1")
        unsure = record(
            claimed,
            ended(0, RecipientState.UNCERTAIN),
            at=self.clock.now(),
            kind=EventKind.UNCERTAIN,
        )
        result(self.store.record([unsure]))
        self.assertEqual((0.0, 0.0), self.counted())

        result(self.store.record([record(claimed, at=self.clock.now())]))

        self.assertEqual((1.0, 0.0), self.counted())

    def test_what_a_dead_process_left(self) -> None:
        """What the next process finds out of a message is counted by it."""
        self.begun("m1")
        store = self.opened.killed()
        before, _ = self.counted()
        (found,) = result(store.abandoned(self.clock.now()))

        result(store.record([settled(found, refused(), at=self.clock.now())]))

        self.assertEqual((before, 1.0), self.counted())
