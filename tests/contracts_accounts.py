"""What every store promises about upstream accounts."""

from __future__ import annotations

from typing import Any

import msgspec

from mailproxy.logins import XOAUTH2, Auth, Secrets, secrets_of
from mailproxy.model import Account
from mailproxy.records import PasswordRequired
from mailproxy.states import OnUncertain, TlsMode
from tests.build import new_message
from tests.contracts_base import StoreContract


class AccountsContract(StoreContract):
    async def test_account_reads_as_it_was_put(self) -> None:
        """An account reads as it was declared, its password included."""
        put = await self.put(
            id="full",
            host="smtp.example.com",
            port=465,
            tls_mode=TlsMode.IMPLICIT,
            user="me",
            password="pässwörd",
            name="Everything",
            use_tls=True,
            allow_plaintext_auth=True,
            timeout=12.5,
            ttl=60.0,
            max_sessions=3,
            batch_size=7,
            on_uncertain=OnUncertain.HOLD,
            retry_delays=(1.0, 2.5),
            max_age_seconds=1234.0,
            ca_pem="-----BEGIN CERTIFICATE-----",
            options='{"limit_per_minute":5}',
        )

        read = await self.store.account(put.pk)

        self.assertEqual(put, read)
        assert read is not None
        self.assertEqual(("me", "pässwörd"), (read.user, read.password))
        self.assertEqual((TlsMode.IMPLICIT, OnUncertain.HOLD), (read.tls_mode, read.on_uncertain))
        self.assertEqual(
            (12.5, 60.0, 3, 7), (read.timeout, read.ttl, read.max_sessions, read.batch_size)
        )
        self.assertEqual(((1.0, 2.5), 1234.0), (read.retry_delays, read.max_age_seconds))
        self.assertEqual('{"limit_per_minute":5}', read.options)
        self.assertEqual((self.now, self.now), (read.created_at, read.updated_at))
        self.assertEqual(("", None, None), (read.parked_reason, read.parked_since, read.probe_at))

    async def test_accounts_are_listed_by_tenant_and_id(self) -> None:
        """All accounts are listed by tenant and id, or those of one tenant."""
        await self.add_tenant("aaa")
        for tenant, name in (("default", "b"), ("aaa", "z"), ("default", "a")):
            await self.put(tenant_id=tenant, id=name)

        everyone = [(each.tenant_id, each.id) for each in await self.store.accounts(None)]
        mine = [each.id for each in await self.store.accounts("default")]

        expected = [("aaa", "z"), ("default", "a"), ("default", "acct"), ("default", "b")]
        self.assertEqual(expected, everyone)
        self.assertEqual(["a", "acct", "b"], mine)

    async def test_same_id_of_two_tenants_is_two_accounts(self) -> None:
        """Two tenants may use the same account id for two accounts."""
        await self.add_tenant("other")
        theirs = await self.put(tenant_id="other", host="elsewhere.example.net")

        ours = await self.store.account(self.acct.pk)

        self.assertNotEqual(self.acct.pk, theirs.pk)
        assert ours is not None
        self.assertEqual("smtp.example.net", ours.host)

    async def test_change_raises_the_version(self) -> None:
        """A changed account keeps its pk and creation time, and has a higher version."""
        self.later(10)

        changed = await self.put(host="new.example.net")

        self.assertEqual(self.acct.pk, changed.pk)
        self.assertGreater(changed.version, self.acct.version)
        self.assertEqual("new.example.net", changed.host)
        self.assertEqual(self.acct.created_at, changed.created_at)
        self.assertEqual(self.now, changed.updated_at)
        self.assertEqual([changed], await self.store.accounts("default"))

    async def test_put_wakes_the_dispatcher(self) -> None:
        """A changed account may be able to send again: the dispatcher is told."""
        await self.put(host="new.example.net")
        self.assertIn(self.acct.pk, self.observer.due_accounts)

    async def test_password_is_kept(self) -> None:
        """An account put again without password keeps the one it has."""
        await self.put(id="auth", user="me", password="secret")

        again = await self.put(id="auth", user="me", timeout=99.0)

        self.assertEqual("secret", again.password)

    async def test_password_is_not_given_to_another_host_or_user(self) -> None:
        """Without a password an account with a user can neither be made nor moved."""
        first = await self.put(id="auth", user="me", password="secret")

        for change in (
            {"id": "new"},
            {"host": "evil.example.net"},
            {"user": "someone else"},
        ):
            with self.assertRaises(PasswordRequired):
                await self.put(**{"id": "auth", "user": "me", **change})

        self.assertEqual(first, await self.store.account(first.pk))

    async def test_password_goes_with_the_user(self) -> None:
        """An account put without user forgets its password."""
        await self.put(id="auth", user="me", password="secret")

        without = await self.put(id="auth")

        self.assertEqual((None, None), (without.user, without.password))
        with self.assertRaises(PasswordRequired):
            await self.put(id="auth", user="me")

    def token_login(self, **fields: Any) -> str:
        """Options of an account that logs in with a token."""
        whole = {"grant": "refresh_token", "token_url": "https://login.test/", "client_id": "c"}
        auth = Auth(XOAUTH2, **{**whole, **fields})
        return msgspec.json.encode({"auth": auth.public()}).decode()

    async def put_token_login(self, refresh_token: str | None, **fields: Any) -> Account:
        secret = None if refresh_token is None else Secrets("s", refresh_token).dump()
        whole = {"id": "auth", "user": "me", "password": secret, "options": self.token_login()}
        return await self.put(**{**whole, **fields})

    async def renew(self, read: Account, secret: str) -> bool:
        """Renew the secret of an account as it was read."""
        used = read.password or ""
        return await self.store.renew_secret(read.pk, read.version, used, secret)

    async def test_a_secret_is_renewed(self) -> None:
        """A renewed secret is read at once, and the account stays in its version."""
        first = await self.put_token_login("r0")

        renewed = Secrets("s", "r0", "r1").dump()
        self.assertTrue(await self.renew(first, renewed))

        read = await self.store.account(first.pk)
        assert read is not None
        self.assertEqual((renewed, first.version), (read.password, read.version))

    async def test_a_secret_of_another_version_is_not_renewed(self) -> None:
        """What was renewed for an account that was changed or deleted meanwhile is dropped."""
        first = await self.put_token_login("r0")
        second = await self.put_token_login("r9")

        self.assertFalse(await self.renew(first, "late"))
        self.assertEqual(second, await self.store.account(first.pk))
        await self.store.delete_account("default", "auth", self.now)
        self.assertFalse(await self.renew(second, "late"))

    async def test_a_secret_is_renewed_once(self) -> None:
        """Of two that renewed the same secret the first is kept; the next goes on from there."""
        first = await self.put_token_login("r0")
        both = [Secrets("s", "r0", token).dump() for token in ("r1", "r2")]

        self.assertTrue(await self.renew(first, both[0]))
        self.assertFalse(await self.renew(first, both[1]))

        kept = await self.store.account(first.pk)
        assert kept is not None
        self.assertEqual(both[0], kept.password)
        self.assertTrue(await self.renew(kept, both[1]))

    async def test_a_renewed_secret_outlives_its_declaration(self) -> None:
        """The same secret given again, or none, leaves the renewed one; another one replaces it."""
        first = await self.put_token_login("r0")
        renewed = Secrets("s", "r0", "r1").dump()
        await self.renew(first, renewed)

        for given, token in (("r0", "r1"), (None, "r1"), ("r2", "r2")):
            put = await self.put_token_login(given)
            self.assertEqual(token, secrets_of(put.password).valid_token)

    async def test_a_secret_is_shown_to_nobody_else(self) -> None:
        """Another server, client, grant or kind of login needs its secret to be given."""
        first = await self.put_token_login("r0")
        changes: list[dict[str, Any]] = [
            {"host": "evil.example.net"},
            {"user": "someone else"},
            {"options": self.token_login(token_url="https://evil.test/")},
            {"options": self.token_login(client_id="d")},
            {"options": self.token_login(grant="client_credentials")},
            {"options": "{}"},
        ]
        for change in changes:
            with self.assertRaises(PasswordRequired):
                await self.put_token_login(None, **change)
        self.assertEqual(first, await self.store.account(first.pk))

        other_scope = await self.put_token_login(None, options=self.token_login(scope="more"))
        self.assertEqual(first.password, other_scope.password)

    async def test_a_password_is_no_token(self) -> None:
        """What was given as a password is not sent to an authorization server."""
        await self.put(id="auth", user="me", password="secret")
        with self.assertRaises(PasswordRequired):
            await self.put_token_login(None)

    async def test_accounts_survive_the_process(self) -> None:
        """Accounts, their passwords and their parking are there after a kill."""
        put = await self.put(id="auth", user="me", password="secret")
        await self.store.park_account(put.pk, put.version, "down", self.now + 60, self.now)
        before = await self.store.accounts(None)

        await self.killed()

        self.assertEqual(before, await self.store.accounts(None))

    async def test_unknown_account_is_none(self) -> None:
        """There is no account where none was put."""
        self.assertIsNone(await self.store.account(self.acct.pk + 1))
        self.assertFalse(await self.store.delete_account("default", "nobody", self.now))
        self.assertFalse(await self.store.delete_account("nobody", "acct", self.now))


