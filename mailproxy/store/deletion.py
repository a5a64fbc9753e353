"""
Background work: the open mail of deleted accounts and tenants comes to its end.

The flag on their lanes stops it from the deletion's commit on; a job says that it has still to end.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select, update

from mailproxy.states import RecipientState
from mailproxy.store import outcomes
from mailproxy.store import statements as sql
from mailproxy.store.accounts import FAIL
from mailproxy.store.compiling import LIMIT, Statement, compiled, const, indexed, p
from mailproxy.store.doom import doom
from mailproxy.store.retention import Found
from mailproxy.store.schema import bulk_jobs, lanes, messages, recipients
from mailproxy.store.tenants import CANCEL
from mailproxy.store.transaction import Transaction, numbers

_m, _l, _r, _j = messages.c, lanes.c, recipients.c, bulk_jobs.c

#: Messages ended in one transaction; each changes about three rows.
ENDED = 160

_JOBS = indexed(
    compiled(
        select(_j.pk, _j.account_pk, _j.tenant_id)
        .where(_j.done_at.is_(None), _j.kind.in_((const(f"'{FAIL}'"), const(f"'{CANCEL}'"))))
        .order_by(_j.started_at, _j.pk)
    ),
    bulk_jobs,
    "bulk_jobs_open",
)
_lanes = select(_l.pk, _l.in_flight)
_LANES = compiled(_lanes.where(_l.account_pk == p("account")), "account")
_LANES_OF_TENANT = compiled(_lanes.where(_l.tenant_id == p("tenant")), "tenant")
_CLAIMABLE = indexed(
    compiled(
        select(_m.pk).where(_m.lane == p("lane"), _m.claim_at.is_not(None)).suffix_with(LIMIT),
        "lane",
        "limit",
    ),
    messages,
    "messages_claim",
)


def _others(of: Select[Any], name: str) -> Statement:
    """Those that are leased or held are in no index of their own: walked past on a reader."""
    is_open = (
        select(_r.n)
        .where(_r.message_pk == _m.pk, _r.state.in_((const("'waiting'"), const("'deferred'"))))
        .correlate(messages)
        .exists()
    )
    found = of.where(_m.finished_at.is_(None), _m.intent == const("0"), is_open)
    return indexed(compiled(found.suffix_with(LIMIT), name, "limit"), messages, "messages_open")


_OTHERS = _others(select(_m.pk).where(_m.account_pk == p("account")), "account")
_OTHERS_OF_TENANT = _others(select(_m.pk).where(_m.tenant_id == p("tenant")), "tenant")
_JOB_DONE = compiled(
    update(bulk_jobs).values(done_at=p("now")).where(_j.pk == p("job")), "now", "job"
)


def doomed(cursor: Any, now: float, _options: Any) -> Found | None:
    for job, account, tenant in cursor.execute(_JOBS.sql).fetchall():
        its, others, whose = _LANES, _OTHERS, account
        if account is None:
            its, others, whose = _LANES_OF_TENANT, _OTHERS_OF_TENANT, tenant
        lanes_of = cursor.execute(its.sql, (whose,)).fetchall()
        pks: list[int] = []
        for lane, _ in lanes_of:
            found = cursor.execute(_CLAIMABLE.sql, (lane, ENDED - len(pks)))
            pks += (row[0] for row in found)
            if len(pks) == ENDED:
                break
        pks = pks or [row[0] for row in cursor.execute(others.sql, (whose, ENDED))]
        if pks:
            return Found(pks, now)
        if not any(in_flight for _, in_flight in lanes_of):
            return Found((), now, job)
    return None


def end(tx: Transaction, found: Found) -> int:
    """What the flags of its lane say of it; what is on its way is left to its outcome."""
    if found.job:
        return tx.do(_JOB_DONE, found.now, found.job)
    subjects = outcomes.subjects(tx, found.pks)
    flags = {
        row[0]: row[1] for row in tx.all(sql.LANES_OF, numbers(s.lane for s in subjects.values()))
    }
    records = [
        outcomes.end_open(subject, ended, found.now)
        for subject in subjects.values()
        if (ended := doom(flags[subject.lane])) is not None
        and not subject.intent
        and subject.finished_at is None
        and any(RecipientState(said.state).open for said in subject.recipients.values())
    ]
    outcomes.settle(tx, subjects, records)
    tx.stale.update(subjects[record.pk].lane for record in records)
    return len(records)
