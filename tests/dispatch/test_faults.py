"""Whose fault it is: the table row by row, in what is stored and in what becomes of the account."""

from __future__ import annotations

import itertools
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.faults import (
    ACCOUNT_CODES,
    ERRORS,
    OPENING,
    TABLE,
    Blame,
    Fault,
    Said,
    Standing,
    Step,
    fault_in,
    opening_fault,
    provably_not_accepted,
    said_by,
)
from mailproxy.dispatch.judge import Rules, judge
from mailproxy.errors import AccountFault
from mailproxy.model import Claimed, Outcome, Reply
from mailproxy.states import Phase, RecipientState
from tests.build import account_spec
from tests.dispatch.test_dispatcher import OK, DispatchCase
from tests.dispatch.test_judge import ACCOUNT, GO, NOW, claimed
from tests.fakes import result

#: A real-looking reply of each class.
REPLIES = {
    Said.YES: Reply(250, "2.0.0 queued as 4bX"),
    Said.CLOSING: Reply(421, "4.3.2 Service not available, closing channel"),
    Said.NOT_NOW: Reply(454, "4.7.0 Temporary authentication failure"),
    Said.LOGIN: Reply(530, "5.7.0 Authentication required"),
    Said.TOO_LARGE: Reply(552, "5.3.4 Message size exceeds fixed limit"),
    Said.LATER: Reply(451, "4.3.0 Local error in processing"),
    Said.NEVER: Reply(554, "5.7.1 Not wanted here"),
}

#: What is expected of each row after the opening: who is at fault, the recipient's state, and
#: what the account's standing learns. Written out by hand, not taken from the table.
EXPECTED: dict[tuple[Phase, Said], tuple[Blame, RecipientState, Standing]] = {}
_D, _F = RecipientState.DEFERRED, RecipientState.FAILED
for _phase in (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY):
    EXPECTED[_phase, Said.NOTHING] = (Blame.NETWORK, _D, Standing.STRIKE)
EXPECTED[Phase.FINAL, Said.NOTHING] = (Blame.NETWORK, _D, Standing.SLOWER)
EXPECTED[Phase.FINAL, Said.YES] = (Blame.NOBODY, RecipientState.SENT, Standing.WORKS)
for _phase in (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.FINAL):
    EXPECTED[_phase, Said.CLOSING] = (Blame.ACCOUNT, _D, Standing.STRIKE)
    EXPECTED[_phase, Said.NOT_NOW] = (Blame.ACCOUNT, _D, Standing.STRIKE)
    EXPECTED[_phase, Said.LOGIN] = (Blame.ACCOUNT, _D, Standing.PARKED)
for _phase in (Phase.MAIL, Phase.DATA, Phase.BODY, Phase.FINAL):
    EXPECTED[_phase, Said.LATER] = (Blame.MESSAGE, _D, Standing.SLOWER)
    EXPECTED[_phase, Said.TOO_LARGE] = (Blame.MESSAGE, _F, Standing.WORKS)
    EXPECTED[_phase, Said.NEVER] = (Blame.MESSAGE, _F, Standing.WORKS)
EXPECTED[Phase.RCPT, Said.LATER] = (Blame.RECIPIENT, _D, Standing.WORKS)
EXPECTED[Phase.RCPT, Said.TOO_LARGE] = (Blame.RECIPIENT, _F, Standing.WORKS)
EXPECTED[Phase.RCPT, Said.NEVER] = (Blame.RECIPIENT, _F, Standing.WORKS)


def outcome_of(phase: Phase, reply: Reply | None) -> Outcome:
    """An attempt at a message to one recipient that *reply* in *phase* ended."""
    error = "" if reply is not None and reply.code != 421 else "the connection was lost"
    if phase is Phase.MAIL:
        return Outcome(phase, reply, (None,), error=error)
    if phase is Phase.RCPT:
        return Outcome(phase, OK, (reply,), error=error)
    if phase is Phase.DATA:
        return Outcome(phase, OK, (OK,), reply, error=error)
    return Outcome(phase, OK, (OK,), GO, reply, error=error)


