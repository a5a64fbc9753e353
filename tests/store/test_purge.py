"""A deleted tenant on the SQLite store: what is left in the file, and in what steps it goes."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.model import Claimed
from mailproxy.records import ReportItem
from mailproxy.states import EventKind
from mailproxy.store.retention import CHANCE
from mailproxy.store.tables import metadata
from mailproxy.tenancy import ClientAuth, Once, Suppression, Tenant
from tests.build import account_spec, deferral, new_message, put_off, record
from tests.contracts_keys import api_key
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

DAY = 86_400.0


class DeletedTenantCase(SynchronousTestCase):
    """The tenant ``acme`` with one account, beside the default tenant with another."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        self.ours = result(self.store.put_account(account_spec(), self.now))
        self.register()
        spec = account_spec(tenant_id="acme", id="theirs", user="u", password="secret")
        self.theirs = result(self.store.put_account(spec, self.now))

    @property
    def now(self) -> float:
        return self.clock.now()

    def register(self, **fields: Any) -> Tenant:
        def change(old: Tenant | None) -> Tenant:
            return attrs.evolve(old or Tenant("acme"), **fields)

        return result(self.store.change_tenant("acme", change, self.now))

    def post(self, *ids: str, **fields: Any) -> None:
        messages = [new_message(id=each, **{"tenant_id": "acme", **fields}) for each in ids]
        result(self.store.enqueue(messages, self.now, 5.0))

    def begun(self, message_id: str) -> Claimed:
        self.post(message_id)
        (claimed,) = result(self.store.claim(self.theirs.pk, 10, self.now))
        result(self.store.begin([(claimed.pk, claimed.token)], "theirs", self.now))
        return claimed

    def delete(self) -> None:
        self.assertTrue(result(self.store.delete_tenant("acme", self.now)))

    def steps(self) -> list[int]:
        touched = []
        while rows := result(self.store.upkeep(self.now)):
            touched.append(rows)
        return touched

    def told(self) -> list[ReportItem]:
        return result(self.store.unreported("acme", 500))

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        return {
            name: self.opened.sql(f"SELECT count(*) FROM {name}")[0][0]
            for name in sorted(metadata.tables)
        }


class PurgeTests(DeletedTenantCase):
    def test_no_row_is_left(self) -> None:
        """A day after the deletion no table has a row more than before the tenant came."""
        result(self.store.delete_account("acme", "theirs", self.now))
        self.delete()
        self.clock.advance(DAY + 1)
        self.steps()
        before = self.counts()
        self.fill()
        self.assertLess(sum(before.values()) + 30, sum(self.counts().values()))

        self.delete()
        self.steps()
        self.clock.advance(DAY + 1)
        self.steps()

        self.assertEqual(before, self.counts())
        rows = [self.opened.sql(f"SELECT * FROM {name}") for name in metadata.tables]
        self.assertNotIn("acme", repr(rows))

    def fill(self) -> None:
        """The tenant leaves rows wherever a tenant can."""
        self.register(client_auth=ClientAuth("bearer", "t"), signing_secret="s")
        spec = account_spec(tenant_id="acme", id="theirs")
        self.theirs = result(self.store.put_account(spec, self.now))
        result(self.store.add_key(api_key(1, tenant_id="acme"), self.now))
        result(self.store.suspend("acme", "x", self.now))
        self.opened.sql("INSERT INTO destinations VALUES ('acme', 'example.com', 0)")
        result(self.store.suppress([Suppression("acme", "a@example.com")], self.now))
        claimed = self.begun("m1")
        result(self.store.record([record(claimed, at=self.now)]))
        self.take_reports()
        once = Once("acme", "key", b"digest", lambda _: b"answer")
        message = new_message(id="m0", tenant_id="acme", parts=(b"x" * 5000,))
        result(self.store.enqueue([message], self.now, 5.0, once))
        result(self.store.remove("acme", ["m0"], self.now))
        self.post("m2", "m3", batch="x")
        self.post("large", parts=(b"x" * (3 << 20),))

    def take_reports(self) -> None:
        result(self.store.acked([pk for item in self.told() for pk in item.event_pks], self.now))

    def test_small_steps(self) -> None:
        """Much mail is cancelled and purged in many transactions, none of which is long."""
        self.post(*(f"m{n}" for n in range(400)))
        self.delete()

        cancelled = self.steps()
        self.clock.advance(DAY + 1)
        purged = self.steps()

        self.assertLessEqual(max(cancelled), 160)
        self.assertLessEqual(max(purged), 100)
        self.assertGreaterEqual(sum(purged), 400)

    def test_down_for_the_whole_day(self) -> None:
        """
        What could not be told because the service was down all that day is tried for an hour
        before it goes with its tenant.
        """
        self.post("m1", "m2")
        self.delete()
        self.steps()
        self.clock.advance(2 * DAY)
        self.store = self.opened.killed()

        self.assertEqual([], self.steps())

        self.assertEqual(["acme"], result(self.store.waiting_tenants()))
        self.assertEqual({"m1", "m2"}, {item.id for item in self.told()})
        self.take_reports()
        self.clock.advance(CHANCE)
        self.steps()
        self.assertEqual(0, self.tenants())

    def test_what_is_on_its_way_is_not_purged(self) -> None:
        """A message with an attempt under way outlasts the day, and keeps its tenant."""
        claimed = self.begun("m1")
        self.delete()
        self.clock.advance(2 * DAY)
        self.steps()

        took = result(self.store.record([record(claimed, at=self.now)]))

        self.assertEqual([True], took)
        (item,) = self.told()
        self.assertEqual(self.now, item.sent_ts)
        self.assertEqual([0, 1], [self.pending(), self.tenants()])
        self.clock.advance(DAY + 1)
        self.steps()
        self.assertEqual(0, self.tenants())

    def pending(self) -> int:
        return result(self.store.counts(self.now)).pending

    def tenants(self) -> int:
        return len(self.opened.sql("SELECT id FROM tenants WHERE id='acme'"))

    def test_the_job_ends_with_a_new_registration(self) -> None:
        """When the tenant is registered again nothing more of it is cancelled, ever."""
        self.delete()
        self.register()
        self.post("m1")

        self.assertEqual([], self.steps())

        self.assertEqual([], self.opened.sql("SELECT 1 FROM bulk_jobs WHERE done_at IS NULL"))
        self.assertEqual([("queued",)], self.opened.sql("SELECT state FROM messages"))

    def test_texts_go_with_the_cancellation(self) -> None:
        """The text of cancelled mail is removed at once, not a day later."""
        self.post("m1")
        self.delete()
        self.steps()
        self.assertEqual([], self.opened.sql("SELECT 1 FROM texts"))

    def test_mail_of_an_account_deleted_before(self) -> None:
        """Mail whose account was deleted before its tenant fails with its account."""
        self.post("m1")
        result(self.store.delete_account("acme", "theirs", self.now))
        self.delete()
        self.steps()

        (item,) = self.told()

        self.assertEqual("account deleted", item.error)


class UncertainTests(DeletedTenantCase):
    """What nobody knows at the deletion is told as such."""

    def test_a_retry_that_does_not_come(self) -> None:
        """An attempt that ended uncertain, and is not repeated, ends with ``uncertain: ``."""
        claimed = self.begun("m1")
        self.delete()
        outcome = deferral(
            claimed,
            put_off(0, "no reply"),
            at=self.now,
            next_at=self.now + 60,
            kind=EventKind.UNCERTAIN,
            reason="uncertain: no reply",
        )

        result(self.store.record([outcome]))

        (item,) = self.told()
        self.assertEqual("uncertain: tenant deleted", item.error)
        self.assertEqual([("failed",)], self.opened.sql("SELECT state FROM messages"))


class SecretsTests(DeletedTenantCase):
    def test_secrets_are_sealed(self) -> None:
        """No secret of a tenant, and no key, is in the file in the clear."""
        self.register(
            client_auth=ClientAuth("basic", "token-7391", "user", "password-7391"),
            signing_secret="signing-7391",
        )
        result(self.store.add_key(api_key(7391, tenant_id="acme"), self.now))
        self.successResultOf(self.opened.close())

        stored = b"".join(path.read_bytes() for path in self.opened.path.parent.iterdir())

        for secret in (b"token-7391", b"password-7391", b"signing-7391", b"token 7391"):
            self.assertNotIn(secret, stored)

    def test_secrets_do_not_show(self) -> None:
        """No secret is in what a tenant or a key looks like to a log."""
        tenant = self.register(client_auth=ClientAuth("bearer", "t0p"), signing_secret="s3cret")
        self.assertNotIn("t0p", repr(tenant))
        self.assertNotIn("s3cret", repr(tenant))


class KeyRowTests(DeletedTenantCase):
    def test_expired_keys_are_removed(self) -> None:
        """Of a key that has expired no row is left."""
        result(self.store.add_key(api_key(1, tenant_id="acme", expires_at=self.now + 5), self.now))
        self.clock.advance(5)
        self.assertEqual([1], self.steps())
        self.assertEqual([], self.opened.sql("SELECT 1 FROM api_keys"))
