"""What is put off goes in order, is seen by what follows, and is objected to in its savepoint."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.store import destinations, rates
from mailproxy.store.postgres_driver import SELDOM, Connection, Cursor
from mailproxy.store.postgres_server import Server
from mailproxy.store.postgres_sql import translated
from mailproxy.store.postgres_writer import came_through
from mailproxy.store.refusals import LateObjection, ServerObjection
from tests.postgres import server
from tests.store.postgres_opened import migrated

SUSPEND = "INSERT INTO suspensions (tenant_id, batch, since) VALUES (?, ?, ?)"
PAUSE = "INSERT INTO destinations (tenant_id, domain, since) VALUES ('default', 'd', 0)"
#: As the store asks whether there is any.
ANY_PAUSED = destinations._ANY.sql
NODE = "INSERT INTO nodes (id, started_at, alive_until, serial) VALUES (?, 0, 0, ?)"


class DriverCase(SynchronousTestCase):
    def setUp(self) -> None:
        server().leave(migrated())
        self.name = server().database(migrated())
        server().sql(self.name, "INSERT INTO settings VALUES ('greatest_pk', '5')")
        self.connection: Connection = Server(server().url(self.name), 0.0, "tests").open()
        self.addCleanup(self.connection.close)
        self.cursor = self.connection.cursor()

    def suspend(self, *tenants: str) -> None:
        for tenant in tenants:
            self.cursor.tell(SUSPEND, (tenant, "", 0.5))

    def seen(self) -> list[str]:
        """What others see."""
        found = server().sql(self.name, "SELECT tenant_id FROM suspensions ORDER BY 1")
        return [row[0] for row in found]

    def run_all(self, *texts: str) -> None:
        for text in texts:
            self.cursor.execute(text)


class OrderTests(DriverCase):
    def test_together(self) -> None:
        """Nothing is asked for until an answer is wanted; then all of it, in order."""
        self.run_all("BEGIN IMMEDIATE", "SAVEPOINT work")
        self.suspend("a", "b")
        self.assertEqual(2, len(self.connection.later))
        (count,) = self.cursor.execute("SELECT count(*) FROM suspensions").fetchone()
        self.assertEqual((2, []), (count, self.connection.later))
        self.assertEqual(2, self.connection.total_changes)
        self.suspend("c")
        self.run_all("RELEASE work")
        self.assertEqual(1, len(self.connection.later))
        self.run_all("COMMIT")
        self.assertEqual(["a", "b", "c"], self.seen())

    def test_with_the_commit(self) -> None:
        """What is put off behind the last savepoint goes with the commit."""
        self.run_all("BEGIN IMMEDIATE")
        self.suspend("a")
        self.run_all("COMMIT")
        self.assertEqual(["a"], self.seen())
        self.assertFalse(self.connection.in_transaction)

    def test_rolled_back(self) -> None:
        """What was put off does not come after the end of its transaction."""
        self.run_all("BEGIN IMMEDIATE", "SAVEPOINT work")
        self.suspend("a")
        self.run_all("ROLLBACK", "BEGIN IMMEDIATE", "COMMIT")
        self.assertEqual([], self.seen())

    def test_an_objection(self) -> None:
        """It comes with what is asked next, and takes back its own part alone."""
        self.run_all("BEGIN IMMEDIATE", "SAVEPOINT work")
        self.suspend("a")
        self.run_all("RELEASE work", "SAVEPOINT work", "SELECT 1 FROM nodes")
        self.suspend("b", "b", "c")
        self.assertRaises(ServerObjection, self.cursor.execute, "SELECT 1 FROM nodes")
        self.run_all("ROLLBACK TO work", "RELEASE work", "SAVEPOINT work")
        self.suspend("d")
        self.run_all("RELEASE work", "COMMIT")
        self.assertEqual(["a", "d"], self.seen())

    def test_a_late_objection(self) -> None:
        """Where a part before was not asked for yet, nobody knows of which it is: all is lost."""
        for group in (("a", "a"), ("b",)), (("a",), ("b", "b")):
            for ending in ("SELECT 1 FROM nodes", "COMMIT"):
                self.run_all("BEGIN IMMEDIATE", "SAVEPOINT work")
                self.suspend(*group[0])
                self.run_all("RELEASE work", "SAVEPOINT work")
                self.suspend(*group[1])
                self.assertRaises(LateObjection, self.cursor.execute, ending)
                self.run_all("ROLLBACK")
        self.assertEqual([], self.seen())

    def test_no_such_value(self) -> None:
        """What cannot be given to the server is objected to at once, and nothing is put off."""
        self.run_all("BEGIN IMMEDIATE", "SAVEPOINT work")
        self.suspend("a")
        self.run_all("RELEASE work", "SAVEPOINT work")
        self.assertRaises(UnicodeEncodeError, self.suspend, "\ud800")
        self.run_all("ROLLBACK TO work", "RELEASE work", "COMMIT")
        self.assertEqual(["a"], self.seen())

    def test_asked_again(self) -> None:
        """A statement that came behind a refused one is understood when it comes again."""
        for _ in range(2):
            self.run_all("BEGIN IMMEDIATE", "SAVEPOINT work")
            self.suspend("a", "a")
            asked = "SELECT count(*) FROM suspensions"
            self.assertRaises(ServerObjection, self.cursor.execute, asked)
            self.run_all("ROLLBACK TO work")
            self.assertEqual((0,), self.cursor.execute(asked).fetchone())
            self.run_all("ROLLBACK")

    def test_questions_together(self) -> None:
        """Several questions are one step, behind what was put off."""
        self.run_all("BEGIN IMMEDIATE")
        self.suspend("a", "b")
        asked = "SELECT tenant_id FROM suspensions WHERE tenant_id = ?"
        found = self.cursor.ask([(asked, ("a",)), (asked, ("c",)), (asked, ("b",))])
        self.assertEqual([[("a",)], [], [("b",)]], found)
        self.run_all("ROLLBACK")

    def test_a_read(self) -> None:
        """A read begins with its first question, and one without any never does."""
        self.run_all("BEGIN", "BEGIN")
        self.assertFalse(self.connection.in_transaction)
        self.assertEqual([], self.cursor.execute("SELECT tenant_id FROM suspensions").fetchall())
        server().sql(self.name, "INSERT INTO suspensions VALUES ('a', '', 0)")
        self.assertEqual([], self.cursor.execute("SELECT tenant_id FROM suspensions").fetchall())
        self.run_all("ROLLBACK")

    def test_given_up_before_it_was_asked(self) -> None:
        """A part that is given up before the server knew of it leaves the part before alone."""
        self.run_all("BEGIN IMMEDIATE", "SAVEPOINT work")
        self.suspend("a")
        self.run_all("RELEASE work", "SAVEPOINT work")
        self.suspend("b")
        self.run_all("ROLLBACK TO work", "RELEASE work", "SAVEPOINT work")
        self.suspend("c")
        self.run_all("RELEASE work", "COMMIT")
        self.assertEqual(["a", "c"], self.seen())

    def test_an_objection_to_a_question(self) -> None:
        """What was put off is objected to when something is asked behind it."""
        self.run_all("BEGIN IMMEDIATE", "SAVEPOINT work")
        self.suspend("a", "a")
        self.assertRaises(ServerObjection, self.cursor.execute, "SELECT 1 FROM nodes")
        self.run_all("ROLLBACK TO work", "RELEASE work", "COMMIT")
        self.assertEqual([], self.seen())


class SeldomTests(DriverCase):
    def some(self) -> bool:
        return self.cursor.execute(ANY_PAUSED).fetchone() is not None

    def test_nothing_there(self) -> None:
        """An empty table is told of with the beginning, and not asked for again."""
        self.run_all("BEGIN IMMEDIATE")
        server().sql(self.name, PAUSE)  # from outside of the lock: it would be seen
        self.assertFalse(self.some())
        self.run_all("COMMIT", "BEGIN IMMEDIATE")
        self.assertTrue(self.some())

    def test_written_meanwhile(self) -> None:
        """What the transaction itself puts there is found, whichever way it was done."""
        ways: tuple[Any, ...] = (Cursor.execute, Cursor.tell)
        for way in ways:
            self.run_all("BEGIN IMMEDIATE")
            self.assertFalse(self.some())
            way(self.cursor, PAUSE)
            self.assertTrue(self.some())
            self.run_all("ROLLBACK")

    def test_which(self) -> None:
        """The two looks that nearly every work begins with are known as such."""
        known = [translated(each.sql).seldom for each in (rates._ANY, destinations._ANY)]
        self.assertEqual(list(SELDOM), known)

    def test_readers(self) -> None:
        """Who reads asks each time."""
        reader = Server(server().url(self.name), 0.0, "tests").open_reader()
        self.addCleanup(reader.close)
        server().sql(self.name, PAUSE)
        self.assertIsNotNone(reader.execute(ANY_PAUSED).fetchone())


class CameThroughTests(DriverCase):
    """Whether a transaction is stored whose commit had no answer."""

    def test_by_its_own_number(self) -> None:
        """The server's number may be another's by now: the node's own decides."""
        self.run_all("BEGIN IMMEDIATE")
        self.cursor.execute(NODE, ("n", 7))
        number = self.connection.number
        other = Server(server().url(self.name), 0.0, "tests").open_reader()
        self.addCleanup(other.close)
        self.assertIsNone(came_through(other, number, "n", 7))
        self.run_all("COMMIT")
        self.assertIs(True, came_through(other, number, "n", 7))
        self.assertIs(True, came_through(other, number, "n", 6))
        self.assertIs(False, came_through(other, number, "n", 8))
        self.assertIs(False, came_through(other, number, "another", 1))

    def test_not_given_away_yet(self) -> None:
        """A server that crashed has forgotten what it gave the number to, and goes on behind it."""
        server().sql(self.name, NODE.replace("?", "'n'", 1).replace("?", "3"))
        future = 2**40
        self.assertIs(False, came_through(self.connection, future, "n", 4))
        self.assertIs(True, came_through(self.connection, future, "n", 3))
