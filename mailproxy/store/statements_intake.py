"""The statements of the intake: new messages, and ids that are known already."""

from __future__ import annotations

from sqlalchemy import and_, delete, func, insert, select, update

from mailproxy.acts import DOUBT
from mailproxy.store.compiling import bulk, compiled, const, inserting, listed, p
from mailproxy.store.schema import (
    accounts,
    batch_holds,
    events,
    messages,
    recipients,
    suspensions,
    tombstones,
)
from mailproxy.store.schema_tenants import tenants

m, e, a = messages.c, events.c, accounts.c

_NEW = (
    "pk",
    "tenant_id",
    "id",
    "generation",
    "account_pk",
    "lane",
    "priority",
    "batch",
    "not_before",
    "next_at",
    "claim_at",
    "accepted_at",
    "updated_at",
    "expires_at",
    "message_id",
    "digest",
    "envelope_from",
    "size",
    "parts",
    "body_pk",
    "test",
    "not_after",
)
#: What a message is when no attempt of it has begun.
FRESH = {
    "attempts": const("0"),
    "uncertain": const("0"),
    "intent": const("0"),
    "state": const("'queued'"),
    "hold": const("''"),
}
ADD_MESSAGE = bulk(
    compiled(insert(messages).values({name: p(name) for name in _NEW} | FRESH), *_NEW)
)
_REFILLED = tuple(name for name in _NEW if name not in ("pk", "tenant_id", "id", "message_id"))
EMPTY = (
    "held_at",
    "lease_owner",
    "lease_token",
    "finished_at",
    "sent_ts",
    "error_ts",
    "error",
    "deferred_reason",
    "report_key",
    "final_event",
    "reported_at",
    "destination",
)
REFILL = compiled(
    update(messages)
    .values(
        {name: p(f"v_{name}") for name in _REFILLED}
        | FRESH
        | {name: const("NULL") for name in EMPTY}
        | {"fetches": const("0")}
    )
    .where(m.pk == p("message")),
    *(f"v_{name}" for name in _REFILLED),
    "message",
)
_MOVED = ("lane", "priority", "batch", "not_before", "updated_at", "expires_at", "not_after")
RESCHEDULE = compiled(
    update(messages)
    .values(
        {name: p(f"v_{name}") for name in (*_MOVED, "next_at", "claim_at")}
        | {"lease_owner": const("NULL"), "lease_token": const("NULL")}
    )
    .where(m.pk == p("message")),
    "v_lane",
    "v_priority",
    "v_batch",
    "v_not_before",
    "v_next_at",
    "v_claim_at",
    "v_updated_at",
    "v_expires_at",
    "v_not_after",
    "message",
)
#: While an attempt is under way, lease and due time are its own.
RELABEL = compiled(
    update(messages).values({name: p(f"v_{name}") for name in _MOVED}).where(m.pk == p("message")),
    *(f"v_{name}" for name in _MOVED),
    "message",
)
DROP_RECIPIENTS = compiled(
    delete(recipients).where(
        recipients.c.message_pk == p("message"),
        recipients.c.state.not_in((const("'sent'"), const("'uncertain'"))),
        # Failed because nobody knows: see mailproxy.acts.in_doubt.
        ~and_(
            recipients.c.state == const("'failed'"),
            recipients.c.code.is_(None),
            func.substr(recipients.c.reply, const("1"), const(str(len(DOUBT))))
            == const(f"'{DOUBT}'"),
        ),
    ),
    "message",
)
#: Where none of them has the message, because it was a test.
DROP_ALL_RECIPIENTS = compiled(
    delete(recipients).where(recipients.c.message_pk == p("message")), "message"
)
OFFER_AGAIN = compiled(
    update(events)
    .values(
        pk=p("new"),
        reported_at=const("NULL"),
        parked_at=const("NULL"),
        parked_reason=const("NULL"),
    )
    .where(e.pk == p("old")),
    "new",
    "old",
)
SET_FINAL_EVENT = compiled(
    update(messages)
    .values(final_event=p("event"), reported_at=const("NULL"))
    .where(m.pk == p("message")),
    "event",
    "message",
)
ADD_OLD_EVENT = inserting(
    events,
    (
        "pk",
        "event_id",
        "message_pk",
        "generation",
        "kind",
        "at",
        "final",
        "stream",
        "report",
        "reported_at",
    ),
)
_FINISHED = ("state", "finished_at", "sent_ts", "error_ts", "error", "final_event")
FINISH = compiled(
    update(messages)
    .values(
        {name: p(f"v_{name}") for name in _FINISHED}
        | {"next_at": const("NULL"), "claim_at": const("NULL")}
    )
    .where(m.pk == p("message")),
    *(f"v_{name}" for name in _FINISHED),
    "message",
)
DROP_TOMBSTONE = compiled(
    delete(tombstones).where(tombstones.c.tenant_id == p("tenant"), tombstones.c.id == p("id")),
    "tenant",
    "id",
)
ACCOUNT_OWNED = compiled(
    select(a.max_age_seconds, a.blocked_until, a.held_since, a.deleted_at).where(
        a.pk == p("account")
    ),
    "account",
)
TENANT_ACTIVE = compiled(
    select(tenants.c.active, tenants.c.deleted_at).where(tenants.c.id == p("tenant")), "tenant"
)
FIND_ACCOUNT = compiled(
    select(a.pk, a.max_age_seconds, a.blocked_until, a.held_since).where(
        a.tenant_id == p("tenant"), a.id == p("id"), a.deleted_at.is_(None)
    ),
    "tenant",
    "id",
)
#: Those declared default first, the last so declared before the others.
DEFAULT_ACCOUNTS = compiled(
    select(a.pk, a.max_age_seconds, a.blocked_until, a.held_since, a.is_default)
    .where(a.tenant_id == p("tenant"), a.deleted_at.is_(None))
    .order_by(a.is_default.desc(), a.updated_at.desc())
    .suffix_with("LIMIT 2"),
    "tenant",
)
SUSPENDED = compiled(
    select(suspensions.c.tenant_id, suspensions.c.batch).where(
        (suspensions.c.tenant_id == const("''"))
        | and_(
            suspensions.c.tenant_id == p("tenant"),
            suspensions.c.batch.in_((const("'*'"), p("batch"))),
        )
    ),
    "tenant",
    "batch",
)
BATCH_HELD = compiled(
    select(batch_holds.c.since).where(
        batch_holds.c.tenant_id == p("tenant"), batch_holds.c.batch == p("batch")
    ),
    "tenant",
    "batch",
)

#: What the same-id table and a change of a stored message look at.
STORED = tuple(
    messages.c[name]
    for name in (
        "pk",
        "id",
        "generation",
        "account_pk",
        "lane",
        "priority",
        "batch",
        "not_before",
        "next_at",
        "accepted_at",
        "expires_at",
        "attempts",
        "intent",
        "state",
        "lease_owner",
        "message_id",
        "digest",
        "parts",
        "size",
        "body_pk",
        "final_event",
        "test",
        "not_after",
        "quiet",
    )
)
STORED_BY_ID = compiled(
    select(*STORED).where(m.tenant_id == p("tenant"), m.id.in_(listed("ids"))), "tenant", "ids"
)
BURIED_BY_ID = compiled(
    select(tombstones).where(
        tombstones.c.tenant_id == p("tenant"), tombstones.c.id.in_(listed("ids"))
    ),
    "tenant",
    "ids",
)
