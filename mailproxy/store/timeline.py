"""
The timeline of one message: every transition and every attempt, in the order in which they were.

An attempt has a row of its own, written when its intent was stored and again when its outcome was;
here it is laid beside the event that its outcome led to. That row is the intent: only an older
program has written an event for it as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import attrs
import msgspec
from sqlalchemy import select

from mailproxy.states import EventKind
from mailproxy.store import statements as sql
from mailproxy.store import wording
from mailproxy.store.compiling import LIMIT, apart, compiled, indexed, p
from mailproxy.store.schema import attempts, events, messages
from mailproxy.store.transaction import numbers

_m, _e, _t = messages.c, events.c, attempts.c

#: Steps of a timeline that are shown: the newest. As many attempts are laid beside them.
STEPS = 500

#: Bytes of stored JSON after which what is older is left out.
MOST_BYTES = 1024 * 1024

_INTENT = EventKind.INTENT.value

#: With which a generation begins, whatever the clocks said.
_FIRST = frozenset((EventKind.ACCEPTED.value, EventKind.GENERATION.value))

_FIND = compiled(
    select(_m.pk, _m.generation).where(_m.tenant_id == p("tenant"), _m.id == p("id")),
    "tenant",
    "id",
)
_EVENTS_OF = indexed(
    compiled(
        select(
            _e.event_id, _e.kind, _e.at, _e.generation, _e.final, _e.data, _e.report, _e.reported_at
        )
        .where(_e.message_pk == p("message"))
        .order_by(apart(_e.pk).desc())
        .suffix_with(LIMIT),
        "message",
        "limit",
    ),
    events,
    "events_message",
)
_ATTEMPTS_OF = compiled(
    select(_t.generation, _t.n, _t.node, _t.account, _t.intent_at, _t.outcome_at, _t.outcome)
    .where(_t.message_pk == p("message"))
    .order_by(_t.generation.desc(), _t.n.desc())
    .suffix_with(LIMIT),
    "message",
    "limit",
)


@attrs.define
class _Budget:
    """What may still be read of one timeline. :ivar cut: whether something was left out."""

    steps: int = STEPS
    bytes: int = MOST_BYTES
    cut: bool = False

    def within(self, rows: Iterable[Any], *sizes: int) -> Iterator[Any]:
        """Of *rows* as many as it allows; *sizes* are the columns that count."""
        for row in rows:
            if self.steps <= 0 or self.bytes <= 0:
                self.cut = True
                return
            self.steps -= 1
            self.bytes -= sum(len(row[column] or b"") for column in sizes)
            yield row


@attrs.define
class _Attempt:
    """An attempt's row, and the step its outcome led to."""

    generation: int
    n: int
    node: str
    account: str
    intent_at: float
    outcome_at: float | None
    outcome: bytes | None

    @property
    def begun(self) -> dict[str, Any]:
        return {"n": self.n, "account": self.account, "node": self.node}

    def ended(self, recipients: list[dict[str, Any]]) -> dict[str, Any]:
        """With what the upstream said; *recipients* in the order of the envelope."""
        told = self.begun
        if self.outcome_at is not None:
            told["seconds"] = round(max(0.0, self.outcome_at - self.intent_at), 6)
        if self.outcome is None:
            return told
        told |= msgspec.json.decode(self.outcome)
        replies = told.get("rcpts", ())
        if replies and len(replies) == len(recipients):
            for said, reply in zip(recipients, told.pop("rcpts"), strict=True):
                said["rcpt"] = reply
        return told


