"""What an upstream's replies mean for each recipient."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.faults import Standing
from mailproxy.dispatch.judge import Rules, after_crash, judge
from mailproxy.dispatch.unbegun import not_reached
from mailproxy.model import Account, Claimed, Outcome, Recipient, Record, Reply
from mailproxy.states import EventKind, OnUncertain, Phase, RecipientState, TlsMode

NOW = 1_750_000_000.0
ACCOUNT = Account(7, "default", "main", 1, "mx.test", 25, TlsMode.PLAIN)
OK = Reply(250, "2.0.0 queued as X")
GO = Reply(354, "go")


def claimed(count: int = 1, **changes: Any) -> Claimed:
    message = Claimed(
        pk=1,
        token=2,
        tenant_id="default",
        id="m",
        generation=1,
        account_pk=7,
        priority=2,
        attempts=0,
        uncertain=0,
        accepted_at=NOW - 5,
        due_since=NOW - 5,
        expires_at=NOW + 86400,
        message_id="<m@x>",
        envelope_from="a@b.test",
        size=100,
        recipients=tuple(
            Recipient(n, f"r{n}@x.test", RecipientState.WAITING) for n in range(count)
        ),
    )
    return attrs.evolve(message, **changes)


def whole(final: Reply | None, *rcpts: Reply, **more: object) -> Outcome:
    return Outcome(Phase.FINAL, OK, rcpts or (OK,), GO, final, **more)  # type: ignore[arg-type]


def states(record: Record) -> list[RecipientState]:
    return [change.state for change in record.changes]


class JudgeTests(SynchronousTestCase):
    def test_notes_stand_in_the_timeline(self) -> None:
        """What was odd about the way, such as an unverified certificate, is in the event's data."""
        for notes in ((), ("the certificate was not verified: it is self-signed",)):
            for final in (OK, Reply(451, "later"), None):
                outcome = whole(final, notes=notes)
                data = json.loads(judge(claimed(), ACCOUNT, outcome, NOW, Rules()).record.data)
                self.assertEqual(list(notes), data.get("notes", []))
                self.assertEqual(bool(notes), "notes" in data)

    def test_a_good_final_reply_sends_everybody(self) -> None:
        """250 to the dot: every recipient is sent, with that reply, and nothing is due."""
        record = judge(claimed(2), ACCOUNT, whole(OK, OK, OK), NOW, Rules()).record
        self.assertEqual([RecipientState.SENT] * 2, states(record))
        self.assertEqual(EventKind.OUTCOME, record.kind)
        self.assertIsNone(record.next_at)
        self.assertFalse(record.report)
        self.assertEqual((250, "2.0.0"), (record.changes[0].code, record.changes[0].enhanced))

    def test_each_recipient_goes_its_own_way(self) -> None:
        """250, 450 and 550 in one envelope: sent, put off, failed; the open one is due again."""
        outcome = whole(OK, OK, Reply(450, "4.2.1 busy"), Reply(550, "5.1.1 no such user"))
        record = judge(claimed(3), ACCOUNT, outcome, NOW, Rules()).record
        self.assertEqual(
            [RecipientState.SENT, RecipientState.DEFERRED, RecipientState.FAILED], states(record)
        )
        self.assertEqual(EventKind.DEFERRED, record.kind)
        self.assertEqual(NOW + 60.0, record.next_at)
        self.assertTrue(record.report)
        self.assertEqual("450 4.2.1 busy", record.reason)

    def test_a_refused_sender_or_body_holds_for_all(self) -> None:
        """A refusal of MAIL, DATA or the dot is every accepted recipient's refusal."""
        for outcome in [
            Outcome(Phase.MAIL, Reply(550, "no")),
            Outcome(Phase.DATA, OK, (OK, OK), Reply(554, "no")),
            whole(Reply(554, "spam"), OK, OK),
        ]:
            record = judge(claimed(2), ACCOUNT, outcome, NOW, Rules()).record
            self.assertEqual([RecipientState.FAILED] * 2, states(record), outcome)
            self.assertIsNone(record.next_at)

    def test_a_lost_connection_before_the_dot_is_a_deferral(self) -> None:
        """Nothing was accepted when the dot had not been handed over: tried again."""
        outcome = Outcome(Phase.BODY, OK, (OK,), GO, error="connection lost")
        record = judge(claimed(), ACCOUNT, outcome, NOW, Rules()).record
        self.assertEqual([RecipientState.DEFERRED], states(record))
        self.assertEqual("body: connection lost", record.reason)

    def test_a_stale_session_burns_no_time(self) -> None:
        """A reused session that was dead already: due again at once, and not reported."""
        outcome = Outcome(Phase.MAIL, error="connection lost", stale=True)
        record = judge(claimed(), ACCOUNT, outcome, NOW, Rules()).record
        self.assertEqual(NOW, record.next_at)
        self.assertFalse(record.report)

    def test_uncertain_is_tried_once_more_under_retry(self) -> None:
        """Policy retry: one more attempt, said in the timeline; the second time as hold."""
        lost = whole(None, error="connection lost")
        first = judge(claimed(), ACCOUNT, lost, NOW, Rules()).record
        self.assertEqual(
            (EventKind.UNCERTAIN, [RecipientState.DEFERRED]), (first.kind, states(first))
        )
        self.assertIsNotNone(first.next_at)
        self.assertTrue(first.reason.startswith("uncertain: "))
        again = judge(claimed(attempts=1, uncertain=1), ACCOUNT, lost, NOW, Rules()).record
        self.assertEqual([RecipientState.UNCERTAIN], states(again))
        self.assertIsNone(again.next_at)
        self.assertTrue(again.report)

    def test_uncertain_under_hold_and_fail(self) -> None:
        """Policy hold waits for an operator; policy fail fails, saying so."""
        lost = whole(None, error="timed out")
        hold = attrs.evolve(ACCOUNT, on_uncertain=OnUncertain.HOLD)
        self.assertEqual(
            [RecipientState.UNCERTAIN], states(judge(claimed(), hold, lost, NOW, Rules()).record)
        )
        fail = attrs.evolve(ACCOUNT, on_uncertain=OnUncertain.FAIL)
        record = judge(claimed(), fail, lost, NOW, Rules()).record
        self.assertEqual([RecipientState.FAILED], states(record))
        self.assertTrue(record.changes[0].reply.startswith("uncertain: "))

    def test_only_accepted_recipients_are_uncertain(self) -> None:
        """A recipient refused before the dot is refused, whatever became of the others."""
        lost = whole(None, OK, Reply(550, "no"), error="lost")
        hold = attrs.evolve(ACCOUNT, on_uncertain=OnUncertain.HOLD)
        record = judge(claimed(2), hold, lost, NOW, Rules()).record
        self.assertEqual([RecipientState.UNCERTAIN, RecipientState.FAILED], states(record))

    def test_a_refused_login_is_the_accounts(self) -> None:
        """530 at MAIL says nothing about the message: it waits, the account is parked."""
        outcome = Outcome(Phase.MAIL, Reply(530, "5.7.0 Authentication required"))
        judged = judge(claimed(), ACCOUNT, outcome, NOW, Rules())
        self.assertEqual([RecipientState.DEFERRED], states(judged.record))
        self.assertIs(Standing.PARKED, judged.standing)
        self.assertIn("530", judged.reason)

    def test_the_age_limit_ends_it(self) -> None:
        """Where the next attempt would lie behind the age limit, the recipient expires."""
        outcome = whole(Reply(451, "later"))
        record = judge(claimed(expires_at=NOW + 10), ACCOUNT, outcome, NOW, Rules()).record
        self.assertEqual([RecipientState.EXPIRED], states(record))
        self.assertEqual(EventKind.OUTCOME, record.kind)

    def test_the_reason_is_the_same_while_only_the_text_changes(self) -> None:
        """A deferral is a new one when recipients or codes change, not when the wording does."""

        def key(text: str, code: int = 451, count: int = 1) -> str:
            outcome = whole(Reply(code, text), *[OK] * count)
            return judge(claimed(count), ACCOUNT, outcome, NOW, Rules()).record.reason_key

        self.assertEqual(key("try later, id 1"), key("try later, id 2"))
        self.assertNotEqual(key("4.2.1 later"), key("4.2.2 later"))
        self.assertNotEqual(key("later"), key("later", 450))
        self.assertNotEqual(key("later"), key("later", 451, 2))

    @given(
        st.sampled_from(Phase),
        st.none() | st.integers(200, 599),
        st.lists(st.none() | st.integers(200, 599), min_size=1, max_size=4),
        st.none() | st.integers(200, 599),
        st.none() | st.integers(200, 599),
        st.sampled_from(OnUncertain),
        st.integers(0, 2),
    )
    def test_no_recipient_is_sent_without_a_reply(
        self,
        phase: Phase,
        mail: int | None,
        rcpts: list[int | None],
        data: int | None,
        final: int | None,
        policy: OnUncertain,
        before: int,
    ) -> None:
        """Whatever came back, *sent* means a good final reply, and every one gets a state."""
        outcome = Outcome(
            phase, _reply(mail), tuple(map(_reply, rcpts)), _reply(data), _reply(final), "lost"
        )
        message = claimed(len(rcpts), uncertain=before, attempts=before)
        account = attrs.evolve(ACCOUNT, on_uncertain=policy)
        record = judge(message, account, outcome, NOW, Rules()).record
        self.assertEqual(list(range(len(rcpts))), [change.n for change in record.changes])
        for change in record.changes:
            if change.state is RecipientState.SENT:
                self.assertIsNotNone(final)
                self.assertTrue(200 <= (change.code or 0) < 300)
        is_open = any(change.state.open for change in record.changes)
        self.assertEqual(is_open, record.next_at is not None)
        json.loads(record.data)
        json.loads(record.outcome or b"")


