"""The processes that have the store, as people are shown them: where one alone can have it."""

from __future__ import annotations

from socket import gethostname
from typing import Any

import attrs
from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from mailproxy import __version__
from mailproxy.records import Node
from mailproxy.store.compiling import compiled, p
from mailproxy.store.schema import nodes
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

_n = nodes.c

_new = insert(nodes).values(
    id=p("node"),
    started_at=p("started_at"),
    alive_until=p("until"),
    version=p("version"),
    host=p("host"),
)
_ALIVE = compiled(
    _new.on_conflict_do_update(
        index_elements=["id"], set_={"alive_until": _new.excluded.alive_until}
    ),
    "node",
    "started_at",
    "until",
    "version",
    "host",
)
_NODES = compiled(
    select(_n.id, _n.host, _n.version, _n.started_at, _n.alive_until).order_by(_n.started_at, _n.id)
)


@attrs.frozen
class Alive:
    """
    A process that has the database, and nobody else does.

    :param started_at: when it opened it, in Unix seconds.
    :param until: for how long it lives if nothing more is heard of it, likewise.
    """

    node_id: str
    started_at: float
    until: float

    @property
    def row(self) -> tuple[Any, ...]:
        return (self.node_id, self.started_at, self.until, __version__, gethostname())


def listed(cursor: Any, own: Alive) -> list[Node]:
    """
    *own*, listed whether or not a heartbeat of it is stored, and those before it.

    Whatever these had said of their lives, they had ended when *own* opened the database.
    """
    before = [
        Node(name, host, version, started_at, min(alive_until, own.started_at), alive=False)
        for name, host, version, started_at, alive_until in cursor.execute(_NODES.sql)
        if name != own.node_id
    ]
    name, started_at, until, version, host = own.row
    return [*before, Node(name, host, version, started_at, until, alive=True)]


def heartbeat(tx: Transaction, call: Alive) -> None:
    tx.do(_ALIVE, *call.row)


HEARTBEAT = alone(heartbeat)
