"""``/v1/dkim``: keys that sign mail are taken or made, shown by their public half, and switched."""

from __future__ import annotations

import base64
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dkim_keys import MAX_SELECTORS, Algorithm, DkimKey, generate
from tests.api.door import TOKEN, Door, Reply
from tests.fakes import result

PATH = "/v1/dkim"
PAIR = generate(Algorithm.ED25519)


class DkimTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def add(self, *, query: str = "", token: str = TOKEN, **fields: Any) -> Reply:
        body = {"domain": "example.com", "selector": "s1", "algorithm": "ed25519", **fields}
        given = {name: value for name, value in body.items() if value is not None}
        return self.door.call("POST", PATH + query, given, token)

    def stored(self) -> list[DkimKey]:
        return result(self.door.store.dkim_keys())

    def problems(self, **fields: Any) -> list[str]:
        reply = self.add(**fields)
        self.assertEqual(422, reply.status, reply.body)
        return [each["loc"][-1] for each in reply.json["detail"]]

    def act(self, name: str, what: str = "", method: str = "POST") -> Reply:
        return self.door.call(method, f"{PATH}/{name}{what}")

    def test_made(self) -> None:
        """A key that is made here is shown with its record; it signs when it is told to."""
        reply = self.add(selector="Mail2026")
        self.assertEqual(200, reply.status, reply.body)
        (key,) = self.stored()
        shown = {
            "tenant_id": "default",
            "domain": "example.com",
            "selector": "mail2026",
            "algorithm": "ed25519",
            "active": False,
            "created_at": reply.json["created_at"],
            "dns": {
                "name": "mail2026._domainkey.example.com",
                "type": "TXT",
                "value": f"v=DKIM1; k=ed25519; p={key.public}",
            },
        }
        self.assertEqual({"ok": True, **shown}, reply.json)
        self.assertEqual([shown], self.door.call("GET", PATH).json["keys"])
        self.assertFalse(self.door.book.signs("default"))

        self.assertIs(True, self.act("example.com/mail2026", "/activate").json["active"])
        self.assertEqual(
            ["mail2026"], [k.selector for k in self.door.book.signing("default", "example.com")]
        )
        self.assertIs(False, self.act("example.com/mail2026", "/deactivate").json["active"])
        self.assertFalse(self.door.book.signs("default"))

    def test_rsa_as_usual(self) -> None:
        """Without a word an RSA key of 2048 bits is made."""
        reply = self.add(algorithm=None, active=True)
        self.assertEqual(("rsa", True), (reply.json["algorithm"], reply.json["active"]))
        public = serialization.load_der_public_key(
            base64.b64decode(reply.json["dns"]["value"].rpartition("p=")[2])
        )
        self.assertEqual(2048, public.key_size)  # type: ignore[union-attr]
        self.assertTrue(self.door.book.signs("default"))

    def test_given(self) -> None:
        """A key that is given is taken as it is; its private half is in no answer and no log."""
        reply = self.add(private_key=PAIR.private, algorithm=None, active=True)
        (key,) = self.stored()
        self.assertEqual((PAIR.private, PAIR.public), (key.private, key.public))
        log = self.door.call("GET", "/command-log")
        everything = reply.body + self.door.call("GET", PATH).body + log.body
        self.assertNotIn(PAIR.private.split("\n")[1].encode(), everything)
        self.assertNotIn(b"PRIVATE KEY", everything)
        self.assertEqual("example.com", log.json["commands"][0]["detail"]["domain"])
        self.assertEqual("********", log.json["commands"][0]["detail"]["private_key"][:8])

    def test_domain(self) -> None:
        """A domain is kept as the From of messages has it: lower case, A-labels."""
        self.assertEqual("xn--bcher-kva.example", self.add(domain="Bücher.Example").json["domain"])
        for domain in ("", "a b", "x@y.example", "[192.0.2.1]", "-a.example", "a..b", "é" * 70):
            self.assertEqual(["domain"], self.problems(domain=domain))

    def test_wrong(self) -> None:
        """What is wrong with a key is told by the field, without its value."""
        small = generate_private_key(public_exponent=65537, key_size=1024).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self.assertEqual(["private_key"], self.problems(private_key=small.decode()))
        self.assertEqual(["private_key"], self.problems(private_key="secret-nonsense"))
        self.assertNotIn(b"nonsense", self.add(private_key="secret-nonsense").body)
        self.assertEqual(["algorithm"], self.problems(private_key=PAIR.private, algorithm="rsa"))
        self.assertEqual(["algorithm"], self.problems(algorithm="dsa"))
        self.assertEqual(["selector"], self.problems(selector="a_b"))
        self.assertEqual([], self.stored())

    def test_taken(self) -> None:
        """A selector is taken once, and a domain has so many keys: 409."""
        self.add()
        self.assertEqual(409, self.add().status)
        for n in range(1, MAX_SELECTORS):
            self.assertEqual(200, self.add(selector=f"t{n}").status)
        self.assertEqual(409, self.add(selector="more").status)

    def test_rotation(self) -> None:
        """A second key takes the place of the first when it is activated, and may go back."""
        self.add(selector="old", active=True)
        self.add(selector="new")
        self.act("example.com/new", "/activate")
        self.assertEqual(
            {"old": False, "new": True}, {key.selector: key.active for key in self.stored()}
        )
        self.act("Example.COM/OLD", "/activate")
        self.assertEqual(
            {"old": True, "new": False}, {key.selector: key.active for key in self.stored()}
        )

    def test_removed(self) -> None:
        """A key is removed once; of what is not there every act is 404."""
        self.add(active=True)
        self.assertEqual(200, self.act("example.com/s1", method="DELETE").status)
        self.assertFalse(self.door.book.signs("default"))
        self.assertEqual(404, self.act("example.com/s1", method="DELETE").status)
        for what in ("/activate", "/deactivate"):
            self.assertEqual(404, self.act("example.com/s1", what).status)

    def test_tenants(self) -> None:
        """A tenant has, sees and switches its own keys alone; the admin sees all."""
        self.door.add_key("acme", "acme-token")
        self.add(active=True)
        self.add(token="acme-token", selector="theirs", active=True)

        def seen(token: str) -> list[str]:
            keys = self.door.call("GET", PATH, None, token).json["keys"]
            return [f"{key['tenant_id']}/{key['selector']}" for key in keys]

        self.assertEqual(["acme/theirs"], seen("acme-token"))
        self.assertEqual(["acme/theirs", "default/s1"], seen(TOKEN))
        self.assertEqual(
            404, self.door.call("DELETE", f"{PATH}/example.com/s1", None, "acme-token").status
        )
        self.assertEqual(
            ["theirs"], [key.selector for key in self.door.book.signing("acme", "example.com")]
        )

    def test_without_the_extra(self) -> None:
        """Where nothing can sign, no key is taken or activated, and the answer names the extra."""
        self.add()
        self.door = Door(can_sign=lambda: False)
        for reply in (self.add(), self.act("example.com/s1", "/activate")):
            self.assertEqual(501, reply.status)
            self.assertIn("mailproxy[dkim]", reply.json["error"])
        self.assertEqual([], self.stored())
        self.assertEqual(200, self.door.call("GET", PATH).status)