def _reply(code: int | None) -> Reply | None:
    return None if code is None else Reply(code, "x")


class NotReachedTests(SynchronousTestCase):
    def test_it_waits_for_the_probe_within_the_longer_limit(self) -> None:
        """No attempt is counted, and the account-fault limit holds instead of the age limit."""
        message = claimed(expires_at=NOW - 1)
        record = not_reached(message, "connect: refused", "connect", NOW + 60, NOW, Rules())
        self.assertEqual((0, NOW), (record.attempt, record.next_at))
        self.assertEqual(NOW + 60, json.loads(record.data)["next_at"])
        self.assertEqual([RecipientState.DEFERRED], states(record))
        old = claimed(accepted_at=NOW - 432000, expires_at=NOW - 345600)
        record = not_reached(old, "connect: refused", "connect", NOW + 60, NOW, Rules())
        self.assertEqual([RecipientState.EXPIRED], states(record))


class AfterCrashTests(SynchronousTestCase):
    def test_an_open_intent_is_uncertain(self) -> None:
        """What a dead process had begun counts as that one attempt, by the account's policy."""
        record = after_crash(claimed(2, attempts=1), ACCOUNT, NOW, Rules())
        self.assertEqual((1, EventKind.UNCERTAIN), (record.attempt, record.kind))
        self.assertEqual([RecipientState.DEFERRED] * 2, states(record))
        second = after_crash(claimed(attempts=2, uncertain=1), ACCOUNT, NOW, Rules())
        self.assertEqual([RecipientState.UNCERTAIN], states(second))

    def test_without_its_account_it_is_an_operators(self) -> None:
        """Nothing is sent again for an account that is gone."""
        record = after_crash(claimed(attempts=1), None, NOW, Rules())
        self.assertEqual([RecipientState.UNCERTAIN], states(record))
