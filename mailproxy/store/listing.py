"""What people and programs look at: lists and counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from operator import eq, ge, itemgetter
from typing import Any, TypeVar

import attrs
from sqlalchemy import Select, func, select

from mailproxy.records import Counts, ListQuery, MessageRecord
from mailproxy.search import LOOKED_AT, Found, Wanted
from mailproxy.search import select as chosen
from mailproxy.states import MessageState, Priority
from mailproxy.store import rates
from mailproxy.store.compiling import LIMIT, Statement, compiled, const, indexed, p
from mailproxy.store.reports import recipients_of
from mailproxy.store.schema import NEVER, accounts, lanes, messages, payloads, texts
from mailproxy.store.schema_tenants import tenants
from mailproxy.store.texts import joined
from mailproxy.store.transaction import COUNTED, numbers

T = TypeVar("T")

_m, _l = messages.c, lanes.c

_SHOWN = (
    _m.pk,
    _m.tenant_id,
    _m.id,
    accounts.c.id,
    _m.priority,
    _m.batch,
    _m.not_before,
    _m.state,
    _m.attempts,
    _m.sent_ts,
    _m.error_ts,
    _m.error,
    _m.deferred_reason,
    _m.reported_at,
    _m.accepted_at,
    _m.updated_at,
    _m.message_id,
    _m.not_after,
    payloads.c.json,
    texts.c.text,
    _m.finished_at,
)
#: Where the payload's two columns begin, and what stands behind them.
_PAYLOAD = [column.name for column in _SHOWN].index("json")
_BEHIND = _PAYLOAD + 2

#: Bytes of payload after which a page is full.
PAGE_BYTES = 4 * 1024 * 1024

_BODILESS = messages.join(accounts, accounts.c.pk == _m.account_pk)
_TEXTLESS = _BODILESS.outerjoin(payloads, payloads.c.body_pk == _m.body_pk)
_JOINED = _TEXTLESS.outerjoin(texts, texts.c.body_pk == _m.body_pk)
#: The same columns without the text.
_BRIEF = (*_SHOWN[:_PAYLOAD], payloads.c.json, const("NULL"), *_SHOWN[_BEHIND:])
#: The same columns without the payload: in its place where it is, to be read by itself.
_APART = (*_SHOWN[:_PAYLOAD], _m.body_pk, const("NULL"), *_SHOWN[_BEHIND:])


def _filtered(statement: Select[Any]) -> Select[Any]:
    """The filters of a query; a parameter that is NULL does not filter."""
    pairs = (
        ("tenant", _m.tenant_id, eq),
        ("state", _m.state, eq),
        ("account", accounts.c.id, eq),
        ("batch", _m.batch, eq),
        ("since", _m.updated_at, ge),
    )
    for name, column, holds in pairs:
        statement = statement.where(p(name, column).is_(None) | holds(column, p(name)))
    return statement


_FILTERS = ("tenant", "state", "account", "batch", "since")
_TWICE = tuple(name for name in _FILTERS for _ in range(2))


@attrs.frozen
class _Statements:
    """
    :param open: messages that are not finished, by age.
    :param done: those that are, the newest first.
    :param one: those of one id.
    """

    open: Statement
    done: Statement
    one: Statement


def _statements(shown: Iterable[Any], tables: Any) -> _Statements:
    base = select(*shown).select_from(tables)
    return _Statements(
        open=compiled(
            _filtered(
                base.where(
                    _m.finished_at.is_(None), _m.priority == p("priority"), _m.pk > p("after")
                )
            )
            .order_by(_m.pk)
            .suffix_with(LIMIT),
            "priority",
            "after",
            *_TWICE,
            "limit",
        ),
        done=compiled(
            _filtered(
                base.where(
                    _m.finished_at.is_not(None),
                    _m.finished_at <= p("until"),
                    (_m.finished_at < p("at")) | (_m.pk < p("before")),
                )
            )
            .order_by(_m.finished_at.desc(), _m.pk.desc())
            .suffix_with(LIMIT),
            "until",
            "at",
            "before",
            *_TWICE,
            "limit",
        ),
        one=compiled(
            base.where(_m.tenant_id == p("tenant"), _m.id == p("id")),
            "tenant",
            "id",
        ),
    )


_WHOLE, _PARTS = _statements(_SHOWN, _JOINED), _statements(_APART, _BODILESS)
_OUTLINES = _statements(_BRIEF, _TEXTLESS)
_BODY = compiled(
    select(payloads.c.json, texts.c.text)
    .select_from(payloads.outerjoin(texts, texts.c.body_pk == payloads.c.body_pk))
    .where(payloads.c.body_pk == p("body")),
    "body",
)
_TENANTS = compiled(select(tenants.c.id))
_counted = select(*(func.coalesce(func.sum(lanes.c[name]), const("0")) for name in COUNTED))
_first_due = (
    select(_l.due_at)
    .where(_l.blocked == const("0"), _l.due_at <= p("now"))
    .order_by(_l.due_at)
    .suffix_with("LIMIT 1")
)
_its = _l.tenant_id == p("tenant")
_COUNTS = compiled(_counted)
_COUNTS_OF = compiled(_counted.where(_its), "tenant")
_OLDEST_DUE = indexed(compiled(_first_due, "now"), lanes, "lanes_due")
_OLDEST_DUE_OF = indexed(compiled(_first_due.where(_its), "now", "tenant"), lanes, "lanes_due")
_NEXT_DUE = indexed(
    compiled(
        select(_l.due_at)
        .where(_l.blocked == const("0"), _l.due_at > p("now"))
        .order_by(_l.due_at)
        .suffix_with("LIMIT 1"),
        "now",
    ),
    lanes,
    "lanes_due",
)
#: The most lanes with due mail that are asked what else they have coming.
MANY = 64
_next_of = (
    select(_m.claim_at)
    .where(_m.lane == _l.pk, _m.claim_at > p("later"))
    .order_by(_m.claim_at)
    .suffix_with("LIMIT 1")
    .correlate(lanes)
    .scalar_subquery()
)
_NEXT_IN_DUE = indexed(
    indexed(
        compiled(
            select(_next_of)
            .where(_l.blocked == const("0"), _l.due_at <= p("now"))
            .suffix_with(LIMIT),
            "later",
            "now",
            "limit",
        ),
        lanes,
        "lanes_due",
    ),
    messages,
    "messages_claim",
)
_DUE_ACCOUNTS = indexed(
    compiled(
        select(_l.account_pk).distinct().where(_l.blocked == const("0"), _l.due_at <= p("now")),
        "now",
    ),
    lanes,
    "lanes_due",
)
_a = accounts.c
#: Parked accounts whose probe is due and that have something to probe with.
_PROBES = indexed(
    compiled(
        select(_a.pk).where(
            _a.blocked_until <= p("now"),
            select(_l.pk)
            .where(_l.account_pk == _a.pk, _l.blocked == const("2"), _l.due_at <= p("due"))
            .correlate(accounts)
            .exists(),
        ),
        "now",
        "due",
    ),
    accounts,
    "accounts_blocked",
)
_NEXT_PROBE = indexed(
    compiled(
        select(_a.blocked_until)
        .where(_a.blocked_until > p("now"))
        .order_by(_a.blocked_until)
        .suffix_with("LIMIT 1"),
        "now",
    ),
    accounts,
    "accounts_blocked",
)

_LAST = 2**63 - 1


def counts(cursor: Any, now: float, tenant_id: str | None) -> Counts:
    if tenant_id is None:
        row = cursor.execute(_COUNTS.sql).fetchone()
        oldest = cursor.execute(_OLDEST_DUE.sql, (now,)).fetchone()
    else:
        row = cursor.execute(_COUNTS_OF.sql, (tenant_id,)).fetchone()
        oldest = cursor.execute(_OLDEST_DUE_OF.sql, (now, tenant_id)).fetchone()
    by_state = dict(zip(COUNTED, row, strict=True))
    return Counts(by_state, None if oldest is None else oldest[0])


def due_accounts(cursor: Any, now: float) -> tuple[list[int], float | None]:
    """
    Who has mail that is due, and when the next mail falls due.

    Where more than :data:`MANY` lanes have due mail, what else they have coming is not looked up
    in all of them: there is more to do now, and whoever does it asks again.
    """
    due = [row[0] for row in cursor.execute(_DUE_ACCOUNTS.sql, (now,))]
    known = set(due)
    due += (row[0] for row in cursor.execute(_PROBES.sql, (now, now)) if row[0] not in known)
    opening, later = rates.closed(cursor, now)
    due += (pk for pk in dict.fromkeys(opening) if pk not in due)
    following = [
        *cursor.execute(_NEXT_DUE.sql, (now,)),
        *cursor.execute(_NEXT_PROBE.sql, (now,)),
        *cursor.execute(_NEXT_IN_DUE.sql, (now, now, MANY)),
    ]
    later += (row[0] for row in following if row[0] is not None and row[0] < NEVER)
    return due, min(later, default=None)


@attrs.define
class _Page:
    """One page of a listing, row by row until it is full."""

    rows_left: int
    bytes_left: int = PAGE_BYTES
    rows: list[Any] = attrs.Factory(list)

    @property
    def full(self) -> bool:
        return self.rows_left <= 0 or self.bytes_left <= 0

    def take(self, found: Iterable[Any]) -> None:
        for row in found:
            self.rows.append(row)
            self.rows_left -= 1
            self.bytes_left -= sum(len(part) for part in row[_PAYLOAD:_BEHIND] if part is not None)
            if self.full:
                return


def page(cursor: Any, query: ListQuery) -> list[MessageRecord]:
    """One page: unfinished by priority and age, then finished, newest first."""
    return _despite_damage(lambda found: _page(found, query), cursor, _WHOLE)


def search(cursor: Any, query: ListQuery, wanted: Wanted) -> Found:
    """Of the next messages, in the order of :func:`page`, those that are wanted."""
    looked_at = attrs.evolve(query, limit=LOOKED_AT)
    records = _despite_damage(lambda found: _page(found, looked_at), cursor, _OUTLINES)
    return chosen(records, wanted, query.limit)


def _despite_damage(read: Callable[[_Reading], T], cursor: Any, by: _Statements) -> T:
    """Read with the bodies; where one of them is damaged, again with each body by itself."""
    try:
        return read(_Reading(cursor, by))
    except sqlite3.OperationalError:
        raise  # nothing is damaged: it cannot be read now
    except sqlite3.DatabaseError:
        return read(_Reading(cursor, _PARTS))


@attrs.frozen
class _Reading:
    """What a connection finds by one set of statements."""

    cursor: Any
    by: _Statements

    def rows(self, statement: Statement, values: tuple[Any, ...]) -> Iterator[Any]:
        rows = self.cursor.execute(statement.sql, values)
        return map(self._with_body, rows.fetchall()) if self.by is _PARTS else rows

    def _with_body(self, row: Any) -> Any:
        """What cannot be read is no payload, and shown as damaged."""
        body: Any
        try:
            body = self.cursor.execute(_BODY.sql, (row[_PAYLOAD],)).fetchone() or (None, None)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            body = (b"", None)
        return (*row[:_PAYLOAD], *body, *row[_BEHIND:])


def _page(found: _Reading, query: ListQuery) -> list[MessageRecord]:
    made = _Page(query.limit)
    kind, first, second = _cursor(query.after)
    filters = [
        value
        for value in (query.tenant_id, query.state, query.account_id, query.batch, query.since)
        for _ in range(2)
    ]
    final = query.state is not None and MessageState(query.state).final
    if kind == "u" and not final:
        for priority in Priority:
            if priority < first or made.full:
                continue
            after = second if priority == first else 0
            values = (int(priority), after, *filters, made.rows_left)
            made.take(found.rows(found.by.open, values))
    if kind == "u":
        first, second = NEVER, _LAST
    if not made.full and not query.active_only:
        values = (first, first, second, *filters, made.rows_left)
        made.take(found.rows(found.by.done, values))
    said = recipients_of(found.cursor, numbers(row[0] for row in made.rows))
    return [_record(row, tuple(said.get(row[0], ()))) for row in made.rows]


def _cursor(after: str | None) -> tuple[str, float, int]:
    """:raises ValueError: it is no cursor of ours."""
    if after is None:
        return "u", 0, 0
    kind, first, second = after.split(":")
    if kind not in ("u", "f"):
        raise ValueError("unknown cursor")
    return kind, float(first), int(second)


def _record(row: Any, recipients: tuple[Any, ...]) -> MessageRecord:
    head, text, finished_at = row[_PAYLOAD:]
    pk, priority = row[0], row[4]
    payload = None if head is None else joined(head, text)
    cursor = f"u:{priority}:{pk}" if finished_at is None else f"f:{finished_at!r}:{pk}"
    return MessageRecord(*(*row[:_PAYLOAD], payload, recipients, cursor))


def message(cursor: Any, tenant_id: str | None, message_id: str) -> MessageRecord | None:
    """One message; where no tenant is given, of those that have the id the oldest."""
    asked = [(tenant_id,)] if tenant_id is not None else cursor.execute(_TENANTS.sql).fetchall()

    def read(found: _Reading) -> list[Any]:
        return [
            row for (tenant,) in asked for row in found.rows(found.by.one, (tenant, message_id))
        ]

    rows = _despite_damage(read, cursor, _WHOLE)
    if not rows:
        return None
    row = min(rows, key=itemgetter(0))
    return _record(row, tuple(recipients_of(cursor, numbers([row[0]])).get(row[0], ())))
