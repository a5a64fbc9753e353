"""The store's face towards the one who tells senders by mail: notes, read and settled."""

from __future__ import annotations

import sqlite3
from typing import Any
from uuid import UUID

import attrs
import msgspec
from sqlalchemy import delete, select, update

from mailproxy import payload
from mailproxy.model import Content, Enqueued, NewMessage
from mailproxy.states import EventKind, RecipientState, Verdict
from mailproxy.store import intake, suppressions
from mailproxy.store.bounces import read
from mailproxy.store.compiling import LIMIT, compiled, const, p
from mailproxy.store.directory import Directory
from mailproxy.store.elements import Element
from mailproxy.store.face import Face
from mailproxy.store.schema import (
    accounts,
    attempts,
    chunks,
    messages,
    payloads,
    recipients,
    texts,
)
from mailproxy.store.schema_tenants import bounces, tenants
from mailproxy.store.texts import joined
from mailproxy.store.transaction import NewEvent, Transaction
from mailproxy.store.works import alone
from mailproxy.undelivered import INACTIVE, MOST_RETURNED, Undelivered, Unreached

_b, _t, _m, _a = bounces.c, tenants.c, messages.c, accounts.c

_NOTES = compiled(
    select(_b.pk, _b.event_id, _b.message_pk, _b.generation, _b.tenant_id, _t.bounces)
    .select_from(bounces.outerjoin(tenants, _t.id == _b.tenant_id))
    .where(_t.id.is_(None) | _t.deleted_at.is_not(None) | (_t.active == const("1")))
    .order_by(_b.pk)
    .suffix_with(LIMIT),
    "limit",
)
_MESSAGE = compiled(
    select(
        _m.id,
        _a.id,
        _a.deleted_at,
        _m.message_id,
        _m.envelope_from,
        _m.accepted_at,
        _m.finished_at,
        _m.body_pk,
        payloads.c.json,
        texts.c.text,
    )
    .select_from(
        messages.join(payloads, payloads.c.body_pk == _m.body_pk)
        .outerjoin(texts, texts.c.body_pk == _m.body_pk)
        .outerjoin(accounts, _a.pk == _m.account_pk)
    )
    .where(_m.pk == p("message"), _m.generation == p("generation"), _m.finished_at.is_not(None)),
    "message",
    "generation",
)
_RECIPIENTS = compiled(
    select(
        recipients.c.address,
        recipients.c.state,
        recipients.c.code,
        recipients.c.enhanced,
        recipients.c.reply,
    )
    .where(recipients.c.message_pk == p("message"))
    .order_by(recipients.c.n),
    "message",
)
_OUTCOMES = compiled(
    select(attempts.c.outcome).where(
        attempts.c.message_pk == p("message"),
        attempts.c.generation == p("generation"),
        attempts.c.outcome.is_not(None),
    ),
    "message",
    "generation",
)
_PIECES = compiled(
    select(chunks.c.data)
    .where(chunks.c.body_pk == p("body"), chunks.c.part == const("1"))
    .order_by(chunks.c.n),
    "body",
)
_FIND = compiled(
    select(_b.tenant_id, _b.message_pk, _b.generation, _m.pk)
    .select_from(bounces.outerjoin(messages, _m.pk == _b.message_pk))
    .where(_b.pk == p("note")),
    "note",
)
_DROP = compiled(delete(bounces).where(_b.pk == p("note")), "note")
_HUSH = compiled(
    update(messages)
    .values(quiet=const("1"))
    .where(_m.tenant_id == p("tenant"), _m.id == p("name")),
    "tenant",
    "name",
)


class _Traced(msgspec.Struct):
    """What the outcome of an attempt says of the server."""

    peer: str = ""


_traced = msgspec.json.Decoder(_Traced).decode


# --- what there is to tell ------------------------------------------------------------------------


def undelivered(cursor: Any, limit: int) -> list[Undelivered]:
    return [_told(cursor, *row) for row in cursor.execute(_NOTES.sql, (limit,)).fetchall()]


