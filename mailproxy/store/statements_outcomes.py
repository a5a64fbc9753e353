"""The statements that write down what attempts led to."""

from __future__ import annotations

from sqlalchemy import and_, select, update

from mailproxy.store.compiling import bulk, compiled, const, listed, p
from mailproxy.store.schema import attempts, messages, recipients

m, r = messages.c, recipients.c

#: What :mod:`mailproxy.store.outcomes` looks at.
ATTEMPTED = tuple(
    messages.c[name]
    for name in (
        "pk",
        "tenant_id",
        "generation",
        "lane",
        "account_pk",
        "attempts",
        "uncertain",
        "intent",
        "state",
        "hold",
        "lease_token",
        "report_key",
        "parts",
        "body_pk",
        "size",
        "next_at",
        "finished_at",
        "test",
        "destination",
        "fetches",
        "quiet",
    )
)
ATTEMPTED_BY_PK = compiled(select(*ATTEMPTED).where(m.pk.in_(listed())), "pks")
SET_RECIPIENT = bulk(
    compiled(
        update(recipients)
        .values(
            state=p("state"),
            code=p("code"),
            enhanced=p("enhanced"),
            reply=p("reply"),
            done_at=p("done"),
            attempts=r.attempts + p("tried"),
        )
        .where(r.message_pk == p("message"), r.n == p("number")),
        "state",
        "code",
        "enhanced",
        "reply",
        "tried",
        "done",
        "message",
        "number",
    )
)
SET_OUTCOME = bulk(
    compiled(
        update(attempts)
        .values(outcome_at=p("at"), outcome=p("said"))
        .where(
            and_(
                attempts.c.message_pk == p("message"),
                attempts.c.generation == p("gen"),
                attempts.c.n == p("number"),
            )
        ),
        "at",
        "said",
        "message",
        "gen",
        "number",
    )
)
ATTEMPT_TOKEN = compiled(
    select(attempts.c.token).where(
        attempts.c.message_pk == p("message"),
        attempts.c.generation == p("gen"),
        attempts.c.n == p("number"),
    ),
    "message",
    "gen",
    "number",
)
SET_FETCHES = bulk(
    compiled(
        update(messages).values(fetches=p("count")).where(m.pk == p("message")),
        "count",
        "message",
    )
)
SET_STATE_NAMES = (
    "state",
    "next_at",
    "claim_at",
    "uncertain",
    "hold",
    "held_at",
    "deferred_reason",
    "report_key",
    "updated_at",
    "finished_at",
    "sent_ts",
    "error_ts",
    "error",
    "final_event",
)
SET_STATE = bulk(
    compiled(
        update(messages)
        .values(
            {name: p(f"v_{name}") for name in SET_STATE_NAMES}
            | {
                "intent": const("0"),
                "lease_owner": const("NULL"),
                "lease_token": const("NULL"),
            }
        )
        .where(m.pk == p("message")),
        *(f"v_{column.name}" for column in messages.columns if column.name in SET_STATE_NAMES),
        "message",
    )
)
