"""``/v1/messages/{id}/hold`` and its like."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import StoreUnavailable
from mailproxy.model import Claimed
from mailproxy.states import EventKind
from tests.api.door import Door, Reply, message
from tests.build import record, unknown
from tests.fakes import result


class MessageActTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()
        self.door.add(message())

    def act(self, act: str, body: Any = None, id: str = "m1", **options: Any) -> Reply:
        return self.door.call("POST", f"/v1/messages/{id}/{act}", body, **options)

    def begun(self) -> Claimed:
        (account,) = result(self.door.store.accounts("default"))
        now = self.door.clock.now()
        (claimed,) = result(self.door.store.claim(account.pk, 1, now))
        leases = [(claimed.pk, claimed.token)]
        self.assertEqual([True], result(self.door.store.begin(leases, account.id, now)))
        return claimed

    def test_held(self) -> None:
        """A hold is answered with what it changed; repeated, with why it changed nothing."""
        reply = self.act("hold", {"reason": "wrong text"})
        self.assertEqual(
            {
                "ok": True,
                "tenant_id": "default",
                "id": "m1",
                "act": "hold",
                "changed": True,
                "begun": False,
                "state": "held",
                "reason": "",
            },
            reply.json,
        )
        again = self.act("hold").json
        self.assertEqual((False, "it is held already"), (again["changed"], again["reason"]))

    def test_begun(self) -> None:
        """An act on a message whose body has begun says so."""
        self.begun()
        reply = self.act("cancel").json
        self.assertEqual((True, "in_flight"), (reply["begun"], reply["state"]))

    def test_who_and_why(self) -> None:
        """The timeline and the command log say who did it."""
        self.act("hold", {"reason": "wrong text"})
        shown = self.door.call("GET", "/v1/messages/m1").json["message"]["history"][-1]
        said = {"act": "hold", "by": "admin", "reason": "wrong text"}
        self.assertEqual(said, {name: shown["data"][name] for name in said})
        (line,) = self.door.call("GET", "/command-log?limit=1").json["commands"]
        self.assertEqual("POST /v1/messages/{id}/hold", line["command"])
        self.assertEqual({"id": "m1", "reason": "given"}, line["detail"])

    def test_close(self) -> None:
        """An uncertain message is closed as what it turned out to be."""
        claimed = self.begun()
        item = record(claimed, unknown(), at=self.door.clock.now(), kind=EventKind.UNCERTAIN)
        result(self.door.store.record([item]))
        reply = self.act("close", {"end": "sent"}).json
        self.assertEqual(("close-as-sent", True, "sent"), tuple(map(reply.get, CLOSED)))
        reply = self.act("close", {"end": "failed"}).json
        self.assertEqual(("close-as-failed", False, "sent"), tuple(map(reply.get, CLOSED)))

    def test_close_as_what(self) -> None:
        """A message is closed as something."""
        wrong: list[Any] = [None, {}, {"end": "gone"}, {"end": None}, []]
        for body in wrong:
            self.assertEqual(422, self.act("close", body).status, body)

    def test_reasons(self) -> None:
        """A reason is a short text, or left out; what else is sent is passed over."""
        wrong: list[Any] = [{"reason": "x" * 201}, {"reason": 7}, [], "hold", b"{"]
        for body in wrong:
            self.assertEqual(422, self.act("hold", body).status, body)
        right: list[Any] = [None, {}, {"reason": None}, {"reason": "x" * 200, "other": 1}]
        for body in right:
            self.assertEqual(200, self.act("hold", body).status, body)

    def test_ids(self) -> None:
        """Every id a message can have can be acted on."""
        for id, path in (("a/b", "a/b"), ("a b", "a%20b"), ("hold", "hold"), ("ü", "%C3%BC")):
            self.door.add(message(id))
            reply = self.act("hold", id=path)
            self.assertEqual((200, id), (reply.status, reply.json["id"]))

    def test_not_found(self) -> None:
        """What is not there is not found, and another tenant's is not there."""
        self.door.add_key("acme", "k" * 64)
        for reply in (self.act("hold", id="m2"), self.act("hold", token="k" * 64)):
            self.assertEqual((404, "message not found"), (reply.status, reply.json["error"]))
        self.assertEqual({"m1": "queued"}, self.door.store.states())

    def test_cannot_be_stored(self) -> None:
        """Where nothing can be stored nothing is done, and that is said."""
        self.door.store.fail_next(StoreUnavailable("gone"), "act")
        self.assertEqual(503, self.act("hold").status)
        self.assertEqual({"m1": "queued"}, self.door.store.states())


CLOSED = ("act", "changed", "state")
