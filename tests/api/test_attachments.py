"""Attachments that come with their message, and those that are to be fetched."""

from __future__ import annotations

import base64
import hashlib
from email import message_from_bytes, policy
from typing import Any

import attrs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.api.attachments import AttachmentRules, take_attachments
from mailproxy.api.wire import AttachmentObject, Rejected
from mailproxy.compose import compose
from mailproxy.credentials import open_auth
from mailproxy.model import Attachment
from mailproxy.tenancy import ClientAuth
from tests.api.door import message
from tests.api.judging import CANARY, accept, content, reason
from tests.fakes import EPOCH


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
            (".storage_path: not a URL", {"storage_path": CANARY, "fetch_mode": "http_url"}),
            (".storage_path: not a URL", {"storage_path": "https://[::1", "fetch_mode": None}),
            (".storage_path: credentials", {"storage_path": f"https://u:{CANARY}@h/"}),
            (".storage_path: a character", {"storage_path": f"https://h/{CANARY} HTTP/1.1"}),
            (".storage_path: a control", {"storage_path": f"http://h/\r\n{CANARY}"}),
            (".storage_path: a control", {"storage_path": f"home:\x00{CANARY}"}),
            (".storage_path: expected 1 to", {"storage_path": ""}),
            (".storage_path: expected 1 to", {"storage_path": "x" * 4097}),
            (".auth: method: expected", {"storage_path": "a:b", "auth": {"method": CANARY}}),
            (".auth: token: required", {"storage_path": "a:b", "auth": {"method": "bearer"}}),
            (".auth: credentials cannot", {"storage_path": "a:b", "auth": {"method": "none"}}),
        ):
            got = reason(message(attachments=[self.file(), self.file(**fields)]))
            self.assertTrue(got.startswith(f"invalid attachments[1]{expected}"), got)
            self.assertNotIn(CANARY, got)
        got = reason(message(attachments=[{"filename": "a"}]))
        self.assertEqual("invalid attachments[0].storage_path: required", got)
        got = reason(message(attachments=[self.file(mime_type=f"{CANARY}\r\n")]))
        self.assertTrue(got.startswith("invalid attachments: "), got)
        self.assertNotIn(CANARY, got)


def seal(text: str) -> str:
    return text[::-1].encode().hex()


