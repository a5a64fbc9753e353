"""``/v1/events`` and ``/v1/reports/replay``: what was told, for those who ask for it."""

from __future__ import annotations

from typing import Any

import msgspec

from mailproxy.items import wire_item
from tests import build
from tests.api.door import TOKEN, Reply, message
from tests.api.test_removal import OTHER, RemovalCase
from tests.fakes import EPOCH, result

EVENTS = "/v1/events?tenant_id=default"


class EventTests(RemovalCase):
    def events(self, query: str = "", token: str = TOKEN) -> Any:
        reply = self.door.call("GET", f"{EVENTS}{query}", token=token)
        self.assertEqual((200, True), (reply.status, reply.json["ok"]), reply.body)
        return reply.json

    def finish(self, *ids: str) -> None:
        """Accept and send messages, one by one, so that their events have an order."""
        for id in ids:
            self.door.add(message(id))
            self.send(*self.claim())
            self.door.clock.advance(1)

    def test_items(self) -> None:
        """An event reads as in a report, and has its number, as digits."""
        self.finish("m1")
        (item,) = result(self.door.store.unreported("default", 10))
        answer = self.events()
        (event,) = answer["events"]
        number = event.pop("number")
        self.assertEqual(msgspec.to_builtins(wire_item(item)), event)
        self.assertEqual(
            ("m1", int(EPOCH), None), tuple(event[n] for n in ("id", "sent_ts", "error"))
        )
        self.assertEqual((str, str(item.event_pks[-1])), (type(number), number))
        self.assertEqual(number, answer["next"])

    def test_reading_on(self) -> None:
        """``next`` leads through all events, each once, reported or not, and stays at the end."""
        self.finish("m1", "m2")
        self.report()
        self.finish("m3", "m4", "m5")
        seen: list[str] = []
        after = "0"
        while (answer := self.events(f"&limit=2&after={after}"))["events"]:
            seen += [event["id"] for event in answer["events"]]
            self.assertLess(int(after), int(answer["next"]))
            after = answer["next"]
        self.assertEqual(["m1", "m2", "m3", "m4", "m5"], seen)
        self.assertEqual(after, answer["next"])
        self.finish("m6")
        self.assertEqual(["m6"], [e["id"] for e in self.events(f"&after={after}")["events"]])

    def test_uncertain_and_test(self) -> None:
        """What reports mark is marked here."""
        self.door.add(message("m1", test=True))
        (event,) = self.events()["events"]
        self.assertIs(True, event["test"])
        self.assertEqual("test: not sent", event["recipients"][0]["reply"])
        self.assertNotIn("uncertain", event)

    def test_bad_numbers(self) -> None:
        """A number that none can have, and a limit out of range, are a 422."""
        for query in ("after=x", "after=-1", "after=1.0", "after=9223372036854775808",
                      "after=%D9%A1", "after=" + "1" * 30, "limit=0", "limit=1001"):  # fmt: skip
            reply = self.door.call("GET", f"{EVENTS}&{query}")
            self.assertEqual(422, reply.status, query)
        self.assertEqual("9223372036854775807", self.events("&after=9223372036854775807")["next"])

    def test_tenants(self) -> None:
        """A tenant reads its own; the admin has to say whose."""
        self.other_tenant()
        self.finish("mine")
        (account,) = result(self.door.store.accounts("other"))
        self.send(*result(self.door.store.claim(account.pk, 1, self.door.clock.now())))
        reply = self.door.call("GET", "/v1/events", token=OTHER)
        self.assertEqual(["m1"], [event["id"] for event in reply.json["events"]])
        self.assertEqual(["mine"], [event["id"] for event in self.events()["events"]])
        reply = self.door.call("GET", "/v1/events")
        self.assertEqual((422, "missing"), (reply.status, reply.json["detail"][0]["type"]))
        self.assertEqual(400, self.door.call("GET", "/v1/events?tenant_id=nobody").status)
        self.assertEqual(401, self.door.call("GET", EVENTS, token=OTHER).status)


class ReplayTests(RemovalCase):
    def setUp(self) -> None:
        super().setUp()
        for id in ("m1", "m2"):
            self.door.add(message(id))
            self.send(*self.claim())
            self.door.clock.advance(10)
        self.before = self.unreported()
        self.report()
        self.assertEqual({}, self.unreported())

    def unreported(self) -> dict[str, str]:
        items = result(self.door.store.unreported("default", 10))
        return {item.id: item.event_id for item in items}

    def replay(self, body: Any, query: str = "", token: str = TOKEN) -> Reply:
        return self.door.call("POST", f"/v1/reports/replay{query}", body, token)

    def test_since(self) -> None:
        """What was born since then is reported again, under the same event ids."""
        reply = self.replay({"since": EPOCH + 5})
        self.assertEqual((200, {"ok": True, "replayed": 1}), (reply.status, reply.json))
        self.assertEqual({"m2": self.before["m2"]}, self.unreported())
        self.replay({"since": 0})
        self.assertEqual(self.before, self.unreported())

    def test_ids(self) -> None:
        """The final events of these messages are reported again; ids that nobody has are none."""
        self.assertEqual(1, self.replay({"ids": ["m1", "nobody", "m1"]}).json["replayed"])
        self.assertEqual({"m1": self.before["m1"]}, self.unreported())

    def test_parked(self) -> None:
        """An event that was given up is told again."""
        self.replay({"ids": ["m1"]})
        (item,) = result(self.door.store.unreported("default", 10))
        now = self.door.clock.now()
        result(self.door.store.park_event(item.event_pks, "410 Gone", now))
        self.assertEqual({}, self.unreported())
        self.replay({"ids": ["m1"]})
        self.assertEqual({"m1": self.before["m1"]}, self.unreported())

    def test_bad(self) -> None:
        """Exactly one of the two has to be said, and be what it should."""
        for body in (
            {},
            {"since": None, "ids": None},
            {"since": 0, "ids": []},
            {"since": "x"},
            {"since": -1},
            {"since": 1e15},
            {"ids": "m1"},
            {"ids": [1]},
            {"ids": ["x"] * 10_001},
            b"",
            b"[]",
        ):
            self.assertEqual(422, self.replay(body).status, str(body)[:50])
        self.assertEqual({}, self.unreported())

    def test_tenants(self) -> None:
        """A tenant has its own events told again, and no others."""
        self.other_tenant()
        self.assertEqual(0, self.replay({"ids": ["m1", "m2"]}, token=OTHER).json["replayed"])
        self.assertEqual(0, self.replay({"since": 0}, "?tenant_id=other").json["replayed"])
        self.assertEqual({}, self.unreported())

    def test_a_deferral(self) -> None:
        """Of a message that has not ended nothing is told again by its id."""
        self.door.add(message("m3"))
        (claimed,) = self.claim()
        self.begin(claimed)
        at = self.door.clock.now()
        result(self.door.store.record([build.deferral(claimed, at=at, next_at=at + 60)]))
        self.report()
        self.assertEqual(0, self.replay({"ids": ["m3"]}).json["replayed"])
