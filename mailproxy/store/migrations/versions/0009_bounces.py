"""Bounces to the senders of messages that came by SMTP."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mailproxy.store.tables import key

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("bounces", sa.Text()))
    op.add_column(
        "messages", sa.Column("quiet", sa.Boolean(), server_default=sa.text("0"), nullable=False)
    )
    op.create_table(
        "bounces",
        key(),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        sa.Column("message_pk", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("bounces")
    op.drop_column("messages", "quiet")
    op.drop_column("tenants", "bounces")
