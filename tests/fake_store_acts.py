"""The fake store's ways of letting an operator decide: one message at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from mailproxy.acts import Act, Acted, Operation, in_doubt
from mailproxy.states import EventKind, MessageState, RecipientState
from tests import fake_store_intake as intake
from tests import fake_store_queue as queue
from tests import fake_store_reports as reports
from tests.fake_store_intake import Change
from tests.fake_store_rows import Disk, MessageRow, RecipientRow

T = TypeVar("T")

CANCELLED = "cancelled by an operator"


class FakeActs:
    """The part of the fake that is ``IActs``."""

    if TYPE_CHECKING:
        disk: Disk

        async def _write(
            self,
            method: str,
            now: float,
            work: Callable[[Change], T],
            deadline: float | None = None,
        ) -> T: ...

    async def act(self, tenant_id: str, message_id: str, operation: Operation) -> Acted | None:
        def work(change: Change) -> Acted | None:
            row = change.disk.find(tenant_id, message_id)
            return None if row is None else act(change, row, operation)

        return await self._write("act", operation.now, work)


def act(change: Change, row: MessageRow, operation: Operation) -> Acted:
    begun = row.open_attempt > 0
    reason = _ACTS[operation.act](change, row, operation)
    return Acted(row.tenant_id, row.id, not reason, begun, row.state.value, reason)


def _hold(change: Change, row: MessageRow, operation: Operation) -> str:
    if row.hold:
        return "it is being cancelled" if row.hold == CANCELLED else "it is held already"
    if not row.open:
        return _unchanged(row)
    reports.settle_ages(change)
    said = f": {operation.reason}" if operation.reason else ""
    row.hold = f"held by an operator{said}"
    if not row.open_attempt:
        row.lease, row.reason = None, row.hold
    _tell(change, row, EventKind.HELD, operation)
    return ""


def _release(change: Change, row: MessageRow, operation: Operation) -> str:
    if not row.hold:
        return "it is not held"
    if row.hold == CANCELLED:
        return "it is being cancelled"
    reports.settle_ages(change)
    row.hold, row.reason = "", ""
    if row.open and row.next_at is None and not row.open_attempt:
        row.next_at = change.now
    change.due.add(row.account_pk)
    _tell(change, row, EventKind.RELEASED, operation)
    return ""


def _retry(change: Change, row: MessageRow, operation: Operation) -> str:
    if row.state.final:
        return _requeue(change, row, operation)
    if row.hold or row.open_attempt or not row.open:
        return _unchanged(row)
    if row.not_before is not None and row.not_before > change.now:
        return "its deferred_ts has not come"
    if row.lease is not None or (row.next_at or 0.0) <= change.now:
        return "it is due already"
    row.next_at = change.now
    change.due.add(row.account_pk)
    _tell(change, row, EventKind.RETRIED, operation)
    return ""


def _cancel(change: Change, row: MessageRow, operation: Operation) -> str:
    if row.hold == CANCELLED:
        return "it is being cancelled"
    if not row.open:
        return _unchanged(row)
    if row.open_attempt:
        row.hold = CANCELLED
        _tell(change, row, EventKind.NOTE, operation)
        return ""
    for rcpt in row.recipients:
        if rcpt.state.open:
            _end(rcpt, RecipientState.CANCELLED, CANCELLED)
    row.lease, row.hold, row.reason, row.next_at = None, "", CANCELLED, None
    _ended(change, row, EventKind.CANCELLED, operation)
    return ""


def _close(change: Change, row: MessageRow, operation: Operation) -> str:
    if row.open_attempt:
        return _unchanged(row)
    unsure = [rcpt for rcpt in row.recipients if rcpt.state is RecipientState.UNCERTAIN]
    if not unsure:
        return "nothing of it is uncertain"
    as_sent = operation.act is Act.CLOSE_AS_SENT
    for rcpt in unsure:
        state = RecipientState.SENT if as_sent else RecipientState.FAILED
        _end(rcpt, state, f"closed as {state} by an operator")
        if as_sent:
            row.accepted_by.add(rcpt.address)
    row.lease, row.reason = None, "" if as_sent else "closed as failed by an operator"
    if not row.open:
        row.hold = ""
    change.due.add(row.account_pk)
    _ended(change, row, EventKind.CLOSED, operation)
    return ""


def _requeue(change: Change, row: MessageRow, operation: Operation) -> str:
    if row.state not in (MessageState.FAILED, MessageState.EXPIRED):
        return _unchanged(row)
    wanted = [
        rcpt
        for rcpt in row.recipients
        if rcpt.state is not RecipientState.SENT and not _doubted(rcpt)
    ]
    if not wanted:
        return "it is uncertain: resend or close it"
    return _again(change, row, operation, wanted)


def _resend(change: Change, row: MessageRow, operation: Operation) -> str:
    wanted = [rcpt for rcpt in row.recipients if _doubted(rcpt)]
    if row.state.final:
        if not wanted:
            return "nothing of it is uncertain"
        return _again(change, row, operation, wanted)
    wanted = [rcpt for rcpt in wanted if rcpt.state is RecipientState.UNCERTAIN]
    if not wanted:
        return "nothing of it is uncertain"
    if row.open_attempt or row.hold:
        return _unchanged(row)
    for rcpt in wanted:
        _end(rcpt, RecipientState.DEFERRED, "")
    row.lease, row.next_at = None, change.now
    change.due.add(row.account_pk)
    _tell(change, row, EventKind.RESENT, operation)
    return ""


def _again(
    change: Change, row: MessageRow, operation: Operation, wanted: list[RecipientRow]
) -> str:
    account = change.disk.live_account(row.account_pk)
    if account is None:
        named = (row.tenant_id, row.account_id)
        same = (each for each in change.disk.live_accounts() if (each.tenant_id, each.id) == named)
        account = next(same, None)
    if account is None:
        return "its account was deleted"
    row.generation += 1
    row.account_pk = account.pk
    row.attempts = row.uncertain = row.intent_token = row.fetches = 0
    row.reason = row.reason_key = ""
    row.accepted_at, row.finished_at = change.now, None
    row.next_at = max(change.now, row.not_before or 0.0)
    row.expires_at = row.next_at + intake.max_age(change.disk, account.pk)
    for rcpt in wanted:
        _end(rcpt, RecipientState.WAITING, "")
    change.due.add(account.pk)
    _tell(change, row, EventKind.GENERATION, operation)
    intake.decide(change, row)
    return ""


def _end(rcpt: RecipientRow, state: RecipientState, reply: str) -> None:
    rcpt.state, rcpt.code, rcpt.reply = state, None, reply


def _doubted(rcpt: RecipientRow) -> bool:
    return in_doubt(rcpt.state, rcpt.code, rcpt.reply)


def _unchanged(row: MessageRow) -> str:
    if row.open_attempt:
        return "its body has begun"
    if row.hold:
        return "it is held: release it"
    if row.state is MessageState.UNCERTAIN:
        return "it is uncertain: resend or close it"
    if row.state is MessageState.CANCELLED:
        return "its text is no longer stored: post it again"
    return f"it is {row.state}" if row.state.final else "it waits already"


def _said(operation: Operation) -> dict[str, Any]:
    fields = attrs.asdict(operation)
    del fields["now"]
    return {name: value for name, value in fields.items() if value}


def _tell(change: Change, row: MessageRow, kind: EventKind, operation: Operation) -> None:
    row.tell(change.names, kind, change.now, _said(operation))


def _ended(change: Change, row: MessageRow, kind: EventKind, operation: Operation) -> None:
    final = row.state.final
    if final:
        row.next_at, row.finished_at = None, change.now
        change.reportable.add(row.tenant_id)
        if row.state in queue.TEXTLESS:
            row.payload, row.parts = queue.without_text(row.payload), {}
    row.tell(change.names, kind, change.now, _said(operation), final=final)


_ACTS: dict[Act, Callable[[Change, MessageRow, Operation], str]] = {
    Act.HOLD: _hold,
    Act.RELEASE: _release,
    Act.RETRY: _retry,
    Act.CANCEL: _cancel,
    Act.REQUEUE: _requeue,
    Act.RESEND: _resend,
    Act.CLOSE_AS_SENT: _close,
    Act.CLOSE_AS_FAILED: _close,
}
