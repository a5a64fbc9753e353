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


def inserting(table: Table, names: Sequence[str] | None = None) -> Statement:
    """INSERT of one row, with all columns or those named."""
    names = tuple(names or columns(table))
    return compiled(insert(table).values({name: p(name) for name in names}), *names)


#: Put behind a SELECT; what Core renders for SQLite has an OFFSET as well.
LIMIT = text("LIMIT :limit")