class FetchedTests(SynchronousTestCase):
    """What is noted down of attachments that did not come along."""

    def take(
        self, files_for: frozenset[str | None] = frozenset(), **fields: Any
    ) -> tuple[Attachment, tuple[bytes, ...]]:
        source = AttachmentObject(**{"filename": "a.pdf", "storage_path": "home:a.pdf", **fields})
        (taken,), parts = take_attachments([source], "t1", AttachmentRules(seal, files_for))
        return taken, parts

    def refused(self, files_for: frozenset[str | None] = frozenset(), **fields: Any) -> str:
        return str(self.assertRaises(Rejected, self.take, files_for, **fields).reason)

    def test_modes(self) -> None:
        """The mode is the client's, else what the path looks like; nothing is fetched yet."""
        for mode, fields in (
            ("endpoint", {"storage_path": "home:a.pdf"}),
            ("endpoint", {"storage_path": "home:a.pdf", "fetch_mode": "endpoint"}),
            ("endpoint", {"storage_path": "/a", "fetch_mode": "endpoint"}),
            ("http_url", {"storage_path": "https://example.com/a?b=c"}),
            ("http_url", {"storage_path": "http://10.0.0.1/"}),
            ("filesystem", {"storage_path": "/srv/a.pdf"}),
        ):
            taken, parts = self.take(frozenset({None}), **fields)
            self.assertEqual(
                (mode, 0, 0, ""), (taken.fetch_mode, taken.part, taken.size, taken.sha256)
            )
            self.assertEqual(fields["storage_path"], taken.storage_path)
            self.assertEqual((), parts)

    def test_hints(self) -> None:
        """The digest comes from the field or the marker, and waits for the content."""
        md5 = "D" * 32
        self.assertEqual(md5.lower(), self.take(content_md5=md5)[0].content_md5)
        marked, _ = self.take(filename=f"a_{{MD5:{md5}}}.pdf")
        self.assertEqual(("a.pdf", md5.lower()), (marked.filename, marked.content_md5))

    @given(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=40),
        st.from_regex(r"[0-9a-fA-F]{32}", fullmatch=True),
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=40),
        st.booleans(),
    )
    @settings(max_examples=100, deadline=None)
    def test_marker(self, before: str, md5: str, after: str, score: bool) -> None:
        """Whatever surrounds the marker stays; of two, the first one counts."""
        assume("MD5:" not in before and (before + after).strip())
        taken, _ = self.take(filename=f"{before}{'_' * score}{{MD5:{md5}}}{after}")
        if not score:
            before = before.removesuffix("_")
        self.assertEqual(before + after, taken.filename)
        self.assertEqual(md5.lower(), taken.content_md5)

    def test_s14_files_only_where_there_are_roots(self) -> None:
        """S14: a file of this machine is refused to a tenant that has no directory here."""
        path = {"storage_path": "/srv/a.pdf"}
        text = "invalid attachments[0].fetch_mode: there is no directory here"
        none: tuple[frozenset[str | None], ...] = (frozenset(), frozenset({"t2"}))
        for roots in none:
            self.assertTrue(self.refused(roots, **path).startswith(text))
        some: tuple[frozenset[str | None], ...] = (frozenset({"t1"}), frozenset({None, "t2"}))
        for roots in some:
            self.assertEqual("filesystem", self.take(roots, **path)[0].fetch_mode)
        for odd in ("/srv/../etc/passwd", "/..", "srv/a"):
            text = self.refused(frozenset({None}), storage_path=odd, fetch_mode="filesystem")
            self.assertIn("storage_path: expected an absolute path without ..", text)

    def test_credentials_are_sealed(self) -> None:
        """Credentials are kept sealed as one, also that there are none to be shown."""
        for auth in (
            {"method": "none"},
            {"method": "bearer", "token": "t0ken"},
            {"method": "basic", "user": "u", "password": "p\u00e4ss", "token": None},
        ):
            sealed = self.take(auth=auth)[0].auth
            self.assertNotIn("ss", repr(self.take(auth=auth)[0]))
            opened = open_auth(sealed, lambda text: bytes.fromhex(text).decode()[::-1])
            self.assertEqual({k: v for k, v in auth.items() if v}, given_of(opened))
        self.assertEqual("", self.take(auth=None)[0].auth)

    def test_credentials_nobody_asks_for(self) -> None:
        """What needs no credentials keeps none, though they are looked at."""
        auth = {"method": "bearer", "token": "t"}
        taken, _ = self.take(frozenset({None}), storage_path="/a", auth=auth)
        self.assertEqual("", taken.auth)
        self.assertIn(".auth: ", self.refused(storage_path="base64:", auth={"method": "?"}))

    def test_bad_credentials(self) -> None:
        """Credentials that cannot be shown to anyone are refused by field, never by value."""
        for expected, auth in (
            ("method: expected", {}),
            ("method: expected", {"method": 5}),
            ("token: required", {"method": "bearer", "token": ""}),
            ("token: required", {"method": "bearer", "token": 5}),
            ("token: a character", {"method": "bearer", "token": f"{CANARY} b"}),
            ("token: a character", {"method": "bearer", "token": f"{CANARY}\r\nX: y"}),
            (
                "token: has no place",
                {"method": "basic", "user": "u", "password": "p", "token": "t"},
            ),
            ("user: has no place", {"method": "none", "user": CANARY}),
            ("user: a colon", {"method": "basic", "user": f"{CANARY}:", "password": ""}),
            ("user: required", {"method": "basic", "password": CANARY}),
            ("password: required", {"method": "basic", "user": CANARY}),
            ("password: a character", {"method": "basic", "user": "u", "password": f"\n{CANARY}"}),
            ("password: longer", {"method": "basic", "user": "u", "password": "x" * 4097}),
            ("an unknown key", {"method": "none", CANARY: 1}),
        ):
            text = self.refused(auth=auth)
            self.assertTrue(text.startswith(f"invalid attachments[0].auth: {expected}"), text)
            self.assertNotIn(CANARY, text)

    def test_numbers(self) -> None:
        """What came along is numbered without regard to what did not."""
        objects = [
            AttachmentObject("a", "base64:YQ=="),
            AttachmentObject("b", "home:b"),
            AttachmentObject("c", "base64:Yw=="),
        ]
        taken, parts = take_attachments(objects)
        self.assertEqual([1, 0, 2], [each.part for each in taken])
        self.assertEqual((b"a", b"c"), parts)


def given_of(auth: ClientAuth) -> dict[str, Any]:
    fields = attrs.asdict(auth)
    return {name: value for name, value in fields.items() if value is not None}
