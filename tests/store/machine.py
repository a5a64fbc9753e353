"""
Any order of acts on a store: nothing lost, nothing sent twice, everything reported once.

A state machine posts, claims, begins, records, suspends, deletes, reports, kills and waits in any
order hypothesis thinks of, keeps a ledger of what must be so, and compares after each step.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mailproxy.interfaces import IStore
from mailproxy.model import Claimed, RecipientChange, Record
from mailproxy.records import ListQuery, ReportItem
from mailproxy.states import EventKind, RecipientState
from tests.build import accepted, account_spec, put_off, record, refused, unknown
from tests.contracts_base import DAY, IDEMPOTENCY, RETENTION
from tests.fakes import FakeClock, result
from tests.store.ledger import CONTENTS, Ledger, Mail, build

IDS = st.sampled_from(["m1", "m2", "m3"])
TEXTS = st.sampled_from(sorted(CONTENTS))
BATCHES = st.sampled_from(["", "x"])
MAKERS = {
    RecipientState.SENT: accepted,
    RecipientState.FAILED: refused,
    RecipientState.DEFERRED: put_off,
    RecipientState.UNCERTAIN: unknown,
}
#: Seconds between an attempt and the next.
RETRY = 60.0


class StoreMachine(RuleBasedStateMachine):
    """:ivar claims: what this process was given; the ledger knows which of it is still good."""

    def open_store(self, clock: FakeClock) -> IStore:
        raise NotImplementedError

    def kill_store(self) -> IStore:
        """The store of the next process start."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.clock = FakeClock()
        self.store = self.open_store(self.clock)
        self.account = result(self.store.put_account(account_spec(), self.now))
        self.ledger = Ledger()
        self.claims: list[Claimed] = []
        self.open_report: tuple[list[ReportItem], dict[str, list[int]]] | None = None
        self.recorded: list[Record] = []

    @property
    def now(self) -> float:
        return self.clock.now()

    # Acts.

    @rule(data=st.data(), count=st.integers(1, 3))
    def post(self, data: st.DataObject, count: int) -> None:
        """Post some messages in one request."""
        messages, expected = [], []
        for _ in range(count):
            text = data.draw(TEXTS)
            wait = data.draw(st.sampled_from([None, None, -5.0, 100.0]))
            message = build(
                data.draw(IDS),
                text,
                data.draw(st.integers(0, 3)),
                data.draw(BATCHES),
                None if wait is None else self.now + wait,
                test=data.draw(st.sampled_from([False, False, False, True])),
            )
            messages.append(message)
            expected.append(self.ledger.post(message, text, self.now))
        answers = result(self.store.enqueue(messages, self.now, 5.0))
        for answer, right in zip(answers, expected, strict=True):
            assert answer.verdict in right, (answer, right)

    @rule(
        limit=st.integers(1, 5),
        how=st.sampled_from([{}, {}, {"oldest": True}, {"urgent": True}]),
        go=st.booleans(),
    )
    def claim(self, limit: int, how: dict[str, bool], go: bool) -> None:
        """Claim, and perhaps begin; get what is due and nobody holds, the most urgent first."""
        free = self.ledger.claimable(self.now)
        if how.get("urgent"):
            free = {name: mail for name, mail in free.items() if mail.schedule[0] == 0}
        claimed = result(self.store.claim(self.account.pk, limit, self.now, **how))
        taken = [each.id for each in claimed]
        assert len(taken) == len(set(taken)) == min(limit, len(free)), (taken, set(free))
        assert set(taken) <= set(free), (taken, set(free))
        left = [mail for name, mail in free.items() if name not in taken]
        if how.get("oldest"):
            last = max((free[name].due for name in taken), default=0.0)
            assert all(mail.due >= last for mail in left)
        else:
            order = [free[name].schedule[0] for name in taken]
            assert order == sorted(order)
            assert all(mail.schedule[0] >= order[-1] for mail in left)
        for each in claimed:
            self._check_claim(free[each.id], each)
            free[each.id].claim = each
            self.claims.append(each)
        if go:
            self._begin(claimed)

    def _check_claim(self, mail: Mail, claimed: Claimed) -> None:
        assert (claimed.generation, claimed.attempts) == (mail.generation, mail.attempts)
        assert {rcpt.address for rcpt in claimed.recipients} == self.ledger.servable(mail)
        assert claimed.message_id == f"<{mail.id}@mail.example.com>"
        stored = result(self.store.contents([claimed.pk]))
        assert stored[claimed.pk].content.plain == mail.body

    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        """Claim what is due, begin it, and bring it to its end."""
        self.claim(3, {}, True)
        while self.begun():
            self.outcome(data)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Ask for intents on claims, good ones and lost ones."""
        some = st.lists(st.sampled_from(self.claims), min_size=1, max_size=3, unique=True)
        self._begin(data.draw(some))

    def _begin(self, asked: list[Claimed]) -> None:
        expected = [self.ledger.begin(claimed, self.now) for claimed in asked]
        leases = [(claimed.pk, claimed.token) for claimed in asked]
        assert result(self.store.begin(leases, "acct", self.now)) == expected

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Give a claim back, which may be lost or begun."""
        claimed = data.draw(st.sampled_from(self.claims))
        mail = self.ledger.mails[claimed.id]
        if mail.claim is claimed and not mail.begun:
            mail.claim = None
        result(self.store.release([(claimed.pk, claimed.token)]))

    def begun(self) -> list[Mail]:
        return [mail for mail in self.ledger.mails.values() if mail.begun]

    @precondition(lambda self: self.begun())
    @rule(data=st.data())
    def outcome(self, data: st.DataObject) -> None:
        """An attempt comes to its end: each recipient by itself."""
        mail = data.draw(st.sampled_from(self.begun()))
        claimed = mail.begun
        assert claimed is not None
        self._record(mail, claimed, claimed.attempts + 1, data)

    def _record(self, mail: Mail, claimed: Claimed, attempt: int, data: st.DataObject) -> None:
        unsure = data.draw(st.booleans())
        choice = list(MAKERS)[-2:] if unsure else list(MAKERS)[:-1]
        states = {rcpt.address: data.draw(st.sampled_from(choice)) for rcpt in claimed.recipients}
        reason = data.draw(st.sampled_from(["", "greylisted", "full"]))
        changes: list[RecipientChange] = [
            MAKERS[states[rcpt.address]](rcpt.n) for rcpt in claimed.recipients
        ]
        waits = RecipientState.DEFERRED in states.values()
        item = record(
            claimed,
            *changes,
            at=self.now,
            attempt=attempt,
            kind=EventKind.UNCERTAIN if unsure else EventKind.OUTCOME,
            next_at=self.now + RETRY if waits else None,
            report=bool(reason),
            reason=reason,
            reason_key=reason,
        )
        assert result(self.store.record([item])) == [True]
        self.recorded.append(item)
        doomed = mail.doomed
        self.ledger.outcome(mail, states, reason, self.now + RETRY, self.now, unsure=unsure)
        if doomed:
            self.upkeep()

    @precondition(lambda self: self.recorded)
    @rule(data=st.data())
    def record_again(self, data: st.DataObject) -> None:
        """An outcome is offered a second time: it has no effect."""
        item = data.draw(st.sampled_from(self.recorded))
        assert result(self.store.record([item])) == [False]

    @rule(batch=st.sampled_from([None, "x"]), stop=st.booleans())
    def suspend(self, batch: str | None, stop: bool) -> None:
        """Suspend the service or a batch, or activate what is suspended."""
        if not stop:
            batch = None if "*" in self.ledger.suspended else "x"
        tenant = None if batch is None else "default"
        act = self.store.suspend if stop else self.store.activate
        result(act(tenant, batch, self.now))
        (self.ledger.suspended.add if stop else self.ledger.suspended.discard)(batch or "*")

    @rule(taken=st.booleans())
    def offer(self, taken: bool) -> None:
        """A report is opened, and perhaps taken; one that was open before got no answer."""
        items = result(self.store.unreported("default", 100))
        self.open_report = (
            items,
            {mail.id: list(mail.news) for mail in self.ledger.mails.values() if mail.news},
        )
        if taken:
            self.ack()

    @rule(data=st.data())
    def post_inside_a_report(self, data: st.DataObject) -> None:
        """The application posts while it takes a report."""
        self.offer(False)
        self.post(data, 2)
        self.ack()

    @precondition(lambda self: self.open_report)
    @rule()
    def ack(self) -> None:
        """The open report is taken: it covers what was offered, not what happened since."""
        assert self.open_report is not None
        items, serials = self.open_report
        self.open_report = None
        result(self.store.acked([pk for item in items for pk in item.event_pks], self.now))
        self.ledger.acked(serials, self.now)

    @rule(seconds=st.sampled_from([1.0, RETRY, 100.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        result(self.store.heartbeat(self.now))

    @rule(act=st.sampled_from(["delete", "age", "kill"]), data=st.data())
    def disturb(self, act: str, data: st.DataObject) -> None:
        """What happens seldom."""
        if act == "delete":
            self.delete_account()
        elif act == "kill":
            self.kill(data, data.draw(st.integers(1, 2)))
        elif self.clock.seconds() + RETENTION < IDEMPOTENCY:
            self.wait_long()

    def delete_account(self) -> None:
        """The account is deleted, and another made under its id."""
        assert result(self.store.delete_account("default", "acct", self.now))
        self.ledger.account_deleted()
        self.upkeep()
        old, self.account = self.account, result(self.store.put_account(account_spec(), self.now))
        assert old.pk != self.account.pk

    def wait_long(self) -> None:
        """What is reported is removed, and only that."""
        self.clock.advance(RETENTION + DAY)
        result(self.store.heartbeat(self.now))
        self.upkeep()

    def upkeep(self) -> None:
        while result(self.store.upkeep(self.now)):
            pass
        self.ledger.upkeep(self.now)

    def kill(self, data: st.DataObject, times: int) -> None:
        """The process is killed; what it had begun, and that alone, is found to be settled."""
        for _ in range(times):
            self.clock.advance(1.0)
            self.store = self.kill_store()
            found = result(self.store.abandoned(self.now))
            begun = self.begun()
            assert sorted(each.id for each in found) == sorted(mail.id for mail in begun)
        self.claims.clear()
        for mail in self.ledger.mails.values():
            mail.claim = None
        for claimed in found:
            mail = self.ledger.mails[claimed.id]
            assert claimed.attempts == mail.attempts
            self._record(mail, claimed, claimed.attempts, data)

    # What must be so after every act.

    @invariant()
    def messages_are_known(self) -> None:
        """Every id that was accepted is there, once, in the right state; or was removed."""
        if not hasattr(self, "store"):
            return
        listed = result(self.store.messages(ListQuery()))
        found = {each.id: each.state for each in listed}
        assert len(found) == len(listed)
        known = {mail.id: mail for mail in self.ledger.mails.values()}
        for name, mail in known.items():
            if mail.risen or not mail.removed:
                right = mail.ended if mail.risen else mail.state
                assert found.get(name) == right, (name, found.get(name), mail)
            else:
                assert name not in found, (name, found[name], mail)
        assert set(found) <= set(known)

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "store"):
            return
        expected: dict[str, int] = {}
        for mail in self.ledger.mails.values():
            if not mail.removed and not mail.state.final:
                expected[mail.state.value] = expected.get(mail.state.value, 0) + 1
        counts = result(self.store.counts(self.now))
        assert {key: n for key, n in counts.by_state.items() if n} == expected

    @invariant()
    def reports_are_owed(self) -> None:
        """Exactly what is owed to the application is offered, one item each."""
        if not hasattr(self, "store"):
            return
        items = result(self.store.unreported("default", 100))
        owed = {mail.id: mail for mail in self.ledger.mails.values() if mail.news}
        assert sorted(item.id for item in items) == sorted(owed), (items, owed)
        for item in items:
            mail = owed[item.id]
            ended = item.sent_ts is not None or item.error is not None
            assert ended == (mail.news[-1] == mail.final_news)
            assert 1 <= len(item.event_pks) <= len(mail.news) + mail.replayed[1]
            if ended:
                mail.final_event = mail.final_event or item.event_id
                assert item.event_id == mail.final_event

    def teardown(self) -> None:
        """Let everything go: whatever was accepted comes to an end, and that is reported."""
        if not hasattr(self, "store"):
            return
        while self.ledger.suspended:
            self.suspend(None, False)
        for claimed in self.claims:
            self.release_quietly(claimed)
        for mail in self.begun():
            assert mail.begun is not None
            self.succeed(mail, mail.begun)
        self.upkeep()  # of deleted accounts, what that left open
        self.clock.advance(200.0)
        for claimed in result(self.store.claim(self.account.pk, 100, self.now)):
            mail = self.ledger.mails[claimed.id]
            mail.claim = claimed
            assert self.ledger.begin(claimed, self.now)
            assert result(self.store.begin([(claimed.pk, claimed.token)], "a", self.now)) == [True]
            self.succeed(mail, claimed)
        for mail in self.ledger.mails.values():
            assert mail.removed or not mail.open, mail
        self.messages_are_known()
        self.reports_are_owed()
        self.offer(True)
        self.reports_are_owed()

    def release_quietly(self, claimed: Claimed) -> None:
        mail = self.ledger.mails[claimed.id]
        if mail.claim is claimed and not mail.begun:
            mail.claim = None
            result(self.store.release([(claimed.pk, claimed.token)]))

    def succeed(self, mail: Mail, claimed: Claimed) -> None:
        assert result(self.store.record([record(claimed, at=self.now)])) == [True]
        states = {rcpt.address: RecipientState.SENT for rcpt in claimed.recipients}
        self.ledger.outcome(mail, states, "", self.now, self.now)