class DefaultAccountContract(StoreContract):
    async def test_only_account_is_the_default(self) -> None:
        """A message without account goes to the tenant's only one."""
        await self.post()
        self.assertEqual("acct", (await self.stored()).account_id)

    async def test_declared_default_is_taken(self) -> None:
        """A message without account goes to the one declared default, among several."""
        await self.put(id="aaa")
        chosen = await self.put(id="main", is_default=True)

        await self.post()

        self.assertEqual("m1", (await self.claim_one(chosen)).id)

    async def test_several_accounts_and_no_default(self) -> None:
        """Without account and without a default among several, a message is rejected."""
        await self.put(id="aaa")

        answer = await self.post()

        self.assertEqual(("rejected", "account not found"), (answer.verdict, answer.reason))
        self.assertEqual([], await self.listed())

    async def test_no_account_at_all(self) -> None:
        """A tenant without accounts can submit nothing; a deleted account is none."""
        await self.store.delete_account("default", "acct", self.now)

        answer = await self.post()

        self.assertEqual(("rejected", "account not found"), (answer.verdict, answer.reason))

    async def test_deleted_account_is_not_counted(self) -> None:
        """Of two accounts one was deleted: the other is the tenant's only one."""
        await self.put(id="aaa")
        await self.store.delete_account("default", "aaa", self.now)

        await self.post()

        self.assertEqual("acct", (await self.stored()).account_id)


