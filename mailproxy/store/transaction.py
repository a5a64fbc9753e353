"""
What a work sees of the transaction it runs in.

Counts and due times of lanes are gathered while works run and written once per group of works, so
a hundred messages of one lane cost its row one change.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import msgspec

from mailproxy.clock import Names
from mailproxy.states import EventKind, MessageState
from mailproxy.store import statements as sql
from mailproxy.store.compiling import SIZES, Bulk, Statement
from mailproxy.store.options import StoreOptions
from mailproxy.store.schema import NEVER

#: The counters of a lane, in the order of its statement.
COUNTED = tuple(
    state.value
    for state in (
        MessageState.QUEUED,
        MessageState.DEFERRED,
        MessageState.IN_FLIGHT,
        MessageState.HELD,
        MessageState.UNCERTAIN,
    )
)
_COLUMN = {state: n for n, state in enumerate(COUNTED)}


class NewEvent(NamedTuple):
    """
    One transition, to be appended.

    :param stream: the tenant that is to be told; None for the timeline only.
    :param report: JSON of what the report's item says beside the message's rows.
    :param data: JSON for the timeline.
    """

    message_pk: int
    generation: int
    kind: EventKind
    at: float
    final: bool = False
    stream: str | None = None
    report: bytes | None = None
    data: bytes | None = None


class Finished(NamedTuple):
    """A message that ended: sent, or otherwise."""

    tenant_id: str
    account_id: str
    sent: bool


class Limited(NamedTuple):
    """
    A limit stands against the mail of an account.

    :param account_id: "" where nobody asks for it: without messages.
    :param messages: how many were put off, or failed, for it just now.
    :param until: when there is room again.
    """

    tenant_id: str
    account_pk: int
    account_id: str
    messages: int
    until: float


#: The most account ids kept; where there are more they are looked up again.
ACCOUNT_IDS = 10_000


@attrs.define
class Along:
    """
    Whether contents come along with a claim, kept over transactions.

    :param wanted: until a damaged page is met. A page that cannot be read spoils the transaction
        and all that is claimed in it; read by itself, a content spoils no other.
    """

    wanted: bool = True


@attrs.define(eq=False)
class Transaction:
    """
    :param cursor: inside a transaction that others begin and end.
    :param due: accounts the dispatcher is to look at after the commit.
    :param reportable: tenants the reporter is to look at after the commit.
    :param copied: whether something was changed that processes keep copies of.
    :param stale: lanes a message left other than by a claim: their due time has to be looked up.
    :param account_ids: of account pks, kept over transactions: an account never changes its id.
    :param along: see :class:`Along`.
    :param suppressing: whether a tenant, as far as it was looked up, has a suppression list.
    :param paused: the domains a tenant has paused, as far as it was looked up; None before.
    :param finished: the messages that ended here otherwise than cancelled, for the metrics.
    :param limiting: whether anything in the store is limited, as far as that was looked up.
    :param limited: accounts that have to wait for a limit, for whoever sends their mail.
    """

    cursor: sqlite3.Cursor
    names: Names
    node_id: str
    options: StoreOptions
    account_ids: dict[int, str] = attrs.Factory(dict)
    along: Along = attrs.Factory(Along)
    due: set[int] = attrs.Factory(set)
    reportable: set[str] = attrs.Factory(set)
    copied: bool = False
    stale: set[int] = attrs.Factory(set)
    finished: list[Finished] = attrs.Factory(list)
    suppressing: dict[str, bool] = attrs.Factory(dict)
    paused: dict[str, frozenset[str]] | None = None
    limiting: bool | None = None
    limited: list[Limited] = attrs.Factory(list)
    _counts: dict[int, list[int]] = attrs.Factory(dict)
    _dues: dict[int, float] = attrs.Factory(dict)

    def one(self, statement: Statement | Bulk, *values: Any) -> Any:
        """The first row, or None."""
        return self.cursor.execute(statement.sql, values).fetchone()

    def all(self, statement: Statement, *values: Any) -> list[Any]:
        return self.cursor.execute(statement.sql, values).fetchall()

    def each(self, *asked: tuple[Statement, *tuple[Any, ...]]) -> Iterator[list[Any]]:
        """
        The rows of one statement after the other, each with its values.

        When each is asked for is not said: nothing is to be written before the last was looked at.
        """
        for statement, *values in asked:
            yield self.all(statement, *values)

    def grouped(self, statement: Statement, *values: Any) -> list[list[Any]]:
        """The rows of a statement that gives them as one JSON list."""
        (rows,) = self.cursor.execute(statement.sql, values).fetchone()
        return self.rows(rows)

    #: What a column that is such a list holds.
    rows = staticmethod(msgspec.json.Decoder(list[list[Any]]).decode)

    def do(self, statement: Statement | Bulk, *values: Any) -> int:
        """How many rows it touched."""
        return self.cursor.execute(statement.sql, values).rowcount

    def tell(self, statement: Statement, *values: Any) -> None:
        """As :meth:`do`, for who does not ask how many rows it touched."""
        self.cursor.execute(statement.sql, values)

    def many(self, statement: Statement | Bulk, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self.cursor.executemany(statement.sql, rows)

    def add(self, statement: Bulk, rows: Sequence[Sequence[Any]]) -> None:
        """Do *statement* for all *rows*, in few steps."""
        most = SIZES[-1]
        for start in range(0, len(rows), most):
            self.cursor.execute(*statement.filled(rows[start : start + most]))

    def moved(self, lane: int, before: str | None, after: str | None) -> None:
        """A message of *lane* left the state *before* for *after*; only open states count."""
        if before == after:
            return
        counts = self._counts.get(lane)
        if counts is None:
            counts = self._counts[lane] = [0, 0, 0, 0, 0]
        if (column := _COLUMN.get(before or "")) is not None:
            counts[column] -= 1
        if (column := _COLUMN.get(after or "")) is not None:
            counts[column] += 1

    def due_at(self, lane: int, when: float) -> None:
        """A message of *lane* can be claimed from *when* on."""
        known = self._dues.get(lane)
        if known is None or when < known:
            self._dues[lane] = when

    def ended(self, tenant_id: str, account_pk: int, *, sent: bool) -> None:
        """A message came to its end, and not because somebody took it back."""
        self.finished.append(Finished(tenant_id, self.account_id(account_pk), sent))

    def account_id(self, account_pk: int) -> str:
        account_id = self.account_ids.get(account_pk)
        if account_id is None:
            account_id = self.one(sql.ACCOUNT_ID, account_pk)[0]
            if len(self.account_ids) >= ACCOUNT_IDS:
                self.account_ids.clear()
            self.account_ids[account_pk] = account_id
        return account_id

    def flush(self) -> None:
        """Write what was gathered for the lanes."""
        counts, dues = self._counts, self._dues
        if counts:
            rows = [(*moves, lane) for lane, moves in counts.items() if any(moves)]
            self.many(sql.LANE_COUNTS, rows)
            counts.clear()
        if dues:
            self.many(sql.LANE_DUE, [(when, lane, when) for lane, when in dues.items()])
            dues.clear()
        for lane in self.stale:
            self.recheck(lane)
        self.stale.clear()

    def recheck(self, lane: int) -> None:
        """Make the lane's due time, a lower bound, exact again."""
        self.tell(sql.LANE_RECHECK, NEVER, lane)

    def forget(self) -> None:
        """What was gathered belongs to a savepoint that was rolled back."""
        self._counts.clear()
        self._dues.clear()
        self.due.clear()
        self.reportable.clear()
        self.copied = False
        self.finished.clear()
        self.stale.clear()
        self.suppressing.clear()
        self.paused = None
        self.limiting = None
        self.limited.clear()

    def append(self, events: Sequence[NewEvent]) -> list[int]:
        """Append *events*, in order. :return: their pks."""
        count = len(events)
        if not count:
            return []
        ids = self.names.rng.getrandbits(128 * count).to_bytes(16 * count, "big")
        pks = [self.names.pk(event.at) for event in events]
        self.add(
            sql.ADD_EVENT,
            [
                (
                    pk,
                    ids[16 * n : 16 * n + 16],
                    event.message_pk,
                    event.generation,
                    str(event.kind),
                    event.at,
                    event.final,
                    event.stream,
                    event.report,
                    event.data,
                )
                for n, (pk, event) in enumerate(zip(pks, events, strict=True))
            ],
        )
        self.reportable.update(event.stream for event in events if event.stream is not None)
        return pks


def numbers(values: Iterable[int]) -> str:
    """*values* as the JSON list that a statement takes where it says ``pks``."""
    return f"[{','.join(map(str, values))}]"
