"""A claimed message's content becomes what will be sent: attachments fetched, large ones linked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from sqlalchemy import select, update

from mailproxy import payload as payloads
from mailproxy.store import dropping, texts
from mailproxy.store import statements as sql
from mailproxy.store.compiling import compiled, const, listed, p
from mailproxy.store.elements import pieces
from mailproxy.store.schema import chunks, messages
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import alone

_m, _c = messages.c, chunks.c

_LEASED = compiled(
    select(_m.body_pk, _m.parts, _m.size).where(
        _m.pk == p("message"), _m.lease_token == p("token"), _m.intent == const("0")
    ),
    "message",
    "token",
)
_KEEP = compiled(
    update(chunks)
    .values(body_pk=p("new"))
    .where(_c.body_pk == p("old"), _c.part.in_(listed("parts"))),
    "new",
    "old",
    "parts",
)
_SET_BODY = compiled(
    update(messages)
    .values(body_pk=p("body"), parts=p("count"), size=p("bytes"), fetches=const("0"))
    .where(_m.pk == p("message")),
    "bytes",
    "count",
    "body",
    "message",
)


@attrs.frozen
class Preparation:
    """
    :param parts: new contents by number; none where they were written already, as *body*.
    :param named: the parts that the new content names, and which of them are *new*.
    """

    pk: int
    token: int
    payload: bytes
    parts: Mapping[int, bytes]
    size: int
    body: int
    now: float
    named: frozenset[int]
    new: frozenset[int]


def named(payload: bytes) -> frozenset[int]:
    """
    The numbers of the parts that a content consists of.

    :raises ValueError: it is none.
    """
    content = payloads.load(payload)
    found = {attachment.part for attachment in content.attachments if attachment.part}
    return frozenset(found | {1} if content.raw and content.plain is None else found)


def prepare(tx: Transaction, call: Preparation) -> bool:
    row = tx.one(_LEASED, call.pk, call.token)
    if row is None:
        if call.body:
            tx.do(sql.DROP_LOOSE, call.body)
            tx.do(sql.ADD_LOOSE, call.body, 0.0)
        return False
    old, count, size = row
    body = call.body or tx.names.pk(call.now)
    head, text = texts.split(call.payload)
    tx.do(sql.ADD_PAYLOAD, body, head)
    tx.do(sql.ADD_TEXT, body, text)
    tx.many(sql.ADD_CHUNK, list(_rows(tx, body, call.parts)))
    if count:
        tx.do(_KEEP, body, old, numbers(call.named - call.new))
    dropping.drop_bodies(tx, [(old, count, size)])
    tx.do(_SET_BODY, call.size, len(call.named), body, call.pk)
    if call.body:
        tx.do(sql.DROP_LOOSE, body)
    return True


def _rows(tx: Transaction, body: int, parts: Mapping[int, bytes]) -> Iterable[tuple[Any, ...]]:
    for part, data in parts.items():
        for n, piece in pieces(data, tx.options.chunk_bytes):
            yield body, part, n, piece


PREPARED = alone(prepare)
