"""
An id that is known already: the same-id table of the wire contract, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from mailproxy.acts import in_doubt
from mailproxy.model import Enqueued, NewMessage
from mailproxy.states import EventKind, MessageState, RecipientState, Verdict
from mailproxy.store import dropping, outcomes, wording
from mailproxy.store import statements as sql
from mailproxy.store import statements_intake as sqi
from mailproxy.store.arrivals import Arrival
from mailproxy.store.directory import Directory, Owner
from mailproxy.store.doom import Doom, doom
from mailproxy.store.elements import Element, Rows, add_body, arrived, notes
from mailproxy.store.lane_flags import pause
from mailproxy.store.memory import DOUBTED, Memory, remembered
from mailproxy.store.transaction import NewEvent, Transaction, numbers

_QUEUED = Enqueued(Verdict.QUEUED)
_KEPT = Enqueued(Verdict.KEPT)
_SENT = RecipientState.SENT.value
_WAITING = RecipientState.WAITING.value
_FAILED = RecipientState.FAILED.value


@attrs.define
class Stored:
    """A message as it is stored, in the order of ``statements.STORED``."""

    pk: int
    id: str
    generation: int
    account_pk: int
    lane: int
    priority: int
    batch: str
    not_before: float | None
    next_at: float | None
    accepted_at: float
    expires_at: float
    attempts: int
    intent: int
    state: str
    lease_owner: str | None
    message_id: str
    digest: bytes
    parts: int
    size: int
    body_pk: int
    final_event: int | None
    test: bool
    not_after: float | None
    quiet: bool


@attrs.frozen
class Buried:
    """A tombstone, in the order of its table."""

    tenant_id: str
    id: str
    digest: bytes
    accepted: bytes
    generation: int
    message_id: str
    accepted_at: float
    state: str
    finished_at: float
    error: str | None
    event_id: bytes
    event_kind: str
    event_report: bytes | None
    removed_at: float


@attrs.frozen
class Known:
    """What is stored, and what was removed, by (tenant, id)."""

    stored: dict[tuple[str, str], Stored] = attrs.Factory(dict)
    buried: dict[tuple[str, str], Buried] = attrs.Factory(dict)


def known(tx: Transaction, ids: Mapping[str, set[str]]) -> Known:
    """Look all *ids* (by tenant) up at once."""
    found = Known()
    for tenant_id, names in ids.items():
        wanted = msgspec.json.encode(list(names)).decode()
        for row in tx.all(sqi.STORED_BY_ID, tenant_id, wanted):
            found.stored[tenant_id, row[1]] = Stored(*row)
        if len(found.stored) < len(names):
            for row in tx.all(sqi.BURIED_BY_ID, tenant_id, wanted):
                found.buried[tenant_id, row[1]] = Buried(*row)
    return found


def resubmitted(
    tx: Transaction, directory: Directory, stored: Stored, element: Element, owner: Owner
) -> Enqueued:
    """(tenant, id) is stored."""
    state = MessageState(stored.state)
    if element.message.test and not stored.test:
        return _told_again(tx, stored, element) if state.final else _KEPT
    if not state.final and not stored.intent and (ended := _doomed(tx, stored)) is not None:
        stored = _end(tx, stored, element, ended)
        state = MessageState(stored.state)
    if state in (MessageState.UNCERTAIN, MessageState.HELD):
        return _KEPT
    if stored.test and not element.message.test:
        _refill(tx, directory, stored, element, owner, EventKind.GENERATION)
        return _QUEUED
    if state is MessageState.SENT:
        return _told_again(tx, stored, element)
    if state.final:
        return _more(tx, directory, stored, element, owner)
    if stored.digest == element.message.digest:
        _reschedule(tx, directory, stored, element)
        return _QUEUED
    if stored.attempts:
        return _KEPT
    _refill(tx, directory, stored, element, owner, EventKind.REPLACED)
    return Enqueued(Verdict.REPLACED)


def _doomed(tx: Transaction, stored: Stored) -> Doom | None:
    (lane,) = tx.all(sql.LANES_OF, numbers([stored.lane]))
    return doom(lane[1])


def _end(tx: Transaction, stored: Stored, element: Element, ended: Doom) -> Stored:
    """
    Its account is gone, or its mail was cancelled, and the background work has not come to it yet:
    what is posted now does not revive it.
    """
    found = outcomes.subjects(tx, [stored.pk])
    record = outcomes.end_open(found[stored.pk], ended, element.now)
    if not record.changes:
        return stored
    outcomes.settle(tx, found, [record])
    tenant_id = element.message.tenant_id
    return known(tx, {tenant_id: {stored.id}}).stored[tenant_id, stored.id]


def _differs(stored: Stored | Buried, message: NewMessage) -> str:
    return "" if stored.digest == message.digest else "differs"


def _told_again(tx: Transaction, stored: Stored, element: Element) -> Enqueued:
    """
    Its final event is to be reported again, with the same event_id.

    Under a new pk: the answer to a report that is under way does not cover it.
    """
    new = tx.names.pk(element.now)
    tx.do(sqi.OFFER_AGAIN, new, stored.final_event)
    tx.do(sqi.SET_FINAL_EVENT, new, stored.pk)
    tx.reportable.add(element.message.tenant_id)
    return Enqueued(Verdict.DUPLICATE, _differs(stored, element.message))


def _more(
    tx: Transaction, directory: Directory, stored: Stored, element: Element, owner: Owner
) -> Enqueued:
    """It failed, expired or was cancelled: a new generation for who has it not, and cannot have."""
    has = {
        row[2]
        for row in tx.all(sql.RECIPIENTS_OF, numbers([stored.pk]))
        if row[3] == _SENT or in_doubt(RecipientState(row[3]), row[4], row[5])
    }
    before = remembered(tx, element.message)
    recipients = element.message.recipients
    if all(each.address in has or before.has(each.address) for each in recipients):
        return _told_again(tx, stored, element)
    _refill(tx, directory, stored, element, owner, EventKind.GENERATION)
    return _QUEUED


def _refill(
    tx: Transaction,
    directory: Directory,
    stored: Stored,
    element: Element,
    owner: Owner,
    kind: EventKind,
) -> None:
    """Give the message a new content; its Message-ID stays."""
    message, now = element.message, element.now
    lane = directory.lane(owner, message.tenant_id, message.priority, message.batch)
    body = element.body or tx.names.pk(now)
    first = kind is EventKind.REPLACED
    accepted_at = stored.accepted_at if first else now
    generation = stored.generation if first else stored.generation + 1
    start = max(now, message.not_before or 0.0)
    rows = Rows()
    dropping.drop_bodies(tx, [(stored.body_pk, stored.parts, stored.size)])
    tx.do(
        sqi.REFILL,
        generation,
        owner.pk,
        lane.pk,
        message.priority,
        message.batch,
        message.not_before,
        start,
        start,
        accepted_at,
        now,
        max(accepted_at, message.not_before or 0.0) + owner.max_age - lane.paused,
        message.digest,
        message.envelope_from,
        message.size,
        len(message.parts),
        body,
        message.test,
        message.not_after,
        stored.pk,
    )
    opened = _readdress(tx, rows, stored, message)
    add_body(tx, rows, element, body)
    rows.events.append(NewEvent(stored.pk, generation, kind, now, data=notes(message)))
    tx.moved(stored.lane, stored.state, None)
    arrived(tx, rows, lane, owner, stored.pk, element, start)
    if not opened and not rows.arrivals:
        rows.arrivals.append(Arrival(stored.pk, message, now))
    tx.stale.add(stored.lane)
    rows.write(tx)


def _readdress(tx: Transaction, rows: Rows, stored: Stored, message: NewMessage) -> bool:
    """
    The message's own recipients; who has it already keeps that: of a test, nobody has.

    :return: whether anybody is left to send it to.
    """
    pk = stored.pk
    tx.do(sqi.DROP_ALL_RECIPIENTS if stored.test else sqi.DROP_RECIPIENTS, pk)
    kept = {row[2]: row[1] for row in tx.all(sql.RECIPIENTS_OF, numbers([pk]))}
    before = remembered(tx, message)
    n, opened = max(kept.values(), default=-1), False
    for recipient in message.recipients:
        if recipient.address not in kept:
            n += 1
            state, reply = _at_first(before, recipient.address)
            rows.recipient(pk, n, recipient, state, reply)
            opened = opened or state == _WAITING
    return opened


def _at_first(before: Memory, address: str) -> tuple[str, str]:
    """State and reply of a recipient, by what is remembered of it."""
    if address in before.accepted:
        return _SENT, ""
    return (_FAILED, DOUBTED) if address in before.doubted else (_WAITING, "")


def _reschedule(tx: Transaction, directory: Directory, stored: Stored, element: Element) -> None:
    """Same content: priority, deferred_ts and batch are the new element's."""
    message, now = element.message, element.now
    new = (message.priority, message.batch, message.not_before)
    until = message.not_after
    if (*new, until) == (stored.priority, stored.batch, stored.not_before, stored.not_after):
        return
    owner = directory.known_owner(stored.account_pk)
    lane = directory.lane(owner, message.tenant_id, message.priority, message.batch)
    (before,) = tx.all(sql.LANES_OF, numbers([stored.lane]))
    wanted = message.not_before or 0.0
    expires = stored.expires_at + pause(before[2], before[3], now)
    expires = max(expires, wanted + owner.max_age) - lane.paused
    tx.moved(stored.lane, stored.state, None)
    tx.moved(lane.pk, None, stored.state)
    if stored.intent:
        tx.do(sqi.RELABEL, lane.pk, *new, now, expires, until, stored.pk)
        return
    next_at = max(now, wanted)
    if stored.attempts and stored.next_at is not None:
        next_at = max(stored.next_at, wanted)
    tx.do(sqi.RESCHEDULE, lane.pk, *new, next_at, next_at, now, expires, until, stored.pk)
    tx.due_at(lane.pk, next_at)
    tx.stale.add(stored.lane)
    if not lane.blocked:
        tx.due.add(stored.account_pk)


