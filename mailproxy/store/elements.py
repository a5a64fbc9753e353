"""A message that is about to be stored, and the rows it becomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs
import msgspec

from mailproxy.model import NewMessage, NewRecipient
from mailproxy.states import RecipientState
from mailproxy.store import statements as sql
from mailproxy.store import statements_intake as sqi
from mailproxy.store import texts
from mailproxy.store.arrivals import Arrival, decide
from mailproxy.store.directory import Lane, Owner
from mailproxy.store.suppressions import any_of
from mailproxy.store.transaction import NewEvent, Transaction

_WAITING = RecipientState.WAITING.value


class Element(NamedTuple):
    """One message of a submission. *body* is where its parts are, 0 while they are with it."""

    message: NewMessage
    now: float
    body: int


@attrs.define
class Rows:
    """Rows of new messages, to be written together."""

    messages: list[tuple[Any, ...]] = attrs.Factory(list)
    recipients: list[tuple[Any, ...]] = attrs.Factory(list)
    payloads: list[tuple[int, bytes]] = attrs.Factory(list)
    texts: list[tuple[int, bytes]] = attrs.Factory(list)
    chunks: list[tuple[int, int, int, bytes]] = attrs.Factory(list)
    events: list[NewEvent] = attrs.Factory(list)
    arrivals: list[Arrival] = attrs.Factory(list)
    written: list[int] = attrs.Factory(list)

    def recipient(
        self, pk: int, n: int, recipient: NewRecipient, state: str = _WAITING, reply: str = ""
    ) -> None:
        self.recipients.append(
            (pk, n, recipient.address, str(recipient.kind), state, None, None, reply)
        )

    def write(self, tx: Transaction) -> None:
        tx.add(sqi.ADD_MESSAGE, self.messages)
        tx.add(sql.ADD_RECIPIENT, self.recipients)
        tx.add(sql.ADD_PAYLOAD, self.payloads)
        tx.add(sql.ADD_TEXT, self.texts)
        tx.many(sql.ADD_CHUNK, self.chunks)
        tx.append(self.events)
        for body in self.written:
            tx.do(sql.DROP_LOOSE, body)
        decide(tx, self.arrivals)


def arrived(
    tx: Transaction, rows: Rows, lane: Lane, owner: Owner, pk: int, element: Element, start: float
) -> None:
    """The message *pk* is new in *lane*."""
    if element.message.test or any_of(tx, element.message.tenant_id):
        rows.arrivals.append(Arrival(pk, element.message, element.now))
    tx.moved(lane.pk, None, "queued")
    tx.due_at(lane.pk, start)
    if not lane.blocked:
        tx.due.add(owner.pk)


def add_body(tx: Transaction, rows: Rows, element: Element, body: int) -> None:
    message = element.message
    head, text = texts.split(message.payload)
    rows.payloads.append((body, head))
    rows.texts.append((body, text))
    if element.body:
        rows.written.append(body)
        return
    for part, data in enumerate(message.parts, 1):
        rows.chunks += ((body, part, n, piece) for n, piece in pieces(data, tx.options.chunk_bytes))


def notes(message: NewMessage) -> bytes | None:
    """What the timeline says of how it was taken in."""
    return msgspec.json.encode({"notes": message.notes}) if message.notes else None


def pieces(data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """*data* in numbered pieces of at most *size* bytes; one empty piece if it is empty."""
    for n, start in enumerate(range(0, max(1, len(data)), size)):
        yield n, data[start : start + size]
