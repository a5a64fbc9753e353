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

#: Columns whose values are not squeezed: the time it takes is more than a message costs otherwise.
#: Texts are gone when the message is sent; what is attached is squeezed already, mostly.
AS_THEY_ARE = {"texts": "text", "chunks": "data"}


def upgrade() -> None:
    op.add_column("nodes", sa.Column("serial", sa.BigInteger(), server_default="0", nullable=False))
    if op.get_bind().dialect.name == "postgresql":
        for table, percent in FILLED.items():
            op.execute(f"ALTER TABLE {table} SET (fillfactor = {percent})")
        for table, column in AS_THEY_ARE.items():
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
            op.execute(f"ALTER TABLE {table} SET (toast_tuple_target = 8160)")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, column in AS_THEY_ARE.items():
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTENDED")
            op.execute(f"ALTER TABLE {table} RESET (toast_tuple_target)")
        for table in FILLED:
            op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
    op.drop_column("nodes", "serial")
