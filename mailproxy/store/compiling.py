"""
How a statement of SQLAlchemy Core becomes the driver's text, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import attrs
from sqlalchemy import Select, String, bindparam, func, insert, literal_column, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.schema import Table

_dialect = sqlite.dialect(paramstyle="qmark")


@attrs.frozen
class Statement:
    """The driver's text; *names* says what its question marks stand for, in order."""

    sql: str
    names: tuple[str, ...]


@attrs.frozen
class Source:
    """What a text was made from; *names* as in :class:`Statement`."""

    statement: ClauseElement
    names: tuple[str, ...]


#: By the text, for a database that says it in other words.
SOURCES: dict[str, Source] = {}


def compiled(statement: ClauseElement, *names: str) -> Statement:
    """
    Compile once.

    :param names: the parameters in the order callers give them, as a check of that order.
    """
    made = statement.compile(dialect=_dialect)
    found = tuple(made.positiontup or ())  # type: ignore[attr-defined]  # of SQLCompiler
    if found != names:
        raise AssertionError(f"parameters are {found}, not {names}: {made}")
    SOURCES[str(made)] = Source(statement, found)
    return Statement(str(made), found)


def indexed(statement: Statement, table: Table, index: str, times: int = 1) -> Statement:
    """
    Tie *statement*, which reads *table* so many times, to an index.

    The planner may not choose here: with the statistics of ANALYZE it takes plans whose cost
    grows with the queue.
    """
    before = f"FROM {table.name} \n"
    if statement.sql.count(before) != times:
        raise AssertionError(f"{table.name} is not read {times} times: {statement.sql}")
    after = f"FROM {table.name} INDEXED BY {index} \n"
    tied = Statement(statement.sql.replace(before, after), statement.names)
    SOURCES[tied.sql] = SOURCES[statement.sql]
    return tied


def p(name: str, like: Any = None) -> Any:
    """A parameter. :param like: a column of its type, where no column stands beside it."""
    return bindparam(name, type_=None if like is None else like.type)


def listed(name: str = "pks") -> Select[Any]:
    """The values of the JSON list that is parameter *name*."""
    return select(func.json_each(p(name)).table_valued("value").c.value)


def grouped(*columns: Any) -> Any:
    """
    All rows as one JSON list of lists, in no certain order: one step of the database for them all.

    Not for instants: JSON has 15 digits of a float.
    """
    return func.json_group_array(func.json_array(*columns))


def apart(column: Any) -> Any:
    """
    The value of *column*, a text or a number, in words that lead no planner to an index.

    For rows that are few and found by another key: a planner that would rather not sort reads a
    whole table in the order of its index, and one that takes a table for small reads all of a
    tenant. A text is "" in the place of NULL.
    """
    if isinstance(column.type, String):
        return func.coalesce(column, literal_column("''"))
    return column + literal_column("0")


def const(sql: str) -> Any:
    return literal_column(sql)


def columns(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns)


def inserting(table: Table, names: Sequence[str] | None = None) -> Bulk:
    """INSERT of rows, with all columns or those named."""
    names = tuple(names or columns(table))
    return bulk(compiled(insert(table).values({name: p(name) for name in names}), *names))


#: For how many rows there is a statement, the fewest first; each stays prepared. What is between
#: two sizes is filled up to the next, so that up to the last of them one step of the database does:
#: each step costs the threads a handover of the interpreter.
SIZES = (1, 2, 4, 8, 16, 32, 64)


@attrs.frozen
class Bulk:
    """
    A statement for many rows.

    :param texts: it for each number of rows in :data:`SIZES`.
    :param names: the parameters of one row.
    :param counted: whether all texts but the first take, after the parameters of the rows, how
        many of them are meant; otherwise the last row may stand there more than once.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]
    counted: bool

    @property
    def sql(self) -> str:
        """For one row."""
        return self.texts[0]

    def filled(self, rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        """:return: the text for *rows*, 1 to 64, and its values."""
        count = len(rows)
        place = (count - 1).bit_length()
        values = list(chain.from_iterable(rows))
        if place:
            for _ in range(SIZES[place] - count):
                values += rows[-1]
            if self.counted:
                values.append(count)
        return self.texts[place], values


def bulk(statement: Statement) -> Bulk:
    """An INSERT or UPDATE of one row, for many rows that differ in their keys."""
    counted = statement.sql.startswith("INSERT")
    found = inserted if counted else updated
    texts = tuple(found(statement, size) for size in SIZES if size > 1)
    return Bulk((statement.sql, *texts), statement.names, counted)


def inserted(statement: Statement, size: int) -> str:
    """Of *size* rows as many as the last parameter says."""
    head, values, row = statement.sql.partition(" VALUES ")
    if not values or row.count("?") != len(statement.names):
        raise AssertionError(f"this is no INSERT of one row: {statement.sql}")
    return f"{head} SELECT * FROM (VALUES {', '.join([row] * size)}) LIMIT ?"


def updated(statement: Statement, size: int) -> str:
    """The rows become a table *v*, and each question mark a column of it."""
    head, where, condition = statement.sql.partition(" WHERE ")
    parts = f"{head} FROM v{where}{condition}".split("?")
    if not condition or len(parts) != len(statement.names) + 1:
        raise AssertionError(f"this is no UPDATE by a key: {statement.sql}")
    columns = (f"v.column{n}" for n in range(1, len(parts)))
    row = f"({', '.join('?' * len(statement.names))})"
    text = parts[0] + "".join(
        f"{name}{part}" for name, part in zip(columns, parts[1:], strict=True)
    )
    return f"WITH v AS (VALUES {', '.join([row] * size)}) {text}"


#: Put behind a SELECT; what Core renders for SQLite has an OFFSET as well.
LIMIT = text("LIMIT :limit")
