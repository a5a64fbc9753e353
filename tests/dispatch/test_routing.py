"""Which account carries a message, and when one goes on to another: decided without a network."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.judge import Rules, judge
from mailproxy.dispatch.routing import (
    Nowhere,
    Through,
    Tried,
    Wait,
    choose,
    goes_on,
    order_of,
    passed_on,
    too_large,
)
from mailproxy.model import Outcome, Recipient, Record, Reply
from mailproxy.routes import Routes
from mailproxy.states import EventKind, OnUncertain, Phase, RecipientState
from tests.delivery.peer import account
from tests.delivery.test_courier import claimed
from tests.fakes import EPOCH

NOW = EPOCH + 100.0
OK, GO = Reply(250, "2.0.0 Ok"), Reply(354, "go")
LATER, NO = Reply(451, "4.3.0 later"), Reply(550, "5.1.1 nobody")
LARGE = Reply(552, "5.3.4 the message has 9 octets, the server takes 5")

NAMES = st.sampled_from("abcdef")
ORDERS = st.lists(NAMES, unique=True, max_size=6)
STANDINGS = st.dictionaries(NAMES, st.none() | st.floats(NOW - 10, NOW + 10))


class ChooseTests(SynchronousTestCase):
    @given(ORDERS, STANDINGS, st.sets(NAMES))
    def test_the_first_that_takes_mail(
        self, order: list[str], standings: dict[str, float | None], tried: set[str]
    ) -> None:
        """It is the first of those that are there, were not tried, and take mail now."""
        able = [
            name
            for name in order
            if name not in tried and (when := standings.get(name)) is not None and when <= NOW
        ]
        chosen = choose(order, standings.get, NOW, tried)
        if able:
            self.assertEqual(Through(able[0]), chosen)
        else:
            self.assertNotIsInstance(chosen, Through)

    @given(ORDERS, STANDINGS, st.sets(NAMES))
    def test_waiting(
        self, order: list[str], standings: dict[str, float | None], tried: set[str]
    ) -> None:
        """Where none does, the message waits for the first that will; without one it waits not."""
        chosen = choose(order, standings.get, NOW, tried)
        left = [name for name in order if name not in tried]
        opening = [when for name in left if (when := standings.get(name)) is not None]
        if isinstance(chosen, Wait):
            self.assertEqual(min(opening), chosen.until)
            self.assertGreater(chosen.until, NOW)
        elif isinstance(chosen, Nowhere):
            self.assertEqual([], opening)

    @given(STANDINGS)
    def test_return(self, standings: dict[str, float | None]) -> None:
        """As soon as the first takes mail again, it has it, whatever the others do."""
        self.assertEqual(Through("a"), choose("abc", {**standings, "a": NOW}.get, NOW))

    @given(st.text(min_size=1, max_size=5), st.sampled_from("abc"))
    def test_doubt(self, message_id: str, doubted: str) -> None:
        """Where an attempt may have been accepted, there is no account but the one it used."""
        routes = Routes("a", {"a": 1, "b": 1}, ("c",))
        message = attrs.evolve(claimed(1), id=message_id, doubted_at=doubted, uncertain=1)
        self.assertEqual((doubted,), order_of(message, routes))
        certain = attrs.evolve(message, doubted_at="")
        self.assertEqual(routes.order(message_id), order_of(certain, routes))


class TriedTests(SynchronousTestCase):
    def test_remembers(self) -> None:
        """What a message was tried through is known until it is forgotten."""
        tried = Tried()
        tried.add(1, "a")
        tried.add(1, "b")
        tried.add(2, "a")
        self.assertEqual({"a", "b"}, tried.of(1))
        tried.forget(1)
        tried.forget(1)
        self.assertEqual((frozenset(), {"a"}), (tried.of(1), tried.of(2)))

    def test_is_bounded(self) -> None:
        """Of too many messages the first is forgotten."""
        tried = Tried(most=2)
        for pk in (1, 2, 3):
            tried.add(pk, "a")
        self.assertEqual((2, frozenset(), {"a"}), (len(tried), tried.of(1), tried.of(3)))


def message(count: int = 2, **values: Any) -> Any:
    people = tuple(Recipient(n, f"r{n}@x.org", RecipientState.WAITING) for n in range(count))
    return attrs.evolve(claimed(7, recipients=people), **values)


def judged(outcome: Outcome, policy: OnUncertain = OnUncertain.RETRY, **values: Any) -> Record:
    return judge(
        message(len(outcome.rcpts) or 2, **values),
        account(on_uncertain=policy),
        outcome,
        NOW,
        Rules((60.0, 300.0)),
    ).record


#: An attempt that came to nothing in each phase, and whether another account is tried at once.
PHASES: tuple[tuple[Outcome, bool], ...] = (
    (Outcome(Phase.MAIL, error="reset"), True),
    (Outcome(Phase.MAIL, Reply(421, "4.3.2 going down"), error="421 4.3.2 going down"), True),
    (Outcome(Phase.MAIL, LATER), True),
    (Outcome(Phase.MAIL, Reply(535, "5.7.8 no")), True),
    (Outcome(Phase.MAIL, NO), False),
    (Outcome(Phase.MAIL, LARGE), True),
    (Outcome(Phase.RCPT, OK, (OK, None), error="reset"), True),
    (Outcome(Phase.RCPT, OK, (LATER, LATER)), False),
    (Outcome(Phase.RCPT, OK, (NO, NO)), False),
    (Outcome(Phase.DATA, OK, (OK, OK), error="reset"), True),
    (Outcome(Phase.DATA, OK, (OK, OK), LATER), True),
    (Outcome(Phase.DATA, OK, (OK, OK), NO), False),
    (Outcome(Phase.BODY, OK, (OK, OK), GO, error="reset"), True),
    (Outcome(Phase.FINAL, OK, (OK, OK), GO, error="reset"), False),
    (Outcome(Phase.FINAL, OK, (OK, OK), GO, LATER), True),
    (Outcome(Phase.FINAL, OK, (OK, OK), GO, NO), False),
    (Outcome(Phase.FINAL, OK, (OK, OK), GO, LARGE), True),
    (Outcome(Phase.FINAL, OK, (OK, OK), GO, OK), False),
    (Outcome(Phase.FINAL, OK, (OK, LATER), GO, OK), False),
    (Outcome(Phase.MAIL, error="reset", stale=True), False),
)


class GoesOnTests(SynchronousTestCase):
    def test_every_phase(self) -> None:
        """A message goes on where nobody has it and the server, not a recipient, was at fault."""
        for outcome, expected in PHASES:
            self.assertEqual(expected, goes_on(outcome), outcome)

    def test_never_after_the_dot(self) -> None:
        """A lost reply to the end of the message never sends it to another."""
        for rcpts in ((OK, OK), (OK, NO), (OK, LATER)):
            lost = Outcome(Phase.FINAL, OK, rcpts, GO, error="reset")
            self.assertFalse(goes_on(lost), rcpts)

    def test_sizes(self) -> None:
        """A refusal for the size is told by its code; a full mailbox is none."""
        for reply, large in (
            (LARGE, True),
            (Reply(552, "too big"), True),
            (Reply(552, "5.2.3 message too long"), True),
            (Reply(554, "5.3.4 too big"), True),
            (Reply(552, "5.2.2 mailbox full"), False),
            (Reply(452, "4.3.4 not now"), False),
            (NO, False),
        ):
            for outcome in (
                Outcome(Phase.MAIL, reply),
                Outcome(Phase.DATA, OK, (OK,), reply),
                Outcome(Phase.FINAL, OK, (OK,), GO, reply),
            ):
                self.assertEqual(reply if large else None, too_large(outcome), outcome)
        self.assertIsNone(too_large(Outcome(Phase.FINAL, OK, (LARGE, OK), GO, OK)))


class PassedOnTests(SynchronousTestCase):
    def test_at_once(self) -> None:
        """What goes on is due at once, is not reported, and keeps what the server said."""
        for outcome, expected in PHASES:
            if not expected:
                continue
            before = judged(outcome)
            record = passed_on(before, outcome, NOW)
            self.assertEqual((EventKind.DEFERRED, NOW), (record.kind, record.next_at))
            self.assertEqual((False, ""), (record.report, record.reason_key))
            self.assertEqual({RecipientState.DEFERRED}, {c.state for c in record.changes})
            self.assertEqual(
                [(c.n, c.code, c.reply) for c in before.changes],
                [(c.n, c.code, c.reply) for c in record.changes],
            )
            self.assertEqual((before.attempt, before.outcome), (record.attempt, record.outcome))
            self.assertIn("goes on to another account", msgspec.json.decode(record.data)["notes"])

    def test_refused_recipients_stay_refused(self) -> None:
        """Who was refused for himself is not tried again by another account."""
        outcome = Outcome(Phase.FINAL, OK, (NO, OK), GO, LARGE)
        record = passed_on(judged(outcome), outcome, NOW)
        self.assertEqual(
            [RecipientState.FAILED, RecipientState.DEFERRED], [c.state for c in record.changes]
        )
        self.assertEqual("552 5.3.4 the message has 9 octets, the server takes 5", record.reason)

    def test_before_the_age_limit(self) -> None:
        """What would be too old for a retry later is still tried at once."""
        outcome = Outcome(Phase.MAIL, error="reset")
        before = judged(outcome, expires_at=NOW + 5)
        self.assertEqual({RecipientState.EXPIRED}, {c.state for c in before.changes})
        record = passed_on(before, outcome, NOW)
        self.assertEqual(NOW, record.next_at)
        self.assertEqual({RecipientState.DEFERRED}, {c.state for c in record.changes})
