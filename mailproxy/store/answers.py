"""Answers to requests that carried an idempotency key: kept, and given again for a day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sqlalchemy import delete, insert, select

from mailproxy.errors import MailProxyError
from mailproxy.model import Enqueued
from mailproxy.store.compiling import LIMIT, columns, compiled, p
from mailproxy.store.retention import Found, Step
from mailproxy.store.schema_tenants import answers
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone
from mailproxy.tenancy import Answered, KeyReused, Once

_c = answers.c

#: Seconds for which an answer is given again.
KEPT = 86_400.0

#: Answers that one step of upkeep removes.
STEP = 500

_FIND = compiled(
    select(_c.digest, _c.answer).where(
        _c.tenant_id == p("tenant"), _c.key == p("key"), _c.at > p("since")
    ),
    "tenant",
    "key",
    "since",
)
_ADD = compiled(
    insert(answers).values({name: p(name) for name in columns(answers)}).prefix_with("OR REPLACE"),
    *columns(answers),
)
_OLD = compiled(
    select(_c.tenant_id, _c.key).where(_c.at <= p("before")).suffix_with(LIMIT), "before", "limit"
)
_DROP = compiled(
    delete(answers).where(_c.tenant_id == p("tenant"), _c.key == p("key")), "tenant", "key"
)


class Asked(Protocol):
    """A request that may carry a key."""

    @property
    def once(self) -> Once | None: ...

    @property
    def now(self) -> float: ...


def repeated(calls: Iterable[Asked]) -> bool:
    """Whether two of *calls* carry the same key."""
    keys = [(call.once.tenant_id, call.once.key) for call in calls if call.once is not None]
    return len(keys) > 1 and len(set(keys)) < len(keys)


def objection(tx: Transaction, call: Asked) -> MailProxyError | None:
    """Why the request is not to be done: its key was used before."""
    once = call.once
    if once is None:
        return None
    row = tx.one(_FIND, once.tenant_id, once.key, call.now - KEPT)
    if row is None:
        return None
    return Answered(row[1]) if row[0] == once.digest else KeyReused("used for another request")


def keep(tx: Transaction, once: Once, verdicts: Sequence[Enqueued], now: float) -> None:
    tx.do(_ADD, once.tenant_id, once.key, once.digest, once.answer(verdicts), now)


def _old(cursor: Any, now: float, _options: Any) -> Found:
    return Found(cursor.execute(_OLD.sql, (now - KEPT, STEP)).fetchall(), now)


def _forget(tx: Transaction, found: Found) -> int:
    tx.many(_DROP, found.pks)
    return len(found.pks)


FORGET = Step(_old, alone(_forget))
