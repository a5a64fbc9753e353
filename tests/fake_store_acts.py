"""The fake store's ways of letting an operator decide: one message at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from mailproxy.acts import Act, Acted, ActedOnAll, Group, Hold, Operation, in_doubt
from mailproxy.model import Account
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

        def _check_alive(self) -> None: ...
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

    async def act_on_all(
        self,
        group: Group,
        operation: Operation,
        *,
        since: float | None = None,
        singly: bool = False,
    ) -> ActedOnAll | None:
        return await self._write(
            "act_on_all",
            operation.now,
            lambda c: act_on_all(c, group, operation, since or 0.0, singly),
        )

    async def holds(self, tenant_id: str | None) -> list[Hold]:
        self._check_alive()
        batches = [
            Hold(Group(tenant, batch=batch), since, reason)
            for (tenant, batch), (since, reason) in sorted(self.disk.held_batches.items())
        ]
        accounts = [
            Hold(Group(each.tenant_id, account_id=each.id), each.held_since, each.held_reason)
            for each in self.disk.live_accounts()
            if each.held_since is not None
        ]
        accounts.sort(key=lambda hold: (hold.group.tenant_id, hold.group.account_id or ""))
        return [each for each in batches + accounts if tenant_id in (None, each.group.tenant_id)]


def act_on_all(
    change: Change, group: Group, operation: Operation, since: float, singly: bool
) -> ActedOnAll | None:
    disk = change.disk
    account = None
    if group.account_id is not None:
        named = (group.tenant_id, group.account_id)
        live = disk.live_accounts()
        account = next((each for each in live if (each.tenant_id, each.id) == named), None)
        if account is None:
            return None
    rows = [
        row
        for row in disk.messages.values()
        if row.tenant_id == group.tenant_id
        and group.batch in (None, row.batch)
        and (account is None or row.account_pk == account.pk)
    ]
    waiting = [row for row in rows if not row.state.final and not row.open_attempt]
    in_flight = [row for row in rows if row.open_attempt]
    held = _held(disk, group, account)
    verb, reason = operation.act, ""
    if verb is Act.HOLD:
        reason = "it is held already" if held else ""
        if not held:
            reports.settle_ages(change)
            _set_hold(disk, group, account, operation)
    elif verb is Act.RELEASE:
        reason = "" if held or singly else "it is not held"
        if held:
            reports.settle_ages(change)
            _set_hold(disk, group, account, None)
            change.due.update(row.account_pk for row in rows)
        for row in waiting if singly else ():
            act(change, row, operation)
    elif verb is Act.CANCEL:
        changed = [act(change, row, operation).changed for row in [*waiting, *in_flight]]
        reason = "" if any(changed) else "nothing of it is open"
        waiting = []
    else:
        _do_each(change, rows, operation, since)
    return ActedOnAll(
        not reason, _held(disk, group, _same(disk, account)), len(waiting), len(in_flight), reason
    )


def _do_each(change: Change, rows: list[MessageRow], operation: Operation, since: float) -> None:
    for row in rows:
        if operation.act is Act.REQUEUE:
            about = row.state.final and (row.finished_at or 0.0) >= since
        elif operation.act is Act.RETRY:
            about = row.state in (MessageState.QUEUED, MessageState.DEFERRED)
        elif operation.act is Act.RESEND:
            about = row.state is MessageState.UNCERTAIN
        else:
            about = row.state in (MessageState.UNCERTAIN, MessageState.HELD)
        if about:
            act(change, row, operation)


def _same(disk: Disk, account: Account | None) -> Account | None:
    return None if account is None else disk.live_account(account.pk)


def _held(disk: Disk, group: Group, account: Account | None) -> bool:
    if account is not None:
        return account.held_since is not None
    return (group.tenant_id, group.batch or "") in disk.held_batches


def _set_hold(
    disk: Disk, group: Group, account: Account | None, operation: Operation | None
) -> None:
    since = None if operation is None else operation.now
    reason = "" if operation is None else operation.reason
    if account is not None:
        row = disk.accounts[account.pk]
        row.value = attrs.evolve(account, held_since=since, held_reason=reason)
    elif since is None:
        del disk.held_batches[group.tenant_id, group.batch or ""]
    else:
        disk.held_batches[group.tenant_id, group.batch or ""] = (since, reason)


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
    if change.disk.live_account(row.account_pk) is None:
        return "its account was deleted"
    if row.not_after is not None and row.not_after <= change.now:
        return "its expires_at has passed"
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
    if row.not_after is not None and row.not_after <= change.now:
        return "its expires_at has passed"
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
