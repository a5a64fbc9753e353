"""One element: what it becomes, and why it is refused."""

from __future__ import annotations

import base64
import hashlib
import json
from email import message_from_bytes, policy
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.api.elements import Judge
from mailproxy.api.messages import IntakeRules
from mailproxy.api.wire import Element, Rejected
from mailproxy.compose import compose
from mailproxy.model import Content, NewMessage
from tests.api.door import Door, message
from tests.fakes import EPOCH

#: Stands in every bad value, and must stand in no answer.
CANARY = "canary8f3a"


def judge(**overrides: Any) -> Judge:
    values: dict[str, Any] = {
        "tenant_id": None,
        "tenant_exists": {"default"}.__contains__,
        "now": EPOCH,
        "default_priority": 2,
        "new_id": lambda: "0" * 32,
        "helo_name": "mail.example.com",
        "max_bytes": 1_000_000,
        "max_recipients": 1000,
    }
    return Judge(**{**values, **overrides})


def accept(**fields: Any) -> NewMessage:
    return judge().judge(msgspec.json.encode(message(**fields)))


def content(**fields: Any) -> Content:
    return payload.load(accept(**fields).payload)


def reason(raw: Any, **rules: Any) -> str:
    """Why an element is rejected, whether given as bytes or as a value."""
    data = raw if isinstance(raw, bytes) else msgspec.json.encode(raw)
    try:
        judge(**rules).judge(data)
    except Rejected as rejected:
        return rejected.reason
    raise AssertionError("the element was accepted")


