"""
The nodes of a service, and what is left behind by one that died.

A node lives while it renews, by the server's clock; all its leases live with it. They become void
by being taken over: what was not begun goes back into the queue at once, and of what was begun
nobody knows how it ended.
"""

from __future__ import annotations

import socket
from typing import Any

from mailproxy import __version__
from mailproxy.model import Claimed
from mailproxy.records import Node
from mailproxy.store import queue
from mailproxy.store.postgres_driver import Connection
from mailproxy.store.refusals import ServerError
from mailproxy.store.retention import Found, Step
from mailproxy.store.transaction import Transaction
from mailproxy.store.upkeep import FORGET_NODE
from mailproxy.store.works import alone

#: Messages taken over in one transaction.
STEP = 250

#: The server's clock, in Unix seconds; not that of the transaction's beginning.
SERVER_NOW = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"

_REGISTER = (
    "INSERT INTO nodes (id, started_at, alive_until, version, host) "
    f"VALUES (?, {SERVER_NOW}, {SERVER_NOW} + ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until "
    f"RETURNING {SERVER_NOW}"
)
_ALIVE = f"SELECT 1 FROM nodes WHERE id = ? AND alive_until > {SERVER_NOW}"
_LEAVE = "DELETE FROM nodes WHERE id = ?"
_LEFT = f"""
SELECT m.pk, m.intent FROM messages AS m
WHERE m.lease_owner IS NOT NULL AND m.lease_owner <> ? AND NOT EXISTS (
    SELECT 1 FROM nodes AS n WHERE n.id = m.lease_owner AND n.alive_until > {SERVER_NOW}
)
ORDER BY m.pk LIMIT ? FOR UPDATE OF m SKIP LOCKED
"""
_DEAD = f"SELECT id FROM nodes WHERE alive_until <= {SERVER_NOW} - ?"


_NODES = f"""
SELECT n.id, n.host, n.version, n.started_at, n.alive_until, n.alive_until > {SERVER_NOW},
    (SELECT count(*) FROM messages AS m WHERE m.lease_owner = n.id)
FROM nodes AS n ORDER BY n.started_at, n.id
"""


def listed(cursor: Any) -> list[Node]:
    return [Node(*row) for row in cursor.execute(_NODES)]


def register(connection: Connection, node_id: str, seconds: float) -> float:
    """This node lives from now on. :return: what the server's clock says."""
    values = (node_id, seconds, __version__, socket.gethostname())
    return float(connection.execute(_REGISTER, values).fetchone()[0])


def leave(connection: Connection, node_id: str) -> None:
    """This node ends in good order; a server that is away finds out by itself."""
    try:
        connection.execute(_LEAVE, (node_id,))
    except ServerError:
        return


def renew(tx: Transaction, seconds: float) -> tuple[bool, float]:
    """:return: whether this node was alive until now; and what the server's clock says."""
    alive = tx.cursor.execute(_ALIVE, (tx.node_id,)).fetchone() is not None
    values = (tx.node_id, seconds, __version__, socket.gethostname())
    return alive, float(tx.cursor.execute(_REGISTER, values).fetchone()[0])


def take_over(tx: Transaction, now: float) -> list[Claimed] | None:
    """:return: what was begun, leased anew, of one step; None when there is nothing left."""
    left = tx.cursor.execute(_LEFT, (tx.node_id, STEP)).fetchall()
    if not left:
        return None
    begun = [pk for pk, intent in left if intent]
    idle = [pk for pk, intent in left if not intent]
    return queue.take_over(tx, queue.TakeOver(begun, idle, now))


def _dead(cursor: Any, now: float, _options: Any) -> Found:
    return Found([row[0] for row in cursor.execute(_DEAD, (FORGET_NODE,))], now)


def _forget(tx: Transaction, found: Found) -> int:
    for node in found.pks:
        tx.cursor.execute(_LEAVE, (node,))
    return len(found.pks)


RENEW = alone(renew)
TAKE_OVER = alone(take_over)

#: Upkeep of the nodes, by the server's clock.
STEPS = (Step(_dead, alone(_forget)),)
