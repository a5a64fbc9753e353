"""What every store promises of accounts that the configuration declares."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec

from mailproxy.logins import XOAUTH2, Auth, Secrets, secrets_of
from mailproxy.model import Account
from mailproxy.records import AccountSpec, PasswordRequired
from mailproxy.tenancy import Declared
from tests.build import account_spec
from tests.contracts_base import StoreContract


class DeclaredContract(StoreContract):
    async def declare(self, *specs: AccountSpec) -> None:
        await self.store.declare_accounts(specs, self.now)

    async def found(self, account_id: str) -> Account:
        (account,) = [each for each in await self.store.accounts(None) if each.id == account_id]
        return account

    def spec(self, **fields: Any) -> AccountSpec:
        values = {"id": "conf", "user": "u", "password": "secret"}
        return account_spec(**{**values, **fields})

    async def test_declared_accounts_are_there(self) -> None:
        """What the configuration declares is made, and says that it is declared."""
        await self.declare(self.spec(), self.spec(id="two", host="two.example.net"))

        account = await self.found("conf")
        self.assertEqual((True, "secret", 1), (account.declared, account.password, account.version))
        self.assertEqual("two.example.net", (await self.found("two")).host)
        self.assertFalse((await self.found("acct")).declared)

    async def test_unchanged(self) -> None:
        """An account that is declared as it is stays as it is, with its version."""
        await self.declare(self.spec())
        before = await self.found("conf")
        self.later(60)

        await self.declare(self.spec())
        await self.declare(self.spec(password=None))

        self.assertEqual(before, await self.found("conf"))

    async def test_changed(self) -> None:
        """An account that is declared otherwise is changed, and the dispatcher is told."""
        await self.declare(self.spec(), self.spec(id="same"))
        before = await self.found("conf")
        self.observer.forget()

        changes: list[dict[str, Any]] = [{"password": "new"}, {"timeout": 5.0}, {"user": None}]
        for n, change in enumerate(changes, 2):
            await self.declare(self.spec(**change), self.spec(id="same"))
            self.assertEqual((before.pk, n), ((await self.found("conf")).pk, n))
            self.assertEqual(n, (await self.found("conf")).version)

        self.assertIn(before.pk, self.observer.due_accounts)
        self.assertEqual(1, (await self.found("same")).version)

    async def test_a_renewed_secret_stays(self) -> None:
        """What an authorization server renewed is not undone by the next start."""
        auth = Auth(XOAUTH2, "refresh_token", "https://login.test/", "c").public()
        options = msgspec.json.encode({"auth": auth}).decode()
        spec = self.spec(password=Secrets("s", "r0").dump(), options=options)
        await self.declare(spec)
        before = await self.found("conf")
        await self.store.renew_secret(
            before.pk, before.version, before.password or "", Secrets("s", "r0", "r1").dump()
        )

        await self.declare(spec)
        after = await self.found("conf")
        self.assertEqual((1, "r1"), (after.version, secrets_of(after.password).valid_token))

        await self.declare(attrs.evolve(spec, password=Secrets("s", "r9").dump()))
        after = await self.found("conf")
        self.assertEqual((2, "r9"), (after.version, secrets_of(after.password).valid_token))

    async def test_an_account_becomes_declared(self) -> None:
        """An account that was there and is declared as it is becomes declared, and no more."""
        before = await self.found("acct")

        await self.declare(account_spec())

        after = await self.found("acct")
        self.assertTrue(after.declared)
        self.assertEqual((before.pk, before.version), (after.pk, after.version))

    async def test_declared_no_more(self) -> None:
        """What the configuration does not declare any more stays, and may be changed again."""
        await self.declare(self.spec())
        before = await self.found("conf")

        await self.declare()

        after = await self.found("conf")
        self.assertEqual((before.version, False), (after.version, after.declared))
        await self.put(id="conf", host="mine.example.net")
        self.assertTrue(await self.store.delete_account("default", "conf", self.now))

    async def test_nobody_else_may_change_it(self) -> None:
        """A declared account is neither changed nor deleted by others."""
        await self.declare(self.spec())
        before = await self.found("conf")

        with self.assertRaises(Declared):
            await self.put(id="conf", host="mine.example.net")
        with self.assertRaises(Declared):
            await self.store.delete_account("default", "conf", self.now)

        self.assertEqual(before, await self.found("conf"))

    async def test_no_password(self) -> None:
        """A declared account without a password, where none can be kept, changes nothing at all."""
        await self.declare(self.spec())
        before = await self.store.accounts(None)

        with self.assertRaises(PasswordRequired):
            await self.declare(self.spec(id="first"), self.spec(id="new", password=None))

        self.assertEqual(before, await self.store.accounts(None))

    async def test_declared_survives_the_process(self) -> None:
        """What was declared is so after a kill."""
        await self.declare(self.spec())
        before = await self.found("conf")
        await self.killed()
        self.assertEqual(before, await self.found("conf"))
