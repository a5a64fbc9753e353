"""Who may call what, and the shape of every refusal."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from mailproxy.api.answers import Refused
from mailproxy.api.auth import Caller, Gate, Proxies
from mailproxy.api.root import ApiOptions
from mailproxy.crypto import hash_token
from mailproxy.tenancy import Scope
from tests.api.door import TOKEN, Door, message, request

#: Every endpoint: verb, target, body.
ENDPOINTS: list[tuple[str, str, Any]] = [
    ("POST", "/commands/add-messages", {"messages": [message()]}),
    ("POST", "/commands/run-now", None),
    ("POST", "/commands/suspend", None),
    ("POST", "/commands/activate", None),
    ("POST", "/account", {"id": "b", "host": "smtp.example.net"}),
    ("GET", "/accounts", None),
    ("DELETE", "/account/b", None),
    ("GET", "/messages", None),
    ("GET", "/status", None),
]
OPEN = ["/health", "/livez", "/readyz", "/metrics"]

UNAUTHORIZED = {
    "ok": False,
    "error": "Invalid or missing API token",
    "detail": "Invalid or missing API token",
}


class AccessTests(SynchronousTestCase):
    def test_every_endpoint_needs_the_token(self) -> None:
        """Each endpoint refuses a missing and a wrong token alike, and takes the right one."""
        for method, target, body in ENDPOINTS:
            door = Door()
            door.put_account()
            for token in (None, "", "wrong", TOKEN[:-1], TOKEN + "x", "\udcff\udcfe"):
                reply = door.call(method, target, body, token)
                self.assertEqual((401, UNAUTHORIZED), (reply.status, reply.json), target)
            self.assertEqual({}, door.store.states())
            self.assertEqual([], door.control.runs)
            reply = door.call(method, target, body)
            self.assertEqual((200, True), (reply.status, reply.json["ok"]), target)
            if target != "/commands/add-messages":
                self.assertNotIn("rejected", reply.json)

    def test_open_endpoints(self) -> None:
        """Health, liveness, readiness and metrics answer everyone, whatever token comes along."""
        door = Door()
        for target in OPEN:
            for token in (None, "wrong", TOKEN):
                self.assertEqual(200, door.call("GET", target, token=token).status, target)

    def test_open_for_reading_only(self) -> None:
        """Another verb on an open path needs the token like everything else."""
        door = Door()
        self.assertEqual(401, door.call("POST", "/health", token=None).status)
        self.assertEqual(405, door.call("POST", "/health").status)

    def test_ways_to_give_the_token(self) -> None:
        """The header's name may be in any case; a bearer token does as well."""
        door = Door()
        for headers in (
            {"x-api-token": TOKEN},
            {"X-Api-TOKEN": TOKEN},
            {"Authorization": f"Bearer {TOKEN}"},
            {"authorization": f"bearer  {TOKEN} "},
        ):
            reply = door.call("GET", "/status", token=None, headers=headers)
            self.assertEqual(200, reply.status, headers)

    def test_no_token(self) -> None:
        """With basic authentication, or half of a bearer's, there is no token."""
        door = Door()
        for value in (f"Basic {TOKEN}", "Bearer", "Bearer ", TOKEN, ""):
            headers = {"Authorization": value}
            reply = door.call("GET", "/status", token=None, headers=headers)
            self.assertEqual(401, reply.status, value)

    def test_metrics_token(self) -> None:
        """Where metrics have a token of their own, that one or the admin's is needed for them."""
        door = Door(metrics_token="m" * 32)
        self.assertEqual(401, door.call("GET", "/metrics", token=None).status)
        self.assertEqual(401, door.call("GET", "/metrics", token="wrong").status)
        self.assertEqual(200, door.call("GET", "/metrics", token="m" * 32).status)
        self.assertEqual(200, door.call("GET", "/metrics").status)
        self.assertEqual(200, door.call("GET", "/livez", token=None).status)
        self.assertEqual(401, door.call("GET", "/status", token="m" * 32).status)

    def test_without_any_token(self) -> None:
        """Running without a token has to be allowed; then everyone is the admin."""
        closed = Door(admin_token=None)
        self.assertEqual(401, closed.call("GET", "/status", token=None).status)
        self.assertEqual(401, closed.call("GET", "/status", token="").status)
        door = Door(admin_token=None, allow_no_token=True)
        self.assertEqual(200, door.call("GET", "/status", token=None).status)
        self.assertEqual(200, door.call("GET", "/status", token="whatever").status)

    def test_a_token_is_a_token(self) -> None:
        """Allowing calls without a token means nothing where there is a token."""
        door = Door(allow_no_token=True)
        self.assertEqual(401, door.call("GET", "/status", token=None).status)


class TenantTokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.add_key("acme", "token-of-acme")
        self.door.add_key("default", "token-of-default")
        self.door.call("POST", "/account?tenant_id=acme", {"id": "a", "host": "a.example"})
        self.door.put_account()

    def test_sees_its_own(self) -> None:
        """A tenant's token shows the tenant's accounts and messages only."""
        reply = self.door.call("GET", "/accounts", token="token-of-acme")
        self.assertEqual(["a"], [account["id"] for account in reply.json["accounts"]])
        everything = self.door.call("GET", "/accounts").json["accounts"]
        self.assertEqual(["a", "smtp-main"], [account["id"] for account in everything])

    def test_another_tenant(self) -> None:
        """A tenant's token for another tenant is refused on every endpoint that takes one."""
        for method, target, body in ENDPOINTS:
            reply = self.door.call(method, f"{target}?tenant_id=default", body, "token-of-acme")
            self.assertEqual(
                (401, "Token not authorized for this tenant"),
                (reply.status, reply.json["detail"]),
                target,
            )
            self.assertNotIn("rejected", reply.json)

    def test_its_own_named(self) -> None:
        """Naming the tenant of the token changes nothing."""
        reply = self.door.call("GET", "/accounts?tenant_id=acme", token="token-of-acme")
        self.assertEqual(200, reply.status)

    def test_another_tenant_in_an_element(self) -> None:
        """An element that names another tenant than token or query is rejected by itself."""
        body = {"messages": [message("m1"), message("m2", tenant_id="default")]}
        for target, token in (
            ("/commands/add-messages", "token-of-acme"),
            ("/commands/add-messages?tenant_id=acme", TOKEN),
        ):
            reply = self.door.call("POST", target, body, token)
            (rejected,) = reply.json["rejected"]
            self.assertEqual("m2", rejected["id"])
            self.assertTrue(rejected["reason"].startswith("invalid tenant_id: "))

    def test_another_tenant_in_an_account(self) -> None:
        """An account can only be declared in a tenant that token, query and body agree on."""
        body = {"id": "x", "host": "x.example", "tenant_id": "default"}
        reply = self.door.call("POST", "/account", body, "token-of-acme")
        self.assertEqual((401, "Token not authorized for this tenant"), _told(reply))
        reply = self.door.call("POST", "/account?tenant_id=acme", body)
        self.assertEqual((422, ["body", "tenant_id"]), (reply.status, _loc(reply)))
        reply = self.door.call("POST", "/account", {**body, "tenant_id": "nobody"})
        self.assertEqual((422, ["body", "tenant_id"]), (reply.status, _loc(reply)))
        reply = self.door.call("POST", "/account", {**body, "tenant_id": "acme"})
        self.assertEqual(200, reply.status)

    def test_goes_to_its_own_tenant(self) -> None:
        """What a tenant's token submits, suspends and deletes is the tenant's."""
        self.door.call("POST", "/commands/add-messages", {"messages": [message()]}, "token-of-acme")
        (row,) = self.door.store.disk.messages.values()
        self.assertEqual("acme", row.tenant_id)
        reply = self.door.call("POST", "/commands/suspend", token="token-of-acme")
        self.assertEqual("acme", reply.json["tenant_id"])
        self.door.call("POST", "/commands/run-now", token="token-of-acme")
        self.assertEqual(["acme"], self.door.control.runs)
        self.assertNotIn("queue", self.door.call("GET", "/status", token="token-of-acme").json)
        reply = self.door.call("DELETE", "/account/smtp-main", token="token-of-acme")
        self.assertEqual(404, reply.status)

    def test_inactive_tenant(self) -> None:
        """The messages of a tenant that is not active are rejected."""
        self.door.store.add_tenant("acme", active=False)
        body = {"messages": [message()]}
        reply = self.door.call("POST", "/commands/add-messages", body, "token-of-acme")
        self.assertEqual([{"id": "m1", "reason": "tenant inactive"}], reply.json["rejected"])

    def test_unknown_tenant(self) -> None:
        """A tenant nobody knows is a 400, rejects its elements, and does not stop run-now."""
        for method, target in (
            ("GET", "/accounts"),
            ("GET", "/messages"),
            ("GET", "/status"),
            ("POST", "/commands/suspend"),
            ("POST", "/commands/activate"),
        ):
            reply = self.door.call(method, f"{target}?tenant_id=nobody")
            self.assertEqual((400, "tenant not found"), _told(reply), target)
            self.assertNotIn("rejected", reply.json)
        body = {"messages": [message()]}
        reply = self.door.call("POST", "/commands/add-messages?tenant_id=nobody", body)
        self.assertEqual([{"id": "m1", "reason": "tenant not found"}], reply.json["rejected"])
        self.assertEqual(200, self.door.call("POST", "/commands/run-now?tenant_id=nobody").status)
        self.assertEqual([], self.door.control.runs)


