"""``/command-log`` and ``/instance``."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import mailproxy
from mailproxy.errors import StoreUnavailable
from tests.api.door import Door, message

CANARY = "canary8f3a"


class LogCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def lines(self, query: str = "") -> list[dict[str, Any]]:
        reply = self.door.call("GET", f"/command-log{query}")
        self.assertEqual((200, True), (reply.status, reply.json["ok"]))
        self.assertNotIn(CANARY, reply.body.decode())
        lines = reply.json["commands"]
        assert isinstance(lines, list)
        return lines

    def line(self) -> dict[str, Any]:
        """The only line there is."""
        (line,) = self.lines()
        return line


class WrittenTests(LogCase):
    def test_a_line(self) -> None:
        """A line says when, who, what, about whom, and what was asked for."""
        self.door.clock.advance(60)
        self.door.call("POST", "/account", {"id": "a", "host": "a.example", "port": "25"})
        line = self.line()
        self.assertIsInstance(line.pop("id"), int)
        self.assertEqual(
            {
                "at": "2025-06-15T15:07:40+00:00",
                "command_ts": 1_750_000_060,
                "tenant_id": None,
                "command": "POST /account",
                "who": "admin",
                "detail": {"id": "a", "host": "a.example", "port": "25"},
            },
            line,
        )

    def test_a_tenant(self) -> None:
        """What a tenant's key did is the tenant's, and names the key."""
        self.door.add_key("acme", "0123456789-token")
        body = {"id": "a", "host": "a.example"}
        self.door.call("POST", "/account", body, "0123456789-token")
        line = self.line()
        self.assertEqual(("acme", "tenant:acme:01234567"), (line["tenant_id"], line["who"]))

    def test_about_whom(self) -> None:
        """The tenant is the one that the path, the query or the body names."""
        for method, target, body in (
            ("POST", "/tenant", {"id": "acme"}),
            ("PUT", "/tenant/acme", {}),
            ("POST", "/commands/suspend?tenant_id=acme", None),
            ("POST", "/account", {"id": "a", "host": "a.example", "tenant_id": "acme"}),
            ("DELETE", "/account/a?tenant_id=acme", None),
            ("POST", "/v1/tenants/acme/keys", {"label": "x"}),
            ("DELETE", "/tenant/acme", None),
        ):
            self.assertEqual(200, self.door.call(method, target, body).status, target)
            self.assertEqual("acme", self.lines()[0]["tenant_id"], target)
        self.assertEqual("DELETE /tenant/{tenant_id}", self.lines()[0]["command"])
        self.door.call("POST", "/commands/suspend")
        self.assertIsNone(self.lines()[0]["tenant_id"])

    def test_secrets(self) -> None:
        """That a secret was given is told, the secret is not; nor is what we do not know."""
        body = {"id": "a", "host": "a.example", "user": "u", "password": CANARY, CANARY: 1}
        self.door.call("POST", f"/account?password={CANARY}&{CANARY}=x", body)
        detail = {"id": "a", "host": "a.example", "user": "u", "password": "********"}
        self.assertEqual(detail, self.line()["detail"])
        body = {
            "id": "acme",
            "client_base_url": f"https://a.example/{CANARY}",
            "client_auth": {"method": "bearer", "token": CANARY},
            "large_file_config": {"max_size_mb": 5, "storage_url": f"s3://{CANARY}"},
            "signing_secret": None,
        }
        self.door.call("POST", "/tenant", body)
        self.assertEqual(
            {
                "id": "acme",
                "client_base_url": "given",
                "client_auth": "********",
                "large_file_config": {"max_size_mb": 5},
                "signing_secret": None,
            },
            self.lines()[0]["detail"],
        )

    def test_long(self) -> None:
        """A long value is cut, and a long list too."""
        networks = [f"10.0.{n}.0/24" for n in range(50)]
        body = {"label": "x" * 250, "networks": networks}
        self.door.call("POST", "/v1/tenants/default/keys", body)
        detail = self.line()["detail"]
        self.assertEqual("x" * 200 + "...", detail["label"])
        self.assertEqual(networks[:20], detail["networks"])

    def test_only_what_changed_something(self) -> None:
        """Mail, run-now, reading and what was refused are no lines of the log."""
        self.door.store.add_tenant("acme")
        for method, target, body in (
            ("POST", "/commands/add-messages", {"messages": [message()]}),
            ("POST", "/commands/run-now", None),
            ("POST", "/v1/tenants/default/test-sync", None),
            ("GET", "/accounts", None),
            ("GET", "/tenants", None),
            ("POST", "/account", {"id": "a"}),
            ("POST", "/tenant", {"id": ""}),
            ("DELETE", "/tenant/nobody", None),
            ("DELETE", "/tenant/default", None),
        ):
            self.door.call(method, target, body)
        self.door.store.fail_next(StoreUnavailable("full"))
        self.door.put_account()
        self.door.call("POST", "/account", {"id": "a", "host": "a.example"}, "wrong")
        self.assertEqual([], self.lines())

    def test_cannot_be_written(self) -> None:
        """What was done stays done and is answered so, though its line is missing."""
        for error in (StoreUnavailable("full"), ZeroDivisionError()):
            self.door.store.fail_next(error, "log_command")
            reply = self.door.put_account()
            self.assertEqual((200, {"ok": True}), (reply.status, reply.json))
        self.assertEqual([], self.lines())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class ReadTests(LogCase):
    def test_pages(self) -> None:
        """The newest line comes first; the cursor goes on from there, through all of them."""
        for n in range(7):
            self.door.put_account(id=f"a{n}")
        seen: list[str] = []
        query = "?limit=3"
        while query:
            answer = self.door.call("GET", f"/command-log{query}").json
            seen += [line["detail"]["id"] for line in answer["commands"]]
            query = f"?limit=3&cursor={answer['next']}" if "next" in answer else ""
        self.assertEqual([f"a{n}" for n in reversed(range(7))], seen)
        self.assertEqual(7, len(self.lines("?limit=7")))

    def test_one_tenant(self) -> None:
        """The lines about one tenant can be read alone."""
        for id in ("acme", "beta"):
            self.door.call("POST", "/tenant", {"id": id})
        self.assertEqual(["acme"], [line["tenant_id"] for line in self.lines("?tenant_id=acme")])

    def test_wrong(self) -> None:
        """A limit or a cursor that is none is a 422."""
        for query in ("limit=0", "limit=1001", "limit=x", "limit=nan", "cursor=x", "cursor=-1",
                      "cursor=99999999999999999999", "cursor=%C2%B2"):  # fmt: skip
            reply = self.door.call("GET", f"/command-log?{query}")
            self.assertEqual(422, reply.status, query)
            name = query.partition("=")[0]
            self.assertEqual(["query", name], reply.json["detail"][0]["loc"])


class InstanceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def shown(self) -> Any:
        return self.door.call("GET", "/instance").json

    def put(self, **fields: Any) -> int:
        return self.door.call("PUT", "/instance", fields).status

    def test_shown(self) -> None:
        """The service shows its name, its version and whether it sends."""
        wanted = {"ok": True, "id": 1, "name": "mailproxy", "version": mailproxy.__version__}
        self.assertEqual({**wanted, "active": True}, self.shown())
        self.door.call("POST", "/commands/suspend")
        self.assertEqual({**wanted, "active": False}, self.shown())

    def test_named(self) -> None:
        """A name stays until it is cleared; what is left out changes nothing."""
        self.assertEqual(200, self.put(name="Mail of the shops"))
        self.assertEqual(200, self.put())
        self.assertEqual("Mail of the shops", self.shown()["name"])
        self.assertEqual(200, self.put(name=None))
        self.assertEqual("mailproxy", self.shown()["name"])

    def test_active(self) -> None:
        """The switch is the same as that of suspend and activate."""
        self.assertEqual(200, self.put(active=False))
        self.assertIs(False, self.door.call("GET", "/status").json["active"])
        self.assertEqual(200, self.put(active="true"))
        self.assertIs(True, self.shown()["active"])

    def test_wrong(self) -> None:
        """A wrong field is a 422, and nothing is changed."""
        self.assertEqual(422, self.put(name="x" * 256))
        self.assertEqual(422, self.put(name="x", active="perhaps"))
        self.assertEqual(("mailproxy", True), (self.shown()["name"], self.shown()["active"]))
