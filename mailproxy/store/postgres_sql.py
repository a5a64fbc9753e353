"""
The store's statements in PostgreSQL's words.

Every statement is written once, with SQLAlchemy Core, and named by the text that SQLite is given.
Here the same statement is compiled for PostgreSQL when it is first needed. What differs:

* A list of keys is an array, not JSON: ``= ANY ($1::BIGINT[])`` can be looked up in an index.
* Many rows are arrays too, one for each column: one prepared text for any number of them.
* A flag is a small integer on both, so that conditions and values are the same.
* No statement is tied to an index; the connection tells the planner to prefer them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import attrs
from sqlalchemy import BindParameter, Insert, Select
from sqlalchemy.dialects.postgresql import base
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg, PGDialect_psycopg
from sqlalchemy.sql import ClauseElement, functions
from sqlalchemy.sql.compiler import OPERATORS, SQLCompiler
from sqlalchemy.sql.schema import Table
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import NullType

from mailproxy.store.compiling import SOURCES, Bulk


class _Types(base.PGTypeCompiler):
    """Types of values."""

    def visit_BOOLEAN(self, type_: Any, **kw: Any) -> str:
        return "SMALLINT"


class _ColumnTypes(_Types):
    """Types of columns: texts are ordered by their code points, as SQLite orders them."""

    def visit_TEXT(self, type_: Any, **kw: Any) -> str:
        return 'TEXT COLLATE "C"'


def _json_each(argument: str) -> str:
    return f"jsonb_array_elements(CAST({argument} AS JSONB))"


def _greatest(*arguments: str) -> str:
    return f"{'greatest' if len(arguments) > 1 else 'max'}({', '.join(arguments)})"


def _item(value: str, path: str) -> str:
    """An integer out of a JSON list; *path* is ``'$[n]'``."""
    return f"CAST({value} ->> {path[3:-2]} AS BIGINT)"


#: Functions that have another name or shape, by their name on SQLite.
_FUNCTIONS: dict[str, Callable[..., str]] = {
    "json_each": _json_each,
    "json_extract": _item,
    "json_array": lambda *values: f"json_build_array({', '.join(values)})",
    "json_group_array": lambda value: f"coalesce(CAST(json_agg({value}) AS TEXT), '[]')",
    "json": lambda value: f"CAST({value} AS JSON)",
    "max": _greatest,
}


class _Statements(PGCompiler_psycopg):
    def visit_function(self, func: Any, add_to_result_map: Any = None, **kwargs: Any) -> str:
        translated = _FUNCTIONS.get(func.name.lower())
        if translated is None:
            return str(super().visit_function(func, add_to_result_map, **kwargs))
        return translated(*(self.process(each, **kwargs) for each in func.clauses))

    def visit_bindparam(self, bindparam: Any, *args: Any, **kwargs: Any) -> str:
        made = str(super().visit_bindparam(bindparam, *args, **kwargs))
        if "::" in made or isinstance(bindparam.type, NullType):
            return made
        return f"{made}::{self._type(bindparam.type)}"

    def _type(self, type_: Any) -> str:
        return str(self.dialect.type_compiler_instance.process(type_))

    def visit_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        keys = _keys(binary.right)
        if keys is None:
            return str(self._generate_generic_binary(binary, OPERATORS[operator], **kw))
        left, array = self.process(binary.left, **kw), self.process(keys, **kw)
        return f"{left} = ANY ({array}::{self._type(binary.left.type)}[])"

    def _on_conflict_target(self, clause: Any, **kw: Any) -> str:
        columns = clause.inferred_target_elements
        return f"({', '.join(columns)})" if columns else ""

    def visit_column(self, column: Any, *args: Any, **kwargs: Any) -> str:
        if column.is_literal and column.name == "rowid":
            return "ctid"
        return str(super().visit_column(column, *args, **kwargs))


def _keys(operand: Any) -> BindParameter[Any] | None:
    """The parameter, where *operand* is what :func:`mailproxy.store.compiling.listed` makes."""
    chosen = getattr(operand, "element", operand)
    if not isinstance(chosen, Select):
        return None
    (source, *others) = chosen.get_final_froms()
    if others or not isinstance(source, TableValuedAlias):
        return None
    function = source.element
    if not isinstance(function, functions.Function) or function.name != "json_each":
        return None
    (parameter,) = function.clauses
    return parameter if isinstance(parameter, BindParameter) else None


class ServerDialect(PGDialect_psycopg):
    """What migrations run through, so that they make the columns meant here."""

    supports_statement_cache = True
    type_compiler_cls = _ColumnTypes


class _StatementDialect(PGDialect_psycopg):
    supports_statement_cache = True
    statement_compiler = _Statements
    type_compiler_cls = _Types


_dialect = _StatementDialect(paramstyle="numeric_dollar")


@attrs.frozen
class Translated:
    """
    One statement, as the server is to be given it.

    :param sql: with ``$1``, ``$2``, ...
    :param places: for each of them, which of the values that callers give it is.
    :param lists: those among them that are lists of keys, given as JSON.
    :param writes: whether it changes rows.
    :param seldom: the only table that it looks into for any row at all; "" if it is no such look.
    """

    sql: str
    places: tuple[int, ...]
    lists: frozenset[int]
    writes: bool
    seldom: str = ""


@attrs.frozen
class TranslatedBulk:
    """
    A statement for many rows, each column an array.

    :param types: SQL types of the columns of a row, in the order callers give them.
    """

    sql: str
    types: tuple[str, ...]


_WRITES = ("INSERT", "UPDATE", "DELETE")


@cache
def translated(text: str) -> Translated:
    """:param text: as SQLite is given it; where it was not made by Core it is valid on both."""
    source = SOURCES.get(text)
    if source is None:
        return _by_hand(text)
    made, order = _compiled(source.statement)
    places = tuple(source.names.index(name) for name in order)
    lists = frozenset(n for n in range(len(order)) if _is_list(made, n + 1))
    return Translated(made, places, lists, made.startswith(_WRITES), _seldom(made))


_ANY = re.compile(r"SELECT (\w+)\.\w+\s+FROM \1\s+LIMIT 1")


def _seldom(sql: str) -> str:
    found = _ANY.fullmatch(" ".join(sql.split()))
    return found[1] if found else ""


def _by_hand(text: str) -> Translated:
    parts = text.split("?")
    made = parts[0] + "".join(f"${n}{part}" for n, part in enumerate(parts[1:], 1))
    return Translated(made, tuple(range(len(parts) - 1)), frozenset(), made.startswith(_WRITES))


def _compiled(source: ClauseElement) -> tuple[str, tuple[str, ...]]:
    made = source.compile(dialect=_dialect)
    assert isinstance(made, SQLCompiler)
    return _conflicts(str(made), source), tuple(made.positiontup or ())


def _is_list(sql: str, number: int) -> bool:
    return re.search(rf"\${number}::\w+\[\]", sql) is not None


def _conflicts(sql: str, source: ClauseElement) -> str:
    """What SQLite says before INTO, said at the end."""
    for prefix, ending in (("INSERT OR IGNORE", _ignored), ("INSERT OR REPLACE", _replaced)):
        if sql.startswith(prefix):
            assert isinstance(source, Insert)
            assert isinstance(source.table, Table)
            return f"INSERT{sql[len(prefix) :]} ON CONFLICT {ending(source.table, sql)}"
    return sql


def _ignored(_table: Table, _sql: str) -> str:
    return "DO NOTHING"


def _replaced(table: Table, sql: str) -> str:
    """The row as if it were new: what the statement does not give has its default."""
    given = sql[sql.index("(") + 1 : sql.index(")")].replace('"', "").split(", ")
    keys = [column.name for column in table.primary_key]
    changes = []
    for name in (column.name for column in table.columns if column.name not in keys):
        value = f'excluded."{name}"' if name in given else "DEFAULT"
        changes.append(f'"{name}" = {value}')
    return f"({', '.join(keys)}) DO UPDATE SET {', '.join(changes)}"


_PARAMETER = re.compile(r"\$(\d+)::([A-Z]+)")


@cache
def translated_bulk(statement: Bulk) -> TranslatedBulk:
    """:raises AssertionError: it is neither an INSERT of one row nor an UPDATE by a key."""
    one = translated(statement.sql)
    types = [""] * len(statement.names)

    def column(found: re.Match[str]) -> str:
        place = one.places[int(found[1]) - 1]
        types[place] = found[2]
        return f"v.c{place}"

    sql = _PARAMETER.sub(column, one.sql)
    if "$" in sql or not all(types):
        raise AssertionError(f"this is no statement for many rows: {one.sql}")
    arrays = ", ".join(f"${n}::{each}[]" for n, each in enumerate(types, 1))
    columns = ", ".join(f"c{n}" for n in range(len(types)))
    rows = f"unnest({arrays}) AS v({columns})"
    if statement.counted:
        head, values, tail = sql.partition(" VALUES (")
        row, _, rest = tail.rpartition(")")
        if not values or rest.strip():
            raise AssertionError(f"this is no INSERT of one row: {one.sql}")
        return TranslatedBulk(f"{head} SELECT {row} FROM {rows}", tuple(types))
    head, where, condition = sql.partition(" WHERE ")
    if not where:
        raise AssertionError(f"this is no UPDATE by a key: {one.sql}")
    return TranslatedBulk(f"{head} FROM {rows} WHERE {condition}", tuple(types))
