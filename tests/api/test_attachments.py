"""Attachments that come with their message."""

from __future__ import annotations

import base64
import hashlib
from email import message_from_bytes, policy
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.compose import compose
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
