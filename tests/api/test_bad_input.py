"""What an element may hold that it should not: told by its field, its neighbours unharmed."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import build
from tests.api.door import Door, Reply, message
from tests.fakes import result

ADD = "/commands/add-messages"

#: Stands in every bad value, and must stand in no answer.
CANARY = "canary-6d1f"

FILE = {"filename": "a.txt", "storage_path": "base64:YQ=="}


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def among_neighbours(self, raw: bytes) -> str:
        """Submit *raw* between two good elements; why it was rejected."""
        before, after = (json.dumps(message(id)).encode() for id in ("before", "after"))
        body = b'{"messages":[' + b",".join((before, raw, after)) + b"]}"
        reply = self.door.call("POST", ADD, body)
        self.assertEqual((200, 2), (reply.status, reply.json["queued"]), (raw[:200], reply.body))
        (rejected,) = reply.json["rejected"]
        stored = self.door.store.states()
        self.assertEqual({"before": "queued", "after": "queued"}, stored, raw[:200])
        self.assertNotIn(CANARY.encode(), reply.body)
        reason: str = rejected["reason"]
        return reason

    def refused(self, field: str, **fields: Any) -> None:
        """An element with *fields* is rejected, and the reason names *field*."""
        reason = self.among_neighbours(json.dumps({**message("bad"), **fields}).encode())
        self.assertRegex(reason, rf"^invalid {field}(\[\d+\])?(\.\w+)?: ", fields)

    def taken(self, **fields: Any) -> dict[str, Any]:
        """An element with *fields* is stored; as it is then listed."""
        door = Door()
        door.put_account()
        reply = door.add(message("good", **fields))
        self.assertEqual((200, []), (reply.status, reply.json.get("rejected")), fields)
        (listed,) = door.call("GET", "/messages").json["messages"]
        assert isinstance(listed, dict)
        return listed

    def recipients(self, **fields: Any) -> list[str]:
        """The envelope that comes of *fields*."""
        return [each["address"] for each in self.taken(**fields)["recipients"]]


class ControlTests(Case):
    def test_f57_line_breaks(self) -> None:
        """F57: CR, LF or NUL in any text field rejects that element and names the field."""
        for bad in ("\r\n", "\r", "\n", "\x00"):
            spoilt = f"{CANARY}{bad}X: y"
            for field, value in (
                ("id", spoilt),
                ("from", f"{spoilt} <a@b.example>"),
                ("from", f"a@b.example{bad}"),
                ("to", [f"{spoilt} <a@b.example>"]),
                ("to", f"<a@b.example>{bad}RCPT TO:<c@d.example>"),
                ("cc", f"a@{spoilt}.example"),
                ("bcc", [f"{spoilt}@b.example"]),
                ("subject", f"{CANARY}{bad}Bcc: a@b.example"),
                ("reply_to", f"{spoilt} <a@b.example>"),
                ("return_path", f"a@b.example>{bad}DATA"),
                ("message_id", f"<{spoilt}@b.example>"),
                ("batch_code", spoilt),
                ("headers", {"X-A": f"{CANARY}{bad}Bcc: a@b.example"}),
                ("headers", {f"X-A: b{bad}X-B": CANARY}),
                ("attachments", [{**FILE, "filename": f"{spoilt}.txt"}]),
                ("attachments", [{**FILE, "mime_type": f"text/plain{bad}X-{CANARY}: y"}]),
                ("attachments", [{**FILE, "mime_type": f'text/plain; name="{spoilt}"'}]),
            ):
                self.refused(field, **{field: value})

    def test_text_may_have_lines(self) -> None:
        """F57: the text of a body is text: line breaks of every kind are its own."""
        for bad in ("\r\n", "\r", "\n"):
            listed = self.taken(body=f"one{bad}two", body_html=f"<p>{bad}</p>")
            self.assertEqual("queued", listed["state"])


class AddressTests(Case):
    def test_f58_taken(self) -> None:
        """F58, S10: the envelope is what one strict parser makes of an address; it is shown."""
        for value, envelope in (
            ('"a@evil.example"@b.example', ['"a@evil.example"@b.example']),
            ('"a@evil.example b"@b.example', ['"a@evil.example b"@b.example']),
            ('"a@evil.example" <a@b.example>', ["a@b.example"]),
            ('"Doe, John" <a@b.example>, c@d.example', ["a@b.example", "c@d.example"]),
            ("(a@evil.example) a@b.example", ["a@b.example"]),
            ("a@b.example (c@evil.example)", ["a@b.example"]),
            ("a@bücher.example", ["a@xn--bcher-kva.example"]),
            ("A@B.Example, A@b.example, a@b.example", ["A@b.example", "a@b.example"]),
            (["a@b.example", "Ann <a@b.example>"], ["a@b.example"]),
            ("a@b.example,, ,c@d.example,", ["a@b.example", "c@d.example"]),
        ):
            self.assertEqual(envelope, self.recipients(to=value), value)

    def test_f58_duplicates_over_fields(self) -> None:
        """F58: an address in several fields is one recipient."""
        fields = {"to": ["a@b.example"], "cc": "a@B.EXAMPLE", "bcc": ["c@d.example", "a@b.example"]}
        self.assertEqual(["a@b.example", "c@d.example"], self.recipients(**fields))

    def test_f58_refused(self) -> None:
        """F58, S10: what the parser does not take rejects its element; nothing is guessed."""
        for value in (
            CANARY,
            f"{CANARY}@",
            f"@{CANARY}.example",
            f"a@{CANARY}@b.example",
            f"{CANARY}@evil.example <a@b.example>",
            f"<a@b.example> <{CANARY}@evil.example>",
            f"a@b.example>, <{CANARY}@evil.example",
            f"a@b.example) {CANARY}@evil.example",
            f"a@b.example;{CANARY}@evil.example",
            f"group: {CANARY}@b.example;",
            "a: b: c: d: e@f.example;;;;" + CANARY,
            f"{CANARY}(comment)@b.example",
            f"<@evil.example:{CANARY}@b.example>",
            f'"{CANARY}@b.example',
            f"{CANARY}@b.example.",
            f"{CANARY}@b..example",
            f"{CANARY}@-b.example",
            f"{CANARY}@b_c.example",
            f"{CANARY}@[300.1.1.1]",
            f"{CANARY}.@b.example",
            f"{CANARY}\u202e@b.example",
            f"{CANARY}@b.example\u2028",
            "x" * 300 + f"{CANARY}@b.example",
            CANARY + "@" + "b." * 200 + "example",
            "(" * 50_000 + CANARY,
            "<" * 50_000 + CANARY,
            '"' * 50_001 + CANARY,
        ):
            for field in ("to", "cc", "bcc"):
                self.refused(field, **{field: [value]})
            self.refused("from", **{"from": value})
            self.refused("to", to=value)

    def test_f58_empty(self) -> None:
        """F58: no recipient at all is told as that, an empty one among others as wrong."""
        nobody: list[Any] = [None, [], "", " , ,"]
        for value in nobody:
            raw = json.dumps(message("bad", to=value)).encode()
            self.assertEqual("missing to", self.among_neighbours(raw))
        self.refused("to", to=["a@b.example", ""])

    def test_s10_one_object(self) -> None:
        """S10: the address that is judged is the one that is sent to, in header and envelope."""
        listed = self.taken(to='"evil@evil.example" <a@b.example>')
        self.assertEqual(["a@b.example"], [each["address"] for each in listed["recipients"]])
        self.assertEqual(['"evil@evil.example" <a@b.example>'], listed["message"]["to"])


class HeaderTests(Case):
    def test_s8_names(self) -> None:
        """S8: the name of a header is a token of RFC 5322, or its element is rejected."""
        for name in ("", " ", "X A", "X-A:", "X\tA", "Xé", "X-A\r\nBcc", "X\x00", ":", "X" * 1000):
            self.refused("headers", headers={name: CANARY})

    def test_s8_values(self) -> None:
        """S8: the value of a header has no line break and no NUL, or its element is rejected."""
        for bad in ("\r\n ", "\n\t", "\r", "\x00", "\x0b", "\x1b", "\x7f"):
            self.refused("headers", headers={"X-A": f"{CANARY}{bad}b"})
            for reserved in ("Date", "Received", "DKIM-Signature", "Content-Type", "MIME-Version"):
                self.refused("headers", headers={reserved: f"{CANARY}{bad}b"})

    def test_s8_not_the_clients(self) -> None:
        """S8: what only we or a mail server may write is passed over, and noted."""
        for name in ("From", "to", "CC", "Bcc", "Subject", "Date", "MIME-Version", "Received",
                     "Content-Type", "content-transfer-encoding", "DKIM-Signature"):  # fmt: skip
            listed = self.taken(headers={name: CANARY, "X-Mine": "1"})
            self.assertEqual({"X-Mine": "1"}, listed["message"]["headers"], name)

    def test_s8_mime_types(self) -> None:
        """S8: the media type of an attachment is two tokens, or its element is rejected."""
        for kind in ("text", "text/", "/plain", "text /plain", "text/plain; a=b\r\n",
                     "text/plä", "text/plain\x00", "a/b/c", "text/" + "x" * 500):  # fmt: skip
            self.refused("attachments", attachments=[{**FILE, "mime_type": kind}])

    def test_s8_file_names(self) -> None:
        """S8: a file's name is text without control characters, of at most 255 characters."""
        for name in ("", f"{CANARY}\r\nX: y", f"{CANARY}\x00.txt", "\x1b[31m", "x" * 256):
            self.refused("attachments", attachments=[{**FILE, "filename": name}])
        for name in (
            '"; filename="evil',
            "../../etc/passwd",
            "ö\u202e.txt",
            "a;b=c",
            "=?utf-8?q?x?=",
        ):
            (shown,) = self.taken(attachments=[{**FILE, "filename": name}])["message"][
                "attachments"
            ]
            self.assertEqual(name, shown["filename"])


