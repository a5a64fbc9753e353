"""
On a server, indexes whose rows are taken in the order of their primary key end with it, as they do
by themselves on SQLite: what is due at the same instant need not be sorted, however much it is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


#: Each with its columns, but for the key, and its condition.
INDEXES = {
    "messages_claim": (("lane", "claim_at"), "claim_at IS NOT NULL"),
    "messages_destination": (("tenant_id", "destination"), "destination IS NOT NULL"),
}


def _anew(*more: str) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for name, (columns, condition) in INDEXES.items():
        op.drop_index(name, "messages")
        op.create_index(name, "messages", [*columns, *more], postgresql_where=sa.text(condition))


def upgrade() -> None:
    _anew("pk")


def downgrade() -> None:
    _anew()
