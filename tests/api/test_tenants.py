"""``/tenant`` and ``/tenants``."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api import tenant_fields
from mailproxy.api.answers import Refused
from mailproxy.api.shapes_tenants import ShownTenant, TenantFields
from mailproxy.api.tenant_fields import MASK, read_tenant
from mailproxy.errors import StoreUnavailable
from mailproxy.tenancy import (
    Bounces,
    ClientAuth,
    LargeFiles,
    RateLimits,
    SyncState,
    SyncTest,
    Tenant,
)
from tests.api.door import TOKEN, Door, Reply, message

CANARY = "canary8f3a"
SIGNING = "whsec_" + base64.b64encode(bytes(range(32))).decode()

#: What Genropy's mail service sends when it registers.
GENROPY = {
    "id": "sandboxpg",
    "client_base_url": "https://site.example/email/mailproxy/mp_endpoint",
    "client_sync_path": "/proxy_sync",
    "client_attachment_path": "/proxy_get_attachments",
    "client_auth": {"method": "basic", "user": "mailproxy", "password": CANARY},
}


class TenantCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def register(self, id: str = "acme", **fields: Any) -> str:
        """Register a tenant and return its new key."""
        reply = self.door.call("POST", "/tenant", {"id": id, **fields})
        self.assertEqual((200, True), (reply.status, reply.json["ok"]), reply.body)
        key = reply.json["api_key"]
        assert isinstance(key, str)
        return key

    def tenant(self, id: str = "acme") -> Tenant:
        found = self.door.book.tenant(id)
        assert found is not None
        return found

    def works(self, token: str) -> bool:
        return self.door.call("GET", "/accounts", token=token).status == 200

    def problems(self, reply: Reply) -> dict[str, str]:
        self.assertEqual(422, reply.status, reply.body)
        self.assertNotIn(CANARY, reply.body.decode())
        self.assertNotIn("rejected", reply.json)
        return {".".join(map(str, each["loc"])): each["msg"] for each in reply.json["detail"]}


class RegisterTests(TenantCase):
    def test_genropy(self) -> None:
        """A tenant registered as Genropy does it has a key that works at once, and its URLs."""
        reply = self.door.call("POST", "/tenant", GENROPY)
        self.assertEqual((200, {"ok", "api_key"}), (reply.status, set(reply.json)))
        key = reply.json["api_key"]
        self.assertRegex(key, r"\A[0-9a-f]{64}\Z")
        tenant = self.tenant("sandboxpg")
        base = "https://site.example/email/mailproxy/mp_endpoint"
        self.assertEqual(f"{base}/proxy_sync", tenant.sync_url)
        self.assertEqual(f"{base}/proxy_get_attachments", tenant.attachment_url)
        self.assertEqual(ClientAuth("basic", None, "mailproxy", CANARY), tenant.client_auth)
        account = {"id": "a", "host": "smtp.example", "tenant_id": "sandboxpg"}
        self.assertEqual(200, self.door.call("POST", "/account", account, key).status)
        reply = self.door.call("GET", "/accounts?tenant_id=sandboxpg", token=key)
        self.assertEqual(["a"], [each["id"] for each in reply.json["accounts"]])

    def test_again(self) -> None:
        """Registering again gives one more key; the earlier ones stay good, up to ten."""
        keys = [self.register() for _ in range(10)]
        self.assertEqual(10, len(set(keys)))
        self.assertEqual([True] * 10, [self.works(key) for key in keys])

        newest = self.register()

        self.assertTrue(self.works(newest))
        self.assertEqual(9, [self.works(key) for key in keys].count(True))

    def test_again_keeps(self) -> None:
        """What a registration leaves out stays as it was, what is null goes."""
        self.register(
            name="Acme",
            client_base_url="https://a.example",
            client_sync_path="/s",
            signing_secret=SIGNING,
            rate_limits={"hourly": 5},
        )
        self.register(client_base_url="https://b.example", client_sync_path=None)
        tenant = self.tenant()
        self.assertEqual("https://b.example/mail-proxy/sync", tenant.sync_url)
        self.assertEqual(("Acme", SIGNING), (tenant.name, tenant.signing_secret))
        self.assertEqual(RateLimits(5), tenant.rate_limits)

    def test_tries_again_what_waits(self) -> None:
        """A registration ends the back-off of reports, and has attachments fetched again."""
        self.register()
        self.assertEqual(["acme"], self.door.control.registered)
        self.assertIn("refetch", self.door.store.writes)

    def test_fetching_again_fails(self) -> None:
        """A registration is good even if the attachments cannot be made due."""
        self.door.store.fail_next(StoreUnavailable("full"), "refetch")
        self.assertTrue(self.works(self.register()))

    def test_everything(self) -> None:
        """Every field gets where it belongs; numbers may come as digits."""
        self.register(
            name="Acme",
            active="yes",
            client_sync_url="http://10.0.0.7:8080/sync?x=1",
            client_attachment_url="https://[2001:db8::1]/files",
            client_auth={"method": "Bearer", "token": CANARY},
            rate_limits={"hourly": "100", "daily": 0},
            large_file_config={
                "enabled": True,
                "max_size_mb": "7.5",
                "action": "rewrite",
                "storage_url": "s3://bucket/mail",
                "public_base_url": "https://files.example",
                "file_ttl_days": "90",
            },
            retention_seconds="86400",
            signing_secret=SIGNING,
            suppress_refused=1,
            bounces={"enabled": "1", "account_id": "bulk", "from_address": "post@X.org"},
            unknown_field="ignored",
        )
        tenant = self.tenant()
        self.assertEqual("http://10.0.0.7:8080/sync?x=1", tenant.sync_url)
        self.assertEqual("https://[2001:db8::1]/files", tenant.attachment_url)
        self.assertEqual(ClientAuth("bearer", CANARY), tenant.client_auth)
        self.assertEqual(RateLimits(100, None), tenant.rate_limits)
        self.assertEqual(
            LargeFiles(True, 7.5, "rewrite", "s3://bucket/mail", "https://files.example", 90),
            tenant.large_file_config,
        )
        self.assertEqual((86400, SIGNING, True), _rest(tenant))
        self.assertEqual(Bounces(True, "bulk", "post@x.org"), tenant.bounces)

    def test_ids(self) -> None:
        """An id is 1 to 64 letters, digits and a few signs that a path can carry."""
        for id in ("a", "my_db-2.test", "site$1", "a@b", "A" * 64, "0", "_"):
            self.register(id)
            self.assertEqual(200, self.door.call("GET", f"/tenant/{id}").status, id)
        bad: list[Any] = [None, 7, ["a"]]
        for id in (*bad, "", "a/b", "a b", "a:b", ".", "..", "-a", "A" * 65, "é", "a\n"):
            reply = self.door.call("POST", "/tenant", {"id": id})
            self.assertEqual(["body.id"], list(self.problems(reply)), id)

    def test_the_default_tenant(self) -> None:
        """The tenant of clients without tenants can be given an address and keys like any other."""
        key = self.register("default", client_base_url="https://d.example")
        self.assertTrue(self.works(key))
        self.door.put_account()
        body = {"messages": [message()]}
        self.door.call("POST", "/commands/add-messages", body, key)
        self.door.add(message("m2"))
        self.assertEqual({"m1": "queued", "m2": "queued"}, self.door.store.states())

    def test_store_away(self) -> None:
        """Where nothing was stored, the answer says so, and to come back."""
        self.door.store.fail_next(StoreUnavailable("full"), "change_tenant")
        reply = self.door.call("POST", "/tenant", {"id": "acme"})
        self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]))
        self.assertFalse(self.door.book.exists("acme"))

    def test_half_stored(self) -> None:
        """Where the tenant was stored but no key, the answer does not say that nothing was."""
        self.door.store.fail_next(StoreUnavailable("full"), "add_key")
        reply = self.door.call("POST", "/tenant", {"id": "acme"})
        self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]))
        self.assertNotIn("nothing was stored", reply.json["error"])
        self.assertNotIn("api_key", reply.json)
        self.assertTrue(self.works(self.register()))

    def test_deleted_and_registered_again(self) -> None:
        """A tenant that comes back begins anew, with a new key; old keys stay ended."""
        old = self.register(name="Acme")
        self.door.call("DELETE", "/tenant/acme")
        new = self.register()
        self.assertEqual((False, True), (self.works(old), self.works(new)))
        self.assertEqual("", self.tenant().name)


class RefusedFieldsTests(TenantCase):
    def test_each(self) -> None:
        """A wrong field is a 422 that names it and not its value; nothing is stored."""
        url: list[Any] = [
            *("ftp://a.example", "https://", "a.example", f"https://u:{CANARY}@a.example", 7),
            *("http://a b.example/", "http://a.example:99999/", "http://a.example:0/"),
            *("http://[::1/", "http://a.example/#x", "http://a.example/\r\nX: y", "http://a\\b/"),
        ]
        for name, values in {
            "name": [7, ["a"], "x" * 256, "a\nb"],
            "active": ["perhaps", 2, [], {}],
            "client_base_url": [*url, "https://a.example/?q=1"],
            "client_sync_url": url,
            "client_attachment_url": url,
            "client_sync_path": [7, "/a b", "/a\n", "/a#b", "/" * 1001],
            "client_attachment_path": [True, "/a b"],
            "client_auth": ["basic", [], 7],
            "rate_limits": ["100", [], 7],
            "large_file_config": ["warn", True],
            "retention_seconds": [-1, "soon", 1.5, True, 10**12],
            "signing_secret": [
                "secret",
                "whsec_",
                "whsec_%%%",
                "whsec_YWJj",
                "whsec_YWJj\n",
                7,
                "whsec_" + "A" * 88,
            ],
            "suppress_refused": ["perhaps"],
            "bounces": [True, "yes", []],
        }.items():
            for value in values:
                body = {"id": "acme", name: value}
                found = self.problems(self.door.call("POST", "/tenant", body))
                self.assertEqual([f"body.{name}"], list(found), (name, value))
        self.assertEqual([], self.door.store.writes)

    def test_inside(self) -> None:
        """A wrong part of an object is named with its place."""
        for name, value, at in (
            ("client_auth", {"method": "digest"}, ["method"]),
            ("bounces", {"enabled": "perhaps", "account_id": ""}, ["enabled", "account_id"]),
            ("bounces", {"from_address": "nobody"}, ["from_address"]),
            ("bounces", {"from_address": "A <a@x.org>"}, ["from_address"]),
            ("bounces", {"from_address": "ä@x.org"}, ["from_address"]),
            ("bounces", {"from_address": "a@x.org\r\nBcc: b@x.org"}, ["from_address"]),
            ("client_auth", {"method": "bearer"}, ["token"]),
            ("client_auth", {"method": "bearer", "token": ""}, ["token"]),
            ("client_auth", {"method": "bearer", "token": "a b"}, ["token"]),
            ("client_auth", {"method": "bearer", "token": "ä"}, ["token"]),
            ("client_auth", {"method": "basic", "user": "u"}, ["password"]),
            ("client_auth", {"method": "basic"}, ["user", "password"]),
            ("client_auth", {"user": "u:v", "password": CANARY}, ["user"]),
            ("client_auth", {"user": ["u"], "password": 7}, ["user", "password"]),
            ("rate_limits", {"hourly": "many", "daily": [CANARY]}, ["hourly", "daily"]),
            ("large_file_config", {"action": "drop", "max_size_mb": 0}, ["max_size_mb", "action"]),
            ("large_file_config", {"max_size_mb": "x"}, ["max_size_mb"]),
            ("large_file_config", {"max_size_mb": True}, ["max_size_mb"]),
            ("large_file_config", {"max_size_mb": 1e9}, ["max_size_mb"]),
            ("large_file_config", {"storage_url": "/tmp"}, ["storage_url"]),
            ("large_file_config", {"storage_url": "ftp://u:p@h/x"}, ["storage_url"]),
            ("large_file_config", {"file_ttl_days": 0}, ["file_ttl_days"]),
            (
                "large_file_config",
                {"enabled": True, "action": "rewrite"},
                ["storage_url", "public_base_url"],
            ),
        ):
            found = self.problems(self.door.call("POST", "/tenant", {"id": "acme", name: value}))
            self.assertEqual({f"body.{name}.{part}" for part in at}, set(found), value)

    def test_all_at_once(self) -> None:
        """Everything that is wrong is told in one answer."""
        body = {"id": "acme", "name": 7, "active": "x", "client_auth": {"method": 7}}
        found = self.problems(self.door.call("POST", "/tenant", body))
        self.assertEqual({"body.name", "body.active", "body.client_auth.method"}, set(found))

    def test_bodies(self) -> None:
        """A body that is no JSON object is a 422, however it is none."""
        self.register()
        for body in (b"", b"{", b"[]", b'"x"', b"\xff", b"null", b"[" * 100_000):
            for method, target in (("POST", "/tenant"), ("PUT", "/tenant/acme")):
                reply = self.door.call(method, target, body)
                self.assertEqual(["body"], list(self.problems(reply)), body[:9])

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_any_value(self, data: st.DataObject) -> None:
        """Whatever JSON a field holds, it is taken or refused by name, and nothing else happens."""
        json = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["method", "token", "user", "hourly", "enabled", "storage_url"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=6,
        )
        name = data.draw(st.sampled_from(TenantFields.__struct_fields__))
        try:
            found = read_tenant({name: data.draw(json)})
        except Refused as refused:
            self.assertEqual(422, refused.answer.status)
            for problem in msgspec.json.decode(refused.answer.body)["detail"]:
                self.assertEqual(["body", name], problem["loc"][:2])
        else:
            self.assertLessEqual(set(found), {name})


class ShowTests(TenantCase):
    def test_secrets_are_masked(self) -> None:
        """No answer shows a secret of a tenant; that there is one is shown."""
        self.register(
            client_auth={"token": CANARY},
            signing_secret=SIGNING,
            client_base_url="https://a.example",
        )
        for target in ("/tenant/acme", "/tenants", "/command-log", "/tenants/sync-status"):
            reply = self.door.call("GET", target)
            self.assertEqual(200, reply.status)
            self.assertNotIn(CANARY.encode(), reply.body)
            self.assertNotIn(SIGNING.encode(), reply.body)
        shown = self.door.call("GET", "/tenant/acme").json
        self.assertEqual(("bearer", MASK, None), _auth(shown))
        self.assertEqual(MASK, shown["signing_secret"])

    def test_bare(self) -> None:
        """A tenant is shown as it is, with every field but what it cannot know."""
        self.register(client_auth={"user": "u", "password": CANARY})
        shown = self.door.call("GET", "/tenant/acme").json
        self.assertEqual({"ok", *ShownTenant.__struct_fields__}, set(shown))
        self.assertEqual(("basic", None, MASK), _auth(shown))
        self.assertEqual(("acme", True), (shown["id"], shown["active"]))
        self.assertIsNone(shown["signing_secret"])

    def test_what_is_shown_can_be_written(self) -> None:
        """What was read can be written back, whole, and changes nothing."""
        self.register(
            name="Acme",
            client_auth={"user": "u", "password": CANARY},
            signing_secret=SIGNING,
            large_file_config={"enabled": True},
        )
        before = self.tenant()
        shown = self.door.call("GET", "/tenant/acme").json
        reply = self.door.call("PUT", "/tenant/acme", shown)
        self.assertEqual(200, reply.status, reply.body)
        self.assertEqual(before.client_auth, self.tenant().client_auth)
        self.assertEqual(shown, self.door.call("GET", "/tenant/acme").json)

    def test_mask_without_a_secret(self) -> None:
        """Where there is no secret to keep, the mask is refused."""
        self.register()
        for body, at in (
            ({"signing_secret": MASK}, "body.signing_secret"),
            ({"client_auth": {"token": MASK}}, "body.client_auth.token"),
            ({"client_auth": {"user": "u", "password": MASK}}, "body.client_auth.password"),
        ):
            reply = self.door.call("PUT", "/tenant/acme", body)
            self.assertEqual([at], list(self.problems(reply)))

    def test_unknown(self) -> None:
        """A tenant that there is not is a 404, whatever is asked of it."""
        for method, target in (
            ("GET", "/tenant/nobody"),
            ("PUT", "/tenant/nobody"),
            ("DELETE", "/tenant/nobody"),
            ("POST", "/tenant/nobody/api-key"),
            ("DELETE", "/tenant/nobody/api-key"),
            ("GET", "/v1/tenants/nobody/keys"),
            ("POST", "/v1/tenants/nobody/keys"),
            ("DELETE", "/v1/tenants/nobody/keys/01234567"),
            ("POST", "/v1/tenants/nobody/test-sync"),
        ):
            reply = self.door.call(method, target, {} if method in ("PUT", "POST") else None)
            self.assertEqual(404, reply.status, target)
            self.assertEqual("tenant not found", reply.json["detail"], target)
        self.assertEqual(["default"], [each.id for each in self.door.book.tenants()])

    def test_list(self) -> None:
        """The list has all tenants, or those that send, but none that is being deleted."""
        for id in ("acme", "beta", "gone"):
            self.register(id)
        self.door.call("PUT", "/tenant/beta", {"active": False})
        self.door.call("DELETE", "/tenant/gone")

        def ids(query: str = "") -> list[str]:
            reply = self.door.call("GET", f"/tenants{query}")
            return [each["id"] for each in reply.json["tenants"]]

        self.assertEqual(["acme", "beta", "default"], ids())
        self.assertEqual(["acme", "beta", "default"], ids("?active_only=false"))
        self.assertEqual(["acme", "default"], ids("?active_only=true"))
        self.assertEqual(422, self.door.call("GET", "/tenants?active_only=x").status)
        self.assertEqual(404, self.door.call("GET", "/tenant/gone").status)


class ChangeTests(TenantCase):
    def test_put(self) -> None:
        """What is left out stays, what is null is cleared to what a new tenant has."""
        self.register(
            name="Acme",
            client_base_url="https://a.example",
            client_auth={"token": CANARY},
            large_file_config={"enabled": True},
            active=False,
            suppress_refused=True,
        )
        self.door.call("PUT", "/tenant/acme", {"client_sync_path": "/s"})
        tenant = self.tenant()
        self.assertEqual(("Acme", "https://a.example/s"), (tenant.name, tenant.sync_url))
        self.assertFalse(tenant.active)
        nulls = {name: None for name in TenantFields.__struct_fields__ if name != "id"}
        reply = self.door.call("PUT", "/tenant/acme", nulls)
        self.assertEqual(200, reply.status, reply.body)
        now = self.door.clock.now()
        self.assertEqual(Tenant("acme", version=3, created_at=now, updated_at=now), self.tenant())

    def test_id(self) -> None:
        """The id in the body, if there is one, is that in the path."""
        self.register()
        body = {"id": "acme", "name": "A"}
        self.assertEqual(200, self.door.call("PUT", "/tenant/acme", body).status)
        reply = self.door.call("PUT", "/tenant/acme", {**body, "id": "beta"})
        self.assertEqual(["body.id"], list(self.problems(reply)))

    def test_inactive(self) -> None:
        """The mail of a tenant that is not active is rejected, its key stays good."""
        key = self.register()
        self.door.call("POST", "/account", {"id": "a", "host": "a.example"}, key)
        self.door.call("PUT", "/tenant/acme", {"active": False})
        body = {"messages": [message()]}
        reply = self.door.call("POST", "/commands/add-messages", body, key)
        self.assertEqual([{"id": "m1", "reason": "tenant inactive"}], reply.json["rejected"])
        self.assertTrue(self.works(key))

    def test_delete(self) -> None:
        """After the answer its keys are good no more and its mail is taken no more."""
        key = self.register()
        self.door.call("POST", "/account", {"id": "a", "host": "a.example"}, key)
        reply = self.door.call("DELETE", "/tenant/acme")
        self.assertEqual((200, {"ok": True}), (reply.status, reply.json))
        self.assertFalse(self.works(key))
        reply = self.door.add(message(tenant_id="acme"))
        self.assertEqual("tenant not found", reply.json["rejected"][0]["reason"])
        self.assertEqual(404, self.door.call("DELETE", "/tenant/acme").status)

    def test_deleted_while_parked(self) -> None:
        """A deleted tenant's account is no longer shown as one that needs a person."""
        key = self.register()
        self.door.call("POST", "/account", {"id": "a", "host": "a.example"}, key)
        parked = self.door.metrics.accounts_parked
        parked.labels("acme", "a").set(1)
        self.door.call("DELETE", "/tenant/acme")
        (family,) = parked.collect()
        self.assertEqual([0.0], [sample.value for sample in family.samples])

    def test_the_default_tenant_stays(self) -> None:
        """The tenant of clients without tenants cannot be deleted."""
        reply = self.door.call("DELETE", "/tenant/default")
        self.assertEqual(409, reply.status)
        self.door.put_account()
        self.assertEqual(1, self.door.add(message()).json["queued"])


