"""Payloads and parts as composing needs them, and what becomes of a damaged message."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import attrs
from sqlalchemy import select

from mailproxy import payload
from mailproxy.model import Record, Stored
from mailproxy.states import EventKind
from mailproxy.store import outcomes
from mailproxy.store import statements as sql
from mailproxy.store.compiling import compiled, p
from mailproxy.store.schema import chunks, messages, payloads, texts
from mailproxy.store.texts import joined
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

_PAYLOAD = compiled(
    select(messages.c.body_pk, messages.c.parts, payloads.c.json, texts.c.text)
    .select_from(
        messages.join(payloads, payloads.c.body_pk == messages.c.body_pk).join(
            texts, texts.c.body_pk == messages.c.body_pk
        )
    )
    .where(messages.c.pk == p("message")),
    "message",
)
_CHUNKS = compiled(
    select(chunks.c.part, chunks.c.data)
    .where(chunks.c.body_pk == p("body"))
    .order_by(chunks.c.part, chunks.c.n),
    "body",
)


#: Bytes that no message is as small as.
_NOTHING = -1


@attrs.define
class Contents:
    """What was read of some messages; *damaged* says why of those that could not be."""

    stored: dict[int, Stored] = attrs.Factory(dict)
    damaged: dict[int, str] = attrs.Factory(dict)


def contents(cursor: Any, pks: Sequence[int]) -> Contents:
    """Read each by itself, so that one damaged page costs one message."""
    found = Contents()
    for pk in pks:
        try:
            found.stored[pk] = _read(cursor, pk)
        except (ValueError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            found.damaged[pk] = str(error)
    return found


def _read(cursor: Any, pk: int) -> Stored:
    """:raises ValueError: something of it is missing or damaged."""
    row = cursor.execute(_PAYLOAD.sql, (pk,)).fetchone()
    if row is None:
        raise ValueError("the payload is missing")
    body, count, head, text = row
    content = payload.load(joined(head, text))
    pieces: dict[int, list[bytes]] = {}
    if count:
        for part, data in cursor.execute(_CHUNKS.sql, (body,)):
            pieces.setdefault(part, []).append(data)
    parts = {part: b"".join(data) for part, data in pieces.items()}
    if len(parts) != count:
        raise ValueError(f"{len(parts)} of {count} attachments are there")
    for attachment in content.attachments:
        known = attachment.part in parts and attachment.size
        if known and len(parts[attachment.part]) != attachment.size:
            raise ValueError(f"attachment {attachment.part} has not its size")
    return Stored(content, parts)


def leased(tx: Transaction, count: int, wanted: str) -> list[Any]:
    """
    The *count* messages *wanted* as a claim takes them, with their contents where these are small.

    A damaged page costs one message: where one is met this claim fails, and the next ones bring
    nothing along, so that each content is read by itself.
    """
    most = tx.options.most_inline(count) if tx.along.wanted else _NOTHING
    try:
        return tx.all(sql.LEASED, most, wanted)
    except sqlite3.DatabaseError as error:
        if not isinstance(error, sqlite3.OperationalError):
            tx.along.wanted = False
        raise


@attrs.frozen
class Damage:
    reasons: dict[int, str]
    now: float


def quarantine(tx: Transaction, call: Damage) -> list[int]:
    """Hold damaged messages, unless an attempt is under way. :return: which were held."""
    found = outcomes.subjects(tx, call.reasons)
    held = [
        subject
        for subject in found.values()
        if not subject.intent and not subject.hold and subject.finished_at is None
    ]
    outcomes.settle(
        tx,
        found,
        [
            Record(
                pk=subject.pk,
                token=0,
                attempt=0,
                kind=EventKind.HELD,
                changes=(),
                next_at=subject.next_at,
                at=call.now,
                hold=f"damaged: {call.reasons[subject.pk]}",
            )
            for subject in held
        ],
    )
    return [subject.pk for subject in held]


QUARANTINE = alone(quarantine)
