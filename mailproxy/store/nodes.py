"""The processes that have the store, as people are shown them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from mailproxy.records import Node
from mailproxy.store.compiling import compiled
from mailproxy.store.schema import nodes

_n = nodes.c

_NODES = compiled(
    select(_n.id, _n.host, _n.version, _n.started_at, _n.alive_until).order_by(_n.started_at, _n.id)
)


def listed(cursor: Any, now: float) -> list[Node]:
    return [
        Node(name, host, version, started_at, alive_until, alive_until > now)
        for name, host, version, started_at, alive_until in cursor.execute(_NODES.sql)
    ]
