"""
Beside the end of a message: the note that its sender may have to be told, in the same transaction.

And the end of a bounce itself, which nobody is told of: its event stands in a stream of its own,
as reported, so that it is kept for as long as other mail.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import insert, select, update

from mailproxy.store.compiling import compiled, const, listed, p
from mailproxy.store.schema import events, messages
from mailproxy.store.schema_tenants import bounces, tenants
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.tenancy import Bounces

_e, _m = events.c, messages.c

_WANTED = compiled(select(tenants.c.bounces).where(tenants.c.id == p("tenant")), "tenant")
_NOTE = compiled(
    insert(bounces).from_select(
        ["pk", "event_id", "message_pk", "generation", "tenant_id"],
        select(_e.pk, _e.event_id, _e.message_pk, _e.generation, _e.stream).where(
            _e.pk.in_(listed())
        ),
    ),
    "pks",
)
#: What a stream of mail that nobody is told of begins with: no tenant's id does.
_QUIET = "~"
_TOLD = compiled(
    update(events)
    .values(
        stream=const(f"'{_QUIET}'").concat(p("tenant")),
        reported_at=_e.at,
    )
    .where(_e.pk == p("event")),
    "tenant",
    "event",
)
_MESSAGE_TOLD = compiled(
    update(messages)
    .values(reported_at=_m.finished_at)
    .where(_m.final_event == p("event"))
    .where(_m.pk == select(_e.message_pk).where(_e.pk == p("same")).scalar_subquery()),
    "event",
    "same",
)

_read = msgspec.json.Decoder(Bounces).decode


def read(text: str | None) -> Bounces:
    """What is in a tenant's row."""
    return Bounces() if text is None else _read(text)


def quiet_stream(tenant_id: str) -> str:
    """The stream that events of the tenant's bounces stand in."""
    return _QUIET + tenant_id


def ended(tx: Transaction, ends: Sequence[tuple[str, bool, int]]) -> None:
    """
    Messages failed or expired, or are bounces that ended.

    :param ends: tenant, whether it is a bounce, and the pk of the event that ended it.
    """
    wanted: dict[str, bool] = {}
    noted = []
    for tenant_id, quiet, event in ends:
        if quiet:
            tx.do(_TOLD, tenant_id, event)
            tx.do(_MESSAGE_TOLD, event, event)
            continue
        if tenant_id not in wanted:
            row = tx.one(_WANTED, tenant_id)
            wanted[tenant_id] = row is not None and read(row[0]).enabled
        if wanted[tenant_id]:
            noted.append(event)
    if noted:
        tx.do(_NOTE, numbers(noted))