class AcceptedTests(SynchronousTestCase):
    def test_message(self) -> None:
        """A plain element becomes a message for the default account, from the sender's address."""
        new = accept()

        self.assertEqual(("default", "m1", None), (new.tenant_id, new.id, new.account_id))
        self.assertEqual((2, "", None), (new.priority, new.batch, new.not_before))
        self.assertEqual("sender@example.com", new.envelope_from)
        self.assertEqual(["to@example.org"], [rcpt.address for rcpt in new.recipients])
        self.assertEqual(f"<{'0' * 32}@mail.example.com>", new.message_id)
        body = content()
        self.assertEqual(("Hello", "Hello, world.\n", None), (body.subject, body.plain, body.html))

    def test_size(self) -> None:
        """The size is that of the composed message."""
        new = accept()
        composed = compose(
            payload.load(new.payload),
            mail_id=new.id,
            message_id=new.message_id or "",
            date=EPOCH,
            parts={},
        )
        self.assertEqual(len(composed), new.size)

    def test_nulls_are_absent(self) -> None:
        """A field that is null says the same as one that is not there."""
        names = [f.encode_name for f in msgspec.structs.fields(Element)]
        nulls = {name: None for name in names if name not in ("id", "from", "to")}
        one = judge().judge(
            msgspec.json.encode({**nulls, "id": "a", "from": "a@b.c", "to": "d@e.f"})
        )
        two = judge().judge(msgspec.json.encode({"id": "a", "from": "a@b.c", "to": "d@e.f"}))
        self.assertEqual(two, one)

    def test_recipients(self) -> None:
        """Recipients come as lists or separated by commas, with names that hold commas."""
        new = accept(to='"Rossi, Anna" <Anna@EXAMPLE.org>, b@example.org', cc=["c@example.org"])
        self.assertEqual(
            [("Anna@example.org", "to"), ("b@example.org", "to"), ("c@example.org", "cc")],
            [(rcpt.address, rcpt.kind.value) for rcpt in new.recipients],
        )
        self.assertEqual("Rossi, Anna", payload.load(new.payload).to[0].display)

    def test_only_bcc(self) -> None:
        """A recipient of any kind is enough."""
        for kind in ("cc", "bcc"):
            new = accept(**{"to": [], kind: "x@example.org"})
            self.assertEqual([kind], [rcpt.kind.value for rcpt in new.recipients])

    def test_one_recipient_once(self) -> None:
        """An address that stands in several places is one recipient, where it stands first."""
        new = accept(
            to=["a@example.org", "A <a@EXAMPLE.ORG>", "a@example.org"],
            cc="a@example.org, b@example.org",
            bcc=["b@Example.org", "c@bücher.example", "c@xn--bcher-kva.example"],
        )
        self.assertEqual(
            ["a@example.org", "b@example.org", "c@xn--bcher-kva.example"],
            [rcpt.address for rcpt in new.recipients],
        )
        self.assertEqual(2, len(accept(to=["a@example.org", "A@example.org"]).recipients))

    def test_texts(self) -> None:
        """The body is what content_type says; body_html and body_plain say it themselves."""
        for fields, expected in (
            ({"body": "x"}, ("x", None)),
            ({"body": "x", "content_type": "plain"}, ("x", None)),
            ({"body": "x", "content_type": "html"}, (None, "x")),
            ({"body": None}, ("", None)),
            ({"body": None, "content_type": "html"}, (None, "")),
            ({"body": None, "body_html": "h"}, (None, "h")),
            ({"body": "", "body_plain": "p"}, ("p", None)),
            ({"body": "", "body_html": "h", "body_plain": "p"}, ("p", "h")),
            ({"body": "x", "body_html": "h"}, ("x", "h")),
            ({"body": "x", "content_type": "html", "body_plain": "p"}, ("p", "x")),
        ):
            got = content(**fields)
            self.assertEqual(expected, (got.plain, got.html), fields)

    def test_headers(self) -> None:
        """Headers of the client's own are kept as text, in their order."""
        got = content(
            headers={"X-B": "text", "X-A": 5, "X-C": True, "X-D": 0.5, "List-Id": "<x.y>"}
        )
        self.assertEqual(
            (("X-B", "text"), ("X-A", "5"), ("X-C", "true"), ("X-D", "0.5"), ("List-Id", "<x.y>")),
            got.headers,
        )

    def test_headers_that_fill_fields(self) -> None:
        """Message-ID, Reply-To and Return-Path as headers fill the fields that are absent."""
        headers = {"message-id": "<a@b>", "REPLY-TO": "r@example.com", "Return-Path": "<p@b.c>"}
        new = accept(headers=headers)
        self.assertEqual(("<a@b>", "p@b.c"), (new.message_id, new.envelope_from))
        got = payload.load(new.payload)
        self.assertEqual(["r@example.com"], [m.addr for m in got.reply_to])
        self.assertEqual(((), ()), (got.headers, new.notes))
        new = accept(
            headers=headers, message_id="<c@d>", reply_to="s@example.com", return_path="q@b.c"
        )
        self.assertEqual(("<c@d>", "q@b.c"), (new.message_id, new.envelope_from))
        self.assertEqual("s@example.com", payload.load(new.payload).reply_to[0].addr)

    def test_headers_that_are_dropped(self) -> None:
        """Headers that are not the client's to set are dropped, and the timeline is told."""
        names = ["From", "TO", "Cc", "bcc", "Subject", "Date", "MIME-Version", "Content-Type"]
        names += ["Received", "DKIM-Signature", "Content-X", "X-Genro-Mail-ID"]
        new = accept(headers={**dict.fromkeys(names, "x"), "X-Kept": "y"})
        self.assertEqual((("X-Kept", "y"),), payload.load(new.payload).headers)
        self.assertEqual(tuple(f"header dropped: {name}" for name in names), new.notes)

    def test_return_path(self) -> None:
        """The envelope sender is the return path, the null sender if that is <>, else from."""
        for path, expected in (
            ("b@example.net", "b@example.net"),
            ("<b@Example.NET>", "b@example.net"),
            ("<>", ""),
            ("", "sender@example.com"),
            (" ", "sender@example.com"),
        ):
            self.assertEqual(expected, accept(return_path=path).envelope_from, path)

    def test_message_id(self) -> None:
        """A Message-ID of the client's own is kept, in the brackets it may lack."""
        for text in ("<a@b.c>", "a@b.c", " <a@b.c> "):
            self.assertEqual("<a@b.c>", accept(message_id=text).message_id)

    def test_times(self) -> None:
        """deferred_ts is in Unix seconds, past or future, also as a string of digits."""
        for ts, expected in ((0, 0.0), (1.5, 1.5), (-5, -5.0), ("1750000000", 1.75e9)):
            self.assertEqual(expected, accept(deferred_ts=ts).not_before)

    def test_ids(self) -> None:
        """An id is any text without control characters, up to 255 of them."""
        for id in ("x", "é/ü?<>\"'&%", " x ", "x" * 255, "日本"):
            self.assertEqual(id, accept(id=id).id)

    def test_batch(self) -> None:
        """A batch code is a text of up to 64 characters; empty is none."""
        for code, expected in (("c", "c"), ("é" * 64, "é" * 64), ("", ""), (None, "")):
            self.assertEqual(expected, accept(batch_code=code).batch)


