"""One element: what it becomes, and why it is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.api.wire import Element
from mailproxy.compose import compose
from mailproxy.composed import Composed
from mailproxy.dsn import Dsn
from tests.api.door import message
from tests.api.judging import CANARY, accept, content, judge, reason
from tests.fakes import EPOCH


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

    def test_notifications(self) -> None:
        """What is asked to be notified of is read in any case, and empty is nothing."""
        for said, expected in (
            ({"notify": "Never"}, Dsn(("NEVER",))),
            ({"notify": "success, delay"}, Dsn(("SUCCESS", "DELAY"))),
            (
                {"notify": ["failure", "failure"], "ret": "HDRS", "envid": "a+b=c"},
                Dsn(("FAILURE",), "HDRS", "a+b=c"),
            ),
            ({}, None),
            ({"notify": [], "ret": None, "envid": ""}, None),
            (None, None),
        ):
            self.assertEqual(expected, payload.load(accept(dsn=said).payload).dsn, said)

    def test_message_id(self) -> None:
        """A Message-ID of the client's own is kept, in the brackets it may lack."""
        for text in ("<a@b.c>", "a@b.c", " <a@b.c> "):
            self.assertEqual("<a@b.c>", accept(message_id=text).message_id)

    def test_tests(self) -> None:
        """A test says so; it and the same mail in earnest are not taken for each other."""
        earnest, absent, test = accept(test=False), accept(), accept(test=True)
        self.assertEqual((False, False, True), (earnest.test, absent.test, test.test))
        self.assertEqual(earnest.digest, absent.digest)
        self.assertNotEqual(earnest.digest, test.digest)
        raw = msgspec.json.encode(message(test=False))
        self.assertEqual(test, judge(test=True).judge(raw))

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
            {"dsn": {"notify": "never"}},
            {"dsn": {"notify": "failure"}},
            {"dsn": {"ret": "full"}},
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
            ("invalid dsn: ", {"dsn": x}),
            ("invalid dsn.notify: ", {"dsn": {"notify": x}}),
            ("invalid dsn.notify: ", {"dsn": {"notify": "never,success"}}),
            ("invalid dsn.notify: ", {"dsn": {"notify": 5}}),
            ("invalid dsn.ret: ", {"dsn": {"ret": x}}),
            ("invalid dsn.envid: ", {"dsn": {"envid": f"{x}\r\n"}}),
            ("invalid dsn.envid: ", {"dsn": {"envid": f"{x} x"}}),
            ("invalid dsn.envid: ", {"dsn": {"envid": "+" * 34}}),
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
                if name in ("headers", "dsn") and isinstance(value, dict):
                    continue
                if name in ("deferred_ts", "id", "test") and value is True:
                    continue
                got = reason(message(**{"id": "m1", name: value}))
                self.assertTrue(got.startswith(f"invalid {name}"), (name, value, got))
                self.assertNotIn(CANARY, got)

    def test_test(self) -> None:
        """Only true makes a test of an element, unless all of it is one."""
        for value in ("true", 1, 0, "x"):
            got = reason(message(test=value))
            self.assertTrue(got.startswith("invalid test: expected bool"), got)

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


class ComposedTests(SynchronousTestCase):
    """What was composed to see that it can be, is kept for the sending."""

    def test_as_it_will_be_sent(self) -> None:
        """What is kept is found by what is stored, and is what composing that gives."""
        composed = Composed()
        taken = judge(composed=composed).judge(msgspec.json.encode(message()))
        assert taken.message_id is not None

        body = composed.take(taken.payload, taken.id, taken.message_id, EPOCH)

        self.assertEqual(
            compose(
                payload.load(taken.payload),
                mail_id=taken.id,
                message_id=taken.message_id,
                date=EPOCH,
                parts={},
            ),
            body,
        )

    def test_not_with_attachments(self) -> None:
        """A message whose parts are apart from its content is not kept."""
        composed = Composed()
        attachment = {"filename": "a.txt", "storage_path": "YQ==", "fetch_mode": "base64"}
        taken = judge(composed=composed).judge(
            msgspec.json.encode(message(attachments=[attachment]))
        )
        assert taken.message_id is not None

        self.assertIsNone(composed.take(taken.payload, taken.id, taken.message_id, EPOCH))
