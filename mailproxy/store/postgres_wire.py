"""
Statements go to a PostgreSQL server together, and their answers come together.

All that is said at once is written in one go, and read when it is there: the thread lets go of the
interpreter once, where the driver's cursors would several times for each statement. What a server
has understood once it is not told again: every statement stays prepared as long as its connection.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import psycopg
from psycopg import Connection as Raw
from psycopg.abc import Buffer
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult


@attrs.frozen
class Said:
    """A statement, and its values as the server is given them."""

    sql: str
    types: tuple[int, ...] = ()
    values: Sequence[Buffer | None] = ()
    formats: Sequence[Format] = ()


#: The most statements that stay prepared; the store has some hundreds.
MOST_PREPARED = 2000

_REFUSED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


@attrs.frozen
class _Prepared:
    """:param name: "" for a statement that is not kept."""

    sql: str
    types: tuple[int, ...]
    name: bytes


class Answer:
    """What a statement came to."""

    __slots__ = ("_rows", "rowcount", "status")

    def __init__(self, rows: list[Any], rowcount: int, status: str) -> None:
        self._rows = rows
        #: Rows changed, or found.
        self.rowcount = rowcount
        #: What the server calls it: ``COMMIT``, ``ROLLBACK``, ...
        self.status = status

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows


class Wire:
    """:param raw: a connection that nobody else speaks through."""

    def __init__(self, raw: Raw[Any]) -> None:
        self._pgconn = raw.pgconn
        self._values = Transformer(raw)
        self._poll = select.poll()
        self._poll.register(raw.fileno())
        self._known: dict[tuple[str, tuple[int, ...]], bytes] = {}  # by text and types
        self._named = 0

    def said(self, sql: str, values: Sequence[Any]) -> Said:
        """:raises psycopg.Error, ValueError: these are no values that could be stored."""
        if not values:
            return Said(sql)
        dumped = self._values.dump_sequence(values, [PyFormat.AUTO] * len(values))
        return Said(sql, self._values.types or (), dumped, self._values.formats or ())

    def converse(self, said: Sequence[Said]) -> list[Answer]:
        """
        Have all statements done, in order, up to the first that the server refuses.

        :return: an answer for each.
        :raises psycopg.Error: why it was refused; or the connection is lost.
        """
        self._pgconn.enter_pipeline_mode()
        coming: list[_Prepared | None] = []
        for each in said:
            self._say(each, coming)
        self._pgconn.pipeline_sync()
        self._write()
        answers: list[Answer] = []
        refusal: psycopg.Error | None = None
        for prepared, result in zip(coming, self._results(), strict=True):
            if result.status in _REFUSED:
                refusal = refusal or error_from_result(result)
            elif result.status == ExecStatus.PIPELINE_ABORTED:
                continue
            elif prepared is None:
                answers.append(self._answer(result))
            elif prepared.name:
                self._known[prepared.sql, prepared.types] = prepared.name
        self._pgconn.exit_pipeline_mode()
        if refusal is not None:
            raise refusal
        return answers

    def _say(self, said: Said, coming: list[_Prepared | None]) -> None:
        """:param coming: for each answer to come what is prepared then; None for a statement's."""
        name = self._known.get((said.sql, said.types))
        if name is None:
            self._named += 1
            name = b"m%d" % self._named if len(self._known) < MOST_PREPARED else b""
            self._pgconn.send_prepare(name, said.sql.encode(), said.types)
            coming.append(_Prepared(said.sql, said.types, name))
        self._pgconn.send_query_prepared(name, said.values, said.formats, Format.BINARY)
        coming.append(None)

    def _write(self) -> None:
        """Give it all to the system, and read meanwhile: the server may wait for that."""
        while self._pgconn.flush():
            self._wait(select.POLLIN | select.POLLOUT)

    def _wait(self, events: int) -> None:
        self._poll.modify(self._pgconn.socket, events)
        ((_, found),) = self._poll.poll()
        if found & ~select.POLLOUT:
            self._pgconn.consume_input()

    def _results(self) -> Iterator[PGresult]:
        """Until the server has seen all that was said."""
        while True:
            while self._pgconn.is_busy():
                self._wait(select.POLLIN)
            result = self._pgconn.get_result()
            if result is None:  # the end of one statement's
                if self._pgconn.status == ConnStatus.BAD:
                    raise psycopg.OperationalError("the connection is lost")
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return
            else:
                yield result

    def _answer(self, result: PGresult) -> Answer:
        status = (result.command_status or b"").decode()
        if result.status != ExecStatus.TUPLES_OK:
            return Answer([], result.command_tuples or 0, status)
        values = self._values
        values.set_pgresult(result)
        rows: list[Any] = values.load_rows(0, result.ntuples, tuple)
        return Answer(rows, len(rows), status)
