"""What can be found overdue: messages by their own instant, and when an account was last tried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_WHERE = sa.text("not_after IS NOT NULL AND finished_at IS NULL")


def upgrade() -> None:
    op.add_column("accounts", sa.Column("tried_at", sa.Float()))
    op.create_index(
        "messages_late",
        "messages",
        ["not_after"],
        unique=False,
        sqlite_where=_WHERE,
        postgresql_where=_WHERE,
    )


def downgrade() -> None:
    op.drop_index("messages_late", table_name="messages")
    op.drop_column("accounts", "tried_at")
