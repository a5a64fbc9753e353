"""
A copy of the SQLite database in one file, from a service that runs or one that is stopped, and the
way back.

A copy is one snapshot: what was committed when it began, whatever is written meanwhile. It gets its
name only when it is complete, sound and on the disk.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from mailproxy.errors import StoreRefused

#: Pages copied between two calls of *told*: 4 MiB.
STEP = 1024

#: Told how many pages of how many are copied.
Told = Callable[[int, int], None]

_SCHEMA = "SELECT version_num FROM alembic_version"
_UNFINISHED = "SELECT count(*) FROM messages WHERE finished_at IS NULL"
_ALL = "SELECT count(*) FROM messages"


@attrs.frozen
class Copied:
    """
    What a copy holds.

    :param size: of the file, in bytes.
    :param schema: the revision it is at.
    :param unfinished: messages that had not ended.
    """

    path: Path
    size: int
    schema: str
    messages: int
    unfinished: int


def back_up(database: Path, target: Path, told: Told) -> Copied:
    """
    Copy *database* to *target*; a service that has it goes on, also writing.

    :raises StoreRefused: *target* is there, *database* is not or is none of ours, or the copy
        could not be made; then there is no *target*.
    """
    if not database.is_file():
        raise StoreRefused(f"there is no database {database}")
    with _draft(target) as draft:
        copy(database, draft, told)
        copied = examine(draft)
        _publish(draft, target)
    return attrs.evolve(copied, path=target)


def copy(source: Path, target: Path, told: Told) -> None:
    """
    Copy one snapshot of *source* into the empty file *target*.

    :raises StoreRefused: it could not be done.
    """
    try:
        with _connection(source) as reader, _connection(target) as writer:
            reader.execute("PRAGMA query_only=ON")
            # A snapshot that is held: otherwise every commit of the service would begin it anew.
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
            reader.backup(
                writer, pages=STEP, progress=lambda _, left, total: told(total - left, total)
            )
            reader.execute("ROLLBACK")
            # One file by itself, without a log beside it.
            writer.execute("PRAGMA journal_mode=DELETE")
        _sync(target)
    except (sqlite3.Error, OSError) as error:
        raise StoreRefused(f"cannot copy {source} to {target}: {error}") from None


def examine(path: Path) -> Copied:
    """
    Look whether *path* is a sound database of ours.

    :raises StoreRefused: it is not.
    """
    try:
        with _connection(path) as connection:
            connection.execute("PRAGMA query_only=ON")
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            if faults != ["ok"]:
                raise StoreRefused(f"{path} is damaged: {'; '.join(faults)}")
            schema = connection.execute(_SCHEMA).fetchone()
            if schema is None:
                raise StoreRefused(f"{path} is no database of mailproxy")
            unfinished, messages = (
                connection.execute(each).fetchone()[0] for each in (_UNFINISHED, _ALL)
            )
    except sqlite3.Error as error:
        raise StoreRefused(f"{path} is no database of mailproxy: {error}") from None
    return Copied(path, path.stat().st_size, schema[0], messages, unfinished)


@contextmanager
def put_back(backup: Path, database: Path, told: Told) -> Iterator[Path]:
    """
    A copy of *backup* under another name beside *database*; it gets that name at the end of the
    block, unless something is raised in it.

    :raises StoreRefused: there is a database already, or *backup* is not sound.
    """
    if not backup.is_file():
        raise StoreRefused(f"there is no file {backup}")
    for each in ("", "-wal", "-shm"):
        if (there := Path(f"{database}{each}")).exists():
            raise StoreRefused(f"{there} is there: a backup is restored only where no database is")
    with _draft(database) as draft:
        copy(backup, draft, told)
        examine(draft)
        yield draft
        _sync(draft)
        _publish(draft, database)


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """An empty file beside *target*, for its owner only, that is gone afterwards."""
    if target.exists():
        raise StoreRefused(f"{target} is there already, and is left as it is")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise StoreRefused(f"cannot write {target}: {error.strerror}") from None
    try:
        yield draft
    finally:
        for each in ("", "-wal", "-shm", "-journal", ".lock"):
            Path(f"{draft}{each}").unlink(missing_ok=True)


def _publish(draft: Path, target: Path) -> None:
    """Give *draft* its name, durably. :raises StoreRefused: somebody else was faster."""
    try:
        try:
            os.link(draft, target)
        except FileExistsError:
            raise StoreRefused(f"{target} is there already, and is left as it is") from None
        except OSError:  # a file system without hard links
            draft.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise StoreRefused(f"cannot write {target}: {error.strerror}") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    try:
        yield connection
    finally:
        with suppress(sqlite3.Error):
            connection.close()
