"""
The PostgreSQL server: how a node connects to it, and what it has to be like.

A connection that hangs holds up nobody for long: neither this node, nor the others while it is in
the middle of a transaction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import attrs
import psycopg
from twisted.logger import Logger

from mailproxy.errors import StoreRefused
from mailproxy.store.postgres_driver import Connection
from mailproxy.store.postgres_values import adapt
from mailproxy.store.refusals import ServerError

#: The oldest server whose words are spoken here (``pg_current_xact_id``).
OLDEST = 130000

#: Seconds between two tries to connect: doubled each time, up to the second.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0

#: For the client's library: nobody waits for a dead network longer than these seconds.
NETWORK: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}

# The planner may not choose: with the statistics of the day it takes plans whose cost grows with
# the queue. What a commit has acknowledged is on the disk, whatever the server's own setting. A
# node that hangs in the middle of a transaction, while all others wait for it, is thrown out.
_SESSION = (
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; "
    "SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET plan_cache_mode = force_generic_plan; SET jit = off; "
    "SET lock_timeout = '5s'; SET statement_timeout = '60s'; "
    "SET idle_in_transaction_session_timeout = '10s'; SET timezone = 'UTC'; "
    "SET bytea_output = 'hex'; "
    "SELECT set_config('synchronous_commit', "
    "CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on' "
    "ELSE current_setting('synchronous_commit') END, false)"
)

_log = Logger()


@attrs.define(eq=False)
class Server:
    """
    :param url: ``postgresql://user:password@host/database``; never shown.
    :param patience: seconds for which a lost server is waited for, from when it was lost.
    :param name: of the node, for the server's list of connections.
    """

    url: str = attrs.field(repr=False)
    patience: float
    name: str
    seconds: Callable[[], float] = time.monotonic
    _closing: threading.Event = attrs.field(factory=threading.Event)
    _lost_at: float | None = None
    _pause: float = FIRST_PAUSE
    _next: float = 0.0

    def open(self) -> Connection:
        """
        The connection that writes: when it is lost it is made again, with :attr:`patience`.

        :raises StoreRefused: the server cannot be reached, or the store could not be kept in it.
        """
        self._closing.clear()
        try:
            connection = Connection(self.connect, self.reconnected)
        except ServerError as error:
            raise StoreRefused(f"cannot open the database: {error}") from None
        try:
            self._examine(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def open_reader(self) -> Any:
        """A connection that sees one commit in all statements of a transaction."""
        return Connection(self.connect, self.connect)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._closing.set()

    def reconnected(self) -> psycopg.Connection[Any]:
        """
        Connect, if need be with several tries.

        :raises ServerError: the server has been away for too long.
        """
        if self._lost_at is None:
            self._lost_at = self.seconds()
        while True:
            left = self._next - self.seconds()
            over = self.seconds() - self._lost_at >= self.patience
            if left > 0.0 and (over or self._closing.wait(left)):
                raise ServerError("the database is away", lost=True)
            try:
                made = self.connect()
            except ServerError as error:
                self._next = self.seconds() + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                if self._closing.is_set() or self.seconds() - self._lost_at >= self.patience:
                    raise
                _log.debug("connecting again: {error}", error=error)
            else:
                self._lost_at, self._pause, self._next = None, FIRST_PAUSE, 0.0
                return made

    def connect(self) -> psycopg.Connection[Any]:
        """:raises ServerError: it cannot be had, now."""
        try:
            raw: psycopg.Connection[Any] = psycopg.connect(
                self.url,
                autocommit=True,
                prepare_threshold=2,
                application_name=f"mailproxy {self.name}",
                **NETWORK,
            )
        except psycopg.Error as error:
            raise ServerError(str(error).strip().split("\n")[0], lost=True) from None
        raw.prepared_max = 2000
        adapt(raw)
        try:
            raw.execute(_SESSION, prepare=False)
        except psycopg.Error as error:
            raw.close()
            raise ServerError(str(error).strip().split("\n")[0], lost=True) from None
        return raw

    def _examine(self, connection: Connection) -> None:
        info = connection.raw().info
        if info.server_version < OLDEST:
            raise StoreRefused(
                f"the PostgreSQL server is version {info.server_version // 10000}; "
                f"{OLDEST // 10000} or newer is needed"
            )
        (encoding,) = connection.execute("SHOW server_encoding").fetchone()
        if encoding != "UTF8":
            raise StoreRefused(f"the database is encoded in {encoding}; it has to be in UTF8")
