"""What a node says of itself; and on a server, an index to what nodes have leases on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("version", "host"):
        op.add_column("nodes", sa.Column(name, sa.Text(), server_default="", nullable=False))
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "messages_leased",
            "messages",
            ["lease_owner"],
            postgresql_where=sa.text("lease_owner IS NOT NULL"),
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("messages_leased", "messages")
    for name in ("host", "version"):
        op.drop_column("nodes", name)
