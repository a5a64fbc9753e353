"""The number of a node's last transaction; and on a server, room for rows that change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

#: Percent of a page that new rows fill. A row that changes no column of an index can be written
#: anew on its own page, and no index learns of it: each of these is changed after it was made.
FILLED = {
    "messages": 50,
    "recipients": 60,
    "attempts": 60,
    "lanes": 50,
    "nodes": 50,
    "settings": 50,
}


def upgrade() -> None:
    op.add_column("nodes", sa.Column("serial", sa.BigInteger(), server_default="0", nullable=False))
    if op.get_bind().dialect.name == "postgresql":
        for table, percent in FILLED.items():
            op.execute(f"ALTER TABLE {table} SET (fillfactor = {percent})")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in FILLED:
            op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
    op.drop_column("nodes", "serial")
