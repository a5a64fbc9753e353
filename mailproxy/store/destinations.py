"""
Recipient domains that a tenant's mail does not go to for now.

Pausing is one row, honoured at once: a claim leaves recipients in paused domains out, and an intent
is refused where a recipient that was claimed is in a domain paused since. A message that has no
other open recipient waits aside, named by one of the domains, when a claim meets it; so the pause
costs nothing where no mail is met, and nothing at all where no domain is paused.

When the domain is resumed, background work finds what waits aside and makes it claimable again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import msgspec
from sqlalchemy import case, delete, func, insert, select, update

from mailproxy.store import statements as sql
from mailproxy.store.compiling import LIMIT, bulk, columns, compiled, const, indexed, listed, p
from mailproxy.store.schema import bulk_jobs, messages, recipients
from mailproxy.store.schema_tenants import destinations
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import alone
from mailproxy.tenancy import Destination

_m, _r, _d, _j = messages.c, recipients.c, destinations.c, bulk_jobs.c

#: Messages that one transaction makes claimable again.
STEP = 250

#: Stands for the background work in ``bulk_jobs``.
RESUME = "resume"

_ANY = compiled(select(_d.domain).suffix_with("LIMIT 1"))
_OF = compiled(select(_d.domain).where(_d.tenant_id == p("tenant")).order_by(_d.domain), "tenant")
_ALL = compiled(select(destinations).order_by(_d.tenant_id, _d.domain))
_ADD = compiled(
    insert(destinations)
    .values({name: p(name) for name in columns(destinations)})
    .prefix_with("OR IGNORE"),
    *columns(destinations),
)
_DROP = compiled(
    delete(destinations)
    .where(_d.tenant_id == p("tenant"), _d.domain == p("domain"))
    .returning(_d.since),
    "tenant",
    "domain",
)
_FLAG = bulk(
    compiled(
        update(recipients)
        .values(paused=p("paused"))
        .where(_r.message_pk == p("message"), _r.n == p("number")),
        "paused",
        "message",
        "number",
    )
)
_ASIDE = bulk(
    compiled(
        update(messages)
        .values(destination=p("domain"), lease_owner=const("NULL"), lease_token=const("NULL"))
        .where(_m.pk == p("message")),
        "domain",
        "message",
    )
)
_NAME = bulk(
    compiled(
        update(messages).values(destination=p("domain")).where(_m.pk == p("message")),
        "domain",
        "message",
    )
)
_CLAIMED = compiled(
    select(_r.message_pk, _m.tenant_id, _r.address)
    .select_from(recipients.join(messages, _m.pk == _r.message_pk))
    .where(
        _r.message_pk.in_(listed()),
        _r.state.in_((const("'waiting'"), const("'deferred'"))),
        _r.paused == const("0"),
    ),
    "pks",
)


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]


def paused(tx: Transaction, tenant_id: str) -> frozenset[str]:
    """The domains the tenant has paused; with none paused anywhere, one look a transaction."""
    if tx.paused is None:
        tx.paused = {} if tx.one(_ANY) is not None else NOTHING
    if tx.paused is NOTHING:
        return frozenset()
    found = tx.paused.get(tenant_id)
    if found is None:
        found = frozenset(row[0] for row in tx.all(_OF, tenant_id))
        tx.paused[tenant_id] = found
    return found


#: No domain of any tenant is paused.
NOTHING: dict[str, frozenset[str]] = {}


# --- claim and intent -----------------------------------------------------------------------------


def leave_out(
    tx: Transaction, opened: Sequence[Any], domains: frozenset[str]
) -> tuple[list[Any], set[int]]:
    """
    Of claimed messages leave out the recipients in *domains*; put aside those with no other.

    :param opened: their open recipients: rows of ``statements.OPEN_RECIPIENTS``.
    :return: the rows that are left, and the messages that were put aside.
    """
    left, flags = [], []
    out: dict[int, str] = {}
    rest: set[int] = set()
    marked: set[int] = set()
    for row in opened:
        pk, n, address, _, flagged = row
        domain = domain_of(address)
        stays_out = domain in domains
        if stays_out:
            out.setdefault(pk, domain)
        else:
            rest.add(pk)
            left.append(row)
        if stays_out != bool(flagged):
            flags.append((stays_out, pk, n))
            marked.add(pk)
    aside = out.keys() - rest
    tx.add(_FLAG, flags)
    tx.add(_ASIDE, [(out[pk], pk) for pk in sorted(aside)])
    tx.add(_NAME, [(out.get(pk), pk) for pk in sorted(marked - aside)])
    return left, aside


def refused(tx: Transaction, pks: Iterable[int]) -> set[int]:
    """Those of *pks* that were claimed for a recipient whose domain is paused by now."""
    paused(tx, "")
    if tx.paused is NOTHING:
        return set()
    return {
        pk
        for pk, tenant_id, address in tx.all(_CLAIMED, numbers(pks))
        if domain_of(address) in paused(tx, tenant_id)
    }


def forget(tx: Transaction, pks: Sequence[int]) -> None:
    """These messages wait for no domain any more."""
    tx.add(_NAME, [(None, pk) for pk in pks])


# --- pause and resume -----------------------------------------------------------------------------


@attrs.frozen
class Domain:
    tenant_id: str
    domain: str
    now: float


class Walk(msgspec.Struct):
    """
    How far the background work of a resumed domain has come.

    :param domains: whose waiting messages are still to be looked at: first those named by the
        domain itself, then those that are named by another but may wait for it as well.
    :param after: the last message looked at among those of the first of *domains*.
    """

    since: float
    domains: list[str]
    after: int = 0


_ADD_JOB = compiled(
    insert(bulk_jobs).values(
        pk=p("pk"),
        kind=const(f"'{RESUME}'"),
        tenant_id=p("tenant"),
        reason=p("domain"),
        started_at=p("now"),
        detail=p("walk"),
    ),
    "pk",
    "tenant",
    "domain",
    "now",
    "walk",
)
_JOB = indexed(
    compiled(
        select(_j.pk, _j.tenant_id, _j.reason, _j.started_at, _j.detail)
        .where(_j.done_at.is_(None), _j.kind == const(f"'{RESUME}'"))
        .order_by(_j.started_at)
        .suffix_with("LIMIT 1")
    ),
    bulk_jobs,
    "bulk_jobs_open",
)
_MOVE_JOB = compiled(
    update(bulk_jobs).values(detail=p("walk")).where(_j.pk == p("job")), "walk", "job"
)
_DROP_JOB = compiled(delete(bulk_jobs).where(_j.pk == p("job")), "job")
_WAITING = indexed(
    compiled(
        select(_m.pk)
        .where(
            _m.destination.is_not(None),
            _m.tenant_id == p("tenant"),
            _m.destination == p("domain"),
            _m.pk > p("after"),
        )
        .order_by(_m.pk)
        .suffix_with(LIMIT),
        "tenant",
        "domain",
        "after",
        "limit",
    ),
    messages,
    "messages_destination",
)
_began = func.max(p("since"), _m.accepted_at, func.coalesce(_m.not_before, const("0")))
_BACK = compiled(
    update(messages)
    .values(
        destination=const("NULL"),
        expires_at=_m.expires_at + func.max(const("0"), p("until") - _began),
        claim_at=case(
            (
                (_m.intent == const("0"))
                & _m.lease_owner.is_(None)
                & _m.state.in_((const("'queued'"), const("'deferred'"))),
                _m.next_at,
            ),
            else_=_m.claim_at,
        ),
    )
    .where(_m.pk.in_(listed()))
    .returning(_m.lane, _m.account_pk, _m.claim_at),
    "until",
    "since",
    "pks",
)


def pause(tx: Transaction, call: Domain) -> bool:
    tx.paused = None
    return tx.do(_ADD, call.tenant_id, call.domain, call.now) == 1


def resume(tx: Transaction, call: Domain) -> bool:
    tx.paused = None
    found = tx.one(_DROP, call.tenant_id, call.domain)
    if found is None:
        return False
    others = [row[0] for row in tx.all(_OF, call.tenant_id)]
    walk = msgspec.json.encode(Walk(found[0], [call.domain, *others])).decode()
    tx.do(_ADD_JOB, tx.names.pk(call.now), call.tenant_id, call.domain, call.now, walk)
    return True


def shown(cursor: Any, tenant_id: str | None) -> list[Destination]:
    rows = cursor.execute(_ALL.sql).fetchall()
    return [Destination(*row) for row in rows if tenant_id in (None, row[0])]


@attrs.frozen
class Found:
    """A step of a job: messages that come back, and how far the walk is then (None: it is done)."""

    job: int
    pks: Sequence[int]
    since: float
    until: float
    walk: Walk | None


def waiting(cursor: Any, _now: float, _options: Any) -> Found | None:
    """The next step of the oldest job."""
    row = cursor.execute(_JOB.sql).fetchone()
    if row is None:
        return None
    job, tenant_id, domain, until, detail = row
    walk = msgspec.json.decode(detail, type=Walk)
    named = walk.domains[0]
    found = cursor.execute(_WAITING.sql, (tenant_id, named, walk.after, STEP))
    pks = [pk for (pk,) in found]
    further = Walk(walk.since, walk.domains, pks[-1]) if len(pks) == STEP else None
    if further is None and walk.domains[1:]:
        further = Walk(walk.since, walk.domains[1:])
    if named != domain:
        rows = cursor.execute(sql.OPEN_RECIPIENTS.sql, (numbers(pks),))
        pks = sorted({pk for pk, _, address, *_rest in rows if domain_of(address) == domain})
    return Found(job, pks, walk.since, until, further)


def bring_back(tx: Transaction, found: Found) -> int:
    """:return: rows touched; at least one, the job's."""
    for lane, account, claim_at in tx.all(_BACK, found.until, found.since, numbers(found.pks)):
        if claim_at is not None:
            tx.due_at(lane, claim_at)
            tx.due.add(account)
    if found.walk is None:
        tx.do(_DROP_JOB, found.job)
    else:
        tx.do(_MOVE_JOB, msgspec.json.encode(found.walk).decode(), found.job)
    return len(found.pks) + 1


PAUSE = alone(pause)
RESUMED = alone(resume)
BRING_BACK = alone(bring_back)