class ParkingContract(StoreContract):
    async def test_parked_account_is_not_claimed_from(self) -> None:
        """Nothing of a parked account is due until its probe."""
        await self.post()
        await self.store.park_account(
            self.acct.pk, self.acct.version, "login refused", self.now + 60, self.now
        )

        self.assertEqual([], await self.claim())
        self.assertEqual([], (await self.store.due_accounts(self.now))[0])

        self.later(60)
        self.assertEqual([self.acct.pk], (await self.store.due_accounts(self.now))[0])
        probe = await self.claim_one()
        self.assertEqual(("m1", True), (probe.id, probe.account_parked))

        await self.store.release([(probe.pk, probe.token)])
        await self.store.unpark_account(self.acct.pk)
        self.assertFalse((await self.claim_one()).account_parked)

    async def test_parking_shows(self) -> None:
        """A parked account says why, since when, and when it is tried again."""
        since = self.now
        await self.store.park_account(self.acct.pk, self.acct.version, "down", since + 60, since)

        parked = await self.store.account(self.acct.pk)

        assert parked is not None
        self.assertEqual(
            ("down", since, since + 60),
            (parked.parked_reason, parked.parked_since, parked.probe_at),
        )

    async def test_parked_account_begins_nothing(self) -> None:
        """An account parked after a claim refuses the intent."""
        await self.post()
        claimed = await self.claim_one()
        await self.store.park_account(
            self.acct.pk, self.acct.version, "down", self.now + 60, self.now
        )

        self.assertEqual([False], await self.begin(claimed))

    async def test_newer_account_is_not_parked(self) -> None:
        """A fault of the account as it was before its change does not park it."""
        changed = await self.put(host="new.example.net")

        await self.store.park_account(
            self.acct.pk, self.acct.version, "down", self.now + 60, self.now
        )

        self.assertEqual(changed, await self.store.account(self.acct.pk))

    async def test_change_unparks(self) -> None:
        """A changed account is tried at once."""
        await self.post()
        await self.store.park_account(
            self.acct.pk, self.acct.version, "down", self.now + 60, self.now
        )

        changed = await self.put(host="new.example.net")

        self.assertEqual(("", None), (changed.parked_reason, changed.probe_at))
        self.assertEqual("m1", (await self.claim_one()).id)

    async def test_unpark(self) -> None:
        """An account that works again is claimed from at once."""
        await self.post()
        await self.store.park_account(
            self.acct.pk, self.acct.version, "down", self.now + 60, self.now
        )

        await self.store.unpark_account(self.acct.pk)

        account = await self.store.account(self.acct.pk)
        assert account is not None
        self.assertEqual(("", None), (account.parked_reason, account.probe_at))
        self.assertEqual("m1", (await self.claim_one()).id)

    async def test_other_accounts_go_on(self) -> None:
        """A parked account stops no other."""
        other = await self.put(id="other")
        await self.submit(
            new_message(id="m1", account_id="acct"), new_message(id="m2", account_id="other")
        )
        await self.store.park_account(
            self.acct.pk, self.acct.version, "down", self.now + 60, self.now
        )

        self.assertEqual([other.pk], (await self.store.due_accounts(self.now))[0])
        self.assertEqual("m2", (await self.claim_one(other)).id)
