"""
What an upstream's replies mean for each recipient, and what is stored because of it.

Pure. The phase and the code decide together: a refusal of MAIL, DATA or the final dot holds for
every recipient that was accepted until then; a recipient's own refusal holds for it alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from mailproxy.dispatch.faults import RULED, STALE, Blame, Fault, Standing, fault_in
from mailproxy.dispatch.retry import DEFAULT_DELAYS, LONGEST_HINT, GiveUp, after_deferral, hint_in
from mailproxy.model import Account, Claimed, Outcome, RecipientChange, Record, Reply
from mailproxy.reply_rules import Action, Rule, RuleBook
from mailproxy.states import EventKind, OnUncertain, Phase, RecipientState, TlsMode

_encode = msgspec.json.Encoder().encode


@attrs.frozen
class Rules:
    """
    :param delays: default retry delays in seconds; an account's own win.
    :param fault_max_age: seconds a message may wait for a faulty account.
    :param replies: what known replies mean.
    """

    delays: Sequence[float] = DEFAULT_DELAYS
    fault_max_age: float = 432000.0
    replies: RuleBook = attrs.field(factory=RuleBook)


@attrs.frozen
class Judgement:
    """
    :param record: what to store.
    :param standing: what the attempt says about the account.
    :param reason: the reply, or the error, that says so; "" while the account works.
    :param pause: seconds for which the server, or a rule, wants the account to be left alone.
    :param rules: the rules that fitted a reply, each with the first one it fitted.
    """

    record: Record
    standing: Standing = Standing.WORKS
    reason: str = ""
    pause: float | None = None
    rules: Mapping[Rule, Reply] = attrs.Factory(dict)


@attrs.frozen
class _Told:
    """
    What one recipient was told: a reply, or the error that came instead.

    :param fault: what that means.
    """

    reply: Reply | None
    fault: Fault
    error: str = ""
    rule: Rule | None = None

    def ruled(self, host: str, book: RuleBook) -> _Told:
        """The same, with what a rule for this reply makes of it."""
        rule = None if self.reply is None else book.find(host, self.reply)
        if rule is None:
            return self
        return attrs.evolve(self, rule=rule, fault=RULED.get(rule.action, self.fault))

    @property
    def accepted(self) -> bool:
        return self.reply is not None and self.reply.code < 300

    def change(self, n: int, state: RecipientState) -> RecipientChange:
        if self.reply is None:
            return RecipientChange(n, state, None, None, self.error)
        return RecipientChange(
            n, state, self.reply.code, self.reply.enhanced, self.reply.text.replace("\n", " ")
        )


def judge(
    message: Claimed,
    account: Account,
    outcome: Outcome,
    now: float,
    rules: Rules,
    jitter: float = 0.0,
    host: str = "",
) -> Judgement:
    """
    Turn one attempt's outcome into what is stored.

    :param message: as claimed; its ``attempts`` do not count this one.
    :param jitter: a number from -1 to 1.
    :param host: of the account that carried it, if that was another.
    """
    if _all_accepted(message, outcome):
        return Judgement(_delivered(message, outcome, now))
    count = len(message.recipients)
    told = [_told(outcome, index, count) for index in range(count)]
    if not outcome.stale:
        told = [each.ruled(host or account.host, rules.replies) for each in told]
    return _Mixed(message, account, outcome, told, now, rules, jitter).judgement()


def _all_accepted(message: Claimed, outcome: Outcome) -> bool:
    """Whether this is the common case: everybody was accepted, and so was the message."""
    final = outcome.final
    if final is None or not 200 <= final.code < 300 or outcome.mail is None:
        return False
    if outcome.mail.code >= 400 or len(outcome.rcpts) != len(message.recipients):
        return False
    return all(own is not None and own.code < 400 for own in outcome.rcpts) and (
        outcome.data is None or outcome.data.code < 400
    )


def _delivered(message: Claimed, outcome: Outcome, now: float) -> Record:
    """The record of the common case, in which there is nothing to weigh."""
    final = outcome.final
    assert final is not None
    code, enhanced, text = final.code, final.enhanced, final.text.replace("\n", " ")
    sent = RecipientState.SENT
    changes = tuple([RecipientChange(r.n, sent, code, enhanced, text) for r in message.recipients])
    return Record(
        pk=message.pk,
        token=message.token,
        attempt=message.attempts + 1,
        kind=EventKind.OUTCOME,
        changes=changes,
        next_at=None,
        at=now,
        data=event_data(changes, None, outcome.notes),
        outcome=_trace(outcome),
    )


def _told(outcome: Outcome, index: int, count: int) -> _Told:
    """What the recipient with that *index* in the envelope was told."""
    if outcome.mail is not None and outcome.mail.code >= 400:
        return _by(outcome, Phase.MAIL, outcome.mail)
    own = outcome.rcpts[index] if index < len(outcome.rcpts) else None
    if own is not None and own.code >= 400:
        if own.code == 552 and own.enhanced is None and count > 1:
            # RFC 5321, section 4.5.3.1.10: an old spelling of 452, too many recipients.
            own = Reply(452, own.text)
        return _by(outcome, Phase.RCPT, own)
    if own is not None and outcome.data is not None and outcome.data.code >= 400:
        return _by(outcome, Phase.DATA, outcome.data)
    if own is not None and outcome.final is not None:
        return _by(outcome, Phase.FINAL, outcome.final)
    fault = STALE if outcome.stale else fault_in(outcome.phase, None)
    return _Told(None, fault, f"{outcome.phase}: {outcome.error or 'no reply'}")


def _by(outcome: Outcome, phase: Phase, reply: Reply) -> _Told:
    return _Told(reply, STALE if outcome.stale else fault_in(phase, reply))


class _Mixed:
    """An attempt that did not simply deliver to everybody."""

    def __init__(
        self,
        message: Claimed,
        account: Account,
        outcome: Outcome,
        told: list[_Told],
        now: float,
        rules: Rules,
        jitter: float,
    ) -> None:
        self.message = message
        self.account = account
        self.outcome = outcome
        self.told = told
        self.now = now
        self.rules = rules
        self.jitter = jitter
        self.states: dict[int, RecipientState] = {}
        self.unknown = False

    def judgement(self) -> Judgement:
        for index, each in enumerate(self.told):
            self.states[index] = self._state(index, each)
        open_ones = [i for i, state in self.states.items() if state is RecipientState.DEFERRED]
        next_at = self._next_at(open_ones)
        if open_ones and next_at is None:
            for index in open_ones:
                self.states[index] = RecipientState.EXPIRED
        kind = self._kind(bool(open_ones) and next_at is not None)
        record = _record(
            self.message, self.outcome, kind, self.told, self.now, self.states, next_at
        )
        return self._about_account(record)

    def _about_account(self, record: Record) -> Judgement:
        """What the worst that was said means for the account."""
        worst = max(self.told, key=lambda each: each.fault.standing)
        standing = worst.fault.standing
        rules: dict[Rule, Reply] = {}
        for each in self.told:
            if each.rule is not None and each.reply is not None:
                rules.setdefault(each.rule, each.reply)
        if standing <= Standing.WORKS:
            return Judgement(record, standing, rules=rules)
        reason = str(worst.reply) if worst.reply is not None else worst.error
        hint = None
        if worst.reply is not None and worst.fault.blame is Blame.ACCOUNT:
            hint = hint_in(worst.reply.text)
        pauses = [rule.seconds for rule in rules if rule.action is Action.PAUSE]
        if hint is not None:
            pauses.append(min(hint, LONGEST_HINT))
        return Judgement(record, standing, reason, max(pauses, default=None), rules)

    def _state(self, index: int, told: _Told) -> RecipientState:
        own = self.outcome.rcpts[index] if index < len(self.outcome.rcpts) else None
        if self.outcome.uncertain and (own is None or own.code < 400):
            self.unknown = True
            policy = self.account.on_uncertain
            if policy is OnUncertain.FAIL:
                self.told[index] = _Told(None, told.fault, f"uncertain: {told.error}")
                return RecipientState.FAILED
            if policy is OnUncertain.RETRY and self.message.uncertain == 0:
                return RecipientState.DEFERRED
            return RecipientState.UNCERTAIN
        if told.accepted:
            return RecipientState.SENT
        return RecipientState.DEFERRED if told.fault.temporary else RecipientState.FAILED

    def _next_at(self, open_ones: list[int]) -> float | None:
        """When the open recipients are tried again; None if they are not."""
        if not open_ones:
            return None
        if self.outcome.stale:
            return self.now
        limit = self.message.expires_at
        if any(self.told[index].fault.blame is Blame.ACCOUNT for index in open_ones):
            limit = self.message.patience(self.rules.fault_max_age)
        replies = (self.told[index].reply for index in open_ones)
        hints = (hint_in(reply.text) for reply in replies if reply is not None)
        hint = max((each for each in hints if each is not None), default=None)
        decided = after_deferral(
            self.message.attempts + 1,
            self.now,
            limit,
            self.account.retry_delays or self.rules.delays,
            hint,
            self.jitter,
        )
        return None if isinstance(decided, GiveUp) else decided.when

    def _kind(self, deferred: bool) -> EventKind:
        if self.unknown:
            return EventKind.UNCERTAIN
        return EventKind.DEFERRED if deferred else EventKind.OUTCOME


def _record(
    message: Claimed,
    outcome: Outcome,
    kind: EventKind,
    told: Sequence[_Told],
    now: float,
    states: dict[int, RecipientState],
    next_at: float | None,
) -> Record:
    """The transaction's record."""
    changes = tuple(
        each.change(recipient.n, states[index])
        for index, (recipient, each) in enumerate(zip(message.recipients, told, strict=True))
    )
    waiting = [c for c in changes if c.state in (RecipientState.DEFERRED, RecipientState.UNCERTAIN)]
    return Record(
        pk=message.pk,
        token=message.token,
        attempt=message.attempts + 1,
        kind=kind,
        changes=changes,
        next_at=next_at,
        at=now,
        report=bool(waiting) and not outcome.stale,
        reason_key=reason_key(waiting, outcome.phase),
        reason=_reason(waiting, kind),
        data=event_data(changes, next_at, outcome.notes),
        outcome=_trace(outcome),
    )


