"""
The tables, for SQLite and PostgreSQL alike. What each state of a row means is told here once.

*Bodies* (payload, text, chunks) have a key of their own, ``body_pk``, which is the message's
``pk`` unless the content was replaced: so a large new content is written beside the old one, chunk
by chunk, and takes its place by one small update.

Foreign keys are not enforced: one writer keeps them, and the checks would cost as much as the
writes. Flags and lists that nobody searches are JSON in a text column.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)

from mailproxy.store.tables import Pk, key, metadata, partial

#: What ``lanes.due_at`` says when nothing of the lane can be claimed, ever.
NEVER = 1e18

#: Why a lane is blocked, as bits of ``lanes.blocked``.
BATCH_SUSPENDED = 1
ACCOUNT_PARKED = 2
TENANT_SUSPENDED = 4
ACCOUNT_DELETED = 8
SERVICE_SUSPENDED = 16
TENANT_INACTIVE = 32
TENANT_DELETED = 64
ACCOUNT_LIMITED = 128
TENANT_LIMITED = 256
BATCH_HELD = 512
ACCOUNT_HELD = 1024
LANE_CANCELLED = 2048

#: While one of these lies on a lane, the age of its messages does not run.
AGELESS = (
    BATCH_SUSPENDED
    | TENANT_SUSPENDED
    | SERVICE_SUSPENDED
    | TENANT_INACTIVE
    | TENANT_DELETED
    | BATCH_HELD
    | ACCOUNT_HELD
)


accounts = Table(
    "accounts",
    metadata,
    key(),
    Column("tenant_id", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("incarnation", Integer, nullable=False, server_default="1"),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("host", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("tls_mode", Text, nullable=False),
    Column("user", Text),
    Column("password", Text),  # sealed
    Column("name", Text, nullable=False, server_default=""),
    Column("use_tls", Boolean),
    Column("allow_plaintext_auth", Boolean, nullable=False, server_default=text("0")),
    Column("timeout", Float, nullable=False),
    Column("ttl", Float, nullable=False),
    Column("max_sessions", Integer, nullable=False),
    Column("batch_size", Integer),
    Column("on_uncertain", Text, nullable=False),
    Column("retry_delays", Text),  # JSON list
    Column("max_age_seconds", Float),
    Column("ca_pem", Text),
    Column("is_default", Boolean, nullable=False, server_default=text("0")),
    Column("options", Text, nullable=False, server_default="{}"),
    Column("parked_reason", Text, nullable=False, server_default=""),
    Column("parked_since", Float),
    Column("probe_at", Float),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted_at", Float),
    # Set while parked and not yet probed: its lanes carry ACCOUNT_PARKED.
    Column("blocked_until", Float),
    # By the configuration: nobody else may change it.
    Column("declared", Boolean, nullable=False, server_default=text("0")),
    # Held by an operator: its lanes carry ACCOUNT_HELD.
    Column("held_since", Float),
    Column("held_reason", Text, nullable=False, server_default=""),
    # When it was last tried in vain.
    Column("tried_at", Float),
    Index("accounts_live", "tenant_id", "id", unique=True, **partial("deleted_at IS NULL")),
    Index("accounts_blocked", "blocked_until", **partial("blocked_until IS NOT NULL")),
)

# One queue of one account: its counts, its flags, and a lower bound of when it has something due.
lanes = Table(
    "lanes",
    metadata,
    key(),
    Column("tenant_id", Text, nullable=False),
    Column("account_pk", Pk, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("batch", Text, nullable=False, server_default=""),
    Column("blocked", Integer, nullable=False, server_default="0"),
    Column("due_at", Float, nullable=False),
    Column("queued", Integer, nullable=False, server_default="0"),
    Column("deferred", Integer, nullable=False, server_default="0"),
    Column("in_flight", Integer, nullable=False, server_default="0"),
    Column("held", Integer, nullable=False, server_default="0"),
    Column("uncertain", Integer, nullable=False, server_default="0"),
    Column("paused", Float, nullable=False, server_default="0"),  # seconds, ended pauses only
    Column("paused_since", Float),
    # The job that ends its mail, which was cancelled: nothing new enters it, its batch is renamed.
    Column("sealed", Pk),
    Index("lanes_key", "account_pk", "priority", "batch", unique=True),
    Index("lanes_due", "due_at", "account_pk", **partial("blocked = 0")),
    Index("lanes_claim", "account_pk", "priority", "due_at", **partial("blocked = 0")),
)

# A limit of an account, or of a tenant itself (account_pk 0), and what was handed over: a JSON list
# of pairs, instant and count, of which nothing counts any more from clear_at on. While until is
# set, lanes that wait for it carry ACCOUNT_LIMITED or TENANT_LIMITED.
rates = Table(
    "rates",
    metadata,
    key(),
    Column("tenant_id", Text, nullable=False),
    Column("account_pk", Pk, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("most", BigInteger, nullable=False),
    Column("used", Text, nullable=False, server_default="[]"),
    Column("clear_at", Float),
    Column("until", Float),
    Index("rates_key", "tenant_id", "account_pk", "seconds", unique=True),
    Index("rates_closed", "until", **partial("until IS NOT NULL")),
    Index("rates_old", "clear_at", **partial("clear_at IS NOT NULL")),
)

# What is suspended: tenant "" is the service, batch "*" the whole of the tenant.
suspensions = Table(
    "suspensions",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("batch", Text, primary_key=True),
    Column("since", Float, nullable=False),
)

# Batches an operator holds: their lanes carry BATCH_HELD.
batch_holds = Table(
    "batch_holds",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("batch", Text, primary_key=True),
    Column("since", Float, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
)

# claim_at repeats next_at while the message can be claimed, and is NULL while it cannot.
# expires_at and held_at are in the lane's time: its lane's pauses up to now have to be added.
# intent is the number of the attempt whose outcome is not known yet, 0 for none.
messages = Table(
    "messages",
    metadata,
    key(),
    Column("tenant_id", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("account_pk", Pk, nullable=False),
    Column("lane", Pk, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("batch", Text, nullable=False),
    Column("not_before", Float),
    Column("next_at", Float),
    Column("claim_at", Float),
    Column("accepted_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("uncertain", Integer, nullable=False),
    Column("intent", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("hold", Text, nullable=False),
    Column("held_at", Float),
    Column("lease_owner", Text),
    Column("lease_token", BigInteger),
    Column("message_id", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("envelope_from", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("body_pk", Pk, nullable=False),
    Column("finished_at", Float),
    Column("sent_ts", Float),
    Column("error_ts", Float),
    Column("error", Text),
    Column("deferred_reason", Text),
    Column("report_key", Text),  # reason_key of the last deferral reported
    Column("final_event", Pk),
    Column("reported_at", Float),
    # Attachment fetches that failed and are tried again; 0 again when it ended.
    Column("fetches", Integer, nullable=False, server_default="0"),
    # Taken and reported, never sent.
    Column("test", Boolean, nullable=False, server_default=text("0")),
    # All its open recipients are in paused domains, of which this is one; then claim_at is NULL.
    Column("destination", Text),
    # It is not begun any more from this instant on, whatever stopped it before.
    Column("not_after", Float),
    # A bounce: nobody is told what becomes of it.
    Column("quiet", Boolean, nullable=False, server_default=text("0")),
    Index("messages_key", "tenant_id", "id", unique=True),
    Index("messages_claim", "lane", "claim_at", **partial("claim_at IS NOT NULL")),
    Index("messages_open", "priority", "pk", **partial("finished_at IS NULL")),
    Index("messages_done", "finished_at", "pk", **partial("finished_at IS NOT NULL")),
    Index(
        "messages_fetching",
        "tenant_id",
        "pk",
        **partial("fetches > 0"),
    ),
    Index(
        "messages_destination",
        "tenant_id",
        "destination",
        **partial("destination IS NOT NULL"),
    ),
    Index("messages_late", "not_after", **partial("not_after IS NOT NULL AND finished_at IS NULL")),
)

recipients = Table(
    "recipients",
    metadata,
    key("message_pk"),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("address", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Integer),
    Column("enhanced", Text),
    Column("reply", Text, nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("done_at", Float),
    # Left out of the last claim, because its domain was paused.
    Column("paused", Boolean, nullable=False, server_default=text("0")),
    sqlite_with_rowid=False,
)

# outcome is JSON: phases, replies, TLS.
attempts = Table(
    "attempts",
    metadata,
    key("message_pk"),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("token", BigInteger, nullable=False),
    Column("node", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("intent_at", Float, nullable=False),
    Column("outcome_at", Float),
    Column("outcome", LargeBinary),
    sqlite_with_rowid=False,
)

# stream is the tenant to be told, NULL for an event that is only for the timeline.
# report is JSON: what the item says beside what the message's rows say.
events = Table(
    "events",
    metadata,
    key(),
    Column("event_id", LargeBinary, nullable=False),
    Column("message_pk", Pk, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("final", Boolean, nullable=False),
    Column("stream", Text),
    Column("report", LargeBinary),
    Column("data", LargeBinary),
    Column("reported_at", Float),
    Column("parked_at", Float),
    Column("parked_reason", Text),
    Index("events_message", "message_pk"),
    Index(
        "events_unreported",
        "stream",
        "pk",
        **partial("stream IS NOT NULL AND reported_at IS NULL AND parked_at IS NULL"),
    ),
    Index("events_parked", "parked_at", **partial("parked_at IS NOT NULL")),
    Index("events_stream", "stream", "pk", **partial("stream IS NOT NULL")),
)

# The content as JSON without its text, which has a row of its own and is removed with the
# transition to sent or cancelled.
payloads = Table("payloads", metadata, key("body_pk"), Column("json", LargeBinary, nullable=False))

texts = Table("texts", metadata, key("body_pk"), Column("text", LargeBinary, nullable=False))

chunks = Table(
    "chunks",
    metadata,
    Column("body_pk", Pk, nullable=False),
    Column("part", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("chunks_key", "body_pk", "part", "n", unique=True),
)

# Bodies that belong to no message yet (being written) or no more (large, to be removed).
loose_bodies = Table(
    "loose_bodies", metadata, key("body_pk"), Column("remove_at", Float, nullable=False)
)

# What is kept of a removed message, so that its id is not sent again.
tombstones = Table(
    "tombstones",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("accepted", LargeBinary, nullable=False),  # see mailproxy.store.memory
    Column("generation", Integer, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("accepted_at", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("finished_at", Float, nullable=False),
    Column("error", Text),
    Column("event_id", LargeBinary, nullable=False),
    Column("event_kind", Text, nullable=False),
    Column("event_report", LargeBinary),
    Column("removed_at", Float, nullable=False),
    Index("tombstones_age", "removed_at"),
    sqlite_with_rowid=False,
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("alive_until", Float, nullable=False),
    Column("version", Text, nullable=False, server_default=""),
    Column("host", Text, nullable=False, server_default=""),
    # Of the last transaction that the node has committed on a server.
    Column("serial", BigInteger, nullable=False, server_default="0"),
)

# Who may call a tenant's report endpoint; and of the tenant "", who does the upkeep. Instants are
# by the server's clock; unused by SQLite, whose one node does it all.
report_leases = Table(
    "report_leases",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("node", Text),  # NULL: nobody's, and nobody's before until
    Column("token", BigInteger, nullable=False),
    Column("until", Float, nullable=False),
    Column("empty_at", Float),  # when an empty report is due
)

# Acts on many messages: the flag that makes them hold is set elsewhere, in the same transaction.
bulk_jobs = Table(
    "bulk_jobs",
    metadata,
    key(),
    Column("kind", Text, nullable=False),
    Column("account_pk", Pk),
    Column("tenant_id", Text),
    Column("batch", Text),
    Column("reason", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("done_at", Float),
    Column("detail", Text, nullable=False, server_default="{}"),  # JSON
    Index("bulk_jobs_open", "started_at", **partial("done_at IS NULL")),
)
