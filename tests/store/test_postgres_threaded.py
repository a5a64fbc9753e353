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

from mailproxy.book import TenantBook
from mailproxy.clock import Names, SystemClock
from mailproxy.crypto import Sealer, hash_token, new_key
from mailproxy.dkim_keys import Algorithm, DkimKey, generate
from mailproxy.errors import StoreError
from mailproxy.records import ListQuery
from mailproxy.store.options import StoreOptions
from mailproxy.store.postgres import PostgresStore
from mailproxy.store.postgres_listen import GATHER
from mailproxy.submitter_book import SubmitterBook
from mailproxy.submitters import Submitter
from mailproxy.tenancy import ApiKey, Tenant
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


class CopiesTests(ThreadedCase):
    """What processes keep copies of: who may come in, and what signs."""

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        url = server().url(server().database(migrated()))
        self.first, second = self.open(url), self.open(url)
        # No look of their own comes to their help.
        self.book = TenantBook(second, self.clock, poll=1000.0)
        self.submitters = SubmitterBook(second, self.clock, poll=1000.0)
        listener = second._listener
        assert listener is not None
        await self.until(lambda: listener.listening)
        for book in (self.book, self.submitters):
            book.startService()
            self.addCleanup(book.stopService)
        await self.until(lambda: self.book.loaded and self.submitters.loaded)
        await deferLater(self.launcher, 4 * GATHER)  # it reads once more since it listens

    async def known(self, condition: Any) -> None:
        """The other node is told: within a second, but for a machine that has other work."""
        began = self.clock.seconds()
        await self.until(condition)
        self.assertLess(self.clock.seconds() - began, 3.0)

    async def test_tenants_and_keys(self) -> None:
        """A tenant, its keys, and their end: each is known to the other node in a moment."""
        now, book = self.clock.now(), self.book
        key = ApiKey(hash_token("token"), "token", "acme")
        await self.first.change_tenant("acme", lambda old: old or Tenant("acme"), now)
        await self.known(lambda: book.exists("acme"))
        await self.first.add_key(key, now)
        await self.known(lambda: book.key(key.hash))
        await self.first.revoke_keys("acme", key.prefix, now)
        await self.known(lambda: not book.key(key.hash))
        await self.first.delete_tenant("acme", now)
        await self.known(lambda: not book.exists("acme"))

    async def test_credentials(self) -> None:
        """A credential, and its end."""
        user = Submitter("printer", "default", networks=("10.0.0.0/8",))
        await self.first.put_submitter(user, self.clock.now())
        await self.known(lambda: self.submitters.of_network("10.1.2.3"))
        await self.first.delete_submitter("default", "printer")
        await self.known(lambda: not self.submitters.user("printer"))

    async def test_keys_that_sign(self) -> None:
        """A key that signs, switched off, on, and dropped."""
        pair = generate(Algorithm.ED25519)
        domain = "example.com"
        key = DkimKey("default", domain, "s1", pair.algorithm, pair.private, pair.public, True)
        await self.first.add_dkim_key(key)
        await self.known(lambda: self.book.signing("default", domain))
        await self.first.switch_dkim_key("default", domain, "s1", False)
        await self.known(lambda: not self.book.signing("default", domain))
        await self.first.switch_dkim_key("default", domain, "s1", True)
        await self.known(lambda: self.book.signing("default", domain))
        await self.first.drop_dkim_key("default", domain, "s1")
        await self.known(lambda: not self.book.any_signing)

    async def test_missed(self) -> None:
        """What happened while it could not listen is read when it can again."""
        store = self.book._store
        assert isinstance(store, PostgresStore)
        listener = store._listener
        assert listener is not None
        assert listener._ear is not None
        listener._leave()
        await self.first.change_tenant("late", lambda old: old or Tenant("late"), self.clock.now())
        await deferLater(self.launcher, 4 * GATHER)
        self.assertFalse(self.book.exists("late"))
        listener._dial()
        await self.known(lambda: self.book.exists("late"))


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
