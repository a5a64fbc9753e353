"""
The SQLite file: its lock, its connections, and what each of them is told before its first use.

A transaction is durable when its COMMIT returns: write-ahead log, ``synchronous=FULL``.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import IO

import attrs

from mailproxy.errors import StoreRefused, StoreUnavailable

#: Makes a connection; the seam where tests let the disk fail.
Connect = Callable[[str], sqlite3.Connection]

#: Milliseconds SQLite itself waits for another process's lock; the writer asks again after that.
BUSY_MS = 100

#: Pages in the log before the writer moves them into the file.
CHECKPOINT_PAGES = 4000


# Values the driver can take as they are. Told so, it does not search for a way to adapt them: by
# callgrind, 3 300 instructions for each NULL and each bytes, and 6 % of all that a message costs
# the store.
_NOTHING: dict[None, None] = {}
sqlite3.register_adapter(type(None), _NOTHING.get)
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)


def connect(path: str) -> sqlite3.Connection:
    """A connection that begins and ends its transactions only when told to."""
    return sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        timeout=BUSY_MS / 1000,
    )


def available(error: Exception) -> StoreUnavailable:
    """What callers are told of a database error: one line, nothing of the data."""
    return StoreUnavailable(f"the database refused: {error}")


@attrs.define
class LockFile:
    """Held for as long as the store is open: one process, one file."""

    path: Path
    _file: IO[bytes] | None = None

    def acquire(self) -> None:
        """:raises StoreRefused: another process holds it, or it cannot be made."""
        try:
            file = open(self.path, "ab")  # noqa: SIM115 - held until release()
        except OSError as error:
            raise StoreRefused(f"cannot make the lock file {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise StoreRefused(f"another process has the store: {self.path} is locked") from None
        self._file = file

    def release(self) -> None:
        """The file itself stays: removing it would let two processes lock two files."""
        if self._file is not None:
            self._file.close()
            self._file = None


@attrs.define
class Database:
    """
    :param path: of the SQLite file; its directory must exist.
    :param connect: how connections are made.
    :param cache_bytes: page cache of the writer's connection.
    """

    path: Path
    cache_bytes: int
    connect: Connect = connect
    lock: LockFile = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = LockFile(self.path.with_name(self.path.name + ".lock"))

    def open_writer(self) -> sqlite3.Connection:
        """The one connection that writes. :raises StoreRefused: this is no database of ours."""
        connection = self._open(self.cache_bytes)
        connection.execute("PRAGMA secure_delete=FAST")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute("PRAGMA journal_size_limit=67108864")
        return connection

    def open_reader(self) -> sqlite3.Connection:
        """A connection that sees the last commit as it was when its statement began."""
        connection = self._open(self.cache_bytes // 4)
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _open(self, cache_bytes: int) -> sqlite3.Connection:
        try:
            connection = self.connect(os.fspath(self.path))
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.Error as error:
            raise StoreRefused(f"cannot open the database {self.path}: {error}") from None
        if mode != "wal":
            raise StoreRefused(f"{self.path} cannot have a write-ahead log (journal is {mode})")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA cache_size=-{cache_bytes // 1024}")
        return connection
