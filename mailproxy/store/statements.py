"""
The statements of the hot paths: written with SQLAlchemy Core, compiled once to the driver's text.

A statement that takes many rows or many keys takes them at once: rows by ``executemany``, keys as
one JSON list, so that a group of messages costs a few steps of the database.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import and_, delete, func, select, union_all, update

from mailproxy.states import Priority
from mailproxy.store.compiling import (
    LIMIT,
    Statement,
    compiled,
    const,
    grouped,
    indexed,
    inserting,
    listed,
    p,
)
from mailproxy.store.schema import (
    accounts,
    attempts,
    chunks,
    events,
    lanes,
    loose_bodies,
    messages,
    payloads,
    recipients,
    texts,
)

m, r, la, a = messages.c, recipients.c, lanes.c, accounts.c

# --- lanes ---------------------------------------------------------------------------------------

_COUNTS = ("queued", "deferred", "in_flight", "held", "uncertain")

LANE_COUNTS = compiled(
    update(lanes)
    .values({name: la[name] + p(f"d_{name}") for name in _COUNTS})
    .where(la.pk == p("lane")),
    *(f"d_{name}" for name in _COUNTS),
    "lane",
)
LANE_DUE = compiled(
    update(lanes).values(due_at=p("when")).where(la.pk == p("lane"), la.due_at > p("bound")),
    "when",
    "lane",
    "bound",
)
FIND_LANE = compiled(
    select(la.pk, la.blocked, la.paused, la.paused_since).where(
        la.account_pk == p("account"), la.priority == p("priority"), la.batch == p("batch")
    ),
    "account",
    "priority",
    "batch",
)
ADD_LANE = inserting(
    lanes,
    (
        "pk",
        "tenant_id",
        "account_pk",
        "priority",
        "batch",
        "blocked",
        "due_at",
        "paused",
        "paused_since",
    ),
)
LANES_OF = compiled(
    select(la.pk, la.blocked, la.paused, la.paused_since, la.account_pk).where(
        la.pk.in_(listed("lanes"))
    ),
    "lanes",
)

# --- messages ------------------------------------------------------------------------------------

ADD_RECIPIENT = inserting(
    recipients, ("message_pk", "n", "address", "kind", "state", "code", "enhanced", "reply")
)
ADD_EVENT = inserting(
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
        "data",
    ),
)
ADD_PAYLOAD = inserting(payloads)
ADD_TEXT = inserting(texts)
ADD_CHUNK = inserting(chunks)
ADD_LOOSE = inserting(loose_bodies)
DROP_LOOSE = compiled(delete(loose_bodies).where(loose_bodies.c.body_pk == p("body")), "body")

RECIPIENTS_OF = compiled(
    select(r.message_pk, r.n, r.address, r.state, r.code, r.reply, r.kind)
    .where(r.message_pk.in_(listed()))
    .order_by(r.message_pk, r.n),
    "pks",
)
DROP_PAYLOADS = compiled(delete(payloads).where(payloads.c.body_pk.in_(listed())), "pks")
DROP_TEXTS = compiled(delete(texts).where(texts.c.body_pk.in_(listed())), "pks")
DROP_CHUNKS = compiled(delete(chunks).where(chunks.c.body_pk.in_(listed())), "pks")

# --- claim, intent, release ----------------------------------------------------------------------


def _due_lanes(priorities: Iterable[Priority]) -> Statement:
    """Lanes of an account with something due, of each priority the first few."""
    each = [
        select(
            select(la.priority, la.due_at, la.pk, la.paused)
            .where(
                la.account_pk == p("account"),
                la.priority == const(str(int(priority))),
                la.due_at <= p("now"),
                la.blocked == const("0"),
            )
            .order_by(la.due_at)
            .suffix_with(LIMIT)
            .subquery()
        )
        for priority in priorities
    ]
    names = ("account", "now", "limit") * len(each)
    return indexed(compiled(union_all(*each), *names), lanes, "lanes_claim", len(each))


DUE_LANES = _due_lanes(Priority)
DUE_URGENT_LANES = _due_lanes((Priority.IMMEDIATE,))
_waiting = (m.lane == p("lane"), m.claim_at <= p("now"))
DUE_MESSAGES = indexed(
    compiled(
        select(m.pk, m.claim_at).where(*_waiting).order_by(m.claim_at, m.pk).suffix_with(LIMIT),
        "lane",
        "now",
        "limit",
    ),
    messages,
    "messages_claim",
)
_next_in_lane = (
    select(m.claim_at)
    .where(m.lane == la.pk, m.claim_at.is_not(None))
    .order_by(m.claim_at)
    .suffix_with("LIMIT 1")
    .correlate(lanes)
    .scalar_subquery()
)
LANE_RECHECK = indexed(
    compiled(
        update(lanes)
        .values(due_at=func.coalesce(_next_in_lane, p("never", la.due_at)))
        .where(la.pk == p("lane")),
        "never",
        "lane",
    ),
    messages,
    "messages_claim",
)
_CLAIMED = (
    "pk",
    "tenant_id",
    "id",
    "generation",
    "account_pk",
    "priority",
    "attempts",
    "uncertain",
    "accepted_at",
    "next_at",
    "expires_at",
    "message_id",
    "envelope_from",
    "size",
    "lane",
    "parts",
    "body_pk",
    "fetches",
    "not_after",
)
LEASE = compiled(
    update(messages)
    .values(claim_at=const("NULL"), lease_owner=p("owner"), lease_token=p("token"))
    .where(m.pk.in_(listed())),
    "owner",
    "token",
    "pks",
)
_open = r.state.in_((const("'waiting'"), const("'deferred'")))
#: With the open recipients of each, and the content where it is small and has no parts.
LEASED = compiled(
    select(
        *(messages.c[name] for name in _CLAIMED),
        select(grouped(r.n, r.address, r.state, r.paused))
        .where(r.message_pk == m.pk, _open)
        .scalar_subquery(),
        payloads.c.json,
        texts.c.text,
    )
    .select_from(
        messages.outerjoin(
            payloads,
            (payloads.c.body_pk == m.body_pk) & (m.parts == const("0")) & (m.size <= p("most")),
        ).outerjoin(texts, texts.c.body_pk == payloads.c.body_pk)
    )
    .where(m.pk.in_(listed())),
    "most",
    "pks",
)
OPEN_RECIPIENTS = compiled(
    select(r.message_pk, r.n, r.address, r.state, r.paused)
    .where(r.message_pk.in_(listed()), _open)
    .order_by(r.message_pk, r.n),
    "pks",
)
_pairs = func.json_each(p("pairs")).table_valued("value", name="pair")
_pair_pk = func.json_extract(_pairs.c.value, const("'$[0]'"))
_pair_token = func.json_extract(_pairs.c.value, const("'$[1]'"))
_unblocked = select(la.blocked).where(la.pk == m.lane).correlate(
    messages
).scalar_subquery() == const("0")
#: What of these messages may begin, whatever its token.
BEGINNING = compiled(
    select(grouped(m.pk, m.lane, m.generation, m.attempts, m.lease_token)).where(
        m.pk.in_(listed()),
        m.intent == const("0"),
        m.state.in_((const("'queued'"), const("'deferred'"))),
        m.not_after.is_(None) | (m.not_after > p("now")),
        _unblocked,
    ),
    "pks",
    "now",
)
BEGIN = compiled(
    update(messages)
    .values(
        state=const("'in_flight'"),
        attempts=m.attempts + const("1"),
        intent=m.attempts + const("1"),
        updated_at=p("now"),
    )
    .where(m.pk.in_(listed())),
    "now",
    "pks",
)
LAST_ACCOUNTS = compiled(
    select(attempts.c.message_pk, attempts.c.account)
    .select_from(
        attempts.join(
            messages,
            and_(
                m.pk == attempts.c.message_pk,
                m.generation == attempts.c.generation,
                m.attempts == attempts.c.n,
            ),
        )
    )
    .where(m.pk.in_(listed())),
    "pks",
)
ADD_ATTEMPT = inserting(
    attempts, ("message_pk", "generation", "n", "token", "node", "account", "intent_at")
)
RELEASE = compiled(
    update(messages)
    .values(claim_at=m.next_at, lease_owner=const("NULL"), lease_token=const("NULL"))
    .where(
        m.pk.in_(listed()),
        m.pk == _pair_pk,
        m.lease_token == _pair_token,
        m.intent == const("0"),
    )
    .returning(m.lane, m.next_at, m.account_pk),
    "pairs",
    "pks",
)

ACCOUNT_ID = compiled(select(a.id).where(a.pk == p("account")), "account")
ACCOUNT_VERSION = compiled(
    select(a.version, a.blocked_until, a.tenant_id, a.parked_reason).where(
        a.pk == p("account"), a.deleted_at.is_(None)
    ),
    "account",
)
ACCOUNT_HELD = compiled(select(a.held_since).where(a.pk == p("account")), "account")
FLAG_ON = compiled(
    update(lanes)
    .values(blocked=la.blocked.op("|")(p("flag")))
    .where(la.account_pk == p("account")),
    "flag",
    "account",
)
FLAG_OFF = compiled(
    update(lanes)
    .values(blocked=la.blocked.op("&")(p("mask")))
    .where(la.account_pk == p("account")),
    "mask",
    "account",
)
UNBLOCK_ACCOUNT = compiled(
    update(accounts).values(blocked_until=const("NULL")).where(a.pk == p("account")), "account"
)
#: Where no attempt has begun: whoever had the lease, it is void.
VOID = compiled(
    update(messages)
    .values(claim_at=m.next_at, lease_owner=const("NULL"), lease_token=const("NULL"))
    .where(m.lease_owner != p("node"), m.intent == const("0"), m.pk.in_(listed()))
    .returning(m.lane, m.next_at, m.account_pk),
    "node",
    "pks",
)
LANES_OF_MESSAGES = compiled(
    select(la.pk, la.paused, la.paused_since, la.account_pk).where(
        la.pk.in_(select(m.lane).where(m.pk.in_(listed())))
    ),
    "pks",
)
