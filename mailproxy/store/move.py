"""
Moves a whole queue from one database to another, or says why not.

Everything is written in one transaction of the target, read from there again and compared before
it is committed. Memory is bounded: rows pass through one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import msgspec
from sqlalchemy import Table

from mailproxy.crypto import Sealer
from mailproxy.errors import StoreRefused
from mailproxy.store.boot import fits
from mailproxy.store.migrate import newest
from mailproxy.store.moving import (
    CAME,
    MOVED,
    TABLES,
    Mark,
    Side,
    Tally,
    count,
    mark,
    select,
    vacate,
)

#: Rows between two words on how far it is.
OFTEN = 1000


@attrs.frozen
class Copied:
    """
    One table.

    :param rows: how many it has.
    :param digest: see :class:`mailproxy.store.moving.Tally`; the same of both databases.
    :param changed: rows with a text whose NUL characters were replaced.
    """

    table: str
    rows: int
    digest: str
    changed: int = 0


@attrs.frozen
class Moved:
    """
    A queue that was moved.

    :param already: an earlier move had arrived; nothing was done now.
    :param tables: none in that case.
    """

    mark: Mark
    schema: str
    tables: tuple[Copied, ...] = ()
    already: bool = False


#: Called with the name of a table, rows done of it and all its rows.
Progress = Callable[[str, int, int], None]


def move(source: Side, target: Side, sealer: Sealer, mark: Mark, told: Progress) -> Moved:
    """
    Move everything that is in *source* to *target*, which is empty, and mark the source.

    :param sealer: with the keys of the source.
    :param mark: names the target.
    :raises StoreRefused: it cannot be done; the message says whether anything was changed.
    """
    try:
        _enter(source)
        return _into(source, target, sealer, mark, told)
    finally:
        source.leave()


def take_back(source: Side) -> Mark:
    """
    Let *source* be served again though it was moved.

    :return: the mark that it had.
    :raises StoreRefused: it had none.
    """
    try:
        _enter(source)
        found = mark(source, MOVED)
        if found is None:
            raise StoreRefused(f"{source.place} was not moved anywhere")
        source.set(MOVED, None)
        source.commit()
        return found
    finally:
        source.leave()


def _enter(source: Side) -> None:
    found = source.enter()
    if not found:
        raise StoreRefused(f"there is no queue in {source.place}")
    if found != newest():
        raise StoreRefused(
            f"{source.place} has schema {found}, this program {newest()}: "
            "bring it there with `mailproxy migrate`"
        )


def _into(source: Side, target: Side, sealer: Sealer, wanted: Mark, told: Progress) -> Moved:
    if not fits(source.connection, sealer):
        raise StoreRefused(
            f"the encryption key is not the one that secrets in {source.place} are sealed with: "
            "give its GMP_ENCRYPTION_KEY, or the data directory that has its key file"
        )
    before = mark(source, MOVED)
    if before is not None and before.place != wanted.place:
        raise StoreRefused(
            f"{source.place} was moved to {before.place} ({before.day} UTC): what waits in it is "
            "sent from there; move that one, or see --take-back"
        )
    try:
        schema = target.enter(make=True)
        if schema != newest():
            raise StoreRefused(f"{target.place} has schema {schema}, this program {newest()}")
        if before is not None and mark(target, CAME) == _came(before, source):
            return Moved(before, schema, already=True)
        vacate(target)
        tables = tuple(_copied(source, target, table, told) for table in TABLES)
        for each in tables:
            _compare(target, each)
        target.finish()
        target.set(CAME, _written(_came(wanted, source)))
        _commit(source, target, wanted)
        return Moved(wanted, schema, tables)
    finally:
        target.leave()


def _came(wanted: Mark, source: Side) -> Mark:
    """What the target remembers of the move."""
    return Mark(wanted.id, source.place, wanted.at)


def _written(mark: Mark) -> str:
    return msgspec.json.encode(mark).decode()


def _copied(source: Side, target: Side, table: Table, told: Progress) -> Copied:
    total = count(source, table)
    tally = Tally(target.fit)
    rows = tally.over(source.rows(table, select(table)))
    target.put(table, _heard(rows, table.name, total, told))
    return Copied(str(table.name), tally.rows, tally.digest, tally.changed)


def _heard(
    rows: Iterable[tuple[Any, ...]], table: str, total: int, told: Progress
) -> Iterator[tuple[Any, ...]]:
    for n, row in enumerate(rows):
        if n % OFTEN == 0:
            told(table, n, total)
        yield row
    told(table, total, total)


def _compare(target: Side, copied: Copied) -> None:
    """:raises StoreRefused: the target does not give back what it was given."""
    (table,) = (each for each in TABLES if each.name == copied.table)
    tally = Tally(target.fit)
    for _ in tally.over(target.rows(table, select(table))):
        pass
    if (tally.rows, tally.digest) != (copied.rows, copied.digest):
        raise StoreRefused(
            f"{target.place} does not give back what was put into its table {table.name}: "
            f"{tally.rows} rows of {copied.rows}; nothing was changed"
        )


def _commit(source: Side, target: Side, wanted: Mark) -> None:
    """First the mark, then the copy: see :mod:`mailproxy.store.moving`."""
    source.set(MOVED, _written(wanted))
    source.commit()
    try:
        target.commit()
    except StoreRefused as error:
        raise StoreRefused(
            f"{error}; whether the copy is there is not known, and {source.place} is marked as "
            "moved: run the same command again, or see --take-back"
        ) from None
