"""
The thread that writes, on a PostgreSQL server that other nodes write to as well.

As on SQLite works are gathered into transactions, and of those one at a time changes the store;
here the server sees to that, for all nodes together. With each go out, in the same step: the
greatest primary key it gave away, so that the next node's are greater; the node's own number of it,
which tells whether it was stored when the answer to its commit is lost; and a notice to the other
nodes of what has become due.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import msgspec

from mailproxy.errors import MailProxyError, PartlyStored
from mailproxy.store.compiling import Bulk, Statement
from mailproxy.store.postgres_driver import Connection
from mailproxy.store.refusals import ServerError, ServerObjection
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import Kind, Question, Work
from mailproxy.store.writer import Writer

#: Where nodes listen.
CHANNEL = "mailproxy"

#: Bytes of a notice; the server takes 8000. What does not fit is found by the poll.
NOTICE_BYTES = 7000

#: The setting that holds the greatest primary key.
GREATEST = "greatest_pk"

# A node whose row was removed has one again, which counts as dead until it renews.
_END = (
    f"WITH kept AS (UPDATE settings SET value = ? WHERE name = '{GREATEST}') "
    "INSERT INTO nodes (id, started_at, alive_until, serial) VALUES (?, 0, 0, ?) "
    "ON CONFLICT (id) DO UPDATE SET serial = excluded.serial"
)
_TELL = f"SELECT pg_notify('{CHANNEL}', ?)"
_STATUS = "SELECT pg_xact_status(CAST(CAST(? AS TEXT) AS xid8))"


class Notice(msgspec.Struct, omit_defaults=True):
    """
    What a transaction of another node has changed.

    :param node: which one.
    :param due: accounts with something due.
    :param reportable: tenants with something to be told.
    :param copied: whether copies of tenants, keys or credentials have to be read again.
    """

    node: str
    due: list[int] = []
    reportable: list[str] = []
    copied: bool = False


@attrs.define(eq=False)
class ServerTransaction(Transaction):
    """Rows by the column: one statement for any number of them."""

    def add(self, statement: Bulk, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            cursor: Any = self.cursor
            cursor.add(statement, rows)

    def many(self, statement: Statement | Bulk, rows: Sequence[Sequence[Any]]) -> None:
        if isinstance(statement, Bulk):
            self.add(statement, rows)
        elif rows:
            self.cursor.executemany(statement.sql, rows)

    def each(self, *asked: tuple[Statement, *tuple[Any, ...]]) -> Iterator[list[Any]]:
        cursor: Any = self.cursor
        return iter(cursor.ask([(statement.sql, tuple(values)) for statement, *values in asked]))

    def tell(self, statement: Statement, *values: Any) -> None:
        cursor: Any = self.cursor
        cursor.tell(statement.sql, values)


class ServerWriter(Writer):
    """Differs in how a transaction ends."""

    #: The parts of the transaction that is under way.
    made: list[Transaction]

    def _lost(self, cursor: sqlite3.Cursor, error: Exception) -> MailProxyError:
        if isinstance(error, PartlyStored):
            return error
        return super()._lost(cursor, error)

    def _worth_a_try(self, error: Exception, works: list[Work]) -> bool:
        # Of a transaction that was cut off it is known by now that it is not stored.
        lost = isinstance(error, ServerError) and error.lost
        return lost or super()._worth_a_try(error, works)

    def _foresee(self, cursor: sqlite3.Cursor, groups: dict[Kind[Any, Any], list[Work]]) -> None:
        known: set[int] = set()
        questions: list[Question] = []
        asking = 0
        for kind, works in groups.items():
            if kind.ahead is None:
                break  # what it changes the others have to see
            ahead = kind.ahead([work.call for work in works])
            if known.isdisjoint(ahead.messages):
                questions += ahead.questions
                asking += 1
            known.update(ahead.messages)
        server: Any = cursor
        if asking > 1:
            server.foresee([(statement.sql, tuple(values)) for statement, *values in questions])

    def _run(self, cursor: sqlite3.Cursor, kind: Kind[Any, Any], group: list[Work]) -> Transaction:
        if kind.ahead is None:
            server: Any = cursor
            server.connection.foreseen.clear()
        return super()._run(cursor, kind, group)

    def _numbered(self, cursor: sqlite3.Cursor) -> int:
        """What tells later whether it is stored: this node's own number of the transaction."""
        made, self.made = self.made, []
        names, node = made[-1].names, made[-1].node_id
        due = sorted({pk for each in made for pk in each.due})
        reportable = sorted({tenant for each in made for tenant in each.reportable})
        copied = any(each.copied for each in made)
        serial = self._serial + 1
        server: Any = cursor
        server.tell(_END, (str(names.pk(0.0)), node, serial))
        if (due or reportable or copied) and not server.connection.alone:
            notice = msgspec.json.encode(Notice(node, due, reportable, copied))
            if len(notice) > NOTICE_BYTES:
                notice = msgspec.json.encode(Notice(node, copied=copied))
            server.tell(_TELL, (notice.decode(),))
        return serial


def came_through(connection: Connection, number: int, node: str, serial: int) -> bool | None:
    """
    Whether a transaction that was cut off was committed.

    The server's number says whether it goes on, and no more: a server that crashed gives numbers
    away again that it had given to what it lost.

    :param number: the server's number of it.
    :param serial: *node*'s own number of it.
    :return: None while it is not decided yet.
    :raises ServerError: the server does not say.
    """
    try:
        (status,) = connection.execute(_STATUS, (str(number),)).fetchone()
    except ServerObjection:  # it is to be given away yet: the server has lost it
        status = None
    if status == "in progress":
        return None
    row = connection.execute("SELECT serial FROM nodes WHERE id = ?", (node,)).fetchone()
    return row is not None and int(row[0]) >= serial