class DigestTests(SynchronousTestCase):
    def digest(self, **fields: Any) -> bytes:
        return accept(**fields).digest

    def test_what_does_not_count(self) -> None:
        """Priority, time and batch are no content, nor how an address is written."""
        one = self.digest()
        same: list[dict[str, Any]] = [
            {"priority": 0},
            {"deferred_ts": 5},
            {"batch_code": "x"},
            {"to": "to@EXAMPLE.org"},
            {"to": ["to@example.org", "to@example.org"]},
            {"to": "Name <to@example.org>"},
            {"cc": [], "headers": {}, "reply_to": None},
            {"unknown": 1},
            {"id": "m2"},
            {"content_type": "plain"},
        ]
        for fields in same:
            self.assertEqual(one, self.digest(**fields), fields)

    def test_key_order(self) -> None:
        """The order of keys is no content."""
        fields = message(headers={"X-A": "1", "X-B": "2"})
        turned = {key: fields[key] for key in reversed(fields)}
        turned["headers"] = {"X-B": "2", "X-A": "1"}
        digests = {judge().judge(msgspec.json.encode(one)).digest for one in (fields, turned)}
        self.assertEqual(1, len(digests))

    def test_what_counts(self) -> None:
        """Everything else is content."""
        file = {"filename": "a.txt", "storage_path": "base64:YQ=="}
        variants: list[dict[str, Any]] = [
            {},
            {"from": "other@example.com"},
            {"from": "Other <sender@example.com>"},
            {"to": "other@example.org"},
            {"to": "TO@example.org"},
            {"to": [], "cc": "to@example.org"},
            {"to": [], "bcc": "to@example.org"},
            {"subject": "Bye"},
            {"body": "other"},
            {"content_type": "html"},
            {"body": "", "body_html": "Hello, world.\n", "body_plain": ""},
            {"reply_to": "r@example.com"},
            {"return_path": "<>"},
            {"return_path": "r@example.com"},
            {"message_id": "<a@b>"},
            {"headers": {"X-A": "1"}},
            {"headers": {"X-A": "2"}},
            {"account_id": "x"},
            {"attachments": [file]},
            {"attachments": [file, file]},
            {"attachments": [{**file, "filename": "b.txt"}]},
            {"attachments": [{**file, "mime_type": "text/x"}]},
            {"attachments": [{**file, "storage_path": "base64:Yg=="}]},
        ]
        digests = [self.digest(**fields) for fields in variants]
        self.assertEqual(len(digests), len(set(digests)))
        self.assertEqual({32}, {len(digest) for digest in digests})

    def test_stable(self) -> None:
        """The digest of an element does not change from one version of the program to the next."""
        canonical = (
            b'{"body_plain":"Hello, world.\\n","cc":["c@example.org"],'
            b'"from":["Sender","sender@example.com"],"headers":[["X-A","1"],["X-B","2"]],'
            b'"subject":"Hello","to":["to@example.org"]}'
        )
        got = self.digest(cc="C <c@Example.org>", headers={"X-B": "2", "X-A": 1})
        self.assertEqual(hashlib.sha256(canonical).digest(), got)


