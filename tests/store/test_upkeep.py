"""Background work on the SQLite store: what it leaves in the tables, and in what steps."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.model import Claimed
from mailproxy.store.retention import CHANCE
from mailproxy.store.tables import metadata
from tests.build import account_spec, new_message, record
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

RETENTION = 604_800.0
IDEMPOTENCY = 2_592_000.0

#: Tables in which a message leaves rows.
LEFT_BY_A_MESSAGE = ("messages", "recipients", "attempts", "events", "payloads", "texts", "chunks")


class UpkeepCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.account = result(self.store.put_account(account_spec(), self.now))

    @property
    def now(self) -> float:
        return self.clock.now()

    def post(self, *ids: str, **fields: Any) -> None:
        result(self.store.enqueue([new_message(id=each, **fields) for each in ids], self.now, 5.0))

    def claim(self, limit: int = 1000) -> list[Claimed]:
        return result(self.store.claim(self.account.pk, limit, self.now))

    def send(self, *claimed: Claimed) -> None:
        result(self.store.begin([(each.pk, each.token) for each in claimed], "acct", self.now))
        result(self.store.record([record(each, at=self.now) for each in claimed]))

    def take_reports(self) -> None:
        items = result(self.store.unreported("default", 500))
        result(self.store.acked([pk for item in items for pk in item.event_pks], self.now))

    def steps(self) -> list[int]:
        """What each step of upkeep touched, until there is nothing left."""
        touched = []
        while rows := result(self.store.upkeep(self.now)):
            touched.append(rows)
        return touched

    def count(self, table: str) -> int:
        ((count,),) = self.opened.sql(f"SELECT count(*) FROM {table}")
        return int(count)


class RetentionTests(UpkeepCase):
    def test_nothing_but_a_tombstone_stays(self) -> None:
        """Of a purged message no row stays in any table, but one tombstone; later not even that."""
        self.post("m1", parts=(b"attached",))
        self.send(*self.claim())
        self.take_reports()
        self.clock.advance(RETENTION + 1)

        self.assertEqual([1], self.steps())

        self.assertEqual([0] * 7, [self.count(table) for table in LEFT_BY_A_MESSAGE])
        self.assertEqual(1, self.count("tombstones"))
        self.clock.advance(IDEMPOTENCY + 1)
        self.steps()
        self.assertEqual(0, self.count("tombstones"))

    def test_small_steps(self) -> None:
        """Many messages are purged in many transactions, none of which holds the writer long."""
        self.post(*(f"m{n}" for n in range(200)))
        self.send(*self.claim())
        self.take_reports()
        self.clock.advance(RETENTION + 1)

        touched = self.steps()

        self.assertEqual(200, sum(touched))
        self.assertLessEqual(max(touched), 100)

    def test_a_tombstone_does_not_tell_who_accepted(self) -> None:
        """A tombstone keeps hashes, not addresses; the same address has another for each id."""
        self.post("m1", "m2", to=("secret@example.org",))
        self.send(*self.claim())
        self.take_reports()
        self.clock.advance(RETENTION + 1)
        self.steps()

        (one,), (two,) = self.opened.sql("SELECT accepted FROM tombstones")

        self.assertEqual([16, 16], [len(one), len(two)])
        self.assertNotEqual(one, two)
        rows = self.opened.sql("SELECT * FROM tombstones")
        self.assertNotIn("secret", repr(rows))

    def test_reports_nobody_takes(self) -> None:
        """An event unacked for its longest age is parked, kept for a while, then purged."""
        self.post("m1")
        self.send(*self.claim())
        self.clock.advance(IDEMPOTENCY + 1)
        self.steps()

        self.assertEqual([], result(self.store.unreported("default", 10)))
        self.assertEqual(1, self.count("messages"))
        self.clock.advance(RETENTION + 1)
        self.steps()
        self.assertEqual([0, 1], [self.count("messages"), self.count("tombstones")])

    def test_what_is_given_up_is_counted_and_logged(self) -> None:
        """An event that was not taken in time is counted as parked, and one line says whose."""
        self.post("m1", "m2")
        self.send(*self.claim())
        self.clock.advance(IDEMPOTENCY + 1)
        with capturedLogs() as lines:
            self.steps()
        metric = self.opened.metrics.parked_events.labels("default")
        self.assertEqual(2.0, metric._value.get())
        (line,) = [each for each in lines if each["log_level"] is LogLevel.error]
        self.assertEqual(("default", 2), (line["tenant"], line["count"]))

    def test_too_old_only_because_the_service_was_down(self) -> None:
        """An event that became too old while nobody could offer it is offered for an hour first."""
        self.post("m1")
        self.send(*self.claim())
        self.clock.advance(IDEMPOTENCY + 1)
        self.store = self.opened.killed()

        self.assertEqual([], self.steps())
        self.clock.advance(CHANCE - 1.0)
        self.assertEqual([], self.steps())
        (item,) = result(self.store.unreported("default", 10))
        self.assertEqual("m1", item.id)
        self.clock.advance(1.0)
        self.assertEqual([1], self.steps())

    def test_an_event_offered_again_is_new(self) -> None:
        """A report that is repeated because the id was posted again has its whole time anew."""
        self.post("m1")
        self.send(*self.claim())
        self.take_reports()
        self.clock.advance(RETENTION + 1)
        self.steps()
        self.clock.advance(IDEMPOTENCY - 1)
        self.assertEqual(1, self.count("tombstones"))
        self.post("m1")

        self.steps()

        (item,) = result(self.store.unreported("default", 10))
        self.assertEqual("m1", item.id)
        self.assertEqual(0.0, result(self.store.report_lag(self.now)))
        self.clock.advance(60)
        self.assertEqual(60.0, result(self.store.report_lag(self.now)))

    def test_empty_lanes_go(self) -> None:
        """The lane of a campaign that is over is removed; the account's own stays."""
        self.post("m1", batch="campaign")
        self.post("m2")
        self.send(*self.claim())

        self.steps()

        self.assertEqual([("",)], self.opened.sql("SELECT batch FROM lanes"))


