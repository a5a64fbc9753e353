"""Messages that are not to be sent any more from an instant of their own on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("not_after", sa.Float()))


def downgrade() -> None:
    op.drop_column("messages", "not_after")
