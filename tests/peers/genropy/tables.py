"""
A database for the tables of Genropy's packages: their columns and triggers, SQLite beneath.

Each thread has its own connection and transaction, as each request of a site has. Only what
the mail code asks of a table is there.
"""

from __future__ import annotations

import datetime
import itertools
import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.peers.genropy.framework import EMAIL, Bag, load

#: Columns that every table has.
_SYSTEM = {"__ins_ts": "DHZ", "__syscode": "T"}

_ids = itertools.count(1)


class Columns:
    """What a table declares: collects ``column(...)`` calls, and lets the rest pass by."""

    def __init__(self) -> None:
        self.pkey = "id"
        self.types: dict[str, str] = {}
        self.defaults: dict[str, Any] = {}
        self.aliases: dict[str, tuple[str, str]] = {}

    def table(self, name: str, pkey: str = "id", **_: Any) -> Columns:
        self.pkey = pkey
        return self

    def column(self, name: str, dtype: str = "T", default: Any = None, **_: Any) -> Columns:
        self.types[name] = dtype
        self.defaults[name] = default
        return self

    def aliasColumn(self, name: str, path: str, **_: Any) -> Columns:
        key, _dot, column = path.removeprefix("@").partition(".")
        self.aliases[name] = (key, column)
        return self

    def _pass_by(self, *_: Any, **__: Any) -> Columns:
        return self

    relation = formulaColumn = pyColumn = _pass_by


class Record(Bag):
    """A row, or what is to become one."""

    def output(self, mode: str) -> Record:
        return self


class Selection:
    """The answer to a query."""

    def __init__(self, rows: list[Record]) -> None:
        self.rows = rows

    def fetch(self) -> list[Record]:
        return self.rows

    def fetchAsDict(self, key: str) -> dict[str, Record]:
        return {row[key]: row for row in self.rows}

    def count(self) -> int:
        return len(self.rows)