class OddJsonTests(Case):
    def test_f56_elements(self) -> None:
        """F56: an element that is no object, or not readable, is rejected by itself."""
        for raw in (b"null", b"7", b"true", b"[]", b'"text"', b"1e5", b"9" * 5000,
                    b'"\\ud800"', b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"):  # fmt: skip
            self.among_neighbours(raw)

    def test_f56_surrogates(self) -> None:
        """F56: half a surrogate pair rejects its element, and the reason names the field."""
        for field in ("subject", "body", "body_html", "from", "message_id", "batch_code"):
            self.refused(field, **{field: f"{CANARY}\ud800"})
        self.refused("headers", headers={"X-A": f"{CANARY}\udc00"})

    def test_f56_duplicate_keys(self) -> None:
        """F56: of a key that comes twice, the last counts."""
        raw = b'{"id":"a","id":"bad","from":"x@y.example","from":null,"to":"a@b.example"}'
        self.assertEqual("missing from", self.among_neighbours(raw))

    def test_f56_wrong_types(self) -> None:
        """F56: a value of the wrong type rejects its element, whatever the field."""
        objects: list[Any] = [True, [CANARY], {"a": CANARY}]
        text, addresses = [1, 1.5, *objects], [1, True, {"a": CANARY}, [1], [[CANARY]], [None]]
        texts = ("from", "account_id", "tenant_id", "subject", "body", "content_type",
                 "body_html", "body_plain", "reply_to", "return_path", "message_id",
                 "batch_code")  # fmt: skip
        wrong: dict[str, list[Any]] = {
            **dict.fromkeys(texts, text),
            **dict.fromkeys(("to", "cc", "bcc"), addresses),
            "priority": [*objects, CANARY, "1.5", ""],
            "deferred_ts": [*objects, CANARY, "1.5", ""],
            "headers": [1, CANARY, [CANARY], {"X-A": [CANARY]}, {"X-A": {"b": CANARY}}],
            "attachments": [1, CANARY, {"a": CANARY}, [CANARY], [[]], [{}],
                            [{**FILE, "filename": 1}], [{**FILE, CANARY: 1}],
                            [{**FILE, "auth": CANARY}]],
        }  # fmt: skip
        for field, values in wrong.items():
            for value in values:
                self.refused(field, **{field: value})

    def test_f56_unknown_fields(self) -> None:
        """F56: a field nobody knows does no harm, whatever is in it."""
        values: list[Any] = [None, 1, CANARY, [[[[]]]], {"a": {"b": [CANARY]}}, 10**400, 1e308]
        for value in values:
            listed = self.taken(unknown=value)
            self.assertNotIn("unknown", listed["message"])


class AgainTests(Case):
    """F60 at the front door; with a real upstream in :mod:`tests.scenarios`."""

    def again(self, **fields: Any) -> Reply:
        return self.door.add(message("m1", **fields), query="?verbose=1")

    def said(self, reply: Reply) -> tuple[int, str]:
        (item,) = reply.json["items"]
        return reply.json["queued"], item["state"]

    def claim(self) -> Any:
        now = self.door.clock.now()
        (account,) = result(self.door.store.accounts(None))
        (claimed,) = result(self.door.store.claim(account.pk, 10, now))
        result(self.door.store.begin([(claimed.pk, claimed.token)], account.id, now))
        return claimed

    def test_f60_queued(self) -> None:
        """F60: other content for an id that waits takes its place."""
        self.again(subject="one")
        self.assertEqual((1, "replaced"), self.said(self.again(subject="two")))
        (listed,) = self.door.call("GET", "/messages").json["messages"]
        self.assertEqual("two", listed["message"]["subject"])

    def test_f60_in_flight(self) -> None:
        """F60: other content for an id that is under way changes nothing."""
        self.again(subject="one")
        self.claim()
        self.assertEqual((1, "kept"), self.said(self.again(subject="two")))
        (listed,) = self.door.call("GET", "/messages").json["messages"]
        self.assertEqual(("one", "in_flight"), (listed["message"]["subject"], listed["state"]))

    def test_f60_sent(self) -> None:
        """F60: other content for an id that was sent is a duplicate; nothing is sent again."""
        self.again(subject="one")
        claimed = self.claim()
        result(self.door.store.record([build.record(claimed, at=self.door.clock.now())]))
        self.assertEqual((1, "duplicate"), self.said(self.again(subject="two")))
        self.assertEqual({"m1": "sent"}, self.door.store.states())
