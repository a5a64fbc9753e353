"""
The thread that writes, on a PostgreSQL server that other nodes write to as well.

As on SQLite works are gathered into transactions, and of those one at a time changes the store;
here the server sees to that, for all nodes together. With each go out, in the same step: the
greatest primary key it gave away, so that the next node's are greater; and a notice to the other
nodes of what has become due.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from mailproxy.errors import MailProxyError, PartlyStored
from mailproxy.store.compiling import Bulk, Statement
from mailproxy.store.postgres_driver import Connection
from mailproxy.store.refusals import ServerError
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import Work
from mailproxy.store.writer import Writer

#: Where nodes listen.
CHANNEL = "mailproxy"

#: Bytes of a notice; the server takes 8000. What does not fit is found by the poll.
NOTICE_BYTES = 7000

#: The setting that holds the greatest primary key.
GREATEST = "greatest_pk"

_END = (
    f"WITH kept AS (UPDATE settings SET value = ? WHERE name = '{GREATEST}') "
    "SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)"
)
_END_AND_TELL = f"{_END}, pg_notify('{CHANNEL}', ?)"


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
        elif len(rows) == 1:  # as it is most of the time
            self.cursor.execute(statement.sql, rows[0])
        elif rows:
            self.cursor.executemany(statement.sql, rows)


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

    def _numbered(self, cursor: sqlite3.Cursor) -> int:
        """The server's own number of the transaction; what came of it can be asked for later."""
        made, self.made = self.made, []
        names, node = made[-1].names, made[-1].node_id
        due = sorted({pk for each in made for pk in each.due})
        reportable = sorted({tenant for each in made for tenant in each.reportable})
        copied = any(each.copied for each in made)
        greatest = str(names.pk(0.0))
        if not due and not reportable and not copied:
            return int(cursor.execute(_END, (greatest,)).fetchone()[0])
        notice = msgspec.json.encode(Notice(node, due, reportable, copied))
        if len(notice) > NOTICE_BYTES:
            notice = msgspec.json.encode(Notice(node, copied=copied))
        return int(cursor.execute(_END_AND_TELL, (greatest, notice.decode())).fetchone()[0])


def came_through(connection: Connection, number: int) -> bool | None:
    """
    Whether the transaction *number* was committed.

    :return: None while it is not decided yet.
    :raises ServerError: the server does not say.
    """
    (status,) = connection.execute(
        "SELECT pg_xact_status(CAST(CAST(? AS TEXT) AS xid8))", (str(number),)
    ).fetchone()
    if status == "in progress":
        return None
    if status is None:
        raise ServerError("the server has forgotten a transaction")
    return bool(status == "committed")