class TableTests(SynchronousTestCase):
    def test_the_rows_are_those_expected(self) -> None:
        """Every phase has its rows, and each row after the opening has its expectation here."""
        self.assertEqual(set(Phase), set(TABLE))
        rows = {(p, s) for p, row in TABLE.items() if p not in OPENING for s in row}
        self.assertEqual(rows, set(EXPECTED))

    def test_every_code_has_a_class(self) -> None:
        """Each code from 200 to 599 means something in each phase of a transaction."""
        for code in range(200, 600):
            for phase in (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.FINAL):
                fault = fault_in(phase, Reply(code, "x"))
                if code >= 500 and code not in ACCOUNT_CODES:
                    self.assertFalse(fault.temporary, (phase, code))
                elif code >= 400:
                    self.assertTrue(fault.temporary, (phase, code))

    def test_a_full_mailbox_is_not_a_large_message(self) -> None:
        """552 with another enhanced code is not about the size of the message."""
        self.assertIs(Said.NEVER, said_by(552, "5.2.2"))
        self.assertIs(Said.TOO_LARGE, said_by(552))
        self.assertIs(Said.TOO_LARGE, said_by(554, "5.3.4"))

    def test_errors_that_are_not_an_upstreams_word(self) -> None:
        """Only an error that nobody foresaw, about a session as a whole, parks an account."""
        parking = {each.error for each in ERRORS if each.fault.standing is Standing.PARKED}
        self.assertEqual({"any other error about a session"}, parking)
        self.assertIs(Blame.OURS, opening_fault("internal", None).blame)

    @given(
        st.sampled_from(Phase),
        st.none() | st.integers(200, 599),
        st.none() | st.integers(200, 599),
    )
    def test_nobody_can_have_what_is_proven(
        self, phase: Phase, rcpt: int | None, final: int | None
    ) -> None:
        """Another account is allowed only where no reply, and no missing one, leaves a doubt."""
        own = None if rcpt is None else Reply(rcpt, "x")
        last = None if final is None else Reply(final, "x")
        outcome = Outcome(phase, OK, (own,), GO, last)
        proven = provably_not_accepted(outcome)
        if outcome.uncertain or (final is not None and final < 400):
            self.assertFalse(proven)
        else:
            self.assertTrue(proven)


class RowTests(SynchronousTestCase):
    """One test for each row of a transaction; made below."""

    def check(self, phase: Phase, said: Said) -> None:
        blame, state, standing = EXPECTED[phase, said]
        outcome = outcome_of(phase, REPLIES.get(said))
        judged = judge(claimed(), ACCOUNT, outcome, NOW, Rules())
        self.assertIs(blame, fault_in(phase, REPLIES.get(said)).blame)
        self.assertEqual([state], [change.state for change in judged.record.changes])
        self.assertIs(standing, judged.standing)
        self.assertEqual(state is _D, judged.record.next_at is not None)
        old = claimed(accepted_at=NOW - 86400 - 10, expires_at=NOW - 10)
        late = judge(old, ACCOUNT, outcome, NOW, Rules()).record.changes[0].state
        if state is _D:
            # Only the account's fault is waited for longer than the message's own age allows.
            self.assertEqual(_D if blame is Blame.ACCOUNT else RecipientState.EXPIRED, late)


class OpeningRowTests(DispatchCase):
    """One test for each row of the opening; made below."""

    def check_opening(self, phase: Phase, said: Said) -> None:
        reply = REPLIES.get(said)
        code = None if reply is None else reply.code
        fault = AccountFault(phase, str(reply or "no answer"), code)
        row: Fault = opening_fault(phase, fault.code)
        self.assertIs(Standing.PARKED, row.standing)
        self.assertIs(Step.WAIT, row.step)
        self.assertTrue(row.temporary)
        self.courier.fault = fault
        self.add("m")
        account = result(self.store.account(self.account.pk))
        assert account is not None
        self.assertTrue(account.parked_reason.startswith(f"{phase}: "))
        self.assertEqual({"m": "queued"}, self.store.states())
        events = [each["kind"] for each in result(self.store.timeline("default", "m"))]
        self.assertNotIn("intent", events)
        self.courier.fault = None
        self.clock.pump([1.0] * 70)
        self.assertEqual({"m": "sent"}, self.store.states())


def _add_rows() -> None:
    for phase, row in TABLE.items():
        for said in row:
            word = said.name.lower()

            def test(self: Any, phase: Phase = phase, said: Said = said) -> None:
                check = self.check_opening if phase in OPENING else self.check
                check(phase, said)

            test.__doc__ = f"{said.value} at {phase}: as the table says."
            test.__name__ = f"test_{phase}_{word}"
            where: type = OpeningRowTests if phase in OPENING else RowTests
            setattr(where, test.__name__, test)


_add_rows()


