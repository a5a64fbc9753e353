"""``POST /v1/messages/raw`` from the client's side."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.api.messages import INLINE_BYTES, IntakeRules
from mailproxy.compose import compose
from mailproxy.lines import canonical
from tests.api.door import Door, Reply, message
from tests.fake_store_rows import MessageRow

FROM = b"From: Sender <sender@example.com>\r\n"
MAIL = (
    b"From: Sender <sender@example.com>\r\nTo: list@example.org\r\nSubject: =?utf-8?q?caff=C3=A8?="
    b"\r\nDate: Sun, 15 Jun 2025 15:06:40 +0000\r\nMessage-ID: <own@example.com>\r\n\r\nHi\r\n"
)
ENVELOPE = {"id": "m1", "from": "bounce@example.com", "to": "a@example.org, b@Example.ORG"}


class RawTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def post(
        self, body: bytes = MAIL, headers: dict[str, str] | None = None, **query: Any
    ) -> Reply:
        fields = {**ENVELOPE, **query}
        asked = urlencode({k: v for k, v in fields.items() if v is not None}, doseq=True)
        return self.door.call("POST", f"/v1/messages/raw?{asked}", body)

    def stored(self, id: str = "m1") -> MessageRow:
        row = self.door.store.disk.find("default", id)
        assert row is not None
        return row

    def wire(self, id: str = "m1") -> bytes:
        """What would go out for the stored message."""
        row = self.stored(id)
        assert row.payload is not None
        return compose(
            payload.load(row.payload),
            mail_id=row.id,
            message_id=row.message_id,
            date=row.accepted_at,
            parts=row.parts,
        )

    def reason(self, body: bytes = MAIL, **query: Any) -> str:
        """Why a message is rejected."""
        reply = self.post(body, **query)
        self.assertEqual((400, reply.json["detail"]), (reply.status, reply.json["error"]))
        self.assertNotIn("rejected", reply.json)
        self.assertEqual({}, self.door.store.states())
        return str(reply.json["error"])

    def test_notifications(self) -> None:
        """What the query asks of the next servers is kept, for each recipient in its order."""
        self.post(
            notify=["success", "Delay"],
            ret="hdrs",
            envid="QQ+314",
            orcpt=["rfc822;Old+x@example.org", ""],
        )
        stored = self.stored().payload
        assert stored is not None
        dsn = payload.load(stored).dsn
        assert dsn is not None
        self.assertEqual(b" RET=HDRS ENVID=QQ+2B314", dsn.of_mail())
        self.assertEqual(
            b" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Old+2Bx@example.org", dsn.of_rcpt("a@example.org")
        )
        self.assertEqual(
            b" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@example.org", dsn.of_rcpt("b@example.org")
        )

    def test_nothing_asked(self) -> None:
        """Without them, and with empty ones, nothing is asked."""
        empty: dict[str, Any] = {"notify": "", "envid": "", "orcpt": ["", ""]}
        for id, query in (("m1", {}), ("m2", empty)):
            self.post(id=id, **query)
            stored = self.stored(id).payload
            assert stored is not None
            self.assertIsNone(payload.load(stored).dsn)

    def test_bad_notifications(self) -> None:
        """Each parameter that cannot be said to a server is named, and nothing is stored."""
        for query, field in (
            ({"notify": "never,success"}, "notify"),
            ({"notify": "perhaps"}, "notify"),
            ({"ret": "all"}, "ret"),
            ({"envid": "a b"}, "envid"),
            ({"envid": "x" * 101}, "envid"),
            ({"orcpt": "rfc822;a@example.org"}, "orcpt"),
            ({"orcpt": ["a@example.org", ""]}, "orcpt"),
            ({"orcpt": ["rfc822;", ""]}, "orcpt"),
            ({"orcpt": ["rfc822;a\r\nRSET", ""]}, "orcpt"),
            ({"orcpt": ["rfc822;" + "+" * 170, ""]}, "orcpt"),
        ):
            self.assertIn(f"invalid {field}: ", self.reason(**query), query)

    def test_accepted(self) -> None:
        """A message is stored as it came, for the envelope in the query."""
        reply = self.post()

        self.assertEqual(
            (200, {"ok": True, "queued": 1, "state": "queued"}), (reply.status, reply.json)
        )
        row = self.stored()
        self.assertEqual(
            ["a@example.org", "b@example.org"], [rcpt.address for rcpt in row.recipients]
        )
        self.assertEqual("bounce@example.com", row.envelope_from)
        self.assertEqual("<own@example.com>", row.message_id)
        self.assertEqual({}, row.parts)
        self.assertEqual(b"X-Genro-Mail-ID: m1\r\n" + MAIL, self.wire())
        self.assertEqual(len(self.wire()), row.size)

    def test_a_large_one(self) -> None:
        """A large message is kept in a part of its own, and leaves as it came."""
        large = MAIL + b"x" * 70 + b"\r\n" + (b"y" * 900 + b"\r\n") * 50
        self.assertEqual(200, self.post(large).status)
        row = self.stored()
        self.assertEqual({1: large}, row.parts)
        self.assertEqual(b"X-Genro-Mail-ID: m1\r\n" + large, self.wire())

    def test_what_is_missing(self) -> None:
        """A message without Message-ID gets the one that the report will name."""
        self.post(FROM + b"Bcc: c@example.org\r\n\r\nHi\n")

        row = self.stored()
        lines = self.wire().split(b"\r\n")
        self.assertEqual(b"X-Genro-Mail-ID: m1", lines[0])
        self.assertTrue(lines[1].startswith(b"Date: "))
        self.assertEqual(f"Message-ID: {row.message_id}".encode(), lines[2])
        self.assertNotIn(b"Bcc", self.wire())
        self.assertEqual({"notes": ["header cut: Bcc"]}, row.events[0].data)

    def test_envelope(self) -> None:
        """Recipients may be repeated; the other parameters mean what they mean in an element."""
        self.post(
            to=["a@example.org", '"C, D" <b@example.org>,c@example.org', "a@example.org"],
            account_id="smtp-main",
            priority="high",
            batch_code="spring",
            deferred_ts="1750000100",
            **{"from": "<>"},  # type: ignore[arg-type]
        )
        row = self.stored()
        self.assertEqual(
            ["a@example.org", "b@example.org", "c@example.org"],
            [rcpt.address for rcpt in row.recipients],
        )
        self.assertEqual(
            ("", "smtp-main", 1, "spring", 1750000100.0),
            (row.envelope_from, row.account_id, row.priority, row.batch, row.not_before),
        )

    def test_refused(self) -> None:
        """What is wrong with the message or its envelope is named; nothing of it is stored."""
        for expected, body, query in (
            ("missing id", MAIL, {"id": None}),
            ("invalid id: a control character", MAIL, {"id": "a\r\nb"}),
            ("missing from", MAIL, {"from": None}),
            ("invalid from: ", MAIL, {"from": "nobody"}),
            ("invalid from: ", MAIL, {"from": "Name <a@example.org>"}),
            ("missing to", MAIL, {"to": None}),
            ("missing to", MAIL, {"to": " , "}),
            ("invalid to: ", MAIL, {"to": "a@b@c"}),
            ("invalid priority: ", MAIL, {"priority": "x"}),
            ("invalid deferred_ts: ", MAIL, {"deferred_ts": "x"}),
            ("invalid batch_code: ", MAIL, {"batch_code": "x" * 65}),
            ("account not found", MAIL, {"account_id": "other"}),
            ("invalid message: no From field", b"", {}),
            ("invalid message: a NUL octet", MAIL + b"\0", {}),
            ("invalid message: its From is not an address", b"From: x\r\n\r\n", {"from": "<>"}),
            ("invalid message_id: ", FROM + b"Message-ID: x\r\n\r\n", {}),
        ):
            got = self.reason(body, **query)
            self.assertTrue(got.startswith(expected), (expected, got))

    def test_no_usable_id(self) -> None:
        """A message without a usable id is refused for just that."""
        self.assertEqual("missing id", self.reason(id=None))

    def test_limits(self) -> None:
        """Size and number of recipients have the limits of every message."""
        rules = IntakeRules(max_message_bytes=INLINE_BYTES * 2, max_recipients=2)
        self.door = Door(rules=rules)
        self.door.put_account()
        self.assertEqual("invalid to: more than 2 recipients", self.reason(to="a@b.c,b@b.c,c@b.c"))
        room = INLINE_BYTES * 2 - len(b"X-Genro-Mail-ID: m1\r\n" + MAIL)
        fits = MAIL + (b"x" * 98 + b"\r\n") * (room // 100) + b"y" * (room % 100)
        self.assertEqual(200, self.post(fits).status)
        self.assertEqual(INLINE_BYTES * 2, len(self.wire()))
        self.door.store.disk.messages.clear()
        for body in (fits + b"y", fits + b"\r\ny" * 10):
            self.assertEqual(
                f"invalid message: larger than {INLINE_BYTES * 2} bytes", self.reason(body)
            )

    def test_same_id(self) -> None:
        """The same bytes again are the same mail; others, or for others, are not."""
        self.post()
        cases: list[tuple[bytes, dict[str, Any], str]] = [
            (MAIL, {"priority": "0"}, "queued"),
            (MAIL.replace(b"\r\n", b"\n"), {}, "queued"),
            (MAIL + b"more", {}, "replaced"),
            (MAIL, {"to": "c@example.org"}, "replaced"),
            (MAIL, {"to": "c@example.org", "from": "<>"}, "replaced"),
        ]
        for body, query, expected in cases:
            reply = self.post(body, **query)
            self.assertEqual(expected, reply.json["state"])
        self.door.add(message("m1"))
        self.assertEqual({}, self.stored().parts)

    def test_shown(self) -> None:
        """The list shows sender, recipients and subject, and no text."""
        self.post()
        (shown,) = self.door.call("GET", "/messages").json["messages"]
        self.assertEqual(
            ("Sender <sender@example.com>", ["a@example.org", "b@example.org"], "caffè", True),
            tuple(shown["message"][name] for name in ("from", "to", "subject", "raw")),
        )
        self.assertNotIn("body", shown["message"])

    def test_bad_query(self) -> None:
        """A flag that is none, or a parameter that is not text, is a 422."""
        for asked in ("test=perhaps", "to=%ff", "to=x&" * 1001):
            reply = self.door.call("POST", f"/v1/messages/raw?id=m1&from=a@b.c&{asked}", MAIL)
            self.assertEqual(422, reply.status)
            self.assertNotIn("rejected", reply.json)

    def test_test(self) -> None:
        """A test is told from the same mail in earnest."""
        self.post(test="true")
        test = self.stored().digest
        self.door.store.disk.messages.clear()
        self.post()
        self.assertNotEqual(test, self.stored().digest)

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=200))
    def test_as_it_came(self, body: bytes) -> None:
        """Whatever the text of a message, it goes out behind our fields as it came."""
        self.door.store.disk.messages.clear()
        data = MAIL + body.replace(b"\0", b"")
        self.assertEqual(200, self.post(data).status)
        self.assertEqual(b"X-Genro-Mail-ID: m1\r\n" + canonical(data), self.wire())
