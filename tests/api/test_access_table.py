"""
Every endpoint and everybody who may call it, or may not.

A new endpoint needs a line in :data:`CASES`: without one a test here fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.tenancy import Scope
from tests.api.door import TOKEN, Door, Reply, message

#: The admin alone; whoever has a good token; anyone.
ADMIN, TOKENS, OPEN = "admin", "any token", "open"


@attrs.frozen
class Case:
    """
    A request that succeeds for those who may make it, about the tenant ``acme``.

    :param needs: the scope a tenant's key must have; or one of the words above.
    :param target: path and query; ``{prefix}`` is that of acme's key.
    """

    needs: str
    target: str
    body: Any = None
    status: int = 200
    json: bool = True


RAW = b"From: s@example.com\r\nTo: t@example.org\r\nSubject: x\r\n\r\nHello.\r\n"
_RAW_QUERY = "id=r1&from=s@example.com&to=t@example.org"

#: What an operator decides over as a whole.
GROUPS = {
    "/v1/batches/<path:code>": "/v1/batches/spring",
    "/v1/accounts/<path:id>": "/v1/accounts/smtp-main",
}

CASES: dict[str, Case] = {
    "POST /commands/add-messages": Case(
        "send", "/commands/add-messages", {"messages": [message("m2")]}
    ),
    "POST /v1/messages/raw": Case("send", f"/v1/messages/raw?{_RAW_QUERY}", RAW),
    "POST /commands/run-now": Case(TOKENS, "/commands/run-now"),
    "POST /commands/suspend": Case("control", "/commands/suspend"),
    "POST /commands/activate": Case("control", "/commands/activate"),
    "GET /messages": Case("read", "/messages"),
    "GET /status": Case("read", "/status"),
    "POST /commands/delete-messages": Case("control", "/commands/delete-messages", {"ids": ["m1"]}),
    "POST /commands/cleanup-messages": Case("control", "/commands/cleanup-messages"),
    "POST /v1/explain": Case("read", "/v1/explain", message("m2")),
    "GET /v1/messages/<path:id>": Case("read", "/v1/messages/m1"),
    **{
        f"POST /v1/messages/<path:id>/{act}": Case("control", f"/v1/messages/m1/{act}")
        for act in ("hold", "release", "retry", "cancel", "requeue", "resend")
    },
    **{
        f"POST {pattern}/{act}": Case("control", f"{path}/{act}")
        for act in ("hold", "release", "retry", "cancel", "requeue", "resend")
        for pattern, path in GROUPS.items()
    },
    **{
        f"POST {pattern}/close": Case("control", f"{path}/close", {"end": "failed"})
        for pattern, path in GROUPS.items()
    },
    "GET /v1/holds": Case("read", "/v1/holds"),
    "POST /v1/messages/<path:id>/close": Case(
        "control", "/v1/messages/m1/close", {"end": "failed"}
    ),
    "GET /v1/events": Case("read", "/v1/events"),
    "POST /v1/reports/replay": Case("control", "/v1/reports/replay", {"ids": ["m1"]}),
    "GET /v1/destinations": Case("read", "/v1/destinations"),
    "POST /v1/destinations/<domain>/pause": Case("control", "/v1/destinations/example.org/pause"),
    "POST /v1/destinations/<domain>/resume": Case("control", "/v1/destinations/example.org/resume"),
    "GET /v1/suppressions": Case("read", "/v1/suppressions"),
    "POST /v1/suppressions": Case(
        "control", "/v1/suppressions", {"entries": [{"address": "x@example.org"}]}
    ),
    "DELETE /v1/suppressions/<path:address>": Case("control", "/v1/suppressions/gone@example.org"),
    "POST /v1/suppressions/import": Case("control", "/v1/suppressions/import", b"x@example.org\n"),
    "GET /v1/credentials": Case("read", "/v1/credentials"),
    "POST /v1/credentials": Case(
        "control",
        "/v1/credentials",
        {"user": "crm", "networks": ["192.0.2.0/24"], "password": None},
    ),
    "DELETE /v1/credentials/<path:user>": Case("control", "/v1/credentials/erp"),
    "POST /account": Case("control", "/account", {"id": "b", "host": "smtp.example.net"}),
    "GET /accounts": Case("read", "/accounts"),
    "DELETE /account/<path:id>": Case("control", "/account/smtp-main"),
    "POST /v1/accounts/<path:id>/test": Case("control", "/v1/accounts/smtp-main/test"),
    "POST /tenant": Case(ADMIN, "/tenant", {"id": "acme"}),
    "GET /tenant/<tenant_id>": Case(ADMIN, "/tenant/acme"),
    "PUT /tenant/<tenant_id>": Case(ADMIN, "/tenant/acme", {"name": "Acme"}),
    "DELETE /tenant/<tenant_id>": Case(ADMIN, "/tenant/acme"),
    "GET /tenants": Case(ADMIN, "/tenants"),
    "GET /tenants/sync-status": Case(ADMIN, "/tenants/sync-status"),
    "POST /tenant/<tenant_id>/api-key": Case(ADMIN, "/tenant/acme/api-key"),
    "DELETE /tenant/<tenant_id>/api-key": Case(ADMIN, "/tenant/acme/api-key"),
    "POST /v1/tenants/<tenant_id>/test-sync": Case("control", "/v1/tenants/acme/test-sync"),
    "GET /v1/tenants/<tenant_id>/keys": Case("read", "/v1/tenants/acme/keys"),
    "POST /v1/tenants/<tenant_id>/keys": Case(ADMIN, "/v1/tenants/acme/keys", {"label": "x"}),
    "DELETE /v1/tenants/<tenant_id>/keys/<prefix>": Case(ADMIN, "/v1/tenants/acme/keys/own-full"),
    "GET /v1/dkim": Case("read", "/v1/dkim"),
    "POST /v1/dkim": Case(
        "control", "/v1/dkim", {"domain": "a.example", "selector": "s", "algorithm": "ed25519"}
    ),
    "DELETE /v1/dkim/<domain>/<selector>": Case("control", "/v1/dkim/example.com/s1"),
    "POST /v1/dkim/<domain>/<selector>/activate": Case(
        "control", "/v1/dkim/example.com/s1/activate"
    ),
    "POST /v1/dkim/<domain>/<selector>/deactivate": Case(
        "control", "/v1/dkim/example.com/s1/deactivate"
    ),
    "GET /instance": Case(ADMIN, "/instance"),
    "GET /v1/nodes": Case(ADMIN, "/v1/nodes"),
    "PUT /instance": Case(ADMIN, "/instance", {"name": "Mail"}),
    "GET /command-log": Case(ADMIN, "/command-log"),
    "GET /health": Case(OPEN, "/health"),
    "GET /livez": Case(OPEN, "/livez"),
    "GET /readyz": Case(OPEN, "/readyz"),
    "GET /metrics": Case(OPEN, "/metrics", json=False),
    "GET /v1/files/<pk>/<name>": Case(OPEN, "/v1/files/7/a.pdf?expires=1&signature=x", status=404),
    "GET /openapi.json": Case(OPEN, "/openapi.json"),
    "GET /docs": Case(OPEN, "/docs", json=False),
}

#: Where ``rejected`` tells of mail; anywhere else a client would forget its mail for it.
INTAKE = ("POST /commands/add-messages", "POST /v1/messages/raw")

#: What is no change, or has its own record: the timeline of each message.
UNLOGGED = (
    *INTAKE,
    "POST /commands/run-now",
    "POST /v1/explain",
    "POST /v1/tenants/<tenant_id>/test-sync",
    "POST /v1/accounts/<path:id>/test",
)

#: What is said with which status to whom it is refused.
NOBODY = (401, "Invalid or missing API token")
OTHER = (401, "Token not authorized for this tenant")
NOT_ADMIN = (403, "Admin token required, tenant tokens not allowed for this operation")

#: Tokens that let nobody in anywhere: of acme's, one of a foreign network and one that expired.
USELESS = {
    "none": None,
    "empty": "",
    "wrong": "wrong-token",
    "almost": TOKEN[:-1],
    "foreign network": "foreign-network",
    "expired": "expired-token",
    "revoked": "revoked-token",
}

#: Tokens of acme that are good for something.
OWN: dict[str, frozenset[Scope]] = {
    "own-full-token": frozenset(Scope),
    **{f"own-{scope}-token": frozenset({scope}) for scope in Scope},
}


def made() -> Door:
    """Two tenants with keys of all kinds; both, and the default one, have an account and mail."""
    door = Door()
    for tenant in ("acme", "other"):
        door.add_key(tenant, f"{tenant}-first-token")
        door.call("POST", f"/account?tenant_id={tenant}", {"id": "smtp-main", "host": "a.example"})
        door.call("POST", f"/commands/add-messages?tenant_id={tenant}", {"messages": [message()]})
    door.put_account()
    door.add(message())
    gone = {"entries": [{"address": "gone@example.org"}]}
    door.call("POST", "/v1/suppressions?tenant_id=acme", gone)
    for tenant, user in (("acme", "erp"), ("other", "canary")):
        networks = {"user": user, "password": None, "networks": ["198.51.100.0/24"]}
        door.call("POST", f"/v1/credentials?tenant_id={tenant}", networks)
    pair = {"domain": "example.com", "selector": "s1", "algorithm": "ed25519"}
    door.call("POST", "/v1/dkim?tenant_id=acme", pair)
    now = door.clock.now()
    for token, scopes in OWN.items():
        door.add_key("acme", token, scopes=scopes)
    door.add_key("acme", "foreign-network", networks=("198.51.100.0/24",))
    door.add_key("acme", "expired-token", expires_at=now + 5)
    door.add_key("other", "revoked-token")
    door.call("DELETE", "/v1/tenants/other/keys/revoked-")
    door.add_key("other", "other-tenant-token")
    door.clock.advance(5)
    return door


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = made()

    def begin_anew(self, name: str) -> None:
        """After a request that may have changed something."""
        if not name.startswith("GET"):
            self.door = made()

    def ask(self, name: str, token: str | None, *, tenant: bool = False) -> Reply:
        """Make the request of a case; *tenant*: naming acme in the query."""
        case = CASES[name]
        target = case.target
        if tenant:
            target += f"{'&' if '?' in target else '?'}tenant_id=acme"
        reply = self.door.call(name.partition(" ")[0], target, case.body, token)
        self.check_shape(name, reply)
        return reply

    def check_shape(self, name: str, reply: Reply) -> None:
        """One JSON object, its reason twice, and no word that means *processed*."""
        if reply.status < 400 and not CASES[name].json:
            return
        body = reply.json
        self.assertIsInstance(body, dict, name)
        if name == "GET /openapi.json" and reply.status == 200:
            return
        self.assertIs(reply.status < 400, body["ok"], name)
        self.assertIn(body.get("status"), (None, "ok", "error"), name)
        if reply.status < 400:
            self.assertFalse(body.get("error"), name)
        else:
            self.assertEqual(body["error"], body["detail"], name)
        if name != "POST /commands/add-messages" or reply.status != 200:
            self.assertNotIn("rejected", body, name)

    def refused(self, wanted: tuple[int, str], reply: Reply, *about: Any) -> None:
        self.assertEqual(wanted, (reply.status, reply.json.get("detail")), about)

    def cases(self, *needs: str) -> Iterator[str]:
        yield from (name for name, case in CASES.items() if case.needs in needs)

    def test_complete(self) -> None:
        """Every endpoint has its line in the table, and every line its endpoint."""
        names = {f"{route.method} {route.path}" for route in self.door.api.routes}
        self.assertEqual(names, set(CASES))

    def test_nobody(self) -> None:
        """
        Without a token, with a wrong one, one that ended, or one from a foreign network, everything
        that is not open is refused in the same words, and nothing happens.
        """
        before = list(self.door.store.writes)
        for name in self.cases(ADMIN, TOKENS, *Scope):
            for who, token in USELESS.items():
                for tenant in (False, True):
                    self.refused(NOBODY, self.ask(name, token, tenant=tenant), name, who)
        self.assertEqual(before, self.door.store.writes)
        self.assertEqual([], self.door.control.runs + self.door.control.tested)

    def test_other_tenant(self) -> None:
        """Another tenant's key is refused wherever a tenant is named, and nothing happens."""
        before = list(self.door.store.writes)
        for name in self.cases(TOKENS, *Scope):
            self.refused(OTHER, self.ask(name, "other-tenant-token", tenant=True), name)
            if "<tenant_id>" in name:
                self.refused(OTHER, self.ask(name, "other-tenant-token"), name)
        for name in self.cases(ADMIN):
            for tenant in (False, True):
                reply = self.ask(name, "other-tenant-token", tenant=tenant)
                self.refused(NOT_ADMIN, reply, name)
        self.assertEqual(before, self.door.store.writes)
        self.assertEqual([], self.door.control.runs + self.door.control.tested)

    def test_missing_scope(self) -> None:
        """A key without the scope is told which one it lacks, and nothing happens."""
        before = list(self.door.store.writes)
        for name in self.cases(*Scope):
            for token, scopes in OWN.items():
                needs = Scope(CASES[name].needs)
                if needs not in scopes:
                    wanted = (403, f"This token lacks the scope: {needs}")
                    self.refused(wanted, self.ask(name, token), name, token)
        for name in self.cases(ADMIN):
            for token in OWN:
                self.refused(NOT_ADMIN, self.ask(name, token), name, token)
        self.assertEqual(before, self.door.store.writes)
        self.assertEqual([], self.door.control.runs + self.door.control.tested)

    def test_own(self) -> None:
        """A key with the scope is let in, whether its tenant is named or not."""
        for name in self.cases(TOKENS, *Scope):
            for token, scopes in OWN.items():
                if CASES[name].needs == TOKENS or Scope(CASES[name].needs) in scopes:
                    for tenant in (False, True):
                        reply = self.ask(name, token, tenant=tenant)
                        self.assertEqual(CASES[name].status, reply.status, (name, reply.body))
                        self.begin_anew(name)

    def test_admin(self) -> None:
        """The admin's token is good for everything and for every tenant."""
        for name in CASES:
            reply = self.ask(name, TOKEN, tenant=True)
            self.assertEqual(CASES[name].status, reply.status, (name, reply.body))
            self.begin_anew(name)

    def test_command_log(self) -> None:
        """Each call that changed something is one line of the command log, any other is none."""
        for name in CASES:
            before = len(self.door.store.disk.commands)
            self.assertEqual(CASES[name].status, self.ask(name, TOKEN, tenant=True).status, name)
            lines = self.door.store.disk.commands[before:]
            if name.startswith("GET ") or name in UNLOGGED:
                self.assertEqual([], lines, name)
            else:
                command = re.sub(r"<(?:path:)?(\w+)>", r"{\1}", name)
                self.assertEqual([(command, "acme")], [(e.command, e.tenant_id) for e in lines])
            self.begin_anew(name)

    def test_open(self) -> None:
        """What is open answers everybody alike, whatever token comes along."""
        for name in self.cases(OPEN):
            for token in (*USELESS.values(), *OWN, "other-tenant-token", TOKEN):
                reply = self.ask(name, token)
                self.assertEqual(CASES[name].status, reply.status, (name, token))

    def test_nothing_of_others(self) -> None:
        """What a tenant's key reads is the tenant's: nothing that only others have is in it."""
        canary = {"id": "canary", "host": "canary.example", "user": "canary", "password": "p"}
        for tenant in ("other", "default"):
            self.door.call("POST", f"/account?tenant_id={tenant}", canary)
            body = {"messages": [message("canary", subject="canary", account_id="canary")]}
            reply = self.door.call("POST", f"/commands/add-messages?tenant_id={tenant}", body)
            self.assertEqual(1, reply.json["queued"])
            pair = {"domain": "canary.example", "selector": "s", "algorithm": "ed25519"}
            self.door.call("POST", f"/v1/dkim?tenant_id={tenant}", pair)
        self.door.call("PUT", "/tenant/other", {"name": "canary"})
        self.door.add_key("other", "another-token", label="canary")
        for name in self.cases("read"):
            seen = self.ask(name, "own-full-token").body + self.ask(name, "own-read-token").body
            self.assertNotIn(b"canary", seen, name)
        for name in ("GET /accounts", "GET /messages"):
            self.assertIn(b"canary", self.ask(name, TOKEN).body, name)

    def test_seed_clients(self) -> None:
        """Clients that know no tenants go on as ever beside those that are tenants."""
        reply = self.door.add(message("m9"))
        self.assertEqual({"ok": True, "queued": 1, "rejected": []}, reply.json)
        self.assertEqual(200, self.door.call("POST", "/commands/run-now").status)
        self.assertEqual(200, self.door.call("GET", "/status").status)
        listed = self.door.call("GET", "/messages?tenant_id=default").json["messages"]
        self.assertEqual(["m1", "m9"], sorted(each["id"] for each in listed))

    def test_before_keys_are_known(self) -> None:
        """
        Until the keys are read, a token that may be a tenant's is told to come back; the admin's is
        good, but mail for a tenant that is not known yet is not rejected either.
        """
        self.door.book.loaded = False
        for name in self.cases(ADMIN, *Scope):
            reply = self.ask(name, "own-full-token")
            self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]), name)
        self.assertEqual(200, self.door.call("GET", "/status").status)
        self.assertEqual(1, self.door.add(message("m9")).json["queued"])
        for target, body in (
            ("/commands/add-messages?tenant_id=new", {"messages": [message()]}),
            ("/commands/add-messages", {"messages": [message(tenant_id="new")]}),
            ("/commands/suspend?tenant_id=new", None),
        ):
            reply = self.door.call("POST", target, body)
            self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]), target)
            self.assertNotIn("rejected", reply.json)
        self.assertEqual(200, self.door.call("POST", "/commands/run-now?tenant_id=new").status)

    def test_no_body_is_read(self) -> None:
        """Whoever may not call is told so before a body has come, and the connection ends."""
        for name, token, wanted in (
            ("POST /commands/add-messages", "foreign-network", NOBODY),
            (
                "POST /commands/add-messages",
                "own-read-token",
                (403, "This token lacks the scope: send"),
            ),
            ("POST /commands/add-messages?tenant_id=other", "own-full-token", OTHER),
            ("PUT /tenant/acme", "own-full-token", NOT_ADMIN),
        ):
            method, _, target = name.partition(" ")
            client = self.door.connect()
            head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nX-API-Token: {token}\r\n"
            client.send(f"{head}Content-Length: 1000000\r\n\r\n".encode())
            (reply,) = client.replies
            self.refused(wanted, reply, name)
            self.assertEqual("close", reply.headers["connection"])
