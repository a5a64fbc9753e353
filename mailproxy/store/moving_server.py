"""A database on a PostgreSQL server that a queue is moved from or to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Table

from mailproxy.errors import StoreRefused
from mailproxy.store import postgres_nodes as nodes
from mailproxy.store.boot import greatest_pk
from mailproxy.store.moving import columns
from mailproxy.store.postgres_driver import WRITERS, Connection
from mailproxy.store.postgres_migrate import migrate, revision
from mailproxy.store.postgres_server import Server
from mailproxy.store.postgres_writer import GREATEST
from mailproxy.store.refusals import ServerError

# A node that wants to start waits for the table of nodes, and finds the marks when it has it; one
# that lives, and is only taken for dead, waits for the lock of those who write.
_ENTER = (
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; "
    "BEGIN; "
    f"SELECT pg_advisory_xact_lock({WRITERS}); LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE"
)

_SET = (
    "INSERT INTO settings (name, value) VALUES ($1, $2) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)

_TYPES = (
    "SELECT a.attname, a.atttypid FROM pg_attribute AS a "
    "WHERE a.attrelid = CAST($1 AS regclass) AND a.attnum > 0 AND NOT a.attisdropped"
)


class ServerSide:
    """
    :param url: ``postgresql://user:password@host/database``.
    :param place: the same without the password.
    """

    def __init__(self, url: str, place: str) -> None:
        self.place = place
        self._server = Server(url, 0.0, "copy")
        self._connection: Connection | None = None

    def enter(self, *, make: bool = False) -> str:
        connection = self._connection = self._server.open()
        with self._refusing():
            found = revision(connection)
        if found is None and make:
            found = migrate(self._server)
        if found is None:
            return ""
        with self._refusing():
            self._raw.execute(_ENTER)
            alive = sum(node.alive for node in nodes.listed(connection.cursor()))
        if alive:
            raise StoreRefused(
                f"{alive} nodes have {self.place}: stop them; one that was killed counts as gone "
                "a minute later"
            )
        return found

    @property
    def connection(self) -> Any:
        return self._connection

    @property
    def _raw(self) -> psycopg.Connection[Any]:
        assert self._connection is not None
        return self._connection.raw()

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with self._refusing():
            cursor = self._raw.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def set(self, name: str, value: str | None) -> None:
        with self._refusing():
            if value is None:
                psycopg.RawCursor(self._raw).execute("DELETE FROM settings WHERE name = $1", [name])
            else:
                psycopg.RawCursor(self._raw).execute(_SET, [name, value])

    def rows(self, table: Table, statement: str) -> Iterator[tuple[Any, ...]]:
        with self._refusing(f" its table {table.name}"):
            types = self._types(table)
            command = f"COPY ({statement}) TO STDOUT (FORMAT BINARY)"
            with self._raw.cursor().copy(command.encode()) as copy:
                copy.set_types(types)
                yield from copy.rows()

    def fit(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(map(_kept, row))

    def put(self, table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._refusing(f" a row of the table {table.name}"):
            types = self._types(table)
            command = f"COPY {table.name} ({columns(table)}) FROM STDIN (FORMAT BINARY)"
            with self._raw.cursor().copy(command.encode()) as copy:
                copy.set_types(types)
                for row in rows:
                    copy.write_row(row)

    def _types(self, table: Table) -> list[int]:
        found = dict(psycopg.RawCursor(self._raw).execute(_TYPES, [table.name]).fetchall())
        return [found[column.name] for column in table.columns]

    def finish(self) -> None:
        """Nodes take new keys from a setting."""
        with self._refusing():
            self.set(GREATEST, str(greatest_pk(self.connection)))

    def commit(self) -> None:
        with self._refusing():
            self._raw.execute("COMMIT")

    def leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _refusing(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, ServerError) as error:
            said = str(error).strip().split("\n")[0]
            raise StoreRefused(f"{self.place} refused{what}: {said}") from None


def _kept(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if type(value) is str and "\0" in value else value