def _told(reply: Any) -> tuple[int, Any]:
    return reply.status, reply.json["detail"]


def _loc(reply: Any) -> Any:
    return reply.json["detail"][0]["loc"]


class RefusalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def test_unknown_path(self) -> None:
        """A path nobody answers is a 404 in JSON; nothing is redirected."""
        for target in (
            "/nowhere",
            "/",
            "/accounts/",
            "/account/",
            "/commands",
            "/commands//run-now",
            "/%ff",
            "/accounts%00",
            "*",
            "/..%2f..%2fetc/passwd",
            "http://elsewhere.example/nowhere",
        ):
            reply = self.door.call("GET", target)
            self.assertEqual((404, "Not Found"), _told(reply), target)
            self.assertIs(False, reply.json["ok"])
            self.assertEqual("application/json", reply.headers["content-type"])

    def test_wrong_verb(self) -> None:
        """A verb the path does not know is a 405 that names those it knows."""
        for method, target, _ in ENDPOINTS:
            reply = self.door.call("PATCH", target)
            self.assertEqual((405, "Method Not Allowed"), _told(reply), target)
            self.assertIn(method, reply.headers["allow"])

    def test_unknown_path_without_a_token(self) -> None:
        """Without a token nobody learns which paths there are."""
        self.assertEqual(401, self.door.call("GET", "/nowhere", token=None).status)
        self.assertEqual(401, self.door.call("GET", "*", token=None).status)

    def test_open_path_spelt_otherwise(self) -> None:
        """Only the exact spelling of an open path is open."""
        for target in ("//health", "/health/", "/HEALTH", "/%68ealth", "/./health"):
            self.assertEqual(401, self.door.call("GET", target, token=None).status, target)

    def test_spelt_otherwise(self) -> None:
        """However a path is spelt, who may not call the endpoint it leads to is refused."""
        key = self.door.add_key("acme", "token-of-acme", scopes=frozenset({Scope.READ}))
        for target in (
            "/tenant",
            "//tenant",
            "/%74enant",
            "//%74enant",
            "/tenant?x=1",
            "//tenants",
        ):
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
                reply = self.door.call(method, target, {"id": "evil"}, key)
                self.assertGreaterEqual(reply.status, 403, (method, target))
        self.assertFalse(self.door.book.exists("evil"))
        for target in ("/accounts", "//accounts", "//accounts?tenant_id=other&tenant%5Fid=default",
                       "//v1/tenants/default/keys", "/v1//tenants/default/keys"):  # fmt: skip
            for method in ("POST", "GET"):
                if method == "GET" and target.endswith("/accounts"):
                    continue
                reply = self.door.call(method, target, token=key)
                self.assertGreaterEqual(reply.status, 401, (method, target))

    def test_any_host(self) -> None:
        """The Host field selects nothing and breaks nothing."""
        for host in ("", "a b", "\udcff", "xn--", "x" * 300, "a:b:c", "[::1"):
            reply = self.door.call("GET", "/livez", headers={"Host": host})
            self.assertEqual(200, reply.status, host)

    def test_every_status_has_its_words(self) -> None:
        """The status line of a refusal is a standard one, 422 too."""
        client = Door().connect()
        client.send(request("POST", "/account", {}))
        line = client.transport.value().partition(b"\r\n")[0]
        self.assertEqual(f"HTTP/1.1 422 {HTTPStatus(422).phrase}".encode(), line)

    def test_head(self) -> None:
        """HEAD gives the header of GET."""
        reply = self.door.call("HEAD", "/livez", token=None)
        self.assertEqual((200, b""), (reply.status, reply.body))

    def test_not_our_fault_twice(self) -> None:
        """What nobody foresaw is a 500 without a trace of it in the answer, and is logged."""
        self.door.store.fail_next(ZeroDivisionError("secret"), "suspend")

        reply = self.door.call("POST", "/commands/suspend")

        self.assertEqual((500, "Internal Server Error"), _told(reply))
        self.assertNotIn(b"secret", reply.body)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_query_that_is_not_utf8(self) -> None:
        """A query parameter that is not UTF-8 is a 422; one we do not know does not matter."""
        reply = self.door.call("GET", "/messages?account_id=%ff")
        self.assertEqual((422, ["query", "account_id"]), (reply.status, _loc(reply)))
        self.assertEqual(200, self.door.call("GET", "/messages?other=%ff&x").status)


