"""Which node may call a tenant's report endpoint."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "report_leases",
        sa.Column("tenant_id", sa.Text(), primary_key=True),
        sa.Column("node", sa.Text()),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.Column("empty_at", sa.Float()),
    )


def downgrade() -> None:
    op.drop_table("report_leases")
