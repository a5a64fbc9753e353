"""The writer's thread: who shares a commit, who fails alone, who is withdrawn, what is known."""

from __future__ import annotations

import sqlite3
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import StoreBusy, StoreUnavailable
from mailproxy.interfaces import observe_crashpoints
from tests.store.opened import fresh
from tests.store.writing import PUT, Merging, Writing


class WriterCase(SynchronousTestCase):
    def writing(self, **options: Any) -> Writing:
        made = Writing(fresh(self), **options)
        self.addCleanup(made.close)
        return made


class GroupTests(WriterCase):
    """Works that wait together."""

    def test_one_commit_for_all_that_waits(self) -> None:
        """What gathers while a transaction runs is stored by one commit and told at once."""
        writing = self.writing()
        gate = writing.hold()
        answers = [writing.writer.submit(PUT, name) for name in "abc"]

        gate.open()
        writing.reactor.turn()
        self.assertFalse(any(answer.called for answer in answers))
        writing.reactor.turn()

        self.assertEqual(["A", "B", "C"], [self.successResultOf(each) for each in answers])
        self.assertEqual([1, 3], [len(committed.works) for committed in writing.told])

    def test_answers_come_after_the_commit(self) -> None:
        """When the Deferred fires, another connection sees the row."""
        writing = self.writing()
        seen: list[list[str]] = []
        answer = writing.writer.submit(PUT, "a").addCallback(lambda _: seen.append(writing.kept))

        writing.reactor.turn()

        self.successResultOf(answer)
        self.assertEqual([["a"]], seen)

    def test_crash_point_after_the_commit(self) -> None:
        """The crash point of a work is passed when its commit is done, before it is told."""
        writing = self.writing()
        seen: list[tuple[str, list[str], int]] = []
        stop = observe_crashpoints(
            lambda name: seen.append((name, writing.kept, len(writing.told)))
        )
        self.addCleanup(stop)

        writing.writer.submit(PUT, "a")
        writing.reactor.turn()

        self.assertEqual([("outcome-commit", ["a"], 0)], seen)

    def test_a_failing_work_fails_alone(self) -> None:
        """A work that raises leaves nothing behind, and undoes nothing of its neighbours."""
        writing = self.writing()
        gate = writing.hold()
        good, bad, twice, last = (
            writing.writer.submit(PUT, name) for name in ("a", "bad", "twice", "z")
        )

        gate.open()
        writing.reactor.turn()
        writing.reactor.turn()

        self.assertEqual("A", self.successResultOf(good))
        self.assertEqual("Z", self.successResultOf(last))
        self.failureResultOf(bad, ValueError)
        self.failureResultOf(twice, StoreUnavailable)
        self.assertEqual(["a", "z"], writing.kept)
        self.assertEqual(1, len(self.flushLoggedErrors(sqlite3.IntegrityError)))

    def test_works_of_a_kind_run_together(self) -> None:
        """Works of one kind that wait together are one call, in their order of arrival."""
        writing, merging = self.writing(), Merging()
        gate = writing.hold()
        answers = [writing.writer.submit(merging.kind, name) for name in "abc"]

        gate.open()
        writing.reactor.turn()
        writing.reactor.turn()

        self.assertEqual([["a", "b", "c"]], merging.calls)
        self.assertEqual(["A", "B", "C"], [self.successResultOf(each) for each in answers])

    def test_a_failing_group_is_run_one_by_one(self) -> None:
        """When a merged call raises, its works run again one by one, and only the bad one fails."""
        writing, merging = self.writing(), Merging()
        gate = writing.hold()
        answers = [writing.writer.submit(merging.kind, name) for name in ("a", "bad", "c")]

        gate.open()
        writing.reactor.turn()
        writing.reactor.turn()

        self.assertEqual([["a", "bad", "c"], ["a"], ["bad"], ["c"]], merging.calls)
        self.failureResultOf(answers[1], ValueError)
        self.assertEqual("C", self.successResultOf(answers[2]))
        self.assertEqual(["a", "c"], writing.kept)

    def test_a_group_has_its_size(self) -> None:
        """A work that makes the group too large waits for the next transaction."""
        writing, merging = self.writing(), Merging()
        object.__setattr__(merging.kind, "rows", lambda _call: 1500)
        gate = writing.hold()
        for name in "abc":
            writing.writer.submit(merging.kind, name)

        gate.open()
        for _ in range(4):
            writing.reactor.turn()

        self.assertEqual([["a"], ["b"], ["c"]], merging.calls)

    def test_other_kinds_do_not_wait_for_a_large_one(self) -> None:
        """A small work overtakes a large one of another kind that did not fit the transaction."""
        writing, merging = self.writing(), Merging()
        object.__setattr__(merging.kind, "rows", lambda _call: 700)
        gate = writing.hold()
        for name in "abc":
            writing.writer.submit(merging.kind, name)
        small = writing.writer.submit(PUT, "small")

        gate.open()
        writing.reactor.turn()
        writing.reactor.turn()

        self.assertEqual("SMALL", self.successResultOf(small))
        writing.reactor.turn()
        writing.reactor.turn()
        self.assertEqual([1, 2, 1, 1], [len(committed.works) for committed in writing.told])
        self.assertEqual(["a", "small", "b", "c"], writing.kept)

    def test_an_observer_that_raises(self) -> None:
        """Whoever watches the crash points and raises spoils no work: what is stored is told."""
        writing = self.writing()

        def spoil(_name: str) -> None:
            raise ZeroDivisionError

        stop = observe_crashpoints(spoil)
        answer = writing.writer.submit(PUT, "a")
        writing.reactor.turn()
        stop()

        self.assertEqual("A", self.successResultOf(answer))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class WithdrawalTests(WriterCase):
    """Works whose caller does not wait for ever."""

    def test_a_late_work_is_withdrawn(self) -> None:
        """A work still in the queue at its deadline is withdrawn, and never done."""
        writing = self.writing()
        gate = writing.hold()
        answer = writing.writer.submit(PUT, "late", deadline=5.0)
        writing.clock.advance(4.9)
        self.assertNoResult(answer)

        writing.clock.advance(0.1)

        self.failureResultOf(answer, StoreBusy)
        gate.open()
        writing.reactor.turn()
        self.assertEqual([], writing.kept)

    def test_what_a_transaction_has_is_waited_for(self) -> None:
        """A work that a transaction has taken is not withdrawn: its end is its answer."""
        writing = self.writing()
        gate = writing.hold()
        answer = writing.writer.submit(PUT, "a", deadline=5.0)
        gate.open()
        writing.reactor.turn()
        writing.wait_for(lambda: bool(writing.kept))

        writing.clock.advance(60.0)

        self.assertNoResult(answer)
        writing.reactor.turn()
        self.assertEqual("A", self.successResultOf(answer))
        self.assertEqual([], writing.clock.getDelayedCalls())

    def test_cancelling_detaches(self) -> None:
        """A caller that goes away does not take its work back."""
        writing = self.writing()
        gate = writing.hold()
        answer = writing.writer.submit(PUT, "a")
        answer.cancel()
        self.failureResultOf(answer, CancelledError)

        gate.open()
        writing.reactor.turn()
        writing.reactor.turn()

        self.assertEqual(["a"], writing.kept)

    def test_closing_does_what_waits(self) -> None:
        """Stopping stores what was handed in, and takes no more."""
        writing = self.writing()
        gate = writing.hold()
        answer = writing.writer.submit(PUT, "a")
        stopped = writing.writer.stop()
        refused = writing.writer.submit(PUT, "b")
        gate.open()

        while not stopped.called:
            writing.reactor.turn()

        self.assertEqual("A", self.successResultOf(answer))
        self.failureResultOf(refused, StoreUnavailable)
        self.assertEqual(["a"], writing.kept)


