"""The tenants and their keys as a process knows them."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.book import POLL, TenantBook
from mailproxy.crypto import hash_token
from mailproxy.dkim_keys import Algorithm, DkimKey
from mailproxy.errors import StoreUnavailable
from mailproxy.tenancy import ApiKey, Tenant
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, result


class SlowStore(FakeStore):
    """A store whose readings of keys can be made to fail, or to come late with what they read."""

    failing = False
    late: Deferred[None] | None = None

    async def keys(self) -> list[ApiKey]:
        if self.failing:
            raise StoreUnavailable("away")
        found = await super().keys()
        if self.late is not None:
            await self.late
        return found


class BookTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = SlowStore(self.clock)
        self.book = TenantBook(self.store, self.clock)

    def start(self) -> None:
        self.book.startService()
        self.addCleanup(self.book.stopService)

    def register(self, tenant_id: str, **fields: Any) -> None:
        """Through another node: this book is not told."""
        change = lambda old: attrs.evolve(old or Tenant(tenant_id), **fields)  # noqa: E731
        result(self.store.change_tenant(tenant_id, change, self.clock.now()))

    def add_key(self, tenant_id: str, token: str, **fields: Any) -> ApiKey:
        key = ApiKey(hash_token(token), token[:8], tenant_id, **fields)
        result(self.store.add_key(key, self.clock.now()))
        return key

    # What it answers.

    def test_tenants(self) -> None:
        """It knows every tenant, one of them by name, and none that there is not."""
        self.register("acme", name="Acme")
        self.start()
        self.assertEqual("Acme", getattr(self.book.tenant("acme"), "name", None))
        self.assertEqual(["acme", "default"], [each.id for each in self.book.tenants()])
        self.assertEqual((True, False), (self.book.exists("acme"), self.book.exists("other")))
        self.assertIsNone(self.book.tenant("other"))

    def test_default(self) -> None:
        """The tenant of clients without tenants exists before anything was read."""
        self.assertTrue(self.book.exists("default"))
        self.assertFalse(self.book.loaded)

    def test_deleted(self) -> None:
        """A tenant that is being deleted is none, but is still told what became of its mail."""
        self.register("acme")
        key = self.add_key("acme", "token")
        self.start()
        result(self.store.delete_tenant("acme", self.clock.now()))
        result(self.book.refresh())
        self.assertFalse(self.book.exists("acme"))
        self.assertIsNone(self.book.key(key.hash))
        self.assertEqual(["default"], [each.id for each in self.book.tenants()])
        self.assertEqual("acme", getattr(self.book.reported("acme"), "id", None))

    def test_keys(self) -> None:
        """A key is found by its hash, and the keys of a tenant by its id."""
        self.register("acme")
        key = self.add_key("acme", "token")
        self.start()
        self.assertEqual("acme", getattr(self.book.key(key.hash), "tenant_id", None))
        self.assertIsNone(self.book.key(hash_token("tokem")))
        self.assertEqual([key.prefix], [each.prefix for each in self.book.keys("acme")])
        self.assertEqual([], self.book.keys("default"))

    def test_expiry(self) -> None:
        """A key is good until the very second of its end, whenever the book last looked."""
        self.register("acme")
        key = self.add_key("acme", "token", expires_at=self.clock.now() + 2)
        self.start()
        self.clock.advance(1.9)
        self.assertIsNotNone(self.book.key(key.hash))
        self.clock.advance(0.1)
        self.assertIsNone(self.book.key(key.hash))
        self.assertEqual([], self.book.keys("acme"))

    # How it stays true.

    def test_other_nodes(self) -> None:
        """What another node changed is known after a few seconds."""
        self.start()
        self.register("acme")
        key = self.add_key("acme", "token")
        self.assertFalse(self.book.exists("acme"))
        self.clock.advance(POLL)
        self.assertTrue(self.book.exists("acme"))
        result(self.store.revoke_keys("acme", None, self.clock.now()))
        self.clock.advance(POLL)
        self.assertIsNone(self.book.key(key.hash))

    def test_told_of_other_nodes(self) -> None:
        """What another node changed is known when that is told, without waiting for a look."""
        self.register("acme")
        key = self.add_key("acme", "token")
        self.start()
        self.assertIsNotNone(self.book.key(key.hash))
        result(self.store.revoke_keys("acme", None, self.clock.now()))
        (told,) = self.store.watchers
        told()
        self.assertIsNone(self.book.key(key.hash))

    def test_told_many_times(self) -> None:
        """However often it is told while it reads, it reads once more; stopped, it is not told."""
        self.start()
        (told,) = self.store.watchers
        late: Deferred[None] = Deferred()
        self.store.late = late
        told()
        self.store.late = None
        reads: list[None] = []
        keys = self.store.keys

        async def counted() -> list[ApiKey]:
            reads.append(None)
            return await keys()

        self.store.keys = counted  # type: ignore[method-assign]
        for _ in range(20):
            told()
        late.callback(None)
        self.assertEqual(1, len(reads))
        self.book.stopService()
        self.assertEqual([], self.store.watchers)
        self.book.startService()

    def test_sick_store(self) -> None:
        """While the store cannot be read, what was known stays known, and the polling goes on."""
        self.register("acme")
        key = self.add_key("acme", "token")
        self.start()
        self.store.failing = True
        self.clock.pump([POLL] * 3)
        self.assertIsNotNone(self.book.key(key.hash))
        self.assertTrue(self.book.loaded)
        self.store.failing = False
        self.register("later")
        self.clock.advance(POLL)
        self.assertTrue(self.book.exists("later"))

    def test_a_fault_of_ours(self) -> None:
        """An error nobody foresaw is logged, and the polling goes on."""
        self.start()
        self.add_key("default", "token")
        self.book.note_use(self.add_key("default", "other"))
        self.store.fail_next(ZeroDivisionError(), "keys_used")
        self.clock.advance(POLL)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.register("later")
        self.clock.advance(POLL)
        self.assertTrue(self.book.exists("later"))

    def test_not_before_the_first_look(self) -> None:
        """Before the first look has come to its end it says so, and lets those wait who need it."""
        self.store.failing = True
        self.start()
        waiting = Deferred.fromCoroutine(self.book.ready())
        self.assertFalse(self.book.loaded)
        self.assertNoResult(waiting)
        self.store.failing = False
        self.clock.advance(POLL)
        self.assertTrue(self.book.loaded)
        self.successResultOf(waiting)
        self.successResultOf(Deferred.fromCoroutine(self.book.ready()))

    def test_a_late_reading_undoes_nothing(self) -> None:
        """A reading that began before a change does not undo it when it ends after it."""
        self.register("acme")
        self.start()
        late: Deferred[None] = Deferred()
        self.store.late = late
        self.clock.advance(POLL)  # reads the keys there were
        self.store.late = None
        key = self.add_key("acme", "token")
        changing = Deferred.fromCoroutine(self.book.changed())
        late.callback(None)
        self.successResultOf(changing)
        self.assertIsNotNone(self.book.key(key.hash))

    def test_a_change_that_cannot_be_read_back(self) -> None:
        """After such a change no key is judged until the store can be read again."""
        self.start()
        self.store.failing = True
        result(self.book.changed())
        self.assertFalse(self.book.loaded)
        self.clock.advance(POLL)
        self.assertFalse(self.book.loaded)
        self.store.failing = False
        self.clock.advance(POLL)
        self.assertTrue(self.book.loaded)

    def test_watchers(self) -> None:
        """Watchers are told of each tenant that appears, changes or goes, and of no other."""
        told: list[str] = []
        self.start()
        self.book.watch(told.append)
        self.register("acme")
        self.register("beta")
        self.clock.advance(POLL)
        self.assertEqual(["acme", "beta"], sorted(told))
        self.register("beta", name="Beta")
        self.clock.advance(POLL)
        self.assertEqual("beta", told.pop())
        self.clock.pump([POLL] * 3)
        self.assertEqual(2, len(told))

    # What it notes.

    def used_at(self, key: ApiKey) -> float | None:
        (found,) = [each for each in result(self.store.keys()) if each.hash == key.hash]
        return found.used_at

    def test_use_is_stored(self) -> None:
        """When a key was last used is shown at once and stored a few seconds later."""
        key = self.add_key("default", "token")
        self.start()
        self.clock.advance(1)
        self.book.note_use(key)
        used = self.clock.now()
        self.assertEqual([used], [each.used_at for each in self.book.keys("default")])
        self.assertIsNone(self.used_at(key))
        self.clock.advance(POLL)
        self.assertEqual(used, self.used_at(key))

    def test_use_is_not_forgotten(self) -> None:
        """A use that could not be stored is stored at the next look."""
        key = self.add_key("default", "token")
        self.start()
        self.book.note_use(key)
        used = self.clock.now()
        self.store.fail_next(StoreUnavailable("full"), "keys_used")
        self.clock.advance(POLL)
        self.assertIsNone(self.used_at(key))
        self.clock.advance(POLL)
        self.assertEqual(used, self.used_at(key))

    def test_use_is_stored_at_the_end(self) -> None:
        """What was used since the last look is stored when the service stops."""
        key = self.add_key("default", "token")
        self.book.startService()
        self.book.note_use(key)
        self.successResultOf(self.book.stopService())
        self.assertEqual(self.clock.now(), self.used_at(key))
        self.assertEqual([], self.clock.getDelayedCalls())

    # Keys that sign mail.

    def add_dkim(self, tenant_id: str, selector: str, **fields: Any) -> DkimKey:
        values = {"domain": "example.com", "algorithm": Algorithm.RSA, "active": True, **fields}
        key = DkimKey(tenant_id=tenant_id, selector=selector, private="p", public="q", **values)
        result(self.store.add_dkim_key(key))
        return key

    def test_signing(self) -> None:
        """It knows what signs a tenant's mail from a domain: active keys, of that domain alone."""
        self.register("acme")
        rsa = self.add_dkim("acme", "a")
        ed25519 = self.add_dkim("acme", "b", algorithm=Algorithm.ED25519, created_at=1.0)
        self.add_dkim("acme", "c", domain="off.example", active=False)
        self.start()

        self.assertEqual([rsa, ed25519], self.book.signing("acme", "example.com"))
        for tenant_id, domain in (
            ("acme", "sub.example.com"),
            ("acme", "com"),
            ("acme", "off.example"),
            ("default", "example.com"),
        ):
            self.assertEqual((), self.book.signing(tenant_id, domain))
        self.assertEqual((True, False), (self.book.signs("acme"), self.book.signs("default")))
        self.assertTrue(self.book.any_signing)

    def test_signing_of_others(self) -> None:
        """A key that another node activates signs here within seconds; so it ends."""
        self.start()
        self.assertFalse(self.book.any_signing)
        self.add_dkim("default", "a")
        self.clock.advance(POLL)
        self.assertTrue(self.book.signs("default"))
        result(self.store.switch_dkim_key("default", "example.com", "a", False))
        self.clock.advance(POLL)
        self.assertFalse(self.book.signs("default"))
