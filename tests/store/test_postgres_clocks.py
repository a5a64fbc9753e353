"""F49: nodes whose machines' clocks are an hour wrong: the server's clock is that of all."""

from __future__ import annotations

import random
import time
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.clock import REREAD, SystemClock
from mailproxy.model import Account, Claimed
from mailproxy.store.options import StoreOptions
from tests.build import account_spec, new_message
from tests.fakes import result
from tests.store.postgres_opened import Opened

HOUR = 3600.0

#: Seconds by which what is measured here may be off: the server's clock goes on meanwhile.
SLACK = 20.0


class Machine:
    """:ivar error: seconds by which its clock is wrong."""

    def __init__(self, error: float) -> None:
        self.error = error
        self.mono = Clock()
        self.clock = SystemClock(self.mono, lambda: time.time() + self.error)


class ClocksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.machines = Machine(HOUR), Machine(-HOUR)
        ahead, behind = (machine.clock for machine in self.machines)
        self.opened = Opened(ahead, random.Random(5), options=StoreOptions())
        self.addCleanup(self.opened.close)
        self.stores = self.opened.store, self.opened.another(behind)
        self.account: Account = self.put()

    def put(self, **options: str) -> Account:
        return result(self.stores[0].put_account(account_spec(**options), self.now()))

    def now(self, node: int = 0) -> float:
        return self.machines[node].clock.now()

    def post(self, *ids: str, **fields: Any) -> None:
        messages = [new_message(id=each, **fields) for each in ids]
        result(self.stores[1].enqueue(messages, self.now(1), 5.0))
        for machine in self.machines:
            machine.mono.advance(1.0)

    def claim(self, node: int, limit: int = 10) -> list[Claimed]:
        return list(result(self.stores[node].claim(self.account.pk, limit, self.now(node))))

    def begin(self, node: int, *claimed: Claimed) -> list[bool]:
        leases = [(each.pk, each.token) for each in claimed]
        return list(result(self.stores[node].begin(leases, "acct", self.now(node))))

    def pass_time(self, seconds: float) -> None:
        """Let it go by for the machines, and have the server heard of."""
        for machine in self.machines:
            machine.mono.advance(seconds)
        self.beat()

    def beat(self) -> None:
        for node, store in enumerate(self.stores):
            result(store.heartbeat(self.now(node)))

    def test_agreed(self) -> None:
        """Both go by the server's clock from the start."""
        (server,) = self.opened.sql("SELECT CAST(EXTRACT(EPOCH FROM now()) AS FLOAT)")[0]
        for node in (0, 1):
            self.assertApproximates(server, self.now(node), SLACK)

    def test_jumps(self) -> None:
        """A jump of a machine's clock afterwards is nothing to the node, nor to its claims."""
        self.post("m1")
        (claimed,) = self.claim(0)
        for error in (2 * HOUR, -HOUR):
            self.machines[0].error = error
            before = self.now()
            self.pass_time(0.0)
            self.machines[0].mono.advance(REREAD + 1)
            self.assertApproximates(before + REREAD + 1, self.now(), SLACK)
            self.beat()
            self.assertEqual([], result(self.stores[1].abandoned(self.now(1))))
        self.assertEqual([True], self.begin(0, claimed))

    def test_scheduled(self) -> None:
        """Mail for later is sent early by nobody, and nothing is too old for anybody."""
        self.post("later", not_before=self.now(1) + 600.0)
        self.post("now")
        for node in (0, 1):
            accounts, next_due = result(self.stores[node].due_accounts(self.now(node)))
            self.assertEqual([self.account.pk], accounts)
            assert next_due is None or next_due > self.now(node) + 500.0
            while result(self.stores[node].upkeep(self.now(node))):
                pass
        (claimed,) = self.claim(1)
        self.assertEqual("now", claimed.id)
        self.assertEqual([], self.claim(0))
        self.assertEqual([True], self.begin(1, claimed))

    def test_limits(self) -> None:
        """A limit holds for both together, though one thinks the other's mail was hours ago."""
        self.account = self.put(options='{"limit_per_minute": 5}')
        self.post(*(f"m{n}" for n in range(20)))
        granted = [
            granted for node in (1, 0) for granted in self.begin(node, *self.claim(node, 10))
        ]
        self.assertEqual(5, sum(granted))
