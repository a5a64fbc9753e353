"""
The tables about tenants and operators; the way of a message is in :mod:`mailproxy.store.schema`.
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
    Table,
    Text,
    text,
)

from mailproxy.store.tables import key, metadata

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, server_default=""),
    Column("active", Boolean, nullable=False, server_default=text("1")),
    Column("client_base_url", Text),
    Column("client_sync_path", Text),
    Column("client_attachment_path", Text),
    Column("client_auth", Text),  # JSON, its secrets sealed
    Column("rate_limits", Text),
    Column("large_file_config", Text),
    Column("retention_seconds", Integer),
    Column("signing_secret", Text),  # sealed
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted_at", Float),
    Column("client_sync_url", Text),
    Column("client_attachment_url", Text),
    Column("suppress_refused", Boolean, nullable=False, server_default=text("0")),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("bounces", Text),  # JSON; NULL for none
)

# Messages that failed or expired and whose sender may have to be told: pk and event_id are of the
# event that ended the generation.
bounces = Table(
    "bounces",
    metadata,
    key(),
    Column("event_id", LargeBinary, nullable=False),
    Column("message_pk", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("tenant_id", Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("prefix", Text, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("scopes", Text, nullable=False, server_default="[]"),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float),
    Column("expires_at", Float),
    Column("label", Text, nullable=False, server_default=""),
    Column("networks", Text, nullable=False, server_default="[]"),  # JSON list of CIDR blocks
    Column("test", Boolean, nullable=False, server_default=text("0")),
    Index("api_keys_tenant", "tenant_id"),
)

# Recipient domains that a tenant's mail does not go to for now.
destinations = Table(
    "destinations",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("since", Float, nullable=False),
)

# Addresses that get no mail of a tenant.
suppressions = Table(
    "suppressions",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("reason", Text, nullable=False, server_default=""),
    Column("source", Text, nullable=False),  # manual, import or refused
    Column("since", Float, nullable=False),
    sqlite_with_rowid=False,
)

# Who may hand mail in by SMTP. hash is of the password; senders and networks are JSON lists.
submitters = Table(
    "submitters",
    metadata,
    Column("user", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("hash", Text),
    Column("account_id", Text),
    Column("senders", Text, nullable=False, server_default="[]"),
    Column("networks", Text, nullable=False, server_default="[]"),
    Column("label", Text, nullable=False, server_default=""),
    Column("active", Boolean, nullable=False, server_default=text("1")),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("submitters_tenant", "tenant_id"),
)

# Keys that sign mail.
dkim_keys = Table(
    "dkim_keys",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("selector", Text, primary_key=True),
    Column("algorithm", Text, nullable=False),
    Column("private", Text, nullable=False),  # sealed
    Column("public", Text, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("0")),
    Column("created_at", Float, nullable=False),
)

# Answers to requests that carried an idempotency key.
answers = Table(
    "answers",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
    Index("answers_age", "at"),
)

# Large attachments that were uploaded in place of being sent.
files = Table(
    "files",
    metadata,
    key(),
    Column("tenant_id", Text, nullable=False),
    Column("url", Text, nullable=False),  # fsspec's
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("files_age", "expires_at"),
)

rate_windows = Table(
    "rate_windows",
    metadata,
    Column("scope", Text, primary_key=True),  # account or tenant
    Column("key", Text, primary_key=True),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("used", Integer, nullable=False),
)

command_log = Table(
    "command_log",
    metadata,
    key(),
    Column("at", Float, nullable=False),
    Column("tenant_id", Text),
    Column("command", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default="{}"),
    Column("who", Text, nullable=False, server_default="admin"),
)