def timeline(cursor: Any, tenant_id: str, message_id: str) -> list[dict[str, Any]]:
    """The newest steps of a message, oldest first; see ``IStatus.timeline``."""
    row = cursor.execute(_FIND.sql, (tenant_id, message_id)).fetchone()
    if row is None:
        return []
    pk, generation = row
    budget, tried = _Budget(), _Budget()
    found = cursor.execute(_EVENTS_OF.sql, (pk, STEPS + 1))
    steps = [_step(each) for each in budget.within(found, 5, 6)]
    found = cursor.execute(_ATTEMPTS_OF.sql, (pk, STEPS + 1))
    rows = [_Attempt(*each) for each in tried.within(found, 6)]
    steps.reverse()
    rows.reverse()
    addresses = {n: to for _, n, to, *_ in cursor.execute(sql.RECIPIENTS_OF.sql, (numbers([pk]),))}
    for step in steps:
        if step["generation"] == generation:  # the numbers of earlier ones may be others' by now
            for said in step["data"].get("recipients", ()):
                said["address"] = addresses.get(said["n"], "")
    merged = _merged(steps, rows, complete=not budget.cut)
    shown = merged[-STEPS:]
    if shown and (budget.cut or tried.cut or len(shown) < len(merged)):
        shown[0]["cut"] = True
    return shown


def _step(row: Any) -> dict[str, Any]:
    event_id, kind, at, generation, final, data, report, reported_at = row
    step = {
        "event_id": str(UUID(bytes=event_id, version=4)),
        "kind": kind,
        "at": at,
        "generation": generation,
        "final": bool(final),
        "data": msgspec.json.decode(data) if data else {},
    }
    told = wording.load(report)
    if reason := told.error or told.deferred_reason:
        step["reason"] = reason
    if reported_at is not None:
        step["reported_at"] = reported_at
    return step


def _merged(
    steps: list[dict[str, Any]], rows: list[_Attempt], *, complete: bool
) -> list[dict[str, Any]]:
    """*steps* with the attempts laid beside them. :param complete: whether no step is missing."""
    merged: list[dict[str, Any]] = []
    told = {(s["generation"], s["data"].get("attempt")) for s in steps if s["kind"] == _INTENT}
    waiting = iter(rows)
    row = next(waiting, None)
    under_way: _Attempt | None = None
    for step in steps:
        while row is not None and not _ends(under_way, step):
            if (row.generation, row.n) in told or not _comes(row, step):
                break
            if complete or merged:
                merged.append(_intent(row))
            under_way, row = row, next(waiting, None)
        if step["kind"] == _INTENT:
            if row is not None and _is_of(row, step):
                under_way, row = row, next(waiting, None)
            if under_way is not None:
                step["attempt"] = under_way.begun
        elif under_way is not None and _ends(under_way, step):
            step["attempt"] = under_way.ended(step["data"].get("recipients", []))
            under_way = None
        merged.append(step)
    merged += (_intent(left) for left in (row, *waiting) if left is not None)
    return merged


def _is_of(row: _Attempt, step: dict[str, Any]) -> bool:
    """Whether *step* is the intent of the attempt."""
    return bool(row.generation == step["generation"] and row.n == step["data"].get("attempt"))


def _comes(row: _Attempt, step: dict[str, Any]) -> bool:
    """Whether the attempt's intent has no step of its own, and was before *step*."""
    if row.generation != step["generation"]:
        return bool(row.generation < step["generation"])
    if step["kind"] == _INTENT:
        return bool(row.n < step["data"].get("attempt", 0))
    if step["kind"] in _FIRST:
        return False
    if row.intent_at < step["at"] or _ends(row, step):
        return True
    return bool(row.intent_at == step["at"] and step["data"].get("begun"))


def _ends(row: _Attempt | None, step: dict[str, Any]) -> bool:
    """Whether *step* is what the attempt's outcome led to."""
    return bool(
        row is not None
        and row.generation == step["generation"]
        and row.outcome_at == step["at"]
        and step["kind"] in _OUTCOMES
    )


#: What an outcome leads to.
_OUTCOMES = frozenset(
    kind.value
    for kind in (
        EventKind.OUTCOME,
        EventKind.DEFERRED,
        EventKind.UNCERTAIN,
        EventKind.FAILED,
        EventKind.EXPIRED,
        EventKind.CANCELLED,
    )
)


def _intent(row: _Attempt) -> dict[str, Any]:
    """The step that is stored as the attempt's row alone."""
    return {
        "kind": _INTENT,
        "at": row.intent_at,
        "generation": row.generation,
        "final": False,
        "data": {"attempt": row.n, "account": row.account},
        "attempt": row.begun,
    }