def reason_key(waiting: Sequence[RecipientChange], phase: Phase | str) -> str:
    """
    What makes one deferral a different one from the last: recipients and codes, never the text.

    Where there was no reply, the *phase* stands for the class of the error.
    """
    if not waiting:
        return ""
    parts = (f"{c.n}:{c.state}:{c.code or phase}:{c.enhanced or ''}" for c in waiting)
    return format(zlib.crc32(";".join(sorted(parts)).encode()), "08x")


def _reason(waiting: Sequence[RecipientChange], kind: EventKind) -> str:
    replies = dict.fromkeys(f"{c.code} {c.reply}" if c.code else c.reply for c in waiting)
    text = "; ".join(replies)[:1000]
    return f"uncertain: {text}" if kind is EventKind.UNCERTAIN and text else text


def event_data(
    changes: Sequence[RecipientChange], next_at: float | None, notes: Sequence[str] = ()
) -> bytes:
    """The event's own data: what each recipient was told, and what else there is to know."""
    data: dict[str, Any] = {
        "recipients": [
            {"n": c.n, "state": c.state, "code": c.code, "reply": c.reply} for c in changes
        ],
        "next_at": next_at,
    }
    if notes:
        data["notes"] = notes
    return _encode(data)


def _trace(outcome: Outcome) -> bytes:
    """The attempt's row: every reply and timing, as the session saw it."""
    return _encode(
        {
            "phase": outcome.phase,
            "mail": _short(outcome.mail),
            "rcpts": [_short(reply) for reply in outcome.rcpts],
            "data": _short(outcome.data),
            "final": _short(outcome.final),
            "error": outcome.error,
            "timings": dict(outcome.timings),
            "tls": outcome.tls,
            "peer": outcome.peer,
            "notes": outcome.notes,
        }
    )


def _short(reply: Reply | None) -> str | None:
    return None if reply is None else str(reply)


def after_crash(
    message: Claimed, account: Account | None, now: float, rules: Rules, jitter: float = 0.0
) -> Record:
    """
    The record for a message that a process which is gone had begun: the attempt is uncertain.

    :param message: ``attempts`` counts the open attempt (the intent is stored).
    :param account: None if it was deleted meanwhile: then nothing is tried again.
    """
    outcome = Outcome(
        phase=Phase.FINAL,
        error="the process ended before the outcome was known",
    )
    begun = attrs.evolve(message, attempts=message.attempts - 1)
    lost = _Told(None, fault_in(Phase.FINAL, None), f"{outcome.phase}: {outcome.error}")
    told = [lost for _ in message.recipients]
    known = account or _HOLDING
    return _Mixed(begun, known, outcome, told, now, rules, jitter).judgement().record


#: Stands for an account that is gone: nothing is sent for it again, an operator decides.
_HOLDING = Account(0, "", "", 0, "", 0, TlsMode.PLAIN, on_uncertain=OnUncertain.HOLD)
