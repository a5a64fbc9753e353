"""The fake store's queue: due mail, leases, the fenced intent, outcomes, and dead nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import msgspec

from mailproxy import payload as payloads
from mailproxy.model import Account, Claimed, Recipient, RecipientChange, Record, Stored
from mailproxy.states import EventKind, MessageState, RecipientState
from mailproxy.tenancy import Suppression
from tests import fake_store_limits as limits
from tests import fake_store_reports as reports
from tests.fake_store_intake import Change
from tests.fake_store_rows import Disk, Lease, MessageRow

#: What a recipient may be in while it is not known whether it was accepted.
_IN_DOUBT = (RecipientState.WAITING, RecipientState.DEFERRED, RecipientState.UNCERTAIN)

#: When the text of a message is not kept any more.
TEXTLESS = (MessageState.SENT, MessageState.CANCELLED)

#: Seconds a message waits at least for an account at fault.
FAULT_MAX_AGE = 432_000.0

#: Up to this size a claim brings the payload along, if there are no attachments.
INLINE_BYTES = 32_768


def due_accounts(disk: Disk, now: float) -> tuple[list[int], float | None]:
    due: set[int] = set()
    later: list[float] = []
    known: dict[int, float | None] = {}
    told: dict[int, float] = {}  # by account: what is due by then would say nothing new
    for row in disk.messages.values():
        if row.lease is not None or row.next_at is None:
            continue
        if row.next_at <= told.get(row.account_pk, -math.inf):
            continue
        account = disk.live_account(row.account_pk)
        if account is None or not disk.servable(row):
            continue
        if disk.may_be_sent(row, now):
            if row.account_pk not in known:
                known[row.account_pk] = limits.opens_at(disk, row.tenant_id, row.account_pk, now)
            opens = known[row.account_pk]
            waits = opens is not None and not limits.rejecting(disk, row.account_pk)
            if opens is not None and waits and row.next_at <= opens:
                later.append(opens)
                told[row.account_pk] = opens
            elif row.next_at <= now:
                due.add(row.account_pk)
                told[row.account_pk] = now
            else:
                later.append(row.next_at)
        elif account.probe_at is not None and disk.may_be_sent(row, account.probe_at):
            later.append(max(row.next_at, account.probe_at))
            if row.next_at <= account.probe_at:
                told[row.account_pk] = account.probe_at
    return sorted(due), min(later, default=None)


def claim(
    change: Change, account_pk: int, limit: int, oldest: bool, urgent: bool, spill: bool = False
) -> list[Claimed]:
    ready = [
        row
        for row in change.disk.messages.values()
        if row.account_pk == account_pk
        and row.lease is None
        and row.next_at is not None
        and row.next_at <= change.now
        and (row.priority == 0 or not urgent)
        and change.disk.may_be_sent(row, change.now)
        and change.disk.servable(row)
    ]
    room, opens = limits.room(change.disk, account_pk, change.now, spill=spill)
    if opens is not None and ready:
        change.limited.append((account_pk, opens))
        if limits.rejecting(change.disk, account_pk):
            _fail(change, ready[:limit])
            change.due.add(account_pk)
        return []
    if room < limit and any(row.priority == 0 for row in ready):
        oldest = False
    limit = min(limit, room)
    ready.sort(key=lambda row: (0 if oldest else row.priority, row.next_at or 0.0, row.pk))
    taken: list[MessageRow] = []
    for row in ready:
        if len(taken) < limit and not _expired(change, row):
            taken.append(row)
    taken.sort(key=lambda row: (row.priority, row.next_at or 0.0, row.pk))
    return [_lease(change, row) for row in taken]


def _overdue(change: Change, row: MessageRow) -> bool:
    return row.not_after is not None and row.not_after <= change.now


def _expired(change: Change, row: MessageRow) -> bool:
    """Whether its own time is over: then it ends as its turn comes."""
    return _overdue(change, row) and _expire(change, row, "its expires_at has passed")


def _expire(change: Change, row: MessageRow, reason: str) -> bool:
    claimed = _lease(change, row)
    opened = (n for n, rcpt in enumerate(row.recipients) if rcpt.state.open)
    changes = tuple(RecipientChange(n, RecipientState.EXPIRED, reply=reason) for n in opened)
    item = Record(row.pk, claimed.token, 0, EventKind.EXPIRED, changes, None, change.now)
    return _record(change, attrs.evolve(item, reason=reason))


def expire(change: Change) -> int:
    """End what is overdue, although nobody claims it."""
    disk = change.disk
    for row in disk.messages.values():
        if row.open_attempt or row.lease is not None:
            continue
        account = disk.live_account(row.account_pk)
        if account is None or disk.tenant(row.tenant_id) is None:
            continue  # its deletion ends it
        if not (account.parked_reason or _overdue(change, row)) or not row.open:
            continue
        if _expired(change, row):
            return 1
        if _given_up(disk, row, account, change.now):
            return int(_expire(change, row, account.parked_reason))
    return 0


def _given_up(disk: Disk, row: MessageRow, account: Account, now: float) -> bool:
    """Whether its account was tried in vain since it is due, and it is too old for the next."""
    closed, probe = disk.accounts[row.account_pk], account.probe_at or 0.0
    if not account.parked_reason or not closed.closed or probe <= now:
        return False
    if row.hold or disk.is_stopped(row) or not disk.servable(row):
        return False
    if row.next_at is None or row.next_at > closed.tried_at:
        return False
    return max(row.expires_at, row.accepted_at + FAULT_MAX_AGE) <= probe


def _fail(change: Change, rows: Sequence[MessageRow]) -> None:
    """They are over a limit of an account that rejects what is."""
    for row in rows:
        claimed = _lease(change, row)
        reason = limits.reason(change.disk, row.account_pk, change.now)
        changes = tuple(
            RecipientChange(each.n, RecipientState.FAILED, reply=reason)
            for each in claimed.recipients
        )
        item = Record(row.pk, claimed.token, 0, EventKind.FAILED, changes, None, change.now)
        _record(change, attrs.evolve(item, reason=reason))


def _lease(change: Change, row: MessageRow) -> Claimed:
    row.lease = Lease(change.node_id, change.names.token())
    opened = {n for n, rcpt in enumerate(row.recipients) if rcpt.state.open}
    if not row.open_attempt:
        row.left_out = opened.difference(change.disk.servable(row))
    account = change.disk.live_account(row.account_pk)
    small = row.size <= INLINE_BYTES and not row.parts
    return Claimed(
        pk=row.pk,
        token=row.lease.token,
        tenant_id=row.tenant_id,
        id=row.id,
        generation=row.generation,
        account_pk=row.account_pk,
        priority=row.priority,
        attempts=row.attempts,
        uncertain=row.uncertain,
        accepted_at=row.accepted_at,
        due_since=change.now if row.next_at is None else row.next_at,
        expires_at=min(row.expires_at, row.not_after or row.expires_at),
        not_after=row.not_after,
        message_id=row.message_id,
        envelope_from=row.envelope_from,
        size=row.size,
        recipients=tuple(
            Recipient(n, rcpt.address, rcpt.state)
            for n, rcpt in enumerate(row.recipients)
            if n in opened - row.left_out
        ),
        payload=row.payload if small else None,
        account_version=account.version if account is not None else 0,
        account_parked=account is not None and bool(account.parked_reason),
        fetches=row.fetches,
        doubted_at=row.carriers[-1] if row.uncertain else "",
    )


def contents(disk: Disk, pks: Sequence[int]) -> dict[int, Stored]:
    found = {}
    for pk in pks:
        row = disk.messages.get(pk)
        if row is None or row.payload is None or row.state in TEXTLESS:
            continue
        try:
            content = payloads.load(row.payload)
        except ValueError:
            continue
        found[pk] = Stored(content, dict(row.parts))
    return found


def _held_by(change: Change, pk: int, token: int) -> MessageRow | None:
    """The message *pk*, if this node holds it with *token*."""
    row = change.disk.messages.get(pk)
    if row is None or row.lease != Lease(change.node_id, token):
        return None
    return row


def begin(
    change: Change,
    intents: Sequence[tuple[int, int]],
    account: str,
    through: tuple[int, int] | None = None,
) -> list[bool]:
    if through is not None and not _fit(change, *through):
        return [False] * len(intents)
    carrier = None if through is None else through[0]
    return [_begin(change, pk, token, account, carrier) for pk, token in intents]


def _fit(change: Change, pk: int, version: int) -> bool:
    """Whether the account *pk* may carry the mail of others."""
    account = change.disk.live_account(pk)
    if account is None or account.version != version or account.held_since is not None:
        return False
    closed = change.disk.accounts[pk].closed and bool(account.parked_reason)
    return not closed or (account.probe_at or 0.0) <= change.now


def _begin(change: Change, pk: int, token: int, account: str, carrier: int | None) -> bool:
    row = _held_by(change, pk, token)
    if row is None or not change.disk.may_be_sent(row, change.now) or _overdue(change, row):
        return False
    opened = {n for n, rcpt in enumerate(row.recipients) if rcpt.state.open}
    if any(change.disk.is_paused(row, n) for n in opened - row.left_out):
        return False
    counts_for = row.account_pk if carrier is None else carrier
    if not limits.pass_through(change, row.tenant_id, counts_for):
        return False
    row.attempts += 1
    row.open_attempt = row.attempts
    row.intent_token = token
    row.carriers.append(account)
    data = {"attempt": row.attempts, "account": account}
    row.begun = {"n": row.attempts, "account": account, "node": change.node_id}
    row.begun_at = change.now
    row.tell(change.names, EventKind.INTENT, change.now, data).attempt = row.begun
    return True


def record(change: Change, records: Sequence[Record]) -> list[bool]:
    return [_record(change, item) for item in records]


def _record(change: Change, item: Record) -> bool:
    row = change.disk.messages.get(item.pk)
    if row is None:
        return False
    if _held_by(change, item.pk, item.token) is None or item.attempt != row.open_attempt:
        _late(change, row, item)
        return False
    wish = row.hold if row.open_attempt else ""
    row.open_attempt = 0
    row.lease = None
    row.hold = ""
    row.next_at = item.next_at
    row.reason = item.reason
    if item.kind is EventKind.UNCERTAIN:
        row.uncertain += 1
    row.fetches += item.fetched_in_vain
    _apply(row, item.changes)
    item = _wished(change, row, item, wish)
    if row.open and row.next_at is None and not row.hold:
        row.next_at = item.at  # for those that were left out
    _list_refused(change, row, item)
    news = item.report and item.reason_key != row.reason_key
    if news:
        row.reason_key = item.reason_key
    _settle(change, row, item, item.kind, report=news)
    return True


def _wished(change: Change, row: MessageRow, item: Record, wish: str) -> Record:
    """While its body was under way, it may have been held or cancelled: what is left open is."""
    unsure = item.kind is EventKind.UNCERTAIN
    if unsure and change.disk.live_account(row.account_pk) is None:
        wish = "account deleted"  # else that is found later, and nothing is in doubt
    ends = ("cancelled by an operator", "account deleted")
    if item.hold or (wish and row.open and wish not in ends):
        reports.settle_ages(change)
        row.hold = item.hold or wish
    elif wish and row.open:
        reason = f"uncertain: {wish}" if unsure else wish
        state = RecipientState.FAILED if unsure else RecipientState.CANCELLED
        left = [n for n, rcpt in enumerate(row.recipients) if rcpt.state.open]
        _apply(row, [RecipientChange(n, state, reply=reason) for n in left])
        row.reason = reason
        kind = EventKind.FAILED if unsure else EventKind.CANCELLED
        return attrs.evolve(item, kind=kind, reason=reason, next_at=None)
    return item


def _apply(row: MessageRow, changes: Sequence[RecipientChange]) -> bool:
    """Whether any recipient changed; who accepted stays accepted."""
    applied = False
    for new in changes:
        rcpt = row.recipients[new.n]
        if rcpt.state is RecipientState.SENT:
            continue
        rcpt.state, rcpt.code, rcpt.reply = new.state, new.code, new.reply
        rcpt.enhanced = new.enhanced
        applied = True
        if new.state is RecipientState.SENT:
            row.accepted_by.add(rcpt.address)
    return applied


def _settle(
    change: Change, row: MessageRow, item: Record, kind: EventKind, *, report: bool
) -> None:
    """Append the event of what was just applied; end the message if nothing is left to do."""
    final = row.state.final
    if final:
        row.next_at = None
        row.finished_at = item.at
        if row.state in TEXTLESS:
            row.payload, row.parts = without_text(row.payload), {}
    data = _data(item)
    deferred_ts = row.next_at
    if not item.attempt and isinstance(data, dict):
        deferred_ts = data.get("next_at") or row.next_at
    row.through = item.through
    event = row.tell(change.names, kind, item.at, data, report, final, deferred_ts)
    if item.attempt and kind is not EventKind.LATE:
        said = msgspec.json.decode(item.outcome) if item.outcome else {}
        event.attempt = {**row.begun, "seconds": item.at - row.begun_at, **said}
    row.through = ""
    if report or final:
        change.reportable.add(row.tenant_id)


def without_text(payload: bytes | None) -> bytes | None:
    """A payload as it is kept of a message that was sent."""
    try:
        content = payloads.load(payload or b"")
    except ValueError:
        return None
    return payloads.dump(attrs.evolve(content, plain=None, html=None))


def _list_refused(change: Change, row: MessageRow, item: Record) -> None:
    """Who was refused for good enters the suppression list, where the tenant wants that."""
    tenant = change.disk.tenants[row.tenant_id]
    for new in item.changes if tenant.suppress_refused else ():
        status = new.enhanced or ""
        senders = status in ("5.1.7", "5.1.8")
        if status.startswith("5.1.") and not senders and 500 <= (new.code or 0) <= 599:
            address = row.recipients[new.n].address
            entry = Suppression(row.tenant_id, address, new.reply, "refused", item.at)
            change.disk.suppressed.setdefault((row.tenant_id, address), entry)


def prepared(
    change: Change, pk: int, token: int, payload: bytes, parts: Mapping[int, bytes], size: int
) -> bool:
    row = _held_by(change, pk, token)
    if row is None or row.open_attempt:
        return False
    content = payloads.load(payload)
    named = {each.part for each in content.attachments if each.part} | (
        {1} if content.raw else set()
    )
    row.payload, row.size, row.fetches = payload, size, 0
    row.parts = {n: data for n, data in {**row.parts, **parts}.items() if n in named}
    return True


def refetch(change: Change, tenant_id: str) -> int:
    found = 0
    for row in change.disk.messages.values():
        waits = row.tenant_id == tenant_id and row.lease is None and row.open and not row.hold
        marked = row.fetches and row.reason.startswith("Attachment fetch failed")
        if waits and marked and row.next_at is not None and row.next_at > change.now:
            row.next_at = change.now
            change.due.add(row.account_pk)
            found += 1
    return found


def _data(item: Record) -> Any:
    return msgspec.json.decode(item.data)


def _late(change: Change, row: MessageRow, item: Record) -> None:
    """
    An outcome whose lease was lost: kept, and believed where it proves what nobody knew.

    That is: recipients it says accepted, by the last attempt that was begun.
    """
    proofs = [
        new
        for new in item.changes
        if new.state is RecipientState.SENT and item.token == row.intent_token
    ]
    proofs = [new for new in proofs if row.recipients[new.n].state in _IN_DOUBT]
    if not proofs:
        row.tell(change.names, EventKind.LATE, item.at, _data(item))
        return
    _apply(row, proofs)
    if not any(rcpt.state in _IN_DOUBT for rcpt in row.recipients):
        row.hold = ""
        if not row.open_attempt:
            row.lease = None
    _settle(change, row, item, EventKind.LATE, report=False)


def release(change: Change, leases: Sequence[tuple[int, int]]) -> None:
    for pk, token in leases:
        row = _held_by(change, pk, token)
        if row is not None and not row.open_attempt:
            row.lease = None
            change.due.add(row.account_pk)


def abandoned(change: Change) -> list[Claimed]:
    found = []
    for row in list(_orphans(change.disk)):
        if row.open_attempt:
            found.append(_lease(change, row))
        else:
            row.lease = None
            change.due.add(row.account_pk)
    return found


def _orphans(disk: Disk) -> Iterator[MessageRow]:
    """Messages leased to a node that is dead."""
    for row in disk.messages.values():
        if row.lease is not None and row.lease.owner not in disk.nodes:
            yield row
