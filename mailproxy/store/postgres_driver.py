"""
A connection to a PostgreSQL server with the face of SQLite's, which is what the store speaks to.

Statements come as SQLite is given them and are translated; transactions begin and end when they
are told to. A connection that was lost is made again when the next transaction begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import Connection as Raw
from psycopg.pq import TransactionStatus

from mailproxy.store.compiling import Bulk
from mailproxy.store.postgres_sql import Translated, translated, translated_bulk
from mailproxy.store.postgres_values import ARRAYS, keys
from mailproxy.store.postgres_wire import Answer, Said, Wire
from mailproxy.store.refusals import LateObjection, ServerError, ServerObjection

#: Held by a transaction that writes.
WRITERS = 0x6D61696C70726F78

#: What most stores have nothing of, and nearly every work asks for: it is told when the transaction
#: begins, by the table. Anything that is written there makes it be asked for again.
SELDOM = ("rates", "destinations")

#: One transaction writes at a time, whichever node it is of, as on SQLite: what it read stays true
#: until it ends. The lock ends with it, or with its connection.
_LOCK = f"SELECT pg_advisory_xact_lock({WRITERS})"

# Behind the lock. The server's number of the transaction is there from its beginning, so that its
# end needs no answer of its own.
_LOOK = (
    "SELECT value, CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT), EXISTS ("
    "SELECT FROM nodes WHERE id <> $1 AND alive_until > EXTRACT(EPOCH FROM clock_timestamp())), "
    f"{', '.join(f'EXISTS (SELECT FROM {table})' for table in SELDOM)} "
    "FROM settings WHERE name = 'greatest_pk'"
)

BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

_COMMIT, _RELEASE, _SAVEPOINT = "COMMIT", "RELEASE work", "SAVEPOINT work"


class Connection:
    """
    :param connect: makes the server's connection.
    :param reconnect: makes another, when that was lost.

    :raises ServerError: whatever it is asked for.
    """

    def __init__(self, connect: Callable[[], Raw[Any]], reconnect: Callable[[], Raw[Any]]) -> None:
        self._reconnect = reconnect
        self._raw: Raw[Any] | None = connect()
        self._wire = Wire(self._raw)
        #: Rows changed so far; of statements whose answer nobody waits for, statements.
        self.total_changes = 0
        #: Whether the transaction has a savepoint that is to be used, and one that was.
        self.unused = self.used = False
        #: Statements whose answer nobody waits for: they go with the next that has one.
        self.later: list[Said] = []
        #: Where among them the last savepoint is made, if it is; those before are of other parts.
        self.mark: int | None = None
        #: Answers that are there already, by the text and the values; each is good once.
        self.foreseen: dict[tuple[str, tuple[Any, ...]], Answer] = {}
        #: Tables of :data:`SELDOM` that are known to be empty.
        self.empty: set[str] = set()
        #: The server's number of the transaction.
        self.number = 0
        #: Whose connection it is, and whether no other node lived when the transaction began.
        self.node = ""
        self.alone = False
        #: Called when a transaction that writes has begun, with the greatest primary key so far.
        self.began: Callable[[int], None] = lambda _greatest: None

    def cursor(self) -> Cursor:
        return Cursor(self)

    def execute(self, text: str, values: Sequence[Any] = ()) -> Cursor:
        return self.cursor().execute(text, values)

    def raw(self) -> Raw[Any]:
        """:raises ServerError: it is lost."""
        if self._raw is None or self._raw.closed:
            raise ServerError("the connection to the database was lost", lost=True)
        return self._raw

    def again(self) -> None:
        """Connect anew if it was lost."""
        if self._raw is None or self._raw.closed:
            self._raw = self._reconnect()
            self._wire = Wire(self._raw)

    def said(self, sql: str, values: Sequence[Any] = ()) -> Said:
        """:raises ServerError: these are no values for the database, or the connection is lost."""
        self.raw()
        try:
            return self._wire.said(sql, values)
        except psycopg.Error as error:
            raise self.refused(error) from error

    def converse(self, said: Sequence[Said]) -> list[Answer]:
        """
        :return: an answer to each.
        :raises ServerError: one was refused, or the connection is lost.
        """
        self.raw()
        try:
            return self._wire.converse(said)
        except psycopg.Error as error:
            raise self.refused(error) from error

    @property
    def in_transaction(self) -> bool:
        raw = self._raw
        return (
            raw is not None
            and not raw.closed
            and raw.info.transaction_status is not TransactionStatus.IDLE
        )

    def refused(self, error: psycopg.Error) -> ServerError:
        """What is raised in place of *error*; nothing of the data is in it."""
        lost = self._raw is None or self._raw.closed
        said = error.diag.message_primary or str(error).strip().split("\n")[0]
        if not lost and isinstance(
            error, (psycopg.IntegrityError, psycopg.DataError, psycopg.ProgrammingError)
        ):
            return ServerObjection(f"{type(error).__name__} ({error.sqlstate})")
        return ServerError(said, lost=lost)

    def close(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None


class Cursor:
    """What the store uses of a cursor."""

    __slots__ = ("_answer", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._answer: Answer | None = None

    def execute(self, text: str, values: Sequence[Any] = ()) -> Cursor:
        control = _CONTROL.get(text)
        if control is not None:
            control(self)
            return self
        foreseen = self.connection.foreseen
        if foreseen and (known := foreseen.pop((text, tuple(values)), None)) is not None:
            self._answer = known
            return self
        statement = translated(text)
        if statement.seldom in self.connection.empty:
            self._answer = Answer([], 0, "")
            return self
        answer = self._run(statement.sql, _given(statement, values))
        if statement.writes:
            self.connection.total_changes += answer.rowcount
            self._written(statement.sql)
        return self

    def executemany(self, text: str, rows: Sequence[Sequence[Any]]) -> Cursor:
        for row in rows:
            self.tell(text, row)
        return self

    def tell(self, text: str, values: Sequence[Any] = ()) -> None:
        """Have a statement done that changes rows, and wait for no answer to it."""
        statement = translated(text)
        self._put_off(statement.sql, _given(statement, values))

    def add(self, statement: Bulk, rows: Sequence[Sequence[Any]]) -> None:
        """Have *statement* done for all *rows* in one step."""
        made = translated_bulk(statement)
        arrays = [
            ARRAYS[type_](values)
            for type_, values in zip(made.types, zip(*rows, strict=True), strict=True)
        ]
        self._put_off(made.sql, arrays)

    def _put_off(self, sql: str, values: Sequence[Any]) -> None:
        self.connection.later.append(self.connection.said(sql, values))
        self.connection.total_changes += 1
        self._written(sql)

    def _written(self, sql: str) -> None:
        empty = self.connection.empty
        if empty:
            empty.difference_update([table for table in empty if table in sql])

    def fetchone(self) -> Any:
        assert self._answer is not None
        return self._answer.fetchone()

    def fetchall(self) -> list[Any]:
        assert self._answer is not None
        return self._answer.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

    @property
    def rowcount(self) -> int:
        assert self._answer is not None
        return self._answer.rowcount

    def _begin_writing(self) -> None:
        connection = self.connection
        connection.again()
        self._forget()
        try:
            row = self._begun()
        except ServerError as error:
            if not error.lost:
                raise
            # It went away while nothing was asked of it.
            connection.again()
            row = self._begun()
        if row is None:
            raise ServerError("the database is no store")
        greatest, connection.number, others, *filled = row
        connection.alone = not others
        connection.empty = {name for name, some in zip(SELDOM, filled, strict=True) if not some}
        connection.unused, connection.used = True, False
        connection.began(int(greatest))

    def _begun(self) -> Any:
        connection = self.connection
        look = connection.said(_LOOK, (connection.node,))
        said = [Said("BEGIN"), Said(_LOCK), look, Said(_SAVEPOINT)]
        return connection.converse(said)[2].fetchone()

    def _begin_reading(self) -> None:
        self._forget()
        self.connection.later.append(Said(BEGIN_READING))  # with the first question

    # A step to the server for each of these would cost as much as a statement: the first savepoint
    # comes with the transaction, the others with the first statement behind them that is waited
    # for; and the last is released by the commit.

    def _savepoint(self) -> None:
        connection = self.connection
        if connection.unused and not connection.later:
            connection.unused = False
        elif connection.unused or connection.used:
            connection.unused = connection.used = False
            connection.mark = len(connection.later)
            connection.later += (Said(_RELEASE), Said(_SAVEPOINT))

    def _release(self) -> None:
        self.connection.used = True

    def _back(self) -> None:
        connection = self.connection
        connection.foreseen.clear()
        if connection.mark is not None:
            del connection.later[connection.mark :]  # of this part the server knows nothing
            connection.mark = None
            return
        connection.later.clear()
        self._run("ROLLBACK TO work")

    def _commit(self) -> None:
        if self._run(_COMMIT).status != _COMMIT:
            raise ServerError("the transaction was rolled back")

    def _rollback(self) -> None:
        self._forget()
        self._run("ROLLBACK")

    def _forget(self) -> None:
        self.connection.later.clear()
        self.connection.foreseen.clear()
        self.connection.mark = None

    def _run(self, sql: str, values: Sequence[Any] = ()) -> Answer:
        """Ask for *sql*, and for what was put off before it."""
        (self._answer,) = self._together([self.connection.said(sql, values)])
        return self._answer

    def ask(self, questions: Sequence[tuple[str, tuple[Any, ...]]]) -> list[list[Any]]:
        """The rows of each of these statements, which change none, in one step."""
        foreseen = self.connection.foreseen
        if all(question in foreseen for question in questions):
            return [foreseen.pop(question).fetchall() for question in questions]
        return [answer.fetchall() for answer in self._asked(questions)]

    def foresee(self, questions: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        """Ask what will be asked soon: the first who does has the answer already."""
        answers = self._asked(questions)
        self.connection.foreseen.update(zip(questions, answers, strict=True))

    def _asked(self, questions: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Answer]:
        made = [(translated(text), values) for text, values in questions]
        said = [self.connection.said(each.sql, _given(each, values)) for each, values in made]
        return self._together(said)

    def _together(self, said: Sequence[Said]) -> list[Answer]:
        """
        Say what was put off, and *said*, and wait for it all. :return: the answers to *said*.

        :raises LateObjection: something of a part before this one was among it.
        """
        connection = self.connection
        later, connection.later = connection.later, []
        mark, connection.mark = connection.mark, None
        try:
            return connection.converse([*later, *said])[len(later) :]
        except ServerObjection as error:
            if mark:
                raise LateObjection(str(error)) from error
            raise


def _given(statement: Translated, values: Sequence[Any]) -> list[Any]:
    """*values* in the order of the server's parameters."""
    given = [values[place] for place in statement.places]
    for n in statement.lists:
        given[n] = keys(given[n])
    return given


#: What the store says of its transactions, in SQLite's words.
_CONTROL: dict[str, Callable[[Cursor], None]] = {
    "BEGIN IMMEDIATE": Cursor._begin_writing,
    "BEGIN": Cursor._begin_reading,
    "SAVEPOINT work": Cursor._savepoint,
    "RELEASE work": Cursor._release,
    "ROLLBACK TO work": Cursor._back,
    "COMMIT": Cursor._commit,
    "ROLLBACK": Cursor._rollback,
}