def _told(
    cursor: Any, pk: int, event: bytes, message: int, generation: int, tenant: str, said: str | None
) -> Undelivered:
    found = Undelivered(pk, UUID(bytes=event, version=4).hex, tenant, read(said))
    try:
        return _read(cursor, found, message, generation)
    except (ValueError, sqlite3.DatabaseError) as error:
        # One damaged page costs one bounce, as it costs one message.
        if isinstance(error, sqlite3.OperationalError):
            raise
        return found


def _read(cursor: Any, found: Undelivered, message: int, generation: int) -> Undelivered:
    """:raises ValueError: its payload is damaged."""
    row = cursor.execute(_MESSAGE.sql, (message, generation)).fetchone()
    if row is None:
        return found
    id, account, deleted_at, message_id, sender, accepted_at, ended_at, body, head, text = row
    content = payload.load(joined(head, text))
    data, whole = _data(cursor, body, content)
    told = cursor.execute(_RECIPIENTS.sql, (message,)).fetchall()
    return attrs.evolve(
        found,
        id=id,
        account_id="" if account is None or deleted_at is not None else account,
        message_id=message_id,
        envelope_from=sender,
        accepted_at=accepted_at,
        ended_at=ended_at,
        content=attrs.evolve(content, plain=None, html=None),
        data=data,
        whole=whole,
        recipients=tuple(Unreached(each[0], RecipientState(each[1]), *each[2:]) for each in told),
        peer=_peer(cursor, message, generation),
    )


def _data(cursor: Any, body: int, content: Content) -> tuple[bytes, bool]:
    """As much of a message that came as bytes as its bounce may need; whether that is all."""
    if not content.by_smtp:
        return b"", True
    if content.plain is not None:
        return content.plain.encode("latin-1"), True
    full = content.dsn is not None and content.dsn.ret == "FULL"
    data = b""
    for (piece,) in cursor.execute(_PIECES.sql, (body,)):
        data += piece
        if len(data) > MOST_RETURNED or (not full and b"\r\n\r\n" in data):
            return data[:MOST_RETURNED], False
    return data, True


def _peer(cursor: Any, message: int, generation: int) -> str:
    peers = set()
    for (outcome,) in cursor.execute(_OUTCOMES.sql, (message, generation)):
        try:
            peers.add(_traced(outcome).peer)
        except msgspec.MsgspecError:
            peers.add("")
    return peers.pop() if len(peers) == 1 else ""


# --- and that it was told -------------------------------------------------------------------------


@attrs.frozen
class Settling:
    pk: int
    message: NewMessage | None
    now: float


def settle(tx: Transaction, call: Settling) -> Enqueued | None:
    """The note goes and the bounce comes, or neither."""
    row, message = tx.one(_FIND, call.pk), call.message
    if row is None:
        return None
    tenant_id, pk, generation, stored = row
    directory = Directory(tx, call.now)
    if message is not None and directory.objection(tenant_id) == INACTIVE:
        return Enqueued(Verdict.REJECTED, INACTIVE)
    tx.do(_DROP, call.pk)
    if message is None:
        return None
    verdict = _take(tx, directory, message, call.now)
    if stored is not None:
        refused = verdict.verdict is Verdict.REJECTED
        said = f"no bounce: {verdict.reason}" if refused else f"bounce: {message.id}"
        data = msgspec.json.encode({"notes": [said]})
        tx.append([NewEvent(pk, generation, EventKind.NOTE, call.now, data=data)])
    return verdict


def _take(tx: Transaction, directory: Directory, message: NewMessage, now: float) -> Enqueued:
    tenant_id = message.tenant_id
    if suppressions.among(tx, [(tenant_id, each.address) for each in message.recipients]):
        return Enqueued(Verdict.REJECTED, "suppressed")
    if directory.owner(tenant_id, message.account_id) is None:
        message = attrs.evolve(message, account_id=None)
    (verdict,) = intake.take(tx, [Element(message, now, 0)])
    if verdict.verdict is Verdict.QUEUED:
        tx.do(_HUSH, tenant_id, message.id)
    return verdict


SETTLE = alone(settle, "enqueue-commit")


class BouncesFace(Face):
    """``IBounces``."""

    async def undelivered(self, limit: int) -> list[Undelivered]:
        return await self._read(undelivered, limit)

    async def bounce(self, pk: int, message: NewMessage | None, now: float) -> Enqueued | None:
        return await self._write(SETTLE, Settling(pk, message, now))
