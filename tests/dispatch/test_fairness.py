"""
Accounts beside one another on a real store with a hundred thousand messages, in virtual time.

What is asserted is who is begun, in what order, before any time has passed. How long that takes on
a machine is measured by ``benchmarks.isolation``.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from benchmarks.filled import fill
from mailproxy.dispatch.dispatcher import Dispatcher, DispatchOptions
from mailproxy.dispatch.ready import BY_AGE
from mailproxy.errors import AccountFault
from mailproxy.interfaces import ICourier, IFeed
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed
from mailproxy.store.database import connect
from tests.build import account_spec, new_message
from tests.dispatch.test_dispatcher import delivered
from tests.fakes import FakeClock, result
from tests.store.opened import Opened, fresh

#: Messages that wait for the account in trouble.
WAITING = 100_000

#: Sessions of that account, and messages in one claim.
SESSIONS, BATCH = 8, 50


@cache
def filled() -> bytes:
    """A database with two accounts and all that waits for one of them: made once."""
    clock = FakeClock()
    with TemporaryDirectory() as folder:
        opened = Opened(Path(folder) / "store", clock)
        for id, sessions in (("busy", SESSIONS), ("live", SESSIONS)):
            spec = account_spec(id=id, max_sessions=sessions)
            result(opened.store.put_account(spec, clock.now()))
        seed = new_message(id="seed", account_id="busy")
        result(opened.store.enqueue([seed], clock.now(), 5.0))
        result(opened.close())
        connection = connect(str(opened.path))
        try:
            (lane,) = connection.execute("SELECT pk FROM lanes WHERE queued = 1").fetchone()
            fill(connection, [lane], WAITING, now=clock.now(), due=clock.now() - 60.0)
            # Each test has an encryption key of its own.
            connection.execute("DELETE FROM settings WHERE name = 'key_check'")
        finally:
            connection.close()
        return opened.path.read_bytes()


@implementer(ICourier)
class Upstreams:
    """
    One per account. What is begun waits in DATA until :meth:`accept`, where it is asked to.

    :ivar trouble: what becomes of a carry before it takes a message, by account: ``hang`` (no
        banner ever comes) or a fault.
    :ivar holding: accounts whose bodies wait.
    """

    def __init__(self) -> None:
        self.trouble: dict[str, AccountFault | str] = {}
        self.holding: set[str] = set()
        self.begun: list[tuple[str, str]] = []
        self.open: dict[str, int] = {}
        self._waiting: list[Deferred[None]] = []

    def completes(self, message: Claimed, feed: IFeed) -> bool:
        return False

    async def carry(self, account: Account, feed: IFeed) -> None:
        self.open[account.id] = self.open.get(account.id, 0) + 1
        trouble = self.trouble.get(account.id)
        if isinstance(trouble, AccountFault):
            raise trouble
        if trouble:
            await Deferred()
        while (message := feed.next()) is not None:
            if not await feed.begin(message):
                continue
            self.begun.append((account.id, message.id))
            if account.id in self.holding:
                waiting: Deferred[None] = Deferred()
                self._waiting.append(waiting)
                await waiting
            await feed.finish(message, delivered(message))

    def accept(self, count: int = 1) -> None:
        """So many bodies that wait are accepted, the oldest first."""
        for _ in range(count):
            self._waiting.pop(0).callback(None)

    def ids(self, account_id: str) -> list[str]:
        return [id for account, id in self.begun if account == account_id]

    async def close(self, deadline: float) -> None:
        """What waits stays as it is."""


class FairnessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(fresh(self), self.clock)
        result(self.opened.store.close())
        self.opened.path.write_bytes(filled())
        self.store = self.opened.killed()
        self.addCleanup(self.opened.close)
        self.upstreams = Upstreams()
        self.begin = self.clock.now()

    def start(self) -> None:
        options = DispatchOptions(batch_size=BATCH)
        self.dispatcher = Dispatcher(
            self.store, self.upstreams, self.clock, random.Random(1), Metrics(), options
        )
        self.dispatcher.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        done = self.dispatcher.stopService()
        self.clock.pump([0.02] * 60)
        self.successResultOf(done)

    def add(self, id: str, account_id: str, priority: int = 2, **fields: Any) -> None:
        message = new_message(id=id, account_id=account_id, priority=priority, **fields)
        result(self.store.enqueue([message], self.clock.now(), 5.0))

    def change(self, **fields: Any) -> None:
        result(self.store.put_account(account_spec(id="busy", **fields), self.clock.now()))

    def leased(self) -> int:
        """Messages of the account in trouble that this process has taken up."""
        (row,) = self.opened.sql(
            "SELECT count(*) FROM messages WHERE lease_owner IS NOT NULL AND account_pk ="
            " (SELECT pk FROM accounts WHERE id = 'busy')"
        )
        return int(row[0])

    def check_live(self) -> None:
        """Mail of the other account is begun as it comes, before any time has passed."""
        for n in range(3 * BY_AGE):
            self.add(f"live-{n}", "live", priority=n % 4)
            self.assertEqual([f"live-{n}"], self.upstreams.ids("live")[n:])
        self.assertEqual(self.begin, self.clock.now())

    def test_beside_one_that_hangs(self) -> None:
        """
        An account that hangs takes up no more than it could send, and another's mail does not wait.
        """
        self.upstreams.trouble["busy"] = "hang"
        self.start()
        self.assertLessEqual(self.leased(), 2 * BATCH)
        self.assertLessEqual(self.upstreams.open["busy"], SESSIONS)

        self.check_live()
        self.assertEqual([], self.upstreams.ids("busy"))
        self.clock.pump([1.0] * 60)
        self.add("later", "live", priority=0)
        self.assertEqual("later", self.upstreams.ids("live")[-1])
        self.assertLessEqual(self.leased(), 2 * BATCH)

    def test_beside_one_that_is_parked(self) -> None:
        """An account that cannot be reached keeps nothing, and another's mail does not wait."""
        self.upstreams.trouble["busy"] = AccountFault("connect", "refused")
        self.start()
        self.assertEqual(0, self.leased())
        self.check_live()

    def test_beside_one_whose_bodies_hang(self) -> None:
        """Bodies that are never answered keep their own account's sessions, nobody else's."""
        self.upstreams.holding.add("busy")
        self.start()
        self.assertLessEqual(len(self.upstreams.ids("busy")), SESSIONS)
        self.check_live()

    def test_priority_0_overtakes(self) -> None:
        """What is priority 0 comes before all of its account that is not in DATA yet."""
        self.upstreams.holding.add("busy")
        self.start()
        first = len(self.upstreams.ids("busy"))
        self.assertGreater(first, 0)
        for n in range(2 * BY_AGE):
            self.add(f"urgent-{n}", "busy", priority=0)
        if len(self.upstreams.ids("busy")) == first:
            self.upstreams.accept()
        while len(self.upstreams.ids("busy")) < first + 2 * BY_AGE:
            self.upstreams.accept()
        self.assertEqual(
            [f"urgent-{n}" for n in range(2 * BY_AGE)],
            self.upstreams.ids("busy")[first : first + 2 * BY_AGE],
        )
        self.assertEqual(self.begin, self.clock.now())

    def test_nothing_starves(self) -> None:
        """Though mail of priority 1 keeps coming, one in sixteen that are begun is from behind."""
        self.upstreams.holding.add("busy")
        self.start()
        new = 0
        for new in range(4 * BATCH):
            self.add(f"new-{new}", "busy", priority=1)
        begun = len(self.upstreams.ids("busy"))
        rounds = 20 * BY_AGE
        for n in range(rounds):
            self.add(f"new-{new + 1 + n}", "busy", priority=1)
            self.upstreams.accept()
        ids = self.upstreams.ids("busy")[begun + BATCH :]
        old = [id for id in ids if not id.startswith("new-")]
        self.assertGreaterEqual(len(old), len(ids) // BY_AGE - 1)
        self.assertLessEqual(len(old), len(ids) // 4)
