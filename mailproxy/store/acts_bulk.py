"""
What an operator decides over a batch or an account: one flag, whatever there is of it.

A hold is a flag on the lanes that are there and a row for those that are made later. A cancellation
seals the lanes: nothing in them is begun any more, and what is new gets lanes of its own; their
mail comes to its end in the background, like that of a deleted account. The other acts stop
nothing, so they are only written down here, and done message by message in the background by
:mod:`mailproxy.store.acts_walk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
from sqlalchemy import delete, func, insert, select, update

from mailproxy.acts import Act, ActedOnAll, Group, Hold, Operation
from mailproxy.store.compiling import Statement, compiled, const, p
from mailproxy.store.lane_flags import FLAG, SENDING, UNFLAG
from mailproxy.store.schema import (
    ACCOUNT_HELD,
    BATCH_HELD,
    LANE_CANCELLED,
    accounts,
    batch_holds,
    bulk_jobs,
    lanes,
)
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import alone

_l, _a, _h, _j = lanes.c, accounts.c, batch_holds.c, bulk_jobs.c

#: The kinds of background work: what is cancelled ends, and a walk from message to message.
CANCEL_LANES = "cancel-lanes"
WALK = "act"

#: Stands between a sealed lane's batch and the number of the job that ends it; no batch has it.
SEAL = "\x1f"

_ACCOUNT = compiled(
    select(_a.pk, _a.held_since).where(
        _a.tenant_id == p("tenant"), _a.id == p("id"), _a.deleted_at.is_(None)
    ),
    "tenant",
    "id",
)
_HOLD_ACCOUNT = compiled(
    update(accounts)
    .values(held_since=p("since"), held_reason=p("reason"))
    .where(_a.pk == p("account")),
    "since",
    "reason",
    "account",
)
_BATCH_HELD = compiled(
    select(_h.since).where(_h.tenant_id == p("tenant"), _h.batch == p("batch")), "tenant", "batch"
)
_HOLD_BATCH = compiled(
    insert(batch_holds).values(
        tenant_id=p("tenant"), batch=p("batch"), since=p("since"), reason=p("reason")
    ),
    "tenant",
    "batch",
    "since",
    "reason",
)
_RELEASE_BATCH = compiled(
    delete(batch_holds).where(_h.tenant_id == p("tenant"), _h.batch == p("batch")),
    "tenant",
    "batch",
)
_HELD_BATCHES = compiled(select(batch_holds).order_by(_h.tenant_id, _h.batch))
_HELD_ACCOUNTS = compiled(
    select(_a.tenant_id, _a.id, _a.held_since, _a.held_reason)
    .where(_a.held_since.is_not(None), _a.deleted_at.is_(None))
    .order_by(_a.tenant_id, _a.id)
)
_of_batch = (_l.tenant_id == p("tenant"), _l.batch == p("batch"))
_of_account = (_l.account_pk == p("account"),)
_WAITING = _l.queued + _l.deferred + _l.held


def _both(make: Any) -> dict[bool, Statement]:
    """A statement for the lanes of a batch (true), and one for those of an account."""
    return {
        True: make(_of_batch, ("tenant", "batch")),
        False: make(_of_account, ("account",)),
    }


_COUNT = _both(
    lambda scope, names: compiled(
        select(
            func.coalesce(func.sum(_WAITING + _l.uncertain), const("0")),
            func.coalesce(func.sum(_l.in_flight), const("0")),
        ).where(*scope, _l.sealed.is_(None)),
        *names,
    )
)
_SEAL = _both(
    lambda scope, names: compiled(
        update(lanes)
        .values(
            batch=_l.batch + p("mark"),
            blocked=_l.blocked.op("|")(const(str(LANE_CANCELLED))),
            sealed=p("job"),
        )
        .where(*scope, _l.sealed.is_(None), _WAITING + _l.in_flight > const("0")),
        "mark",
        "job",
        *names,
    )
)
_ADD_JOB = compiled(
    insert(bulk_jobs).values(
        pk=p("pk"),
        kind=p("kind"),
        account_pk=p("account"),
        tenant_id=p("tenant"),
        batch=p("batch"),
        reason=p("reason"),
        started_at=p("now"),
        detail=p("walk"),
    ),
    "pk",
    "kind",
    "account",
    "tenant",
    "batch",
    "reason",
    "now",
    "walk",
)
_SAME_JOB = compiled(
    select(_j.pk).where(
        _j.done_at.is_(None),
        _j.kind == const(f"'{WALK}'"),
        _j.reason == p("reason"),
        _j.tenant_id == p("tenant"),
        func.coalesce(_j.batch, const("''")) == p("batch"),
        func.coalesce(_j.account_pk, const("0")) == p("account"),
    ),
    "reason",
    "tenant",
    "batch",
    "account",
)


class Walk(msgspec.Struct):
    """
    How far a job has come, and what it does.

    :param since: of what ended, what ended before is passed over.
    :param priority, after: where among the open messages it is; *at*, *after*: among the others.
    """

    act: Act
    by: str = ""
    why: str = ""
    since: float = 0.0
    priority: int = 0
    at: float = 0.0
    after: int = 0


@attrs.frozen
class All:
    """The arguments of ``IActs.act_on_all``."""

    group: Group
    operation: Operation
    since: float | None = None
    singly: bool = False


@attrs.frozen
class _Scope:
    """The group as the tables know it. :param account: 0 for a batch's."""

    group: Group
    account: int
    held: bool

    @property
    def of_batch(self) -> bool:
        return self.group.batch is not None

    @property
    def lanes(self) -> tuple[Any, ...]:
        if self.of_batch:
            return (self.group.tenant_id, self.group.batch)
        return (self.account,)

    @property
    def flag(self) -> int:
        return BATCH_HELD if self.of_batch else ACCOUNT_HELD


