"""
A submission becomes durable: the way of an id that is new.

An id that is known already is the business of :mod:`mailproxy.store.again`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from twisted.python.failure import Failure

from mailproxy.model import Enqueued, NewMessage
from mailproxy.states import EventKind, Verdict
from mailproxy.store import again, answers
from mailproxy.store import statements as sql
from mailproxy.store.directory import Directory, Owner
from mailproxy.store.elements import Element, Rows, add_body, arrived, notes
from mailproxy.store.transaction import NewEvent, Transaction
from mailproxy.store.works import Kind, alone
from mailproxy.tenancy import Once

#: The largest submission that is one transaction, as :func:`cut` counts it.
WHOLE_ROWS = 100

#: What one transaction takes of a larger one: little, since urgent mail of somebody else has to
#: wait for three transactions until it is on its way.
PIECE_ROWS = 40

#: Bytes of content that cost the writer as much as the rows of a usual message.
BYTES_OF_A_ROW = 8192

_QUEUED = Enqueued(Verdict.QUEUED)


@attrs.frozen
class Submission:
    """
    The messages of one request, or a piece of them.

    :param bodies: where the parts of a large message were written already: body by its index.
    :param once: whose answer was kept before, if it was; then the messages are not taken.
    :param before: what became of the pieces before this one.
    :param last: whether this is the last piece: its transaction keeps the answer.
    :param weight: see :func:`cut`.
    """

    messages: Sequence[NewMessage]
    now: float
    bodies: Mapping[int, int] = attrs.Factory(dict)
    once: Once | None = None
    before: Sequence[Enqueued] = ()
    last: bool = True
    weight: int = 1


def cut(messages: Sequence[NewMessage]) -> Iterator[tuple[int, int, int]]:
    """
    Cut *messages* into pieces of one transaction each; one empty piece if there are none.

    :return: for each piece where it begins and ends, and how much the writer has to do for it, in
        rows of a usual message.
    """
    whole = 0
    for message in messages:
        whole += _weight(message)
        if whole > WHOLE_ROWS:
            break
    else:
        yield 0, len(messages), whole
        return
    start, filled = 0, 0
    for n, message in enumerate(messages):
        weight = _weight(message)
        if filled and filled + weight > PIECE_ROWS:
            yield start, n, filled
            start, filled = n, 0
        filled += weight
    yield start, len(messages), filled


def _weight(message: NewMessage) -> int:
    """What the writer has to do for it, in rows of a usual message."""
    size = len(message.payload)
    if message.parts:
        size += sum(map(len, message.parts))
    return 1 + len(message.recipients) // 4 + size // BYTES_OF_A_ROW


def enqueue(tx: Transaction, calls: Sequence[Submission]) -> list[Any]:
    """
    Take all submissions, as if they came one after the other.

    :return: for each its verdicts; a Failure for one whose key was used before.
    """
    if answers.repeated(calls):
        return [answer for call in calls for answer in enqueue(tx, [call])]
    objections = [answers.objection(tx, call) for call in calls]
    elements = [
        Element(message, call.now, call.bodies.get(n, 0))
        for call, objection in zip(calls, objections, strict=True)
        if objection is None
        for n, message in enumerate(call.messages)
    ]
    verdicts: Iterator[Enqueued] = iter(take(tx, elements))
    results: list[Any] = []
    for call, objection in zip(calls, objections, strict=True):
        if objection is not None:
            results.append(Failure(objection))
            continue
        taken = [next(verdicts) for _ in call.messages]
        if call.once is not None and call.last:
            answers.keep(tx, call.once, [*call.before, *taken], call.now)
        results.append(taken)
    return results


def take(tx: Transaction, elements: Sequence[Element]) -> list[Enqueued]:
    """Take all of them, in order. :return: their verdicts."""
    if not elements:
        return []
    directory = Directory(tx, max(element.now for element in elements))
    verdicts: list[Enqueued] = []
    while len(verdicts) < len(elements):
        verdicts += _distinct(tx, directory, elements[len(verdicts) :])
    return verdicts


def _distinct(tx: Transaction, directory: Directory, elements: Sequence[Element]) -> list[Enqueued]:
    """The elements up to the first whose id came before among them."""
    seen: dict[str, set[str]] = {}
    count = 0
    for element in elements:
        ids = seen.setdefault(element.message.tenant_id, set())
        if element.message.id in ids:
            break
        ids.add(element.message.id)
        count += 1
    known = again.known(tx, seen)
    rows = Rows()
    verdicts = [_take(tx, directory, known, rows, element) for element in elements[:count]]
    rows.write(tx)
    return verdicts


def _take(
    tx: Transaction, directory: Directory, known: again.Known, rows: Rows, element: Element
) -> Enqueued:
    message = element.message
    if objection := directory.objection(message.tenant_id):
        return Enqueued(Verdict.REJECTED, objection)
    owner = directory.owner(message.tenant_id, message.account_id)
    if owner is None:
        return Enqueued(Verdict.REJECTED, "account not found")
    key = (message.tenant_id, message.id)
    if (stored := known.stored.get(key)) is not None:
        if stored.quiet:
            return Enqueued(Verdict.REJECTED, "the id is that of a bounce")
        return again.resubmitted(tx, directory, stored, element, owner)
    if (buried := known.buried.get(key)) is not None:
        return again.risen(tx, directory, buried, element, owner)
    _add(tx, directory, rows, element, owner)
    return _QUEUED


def _add(tx: Transaction, directory: Directory, rows: Rows, element: Element, owner: Owner) -> None:
    message, now = element.message, element.now
    lane = directory.lane(owner, message.tenant_id, message.priority, message.batch)
    pk = tx.names.pk(now)
    body = element.body or pk
    start = max(now, message.not_before or 0.0)
    rows.messages.append(
        (
            pk,
            message.tenant_id,
            message.id,
            1,
            owner.pk,
            lane.pk,
            message.priority,
            message.batch,
            message.not_before,
            start,
            start,
            now,
            now,
            start + owner.max_age - lane.paused,
            message.message_id or f"<{tx.names.uuid()}@localhost>",
            message.digest,
            message.envelope_from,
            message.size,
            len(message.parts),
            body,
            message.test,
            message.not_after,
        )
    )
    for n, recipient in enumerate(message.recipients):
        rows.recipient(pk, n, recipient)
    add_body(tx, rows, element, body)
    rows.events.append(NewEvent(pk, 1, EventKind.ACCEPTED, now, data=notes(message)))
    arrived(tx, rows, lane, owner, pk, element, start)


@attrs.frozen
class Piece:
    """A piece of a large body, written ahead of its message. *body* is 0 for the first."""

    body: int
    part: int
    n: int
    data: bytes
    now: float


#: Seconds after which a body that no message came for is removed.
ABANDONED_AFTER = 3600.0


def write_piece(tx: Transaction, piece: Piece) -> int:
    """:return: the body it belongs to."""
    body = piece.body
    if not body:
        body = tx.names.pk(piece.now)
        tx.do(sql.ADD_LOOSE, body, piece.now + ABANDONED_AFTER)
    tx.do(sql.ADD_CHUNK, body, piece.part, piece.n, piece.data)
    return body


ENQUEUE: Kind[Submission, list[Enqueued]] = Kind(
    enqueue, "enqueue-commit", lambda call: call.weight
)
PIECE = alone(write_piece)
