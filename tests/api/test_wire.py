"""Submissions as bytes: what is odd, and whatever else may come."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.api.messages import IntakeRules
from mailproxy.api.wire import Element
from tests.api.door import Door, message
from tests.api.judging import CANARY


class OverTheWireTests(SynchronousTestCase):
    """The same through HTTP, with good neighbours."""

    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def among_neighbours(self, raw: bytes) -> dict[str, Any]:
        """Submit *raw* between two good elements; return its rejection."""
        before, after = (msgspec.json.encode(message(id)) for id in ("before", "after"))
        body = b'{"messages":[' + b",".join((before, raw, after)) + b"]}"
        reply = self.door.call("POST", "/commands/add-messages", body)
        self.assertEqual((200, 2), (reply.status, reply.json["queued"]), reply.body)
        (rejected,) = reply.json["rejected"]
        self.assertEqual({"before": "queued", "after": "queued"}, self.door.store.states())
        assert isinstance(rejected, dict)
        return rejected

    def test_lone_surrogate(self) -> None:
        """Half a surrogate pair spoils its element only, and the reason names the field."""
        for field in ("subject", "body", "from", "message_id", "batch_code"):
            raw = json.dumps(message("bad", **{field: "x\ud800"})).encode()
            self.assertEqual(
                {"id": "bad", "reason": f"invalid {field}: a lone surrogate"},
                self.among_neighbours(raw),
            )
        raw = json.dumps(message("bad", headers={"X-\udfff": "y"})).encode()
        self.assertEqual("bad", self.among_neighbours(raw)["id"])

    def test_lone_surrogate_in_the_id(self) -> None:
        """An id that is half a surrogate pair is not usable."""
        rejected = self.among_neighbours(json.dumps(message("\ud800")).encode())
        self.assertEqual(
            {"id": None, "index": 1, "reason": "invalid id: a lone surrogate"}, rejected
        )

    def test_lone_surrogate_nobody_reads(self) -> None:
        """Half a surrogate pair in a field we do not know does not matter."""
        raw = json.dumps(message("m1", unknown="\ud800", subject="𝄞")).encode()
        reply = self.door.call("POST", "/commands/add-messages", b'{"messages":[' + raw + b"]}")
        self.assertEqual((200, 1), (reply.status, reply.json["queued"]))
        (row,) = self.door.store.disk.messages.values()
        assert row.payload is not None
        self.assertEqual("𝄞", payload.load(row.payload).subject)

    def test_odd_elements(self) -> None:
        """Elements that are no objects are rejected one by one."""
        for raw in (b"null", b"7", b'"text"', b"[]", b"true", b"1e5", b'"\\ud800"', b"9" * 5000):
            rejected = self.among_neighbours(raw)
            self.assertEqual((None, 1), (rejected["id"], rejected["index"]))
            self.assertTrue(rejected["reason"].startswith("invalid message: "), rejected)

    def test_duplicate_keys(self) -> None:
        """Of a key that comes twice, the last counts."""
        rejected = self.among_neighbours(b'{"id":"a","id":"b","from":null,"to":"a@b.example"}')
        self.assertEqual({"id": "b", "reason": "missing from"}, rejected)

    def test_id_of_a_mistyped_element(self) -> None:
        """An element with a field of the wrong type is told by its id."""
        rejected = self.among_neighbours(msgspec.json.encode(message("bad", subject=5)))
        self.assertEqual(
            {"id": "bad", "reason": "invalid subject: expected str, null, got int"}, rejected
        )


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=8).map(lambda text: text + CANARY)
    | st.just("a@b.example")
    | st.just(f"{CANARY}@b.example"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [field.encode_name for field in msgspec.structs.fields(Element)]
ELEMENTS = st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=8) | JSON_VALUES


class AnythingTests(SynchronousTestCase):
    @given(st.lists(ELEMENTS, max_size=4), JSON_VALUES, st.booleans())
    @settings(deadline=None, max_examples=120)
    def test_anything(self, elements: list[Any], default: Any, proper: bool) -> None:
        """Whatever JSON comes, the answer is one of ours, and repeats nothing but usable ids."""
        door = Door(rules=IntakeRules(max_batch=3))
        door.put_account()
        body: dict[str, Any] = {"messages": [*elements, message("good")]}
        if not proper:
            body["default_priority"] = default

        reply = door.call("POST", "/commands/add-messages", json.dumps(body).encode())

        self.assertIn(reply.status, (200, 413, 422))
        told = reply.json
        for rejected in told.get("rejected", ()):
            self.assertTrue(rejected["reason"])
            rejected.pop("id")
        self.assertNotIn(CANARY, json.dumps(told))
        if reply.status == 200:
            self.assertEqual("queued", door.store.states()["good"])
            self.assertEqual(len(elements) + 1 - len(told["rejected"]), told["queued"])

    @given(st.binary(max_size=60))
    @settings(deadline=None, max_examples=120)
    def test_any_bytes(self, raw: bytes) -> None:
        """Whatever bytes stand for an element, nobody is told 500."""
        door = Door()
        body = b'{"messages":[' + raw + b"]}"
        reply = door.call("POST", "/commands/add-messages", body)
        self.assertIn(reply.status, (200, 400, 422))
