"""Signatures: what they cover, that they hold, and that they are the same every time."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.compose import compose
from mailproxy.delivery.dkim import sign
from mailproxy.dkim_keys import Algorithm, DkimKey, generate
from mailproxy.errors import SigningFault
from mailproxy.model import Attachment, Content
from mailproxy.raw import read
from tests.build import content
from tests.delivery.verifier import check_by_hand, need_dkim, signatures, verified
from tests.fakes import EPOCH

PAIRS = {algorithm: generate(algorithm) for algorithm in Algorithm}


def key(algorithm: Algorithm = Algorithm.RSA, **fields: Any) -> DkimKey:
    pair = PAIRS[algorithm]
    values: dict[str, Any] = {
        "tenant_id": "default",
        "domain": "example.com",
        "selector": f"{algorithm}1",
        "algorithm": algorithm,
        "private": pair.private,
        "public": pair.public,
        "active": True,
    }
    return DkimKey(**{**values, **fields})


KEYS = (key(), key(Algorithm.ED25519))
RECORDS = {each.record_name: each.record for each in KEYS}

RAW = (
    b"Received: from a by b\r\n"
    b"From: =?utf-8?q?Caf=C3=A9?= <shop@example.com>\r\n"
    b"To: a@example.org,\r\n\tb@example.org\r\n"
    b"SUBJECT :   Two   spaces \r\n"
    b"Comments: one\r\n"
    b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n"
    b"Message-ID: <raw@example.com>\r\n"
    b"List-Unsubscribe: <https://example.com/u>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"\r\n"
    b"Caf\xc3\xa9 and trailing blanks  \t\r\n.\r\n..\r\n" + b"x" * 998 + b"\r\n\r\n\r\n"
)


def composed(letter: Content, **parts: bytes) -> bytes:
    return compose(
        letter,
        mail_id="m1",
        message_id="<m1@example.com>",
        date=EPOCH,
        parts={int(name[1:]): data for name, data in parts.items()},
    )


def finished(raw: bytes) -> bytes:
    return composed(content(raw=True, plain=None), p1=read(raw).data)


MESSAGES = {
    "plain": composed(content()),
    "empty": composed(content(plain="")),
    "html": composed(content(plain="Hello\n", html="<p>Hello</p>\n")),
    "8-bit": composed(content(subject="Caffè", plain="Perché no? €\n", html="<b>è</b>")),
    "long lines": composed(content(subject="long " * 80, plain=f"{'y' * 3000}\n\n\n")),
    "attachments": composed(
        content(attachments=(Attachment("résumé.pdf", "application/pdf", 1, 3000),)),
        p1=bytes(range(256)) * 12,
    ),
    "list": composed(content(headers=(("List-Id", "<news.example.com>"), ("X-Other", "1")))),
    "raw": finished(RAW.replace(b"SUBJECT :", b"SUBJECT:")),
    "bare raw": finished(b"From: shop@example.com\r\n"),
}


class SignTests(SynchronousTestCase):
    def setUp(self) -> None:
        need_dkim()

    def test_it_holds(self) -> None:
        """Whatever the message is, each of its signatures holds, and it is itself unchanged."""
        for name, data in MESSAGES.items():
            made = sign(data, KEYS, EPOCH)
            self.assertTrue(made.endswith(data), name)
            self.assertEqual([True, True], verified(made, RECORDS), name)

    def test_it_holds_by_hand(self) -> None:
        """It also holds for a reader who follows RFC 6376 word by word; so do its tags."""
        for one in KEYS:
            for name in MESSAGES:
                tags = check_by_hand(sign(MESSAGES[name], [one], EPOCH + 0.9), one.record)
                self.assertEqual(
                    ("1", f"{one.algorithm}-sha256", "relaxed/simple", "example.com"),
                    (tags["v"], tags["a"], tags["c"], tags["d"]),
                )
                self.assertEqual((one.selector, str(int(EPOCH))), (tags["s"], tags["t"]))
                self.assertNotIn("l", tags)
                self.assertNotIn("x", tags)

    def test_signed_fields(self) -> None:
        """What readers see is signed once more than it is there, list fields as they are."""
        (tags,) = signatures(sign(MESSAGES["raw"], KEYS[:1], EPOCH))
        self.assertEqual(
            "from:from:to:to:cc:subject:subject:date:date:message-id:message-id:reply-to"
            ":mime-version:content-type:content-transfer-encoding"
            ":list-unsubscribe:list-unsubscribe-post",
            tags["h"],
        )

    def test_nothing_can_be_added(self) -> None:
        """A From, Subject, Cc, Reply-To or Content-Type that somebody adds breaks the signature."""
        made = sign(MESSAGES["plain"], KEYS, EPOCH)
        for field in (b"From", b"Subject", b"Cc", b"Reply-To", b"Content-Type", b"Date"):
            for forged in (
                field + b": x@example.net\r\n" + made,
                made.replace(b"\r\n\r\n", b"\r\n" + field + b": x@example.net\r\n\r\n", 1),
            ):
                self.assertEqual([False, False], self.holds(forged), field)
        added = b"Received: from us\r\nX-Spam: no\r\n" + made
        self.assertEqual([True, True], verified(added, RECORDS))

    def holds(self, data: bytes) -> list[bool]:
        """As :func:`verified`; a message that cannot be verified at all does not hold."""
        import dkim

        try:
            return verified(data, RECORDS)
        except dkim.DKIMException:
            return [False, False]

    def test_body_cannot_be_changed(self) -> None:
        """A body that was changed breaks the signature, and so does one that was added to."""
        made = sign(MESSAGES["plain"], KEYS, EPOCH)
        for forged in (made.replace(b"world", b"World"), made + b"more\r\n"):
            self.assertEqual([False, False], self.holds(forged))

    def test_same_bytes(self) -> None:
        """The same message, keys and time give the same bytes, with RSA and Ed25519."""
        for data in MESSAGES.values():
            self.assertEqual(sign(data, KEYS, EPOCH), sign(data, KEYS, EPOCH))
        at = signatures(sign(MESSAGES["plain"], KEYS, EPOCH + 5))
        self.assertEqual([str(int(EPOCH) + 5)] * 2, [tags["t"] for tags in at])

    def test_lines(self) -> None:
        """Every line of a signature ends in CRLF and is short, whatever domain and selector are."""
        long = key(domain=f"{'d' * 60}.{'e' * 60}.{'f' * 60}.example", selector="s" * 50)
        made = sign(MESSAGES["plain"], [long], EPOCH)
        added = made[: -len(MESSAGES["plain"])]
        self.assertEqual(added.count(b"\n"), added.count(b"\r\n"))
        self.assertLess(max(len(line) for line in added.split(b"\r\n")), 78 + len(long.domain))
        self.assertIn(long.domain.encode(), added)
        for each in KEYS:
            added = sign(MESSAGES["plain"], [each], EPOCH)[: -len(MESSAGES["plain"])]
            self.assertLessEqual(max(len(line) for line in added.split(b"\r\n")), 78)
        self.assertEqual([True], verified(made, {long.record_name: long.record}))

    def test_damaged_key(self) -> None:
        """With a key that is damaged nothing is signed: it may be given again."""
        fault = self.assertRaises(
            SigningFault, sign, MESSAGES["plain"], [attrs.evolve(KEYS[0], private=None)], EPOCH
        )
        self.assertTrue(fault.transient)
        self.assertIn("rsa1._domainkey.example.com", str(fault))

    def test_header_that_cannot_be_signed(self) -> None:
        """A header in a form of old times cannot be signed, which nothing will mend."""
        fault = self.assertRaises(SigningFault, sign, finished(RAW), KEYS, EPOCH)
        self.assertFalse(fault.transient)
        self.assertNotIn("Two", str(fault))
