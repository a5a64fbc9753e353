"""``GET /v1/messages/{id}``: one message, and how it goes on the wire."""

from __future__ import annotations

from base64 import b64decode
from typing import Any
from urllib.parse import quote

from mailproxy.compose import compose
from mailproxy.payload import load
from tests import build
from tests.api.door import TOKEN, Reply, message
from tests.api.test_removal import OTHER, RemovalCase
from tests.fakes import result

PDF = {"filename": "a.pdf", "storage_path": "base64:JVBERi0="}


class OneMessageTests(RemovalCase):
    def show(self, id: str = "m1", query: str = "", token: str = TOKEN) -> Reply:
        return self.door.call("GET", f"/v1/messages/{quote(id, safe='')}{query}", token=token)

    def with_body(self, id: str = "m1") -> Any:
        reply = self.show(id, "?body=true")
        self.assertEqual((200, True), (reply.status, reply.json["ok"]))
        return reply.json

    def wire(self) -> bytes:
        """What an attempt would send."""
        (claimed,) = self.claim()
        stored = result(self.door.store.contents([claimed.pk]))[claimed.pk]
        return compose(
            stored.content,
            mail_id=claimed.id,
            message_id=claimed.message_id,
            date=claimed.accepted_at,
            parts=stored.parts,
        )

    def test_record(self) -> None:
        """The record is that of the list, with the events."""
        self.door.add(message("m1"))
        self.send(*self.claim())
        answer = self.show().json
        (listed,) = self.door.call("GET", "/messages?include_history=true").json["messages"]
        self.assertEqual({"ok": True, "message": listed, "mime": None, "mime_reason": None}, answer)
        self.assertEqual("accepted", answer["message"]["history"][0]["kind"])

    def test_mime(self) -> None:
        """With its body it is shown byte for byte as it goes on the wire."""
        self.door.clock.advance(1000)
        self.door.add(message("m1", subject="è", attachments=[PDF], headers={"X-A": "b"}))
        answer = self.with_body()
        self.assertIsNone(answer["mime_reason"])
        self.assertEqual(self.wire(), b64decode(answer["mime"]))

    def test_raw(self) -> None:
        """So is a message that came as bytes."""
        body = b"From: a@example.com\r\n\r\n\xff\r\n"
        self.door.call("POST", "/v1/messages/raw?id=m1&from=a@b.c&to=d@e.f", body)
        mime = b64decode(self.with_body()["mime"])
        self.assertEqual(self.wire(), mime)
        self.assertTrue(mime.endswith(body))

    def test_gone(self) -> None:
        """Once it was sent, its text is no longer there."""
        self.door.add(message("m1"))
        self.send(*self.claim())
        answer = self.with_body()
        self.assertEqual((None, "the text is no longer stored"), _mime(answer))

    def test_failed(self) -> None:
        """Of a message that failed the text stays."""
        self.door.add(message("m1"))
        (claimed,) = self.claim()
        self.begin(claimed)
        record = build.record(claimed, build.refused(), at=self.door.clock.now())
        result(self.door.store.record([record]))
        self.assertIsNotNone(self.with_body()["mime"])

    def test_not_fetched(self) -> None:
        """While attachments are to be fetched, there is no whole message yet."""
        self.door.add(
            message("m1", attachments=[PDF, {"filename": "b.pdf", "storage_path": "b/1"}])
        )
        self.assertEqual((None, "attachments are not fetched yet"), _mime(self.with_body()))

    def test_damaged(self) -> None:
        """A damaged message is shown as far as it goes."""
        self.door.add(message("m1"))
        row = self.door.store.disk.find("default", "m1")
        assert row is not None
        assert row.payload is not None
        load(row.payload)
        row.payload = b"{"
        self.assertEqual((None, "what is stored of it is damaged"), _mime(self.with_body()))

    def test_ids(self) -> None:
        """An id may hold what an id may hold; one that nobody has is a 404."""
        for id in ("raw", "a/b", "50%", "a b", "è", "?x=1", "..", "a//"):
            self.door.add(message(id))
            reply = self.show(id)
            self.assertEqual((200, id), (reply.status, reply.json["message"]["id"]), id)
        reply = self.show("nobody")
        self.assertEqual((404, "message not found"), (reply.status, reply.json["detail"]))

    def test_tenants(self) -> None:
        """A tenant sees its own messages only; the admin whose it names, else anybody's."""
        self.other_tenant()
        self.door.add(message("mine"))
        self.assertEqual("other", self.show("m1", token=OTHER).json["message"]["tenant_id"])
        self.assertEqual("other", self.show("m1").json["message"]["tenant_id"])
        self.assertEqual(404, self.show("mine", token=OTHER).status)
        self.assertEqual(404, self.show("m1", "?tenant_id=default").status)
        self.assertEqual(401, self.show("m1", "?tenant_id=default", token=OTHER).status)
        self.assertEqual(400, self.show("m1", "?tenant_id=nobody").status)


def _mime(answer: Any) -> tuple[Any, Any]:
    return answer["mime"], answer["mime_reason"]