class RejectedTests(SynchronousTestCase):
    def test_reasons(self) -> None:
        """Each wrong field rejects its element with a reason that names the field."""
        x = CANARY
        for expected, fields in (
            ("missing id", {"id": None}),
            ("missing id", {"id": ""}),
            ("missing id", {"id": "  "}),
            ("invalid id: expected str", {"id": 5}),
            ("invalid id: expected str", {"id": [x]}),
            ("invalid id: longer than 255 characters", {"id": "x" * 256}),
            ("invalid id: a control character", {"id": f"{x}\n"}),
            ("missing from", {"from": None}),
            ("missing from", {"from": ""}),
            ("missing from", {"from": " "}),
            ("invalid from: ", {"from": x}),
            ("invalid from: ", {"from": f"{x}@a.example, b@a.example"}),
            ("invalid from: ", {"from": f"{x}@a..example"}),
            ("invalid from: ", {"from": f"{x} <a@b.example>\r\nBcc: c@d.example"}),
            ("missing to", {"to": None}),
            ("missing to", {"to": []}),
            ("missing to", {"to": ""}),
            ("missing to", {"to": " , ,"}),
            ("invalid to: ", {"to": x}),
            ("invalid to: ", {"to": ["a@b.example", x]}),
            ("invalid to: ", {"to": ["a@b.example", ""]}),
            ("invalid to: ", {"to": [f"{x}@a.example, b@a.example"]}),
            ("invalid to: ", {"to": f"group: {x}@a.example;"}),
            ("invalid to: ", {"to": f'"{x}@a.example'}),
            ("invalid to: ", {"to": f"{'x' * 300}@a.example"}),
            ("invalid to: ", {"to": "(" * 10_000}),
            ("invalid cc: ", {"cc": x}),
            ("invalid bcc: ", {"bcc": [x]}),
            ("invalid reply_to: ", {"reply_to": x}),
            ("invalid return_path: ", {"return_path": x}),
            ("invalid return_path: ", {"return_path": f"{x} <a@b.example>"}),
            ("invalid return_path: ", {"return_path": "a@b.example> SIZE=1"}),
            ("invalid message_id: ", {"message_id": f"<{x}>\r\nX: y"}),
            ("invalid message_id: ", {"message_id": f"{x} {x}"}),
            ("invalid message_id: ", {"message_id": f"<{x}><{x}>"}),
            ("invalid subject: ", {"subject": f"{x}\r\nBcc: a@b.example"}),
            ("invalid subject: ", {"subject": f"{x}\x00"}),
            ("invalid content_type: ", {"content_type": x}),
            ("invalid content_type: ", {"content_type": f"html; {x}"}),
            ("invalid headers: ", {"headers": {f"{x}:": "y"}}),
            ("invalid headers: ", {"headers": {"": x}}),
            ("invalid headers: ", {"headers": {f"X {x}": "y"}}),
            ("invalid headers: ", {"headers": {f"X-A\r\n{x}": "y"}}),
            ("invalid headers: ", {"headers": {"X-A": f"{x}\r\nBcc: a@b.example"}}),
            ("invalid headers: ", {"headers": {"X-A": f"{x}\n"}}),
            ("invalid headers: ", {"headers": {"X-A": f"{x}\x00"}}),
            ("invalid headers: ", {"headers": {"Date": f"{x}\r\n"}}),
            ("invalid headers: ", {"headers": {"Content-\r\nX": x}}),
            ("invalid headers: ", {"headers": {"X-A": None}}),
            ("invalid headers: ", {"headers": {"X-A": [x]}}),
            ("invalid headers: ", {"headers": {f"X-{n}": x for n in range(201)}}),
            ("invalid reply_to: ", {"headers": {"Reply-To": x}}),
            ("invalid return_path: ", {"headers": {"Return-Path": x}}),
            ("invalid message_id: ", {"headers": {"Message-ID": f"{x} {x}"}}),
            ("invalid priority: ", {"priority": x}),
            ("invalid deferred_ts: ", {"deferred_ts": x}),
            ("invalid deferred_ts: ", {"deferred_ts": 1e300}),
            ("invalid deferred_ts: ", {"deferred_ts": 1_750_000_000_000}),
            ("invalid deferred_ts: ", {"deferred_ts": "9" * 20}),
            ("invalid batch_code: ", {"batch_code": "x" * 65}),
            ("invalid batch_code: ", {"batch_code": f"{x}\r"}),
            ("invalid batch_code: ", {"batch_code": "*"}),
            ("tenant not found", {"tenant_id": x}),
        ):
            got = reason(message(**{"id": "m1", **fields}))
            self.assertTrue(got.startswith(expected), (expected, got))
            self.assertNotIn(CANARY, got)

    def test_wrong_types(self) -> None:
        """A value of the wrong type rejects its element, whatever the field."""
        for field in msgspec.structs.fields(Element):
            name = field.encode_name
            for value in ({"a": [CANARY]}, [[CANARY]], True, [1], [None], [True]):
                if name == "headers" and isinstance(value, dict):
                    continue
                if name in ("deferred_ts", "id") and value is True:
                    continue
                got = reason(message(**{"id": "m1", name: value}))
                self.assertTrue(got.startswith(f"invalid {name}"), (name, value, got))
                self.assertNotIn(CANARY, got)

    def test_control_characters(self) -> None:
        """No control character gets through in any field but the text of the body."""
        file = {"filename": "a", "storage_path": "base64:YQ=="}
        for code in (*range(0x20), 0x7F):
            spoilt = f"a{chr(code)}b"
            for name, value in (
                ("id", spoilt),
                ("from", f"{spoilt} <a@b.example>"),
                ("from", f"{spoilt}@b.example"),
                ("to", [f"a@{spoilt}.example"]),
                ("cc", f"{spoilt} <a@b.example>, c@d.example"),
                ("bcc", f"<{spoilt}@b.example>"),
                ("reply_to", f"{spoilt} <a@b.example>"),
                ("return_path", f"{spoilt}@b.example"),
                ("message_id", f"<{spoilt}@b.example>"),
                ("batch_code", spoilt),
                ("headers", {spoilt: "x"}),
                ("subject", spoilt),
                ("headers", {"X-A": spoilt}),
                ("attachments", [{**file, "filename": spoilt}]),
                ("attachments", [{**file, "mime_type": spoilt}]),
                ("attachments", [{**file, "mime_type": f"text/{spoilt}"}]),
            ):
                if code == 9 and (name == "subject" or value == {"X-A": spoilt}):
                    continue  # a tab is white space
                got = reason(message(**{"id": "m1", name: value}))
                self.assertTrue(got.startswith(f"invalid {name}"), (name, code, got))

    def test_too_many_recipients(self) -> None:
        """The limit of recipients counts all kinds together, each address once."""
        fields = {"to": ["a@b.example"] * 5, "cc": ["c@d.example"], "bcc": ["e@f.example"]}
        raw = msgspec.json.encode(message(**fields))
        self.assertEqual(3, len(judge(max_recipients=3).judge(raw).recipients))
        self.assertEqual("invalid bcc: more than 2 recipients", reason(raw, max_recipients=2))

    def test_too_large(self) -> None:
        """A message larger than the limit once composed is rejected."""
        raw = message(body="x" * 5000)
        self.assertEqual("invalid message: larger than 4000 bytes", reason(raw, max_bytes=4000))

    def test_unreadable(self) -> None:
        """Text that is not UTF-8, or nested beyond reading, rejects its element by the field."""
        for raw, expected in (
            (b'{"id":"a","from":"\xff"}', "invalid from: not UTF-8 text"),
            (b'{"id":"\xff","from":"a@b"}', "invalid id: not UTF-8 text"),
            (b'{"id":"a","headers":{"\xff":"x"}}', "invalid headers: not UTF-8 text"),
            (b'{"id":"a","x":"\\ud800"}', "invalid message: not readable"),
            (b'{"id":' + b"[" * 900 + b"]" * 900 + b"}", "invalid id: "),
        ):
            self.assertTrue(reason(raw).startswith(expected), (raw[:30], reason(raw)))


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


