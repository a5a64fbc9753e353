"""A new encryption key on real files: the old key, then new and old, then the new one alone."""

from __future__ import annotations

import random
import sqlite3
from typing import Any

import attrs
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.clock import Names
from mailproxy.crypto import Sealer, new_key
from mailproxy.dkim_keys import Algorithm, DkimKey
from mailproxy.errors import StoreRefused
from mailproxy.store import reseal
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.tenancy import ClientAuth, Tenant
from tests.build import account_spec
from tests.fakes import FakeClock, result
from tests.store.opened import empty_database, fresh


class KeyChangeCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = fresh(self)
        folder.mkdir()
        self.path = folder / "mail.db"
        self.path.write_bytes(empty_database())
        self.clock = FakeClock()
        self.old, self.new = new_key(), new_key()
        self.store = self.opened(self.old)

    def opened(self, *keys: str) -> EmbeddedStore:
        """The store of a process with these keys."""
        store = EmbeddedStore(
            self.path,
            clock=self.clock,
            names=Names(random.Random(1)),
            sealer=Sealer(keys),
            reactor=None,
        )
        store.open()
        self.addCleanup(store.close)
        return store

    def again(self, *keys: str) -> None:
        """The process ends, and the next one has these keys."""
        result(self.store.close())
        self.store = self.opened(*keys)

    def refused(self, *keys: str) -> str:
        """The next process has these keys and is refused. :return: in which words."""
        result(self.store.close())
        error = self.assertRaises(StoreRefused, self.opened, *keys)
        return str(error)

    def fill(self, count: int = 3) -> None:
        now = self.clock.now()
        for n in range(count):
            spec = account_spec(id=f"a{n}", user="u", password=f"secret {n}")
            result(self.store.put_account(spec, now))
        result(self.store.put_account(account_spec(id="without"), now))
        for name, auth, signing in (
            ("acme", ClientAuth("basic", None, "u", "secret p"), "secret s"),
            ("beta", ClientAuth("bearer", "secret t"), None),
            ("none", ClientAuth(), None),
        ):
            tenant = Tenant(name, client_auth=auth, signing_secret=signing)
            result(self.store.change_tenant(name, lambda _, made=tenant: made, now))  # type: ignore[misc]
        key = DkimKey("acme", "example.com", "s1", Algorithm.RSA, "secret k", "public")
        result(self.store.add_dkim_key(key))

    def secrets(self) -> list[Any]:
        """All that is sealed, in the clear; with what a change of the key may not touch."""
        return [
            *result(self.store.accounts(None)),
            *result(self.store.tenants()),
            *result(self.store.dkim_keys()),
        ]

    def upkeep(self) -> list[int]:
        steps = []
        while touched := result(self.store.upkeep(self.clock.now())):
            steps.append(touched)
        return steps

    def sealed(self) -> str:
        """All rows that hold secrets, as they are in the file."""
        connection = sqlite3.connect(self.path)
        try:
            return repr(
                [
                    connection.execute(f"SELECT * FROM {table}").fetchall()
                    for table in ("accounts", "tenants", "dkim_keys", "settings")
                ]
            )
        finally:
            connection.close()


