"""The log of what operators and applications commanded, and what the operator calls the service."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from mailproxy.clock import Names
from mailproxy.store.compiling import LIMIT, columns, compiled, p
from mailproxy.store.compiling import listed as among
from mailproxy.store.schema_tenants import command_log, settings
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import alone
from mailproxy.tenancy import CommandEntry

#: Seconds for which a line is kept: 90 days.
KEPT = 90 * 86_400.0

#: Lines removed in one transaction.
STEP = 500

_c = command_log.c
_STORED = columns(command_log)
_INSTANCE = "instance_name"

_ADD = compiled(insert(command_log).values({name: p(name) for name in _STORED}), *_STORED)
_PAGE = compiled(
    select(command_log).where(_c.pk < p("before")).order_by(_c.pk.desc()).suffix_with(LIMIT),
    "before",
    "limit",
)
_PAGE_OF = compiled(
    select(command_log)
    .where(_c.pk < p("before"), _c.tenant_id == p("tenant"))
    .order_by(_c.pk.desc())
    .suffix_with(LIMIT),
    "before",
    "tenant",
    "limit",
)
_OLD = compiled(
    select(_c.pk).where(_c.pk < p("before")).order_by(_c.pk).suffix_with(LIMIT), "before", "limit"
)
_DROP = compiled(delete(command_log).where(_c.pk.in_(among())), "pks")
_SETTING = compiled(select(settings.c.value).where(settings.c.name == p("name")), "name")
_set = insert(settings).values(name=p("name"), value=p("value"))
_SET = compiled(
    _set.on_conflict_do_update(index_elements=["name"], set_={"value": _set.excluded.value}),
    "name",
    "value",
)

#: Greater than every pk.
_END = 2**63 - 1


def log_command(tx: Transaction, entry: CommandEntry) -> None:
    values = {name: getattr(entry, name) for name in _STORED}
    values["pk"] = tx.names.pk(entry.at)
    tx.do(_ADD, *(values[name] for name in _STORED))


def page(cursor: Any, tenant_id: str | None, after: int | None, limit: int) -> list[CommandEntry]:
    """Newest first, beginning behind the line *after*."""
    before = _END if after is None else after
    if tenant_id is None:
        rows = cursor.execute(_PAGE.sql, (before, limit))
    else:
        rows = cursor.execute(_PAGE_OF.sql, (before, tenant_id, limit))
    return [CommandEntry(**dict(zip(_STORED, row, strict=True))) for row in rows]


def instance_name(cursor: Any) -> str:
    found = cursor.execute(_SETTING.sql, (_INSTANCE,)).fetchone()
    return "" if found is None else str(found[0])


def name_instance(tx: Transaction, name: str) -> None:
    tx.do(_SET, _INSTANCE, name)


# --- background work -----------------------------------------------------------------------------


def old(cursor: Any, now: float, _options: Any) -> list[int]:
    return [row[0] for row in cursor.execute(_OLD.sql, (Names.floor(now - KEPT), STEP))]


def drop(tx: Transaction, found: list[int]) -> int:
    return tx.do(_DROP, numbers(found))


LOG = alone(log_command)
NAME = alone(name_instance)
DROP = alone(drop)
