"""The keys of tenants: ``/tenant/{id}/api-key`` and ``/v1/tenants/{id}/keys``."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.answers import Refused
from mailproxy.api.keys import TRIES, KeyMaker
from mailproxy.errors import StoreUnavailable
from mailproxy.tenancy import ApiKey, TooManyKeys
from tests.api.door import TOKEN, Door, Reply
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, result

KEYS = "/v1/tenants/acme/keys"


class KeyCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.first = self.door.call("POST", "/tenant", {"id": "acme"}).json["api_key"]

    def make(self, **fields: Any) -> Reply:
        reply = self.door.call("POST", KEYS, fields)
        self.assertEqual(200, reply.status, reply.body)
        return reply

    def works(self, token: str, target: str = "/accounts") -> bool:
        return self.door.call("GET", target, token=token).status == 200

    def listed(self) -> list[dict[str, Any]]:
        keys = self.door.call("GET", KEYS).json["keys"]
        assert isinstance(keys, list)
        return keys


class GoneTests(SynchronousTestCase):
    def test_gone_meanwhile(self) -> None:
        """No key is made for a tenant that was deleted since it was looked for: 404."""
        clock = FakeClock()
        maker = KeyMaker(FakeStore(clock), clock)
        refusal = self.failureResultOf(Deferred.fromCoroutine(maker.make("gone")), Refused)
        self.assertEqual(404, refusal.value.answer.status)


class RotateTests(KeyCase):
    def test_rotate(self) -> None:
        """A new key from there ends all others at once."""
        second = self.make().json["api_key"]
        reply = self.door.call("POST", "/tenant/acme/api-key")
        self.assertEqual({"ok", "api_key"}, set(reply.json))
        third = reply.json["api_key"]
        self.assertEqual([False, False, True], [self.works(k) for k in (self.first, second, third)])

    def test_revoke_all(self) -> None:
        """All keys end at once; the tenant stays, and can have a new one."""
        reply = self.door.call("DELETE", "/tenant/acme/api-key")
        self.assertEqual((200, {"ok": True}), (reply.status, reply.json))
        self.assertFalse(self.works(self.first))
        self.assertEqual([], self.listed())
        reply = self.door.call("POST", "/tenant/acme/api-key")
        self.assertTrue(self.works(reply.json["api_key"]))

    def test_only_this_tenant(self) -> None:
        """The keys of other tenants are not touched."""
        other = self.door.call("POST", "/tenant", {"id": "other"}).json["api_key"]
        self.door.call("POST", "/tenant/acme/api-key")
        self.door.call("DELETE", "/tenant/acme/api-key")
        self.assertTrue(self.works(other))


class MakeTests(KeyCase):
    def test_usual(self) -> None:
        """Without a word about it a key is good for everything, from anywhere, for ever."""
        bodies: list[Any] = [{}, None, b" "]
        for body in bodies:
            reply = self.door.call("POST", KEYS, body)
            key = reply.json["api_key"]
            self.assertRegex(key, r"\A[0-9a-f]{64}\Z")
            self.assertTrue(self.works(key))
            self.assertEqual(
                {
                    "ok": True,
                    "api_key": key,
                    "prefix": key[:8],
                    "label": "",
                    "scopes": ["control", "read", "send"],
                    "networks": [],
                    "test": False,
                    "created_at": "2025-06-15T15:06:40+00:00",
                    "used_at": None,
                    "expires_at": None,
                },
                reply.json,
            )

    def test_limits(self) -> None:
        """A key can be given a label, scopes, networks and an end; the list shows them."""
        self.door.clock.advance(1)
        now = int(self.door.clock.now())
        made = self.make(
            label="shop",
            scopes=["read", "read"],
            networks=["192.0.2.9/24", " 2001:db8::/32", "192.0.2.0/24"],
            ttl="60",
            test=True,
        ).json
        told = {name: value for name, value in made.items() if name not in ("ok", "api_key")}
        self.assertEqual(told, self.listed()[-1])
        self.assertEqual(("shop", ["read"], True), (told["label"], told["scopes"], told["test"]))
        self.assertEqual(["192.0.2.0/24", "2001:db8::/32"], told["networks"])
        self.assertEqual(now + 60, told["expires_at"])
        self.assertTrue(self.works(made["api_key"]))
        self.assertEqual(403, self.run_with(made["api_key"]))
        self.door.clock.advance(60)
        self.assertFalse(self.works(made["api_key"]))
        self.assertEqual([self.first[:8]], [each["prefix"] for each in self.listed()])

    def run_with(self, token: str) -> int:
        return self.door.call("POST", "/commands/suspend", token=token).status

    def test_networks(self) -> None:
        """From elsewhere a key is as good as a wrong one; our own proxies tell from where."""
        door = Door(trusted_proxies=("192.0.2.7",))
        token = door.add_key("acme", "token-of-acme", networks=("198.51.100.0/24",))
        for forwarded, status in ((None, 401), ("198.51.100.4", 200), ("203.0.113.1", 401)):
            headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
            reply = door.call("GET", "/accounts", token=token, headers=headers)
            self.assertEqual(status, reply.status, forwarded)

    def test_expires_at(self) -> None:
        """The end can be given as an instant."""
        ends = int(self.door.clock.now()) + 3600
        for value in (ends, float(ends), str(ends)):
            self.assertEqual(ends, self.make(expires_at=value).json["expires_at"])

    def test_wrong(self) -> None:
        """What cannot be is a 422 that names the field, and there is no key."""
        now = self.door.clock.now()
        for body, at in (
            ({"label": "x" * 256}, "label"),
            ({"label": "a\nb"}, "label"),
            ({"scopes": []}, "scopes"),
            ({"scopes": "send"}, "scopes"),
            ({"scopes": ["admin"]}, "scopes"),
            ({"scopes": [["send"]]}, "scopes"),
            ({"networks": "192.0.2.0/24"}, "networks"),
            ({"networks": ["here"]}, "networks"),
            ({"networks": [7]}, "networks"),
            ({"networks": ["192.0.2.0/33"]}, "networks"),
            ({"networks": ["10.0.0.0/8"] * 101}, "networks"),
            ({"expires_at": now}, "expires_at"),
            ({"expires_at": "soon"}, "expires_at"),
            ({"expires_at": now + 5, "ttl": 5}, "ttl"),
            ({"ttl": 0}, "ttl"),
            ({"ttl": 10**11}, "ttl"),
            ({"test": "perhaps"}, "test"),
        ):
            reply = self.door.call("POST", KEYS, body)
            self.assertEqual(422, reply.status, body)
            self.assertEqual([["body", at]], [p["loc"] for p in reply.json["detail"]], body)
        self.assertEqual(1, len(self.listed()))

    def test_store_away(self) -> None:
        """Where no key was stored, none is shown."""
        self.door.store.fail_next(StoreUnavailable("full"), "add_key")
        reply = self.door.call("POST", KEYS, {})
        self.assertEqual(503, reply.status)
        self.assertNotIn("api_key", reply.json)


class ListTests(KeyCase):
    def test_own(self) -> None:
        """A tenant may read of its own keys what the admin reads; never a key, nor its hash."""
        self.door.clock.advance(1)
        second = self.make(scopes=["read"]).json["api_key"]
        reply = self.door.call("GET", KEYS, token=second)
        self.assertEqual(
            [self.first[:8], second[:8]], [each["prefix"] for each in reply.json["keys"]]
        )
        for secret in (self.first, second):
            self.assertNotIn(secret[9:], reply.body.decode())
        self.assertNotIn("hash", reply.body.decode())

    def test_used(self) -> None:
        """When a key was last used is shown."""
        self.assertIsNone(self.listed()[0]["used_at"])
        self.door.clock.advance(20)
        self.works(self.first)
        self.assertEqual("2025-06-15T15:07:00+00:00", self.listed()[0]["used_at"])


class RevokeTests(KeyCase):
    def test_revoke(self) -> None:
        """One key ends at once, the others stay."""
        second = self.make().json["api_key"]
        reply = self.door.call("DELETE", f"{KEYS}/{self.first[:8]}")
        self.assertEqual((200, {"ok": True}), (reply.status, reply.json))
        self.assertEqual((False, True), (self.works(self.first), self.works(second)))

    def test_unknown(self) -> None:
        """A key that there is not is a 404; that of another tenant is none of this one's."""
        other = self.door.call("POST", "/tenant", {"id": "other"}).json["api_key"]
        for prefix in ("00000000", other[:8], self.first):
            reply = self.door.call("DELETE", f"{KEYS}/{prefix}")
            self.assertEqual((404, "key not found"), (reply.status, reply.json["detail"]))
        self.assertEqual((True, True), (self.works(self.first), self.works(other)))