def act_on_all(tx: Transaction, call: All) -> ActedOnAll | None:
    scope = _found(tx, call.group)
    if scope is None:
        return None
    waiting, in_flight = tx.one(_COUNT[scope.of_batch], *scope.lanes)
    reason = _DOES.get(call.operation.act, _walk)(tx, scope, call)
    held = scope.held
    if call.operation.act in (Act.HOLD, Act.RELEASE):
        held = call.operation.act is Act.HOLD
    if call.operation.act is Act.CANCEL:
        waiting, in_flight_left = tx.one(_COUNT[scope.of_batch], *scope.lanes)
        assert not in_flight_left, "what was in flight is in a sealed lane"
    return ActedOnAll(not reason, held, waiting, in_flight, reason)


def _found(tx: Transaction, group: Group) -> _Scope | None:
    if group.batch is not None:
        held = tx.one(_BATCH_HELD, group.tenant_id, group.batch)
        return _Scope(group, 0, held is not None)
    row = tx.one(_ACCOUNT, group.tenant_id, group.account_id)
    return None if row is None else _Scope(group, row[0], row[1] is not None)


def _hold(tx: Transaction, scope: _Scope, call: All) -> str:
    if scope.held:
        return "it is held already"
    operation = call.operation
    if scope.of_batch:
        tx.do(_HOLD_BATCH, *scope.lanes, operation.now, operation.reason)
    else:
        tx.do(_HOLD_ACCOUNT, operation.now, operation.reason, scope.account)
    tx.do(FLAG[scope.flag], operation.now, *scope.lanes)
    return ""


def _release(tx: Transaction, scope: _Scope, call: All) -> str:
    if scope.held:
        if scope.of_batch:
            tx.do(_RELEASE_BATCH, *scope.lanes)
        else:
            tx.do(_HOLD_ACCOUNT, None, "", scope.account)
        tx.do(UNFLAG[scope.flag], call.operation.now, *scope.lanes)
        tx.due.update(row[0] for row in tx.all(SENDING))
    walked = _walk(tx, scope, call) if call.singly else "it is not held"
    return "" if scope.held else walked


def _cancel(tx: Transaction, scope: _Scope, call: All) -> str:
    job = tx.names.pk(call.operation.now)
    sealed = tx.do(_SEAL[scope.of_batch], f"{SEAL}{job}", job, *scope.lanes)
    if not sealed:
        return "nothing of it is open"
    _add_job(tx, job, CANCEL_LANES, scope, call)
    return ""


def _walk(tx: Transaction, scope: _Scope, call: All) -> str:
    group, operation = call.group, call.operation
    same = (operation.act.value, group.tenant_id, group.batch or "", scope.account)
    if tx.one(_SAME_JOB, *same) is not None:
        return "it is under way"
    _add_job(tx, tx.names.pk(operation.now), WALK, scope, call)
    return ""


def _add_job(tx: Transaction, job: int, kind: str, scope: _Scope, call: All) -> None:
    group, operation = call.group, call.operation
    since = call.since or 0.0
    walk = Walk(operation.act, operation.by, operation.reason, since, at=since)
    tx.do(
        _ADD_JOB,
        job,
        kind,
        scope.account or None,
        group.tenant_id,
        group.batch,
        operation.act.value,
        operation.now,
        msgspec.json.encode(walk).decode(),
    )


def holds(cursor: Any, tenant_id: str | None) -> list[Hold]:
    batches: Sequence[Any] = cursor.execute(_HELD_BATCHES.sql).fetchall()
    found = [Hold(Group(row[0], batch=row[1]), row[2], row[3]) for row in batches]
    rows: Sequence[Any] = cursor.execute(_HELD_ACCOUNTS.sql).fetchall()
    found += [Hold(Group(row[0], account_id=row[1]), row[2], row[3]) for row in rows]
    return [each for each in found if tenant_id in (None, each.group.tenant_id)]


_DOES = {Act.HOLD: _hold, Act.RELEASE: _release, Act.CANCEL: _cancel}

ACT_ON_ALL = alone(act_on_all)