class AttachmentTests(SynchronousTestCase):
    def file(self, data: bytes = b"content", /, **fields: Any) -> dict[str, Any]:
        encoded = base64.b64encode(data).decode()
        return {"filename": "a.txt", "storage_path": f"base64:{encoded}", **fields}

    def test_decoded(self) -> None:
        """An inline attachment is stored decoded, apart from the text, with its digest."""
        new = accept(attachments=[self.file(b"\x00\xff"), self.file(b"", filename="b.pdf")])
        self.assertEqual((b"\x00\xff", b""), new.parts)
        one, two = payload.load(new.payload).attachments
        self.assertEqual(
            (1, 2, hashlib.sha256(b"\x00\xff").hexdigest()), (one.part, one.size, one.sha256)
        )
        self.assertEqual((2, 0, "application/pdf"), (two.part, two.size, two.mime_type))
        self.assertNotIn(b"base64:", new.payload)

    def test_composed(self) -> None:
        """What is composed of it holds the attachment."""
        new = accept(attachments=[self.file(b"caf\xe9", filename="ünï.bin")])
        data = compose(
            payload.load(new.payload),
            mail_id=new.id,
            message_id=new.message_id or "",
            date=EPOCH,
            parts={1: new.parts[0]},
        )
        parsed = message_from_bytes(data, policy=policy.default)
        (attached,) = parsed.iter_attachments()
        self.assertEqual(("ünï.bin", b"caf\xe9"), (attached.get_filename(), attached.get_content()))

    def test_forms_of_base64(self) -> None:
        """The mode may say what the prefix does not; line breaks in base64 do no harm."""
        for fields in (
            {"storage_path": "base64:Y2Fm\r\n 6Q=="},
            {"storage_path": "Y2Fm6Q==", "fetch_mode": "base64"},
            {"storage_path": "base64:Y2Fm6Q==", "fetch_mode": "base64", "auth": {"method": "none"}},
            {"storage_path": "base64:Y2Fm6Q==", "fetch_mode": None, "auth": None},
        ):
            self.assertEqual((b"caf\xe9",), accept(attachments=[self.file(**fields)]).parts)

    def test_type(self) -> None:
        """The type is the client's, else what the name says, the same on every machine."""
        for fields, expected in (
            ({"filename": "a.txt"}, "text/plain"),
            ({"filename": "a.unheard-of"}, "application/octet-stream"),
            ({"filename": "a"}, "application/octet-stream"),
            ({"filename": "a.txt", "mime_type": "image/png"}, "image/png"),
        ):
            got = content(attachments=[self.file(**fields)])
            self.assertEqual(expected, got.attachments[0].mime_type)

    def test_digest_marker(self) -> None:
        """The digest in a file name leaves it, and like content_md5 is verified."""
        md5 = hashlib.md5(b"content").hexdigest()
        for name in (f"report_{{MD5:{md5}}}.pdf", f"report{{MD5:{md5.upper()}}}.pdf"):
            got = content(attachments=[self.file(filename=name)])
            self.assertEqual(
                ("report.pdf", md5), (got.attachments[0].filename, got.attachments[0].content_md5)
            )
        wrong = "0" * 32
        right_wins = self.file(filename=f"a_{{MD5:{wrong}}}.b", content_md5=md5)
        self.assertEqual("a.b", content(attachments=[right_wins]).attachments[0].filename)

    def test_rejected(self) -> None:
        """What is wrong with an attachment rejects the message, and says which and why."""
        wrong = "0" * 32
        for expected, fields in (
            (".storage_path: not base64", {"storage_path": f"base64:{CANARY}"}),
            (".storage_path: not base64", {"storage_path": "base64:YQ"}),
            (".storage_path: not base64", {"storage_path": "base64:YQ==YQ=="}),
            (".storage_path: not base64", {"storage_path": "base64:é==="}),
            (".content_md5: does not match", {"content_md5": wrong}),
            (".content_md5: does not match", {"filename": f"a_{{MD5:{wrong}}}.b"}),
            (".content_md5: expected 32 hex", {"content_md5": CANARY}),
            (".filename: expected 1 to 255", {"filename": ""}),
            (".filename: expected 1 to 255", {"filename": "x" * 256}),
            (".filename: a control character", {"filename": f"{CANARY}\r\n"}),
            (": an unknown key", {CANARY: 1}),
            (".filename: expected str, got int", {"filename": 5}),
            (".auth: expected object, null, got str", {"auth": CANARY}),
            (".fetch_mode: expected one of", {"fetch_mode": CANARY}),
            (".fetch_mode: http_url attachments", {"storage_path": f"https://{CANARY}/"}),
            (".fetch_mode: http_url attachments", {"fetch_mode": "http_url"}),
            (".fetch_mode: filesystem attachments", {"storage_path": f"/{CANARY}"}),
            (".fetch_mode: endpoint attachments", {"storage_path": CANARY}),
        ):
            got = reason(message(attachments=[self.file(), self.file(**fields)]))
            self.assertTrue(got.startswith(f"invalid attachments[1]{expected}"), got)
            self.assertNotIn(CANARY, got)
        got = reason(message(attachments=[{"filename": "a"}]))
        self.assertEqual("invalid attachments[0].storage_path: required", got)
        got = reason(message(attachments=[self.file(mime_type=f"{CANARY}\r\n")]))
        self.assertTrue(got.startswith("invalid attachments: "), got)
        self.assertNotIn(CANARY, got)
