"""What operators do to many messages at once: batches and accounts held, lanes cancelled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PK = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("accounts", sa.Column("held_since", sa.Float()))
    op.add_column(
        "accounts", sa.Column("held_reason", sa.Text(), server_default="", nullable=False)
    )
    op.add_column("lanes", sa.Column("sealed", _PK))
    op.create_table(
        "batch_holds",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "batch"),
    )


def downgrade() -> None:
    op.drop_table("batch_holds")
    op.drop_column("lanes", "sealed")
    op.drop_column("accounts", "held_reason")
    op.drop_column("accounts", "held_since")