class CrowdedStore(FakeStore):
    """A store in which some keys are there already."""

    taken = 0

    async def add_key(self, key: ApiKey, now: float, *, replace: bool = False) -> None:
        if self.taken:
            self.taken -= 1
            raise TooManyKeys("there is one with this prefix")
        await super().add_key(key, now, replace=replace)


class MakerTests(SynchronousTestCase):
    def test_prefix_taken(self) -> None:
        """A key whose prefix another has is not given out; one with its own prefix is."""
        clock = FakeClock()
        store = CrowdedStore(clock)
        maker = KeyMaker(store, clock)
        store.taken = TRIES - 1
        token = result(maker.make("default"))
        self.assertEqual([token[:8]], [key.prefix for key in result(store.keys())])
        store.taken = TRIES
        with self.assertRaises(TooManyKeys):
            result(maker.make("default"))


class SecretTests(SynchronousTestCase):
    def test_no_key_in_any_log(self) -> None:
        """Whatever is done with tenants, no key and no secret gets into the log or its lines."""
        events: list[Any] = []
        globalLogPublisher.addObserver(cast(Any, events.append))
        self.addCleanup(globalLogPublisher.removeObserver, cast(Any, events.append))
        door = Door()
        secrets = ["canary-password", "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5"]
        body = {
            "id": "acme",
            "client_auth": {"user": "u", "password": secrets[0]},
            "signing_secret": secrets[1],
        }
        for target in ("/tenant", "/tenant/acme/api-key", KEYS):
            reply = door.call("POST", target, body if target == "/tenant" else {})
            secrets.append(reply.json["api_key"])
        for token in secrets:
            door.call("GET", "/accounts", token=token)
            door.call("GET", "/accounts", token=f"{token}x")
        door.call("PUT", "/tenant/acme", {**body, "client_auth": {"token": secrets[0]}})
        door.call("PUT", "/tenant/acme", {**body, "active": secrets[0]})
        for method in ("change_tenant", "add_key", "log_command"):
            for error in (StoreUnavailable("full"), ZeroDivisionError()):
                door.store.fail_next(error, method)
                door.call("POST", "/tenant", body)
        self.flushLoggedErrors(ZeroDivisionError)
        shown = [door.call("GET", t).body for t in ("/tenants", "/command-log?limit=1000", KEYS)]
        self.assertGreater(len(events), 10)
        for text in (*map(formatEvent, events), *map(repr, events), *map(repr, shown)):
            for secret in (*secrets, TOKEN):
                self.assertNotIn(secret, text)
