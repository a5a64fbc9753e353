"""
Which node may call a tenant's report endpoint: a lease in the database, by the server's clock. Who
does the upkeep is settled in the same way.

It is void when its time is over, or when its node is: no longer heard of, or ended. A lease that is
nobody's but has time left is a rest, for everybody.
"""

from __future__ import annotations

from typing import Any

import attrs

from mailproxy.records import ReportLease, Said
from mailproxy.store.postgres_nodes import SERVER_NOW
from mailproxy.store.reports import Ack, park
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

#: Stands where the id of a tenant does otherwise: who does the upkeep, for how many seconds.
UPKEEP, KEEPING = "", 60.0

#: Whether a lease is another node's, or a rest.
_TAKEN = f"""
held.until > {SERVER_NOW} AND (held.node IS NULL OR held.node <> ? AND EXISTS (
    SELECT 1 FROM nodes AS n WHERE n.id = held.node AND n.alive_until > {SERVER_NOW}
))
"""
_IS_TAKEN = f"SELECT 1 FROM report_leases AS held WHERE held.tenant_id = ? AND {_TAKEN}"
_HOLD = f"""
INSERT INTO report_leases AS held (tenant_id, node, token, until)
VALUES (?, ?, ?, {SERVER_NOW} + ?)
ON CONFLICT (tenant_id) DO UPDATE
SET node = excluded.node, token = excluded.token, until = excluded.until
WHERE NOT ({_TAKEN})
RETURNING held.empty_at - {SERVER_NOW}
"""
_RELEASE = f"""
UPDATE report_leases
SET node = NULL, until = {SERVER_NOW} + ?, empty_at = coalesce({SERVER_NOW} + ?, empty_at)
WHERE tenant_id = ? AND token = ?
"""
_OURS = "SELECT 1 FROM report_leases WHERE tenant_id = ? AND token = ?"


@attrs.frozen
class Hold:
    tenant_id: str
    seconds: float


@attrs.frozen
class Release:
    lease: ReportLease
    said: Said


@attrs.frozen
class Park:
    """:param lease: which events are parked under."""

    lease: ReportLease
    ack: Ack


def taken(cursor: Any, tenant_id: str, node_id: str) -> bool:
    """Whether there is no use in asking for the lease now."""
    return cursor.execute(_IS_TAKEN, (tenant_id, node_id)).fetchone() is not None


def hold(tx: Transaction, call: Hold) -> ReportLease | None:
    token = tx.names.token()
    values = (call.tenant_id, tx.node_id, token, call.seconds, tx.node_id)
    row = tx.cursor.execute(_HOLD, values).fetchone()
    return None if row is None else ReportLease(call.tenant_id, token, True, row[0])


def release(tx: Transaction, call: Release) -> None:
    lease, said = call.lease, call.said
    cursor: Any = tx.cursor
    cursor.tell(_RELEASE, (said.rest, said.empty_in, lease.tenant_id, lease.token))


def park_fenced(tx: Transaction, call: Park) -> bool:
    lease = call.lease
    if tx.cursor.execute(_OURS, (lease.tenant_id, lease.token)).fetchone() is None:
        return False
    park(tx, call.ack)
    return True


HOLD = alone(hold)
RELEASE = alone(release)
PARK = alone(park_fenced)
