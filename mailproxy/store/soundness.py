"""
Whether a database that was not closed is sound, looked at before anything is done with it.

A process that was killed damages nothing; a machine or a disk that failed may. What is looked
through are the tables that say what is to be done. The bodies are left out: they are most of the
file, and where one is damaged, that is found when it is to be sent, and costs one message.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from mailproxy.errors import StoreRefused
from mailproxy.store.schema import chunks, payloads, texts

_log = Logger()

_BODIES = frozenset(table.name for table in (chunks, payloads, texts))

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"

#: Instructions of SQLite's machine between two looks at the clock: less than a millisecond.
_STEPS = 10_000


def left_open(path: Path) -> bool:
    """Whether whoever had the database at *path* last did not close it: its log is there."""
    return path.with_name(path.name + "-wal").exists()


def look_through(
    connection: sqlite3.Connection, path: Path, seconds: float, now: Callable[[], float]
) -> None:
    """
    Look for damage in the tables of the queue and their indexes.

    :param path: of the database, for who has to see to it.
    :param seconds: after which it is left at that, with a line in the log.
    :param now: a clock, in seconds.
    :raises StoreRefused: there is some.
    """
    end = now() + seconds
    connection.set_progress_handler(lambda: now() > end, _STEPS)
    names: set[str] = set()
    done = 0
    where = "its tables"
    try:
        names = {row[0] for row in connection.execute(_TABLES)} - _BODIES
        for name in sorted(names):
            where = f"table {name}"
            faults = [row[0] for row in connection.execute(f"PRAGMA quick_check('{name}')")]
            if faults != ["ok"]:
                raise StoreRefused(_told(path, where, faults[0]))
            done += 1
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
            raise StoreRefused(_told(path, where, str(error))) from None
        _log.warn(
            "the database was not closed; in {seconds} s, {done} of {count} tables were looked "
            "through and found sound",
            seconds=seconds,
            done=done,
            count=len(names),
        )
    finally:
        connection.set_progress_handler(None, _STEPS)


def _told(path: Path, where: str, what: str) -> str:
    text = " ".join(what.split())
    return f"the database {path} is damaged ({where}: {text}): restore a backup"
