"""The first schema: everything that the design's data model names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_PK = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _access()
    _accounts()
    _messages()
    _events()
    _bodies()
    _upkeep()
    # The tenant of clients that know of none; it was there before anybody came.
    op.execute(
        "INSERT INTO tenants (id, name, active, created_at, updated_at) "
        "VALUES ('default', 'default', 1, 0, 0)"
    )


def _access() -> None:
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("1"), nullable=False),
        sa.Column("client_base_url", sa.Text(), nullable=True),
        sa.Column("client_sync_path", sa.Text(), nullable=True),
        sa.Column("client_attachment_path", sa.Text(), nullable=True),
        sa.Column("client_auth", sa.Text(), nullable=True),
        sa.Column("rate_limits", sa.Text(), nullable=True),
        sa.Column("large_file_config", sa.Text(), nullable=True),
        sa.Column("retention_seconds", sa.Integer(), nullable=True),
        sa.Column("signing_secret", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "api_keys",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), server_default="[]", nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("used_at", sa.Float(), nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("api_keys_tenant", "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "command_log",
        sa.Column("pk", _PK, autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("pk"),
    )
    op.create_table(
        "rate_windows",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", "slot"),
    )


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("pk", _PK, autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("incarnation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("tls_mode", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("use_tls", sa.Boolean(), nullable=True),
        sa.Column(
            "allow_plaintext_auth", sa.Boolean(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("timeout", sa.Float(), nullable=False),
        sa.Column("ttl", sa.Float(), nullable=False),
        sa.Column("max_sessions", sa.Integer(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=True),
        sa.Column("on_uncertain", sa.Text(), nullable=False),
        sa.Column("retry_delays", sa.Text(), nullable=True),
        sa.Column("max_age_seconds", sa.Float(), nullable=True),
        sa.Column("ca_pem", sa.Text(), nullable=True),
        sa.Column("is_default", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("parked_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("parked_since", sa.Float(), nullable=True),
        sa.Column("probe_at", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.Column("blocked_until", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("pk"),
    )
    op.create_index(
        "accounts_blocked",
        "accounts",
        ["blocked_until"],
        unique=False,
        sqlite_where=sa.text("blocked_until IS NOT NULL"),
        postgresql_where=sa.text("blocked_until IS NOT NULL"),
    )
    op.create_index(
        "accounts_live",
        "accounts",
        ["tenant_id", "id"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "lanes",
        sa.Column("pk", _PK, autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("account_pk", _PK, nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("batch", sa.Text(), server_default="", nullable=False),
        sa.Column("blocked", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("queued", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deferred", sa.Integer(), server_default="0", nullable=False),
        sa.Column("in_flight", sa.Integer(), server_default="0", nullable=False),
        sa.Column("held", sa.Integer(), server_default="0", nullable=False),
        sa.Column("uncertain", sa.Integer(), server_default="0", nullable=False),
        sa.Column("paused", sa.Float(), server_default="0", nullable=False),
        sa.Column("paused_since", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("pk"),
    )
    op.create_index(
        "lanes_claim",
        "lanes",
        ["account_pk", "priority", "due_at"],
        unique=False,
        sqlite_where=sa.text("blocked = 0"),
        postgresql_where=sa.text("blocked = 0"),
    )
    op.create_index(
        "lanes_due",
        "lanes",
        ["due_at", "account_pk"],
        unique=False,
        sqlite_where=sa.text("blocked = 0"),
        postgresql_where=sa.text("blocked = 0"),
    )
    op.create_index("lanes_key", "lanes", ["account_pk", "priority", "batch"], unique=True)
    op.create_table(
        "suspensions",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "batch"),
    )


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("pk", _PK, autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("account_pk", _PK, nullable=False),
        sa.Column("lane", _PK, nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=True),
        sa.Column("next_at", sa.Float(), nullable=True),
        sa.Column("claim_at", sa.Float(), nullable=True),
        sa.Column("accepted_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("uncertain", sa.Integer(), nullable=False),
        sa.Column("intent", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("hold", sa.Text(), nullable=False),
        sa.Column("held_at", sa.Float(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("envelope_from", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("body_pk", _PK, nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("sent_ts", sa.Float(), nullable=True),
        sa.Column("error_ts", sa.Float(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("deferred_reason", sa.Text(), nullable=True),
        sa.Column("report_key", sa.Text(), nullable=True),
        sa.Column("final_event", _PK, nullable=True),
        sa.Column("reported_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("pk"),
    )
    op.create_index(
        "messages_claim",
        "messages",
        ["lane", "claim_at"],
        unique=False,
        sqlite_where=sa.text("claim_at IS NOT NULL"),
        postgresql_where=sa.text("claim_at IS NOT NULL"),
    )
    op.create_index(
        "messages_done",
        "messages",
        ["finished_at", "pk"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index("messages_key", "messages", ["tenant_id", "id"], unique=True)
    op.create_index(
        "messages_open",
        "messages",
        ["priority", "pk"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "recipients",
        sa.Column("message_pk", _PK, autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("enhanced", sa.Text(), nullable=True),
        sa.Column("reply", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("done_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("message_pk", "n"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempts",
        sa.Column("message_pk", _PK, autoincrement=False, nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("intent_at", sa.Float(), nullable=False),
        sa.Column("outcome_at", sa.Float(), nullable=True),
        sa.Column("outcome", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("message_pk", "generation", "n"),
        sqlite_with_rowid=False,
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("pk", _PK, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        sa.Column("message_pk", _PK, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=True),
        sa.Column("report", sa.LargeBinary(), nullable=True),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.Column("reported_at", sa.Float(), nullable=True),
        sa.Column("parked_at", sa.Float(), nullable=True),
        sa.Column("parked_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("pk"),
    )
    op.create_index("events_message", "events", ["message_pk"], unique=False)
    op.create_index(
        "events_parked",
        "events",
        ["parked_at"],
        unique=False,
        sqlite_where=sa.text("parked_at IS NOT NULL"),
        postgresql_where=sa.text("parked_at IS NOT NULL"),
    )
    op.create_index(
        "events_unreported",
        "events",
        ["stream", "pk"],
        unique=False,
        sqlite_where=sa.text("stream IS NOT NULL AND reported_at IS NULL AND parked_at IS NULL"),
        postgresql_where=sa.text(
            "stream IS NOT NULL AND reported_at IS NULL AND parked_at IS NULL"
        ),
    )


def _bodies() -> None:
    op.create_table(
        "payloads",
        sa.Column("body_pk", _PK, autoincrement=False, nullable=False),
        sa.Column("json", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("body_pk"),
    )
    op.create_table(
        "texts",
        sa.Column("body_pk", _PK, autoincrement=False, nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("body_pk"),
    )
    op.create_table(
        "chunks",
        sa.Column("body_pk", _PK, nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )
    op.create_index("chunks_key", "chunks", ["body_pk", "part", "n"], unique=True)
    op.create_table(
        "loose_bodies",
        sa.Column("body_pk", _PK, autoincrement=False, nullable=False),
        sa.Column("remove_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("body_pk"),
    )


def _upkeep() -> None:
    op.create_table(
        "tombstones",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("accepted", sa.LargeBinary(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("accepted_at", sa.Float(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        sa.Column("event_kind", sa.Text(), nullable=False),
        sa.Column("event_report", sa.LargeBinary(), nullable=True),
        sa.Column("removed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("tombstones_age", "tombstones", ["removed_at"], unique=False)
    op.create_table(
        "nodes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("alive_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "bulk_jobs",
        sa.Column("pk", _PK, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("account_pk", _PK, nullable=True),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("batch", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("done_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("pk"),
    )
    op.create_index(
        "bulk_jobs_open",
        "bulk_jobs",
        ["started_at"],
        unique=False,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )
