"""From mail that came by SMTP and failed to the bounce in the queue, each step once."""

from __future__ import annotations

import attrs

from mailproxy.errors import StoreUnavailable
from mailproxy.model import RecipientChange
from mailproxy.records import ListQuery
from mailproxy.states import TlsMode
from mailproxy.submission.bouncer import INTERVAL, Bouncer
from mailproxy.tenancy import Bounces, Suppression, Tenant
from mailproxy.threads import inline
from tests.build import account_spec, record, refused
from tests.fakes import result
from tests.submission.talk import MAIL
from tests.submission.test_intake import IntakeCase


class BouncerTests(IntakeCase):
    def setUp(self) -> None:
        super().setUp()
        self.want(Bounces(True))
        house = self.house
        self.bouncer = Bouncer(house.store, house.clock, house.metrics, inline, "mx.example.net", 2)
        self.bouncer.startService()
        self.addCleanup(self.bouncer.stopService)

    def want(self, bounces: Bounces, active: bool = True) -> None:
        def change(tenant: Tenant | None) -> Tenant:
            return attrs.evolve(tenant or Tenant("default"), bounces=bounces, active=active)

        result(self.house.store.change_tenant("default", change, self.house.clock.now()))

    def fail(self, *changes: RecipientChange, body: bytes = MAIL, **envelope: object) -> str:  # type: ignore[override]
        """Hand a message in and let it fail; its id."""
        self.said(body, **envelope)
        return self.finish(*changes or (refused(),))

    def finish(self, *changes: RecipientChange) -> str:
        message = self.claimed()
        store, now = self.house.store, self.house.clock.now()
        result(store.begin([(message.pk, message.token)], "main", now))
        result(store.record([record(message, *changes, at=now)]))
        return message.id

    def round(self) -> None:
        self.house.clock.advance(INTERVAL)

    def ids(self) -> list[str]:
        return [each.id for each in result(self.house.store.messages(ListQuery()))]

    def counted(self, outcome: str) -> float:
        sample = self.house.metrics.bounces.labels(outcome)._value.get()
        return float(sample)

    def test_a_bounce(self) -> None:
        """Who handed in what failed gets a bounce, once; that it was made is in its timeline."""
        failed = self.fail()
        self.round()
        self.round()
        message = self.claimed()
        self.assertEqual(("", "bounce-"), (message.envelope_from, message.id[:7]))
        self.assertEqual(["a@x.org"], [each.address for each in message.recipients])
        self.assertIn(b"Final-Recipient: rfc822; b@y.org\r\n", self.leaves(message))
        events = result(self.house.store.timeline("default", message.id))
        self.assertEqual([f"bounce of {failed}"], events[0]["data"]["notes"])
        self.assertEqual((1, 0), (self.counted("bounce"), self.counted("none")))

    def test_who_gets_none(self) -> None:
        """None: of a bounce, of mail from nobody, and where it was not wanted at the end."""
        self.fail()
        self.round()
        self.finish(refused())
        self.fail(sender=b"")
        self.want(Bounces())
        self.fail()
        self.want(Bounces(True))
        self.round()
        self.assertEqual(1, sum(id.startswith("bounce-") for id in self.ids()))
        self.assertEqual([], result(self.house.store.undelivered(10)))

    def test_several(self) -> None:
        """However many failed since the last look, each sender is told."""
        for n in range(25):
            self.fail(body=b"X-Mailproxy-Id: m%d\r\n" % n + MAIL)
        self.round()
        self.assertEqual(25, sum(id.startswith("bounce-") for id in self.ids()))

    def test_a_store_that_fails(self) -> None:
        """What could not be stored is made again: the same bounce, and one."""
        self.fail()
        self.house.store.fail_next(StoreUnavailable("disk"), "bounce")
        self.round()
        self.assertEqual(1, len(self.ids()))
        self.round()
        self.round()
        self.assertEqual(2, len(self.ids()))

    def test_a_crash_behind_the_commit(self) -> None:
        """Killed before it hears that the bounce is stored, the next start makes no second."""
        self.fail()
        self.house.store.stall("bounce", stored=True)
        self.round()
        store = self.house.store = self.house.store.crash()
        after = Bouncer(store, self.house.clock, self.house.metrics, inline, "mx.example.net", 2)
        after.startService()
        self.addCleanup(after.stopService)
        self.round()
        self.assertEqual(2, len(self.ids()))

    def test_one_that_cannot_be(self) -> None:
        """A bounce that cannot be made or sent is given up, and keeps no other back."""
        self.want(Bounces(True, None, "a b@x.org"))
        self.fail()
        self.round()
        self.want(Bounces(True))
        now = self.house.clock.now()
        result(self.house.store.suppress([Suppression("default", "a@x.org")], now))
        self.fail()
        self.fail(sender=b"other@x.org")
        self.round()
        self.assertEqual((2, 1), (self.counted("none"), self.counted("bounce")))

    def test_account(self) -> None:
        """It goes through the account that the tenant says."""
        spec = account_spec(id="bulk", tls_mode=TlsMode.PLAIN)
        bulk = result(self.house.store.put_account(spec, self.house.clock.now()))
        self.want(Bounces(True, "bulk"))
        self.fail()
        self.round()
        self.assertEqual(bulk.pk, self.claimed().account_pk)