class AccountTests(DispatchCase):
    """What faults of accounts lead to."""

    def parked(self) -> str:
        account = result(self.store.account(self.account.pk))
        assert account is not None
        return account.parked_reason

    def test_f23_a_refused_connection_is_no_attempt(self) -> None:
        """F23: refused, unreachable, reset: the account is parked; the message has no attempt."""
        for reason in ("the server refuses connections on this port", "no route to host"):
            self.courier.fault = AccountFault("connect", reason)
            self.add(reason)
            self.assertEqual("queued", self.store.states()[reason])
            self.assertEqual(f"connect: {reason}", self.parked())
            self.courier.fault = None
            self.clock.pump([1.0] * 320)
            self.assertEqual("sent", self.store.states()[reason])

    def test_f29_421_is_temporary_and_a_row_of_them_parks(self) -> None:
        """F29: four 421 in a row put four messages off; the fifth parks the account."""
        self.courier.answer = lambda m: Outcome(Phase.MAIL, REPLIES[Said.CLOSING], (None,))
        for n in range(4):
            self.add(f"m{n}")
            self.assertEqual("", self.parked())
        self.add("m4")
        self.assertTrue(self.parked().startswith("mail: 421 4.3.2"))
        self.assertEqual({"deferred"}, set(self.store.states().values()))
        labels = {"tenant_id": "default", "account_id": "acct"}
        self.assertEqual(2.0, self.sample("mailproxy_account_breaker", **labels))
        self.courier.answer = lambda m: Outcome(
            Phase.FINAL, OK, (OK,), GO, OK, timings=(("final", 0.01),)
        )
        self.clock.pump([1.0] * 400)
        self.assertEqual({"sent"}, set(self.store.states().values()))
        self.assertEqual(0.0, self.sample("mailproxy_account_breaker", **labels))

    def test_f51_the_delay_a_server_asks_for_is_kept(self) -> None:
        """F51: 454 try again in 300 seconds: nothing is tried before, then with fewer sessions."""
        ask = Reply(454, "4.7.0 Too many messages, try again in 300 seconds")
        self.courier.answer = lambda m: Outcome(Phase.MAIL, ask, (None,))
        self.add(*[f"m{n}" for n in range(3)])
        begun = len(self.courier.begun)
        account = result(self.store.account(self.account.pk))
        assert account is not None
        self.assertEqual(300.0, (account.probe_at or 0.0) - self.clock.now())
        labels = {"tenant_id": "default", "account_id": "acct"}
        target = self.sample("mailproxy_account_sessions_target", **labels)
        assert target is not None
        self.assertLess(target, self.account.max_sessions)
        self.clock.pump([1.0] * 299)
        self.assertEqual(begun, len(self.courier.begun))
        self.courier.answer = lambda m: Outcome(Phase.FINAL, OK, (OK,), GO, OK)
        self.clock.pump([1.0] * 400)
        self.assertEqual({"sent"}, set(self.store.states().values()))

    def test_f30_a_storm_of_two_hours(self) -> None:
        """
        F30: 421 for two hours: one probe per interval, others are not affected, all are sent.

        The intervals grow to five minutes: some thirty attempts after those that opened it.
        """
        self.courier.answer = self._storm
        result(self.store.put_account(account_spec(id="other"), self.clock.now()))
        self.add(*[f"m{n}" for n in range(200)], account_id="acct")
        opened = len(self.courier.begun)
        self.assertLessEqual(opened, 16)
        for minute in range(120):
            self.add(f"o{minute}", account_id="other")
            self.assertEqual("sent", self.store.states()[f"o{minute}"])
            before = self._tries()
            self.clock.pump([1.0] * 60)
            self.assertLessEqual(self._tries() - before, 2, minute)
        self.assertLessEqual(self._tries() - opened, 40)
        self.assertGreaterEqual(self._tries() - opened, 22)
        self.courier.answer = lambda m: Outcome(
            Phase.FINAL, OK, (OK,), GO, OK, timings=(("final", 0.01),)
        )
        self.clock.pump([10.0] * 1500)
        self.assertEqual({"sent"}, set(self.store.states().values()))

    def _tries(self) -> int:
        return sum(id.startswith("m") for id in self.courier.begun)

    def _storm(self, message: Claimed) -> Outcome:
        if message.id.startswith("o"):
            return Outcome(Phase.FINAL, OK, (OK,), GO, OK)
        return Outcome(Phase.MAIL, REPLIES[Said.CLOSING], (None,))

    def test_the_log_has_one_error_for_an_outage(self) -> None:
        """However many probes fail, the outage is one line of the level ERROR."""
        lines: list[LogEvent] = []
        observer = cast(ILogObserver, lines.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.courier.fault = AccountFault("connect", "refused")
        self.add("a")
        self.clock.pump([10.0] * 200)
        errors = [each for each in lines if each["log_level"] is LogLevel.error]
        self.assertEqual(1, len(errors))
        self.assertGreater(len(self.courier.carries), 5)

    def test_probes_come_less_and_less_often(self) -> None:
        """The pause between probes doubles up to five minutes, spread a little."""
        self.courier.fault = AccountFault("resolve", "the host name cannot be resolved")
        self.add("a")
        at: list[float] = []
        for _ in range(2400):
            before = len(self.courier.carries)
            self.clock.advance(1.0)
            if len(self.courier.carries) > before:
                at.append(self.clock.seconds())
        pauses = [later - sooner for sooner, later in itertools.pairwise(at)]
        self.assertTrue(108 <= pauses[0] <= 133, pauses)
        self.assertTrue(all(268 <= each <= 332 for each in pauses[2:]), pauses)
        self.assertGreater(len(set(pauses[2:])), 1)

    def test_refusals_for_now_take_sessions_before_they_park(self) -> None:
        """451 to MAIL: fewer sessions at once; only a long row of them parks the account."""
        self.courier.answer = lambda m: Outcome(Phase.MAIL, REPLIES[Said.LATER], (None,))
        self.add("a")
        labels = {"tenant_id": "default", "account_id": "acct"}
        self.assertEqual(1.0, self.sample("mailproxy_account_sessions_target", **labels))
        self.assertEqual("", self.parked())
        self.add(*[f"m{n}" for n in range(30)])
        self.assertTrue(self.parked().startswith("mail: 451"))
        self.assertEqual(25, len(self.courier.begun))