class SyncTests(TenantCase):
    def test_status(self) -> None:
        """How reporting stands is told tenant by tenant."""
        self.register()
        self.register("beta", active=False)
        now = self.door.clock.now()
        self.door.control.syncs["acme"] = SyncState(now - 10, now + 290, True, "503 Sorry")
        reply = self.door.call("GET", "/tenants/sync-status").json
        self.assertEqual((True, 300), (reply["ok"], reply["sync_interval_seconds"]))
        acme, beta, default = reply["tenants"]
        self.assertEqual(
            {
                "id": "acme",
                "active": True,
                "last_sync_ts": int(now) - 10,
                "next_sync_due": int(now) + 290,
                "in_dnd": True,
                "report_lag_seconds": 0.0,
                "last_error": "503 Sorry",
            },
            acme,
        )
        self.assertEqual(
            {
                "id": "beta",
                "active": False,
                "last_sync_ts": None,
                "next_sync_due": None,
                "in_dnd": False,
                "report_lag_seconds": 0.0,
            },
            beta,
        )
        self.assertEqual("default", default["id"])

    def test_test(self) -> None:
        """A test call is answered with what became of it; a tenant may ask it for itself."""
        key = self.register()
        self.door.control.sync_test = SyncTest(False, "401 Unauthorized", 0.1234)
        for token in (key, TOKEN):
            reply = self.door.call("POST", "/v1/tenants/acme/test-sync", token=token)
            self.assertEqual(
                {
                    "ok": True,
                    "acknowledged": False,
                    "problem": "401 Unauthorized",
                    "seconds": 0.123,
                },
                reply.json,
            )


class StorageUrlTests(SynchronousTestCase):
    def test_schemes(self) -> None:
        """Large files may go wherever fsspec can write; chained URLs too."""
        for url in ("", "file:///srv/files", "s3://bucket/x", "simplecache::s3://bucket"):
            self.assertEqual(url, tenant_fields.storage_url(url))


def _auth(shown: dict[str, Any]) -> tuple[Any, Any, Any]:
    auth = shown["client_auth"]
    return auth["method"], auth["token"], auth["password"]


def _rest(tenant: Tenant) -> tuple[Any, Any, Any]:
    return tenant.retention_seconds, tenant.signing_secret, tenant.suppress_refused