class KeyChangeTests(KeyChangeCase):
    def test_the_key_is_changed(self) -> None:
        """After a start with the new and the old key, the new one alone opens everything."""
        self.fill()
        before = self.secrets()

        self.again(self.new, self.old)
        self.assertEqual(before, self.secrets())
        self.assertEqual([6, 1], self.upkeep())
        self.assertEqual(before, self.secrets())

        self.again(self.new)
        self.assertEqual(before, self.secrets())
        self.assertEqual([], self.upkeep())
        self.assertIn("encryption key", self.refused(self.old))

    def test_nothing_of_the_old_key_is_left(self) -> None:
        """Afterwards no row is sealed with the old key; no secret is in the clear at any time."""
        self.fill()
        key_id = Sealer([self.old]).seal("").partition(":")[0]
        self.assertIn(key_id, self.sealed())

        self.again(self.new, self.old)
        self.upkeep()

        self.assertNotIn(key_id, self.sealed())
        self.assertNotIn("secret ", self.sealed())

    def test_many_secrets_in_steps(self) -> None:
        """Many secrets are sealed again in many transactions."""
        self.fill(count=2 * reseal.STEP)

        self.again(self.new, self.old)

        self.assertEqual([reseal.STEP, reseal.STEP, 3, 1], self.upkeep())

    def test_the_new_key_too_early(self) -> None:
        """Before all is sealed again, neither key alone is let in, in one line; both are."""
        self.fill(count=reseal.STEP + 1)
        self.again(self.new, self.old)
        before = self.secrets()
        result(self.store.upkeep(self.clock.now()))

        for key in (self.new, self.old):
            words = self.refused(key)
            self.assertIn("encryption key", words)
            self.assertNotIn("\n", words)

        self.again(self.old, self.new)
        self.assertEqual(before, self.secrets())
        self.upkeep()
        self.again(self.old)
        self.assertEqual(before, self.secrets())

    def test_what_is_written_meanwhile(self) -> None:
        """What is put, deleted and changed while the key is changed is as it was said last."""
        self.fill(count=reseal.STEP + 5)
        self.again(self.new, self.old)
        now = self.clock.now()
        result(self.store.upkeep(now))
        spec = account_spec(id="a1", user="u", password="other")
        result(self.store.put_account(spec, now))
        result(self.store.delete_account("default", f"a{reseal.STEP + 4}", now))
        result(
            self.store.change_tenant(
                "acme", lambda old: attrs.evolve(old or Tenant(""), signing_secret=None), now
            )
        )
        self.upkeep()
        after = self.secrets()

        self.again(self.new)

        self.assertEqual(after, self.secrets())
        self.assertEqual(
            "other", next(each for each in after if getattr(each, "id", "") == "a1").password
        )

    def test_a_key_nobody_used(self) -> None:
        """A key that opens nothing is refused, also beside another that opens nothing."""
        self.fill()
        words = self.refused(new_key(), new_key())
        self.assertIn("GMP_ENCRYPTION_KEY", words)
        self.assertNotIn("\n", words)

    def test_secrets_of_a_key_that_is_gone(self) -> None:
        """A single secret of a key that is not at hand refuses the start, not a later read."""
        self.fill()
        result(self.store.close())
        strange = Sealer([new_key()]).seal("secret")
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("UPDATE tenants SET signing_secret=? WHERE id='beta'", (strange,))
        connection.close()

        self.assertRaises(StoreRefused, self.opened, self.old)


class DamageTests(KeyChangeCase):
    """One damaged secret is its owner's misfortune alone."""

    def damage(self) -> None:
        result(self.store.close())
        connection = sqlite3.connect(self.path, isolation_level=None)
        for table, column, name in (
            ("accounts", "password", "a1"),
            ("tenants", "signing_secret", "acme"),
            ("dkim_keys", "private", "acme"),
        ):
            key = "tenant_id" if table == "dkim_keys" else "id"
            connection.execute(
                f"UPDATE {table} SET {column}=substr({column}, 1, 60) WHERE {key}=?", (name,)
            )
        connection.close()

    def found(self) -> tuple[list[str | None], list[str | None]]:
        accounts = [each.password for each in result(self.store.accounts(None))]
        return accounts, [each.signing_secret for each in result(self.store.tenants())]

    def test_others_are_read(self) -> None:
        """A damaged secret is read as none, which is told once; all others are there."""
        self.fill()
        self.damage()
        self.store = self.opened(self.old)
        with capturedLogs() as events:
            for _ in range(3):
                found = self.found()

        self.assertEqual((["secret 0", None, "secret 2", None], [None] * 4), found)
        told = [formatEvent(event) for event in events]
        self.assertEqual(1, sum("account a1" in line for line in told), told)
        self.assertEqual(1, sum("tenant acme" in line for line in told), told)

    def test_a_damaged_dkim_key(self) -> None:
        """A damaged key that signs mail is there, with nothing to sign with, which is told."""
        self.fill()
        self.damage()
        self.store = self.opened(self.old)
        with capturedLogs() as events:
            (key,) = result(self.store.dkim_keys())

        self.assertEqual(("s1", None), (key.selector, key.private))
        (told,) = [formatEvent(event) for event in events]
        self.assertIn("DKIM key s1 of example.com", str(told))

    def test_the_key_is_changed_all_the_same(self) -> None:
        """A damaged secret does not keep the key from being changed."""
        self.fill()
        self.damage()
        self.store = self.opened(self.new, self.old)
        self.assertEqual([6, 1], self.upkeep())

        self.again(self.new)

        self.assertEqual((["secret 0", None, "secret 2", None], [None] * 4), self.found())
