"""
The one thread that writes, and its group commit.

Callers hand in works. The thread begins a transaction, takes all that wait, runs them, commits
once, and has all their Deferreds fired together in the reactor. There is no delay timer: what
gathers during one commit is the next group.

Works that wait together are concurrent. Those of one kind run together, as one call in their order
of arrival (:class:`Kind`); each such group has a savepoint, and when it fails its works run one by
one, each with a savepoint of its own, so that one that fails undoes no other.

Nothing is taken from the queue before the transaction has begun: while another process has the
database, works can still be withdrawn.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailproxy.errors import MailProxyError, StoreBusy, StoreError, StoreUnavailable
from mailproxy.interfaces import crashpoint
from mailproxy.store.database import available
from mailproxy.store.lending import Lending
from mailproxy.store.refusals import DATABASE_ERRORS, OBJECTIONS
from mailproxy.store.transaction import Finished, Limited, Transaction
from mailproxy.store.works import Committed, Kind, Work
from mailproxy.turns import Sends

C = TypeVar("C")
R = TypeVar("R")

#: The most rows of one kind that a transaction takes on, roughly; a single work may be larger.
GROUP_ROWS = 1000

_log = Logger()


class Writer:
    """
    :param deliver: runs a function in the reactor's thread.
    :param told: called there with each :class:`Committed`, after the Deferreds fired.
    :param begin: makes the :class:`Transaction` of a cursor.
    :param committed: given a serial number, whether the transaction that wrote it is stored, as a
        fresh connection sees it.
    :param inline: run each work at once, in the caller's thread.
    :param at_end: of the reactor's turn, where transactions begin then, see
        :mod:`mailproxy.store.lending`; None to begin as soon as something waits.
    """

    def __init__(
        self,
        clock: IReactorTime,
        deliver: Callable[..., None],
        told: Callable[[Committed], None],
        begin: Callable[[sqlite3.Cursor], Transaction],
        committed: Callable[[int], bool],
        *,
        busy_seconds: float,
        inline: bool,
        at_end: Sends | None = None,
    ) -> None:
        self._clock = clock
        self._deliver = deliver
        self._told = told
        self._begin = begin
        self._committed = committed
        self._busy_seconds = busy_seconds
        self._inline = inline
        self._lending = None if at_end is None else Lending(at_end, self._let_begin)
        self._go = at_end is None
        self._ready = threading.Condition()
        self._queue: deque[Work] = deque()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._stopped: Deferred[None] | None = None
        self._serial = 0
        self._rows = 0
        self._connection: sqlite3.Connection | None = None
        #: Whether the last transaction went through.
        self.healthy = True

    def start(self, connection: sqlite3.Connection, serial: int) -> None:
        """Write through *connection* from now on; *serial* is the one stored last."""
        self._connection = connection
        self._serial = serial
        self._closing = False
        if not self._inline:
            self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
            self._thread.start()

    def stop(self) -> Deferred[None]:
        """Take no more works; fires when those that wait are done and the thread has ended."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        stopped: Deferred[None] = Deferred()
        if self._thread is None:
            stopped.callback(None)
        self._stopped = stopped
        return stopped

    @property
    def closing(self) -> bool:
        """Whether it takes no more works."""
        return self._closing

    def submit(self, kind: Kind[C, R], call: C, deadline: float | None = None) -> Deferred[R]:
        """
        Have *call* done in the next transaction.

        :param deadline: seconds after which it is withdrawn if no transaction has it by then.
        :return: fires after the commit; cancelling it detaches from the work, which goes on.
        """
        work = Work(kind, call, Deferred(lambda _: None), self._clock.seconds(), kind.rows(call))
        with self._ready:
            if self._closing or self._connection is None:
                work.done.errback(StoreUnavailable("the store is closed"))
                return work.done
            self._queue.append(work)
        if self._lending is not None:
            self._lending.ask()
        elif not self._inline:
            self._let_begin()
        if self._inline:
            self._transact()
        elif deadline is not None:
            work.timer = self._clock.callLater(deadline, self._withdraw, work)
        return work.done

    def _let_begin(self) -> bool:
        """:return: whether anything waits."""
        with self._ready:
            self._go = True
            self._ready.notify()
            return bool(self._queue)

    def _withdraw(self, work: Work) -> None:
        with self._ready:
            try:
                self._queue.remove(work)
            except ValueError:
                return  # a transaction has it: its end is waited for
        work.result = Failure(StoreBusy("the store did not get to it in time"))
        work.fire()

    def _loop(self) -> None:
        while True:
            with self._ready:
                while not (self._queue and self._go) and not self._closing:
                    self._ready.wait()
                self._go = self._lending is None
                done = not self._queue
            if done:
                self._deliver(self._ended)
                return
            try:
                self._transact()
            except Exception as error:  # a bug: whatever it is, the thread has to live
                self._failed("the store's writer raised: {error}", error)
            if self._lending is not None:
                self._lending.enough()
                self._deliver(self._lending.told, self._rows)

    def _ended(self) -> None:
        assert self._thread is not None
        assert self._stopped is not None
        self._thread.join()
        self._thread = None
        self._stopped.callback(None)

    def _transact(self) -> None:
        """One transaction over what waits."""
        assert self._connection is not None
        cursor = self._connection.cursor()
        try:
            error: MailProxyError | None = self._enter(cursor)
        except Exception as bug:
            error = self._lost(cursor, bug)
        works = self._take()
        finished = self._refuse(works, error) if error else self._group(cursor, works)
        if finished.works:
            self._mark(finished.works)
            self._deliver(self._tell, finished)

    def _mark(self, works: Sequence[Work]) -> None:
        """Pass the crash points of what was stored."""
        marks = (work.kind.mark for work in works if not isinstance(work.result, Failure))
        try:
            for mark in dict.fromkeys(filter(None, marks)):
                crashpoint(mark)
        except Exception:  # it is stored, and its callers have to know
            _log.failure("who watches the crash points raised")

    def _enter(self, cursor: sqlite3.Cursor) -> StoreError | None:
        """Begin; while the database is locked try again, until the oldest work waited too long."""
        self._rollback(cursor)  # where one failed before
        while True:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except DATABASE_ERRORS as error:
                if not _busy(error) or self._inline or self._waited() > self._busy_seconds:
                    self._failed("cannot begin a transaction: {error}", error)
                    return available(error)
            else:
                return None

    def _waited(self) -> float:
        with self._ready:
            if not self._queue or self._closing:
                return float("inf")
            return self._clock.seconds() - self._queue[0].since

    def _take(self) -> list[Work]:
        """
        The works of one transaction: of each kind in order of arrival, the first whatever its size.

        Those that do not fit wait, but those of another kind do not wait for them: an intent is
        not behind a large submission.
        """
        works: list[Work] = []
        left: deque[Work] = deque()
        rows: dict[Kind[Any, Any], int] = {}
        with self._ready:
            for work in self._queue:
                taken = rows.get(work.kind, 0)
                if taken and taken + work.rows > GROUP_ROWS:
                    rows[work.kind] = GROUP_ROWS  # nor does a smaller one overtake it
                    left.append(work)
                else:
                    rows[work.kind] = taken + work.rows
                    works.append(work)
            self._queue = left
        self._rows = sum(rows.values())
        return works

    def _group(self, cursor: sqlite3.Cursor, works: list[Work]) -> Committed:
        """Run *works* and commit; where the disk refuses, each once more by itself."""
        try:
            return self._commit(cursor, works)
        except Exception as error:  # a bug as well: the thread has to live, callers need an answer
            refusal = self._lost(cursor, error)
            if not self._worth_a_try(error, works):
                return self._refuse(works, refusal)
        # A small outcome may still fit where a large submission did not.
        done = [self._single(cursor, work) for work in works]
        return Committed(
            works,
            frozenset().union(*(each.due for each in done)),
            frozenset().union(*(each.reportable for each in done)),
            tuple(end for each in done for end in each.finished),
            tuple(each for one in done for each in one.limited),
        )

    def _worth_a_try(self, error: Exception, works: list[Work]) -> bool:
        return len(works) > 1 and isinstance(error, DATABASE_ERRORS)

    def _single(self, cursor: sqlite3.Cursor, work: Work) -> Committed:
        try:
            cursor.execute("BEGIN IMMEDIATE")
            return self._commit(cursor, [work])
        except Exception as error:  # what its neighbours have committed stays
            return self._refuse([work], self._lost(cursor, error))

    def _lost(self, cursor: sqlite3.Cursor, error: Exception) -> MailProxyError:
        """The transaction is rolled back. :return: what its callers are told."""
        if isinstance(error, DATABASE_ERRORS):
            self._rollback(cursor)
            self._failed("a transaction failed: {error}", error)
            return available(error)
        _log.failure("the store's writer raised")
        self.healthy = False
        self._rollback(cursor)
        return StoreUnavailable("an error in the store; see its log")

    def _commit(self, cursor: sqlite3.Cursor, works: list[Work]) -> Committed:
        """:raises sqlite3.Error: nothing of it is stored."""
        began = self._clock.seconds()
        changes = cursor.connection.total_changes
        due: set[int] = set()
        reportable: set[str] = set()
        finished: list[Finished] = []
        limited: list[Limited] = []
        groups: dict[Kind[Any, Any], list[Work]] = {}
        for work in sorted(works, key=lambda work: work.kind.ahead is None):
            groups.setdefault(work.kind, []).append(work)
        self._foresee(cursor, groups)
        for kind, group in groups.items():
            tx = self._run(cursor, kind, group)
            due |= tx.due
            reportable |= tx.reportable
            finished += tx.finished
            limited += tx.limited
        changed = cursor.connection.total_changes != changes
        self._end(cursor, changed)
        self.healthy |= changed  # where nothing was written, nothing is known of the disk
        told = tuple(finished), tuple(limited), self._clock.seconds() - began
        return Committed(works, frozenset(due), frozenset(reportable), *told)

    def _foresee(self, cursor: sqlite3.Cursor, groups: dict[Kind[Any, Any], list[Work]]) -> None:
        """Ask together what *groups* will ask first, where each question costs a step."""

    def _run(self, cursor: sqlite3.Cursor, kind: Kind[Any, Any], group: list[Work]) -> Transaction:
        tx = self._begin(cursor)
        failure = self._attempt(tx, kind, group)
        if failure is None:
            return tx
        if len(group) == 1:
            group[0].result = failure
            return tx
        for work in group:
            each = self._begin(cursor)
            failure = self._attempt(each, kind, [work])
            if failure is not None:
                work.result = failure
            tx.due |= each.due
            tx.reportable |= each.reportable
            tx.finished += each.finished
            tx.limited += each.limited
        return tx

    def _attempt(self, tx: Transaction, kind: Kind[Any, Any], group: list[Work]) -> Failure | None:
        """
        Run *group* in a savepoint. :return: why it was rolled back, if it was.

        :raises sqlite3.Error: the whole transaction is lost.
        """
        cursor = tx.cursor
        cursor.execute("SAVEPOINT work")
        try:
            results = kind.run(tx, [work.call for work in group])
            tx.flush()
            for work, result in zip(group, results, strict=True):
                work.result = result
        except Exception as error:
            if isinstance(error, DATABASE_ERRORS) and not isinstance(error, OBJECTIONS):
                raise
            failure = Failure()
            if not isinstance(error, (MailProxyError, ValueError)):
                _log.failure("a work in the store raised", failure)
                failure = Failure(StoreUnavailable("an error in the store; see its log"))
            cursor.execute("ROLLBACK TO work")
            cursor.execute("RELEASE work")
            tx.forget()
            return failure
        cursor.execute("RELEASE work")
        return None

    def _end(self, cursor: sqlite3.Cursor, changed: bool) -> None:
        """COMMIT; when that raises, look whether it took place all the same."""
        if changed:
            self._serial = self._numbered(cursor)
        if self._lending is not None:
            self._lending.enough()
        try:
            cursor.execute("COMMIT")
        except DATABASE_ERRORS:
            self._rollback(cursor)
            if not self._committed(self._serial):
                raise

    def _numbered(self, cursor: sqlite3.Cursor) -> int:
        """Give the transaction a number, and store that with it."""
        serial = self._serial + 1
        cursor.execute("UPDATE settings SET value=? WHERE name='serial'", (serial,))
        return serial

    def _rollback(self, cursor: sqlite3.Cursor) -> None:
        if cursor.connection.in_transaction:
            try:
                cursor.execute("ROLLBACK")
            except DATABASE_ERRORS as error:
                self._failed("cannot roll back: {error}", error)

    def _failed(self, template: str, error: Exception) -> None:
        if self.healthy:
            _log.error(template, error=str(error))
        self.healthy = False

    def _refuse(self, works: list[Work], error: MailProxyError) -> Committed:
        for work in works:
            work.result = Failure(error)
        return Committed(works)

    def _tell(self, committed: Committed) -> None:
        for work in committed.works:
            work.fire()
        self._told(committed)


def _busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
