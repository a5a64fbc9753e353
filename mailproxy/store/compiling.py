"""
How a statement of SQLAlchemy Core becomes the driver's text, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from sqlalchemy import Select, bindparam, func, insert, literal_column, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.schema import Table

_dialect = sqlite.dialect(paramstyle="qmark")


@attrs.frozen
class Statement:
    """The driver's text; *names* says what its question marks stand for, in order."""

    sql: str
    names: tuple[str, ...]


def compiled(statement: ClauseElement, *names: str) -> Statement:
    """
    Compile once.

    :param names: the parameters in the order callers give them, as a check of that order.
    """
    made = statement.compile(dialect=_dialect)
    found = tuple(made.positiontup or ())  # type: ignore[attr-defined]
    if found != names:
        raise AssertionError(f"parameters are {found}, not {names}: {made}")
    return Statement(str(made), found)


def indexed(statement: Statement, table: Table, index: str) -> Statement:
    """
    Tie *statement* to an index.

    The planner may not choose here: with the statistics of ANALYZE it takes plans whose cost
    grows with the queue.
    """
    before = f"FROM {table.name} \n"
    if statement.sql.count(before) != 1:
        raise AssertionError(f"{table.name} is not read exactly once: {statement.sql}")
    after = f"FROM {table.name} INDEXED BY {index} \n"
    return Statement(statement.sql.replace(before, after), statement.names)


def p(name: str) -> Any:
    return bindparam(name)


def listed(name: str = "pks") -> Select[Any]:
    """The values of the JSON list that is parameter *name*."""
    return select(func.json_each(p(name)).table_valued("value").c.value)


def const(sql: str) -> Any:
    return literal_column(sql)


def columns(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns)


def inserting(table: Table, names: Sequence[str] | None = None) -> Bulk:
    """INSERT of rows, with all columns or those named."""
    names = tuple(names or columns(table))
    return bulk(compiled(insert(table).values({name: p(name) for name in names}), *names))


#: How many rows one step takes, the most first: each step of the database costs the threads a
#: handover of the interpreter, and each size is a statement that stays prepared.
SIZES = (64, 16, 4, 1)


@attrs.frozen
class Bulk:
    """A statement for many rows: *texts* has it for each number of rows in :data:`SIZES`."""

    texts: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def sql(self) -> str:
        """For one row."""
        return self.texts[-1]


def bulk(statement: Statement) -> Bulk:
    """An INSERT or UPDATE of one row, for many rows that differ in their keys."""
    found = inserted if statement.sql.startswith("INSERT") else updated
    texts = tuple(found(statement, size) for size in SIZES if size > 1)
    return Bulk((*texts, statement.sql), statement.names)


def inserted(statement: Statement, size: int) -> str:
    head, values, row = statement.sql.partition(" VALUES ")
    if row.count("?") != len(statement.names):
        raise AssertionError(f"this is no INSERT of one row: {statement.sql}")
    return head + values + ", ".join([row] * size)


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
