"""What operators see of each attempt: the counters it moves, and its line in the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from prometheus_client import Counter
from twisted.logger import Logger

from mailproxy.dispatch.alarms import Alarms
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed, Outcome, Record, Reply
from mailproxy.reply_rules import Action, Rule
from mailproxy.states import EventKind, RecipientState

_log = Logger()


@attrs.define
class Activity:
    """
    :param seconds: a clock that grows: an alarm is not told each time.
    :param log: one INFO line per attempt (``GMP_LOG_DELIVERY_ACTIVITY``).
    """

    metrics: Metrics
    seconds: Callable[[], float]
    log: bool = False
    _alarms: Alarms = attrs.field(init=False, factory=Alarms)
    _recipients: dict[RecipientState, Counter] = attrs.field(init=False, factory=dict)

    def attempt(self, account: Account, message: Claimed, outcome: Outcome, record: Record) -> None:
        """An attempt at *message* came to *outcome*, and *record* is what follows from it."""
        if record.kind is EventKind.DEFERRED:
            self.metrics.deferred.labels(account.tenant_id, account.id).inc()
        elif record.kind is EventKind.UNCERTAIN:
            self.metrics.uncertain.labels(account.tenant_id, account.id).inc()
        if record.next_at is None:
            self.metrics.time_in_queue.observe(max(0.0, record.at - message.accepted_at))
        for change in record.changes:
            self._counter(change.state).inc()
        if record.through:
            self.metrics.through_others.labels(account.tenant_id, account.id, record.through).inc()
        if self.log:
            self._line(account, message, outcome, record)

    def unprepared(self, account: Account, message: Claimed, record: Record) -> None:
        """*message* cannot be completed, and *record* is what follows from it."""
        if record.kind is EventKind.DEFERRED:
            self.metrics.deferred.labels(account.tenant_id, account.id).inc()
        else:
            self.metrics.time_in_queue.observe(max(0.0, record.at - message.accepted_at))
        for change in record.changes:
            self._counter(change.state).inc()
        if self.log:
            _log.info(
                "no attempt tenant={tenant} account={account} id={id} reason={reason!r} "
                "next in {wait}",
                tenant=account.tenant_id,
                account=account.id,
                id=message.id,
                reason=record.reason,
                wait="-" if record.next_at is None else f"{record.next_at - record.at:.1f} s",
            )

    def ruled(self, account: Account, rules: Mapping[Rule, Reply]) -> None:
        """Replies of *account* were such as *rules* know."""
        for rule, reply in rules.items():
            counted = self.metrics.reply_rules.labels(account.tenant_id, account.id, rule.name)
            counted.inc()
            if rule.action is Action.ALARM:
                self._alarm(account, rule, reply)

    def _alarm(self, account: Account, rule: Rule, reply: Reply) -> None:
        about = (account.tenant_id, account.id, rule.name)
        kept = self._alarms.raised(*about, now=self.seconds())
        if kept is None:
            return
        _log.error(
            "account {tenant}/{id} needs a person, {rule}: {reply}{more}",
            tenant=account.tenant_id,
            id=account.id,
            rule=rule.name,
            reply=str(reply).replace("\n", " "),
            more=f" ({kept} more since this was last told)" if kept else "",
        )

    def _counter(self, state: RecipientState) -> Counter:
        """Looking a label up costs more than counting."""
        counter = self._recipients.get(state)
        if counter is None:
            counter = self._recipients[state] = self.metrics.recipients.labels(state.value)
        return counter

    def _line(self, account: Account, message: Claimed, outcome: Outcome, record: Record) -> None:
        _log.info(
            "attempt {attempt} tenant={tenant} account={account} id={id} sent={sent}/{count} "
            "peer={peer} tls={tls} reply={reply!r} seconds={seconds:.3f} next in {wait}",
            attempt=record.attempt,
            tenant=account.tenant_id,
            account=f"{account.id} through {record.through}" if record.through else account.id,
            id=message.id,
            sent=sum(change.state is RecipientState.SENT for change in record.changes),
            count=len(record.changes),
            peer=outcome.peer,
            tls=outcome.tls or "none",
            reply=outcome.error or _last_word(outcome),
            seconds=outcome.timings[-1][1] if outcome.timings else 0.0,
            wait="-" if record.next_at is None else f"{record.next_at - record.at:.1f} s",
        )


def _last_word(outcome: Outcome) -> str:
    """The reply that decided: the latest, or that of the first refused recipient."""
    refused = (reply for reply in outcome.rcpts if reply is not None and reply.code >= 400)
    return str(outcome.final or next(refused, None) or outcome.data or outcome.mail)
