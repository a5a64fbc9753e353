"""``/v1/suppressions``: addresses that get no mail of a tenant."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from tests.api.door import Door, Reply, message
from tests.fakes import EPOCH, result

OTHER = "k" * 64
LIST = "/v1/suppressions"


class SuppressionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def addresses(self, query: str = "", **options: Any) -> list[str]:
        reply = self.door.call("GET", f"{LIST}{query}", **options)
        self.assertEqual((200, True), (reply.status, reply.json["ok"]))
        return [each["address"] for each in reply.json["suppressions"]]


class SuppressionTests(SuppressionCase):
    def add(self, body: Any, **options: Any) -> Reply:
        return self.door.call("POST", LIST, body, **options)

    def take(self, address: str, **options: Any) -> Reply:
        return self.door.call("DELETE", f"{LIST}/{quote(address, safe='')}", **options)

    def test_one(self) -> None:
        """One address with its reason."""
        reply = self.add({"address": "Anna@EXAMPLE.org", "reason": "asked us"})
        self.assertEqual((200, {"ok": True, "added": 1, "known": 0}), (reply.status, reply.json))
        (entry,) = self.door.call("GET", LIST).json["suppressions"]
        self.assertEqual(
            {
                "tenant_id": "default",
                "address": "Anna@example.org",
                "reason": "asked us",
                "source": "manual",
                "since": int(EPOCH),
            },
            entry,
        )

    def test_effect(self) -> None:
        """Mail to a suppressed address fails at once, with that reason; others are served."""
        self.add({"address": "gone@example.org"})
        self.door.add(message("m1", to=["gone@example.org"]))
        self.assertEqual({"m1": "failed"}, self.door.store.states())
        (item,) = result(self.door.store.unreported("default", 10))
        self.assertIn("suppressed", item.error or "")

    def test_many(self) -> None:
        """Many at once; what is there already, or twice, is not new."""
        self.add({"address": "a@example.org", "reason": "first"})
        reply = self.add(
            {
                "entries": [
                    {"address": "a@example.org", "reason": "second"},
                    {"address": "b@bücher.example", "reason": None},
                    {"address": "b@xn--bcher-kva.example"},
                ]
            }
        )
        self.assertEqual({"ok": True, "added": 1, "known": 1}, reply.json)
        entries = self.door.call("GET", LIST).json["suppressions"]
        self.assertEqual(["first", ""], [each["reason"] for each in entries])

    def test_bad(self) -> None:
        """Everything that is wrong is named by its place, and nothing is taken."""
        for body, locs in (
            ({}, [["body"]]),
            ({"address": "a@b.c", "entries": []}, [["body"]]),
            ({"address": "canary"}, [["body", "address"]]),
            ({"address": "Name <a@b.c>"}, [["body", "address"]]),
            ({"address": "a@b.c", "reason": "x" * 501}, [["body", "reason"]]),
            ({"address": "a@b.c", "reason": "x\r\ny"}, [["body", "reason"]]),
            ({"address": 1}, [["body", "address"]]),
            ({"entries": [{"reason": "x"}]}, [["body", "entries[0].address"]]),
            (
                {"entries": [{"address": "canary"}, {"address": "a@b.c"}, {"address": ""}]},
                [["body", "entries", 0, "address"], ["body", "entries", 2, "address"]],
            ),
            ({"entries": [{"address": "a@b.c"}] * 10_001}, [["body", "entries"]]),
            (b"nonsense", [["body"]]),
        ):
            reply = self.add(body)
            self.assertEqual(422, reply.status)
            self.assertEqual(locs, [each["loc"] for each in reply.json["detail"]])
            self.assertNotIn(b"canary", reply.body)
        self.assertEqual([], self.addresses())

    def test_take(self) -> None:
        """An address is taken off the list, however it is spelt; one that is not on it is a 404."""
        odd = '"a/b c"@example.org'
        self.add({"entries": [{"address": "a@example.org"}, {"address": odd}]})
        for address in ("a@EXAMPLE.org", odd):
            reply = self.take(address)
            self.assertEqual((200, {"ok": True, "removed": 1}), (reply.status, reply.json))
            self.assertEqual(404, self.take(address).status)
        self.assertEqual([], self.addresses())
        reply = self.take("nonsense")
        self.assertEqual((422, ["path", "address"]), (reply.status, reply.json["detail"][0]["loc"]))

    def test_pages(self) -> None:
        """A long list comes in pages, each entry once."""
        self.add({"entries": [{"address": f"a{n}@example.org"} for n in range(7)]})
        seen: list[str] = []
        query = "?limit=3"
        sizes = []
        while query:
            answer = self.door.call("GET", f"{LIST}{query}").json
            seen += [each["address"] for each in answer["suppressions"]]
            sizes.append(len(answer["suppressions"]))
            query = f"?limit=3&cursor={answer['next']}" if "next" in answer else ""
        self.assertEqual([f"a{n}@example.org" for n in range(7)], seen)
        self.assertEqual([3, 3, 1], sizes)

    def test_bad_pages(self) -> None:
        """A cursor that is not ours, and a limit out of range, are a 422."""
        for query in ("cursor=x", "cursor=%C3%A9", "cursor=W10", "limit=0", "limit=10001"):
            self.assertEqual(422, self.door.call("GET", f"{LIST}?{query}").status, query)

    def test_tenants(self) -> None:
        """Each tenant has its own list; the admin sees all of them."""
        self.door.add_key("other", OTHER)
        self.add({"address": "a@example.org"}, token=OTHER)
        self.add({"address": "b@example.org"})
        self.assertEqual(["a@example.org"], self.addresses(token=OTHER))
        self.assertEqual(["b@example.org"], self.addresses("?tenant_id=default"))
        self.assertEqual(["b@example.org", "a@example.org"], self.addresses())
        self.assertEqual(404, self.take("b@example.org", token=OTHER).status)