def risen(
    tx: Transaction, directory: Directory, buried: Buried, element: Element, owner: Owner
) -> Enqueued:
    """
    (tenant, id) was removed within the idempotency window.

    Its row comes back as it ended, for the recipients that accepted; then it is one that ended.
    The tombstone stays: it alone knows who else accepted.
    """
    message = element.message
    if message.test and not wording.load(buried.event_report).test:
        return Enqueued(Verdict.DUPLICATE, _differs(buried, message))
    stored = _raised(tx, directory, buried, element, owner)
    before = remembered(tx, message)
    first = [_at_first(before, recipient.address) for recipient in message.recipients]
    tx.add(
        sql.ADD_RECIPIENT,
        [
            (stored.pk, n, each.address, each.kind.value, state, None, None, reply)
            for n, (each, (state, reply)) in enumerate(zip(message.recipients, first, strict=True))
            if state != _WAITING
        ],
    )
    if all(state != _WAITING for state, _ in first):
        return _told_again(tx, stored, element)
    _refill(tx, directory, stored, element, owner, EventKind.GENERATION)
    return _QUEUED


def _raised(
    tx: Transaction, directory: Directory, buried: Buried, element: Element, owner: Owner
) -> Stored:
    message, now = element.message, element.now
    lane = directory.lane(owner, message.tenant_id, message.priority, message.batch)
    pk, event_pk = tx.names.pk(now), tx.names.pk(now)
    tx.do(
        sqi.ADD_MESSAGE,
        pk,
        buried.tenant_id,
        buried.id,
        buried.generation,
        owner.pk,
        lane.pk,
        message.priority,
        message.batch,
        None,
        None,
        None,
        buried.accepted_at,
        now,
        buried.finished_at,
        buried.message_id,
        buried.digest,
        message.envelope_from,
        message.size,
        0,
        pk,
        False,
        None,
    )
    sent = buried.state == MessageState.SENT.value
    taken_back = buried.state == MessageState.CANCELLED.value
    tx.do(
        sqi.FINISH,
        buried.state,
        buried.finished_at,
        buried.finished_at if sent else None,
        None if sent or taken_back else buried.finished_at,
        buried.error,
        event_pk,
        pk,
    )
    tx.do(
        sqi.ADD_OLD_EVENT,
        event_pk,
        buried.event_id,
        pk,
        buried.generation,
        buried.event_kind,
        buried.finished_at,
        True,
        buried.tenant_id,
        buried.event_report,
        buried.removed_at,
    )
    return known(tx, {buried.tenant_id: {buried.id}}).stored[buried.tenant_id, buried.id]
