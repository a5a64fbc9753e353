"""What is looked at when a database is opened: its key, its last commit, leases of the dead."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
from sqlalchemy import select

from mailproxy.crypto import Sealer, WrongKey
from mailproxy.errors import StoreRefused
from mailproxy.store import reseal
from mailproxy.store.compiling import compiled, indexed, p
from mailproxy.store.database import Database
from mailproxy.store.moving import MOVED, Mark
from mailproxy.store.schema import messages

_m = messages.c

_SETTING = "SELECT value FROM settings WHERE name=?"
_SET = "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING"

_ORDERED = ("messages", "events", "lanes", "accounts", "command_log", "bulk_jobs")

_LEASED = indexed(
    compiled(
        select(_m.pk, _m.intent).where(
            _m.finished_at.is_(None), _m.lease_owner.is_not(None), _m.lease_owner != p("node")
        ),
        "node",
    ),
    messages,
    "messages_open",
)


def check_key(connection: sqlite3.Connection, sealer: Sealer) -> None:
    """
    Make sure that what is sealed in this database can be opened; the first start leaves the check.

    Where the key is being changed, some is sealed with the old one and some with the new.

    :raises StoreRefused: the key is another one.
    """
    row = connection.execute(_SETTING, (reseal.CHECK,)).fetchone()
    if row is None:
        connection.execute(_SET, (reseal.CHECK, sealer.check_value()))
    elif not _opens(row[0], connection, sealer):
        raise StoreRefused(
            "the encryption key is not the one that secrets in this database are sealed with; "
            "set GMP_ENCRYPTION_KEY to that key, or add it behind the new one, after a comma"
        )


def fits(connection: sqlite3.Connection, sealer: Sealer) -> bool:
    """Whether what is sealed in a database can be opened; one without a check value says no."""
    row = connection.execute(_SETTING, (reseal.CHECK,)).fetchone()
    return row is not None and _opens(row[0], connection, sealer)


def _opens(check: str, connection: sqlite3.Connection, sealer: Sealer) -> bool:
    try:
        sealer.verify(check)
        return reseal.complete(connection, sealer)
    except WrongKey:
        return False


def refuse_moved(connection: sqlite3.Connection) -> None:
    """
    Do not serve a queue that was moved away.

    :raises StoreRefused: it was.
    """
    row = connection.execute(_SETTING, (MOVED,)).fetchone()
    if row is not None:
        found = msgspec.json.decode(row[0], type=Mark)
        raise StoreRefused(
            f"this queue was moved to {found.place} ({found.day} UTC): what waits here is sent "
            "from there, and would be sent twice. If that copy is lost or was never served, "
            "`mailproxy copy --take-back` makes this one good again"
        )


def last_serial(connection: sqlite3.Connection) -> int:
    """The number of the last transaction that was committed."""
    connection.execute(_SET, ("serial", "0"))
    return int(connection.execute(_SETTING, ("serial",)).fetchone()[0])


def greatest_pk(connection: sqlite3.Connection) -> int:
    """The greatest pk of anything whose order counts; what is new has to come after it."""
    found = [connection.execute(f"SELECT max(pk) FROM {name}").fetchone()[0] for name in _ORDERED]
    return max((pk for pk in found if pk is not None), default=0)


def committed_serial(database: Database, serial: int) -> bool:
    """Whether a fresh connection sees the transaction *serial*, when COMMIT's answer was lost."""
    try:
        connection = database.open_reader()
        try:
            row = connection.execute(_SETTING, ("serial",)).fetchone()
        finally:
            connection.close()
    except (sqlite3.Error, StoreRefused):
        return False  # what cannot be read was not published to any reader
    return int(row[0]) >= serial


def leased(cursor: Any, node_id: str) -> tuple[list[int], list[int]]:
    """Messages leased by other nodes: those without an attempt under way, and those with one."""
    idle: list[int] = []
    begun: list[int] = []
    for pk, intent in cursor.execute(_LEASED.sql, (node_id,)):
        (begun if intent else idle).append(pk)
    return idle, begun
