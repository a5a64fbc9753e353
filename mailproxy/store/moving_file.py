"""An SQLite file that a queue is moved from or to."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from mailproxy.errors import StoreRefused
from mailproxy.store.database import Database
from mailproxy.store.migrate import migrate
from mailproxy.store.moving import columns
from mailproxy.store.options import StoreOptions


class FileSide:
    """:param path: of the file; as a target it need not exist, but its directory must."""

    def __init__(self, path: Path) -> None:
        self.place = f"sqlite:{path}"
        self._path = path
        self._database = Database(path, StoreOptions().cache_bytes)
        self._connection: sqlite3.Connection | None = None

    def enter(self, *, make: bool = False) -> str:
        if not self._path.parent.is_dir():
            raise StoreRefused(f"there is no directory {self._path.parent}")
        if not make and not self._path.is_file():
            raise StoreRefused(f"there is no file {self._path}")
        self._database.lock.acquire()
        if make:
            self._make()
        self._connection = self._database.open_writer()
        with self._refusing():
            if make and not self._tables():
                migrate(self._connection)
            self._connection.execute("BEGIN IMMEDIATE")
            if not self._tables():
                return ""
            return str(self.ask("SELECT version_num FROM alembic_version")[0][0])

    @property
    def connection(self) -> Any:
        return self._connection

    def _make(self) -> None:
        """A new file is one that only its owner can read; an old one stays as it is."""
        try:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as error:
            raise StoreRefused(f"cannot make {self._path}: {error.strerror}") from None

    def _tables(self) -> bool:
        return bool(self.ask("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"))

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        assert self._connection is not None
        with self._refusing():
            return self._connection.execute(statement).fetchall()

    def set(self, name: str, value: str | None) -> None:
        assert self._connection is not None
        with self._refusing():
            self._connection.execute("DELETE FROM settings WHERE name = ?", (name,))
            if value is not None:
                self._connection.execute("INSERT INTO settings VALUES (?, ?)", (name, value))

    def rows(self, table: Table, statement: str) -> Iterator[tuple[Any, ...]]:
        assert self._connection is not None
        with self._refusing(f" in its table {table.name}"):
            yield from self._connection.execute(statement)

    def fit(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return row

    def put(self, table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
        assert self._connection is not None
        places = ", ".join("?" * len(table.columns))
        statement = f"INSERT INTO {table.name} ({columns(table)}) VALUES ({places})"
        with self._refusing(f" a row of the table {table.name}"):
            self._connection.executemany(statement, rows)

    def finish(self) -> None:
        """Keys of new rows are greater than all there are: a file needs nothing more."""

    def commit(self) -> None:
        assert self._connection is not None
        with self._refusing():
            self._connection.execute("COMMIT")

    def leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._database.lock.release()

    @contextmanager
    def _refusing(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreRefused(f"{self.place} refused{what}: {error}") from None