class LockedTests(WriterCase):
    """F15: another process has the database."""

    def lock(self, writing: Writing) -> sqlite3.Connection:
        other = sqlite3.connect(writing.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        return other

    def test_works_can_be_withdrawn_meanwhile(self) -> None:
        """While the database is locked the caller is not blocked, and its deadline holds."""
        writing = self.writing()
        other = self.lock(writing)
        answer = writing.writer.submit(PUT, "a", deadline=5.0)

        writing.clock.advance(5.0)

        self.failureResultOf(answer, StoreBusy)
        other.execute("ROLLBACK")
        self.assertEqual([], writing.kept)

    def test_works_are_refused_after_a_bound(self) -> None:
        """A database locked for longer than the bound refuses; once free it stores again."""
        writing = self.writing()
        other = self.lock(writing)
        answer = writing.writer.submit(PUT, "a")
        writing.clock.advance(5.1)

        writing.reactor.turn()

        self.failureResultOf(answer, StoreUnavailable)
        self.assertFalse(writing.writer.healthy)
        other.execute("ROLLBACK")
        again = writing.writer.submit(PUT, "b")
        writing.reactor.turn()
        self.assertEqual("B", self.successResultOf(again))
        self.assertTrue(writing.writer.healthy)

    def test_a_short_lock_is_waited_out(self) -> None:
        """A lock that ends within the bound costs nobody anything but time."""
        writing = self.writing()
        other = self.lock(writing)
        answer = writing.writer.submit(PUT, "a")
        other.execute("ROLLBACK")

        writing.reactor.turn()

        self.assertEqual("A", self.successResultOf(answer))


class BrokenCommit(sqlite3.Connection):
    """A connection that raises at *at*, a statement: ``before`` it took place, or ``after``."""

    when = ""
    at = "COMMIT"
    error: Exception = sqlite3.OperationalError("disk I/O error")

    def cursor(self, *_args: Any) -> Any:
        return super().cursor(_BrokenCursor)


class _BrokenCursor(sqlite3.Cursor):
    def execute(self, statement: str, *values: Any) -> Any:
        connection = self.connection
        assert isinstance(connection, BrokenCommit)
        when = connection.when if statement == connection.at else ""
        if when == "before":
            raise connection.error
        answer = super().execute(statement, *values)
        if when == "after":
            raise connection.error
        return answer


class CommitTests(WriterCase):
    """A COMMIT whose answer is an error."""

    def broken(self, when: str) -> Writing:
        writing = self.writing(inline=True, factory=BrokenCommit)
        assert isinstance(writing.connection, BrokenCommit)
        writing.connection.when = when
        return writing

    def test_it_did_not_take_place(self) -> None:
        """The works of a commit that did not take place are refused, and are not there."""
        writing = self.broken("before")

        answer = writing.writer.submit(PUT, "a")

        self.failureResultOf(answer, StoreUnavailable)
        self.assertEqual([], writing.kept)

    def test_it_took_place(self) -> None:
        """The works of a commit that took place have succeeded, whatever its answer was."""
        writing = self.broken("after")

        answer = writing.writer.submit(PUT, "a")

        self.assertEqual("A", self.successResultOf(answer))
        self.assertEqual(["a"], writing.kept)


class BugTests(WriterCase):
    """An error of our own, where nobody expects one."""

    def bug(self, statement: str) -> None:
        """It strikes at *statement* while two works share the transaction, and is gone again."""
        writing = self.writing(factory=BrokenCommit)
        connection = writing.connection
        assert isinstance(connection, BrokenCommit)
        gate = writing.hold()
        gate.answer.addErrback(lambda failure: failure.trap(StoreUnavailable))
        connection.error, connection.at, connection.when = TypeError(), statement, "before"
        refused = [writing.writer.submit(PUT, name) for name in "ab"]
        gate.open()
        writing.reactor.turn()
        writing.reactor.turn()
        for answer in refused:
            self.failureResultOf(answer, StoreUnavailable)
        self.assertTrue(self.flushLoggedErrors(TypeError))
        self.assertFalse(writing.writer.healthy)
        self.assertEqual([], writing.kept)

        connection.when = ""
        again = writing.writer.submit(PUT, "c")
        writing.reactor.turn()
        self.assertEqual("C", self.successResultOf(again))
        self.assertTrue(writing.writer.healthy)
        self.assertEqual(["c"], writing.kept)

    def test_at_the_commit(self) -> None:
        """An error of our own at the commit fails the works it met, and the thread goes on."""
        self.bug("COMMIT")

    def test_before_the_commit(self) -> None:
        """An error of our own before the commit fails the works it met, and the thread goes on."""
        self.bug("UPDATE settings SET value=? WHERE name='serial'")

    def test_at_the_beginning(self) -> None:
        """An error of our own at the beginning fails the works it met, and the thread goes on."""
        self.bug("BEGIN IMMEDIATE")

    def test_outside_of_a_work(self) -> None:
        """An error of our own around a work fails the works it met, and the thread goes on."""
        self.bug("SAVEPOINT work")


class FullDiskTests(WriterCase):
    """F12 and F13: there is no room."""

    def test_a_small_work_passes_where_a_large_one_does_not(self) -> None:
        """Works that shared a transaction with one too large are stored all the same."""
        writing = self.writing()
        (pages,) = writing.connection.execute("PRAGMA page_count").fetchone()
        writing.connection.execute(f"PRAGMA max_page_count={pages + 2}")
        gate = writing.hold()
        large = writing.writer.submit(PUT, "x" * 100_000)
        small = writing.writer.submit(PUT, "small")

        gate.open()
        writing.reactor.turn()
        writing.reactor.turn()

        self.failureResultOf(large, StoreUnavailable)
        self.assertEqual("SMALL", self.successResultOf(small))
        self.assertEqual(["small"], writing.kept)

    def test_recovery(self) -> None:
        """When there is room again, work goes on as if nothing had been."""
        writing = self.writing(inline=True)
        (pages,) = writing.connection.execute("PRAGMA page_count").fetchone()
        writing.connection.execute(f"PRAGMA max_page_count={pages}")
        self.failureResultOf(writing.writer.submit(PUT, "x" * 100_000), StoreUnavailable)
        self.assertFalse(writing.writer.healthy)

        writing.connection.execute("PRAGMA max_page_count=100000")

        self.successResultOf(writing.writer.submit(PUT, "x" * 100_000))
        self.assertTrue(writing.writer.healthy)