class ProxiesTests(SynchronousTestCase):
    def client(self, peer: str, *forwarded: str, trusted: tuple[str, ...] = ()) -> str:
        headers = Headers({"X-Forwarded-For": list(forwarded)})
        return Proxies(trusted).client(peer, headers)

    def test_nobody_is_believed(self) -> None:
        """Without trusted proxies the peer is the client, whatever it says."""
        self.assertEqual("192.0.2.1", self.client("192.0.2.1", "198.51.100.9"))

    def test_our_proxy(self) -> None:
        """A trusted proxy is believed, up to the first hop that is none of ours."""
        trusted = ("192.0.2.0/24", "2001:db8::1")
        for hops in (
            ("203.0.113.5, 198.51.100.9",),
            ("203.0.113.5, 198.51.100.9, 192.0.2.200",),
            ("203.0.113.5", "198.51.100.9", "2001:db8::1"),
        ):
            self.assertEqual("198.51.100.9", self.client("192.0.2.1", *hops, trusted=trusted))
        self.assertEqual("203.0.113.9", self.client("203.0.113.9", "1.1.1.1", trusted=trusted))

    def test_local_socket(self) -> None:
        """A proxy on a local socket is believed if the word for those is there."""
        self.assertEqual("192.0.2.1", self.client("-", "192.0.2.1", trusted=("unix",)))
        self.assertEqual("-", self.client("-", "192.0.2.1", trusted=("192.0.2.1", "::1")))
        self.assertEqual("192.0.2.1", self.client("192.0.2.1", "1.1.1.1", trusted=("unix",)))

    def test_both_families_in_one_socket(self) -> None:
        """An IPv4 peer of an IPv6 socket is the proxy that it is."""
        trusted = ("192.0.2.0/24",)
        self.assertEqual("1.1.1.1", self.client("::ffff:192.0.2.7", "1.1.1.1", trusted=trusted))

    def test_nonsense(self) -> None:
        """What is not an address is not taken for one."""
        for hops in ((), ("",), ("unknown",), ("\x1b[31m",), ("a, b",)):
            self.assertEqual("192.0.2.1", self.client("192.0.2.1", *hops, trusted=("192.0.2.1",)))
        self.assertEqual("", self.client("", "1.1.1.1", trusted=("192.0.2.1",)))

    def test_bad_network(self) -> None:
        """What is no network cannot be trusted."""
        with self.assertRaises(ValueError):
            Proxies(("proxy.example",))