class Table:
    """The framework's half of a table; the package's half comes before it in the class."""

    def __init__(self, db: Database, name: str) -> None:
        self.db = db
        self.fullname = name
        self.sql_name = name.replace(".", "_")
        self.pkg: Any = db.package
        self.multidb = False
        self.columns = Columns()
        self.config_db(self.columns)
        self.types = {**self.columns.types, **_SYSTEM}

    def config_db(self, pkg: Columns) -> None:
        raise NotImplementedError(self.fullname)

    def sysFields(self, tbl: Columns, id: bool = True, **_: Any) -> None:
        if id:
            tbl.column("id")

    # What packages may do when a row comes, changes or goes.

    def _no_trigger(self, *_: Any) -> None:
        """Nothing."""

    trigger_onInserting = trigger_onInserted = trigger_onDeleted = _no_trigger
    trigger_onUpdating = trigger_onUpdated = _no_trigger

    def use_dbstores(self, **_: Any) -> bool:
        return False

    def newUTCDatetime(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    # Reading.

    def query(
        self, where: str = "", order_by: str = "", limit: int | None = None, **given: Any
    ) -> Selection:
        known = {name: value for name, value in given.items() if f":{name}" in where}
        where, values = _expanded(where, known)
        text = f"SELECT t.*{self._aliases()} FROM {self.sql_name} t"
        text += f" WHERE {where}" if where else ""
        text += f" ORDER BY {order_by}" if order_by else ""
        text += f" LIMIT {limit}" if limit else ""
        rows = self.db.execute(self._translated(text), values)
        return Selection([self._decoded(row) for row in rows])

    def _aliases(self) -> str:
        return "".join(f", {self._alias(name)} AS {name}" for name in self.columns.aliases)

    def _alias(self, name: str) -> str:
        """The column of the one row of ``message`` that a row points to."""
        key, column = self.columns.aliases[name]
        return f"(SELECT m.{column} FROM email_message m WHERE m.id = t.{key})"

    def _translated(self, text: str) -> str:
        def column(found: re.Match[str]) -> str:
            name = found[1]
            return self._alias(name) if name in self.columns.aliases else f"t.{name}"

        return re.sub(r"\$(\w+)", column, text)

    def record(self, pkey: Any = None, ignoreMissing: bool = False, **keys: Any) -> Record | None:
        keys = keys or {self.columns.pkey: pkey}
        where = " AND ".join(f"${name} = :{name}" for name in keys)
        rows = self.query(where=where, **keys).fetch()
        if not rows and not ignoreMissing:
            raise KeyError(f"{self.fullname}: {keys}")
        return rows[0] if rows else None

    def cachedRecord(self, pkey: str, **_: Any) -> Record:
        found = self.record(pkey)
        assert found is not None
        return found

    def existsRecord(self, pkey: str) -> bool:
        return self.record(pkey, ignoreMissing=True) is not None

    # Writing.

    def newrecord(self, **values: Any) -> Record:
        columns = dict.fromkeys(self.types) | self.columns.defaults
        return Record(columns | {k: v for k, v in values.items() if k in self.types})

    def insert(self, record: dict[str, Any]) -> Record:
        row = self.newrecord(**record)
        if row[self.columns.pkey] is None:
            row[self.columns.pkey] = f"id{next(_ids):020d}"
        row["__ins_ts"] = self.newUTCDatetime()
        self.trigger_onInserting(row)
        self._write("INSERT", row)
        self.trigger_onInserted(row)
        record.update(row)
        return row

    def update(self, record: Record, old: dict[str, Any] | None = None) -> None:
        self.trigger_onUpdating(record, old)
        self._write("REPLACE", record)
        self.trigger_onUpdated(record, old)

    def _write(self, verb: str, row: dict[str, Any]) -> None:
        names = list(self.types)
        marks = ", ".join(f":{name}" for name in names)
        text = f"{verb} INTO {self.sql_name} ({', '.join(names)}) VALUES ({marks})"
        self.db.execute(text, {name: _encoded(row.get(name)) for name in names})

    @contextmanager
    def recordToUpdate(
        self, pkey: Any = None, insertMissing: bool = False, **keys: Any
    ) -> Iterator[Record]:
        found = self.record(pkey, ignoreMissing=insertMissing, **keys)
        record = found or self.newrecord(**keys)
        old = dict(record)
        yield record
        if found is None:
            self.insert(record)
        else:
            self.update(record, old)

    def deleteSelection(self, column: str = "", pkey: Any = None, **query: Any) -> None:
        where = query.pop("where", f"${column} = :value")
        for row in self.query(where=where, **(query or {"value": pkey})).fetch():
            key = self.columns.pkey
            self.db.execute(f"DELETE FROM {self.sql_name} WHERE {key} = ?", (row[key],))
            self.trigger_onDeleted(row)

    def delete(self, record: Record) -> None:
        self.deleteSelection(self.columns.pkey, record[self.columns.pkey])

    def _decoded(self, row: sqlite3.Row) -> Record:
        columns = zip(row.keys(), row, strict=True)
        return Record({name: _decode(self.types.get(name), value) for name, value in columns})


def _expanded(where: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """*where* with a mark for each item of a list, and the values for the marks."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, (list, tuple)):
            items = {f"{name}_{n}": item for n, item in enumerate(value)}
            marks = ", ".join(f":{item}" for item in items)
            where = re.sub(rf":{name}\b", f"({marks})", where)
            values |= items
        else:
            values[name] = value
    return where, values


def _encoded(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Bag):
        return json.dumps(value)
    return value


def _decode(dtype: str | None, value: Any) -> Any:
    if value is None:
        return None
    if dtype == "DHZ":
        return datetime.datetime.fromisoformat(value)
    if dtype == "X":
        return Bag(json.loads(value))
    if dtype == "B":
        return bool(value)
    return value


def _plain(pkey: str = "id", **types: str) -> type[Table]:
    """A table of another package, of which these columns are used."""

    class Plain(Table):
        def config_db(self, pkg: Columns) -> None:
            table = pkg.table(self.fullname, pkey=pkey)
            for name, dtype in {pkey: "T", **types}.items():
                table.column(name, dtype)

    return Plain


class _Mailboxes(_plain(name="T", account_id="T")):  # type: ignore[misc]
    def createMbox(self, name: str, account_id: str, order: int = 0) -> None:
        self.insert({"name": name, "account_id": account_id})


class _Attachments(_plain(maintable_id="T", filepath="T")):  # type: ignore[misc]
    def addAttachment(self, maintable_id: str, origin_filepath: str, **_: Any) -> None:
        self.insert({"maintable_id": maintable_id, "filepath": origin_filepath})


class _Tags(_plain(code="T")):  # type: ignore[misc]
    def sysRecord(self, code: str) -> Record:
        found: Record | None = self.record(code=code, ignoreMissing=True)
        made: Record = found or self.insert({"code": code})
        return made


def _theirs(name: str) -> type[Table]:
    """The table of the ``email`` package with this name: its own class upon ours."""
    return type(name, (load(f"{EMAIL}/model/{name}.py").Table, Table), {})


class Database:
    """
    :param path: the SQLite file.
    :param application: what tables find at ``db.application``.
    """

    dbname = "shop"
    rootstore = "main"

    def __init__(self, path: Path, application: Any) -> None:
        self.application = application
        self.currentEnv: dict[str, Any] = {}
        self.workdate = datetime.date(2026, 1, 15)
        self._path = path
        self._threads = threading.local()
        package = load(f"{EMAIL}/main.py").Package
        self.package: Any = package()
        self.package.db, self.package.attributes = self, {}
        self._tables = {name: kind(self, name) for name, kind in _kinds().items()}
        self.execute("PRAGMA journal_mode = WAL")
        for table in self._tables.values():
            columns = [
                f"{name} PRIMARY KEY" if name == table.columns.pkey else name
                for name in table.types
            ]
            self.execute(f"CREATE TABLE {table.sql_name} ({', '.join(columns)})")
        self.commit()

    def table(self, name: str) -> Any:
        return self._tables[name]

    def deferAfterCommit(
        self, function: Callable[[], object], _deferredId: str | None = None
    ) -> None:
        self._deferred[_deferredId or str(id(function))] = function

    @contextmanager
    def tempEnv(self, **_: Any) -> Iterator[None]:
        yield

    @property
    def _deferred(self) -> dict[str, Callable[[], object]]:
        return vars(self._threads).setdefault("deferred", {})  # type: ignore[no-any-return]

    @property
    def _connection(self) -> sqlite3.Connection:
        """This thread's."""
        held = vars(self._threads)
        if "connection" not in held:
            held["connection"] = sqlite3.connect(self._path, timeout=60.0)
            held["connection"].row_factory = sqlite3.Row
        return held["connection"]  # type: ignore[no-any-return]

    def execute(self, text: str, values: Any = ()) -> list[sqlite3.Row]:
        return self._connection.execute(text, values).fetchall()

    def commit(self) -> None:
        """Commit this thread's transaction, then do what waited for it."""
        self._connection.commit()
        waiting = list(self._deferred.values())
        self._deferred.clear()
        for function in waiting:
            function()

    def close(self) -> None:
        """Drop this thread's connection, and what it has not committed."""
        self._deferred.clear()
        self._connection.close()
        del self._threads.connection


def _kinds() -> dict[str, type[Table]]:
    return {
        "email.message": _theirs("message"),
        "email.message_to_send": _theirs("message_to_send"),
        "email.account": _theirs("account"),
        "email.message_atc": _Attachments,
        "email.message_address": _plain(message_id="T", address="T", reason="T"),
        "email.mailbox": _Mailboxes,
        "sys.service": _plain(service_type="T", service_name="T", parameters="X"),
        "adm.user": _plain(
            username="T", firstname="T", lastname="T", email="T", status="T", md5pwd="T"
        ),
        "adm.htag": _Tags,
        "adm.user_tag": _plain(user_id="T", tag_id="T"),
    }
