"""Who may hand mail in by SMTP."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "submitters",
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text()),
        sa.Column("account_id", sa.Text()),
        sa.Column("senders", sa.Text(), server_default="[]", nullable=False),
        sa.Column("networks", sa.Text(), server_default="[]", nullable=False),
        sa.Column("label", sa.Text(), server_default="", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("user"),
    )
    op.create_index("submitters_tenant", "submitters", ["tenant_id"])


def downgrade() -> None:
    op.drop_index("submitters_tenant", "submitters")
    op.drop_table("submitters")
