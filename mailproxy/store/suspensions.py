"""Suspend and activate: stored flags that claim and intent honour from the commit on."""

from __future__ import annotations

from typing import Any

import attrs
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.sqlite import insert

from mailproxy.model import DEFAULT_TENANT
from mailproxy.records import Suspension
from mailproxy.store import statements_intake as sqi
from mailproxy.store.compiling import compiled, const, p
from mailproxy.store.lane_flags import FLAG, SENDING, UNFLAG
from mailproxy.store.schema import (
    BATCH_SUSPENDED,
    SERVICE_SUSPENDED,
    TENANT_SUSPENDED,
    lanes,
    suspensions,
)
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

#: Stands for all batches.
ALL = "*"
#: Stands for the service, where a tenant's id stands otherwise.
SERVICE = ""

_l, _s = lanes.c, suspensions.c

_ADD = compiled(
    insert(suspensions)
    .values(tenant_id=p("tenant"), batch=p("batch"), since=p("now"))
    .on_conflict_do_nothing(),
    "tenant",
    "batch",
    "now",
)
_DROP = compiled(
    delete(suspensions).where(_s.tenant_id == p("tenant"), _s.batch == p("batch")),
    "tenant",
    "batch",
)
_DROP_ALL = compiled(delete(suspensions).where(_s.tenant_id == p("tenant")), "tenant")
_OF = compiled(select(_s.batch).where(_s.tenant_id == p("tenant")).order_by(_s.batch), "tenant")
_COUNT = (
    func.coalesce(
        func.sum(_l.queued + _l.deferred + _l.in_flight + _l.held + _l.uncertain), const("0")
    ),
    func.coalesce(func.sum(_l.in_flight), const("0")),
)
_COUNT_ALL = compiled(select(*_COUNT))
_COUNT_TENANT = compiled(select(*_COUNT).where(_l.tenant_id == p("tenant")), "tenant")
_COUNT_BATCH = compiled(
    select(*_COUNT).where(_l.tenant_id == p("tenant"), _l.batch == p("batch")), "tenant", "batch"
)


@attrs.frozen
class Scope:
    """
    What is to be suspended or activated.

    :param tenant_id: None for the service; a batch without tenant is the default tenant's.
    """

    tenant_id: str | None
    batch: str | None
    now: float

    @property
    def key(self) -> str:
        if self.tenant_id is None:
            return SERVICE if self.batch is None else DEFAULT_TENANT
        return self.tenant_id

    @property
    def flag(self) -> int:
        if self.batch is not None:
            return BATCH_SUSPENDED
        return SERVICE_SUSPENDED if self.key == SERVICE else TENANT_SUSPENDED

    @property
    def lanes(self) -> tuple[str, ...]:
        """The parameters that say which lanes."""
        if self.batch is not None:
            return (self.key, self.batch)
        return () if self.key == SERVICE else (self.key,)


def suspend(tx: Transaction, scope: Scope) -> Suspension:
    """:raises ValueError: there is no such tenant."""
    _known(tx, scope)
    suspended = _of(tx.cursor, scope.key)
    if ALL not in suspended:
        if scope.batch is None:
            tx.do(_DROP_ALL, scope.key)
        tx.do(_ADD, scope.key, scope.batch or ALL, scope.now)
        tx.do(FLAG[scope.flag], scope.now, *scope.lanes)
    return suspension(tx.cursor, scope.key, scope.batch)


def activate(tx: Transaction, scope: Scope) -> Suspension:
    """:raises ValueError: no such tenant, or one batch out of a full suspension."""
    _known(tx, scope)
    if scope.batch is None:
        tx.do(_DROP_ALL, scope.key)
    elif ALL in _of(tx.cursor, scope.key):
        raise ValueError("all is suspended: a single batch cannot be activated")
    else:
        tx.do(_DROP, scope.key, scope.batch)
    tx.do(UNFLAG[scope.flag], scope.now, *scope.lanes)
    tx.due.update(row[0] for row in tx.all(SENDING))
    return suspension(tx.cursor, scope.key, scope.batch)


def _known(tx: Transaction, scope: Scope) -> None:
    if scope.key == SERVICE:
        return
    tenant = tx.one(sqi.TENANT_ACTIVE, scope.key)
    if tenant is None or tenant[1] is not None:
        raise ValueError("tenant not found")


def _of(cursor: Any, key: str) -> tuple[str, ...]:
    return tuple(row[0] for row in cursor.execute(_OF.sql, (key,)))


def suspension(cursor: Any, key: str, batch: str | None = None) -> Suspension:
    """
    What is suspended in the scope *key*, with the counts of that scope or of its *batch*.

    :raises ValueError: there is no such tenant.
    """
    suspended = _of(cursor, key)
    active = ALL not in suspended and batch not in suspended
    if key == SERVICE:
        counts = cursor.execute(_COUNT_ALL.sql)
    else:
        active = active and ALL not in _of(cursor, SERVICE)
        tenant = cursor.execute(sqi.TENANT_ACTIVE.sql, (key,)).fetchone()
        if tenant is None or tenant[1] is not None:
            raise ValueError("tenant not found")
        active = active and bool(tenant[0])
        if batch is None:
            counts = cursor.execute(_COUNT_TENANT.sql, (key,))
        else:
            counts = cursor.execute(_COUNT_BATCH.sql, (key, batch))
    pending, in_flight = counts.fetchone()
    return Suspension(key or None, suspended, pending, in_flight, active)


SUSPEND = alone(suspend)
ACTIVATE = alone(activate)
