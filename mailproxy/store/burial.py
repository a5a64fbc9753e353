"""What remains of a transaction whose COMMIT failed, and how it is kept from coming back."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

# Another value each time: an update that changes no byte is not written.
_INSTEAD = (
    "INSERT INTO settings (name, value) VALUES ('buried', ?) "
    "ON CONFLICT (name) DO UPDATE SET value=excluded.value"
)


def bury(connection: sqlite3.Connection, serial: int) -> None:
    """
    Write over the transaction *serial*, whose COMMIT could not be synced.

    It stands complete in the write-ahead log. No connection looks at it there, but after a crash
    the log is read anew: what was refused would be found, and sent. The first frame of another
    transaction in its place makes all of its frames invalid. Whether that one is synced matters
    only to a machine that fails as well; its own content is of no account.

    Where the disk does not take this either, the next transaction that it takes does the same.
    """
    with suppress(sqlite3.Error):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_INSTEAD, (str(serial),))
        connection.execute("COMMIT")
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
