"""Connections that read, on a server that may go away: a read that was cut off is done again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mailproxy.store.database import available
from mailproxy.store.readers import Readers, snapshot
from mailproxy.store.refusals import ServerError

T = TypeVar("T")


class ServerReaders(Readers):
    """As :class:`~mailproxy.store.readers.Readers`, each thread with its own connection."""

    def _run(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        again = True
        while True:
            try:
                with snapshot(self._connection()) as cursor:
                    return function(cursor, *args)
            except ServerError as error:
                if error.lost:
                    self._forget()
                if not (error.lost and again):
                    raise available(error) from error
                again = False

    def _forget(self) -> None:
        """The next read of this thread has a new connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            if connection in self._opened:  # else all are being closed
                self._opened.remove(connection)
            connection.close()
