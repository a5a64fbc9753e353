"""``POST /v1/suppressions/import``: a whole list of addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mailproxy.api.imports import MAX_LINE, MAX_LINES, SLICE
from mailproxy.errors import StoreUnavailable
from mailproxy.tenancy import Suppression
from tests.api.door import Door, Reply
from tests.api.test_suppressions import LIST, SuppressionCase
from tests.fake_store import FakeStore


class FailsLater(FakeStore):
    """Its second addition finds the disk full."""

    additions = 0

    async def suppress(self, entries: Sequence[Suppression], now: float) -> int:
        self.additions += 1
        if self.additions == 2:
            raise StoreUnavailable("full")
        return await super().suppress(entries, now)


class ImportTests(SuppressionCase):
    def post(self, body: bytes, kind: str | None = None, **options: Any) -> Reply:
        headers = {} if kind is None else {"Content-Type": kind}
        return self.door.call("POST", f"{LIST}/import", body, headers=headers, **options)

    def reasons(self) -> dict[str, str]:
        entries = self.door.call("GET", LIST).json["suppressions"]
        self.assertEqual({"import"}, {each["source"] for each in entries} or {"import"})
        return {each["address"]: each["reason"] for each in entries}

    def test_csv(self) -> None:
        """Lines of CSV: an address, and a reason in quotes or not; a heading is passed over."""
        reply = self.post(
            b"\xef\xbb\xbfEmail,Reason,Other\r\n"
            b'a@EXAMPLE.org,"asked, twice",x\r\n'
            b"\r\n"
            b'"""a b""@example.org",\n'
            b"c@example.org",
            "text/csv; charset=utf-8",
        )
        self.assertEqual(
            (200, {"ok": True, "added": 3, "known": 0, "invalid": 0, "errors": []}),
            (reply.status, reply.json),
        )
        self.assertEqual(
            {"a@example.org": "asked, twice", '"a b"@example.org': "", "c@example.org": ""},
            self.reasons(),
        )

    def test_json_lines(self) -> None:
        """Lines of JSON objects, told by the type or by their look."""
        body = b'{"address":"a@example.org","reason":"x"}\n\n{"address":"b@example.org"}\r\n'
        for kind in ("application/x-ndjson", None, "application/octet-stream"):
            self.assertEqual(200, self.post(body, kind).status)
            self.assertEqual({"a@example.org": "x", "b@example.org": ""}, self.reasons())
        self.assertEqual(2, self.post(b"\xef\xbb\xbf" + body).json["known"])
        self.assertEqual(422, self.post(body, "text/csv").status)

    def test_bad_lines(self) -> None:
        """A bad line is named by its number, without what stands in it; the others are taken."""
        lines = [
            b"good@example.org",
            b"canary",
            b'a@example.org,"canary',
            b"b@example.org,\xff canary",
            b"canary" * MAX_LINE,
            b"c@example.org," + b"x" * 501,
            b"Canary <d@example.org>",
            b"\x00",
            b"last@example.org",
        ]
        reply = self.post(b"\n".join(lines))
        self.assertEqual((200, 2, 7), (reply.status, reply.json["added"], reply.json["invalid"]))
        self.assertEqual(list(range(2, 9)), [each["line"] for each in reply.json["errors"]])
        self.assertNotIn(b"anary", reply.body)
        self.assertEqual({"good@example.org", "last@example.org"}, set(self.reasons()))

    def test_bad_json_lines(self) -> None:
        """The same for JSON."""
        lines = [
            b'{"address":"good@example.org"}',
            b"{",
            b'{"address":1}',
            b'"a@b.c"',
            b"{}",
            b"[" * 3000,
            b'{"address":"\\ud800@b.c"}',
            b'{"address":"a@b.c","reason":5}',
        ]
        reply = self.post(b"\n".join(lines))
        self.assertEqual((200, 1, 7), (reply.status, reply.json["added"], reply.json["invalid"]))

    def test_nothing_good(self) -> None:
        """If no line is good, it is not such a list at all: 422."""
        reply = self.post(b"<html>\n<body>\n")
        self.assertEqual(422, reply.status)
        self.assertEqual([["body", 1], ["body", 2]], [each["loc"] for each in reply.json["detail"]])

    def test_empty(self) -> None:
        """An empty list adds nothing."""
        for body in (b"", b"\n\n", b"address,reason\n"):
            reply = self.post(body)
            self.assertEqual((200, 0), (reply.status, reply.json["added"]), body)

    def test_long(self) -> None:
        """A long list is taken in steps, each address once."""
        lines = [f"a{n % (2 * SLICE + 5)}@example.org" for n in range(3 * SLICE)]
        reply = self.post("\n".join(lines).encode())
        self.assertEqual(2 * SLICE + 5, reply.json["added"])
        self.assertEqual(0, self.post("\n".join(lines).encode()).json["added"])

    def test_too_long(self) -> None:
        """More lines than a list may have are refused before any is taken."""
        reply = self.post(b"a@example.org\n" * (MAX_LINES + 1))
        self.assertEqual(413, reply.status)
        self.assertEqual({}, self.reasons())

    def test_errors_are_few(self) -> None:
        """However many lines are bad, the first hundred are named."""
        reply = self.post(b"a@example.org\n" + b"x\n" * 1000)
        self.assertEqual((1000, 100), (reply.json["invalid"], len(reply.json["errors"])))

    def test_cannot_store(self) -> None:
        """A failure at the beginning has stored nothing; a later one says that some is there."""
        body = b"\n".join(b"a%d@example.org" % n for n in range(SLICE + 1))
        self.door.store.fail_next(StoreUnavailable("full"))
        reply = self.post(body)
        self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]))
        self.assertIn("nothing was stored", reply.json["error"])
        self.assertEqual({}, self.reasons())

    def test_cut_short(self) -> None:
        """A failure in the middle is not told as if nothing had been taken."""
        self.door = Door(store=FailsLater)
        body = b"\n".join(b"a%d@example.org" % n for n in range(SLICE + 1))
        reply = self.post(body)
        self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]))
        self.assertNotIn("nothing", reply.json["error"])
        self.assertEqual(SLICE, len(self.reasons()))

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes is taken or refused, line by line."""
        for kind in (None, "text/csv", "application/json"):
            self.assertIn(self.post(data, kind).status, (200, 422))
