"""What remains of a transaction whose COMMIT failed, and how it is kept from coming back."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

# Another value each time: an update that changes no byte is not written.
_INSTEAD = (
    "INSERT INTO settings (name, value) VALUES ('buried', ?) "
    "ON CONFLICT (name) DO UPDATE SET value=excluded.value"
)


def bury(connection: sqlite3.Connection, serial: int) -> bool:
    """
    Write over the transaction *serial*, whose COMMIT could not be synced.

    It stands complete in the write-ahead log. No connection looks at it there, but after a crash
    the log is read anew: what was refused would be found, and sent. The first frame of another
    transaction in its place makes all of its frames invalid; its own content is of no account.

    Where this one is not synced either, its writing still makes an end of the other for whoever
    reads the log after the process died. After a loss of power any part of either may be there:
    nothing that a disk does not take can change what it has. The next transaction that is synced
    stands in the same place and makes it certain.

    :return: whether it is synced: the other will not come back, whatever happens.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_INSTEAD, (str(serial),))
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        return False
    return True