class GateTests(SynchronousTestCase):
    def test_caller(self) -> None:
        """The gate tells the admin from a tenant, and both from nobody."""
        door = Door()
        door.add_key("acme", "token-of-acme", scopes=frozenset({Scope.READ}), test=True)
        gate = Gate("admin", book=door.book)

        def admit(token: str) -> Caller:
            return gate.admit(Headers({"X-API-Token": [token]}))

        self.assertEqual(Caller(admin=True), admit("admin"))
        self.assertEqual(
            Caller("acme", scopes=frozenset({Scope.READ}), prefix="token-of", test=True),
            admit("token-of-acme"),
        )
        self.assertEqual(
            ["admin", "tenant:acme:token-of"], [admit(t).who for t in ("admin", "token-of-acme")]
        )
        with self.assertRaises(Refused) as caught:
            admit("x")
        self.assertEqual(401, caught.exception.answer.status)

    def test_networks(self) -> None:
        """A key with networks is good from within them alone; what is no address is in none."""
        door = Door()
        networks = ("192.0.2.0/24", "2001:db8::/32")
        door.add_key("acme", "token-of-acme", networks=networks)
        gate = Gate("admin", book=door.book)
        headers = Headers({"X-API-Token": ["token-of-acme"]})
        for address in ("192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"):
            self.assertEqual("acme", gate.admit(headers, address).tenant_id, address)
        for address in ("192.0.3.7", "2001:db9::7", "::ffff:192.0.3.7", "-", "", "localhost"):
            with self.assertRaises(Refused, msg=address) as caught:
                gate.admit(headers, address)
            self.assertEqual(UNAUTHORIZED, msgspec.json.decode(caught.exception.answer.body))

    def test_what_is_used_is_noted(self) -> None:
        """A key that lets somebody in is noted as used; one that does not is not."""
        door = Door()
        door.add_key("acme", "token-of-acme", networks=("192.0.2.0/24",))
        gate = Gate("admin", book=door.book)
        headers = Headers({"X-API-Token": ["token-of-acme"]})
        with self.assertRaises(Refused):
            gate.admit(headers, "198.51.100.1")
        self.assertEqual([None], [key.used_at for key in door.book.keys("acme")])
        gate.admit(headers, "192.0.2.1")
        self.assertEqual([door.clock.now()], [key.used_at for key in door.book.keys("acme")])

    def test_nothing_of_a_token_is_shown(self) -> None:
        """Neither a key's hash nor a token is in what callers and keys look like."""
        door = Door()
        door.add_key("acme", "token-of-acme-canary")
        (key,) = door.book.keys("acme")
        caller = Gate("a", book=door.book).admit(Headers({"X-API-Token": ["token-of-acme-canary"]}))
        for shown in (repr(key), repr(caller), repr(ApiOptions(admin_token="canary"))):
            self.assertNotIn("canary", shown)
            self.assertNotIn(repr(hash_token("token-of-acme-canary")), shown)
