"""
What databases raise, whichever it is.

The driver of a database server need not be installed, so its errors are translated into these.
"""

from __future__ import annotations

import sqlite3


class ServerError(Exception):
    """
    The database server refused, or went away: the transaction is lost.

    :param lost: whether the connection is; then what it was asked for may be asked again.
    """

    def __init__(self, said: str, *, lost: bool = False) -> None:
        super().__init__(said)
        self.lost = lost


class ServerObjection(ServerError):
    """The server objects to one statement; a savepoint before it can be gone back to."""


class LateObjection(ServerError):
    """
    The server objects to a statement that nobody waited for, of this part of the transaction or of
    one before: all of it is lost, and each work is done again by itself.
    """


#: Whatever a database raises.
DATABASE_ERRORS = (sqlite3.Error, ServerError)

#: Those that leave the rest of the transaction as it was.
OBJECTIONS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, ServerObjection)
