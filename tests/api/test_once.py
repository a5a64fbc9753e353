"""The header field ``Idempotency-Key``."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import StoreUnavailable
from tests.api.door import Door, Reply, message, request

ADD = "/commands/add-messages"
RAW = "/v1/messages/raw?id=r1&from=a@example.com&to=b@example.org"
MAIL = b"From: a@example.com\r\n\r\nHi\r\n"
DAY = 24 * 3600.0


class IdempotencyKeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def post(self, *messages: Any, key: str = "k1", target: str = ADD, body: Any = None) -> Reply:
        value = body if body is not None else {"messages": list(messages)}
        return self.door.call("POST", target, value, headers={"Idempotency-Key": key})

    def test_replayed(self) -> None:
        """The same request again gets the first answer, byte for byte, and does nothing."""
        first = self.post(message("m1"), message("m2", to=[]))
        self.assertEqual((200, 1), (first.status, first.json["queued"]))
        self.door.store.disk.messages.clear()
        self.door.clock.advance(DAY - 1)

        again = self.post(message("m1"), message("m2", to=[]))

        self.assertEqual((200, first.body), (again.status, again.body))
        self.assertEqual(first.headers, again.headers)
        self.assertEqual({}, self.door.store.states())

    def test_all_rejected(self) -> None:
        """A request of which nothing was accepted is answered the same again, too."""
        first = self.post(message("m1", tenant_id="other"))
        self.door.add_key("other", "k" * 64)
        again = self.post(message("m1", tenant_id="other"))

        self.assertEqual((400, 400), (first.status, again.status))
        self.assertEqual(first.body, again.body)

    def test_another_body(self) -> None:
        """Another body with the key is refused, and nothing of it is stored."""
        self.post(message("m1"))
        reply = self.post(message("m2"))

        self.assertEqual((409, reply.json["error"]), (reply.status, reply.json["detail"]))
        self.assertNotIn("rejected", reply.json)
        self.assertEqual({"m1"}, set(self.door.store.states()))

    def test_another_endpoint(self) -> None:
        """The key of one endpoint is not good for another."""
        self.post(body=MAIL, target=RAW)
        self.assertEqual(409, self.post(message("m1")).status)

    def test_raw(self) -> None:
        """For a raw message the envelope in the query is part of the request."""
        first = self.post(body=MAIL, target=RAW)
        self.assertEqual((200, 1), (first.status, first.json["queued"]))
        self.assertEqual(first.body, self.post(body=MAIL, target=RAW).body)
        self.assertEqual(409, self.post(body=MAIL, target=f"{RAW}&priority=0").status)
        self.assertEqual(409, self.post(body=MAIL + b"x", target=RAW).status)

    def test_another_key(self) -> None:
        """Keys are told apart; without one every request is its own."""
        self.post(message("m1"))
        self.assertEqual({"m1"}, set(self.door.store.states()))
        for key in ("k2", "K1", "~" * 255, "!"):
            self.assertEqual(200, self.post(message(key), key=key).status)
        self.assertEqual(5, len(self.door.store.states()))

    def test_each_tenant_has_its_own(self) -> None:
        """Two tenants may use the same key."""
        self.door.add_key("other", "k" * 64)
        self.door.call("POST", "/account?tenant_id=other", {"id": "a", "host": "smtp.example.net"})
        self.post(message("m1"))
        reply = self.post(message("m2"), target=f"{ADD}?tenant_id=other")
        self.assertEqual((200, 1), (reply.status, reply.json["queued"]))

    def test_forgotten(self) -> None:
        """After a day the key is free."""
        self.post(message("m1"))
        self.door.clock.advance(DAY + 1)
        self.assertEqual(200, self.post(message("m2")).status)

    def test_bad_keys(self) -> None:
        """What is no key is a 422, and nothing is stored."""
        for key in ("", " ", "x" * 256, "a b", "a\tb", "ü"):
            reply = self.post(message("m1"), key=key)
            self.assertEqual(422, reply.status, key)
            self.assertEqual(["header", "Idempotency-Key"], reply.json["detail"][0]["loc"])
        raw = request("POST", ADD, {"messages": [message()]}, headers={"Idempotency-Key": "a"})
        client = self.door.connect()
        client.send(raw.replace(b"Idempotency-Key: a", b"Idempotency-Key: a\r\nIdempotency-Key: b"))
        self.assertEqual([422], [reply.status for reply in client.replies])
        self.assertEqual({}, self.door.store.states())

    def test_refusals_are_not_kept(self) -> None:
        """What was refused as a whole may be corrected, or tried again, under the same key."""
        self.assertEqual(422, self.post(body={"messages": 1}).status)
        self.door.store.fail_next(StoreUnavailable("full"))
        self.assertEqual(503, self.post(message("m1")).status)
        self.assertEqual(200, self.post(message("m1")).status)

    def test_at_the_same_time(self) -> None:
        """Of two equal requests that overtake each other, both get the same answer."""
        self.door.store.stall("enqueue")
        clients = [self.door.connect() for _ in range(2)]
        body = {"messages": [message("m1"), message("m2", to=[])]}
        for client in clients:
            client.send(request("POST", ADD, body, headers={"Idempotency-Key": "k1"}))
        self.door.store.resume()

        ((one,), (two,)) = [client.replies for client in clients]
        self.assertEqual((200, one.body), (two.status, two.body))
        row = self.door.store.disk.find("default", "m1")
        assert row is not None
        self.assertEqual(["accepted"], [event.kind.value for event in row.events])
