"""Two dispatchers with one store: what one finds out about an account the other goes by."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred

from mailproxy.dispatch.dispatcher import Dispatcher
from mailproxy.errors import AccountFault
from mailproxy.metrics import Metrics
from tests.build import new_message
from tests.dispatch.test_dispatcher import DispatchCase, ScriptedCourier
from tests.fake_store import FakeStore
from tests.fakes import result


class TwoNodesTests(DispatchCase):
    """:ivar other: the second node's dispatcher, whose store is on the disk of the first."""

    def setUp(self) -> None:
        super().setUp()
        self.courier_there = ScriptedCourier()
        self.metrics_there = Metrics()
        self.store_there = FakeStore(self.clock, disk=self.store.disk)
        self.other = Dispatcher(
            self.store_there,
            self.courier_there,
            self.clock,
            random.Random(2),
            self.metrics_there,
            self.options,
        )
        self.other.startService()
        self.addCleanup(self.stop_other)
        self.add_there("first")  # now both have read the account
        self.add("second")
        self.assertEqual({"sent"}, set(self.store.states().values()))

    def stop_other(self) -> None:
        done = self.other.stopService()
        self.clock.pump([0.02] * 60)
        self.successResultOf(done)

    def add_there(self, *ids: str) -> None:
        messages = [new_message(id=id) for id in ids]
        result(self.store_there.enqueue(messages, self.clock.now(), 5.0))

    def parked(self, metrics: Metrics) -> float | None:
        labels = {"tenant_id": "default", "account_id": "acct"}
        return metrics.registry.get_sample_value("mailproxy_accounts_parked", labels)

    def fail(self, *ids: str) -> None:  # type: ignore[override]
        """The first node cannot reach the upstream, and parks the account."""
        self.courier.fault = AccountFault("connect", "refused")
        self.add(*ids)
        self.assertEqual(1.0, self.parked(self.metrics))

    def test_parked_by_another(self) -> None:
        """A node that did not park the account itself tries it with one session, then with all."""
        self.fail("a")
        self.assertEqual(0.0, self.parked(self.metrics_there))
        self.courier_there.carries.clear()
        gate: Deferred[None] = Deferred()
        self.courier_there.gate = gate
        ids = [f"m{n}" for n in range(40)]
        self.add_there(*ids)
        self.assertEqual([], self.courier_there.carries)

        account = result(self.store.account(self.account.pk))
        assert account is not None
        assert account.probe_at is not None
        self.stop()  # or it might be the one that tries
        self.clock.advance(account.probe_at - self.clock.now())
        self.other.due([self.account.pk])
        self.clock.advance(1.0)

        self.assertEqual(1, len(self.courier_there.carries))
        self.assertEqual(1.0, self.parked(self.metrics_there))
        gate.callback(None)
        self.courier_there.gate = None
        self.clock.pump([1.0] * 5)
        self.assertEqual(0.0, self.parked(self.metrics_there))
        self.assertLessEqual({"sent"}, {self.store.states()[each] for each in ids})

    def test_works_again_for_another(self) -> None:
        """A node that parked the account goes on at once when another found that it works."""
        self.fail("a")
        self.courier.fault = None
        self.courier.carries.clear()
        result(self.store_there.unpark_account(self.account.pk))
        self.courier.gate = Deferred()

        self.add(*(f"m{n}" for n in range(20)))

        self.assertEqual(0.0, self.parked(self.metrics))
        self.assertGreater(len(self.courier.carries), 1)
        self.courier.gate.callback(None)
