"""``/v1/credentials``: who may hand mail in by SMTP."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.crypto import password_matches
from mailproxy.submitters import Submitter
from tests.api.door import TOKEN, Door, Reply
from tests.fakes import result

PATH = "/v1/credentials"
PASSWORD = "correct horse"
OTHER = "k" * 64


class CredentialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def put(self, *, query: str = "", token: str | None = None, **fields: Any) -> Reply:
        return self.door.call("POST", PATH + query, {"user": "erp", **fields}, token or TOKEN)

    def stored(self) -> list[Submitter]:
        return result(self.door.store.submitters())

    def problems(self, **fields: Any) -> list[str]:
        reply = self.put(**fields)
        self.assertEqual(422, reply.status, reply.body)
        return [each["loc"][-1] for each in reply.json["detail"]]

    def test_made(self) -> None:
        """A credential is shown with everything but its password, of which a hash is kept."""
        reply = self.put(
            password=PASSWORD,
            account_id="main",
            senders=["Erp@Example.COM", "@Shop.example", "@shop.example"],
            networks=["192.0.2.1/24"],
            label="the ERP",
        )
        self.assertEqual(200, reply.status, reply.body)
        shown = {
            "user": "erp",
            "tenant_id": "default",
            "has_password": True,
            "account_id": "main",
            "senders": ["Erp@example.com", "@shop.example"],
            "networks": ["192.0.2.0/24"],
            "label": "the ERP",
            "active": True,
        }
        self.assertEqual({"ok": True, **shown}, {k: reply.json[k] for k in ("ok", *shown)})
        (listed,) = self.door.call("GET", PATH).json["credentials"]
        self.assertEqual(shown, {name: listed[name] for name in shown})
        (stored,) = self.stored()
        self.assertTrue(password_matches(PASSWORD, stored.hash or ""))
        everything = reply.body + self.door.call("GET", PATH).body
        self.assertNotIn(PASSWORD.encode(), everything)
        self.assertNotIn((stored.hash or "").encode(), everything)
        self.assertNotIn(PASSWORD, str(self.door.store.disk.commands))

    def test_known_at_once(self) -> None:
        """When the answer is there, the SMTP door knows of it."""
        self.put(password=PASSWORD)
        self.assertIsNotNone(self.door.submitters.user("erp"))
        self.door.call("DELETE", f"{PATH}/erp")
        self.assertIsNone(self.door.submitters.user("erp"))

    def test_changed(self) -> None:
        """What is absent stays as it is; null takes it away."""
        self.put(password=PASSWORD, networks=["192.0.2.0/24"], senders=["a@x.org"], label="old")
        (before,) = self.stored()
        self.put(active=False, senders=None)
        (after,) = self.stored()
        self.assertEqual(
            (before.hash, before.networks, "old"), (after.hash, after.networks, after.label)
        )
        self.assertEqual((False, ()), (after.active, after.senders))
        self.put(password=None, active=None)
        (last,) = self.stored()
        self.assertEqual((None, True), (last.hash, last.active))
        self.put(password="another word")
        self.assertTrue(password_matches("another word", self.stored()[0].hash or ""))

    def test_wrong_fields(self) -> None:
        """A wrong field is named, and nothing is stored."""
        for field, value in (
            *(("user", ""), ("user", "x" * 256), ("user", 7), ("password", "short")),
            *(("password", 12345678), ("senders", "a@x.org"), ("senders", ["x.org"])),
            *(("senders", ["A <a@x.org>"]), ("networks", ["somewhere"]), ("active", "maybe")),
            *(("label", "a\nb"), ("account_id", ""), ("tenant_id", 7)),
        ):
            fields = {"password": PASSWORD, field: value}
            self.assertEqual([field], self.problems(**fields), (field, value))
        self.assertEqual(["user"], self.problems(user=None, password=PASSWORD))
        self.assertEqual([], self.stored())

    def test_open_doors(self) -> None:
        """What would let in anybody without a password is refused."""
        self.assertEqual(["password"], self.problems())
        for wide in (["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["2000::/3"]):
            self.assertEqual(["networks"], self.problems(password=None, networks=wide))
        self.assertEqual(200, self.put(password=PASSWORD, networks=["0.0.0.0/0"]).status)

    def test_tenants(self) -> None:
        """Each tenant sees and changes its own; a user name belongs to one of them."""
        self.door.add_key("acme", OTHER)
        self.put(password=PASSWORD)
        self.assertEqual(409, self.put(password=PASSWORD, token=OTHER).status)
        self.assertEqual(404, self.door.call("DELETE", f"{PATH}/erp", token=OTHER).status)
        self.assertEqual(200, self.put(user="a/b", password=PASSWORD, token=OTHER).status)
        (mine,) = self.door.call("GET", PATH, token=OTHER).json["credentials"]
        self.assertEqual(("a/b", "acme"), (mine["user"], mine["tenant_id"]))
        self.assertEqual(2, len(self.door.call("GET", PATH).json["credentials"]))
        self.assertEqual(
            422, self.put(user="c", password=PASSWORD, tenant_id="default", token=OTHER).status
        )
        self.assertEqual(404, self.put(user="c", password=PASSWORD, tenant_id="nobody").status)
        self.assertEqual(200, self.put(user="c", password=PASSWORD, tenant_id="acme").status)
        self.assertEqual(200, self.door.call("DELETE", f"{PATH}/a/b", token=OTHER).status)
        self.assertEqual(404, self.door.call("DELETE", f"{PATH}/a/b").status)
