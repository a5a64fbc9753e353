"""Nodes with threads and a reactor: they hear of each other's mail, and outlive their server."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mailproxy.clock import Names, SystemClock
from mailproxy.crypto import Sealer, new_key
from mailproxy.errors import StoreError
from mailproxy.records import ListQuery
from mailproxy.store.options import StoreOptions
from mailproxy.store.postgres import PostgresStore
from tests.build import account_spec, new_message
from tests.fakes import FakeObserver
from tests.postgres import Server, server
from tests.store.postgres_opened import migrated

#: Seconds until what was waited for counts as missed.
PATIENCE = 10.0


class ThreadedCase(TestCase):
    timeout = 60.0

    def setUp(self) -> None:
        self.launcher: Any = reactor
        self.clock = SystemClock(self.launcher)
        self.key = new_key()

    def open(self, url: str) -> PostgresStore:
        store = PostgresStore(
            url,
            clock=self.clock,
            names=Names(random.Random()),
            sealer=Sealer([self.key]),
            reactor=self.launcher,
            options=StoreOptions(busy_seconds=PATIENCE),
        )
        store.open()
        self.addCleanup(store.close)
        return store

    async def until(self, condition: Any) -> None:
        end = self.clock.seconds() + PATIENCE
        while not condition():
            self.assertLess(self.clock.seconds(), end)
            await deferLater(self.launcher, 0.01)

    async def post(self, store: PostgresStore, message_id: str) -> None:
        await store.enqueue([new_message(id=message_id)], self.clock.now(), PATIENCE)


class HearingTests(ThreadedCase):
    async def test_another_node(self) -> None:
        """What one node stores is due at the other a moment later; its own it is told once."""
        url = server().url(server().database(migrated()))
        first, second = self.open(url), self.open(url)
        account = await first.put_account(account_spec(), self.clock.now())
        watchers = FakeObserver(), FakeObserver()
        for store, watcher in zip((first, second), watchers, strict=True):
            store.subscribe(watcher)
            listener = store._listener
            assert listener is not None
            await self.until(lambda listener=listener: listener.listening)

        await self.post(first, "m1")

        await self.until(lambda: watchers[1].due_accounts)
        self.assertEqual({account.pk}, set(watchers[1].due_accounts))
        (claimed,) = await second.claim(account.pk, 10, self.clock.now())
        self.assertEqual("m1", claimed.id)


class RestartTests(ThreadedCase):
    def setUp(self) -> None:
        super().setUp()
        folder = Path(mkdtemp(prefix="mailproxy-postgres-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.server = Server(folder)
        self.server.create()
        self.server.start()
        self.addCleanup(self.server.stop)

    async def test_works_wait(self) -> None:
        """The server is killed and comes back: what was asked for meanwhile is done then."""
        store = self.open(self.server.url("postgres"))
        await store.put_account(account_spec(), self.clock.now())
        await self.post(store, "m1")
        self.server.stop()

        waiting = [Deferred.fromCoroutine(self.post(store, f"m{n}")) for n in (2, 3)]
        await deferLater(self.launcher, 0.3)
        self.assertFalse(any(each.called for each in waiting))
        self.server.start()

        for each in waiting:
            await each
        found = await store.messages(ListQuery())
        self.assertEqual(["m1", "m2", "m3"], sorted(each.id for each in found))
        listener = store._listener
        assert listener is not None
        await self.until(lambda: listener.listening)

    async def test_closing(self) -> None:
        """A store whose server is away closes all the same, and refuses what waits."""
        store = self.open(self.server.url("postgres"))
        await store.put_account(account_spec(), self.clock.now())
        self.server.stop()
        waiting = Deferred.fromCoroutine(self.post(store, "m1"))
        await deferLater(self.launcher, 0.1)

        await store.close()

        await self.assertFailure(waiting, StoreError)
