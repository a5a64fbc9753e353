"""
Flags on lanes: put on and taken off for the service, a tenant, one of its batches, or an account.

While a flag of :data:`~mailproxy.store.schema.AGELESS` lies on a lane, a pause of its age runs;
taking the last of them off adds its seconds to the lane's.
"""

from __future__ import annotations

from sqlalchemy import and_, case, func, select, update

from mailproxy.store.compiling import Statement, compiled, const, p
from mailproxy.store.schema import (
    ACCOUNT_HELD,
    AGELESS,
    BATCH_HELD,
    BATCH_SUSPENDED,
    SERVICE_SUSPENDED,
    TENANT_DELETED,
    TENANT_INACTIVE,
    TENANT_SUSPENDED,
    lanes,
)

_l = lanes.c

_ALL = (const("1") == const("1"),)
_TENANT = (_l.tenant_id == p("tenant"),)
_BATCH = (_l.tenant_id == p("tenant"), _l.batch == p("batch"))

#: The lanes a flag is about.
_SCOPES = {
    SERVICE_SUSPENDED: _ALL,
    TENANT_SUSPENDED: _TENANT,
    BATCH_SUSPENDED: _BATCH,
    BATCH_HELD: _BATCH,
    ACCOUNT_HELD: (_l.account_pk == p("account"),),
    TENANT_INACTIVE: _TENANT,
    TENANT_DELETED: _TENANT,
}


def _names(flag: int) -> tuple[str, ...]:
    if flag == ACCOUNT_HELD:
        return ("account",)
    return ("tenant", "batch")[: 0 if flag == SERVICE_SUSPENDED else len(_SCOPES[flag])]


def _on(flag: int) -> Statement:
    return compiled(
        update(lanes)
        .values(
            blocked=_l.blocked.op("|")(const(str(flag))),
            paused_since=func.coalesce(_l.paused_since, p("now")),
        )
        .where(*_SCOPES[flag]),
        "now",
        *_names(flag),
    )


def _off(mask: int, scope: int) -> Statement:
    left = _l.blocked.op("&")(const(str(~mask)))
    ends = and_(left.op("&")(const(str(AGELESS))) == const("0"), _l.paused_since.is_not(None))
    return compiled(
        update(lanes)
        .values(
            blocked=left,
            paused=case((ends, _l.paused + p("now") - _l.paused_since), else_=_l.paused),
            paused_since=case((ends, const("NULL")), else_=_l.paused_since),
        )
        .where(*_SCOPES[scope]),
        "now",
        *_names(scope),
    )


#: Parameters: now, then what names the scope.
FLAG = {flag: _on(flag) for flag in _SCOPES}
UNFLAG = {flag: _off(flag, flag) for flag in _SCOPES} | {
    TENANT_SUSPENDED: _off(TENANT_SUSPENDED | BATCH_SUSPENDED, TENANT_SUSPENDED),
}

#: Accounts the dispatcher is to look at when a flag was taken off.
SENDING = compiled(
    select(_l.account_pk).distinct().where(_l.blocked == const("0"), _l.due_at < const("1e18"))
)


def pause(ended: float, since: float | None, now: float) -> float:
    """Seconds for which the age of a lane's messages did not run, up to *now*."""
    return ended if since is None else ended + max(0.0, now - since)
