"""Tenants to themselves: keys, suppression lists, paused domains, kept answers, large files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PK = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("0"), nullable=False)


def _words(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default=default, nullable=False)


def _count(name: str, default: str = "0") -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default=default, nullable=False)


def upgrade() -> None:
    _columns()
    _indexes()
    _tables()


def _columns() -> None:
    for table, column in (
        ("tenants", sa.Column("client_sync_url", sa.Text())),
        ("tenants", sa.Column("client_attachment_url", sa.Text())),
        ("tenants", _flag("suppress_refused")),
        ("tenants", _count("version", "1")),
        ("api_keys", _words("label")),
        ("api_keys", _words("networks", "[]")),
        ("api_keys", _flag("test")),
        ("accounts", _flag("declared")),
        ("messages", _count("fetches")),
        ("messages", _flag("test")),
        ("messages", sa.Column("destination", sa.Text())),
        ("recipients", _flag("paused")),
        ("command_log", _words("who", "admin")),
        ("bulk_jobs", _words("detail", "{}")),
    ):
        op.add_column(table, column)


def _indexes() -> None:
    for name, table, columns, condition in (
        (
            "messages_destination",
            "messages",
            ["tenant_id", "destination"],
            "destination IS NOT NULL",
        ),
        (
            "messages_fetching",
            "messages",
            ["tenant_id", "pk"],
            "fetches > 0",
        ),
        ("events_stream", "events", ["stream", "pk"], "stream IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _tables() -> None:
    op.create_table(
        "destinations",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "domain"),
    )
    op.create_table(
        "suppressions",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        _words("reason"),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "address"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "answers",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key"),
    )
    op.create_index("answers_age", "answers", ["at"])
    op.create_table(
        "files",
        sa.Column("pk", _PK, autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("pk"),
    )
    op.create_index("files_age", "files", ["expires_at"])


def downgrade() -> None:
    for table in ("files", "answers", "suppressions", "destinations"):
        op.drop_table(table)
    op.drop_index("events_stream", "events")
    op.drop_index("messages_fetching", "messages")
    op.drop_index("messages_destination", "messages")
    for table, names in (
        ("bulk_jobs", ["detail"]),
        ("command_log", ["who"]),
        ("recipients", ["paused"]),
        ("messages", ["destination", "test", "fetches"]),
        ("accounts", ["declared"]),
        ("api_keys", ["test", "networks", "label"]),
        (
            "tenants",
            ["version", "suppress_refused", "client_attachment_url", "client_sync_url"],
        ),
    ):
        for name in names:
            op.drop_column(table, name)
