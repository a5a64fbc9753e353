"""``/commands/delete-messages`` and ``/commands/cleanup-messages``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.removal import SLICE
from mailproxy.errors import StoreUnavailable
from mailproxy.model import Claimed
from mailproxy.tenancy import Removed
from tests import build
from tests.api.door import TOKEN, Door, Reply, message
from tests.fake_store import FakeStore
from tests.fakes import result

OTHER = "k" * 64


class FailsLater(FakeStore):
    """Its second removal finds the disk full."""

    removals = 0

    async def remove(self, tenant_id: str | None, ids: Sequence[str], now: float) -> Removed:
        self.removals += 1
        if self.removals == 2:
            raise StoreUnavailable("full")
        return await super().remove(tenant_id, ids, now)


class RemovalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def claim(self, count: int = 100, tenant_id: str = "default") -> list[Claimed]:
        (account,) = result(self.door.store.accounts(tenant_id))
        return result(self.door.store.claim(account.pk, count, self.door.clock.now()))

    def begin(self, *claimed: Claimed) -> None:
        intents = [(each.pk, each.token) for each in claimed]
        result(self.door.store.begin(intents, "smtp-main", self.door.clock.now()))

    def send(self, *claimed: Claimed) -> None:
        self.begin(*claimed)
        at = self.door.clock.now()
        result(self.door.store.record([build.record(each, at=at) for each in claimed]))

    def report(self, tenant_id: str = "default") -> None:
        items = result(self.door.store.unreported(tenant_id, 100))
        pks = [pk for item in items for pk in item.event_pks]
        result(self.door.store.acked(pks, self.door.clock.now()))

    def other_tenant(self) -> None:
        """Make a tenant with an account, a key and a message ``m1``."""
        self.door.add_key("other", OTHER)
        self.door.call("POST", "/account?tenant_id=other", {"id": "a", "host": "smtp.example.net"})
        self.door.add(message("m1"), query="?tenant_id=other")


class DeleteTests(RemovalCase):
    def delete(self, *ids: Any, token: str = TOKEN, query: str = "") -> Reply:
        target = f"/commands/delete-messages{query}"
        return self.door.call("POST", target, {"ids": list(ids)}, token)

    def test_waiting(self) -> None:
        """A message that waits is gone; the answer tells of each id."""
        self.door.add(message("m1"), message("m2"), message("m3"))
        reply = self.delete("m3", "nobody", "m1", "m3")

        self.assertEqual(200, reply.status)
        self.assertEqual(
            {
                "ok": True,
                "removed": 2,
                "not_found": ["nobody"],
                "unauthorized": [],
                "detail": [],
            },
            reply.json,
        )
        self.assertEqual({"m2"}, {each.id for each in self.claim()})

    def test_not_reported(self) -> None:
        """What was taken back is not reported: the answer was the report."""
        self.door.add(message("m1"))
        self.delete("m1")
        self.assertEqual([], result(self.door.store.unreported("default", 10)))

    def test_begun(self) -> None:
        """What has begun, or ended unreported, stays and is told with its state."""
        self.door.add(message("begun"))
        self.begin(*self.claim())
        self.door.add(message("sent"))
        self.send(*self.claim())
        self.door.add(message("waits"))

        answer = self.delete("begun", "sent", "waits").json

        self.assertEqual((1, ["begun", "sent"]), (answer["removed"], answer["not_found"]))
        self.assertEqual(
            [{"id": "begun", "state": "in_flight"}, {"id": "sent", "state": "sent"}],
            answer["detail"],
        )
        self.assertNotIn("rejected", answer)

    def test_reported(self) -> None:
        """What has ended and was reported is removed."""
        self.door.add(message("m1"))
        self.send(*self.claim())
        self.report()
        self.assertEqual(1, self.delete("m1").json["removed"])

    def test_claimed(self) -> None:
        """A message that is claimed, but not begun, is gone: its body is not begun any more."""
        self.door.add(message("m1"))
        (claimed,) = self.claim()
        self.assertEqual(1, self.delete("m1").json["removed"])
        intents = [(claimed.pk, claimed.token)]
        now = self.door.clock.now()
        self.assertEqual([False], result(self.door.store.begin(intents, "smtp-main", now)))

    def test_other_tenants(self) -> None:
        """An id of another tenant is like one that nobody has."""
        self.other_tenant()
        self.door.add(message("mine"))
        answer = self.delete("mine", "m1", token=OTHER).json
        self.assertEqual(
            (1, ["mine"], [], []),
            tuple(answer[name] for name in ("removed", "not_found", "unauthorized", "detail")),
        )
        self.assertIn("mine", self.door.store.states())

    def test_admin(self) -> None:
        """The admin takes back mail of the tenant that is named, else of the default one."""
        self.other_tenant()
        self.assertEqual(["m1"], self.delete("m1").json["not_found"])
        self.assertEqual(1, self.delete("m1", query="?tenant_id=other").json["removed"])
        reply = self.delete("m1", query="?tenant_id=nobody")
        self.assertEqual((400, "tenant not found"), (reply.status, reply.json["error"]))

    def test_bad_bodies(self) -> None:
        """What is no list of ids is a 422 that says where it is wrong."""
        for body, loc in (
            (b"", ["body"]),
            (b"[]", ["body"]),
            (b"{", ["body"]),
            (b"[" * 100_000, ["body"]),
            (b"{}", ["body", "ids"]),
            (b'{"ids":"m1"}', ["body", "ids"]),
            (b'{"ids":null}', ["body", "ids"]),
            (b'{"ids":["a",1]}', ["body", "ids[1]"]),
            (b'{"ids":["\\ud800"]}', ["body"]),
            (b'{"ids":[%s]}' % b",".join([b'""'] * 10_001), ["body", "ids"]),
        ):
            reply = self.door.call("POST", "/commands/delete-messages", body)
            self.assertEqual((422, loc), (reply.status, reply.json["detail"][0]["loc"]), body[:30])
            self.assertNotIn("rejected", reply.json)

    def test_nothing(self) -> None:
        """An empty list, and ids that no message can have, are simply not found."""
        self.assertEqual(0, self.delete().json["removed"])
        odd = ["", " ", "x" * 300, "a\x00b", "☃"]
        self.assertEqual(odd, self.delete(*odd).json["not_found"])

    def test_cannot_store(self) -> None:
        """A failure in the middle is not told as if nothing had been done."""
        ids = [f"m{n}" for n in range(SLICE + 1)]
        self.door.add(*(message(id) for id in ids))
        self.door.store.fail_next(StoreUnavailable("full"))
        whole = self.delete(*ids)
        self.assertEqual(503, whole.status)
        self.assertIn("nothing was stored", whole.json["error"])
        self.assertEqual(SLICE + 1, len(self.door.store.states()))

        self.door = Door(store=FailsLater)
        self.door.put_account()
        self.door.add(*(message(id) for id in ids))
        part = self.delete(*ids)
        self.assertEqual((503, "5"), (part.status, part.headers["retry-after"]))
        self.assertNotIn("nothing was stored", part.json["error"])
        self.assertEqual({ids[-1]: "queued"}, self.door.store.states())


class CleanupTests(RemovalCase):
    def cleanup(self, body: Any = None, query: str = "", token: str = TOKEN) -> Reply:
        return self.door.call("POST", f"/commands/cleanup-messages{query}", body, token)

    def test_finished_and_reported(self) -> None:
        """Only what has ended and is reported is forgotten."""
        self.door.add(message("reported"))
        self.send(*self.claim())
        self.report()
        self.door.add(message("unreported"))
        self.send(*self.claim())
        self.door.add(message("waits"))
        self.door.clock.advance(10)

        reply = self.cleanup({"older_than_seconds": 0})

        self.assertEqual((200, {"ok": True, "removed": 1}), (reply.status, reply.json))
        self.assertEqual({"unreported", "waits"}, set(self.door.store.states()))

    def test_age(self) -> None:
        """What is younger than asked for stays."""
        self.door.add(message("m1"))
        self.send(*self.claim())
        self.report()
        self.door.clock.advance(100)
        self.assertEqual(0, self.cleanup({"older_than_seconds": 101}).json["removed"])
        self.assertEqual(1, self.cleanup({"older_than_seconds": 99}).json["removed"])

    def test_nothing_said(self) -> None:
        """Without an age the tenant's own retention counts, else that of the service."""
        self.door = Door(retention=1000.0)
        self.door.put_account()
        for body in (None, b" ", {}, {"older_than_seconds": None}):
            self.door.add(message("m1"))
            self.send(*self.claim())
            self.report()
            self.door.clock.advance(999)
            self.assertEqual(0, self.cleanup(body).json["removed"])
            self.door.clock.advance(2)
            self.assertEqual(1, self.cleanup(body).json["removed"])
            self.door.store.disk.tombstones.clear()
        self.door.call("POST", "/tenant", {"id": "default", "retention_seconds": 50})
        self.door.add(message("m1"))
        self.send(*self.claim())
        self.report()
        self.door.clock.advance(51)
        self.assertEqual(1, self.cleanup().json["removed"])

    def test_own_only(self) -> None:
        """A tenant forgets its own; the admin's call without a tenant is the default one's."""
        self.other_tenant()
        self.door.add(message("mine"))
        self.send(*self.claim(), *self.claim(tenant_id="other"))
        self.report()
        self.report("other")
        self.door.clock.advance(1)
        body = {"older_than_seconds": 0}
        self.assertEqual(1, self.cleanup(body, token=OTHER).json["removed"])
        self.assertEqual({"mine"}, set(self.door.store.states()))
        self.assertEqual(1, self.cleanup(body).json["removed"])

    def test_bad_bodies(self) -> None:
        """An age that is none is a 422."""
        bad: list[Any] = ["1", -1, 1.5, True, 10**13, [], {}]
        for value in bad:
            reply = self.cleanup({"older_than_seconds": value})
            self.assertEqual(422, reply.status, value)
            self.assertEqual(["body", "older_than_seconds"], reply.json["detail"][0]["loc"])
        for body in (b"[]", b"x", b'"x"'):
            self.assertEqual(422, self.cleanup(body).status)