class DeletedAccountTests(UpkeepCase):
    """The open mail of a deleted account."""

    def delete(self) -> None:
        self.assertTrue(result(self.store.delete_account("default", "acct", self.now)))

    def test_failures_are_counted(self) -> None:
        """Each message that fails with its account counts as an error of that account."""
        self.post("m1", "m2", "m3")
        self.delete()
        self.steps()

        value = self.opened.metrics.registry.get_sample_value(
            "gmp_errors_total", {"tenant_id": "default", "account_id": "acct"}
        )

        self.assertEqual(3.0, value)

    def test_claimed_and_scheduled_mail_fails_too(self) -> None:
        """Leased, waiting and scheduled mail of a deleted account all comes to its end."""
        self.post("m1", "m2")
        self.claim(limit=1)
        self.post("m3", not_before=self.now + 86_400)
        self.delete()

        self.steps()

        states = self.opened.sql("SELECT DISTINCT state, error FROM messages")
        self.assertEqual([("failed", "account deleted")], states)
        self.assertEqual(0, result(self.store.counts(self.now)).pending)

    def test_the_job_waits_for_what_is_on_its_way(self) -> None:
        """The job of a deletion ends when the last message on its way has its outcome."""
        self.post("m1")
        (claimed,) = self.claim()
        result(self.store.begin([(claimed.pk, claimed.token)], "acct", self.now))
        self.delete()
        self.steps()
        open_jobs = "SELECT count(*) FROM bulk_jobs WHERE done_at IS NULL"
        self.assertEqual([(1,)], self.opened.sql(open_jobs))

        result(self.store.record([record(claimed, at=self.now)]))
        self.steps()

        self.assertEqual([(0,)], self.opened.sql(open_jobs))
        self.assertEqual([("sent",)], self.opened.sql("SELECT state FROM messages"))

    def test_passwords_go_at_once(self) -> None:
        """The sealed password of a deleted account is removed with the deletion."""
        spec = account_spec(user="u", password="secret")
        result(self.store.put_account(spec, self.now))
        ((sealed,),) = self.opened.sql("SELECT password FROM accounts")
        self.assertNotIn("secret", sealed)

        self.delete()

        self.assertEqual([(None,)], self.opened.sql("SELECT password FROM accounts"))


class TablesTests(UpkeepCase):
    def test_all_tables_of_the_model(self) -> None:
        """Every table of the data model exists from the first migration."""
        rows = self.opened.sql("SELECT name FROM sqlite_master WHERE type='table'")

        self.assertLessEqual(set(metadata.tables), {name for (name,) in rows})


class MergedTests(UpkeepCase):
    """Records that wait together and are of the same message."""

    def test_late_and_good_together(self) -> None:
        """Of two records of one message in one call the first takes effect, the second is late."""
        self.post("m1")
        (claimed,) = self.claim()
        result(self.store.begin([(claimed.pk, claimed.token)], "acct", self.now))
        outcome = record(claimed, at=self.now)

        took = result(self.store.record([outcome, outcome]))

        self.assertEqual([True, False], took)
        kinds = [each["kind"] for each in result(self.store.timeline("default", "m1"))]
        self.assertEqual(["accepted", "intent", "outcome", "late"], kinds)
        self.assertEqual(0, result(self.store.counts(self.now)).pending)

    def test_many_campaigns_are_claimed_from(self) -> None:
        """More campaigns than a claim takes messages: all are served in their turn."""
        for n in range(30):
            self.post(f"m{n}", batch=f"b{n:02}")
            self.clock.advance(1)

        first = [each.id for each in self.claim(limit=10)]
        rest = [each.id for each in self.claim()]

        self.assertEqual([f"m{n}" for n in range(10)], first)
        self.assertEqual([f"m{n}" for n in range(10, 30)], rest)
