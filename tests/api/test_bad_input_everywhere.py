"""What may come to any endpoint that reads JSON, by the list of endpoints itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.call import Need, Route
from mailproxy.api.doc import JSON_TYPE
from tests.api.described import judge, resolved
from tests.api.door import TOKEN, Door, Reply, request

ADD = "/commands/add-messages"

#: Answers what would become of a message, whatever that is.
EXPLAIN = "/v1/explain"

#: Stands in every bad value, and must stand in no answer.
CANARY = "canary-a11e"

#: What is no JSON object, however it tries.
NOT_OBJECTS = (
    b"{",
    b"nonsense " + CANARY.encode(),
    b"[]",
    b"null",
    b"7",
    b"true",
    b'"' + CANARY.encode() + b'"',
    b"{} {}",
    b"{'a':1}",
    b'{"a":1,}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":01}',
    b'{"a":"\n"}',
    b'{"a":"\\x41"}',
    b'"\xff"',
    b"\xef\xbb\xbf{}",
    '{"a":1}'.encode("utf-16"),
    b"\x00",
    b"\x1f\x8b\x08\x00",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"\\ud800":1',
)


class EverywhereTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()
        self.door.call("POST", "/tenant", {"id": "acme"})
        self.document = self.door.call("GET", "/openapi.json").json

    def readers(self) -> Iterator[tuple[Route, str]]:
        """Every endpoint that reads JSON, and a path to it."""
        found = 0
        for route in self.door.api.routes:
            if route.doc.takes is not None and route.doc.takes_type == JSON_TYPE:
                yield route, re.sub(r"<.*?>", "acme", route.path)
                found += 1
        self.assertGreaterEqual(found, 5)

    def assert_refused(self, reply: Reply, *statuses: int) -> None:
        """A refusal of ours, in its form, that repeats nothing."""
        self.assertIn(reply.status, statuses, reply.body)
        self.assertIs(False, reply.json["ok"])
        self.assertTrue(reply.json["error"])
        self.assertNotIn("rejected", reply.json)
        self.assertNotIn(CANARY.encode(), reply.body)

    def test_f56_not_an_object(self) -> None:
        """F56: whatever is no JSON object, or nests too deep, is refused, with what is wrong."""
        for route, path in self.readers():
            for body in NOT_OBJECTS:
                reply = self.door.call(route.method, path, body)
                if path == EXPLAIN and reply.status == 200:
                    self.assertIs(False, reply.json["accepted"])
                    self.assertNotIn(CANARY.encode(), reply.body)
                    continue
                self.assert_refused(reply, 422, 413)  # most endpoints read small bodies only
                if reply.status == 422:
                    self.assertEqual("body", reply.json["detail"][0]["loc"][0], (path, body[:40]))

    def test_f56_empty(self) -> None:
        """F56: an empty body is refused wherever there has to be one."""
        for route, path in self.readers():
            if not route.doc.bodiless:
                self.assert_refused(self.door.call(route.method, path, b""), 422)

    def test_f56_a_gigabyte(self) -> None:
        """F56: a body announced as a gigabyte is refused before it comes, by every endpoint."""
        for route in self.door.api.routes:
            path = re.sub(r"<.*?>", "acme", route.path)
            client = self.door.connect()
            client.send(request(route.method, path, headers={"Content-Length": "1000000000"}))
            (reply,) = client.replies
            self.assert_refused(reply, 413)

    def test_f56_length_and_chunks(self) -> None:
        """F56: a length and chunks together are refused by every endpoint, and the call ended."""
        headers = {"Transfer-Encoding": "chunked", "Content-Length": "5"}
        for route, path in self.readers():
            client = self.door.connect()
            client.send(request(route.method, path, headers=headers) + b"0\r\n\r\n")
            (reply,) = client.replies
            self.assert_refused(reply, 400)

    def test_f56_wrong_types(self) -> None:
        """F56: a value of the wrong type is a 422 that names the field, for every field."""
        for route, path in self.readers():
            if path in (ADD, EXPLAIN):
                continue  # messages are judged one by one
            schema = resolved(self.document, self.described(route))
            for field, kind in schema["properties"].items():
                values: list[Any] = [{CANARY: CANARY}, [[CANARY]], CANARY * 500, 1.5, -1, True]
                for value in values:
                    if judge(kind).is_valid(value):
                        continue
                    good = self.minimal(schema) | (route.doc.example or {})
                    reply = self.door.call(route.method, path, good | {field: value})
                    self.assert_refused(reply, 422)
                    places = [map(str, problem["loc"]) for problem in reply.json["detail"]]
                    named = [at for at in places if re.match(rf"body\.{field}\b", ".".join(at))]
                    self.assertNotEqual([], named, (path, value, places))

    def test_f56_unknown_fields(self) -> None:
        """F56: a field nobody knows changes nothing, wherever it comes."""
        for route, path in self.readers():
            schema = resolved(self.document, self.described(route))
            good = self.minimal(schema) | (route.doc.example or {})
            plain = self.door.call(route.method, path, good)
            self.setUp()  # what was made is not made twice
            extra = self.door.call(route.method, path, good | {"unknown": {CANARY: [CANARY]}})
            self.assertEqual(plain.status, extra.status, path)
            self.assertNotIn(CANARY.encode(), extra.body)

    def test_f56_duplicate_keys(self) -> None:
        """F56: of a key that comes twice, the last counts."""
        body = b'{"id":"a","host":"a.example","id":"b","host":"b.example"}'
        self.assertEqual(200, self.door.call("POST", "/account", body).status)
        accounts = self.door.call("GET", "/accounts").json["accounts"]
        self.assertEqual(["b.example"], [one["host"] for one in accounts if one["id"] in "ab"])

    def test_queries(self) -> None:
        """S16: no value of a query comes back in a refusal."""
        for route in self.door.api.routes:
            path = re.sub(r"<.*?>", "acme", route.path)
            for name in [param.name for param in route.doc.query] + ["tenant_id"]:
                for value in (CANARY, "%ff" + CANARY, "%00" + CANARY, "-1" + CANARY, CANARY * 99):
                    reply = self.door.call(route.method, f"{path}?{name}={value}", b"{}")
                    self.assertLess(reply.status, 500, (path, name))
                    if reply.status >= 400 and name != "id":  # the id of a rejected message
                        self.assertNotIn(CANARY.encode(), reply.body, (path, name))

    def test_s17_tokens(self) -> None:
        """S17: no endpoint takes a token that is nearly right, and none gives one back."""
        wrong = (
            None,
            "",
            TOKEN[:-1],
            TOKEN + "0",
            TOKEN.upper(),
            TOKEN + "\x7f",
            "Bearer " + TOKEN,
        )
        for route in self.door.api.routes:
            if route.needs is Need.OPEN:
                continue
            path = re.sub(r"<.*?>", "acme", route.path)
            for token in wrong:
                reply = self.door.call(route.method, path, b"{}", token)
                self.assertEqual(401, reply.status, (path, token))
                self.assertNotIn(TOKEN.encode(), reply.body)

    def described(self, route: Route) -> dict[str, Any]:
        """The schema of what an endpoint takes."""
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.path)
        operation = self.document["paths"][path][route.method.lower()]
        schema: dict[str, Any] = operation["requestBody"]["content"][JSON_TYPE]["schema"]
        return schema

    def minimal(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Something for every field that has to be there."""
        fill = {"string": "acme", "array": [], "object": {}, "integer": 1, "boolean": True}
        return {
            name: fill[schema["properties"][name].get("type", "string")]
            for name in schema.get("required", ())
        }
