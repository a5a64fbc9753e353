"""
The outcome of nearly every message: its first attempt, and everybody accepted it.

Nothing has to be weighed then. What :mod:`mailproxy.store.outcomes` would write is written here
with less: one look says for which records that is so, and each table takes the few values that
differ. It halves what an outcome costs the writer; whatever is not certain is left to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update

from mailproxy.model import Record
from mailproxy.states import EventKind, MessageState, RecipientState
from mailproxy.store import statements_outcomes as sqo
from mailproxy.store.compiling import bulk, compiled, const, grouped, listed, p
from mailproxy.store.dropping import drop_texts
from mailproxy.store.schema import messages, recipients
from mailproxy.store.transaction import NewEvent, Transaction, numbers
from mailproxy.store.works import Ahead

_m, _r = messages.c, recipients.c

_SENT = RecipientState.SENT
_IN_FLIGHT = MessageState.IN_FLIGHT.value

#: Those in their first attempt that nothing had to be remembered of, with how many they are for.
_PLAIN = compiled(
    select(
        grouped(
            _m.pk,
            _m.tenant_id,
            _m.generation,
            _m.lane,
            _m.account_pk,
            _m.parts,
            _m.body_pk,
            _m.size,
            _m.lease_token,
            select(func.count())
            .select_from(recipients)
            .where(_r.message_pk == _m.pk)
            .scalar_subquery(),
        )
    ).where(
        _m.pk.in_(listed()),
        _m.state == const(f"'{_IN_FLIGHT}'"),
        _m.intent == const("1"),
        _m.attempts == const("1"),
        _m.uncertain == const("0"),
        _m.fetches == const("0"),
        _m.test == const("0"),
        _m.quiet == const("0"),
        _m.hold == const("''"),
        _m.destination.is_(None),
    ),
    "pks",
)
_SET_RECIPIENT = bulk(
    compiled(
        update(recipients)
        .values(
            state=const(f"'{_SENT.value}'"),
            code=p("code"),
            enhanced=p("enhanced"),
            reply=p("reply"),
            done_at=p("done"),
            attempts=_r.attempts + const("1"),
        )
        .where(_r.message_pk == p("message"), _r.n == p("number")),
        "code",
        "enhanced",
        "reply",
        "done",
        "message",
        "number",
    )
)
_NOTHING = (
    "next_at",
    "claim_at",
    "held_at",
    "lease_owner",
    "lease_token",
    "error_ts",
    "error",
    "deferred_reason",
)
_SET_STATE = bulk(
    compiled(
        update(messages)
        .values(
            {name: const("NULL") for name in _NOTHING}
            | {name: p(f"v_{name}") for name in ("updated_at", "finished_at", "sent_ts")}
            | {
                "state": const(f"'{MessageState.SENT.value}'"),
                "hold": const("''"),
                "intent": const("0"),
                "final_event": p("event"),
            }
        )
        .where(_m.pk == p("message")),
        "v_updated_at",
        "v_finished_at",
        "v_sent_ts",
        "event",
        "message",
    )
)


def store(tx: Transaction, records: Sequence[Record]) -> set[int]:
    """
    Store those of *records* for which there is nothing to weigh.

    :param records: at most one for a message.
    :return: the messages they are of; what is left has not been looked at.
    """
    likely = _likely(records)
    if not likely:
        return set()
    sent: list[tuple[Any, ...]] = []
    outcomes: list[tuple[Any, ...]] = []
    told: list[tuple[Any, ...]] = []
    events: list[NewEvent] = []
    bodies: list[tuple[int, int, int]] = []
    for row in tx.grouped(_PLAIN, numbers(likely)):
        pk, tenant_id, generation, lane, account_pk, parts, body, size, token, count = row
        each = likely[pk]
        if token != each.token or count != len(each.changes):
            continue
        at = each.at
        for change in each.changes:
            said = (change.code, change.enhanced, change.reply, at, pk, change.n)
            told.append(said)
        outcomes.append((at, each.outcome, pk, generation, 1))
        data = None if each.data == b"{}" else each.data
        events.append(NewEvent(pk, generation, each.kind, at, True, tenant_id, None, data))
        sent.append((at, at, at, pk))
        bodies.append((body, parts, size))
        tx.moved(lane, _IN_FLIGHT, _SENT.value)
        tx.ended(tenant_id, account_pk, sent=True)
    tx.add(_SET_RECIPIENT, told)
    tx.add(sqo.SET_OUTCOME, outcomes)
    pks = tx.append(events)
    tx.add(_SET_STATE, [(*row[:3], event, row[3]) for row, event in zip(sent, pks, strict=True)])
    drop_texts(tx, bodies)
    return {row[3] for row in sent}


def ahead(calls: Sequence[Sequence[Record]]) -> Ahead:
    """What the group of *calls* asks first, with :func:`store`."""
    records = [each for call in calls for each in call]
    likely = _likely(first(records))
    questions = [(_PLAIN, numbers(likely))] if likely else []
    return Ahead(questions, {each.pk for each in records})


def first(records: Sequence[Record]) -> Sequence[Record]:
    """Up to the first that is of a message that came before."""
    seen: set[int] = set()
    for each in records:
        if each.pk in seen:
            break
        seen.add(each.pk)
    return records[: len(seen)]


def _likely(records: Sequence[Record]) -> dict[int, Record]:
    return {each.pk: each for each in records if _everybody(each)}


def _everybody(record: Record) -> bool:
    """Whether *record* says of a first attempt that everybody it names accepted the message."""
    return (
        record.attempt == 1
        and record.kind is EventKind.OUTCOME
        and record.next_at is None
        and not record.hold
        and not record.fetched_in_vain
        and not record.through
        and all(change.state is _SENT for change in record.changes)
    )
