"""``/v1/destinations``: recipient domains that get no mail for now."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import StoreUnavailable
from tests.api.door import Door, message
from tests.fakes import EPOCH, result

OTHER = "k" * 64


class DestinationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def post(self, domain: str, verb: str = "pause", query: str = "", **options: Any) -> Any:
        target = f"/v1/destinations/{quote(domain, safe='')}/{verb}{query}"
        return self.door.call("POST", target, **options)

    def how(self, domain: str, verb: str = "pause") -> tuple[bool, bool]:
        """How it stands after a change, and whether it was one."""
        answer = self.post(domain, verb).json
        return answer["paused"], answer["changed"]

    def paused(self, **options: Any) -> list[tuple[str, str]]:
        reply = self.door.call("GET", "/v1/destinations", **options)
        self.assertEqual((200, True), (reply.status, reply.json["ok"]))
        return [(each["tenant_id"], each["domain"]) for each in reply.json["destinations"]]

    def test_pause_and_resume(self) -> None:
        """A domain is paused, shown, and resumed; mail to it waits meanwhile."""
        self.door.add(message("m1", to=["a@example.org"]))
        reply = self.post("example.org")
        self.assertEqual(
            {
                "ok": True,
                "tenant_id": "default",
                "domain": "example.org",
                "paused": True,
                "changed": True,
            },
            reply.json,
        )
        listed = self.door.call("GET", "/v1/destinations").json["destinations"]
        self.assertEqual(
            [{"tenant_id": "default", "domain": "example.org", "since": int(EPOCH)}], listed
        )
        (account,) = result(self.door.store.accounts("default"))
        self.assertEqual([], result(self.door.store.claim(account.pk, 10, EPOCH)))

        self.assertEqual((False, True), self.how("example.org", "resume"))
        self.assertEqual([], self.paused())
        self.assertEqual(1, len(result(self.door.store.claim(account.pk, 10, EPOCH))))

    def test_again(self) -> None:
        """What is so already is no change."""
        self.post("example.org")
        self.assertEqual((True, False), self.how("example.org"))
        self.post("example.org", "resume")
        self.assertEqual((False, False), self.how("example.org", "resume"))

    def test_names(self) -> None:
        """A domain is the same in capitals, in Unicode and as A-labels; a literal is one too."""
        for text, expected in (
            ("EXAMPLE.Org", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("XN--bcher-kva.example", "xn--bcher-kva.example"),
            ("[192.0.2.1]", "[192.0.2.1]"),
            ("[ipv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
        ):
            self.assertEqual(expected, self.post(text).json["domain"])

    def test_no_names(self) -> None:
        """What is no domain is a 422, and is not repeated."""
        for text in ("a@b", "a b", "-", "a..b", "canary(x).org", "b,c", "[1.2.3]", "ex_a.org",
                     "x" * 300, "a\tb", "<b>", "b>", ";"):  # fmt: skip
            for verb in ("pause", "resume"):
                reply = self.post(text, verb)
                self.assertEqual(422, reply.status, text)
                self.assertEqual(["path", "domain"], reply.json["detail"][0]["loc"])
                self.assertNotIn(b"canary", reply.body)
        self.assertEqual([], self.paused())

    def test_tenants(self) -> None:
        """A tenant pauses for itself; the admin for whom it names, and sees all."""
        self.door.add_key("other", OTHER)
        self.post("a.example", token=OTHER)
        self.post("b.example")
        self.post("c.example", query="?tenant_id=other")
        self.assertEqual([("other", "a.example"), ("other", "c.example")], self.paused(token=OTHER))
        self.assertEqual(
            {("other", "a.example"), ("other", "c.example"), ("default", "b.example")},
            set(self.paused()),
        )
        self.assertEqual(
            401, self.post("d.example", query="?tenant_id=default", token=OTHER).status
        )
        self.assertEqual(400, self.post("d.example", query="?tenant_id=nobody").status)

    def test_cannot_store(self) -> None:
        """A pause that could not be stored is none."""
        self.door.store.fail_next(StoreUnavailable("full"))
        self.assertEqual(503, self.post("example.org").status)
        self.assertEqual([], self.paused())
