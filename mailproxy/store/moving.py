"""
What a move of a whole queue from one database to another consists of.

A queue must not be served from two databases: what waits would be sent twice, and nobody would
see it. So the source is marked before the copy becomes visible. Who is killed between the two
leaves a source that nobody serves and a target that is empty, and the same command goes on from
there; never two that are served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import attrs
import msgspec
from sqlalchemy import Table

from mailproxy.errors import StoreRefused
from mailproxy.store.schema import messages, nodes
from mailproxy.store.schema_tenants import settings, tenants
from mailproxy.store.tables import metadata

#: The settings that mark a queue that was moved away, and one that came from elsewhere.
MOVED, CAME = "moved", "came"

#: Settings that tell of the database, not of the queue: serial numbers, the greatest key, marks.
LOCAL = ("serial", "buried", "greatest_pk", MOVED, CAME)

#: Rows that migrations make.
_MADE = {"tenants": "id = 'default'"}

#: Tables whose rows are about processes, none of which lives.
_PROCESSES = frozenset({nodes.name})

#: What is copied, and in which order.
TABLES: tuple[Table, ...] = tuple(
    table
    for table in (messages, *(each for each in metadata.sorted_tables if each is not messages))
    if table.name not in _PROCESSES
)


class Mark(msgspec.Struct, frozen=True):
    """
    One move, as both databases remember it.

    :param id: the same in both.
    :param place: the other database, without its password.
    :param at: when, in Unix seconds.
    """

    id: str
    place: str
    at: float

    @property
    def day(self) -> str:
        return datetime.fromtimestamp(self.at, UTC).isoformat(" ", "seconds")


class Side(Protocol):
    """
    A database that a queue is moved from or to.

    Each call raises :class:`StoreRefused` where the database refuses; nothing is changed then.
    """

    #: Where it is, for people.
    place: str

    @property
    def connection(self) -> Any:
        """With the face of SQLite's, within the transaction."""

    def enter(self, *, make: bool = False) -> str:
        """
        Shut everybody out and begin a transaction.

        :param make: bring an empty database to the schema of this program first.
        :return: the schema it is at; "" for a database without one.
        :raises StoreRefused: a service has it, or it is not there.
        """

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of *statement*, which is valid on both."""

    def set(self, name: str, value: str | None) -> None:
        """Store the setting *name*; None removes it."""

    def rows(self, table: Table, statement: str) -> Iterator[tuple[Any, ...]]:
        """The rows of *statement*, which gives the columns of *table*, a few at a time."""

    def fit(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """*row* as this database can keep it: a server keeps no NUL in a text."""

    def put(self, table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add *rows* to *table*."""

    def finish(self) -> None:
        """Last words of a target that is complete."""

    def commit(self) -> None:
        """Make what was done durable; the transaction ends."""

    def leave(self) -> None:
        """Take back what was not committed, and let others in again."""


def columns(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


def select(table: Table) -> str:
    """All rows, in the order of their key, which is the same on both databases."""
    unique = next((index for index in table.indexes if index.unique), None)
    keys = list(table.primary_key.columns) or list(unique.columns if unique is not None else ())
    order = ", ".join(f'"{key.name}"' for key in keys)
    where = ""
    if table is settings:
        where = f" WHERE name NOT IN ({', '.join(map(repr, LOCAL))})"
    return f"SELECT {columns(table)} FROM {table.name}{where} ORDER BY {order}"


def count(side: Side, table: Table) -> int:
    where = select(table).partition(" WHERE ")[2].partition(" ORDER BY ")[0]
    found = side.ask(f"SELECT count(*) FROM {table.name}{' WHERE ' if where else ''}{where}")
    return int(found[0][0])


def mark(side: Side, name: str) -> Mark | None:
    found = side.ask(f"SELECT value FROM settings WHERE name = '{name}'")
    return msgspec.json.decode(found[0][0], type=Mark) if found else None


def vacate(side: Side) -> None:
    """
    Make room in a target that holds nothing but what migrations made.

    :raises StoreRefused: there is more in it.
    """
    for table in TABLES:
        if table is settings:
            continue
        other = f" WHERE NOT ({_MADE[table.name]})" if table.name in _MADE else ""
        if side.ask(f"SELECT 1 FROM {table.name}{other} LIMIT 1"):
            raise StoreRefused(
                f"{side.place} is not empty: there are rows in its table {table.name}; "
                "give a new database"
            )
    for table in (settings, tenants):
        side.ask(f"DELETE FROM {table.name}")


@attrs.define
class Tally:
    """
    Counts rows on their way, and digests them.

    :param fit: see :meth:`Side.fit`; *changed* counts the rows that it changed.

    The digest is SHA-256 over the rows in the order of their key, each as a MessagePack array.
    """

    fit: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    rows: int = 0
    changed: int = 0
    _hash: Any = attrs.field(factory=hashlib.sha256)
    _encoder: msgspec.msgpack.Encoder = attrs.field(factory=msgspec.msgpack.Encoder)

    def over(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for row in rows:
            made = self.fit(row)
            self.rows += 1
            self.changed += made != row
            self._hash.update(self._encoder.encode(made))
            yield made

    @property
    def digest(self) -> str:
        return str(self._hash.hexdigest())
