"""What composed messages look like, and what is not composed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
from email.parser import BytesParser
from email.policy import default

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import compose as compose_module
from mailproxy import headers, lines, words
from mailproxy.compose import compose
from mailproxy.errors import BadMessage
from mailproxy.model import Attachment, Content, Mailbox

MESSAGE_ID = "<0123456789abcdef@mail.example.org>"
DATE = 1_750_000_000.75

SIMPLE = Content(
    sender=Mailbox("ACME News", "news", "acme.example"),
    to=(Mailbox("", "john.doe", "example.com"),),
    subject="Your order has shipped",
    plain="Hello John,\nit is on its way.\n",
)


#: What :meth:`MessageTests.test_everything` composes, with LF for CRLF.
EVERYTHING = """\
From: =?utf-8?b?TcO8bGxlciwgSsO2cmc=?= <jm@xn--bcher-kva.example>
To: a@b.c, "Doe, John" <"j d"@b.c>
Cc: c@[192.0.2.1]
Reply-To: r@b.c
Subject: =?utf-8?b?R3LDvMOfZQ==?= - and a tail of plain words long enough to
 be folded somewhere here
Date: Sun, 15 Jun 2025 15:06:40 +0000
Message-ID: <0123456789abcdef@mail.example.org>
X-Genro-Mail-ID: =?utf-8?b?Z3LDtsOfZQ==?= 1
X-Campaign: spring
List-Id: <x.example>
MIME-Version: 1.0
Content-Type: multipart/mixed;
 boundary="=_7117416b0381a7e600edc49463fbde39"

--=_7117416b0381a7e600edc49463fbde39
Content-Type: multipart/alternative;
 boundary="=_ff1311158e4a3a6b03f2cbd1f439e55f"

--=_ff1311158e4a3a6b03f2cbd1f439e55f
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

R3LDvMOfZQ0K

--=_ff1311158e4a3a6b03f2cbd1f439e55f
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PHA+5pel5pys6KqePC9wPg0K

--=_ff1311158e4a3a6b03f2cbd1f439e55f--

--=_7117416b0381a7e600edc49463fbde39
Content-Type: application/pdf;
 name="report.pdf"
Content-Transfer-Encoding: base64
Content-Disposition: attachment;
 filename="report.pdf"

JVBERiVQREYlUERGJVBERiVQREYlUERGJVBERiVQREYlUERGJVBERiVQREYlUERGJVBERiVQREYl
UERGJVBERiVQREYlUERGJVBERiVQREYlUERGJVBERiVQREYlUERGJVBERiVQREYlUERGJVBERiVQ
REYlUERG

--=_7117416b0381a7e600edc49463fbde39
Content-Type: text/csv; charset="iso-8859-1";
 name="Ubersicht.csv"
Content-Transfer-Encoding: base64
Content-Disposition: attachment;
 filename*=utf-8''%C3%9Cbersicht.csv

YTv8DQo=

--=_7117416b0381a7e600edc49463fbde39
Content-Type: application/octet-stream;
 name="forwarded.eml"
Content-Transfer-Encoding: base64
Content-Disposition: attachment;
 filename="forwarded.eml"


--=_7117416b0381a7e600edc49463fbde39--
"""


def composed(content: Content, parts: dict[int, bytes] | None = None, **changes: str) -> bytes:
    arguments = {"mail_id": "order-1", "message_id": MESSAGE_ID} | changes
    return compose(content, date=DATE, parts=parts or {}, **arguments)


def body_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


class MessageTests(SynchronousTestCase):
    def field_at_fault(self, **changes: str) -> str:
        """The field that is named when SIMPLE is composed with *changes*."""
        try:
            composed(SIMPLE, {}, **changes)
        except BadMessage as error:
            return error.field
        return "none"

    def test_a_plain_message(self) -> None:
        """The common mail, byte for byte."""
        self.assertEqual(
            b"From: ACME News <news@acme.example>\r\n"
            b"To: john.doe@example.com\r\n"
            b"Subject: Your order has shipped\r\n"
            b"Date: Sun, 15 Jun 2025 15:06:40 +0000\r\n"
            b"Message-ID: <0123456789abcdef@mail.example.org>\r\n"
            b"X-Genro-Mail-ID: order-1\r\n"
            b"MIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Transfer-Encoding: 7bit\r\n"
            b"\r\n"
            b"Hello John,\r\nit is on its way.\r\n",
            composed(SIMPLE),
        )

    def test_everything(self) -> None:
        """A message with all there is stays as it is from one version to the next.

        A message is composed when it is accepted and again at every attempt: a change of these
        bytes changes mail that is already queued, so change them on purpose only.
        """
        content = Content(
            sender=Mailbox("Müller, Jörg", "jm", "xn--bcher-kva.example"),
            to=(Mailbox("", "a", "b.c"), Mailbox("Doe, John", '"j d"', "b.c")),
            cc=(Mailbox("", "c", "[192.0.2.1]"),),
            bcc=(Mailbox("", "secret", "b.c"),),
            reply_to=(Mailbox("", "r", "b.c"),),
            subject="Grüße - and a tail of plain words long enough to be folded somewhere here",
            plain="Grüße\n",
            html="<p>日本語</p>",
            headers=(("X-Campaign", "spring"), ("List-Id", "<x.example>")),
            attachments=(
                Attachment("report.pdf", "application/pdf", 1),
                Attachment("Übersicht.csv", "text/csv; charset=iso-8859-1", 2),
                Attachment("forwarded.eml", "message/rfc822", 3),
            ),
        )
        data = composed(content, {1: b"%PDF" * 30, 2: b"a;\xfc\r\n", 3: b""}, mail_id="größe 1")
        self.assertEqual(EVERYTHING, data.decode().replace("\r\n", "\n"))

    def test_only_what_is_there_is_said(self) -> None:
        """No header without a value, but Subject; Bcc and the return path never appear."""
        content = Content(
            sender=Mailbox("", "a", "b.c"),
            bcc=(Mailbox("", "secret", "b.c"),),
            return_path="bounces@b.c",
        )
        data = composed(content)
        names = re.findall(rb"(?m)^([A-Za-z-]+):", data)
        self.assertEqual(
            b"From Subject Date Message-ID X-Genro-Mail-ID MIME-Version Content-Type"
            b" Content-Transfer-Encoding".split(),
            names,
        )
        self.assertNotIn(b"secret", data)
        self.assertNotIn(b"bounces", data)
        self.assertEqual(b"", body_of(data))

    def test_line_ends(self) -> None:
        """CRLF, CR and LF end a line; a last line without an end gets one."""
        content = attrs.evolve(SIMPLE, plain="a\nb\rc\r\nd\n\re")
        self.assertEqual(b"a\r\nb\r\nc\r\nd\r\n\r\ne\r\n", body_of(composed(content)))

    def test_long_lines(self) -> None:
        """A line of 998 characters goes as it is; with one of 999 the text is encoded."""
        for before in ("", "x\n" * 1000, ("y" * 998 + "\r\n") * 3):
            fits = composed(attrs.evolve(SIMPLE, plain=before + "z" * 998 + "\n"))
            self.assertIn(b"Encoding: 7bit", fits)
            for text in (before + "z" * 999, before + "z" * 999 + "\nend", before + "z" * 5000):
                data = composed(attrs.evolve(SIMPLE, plain=text))
                self.assertIn(b"Encoding: quoted-printable", data)
                self.assertLessEqual(max(map(len, body_of(data).split(b"\r\n"))), 76)

    def test_text_outside_ascii(self) -> None:
        """Text with a few other letters stays readable; other text takes base64."""
        few = composed(attrs.evolve(SIMPLE, plain="Schöne Grüße aus dem hohen Norden\n"))
        self.assertIn(b"Encoding: quoted-printable", few)
        self.assertIn(b"Sch=C3=B6ne Gr=C3=BC=C3=9Fe aus", few)
        many = composed(attrs.evolve(SIMPLE, plain="日本語のテキスト\n"))
        self.assertIn(b"Encoding: base64", many)

    def test_nul(self) -> None:
        """A NUL never goes out as such."""
        data = composed(attrs.evolve(SIMPLE, plain="a\0b"))
        self.assertIn(b"a=00b", data)

    def test_attachments(self) -> None:
        """Each attachment is a part in base64, lines of 76, named in both headers."""
        content = attrs.evolve(
            SIMPLE, attachments=(Attachment('a "b" \\c.txt', "text/plain;charset=UTF-8", 7),)
        )
        data = composed(content, {7: b"x" * 200})
        self.assertIn(
            b'Content-Type: text/plain; charset="UTF-8";\r\n name="a \\"b\\" \\\\c.txt"\r\n'
            b"Content-Transfer-Encoding: base64\r\n"
            b'Content-Disposition: attachment;\r\n filename="a \\"b\\" \\\\c.txt"\r\n\r\n'
            + b"eHh4" * 19
            + b"\r\n"
            + b"eHh4" * 19
            + b"\r\n",
            data,
        )

    def test_attachments_of_every_size(self) -> None:
        """Whole blocks of lines, and what is left of one, come out as their bytes."""
        block = 57 * 1024
        for size in (0, 1, 56, 57, 58, block - 1, block, block + 1, 3 * block + 58):
            wanted = bytes(range(251)) * (size // 251 + 1)
            wanted = wanted[:size]
            content = Content(SIMPLE.sender, attachments=(Attachment("f", "", 1),))
            data = composed(content, {1: wanted})
            (part,) = BytesParser(policy=default).parsebytes(data).iter_parts()
            self.assertEqual(wanted, part.get_payload(decode=True))
            self.assertLessEqual(max(map(len, body_of(data).split(b"\r\n"))), 76)

    def test_names_of_attachments(self) -> None:
        """What quotes cannot say is said by RFC 2231, with an ASCII name for older readers."""
        for filename, plain, exact in (
            ("Übersicht.pdf", "Ubersicht.pdf", "filename*=utf-8''%C3%9Cbersicht.pdf"),
            ("日本.tar.gz", "_.tar.gz", "filename*=utf-8''%E6%97%A5%E6%9C%AC.tar.gz"),
            ("=?x?=.txt", "_x_.txt", "filename*=utf-8''%3D%3Fx%3F%3D.txt"),
            ("a\u202egpj.exe", "a_gpj.exe", "filename*=utf-8''a%E2%80%AEgpj.exe"),
        ):
            content = attrs.evolve(SIMPLE, attachments=(Attachment(filename, "", 1),))
            text = composed(content, {1: b""}).decode()
            self.assertIn(f'name="{plain}"', text)
            self.assertIn(exact, text)

    def test_a_long_name_takes_several_lines(self) -> None:
        """A name longer than a line is cut into sections between characters."""
        content = attrs.evolve(SIMPLE, attachments=(Attachment("é" * 30 + ".txt", "", 1),))
        data = composed(content, {1: b""})
        self.assertIn(b" filename*0*=utf-8''%C3%A9", data)
        self.assertIn(b";\r\n filename*2*=", data)
        for line in data.split(b"\r\n"):
            self.assertLessEqual(len(line), 78, line)
            self.assertNotRegex(line.decode(), "%C3;?$")

    def test_the_type_of_an_attachment(self) -> None:
        """Only the type and its charset are declared; what may not be in base64 is a plain file."""
        for given, declared in (
            ("", "application/octet-stream"),
            ("Image/PNG", "image/png"),
            ("text/csv; charset=utf-8", 'text/csv; charset="utf-8"'),
            ('text/csv; name="x"; charset="latin-1"', 'text/csv; charset="latin-1"'),
            ("application/pdf; name=y; boundary=z", "application/pdf"),
            ("message/rfc822", "application/octet-stream"),
            ("multipart/mixed; boundary=x", "application/octet-stream"),
        ):
            content = attrs.evolve(SIMPLE, attachments=(Attachment("f", given, 1),))
            data = composed(content, {1: b""}).decode()
            self.assertIn(f'Content-Type: {declared};\r\n name="f"\r\n', data)
        for given in ("pdf", "a/b/c", "a/b;c", "a/b\r\nX: y", "a/ b", "tëxt/plain", "a/b; c=\x00"):
            content = attrs.evolve(SIMPLE, attachments=(Attachment("f", given, 1),))
            error = self.assertRaises(BadMessage, composed, content, {1: b""})
            self.assertEqual("attachments", error.field)

    def test_a_boundary_in_the_text(self) -> None:
        """A text that holds the boundary gets another one."""
        content = attrs.evolve(SIMPLE, html="<p>", plain="first")
        boundary = re.search(rb'boundary="(.*)"', composed(content))
        assert boundary is not None
        # The boundary depends on the text, so the text that holds it has to be found: here the
        # seed is fixed, and only the search for a free boundary is asked.
        taken = compose_module._Entity("", b"--" + boundary[1], opaque=False)
        seed = hashlib.sha256(MESSAGE_ID.encode() + b"first\r\n" + b"<p>\r\n").hexdigest()
        self.assertEqual(boundary[1].decode(), compose_module._boundary("alternative", [], seed))
        other = compose_module._boundary("alternative", [taken], seed)
        self.assertNotEqual(boundary[1].decode(), other)

    def test_what_is_refused(self) -> None:
        """A field that cannot stand in a message is named; its value is not repeated."""
        bad = "\r\nBcc: x"
        box = Mailbox(bad, "a", "b.c")
        for field, change in (
            ("from", {"sender": box}),
            ("to", {"to": (SIMPLE.sender, box)}),
            ("cc", {"cc": (box,)}),
            ("reply_to", {"reply_to": (box,)}),
            ("to", {"to": (Mailbox("", "jörg", "b.c"),)}),
            ("to", {"to": (Mailbox("", "a", "b.c> x"),)}),
            ("to", {"to": (Mailbox("", "a b", "b.c"),)}),
            ("subject", {"subject": bad}),
            ("subject", {"subject": "half \ud800"}),
            ("body", {"plain": "half \ud800"}),
            ("body", {"plain": None, "html": "\udfff"}),
            ("body_html", {"html": "\udfff"}),
            ("body_plain", {"html": "x", "plain": "\udfff"}),
            ("headers.X-A", {"headers": (("X-A", bad),)}),
            ("headers.X-A", {"headers": (("X-A", "\0"),)}),
            ("headers", {"headers": (("X-A: b\r\nBcc", "x"),)}),
            ("headers", {"headers": (("", "x"),)}),
            ("headers", {"headers": (("X A", "x"),)}),
            ("headers", {"headers": (("X-Ä", "x"),)}),
            ("headers", {"headers": (("X" * 77, "x"),)}),
            ("headers.bcc", {"headers": (("bcc", "x"),)}),
            ("attachments", {"attachments": (Attachment(bad, "", 1),)}),
            ("attachments", {"attachments": (Attachment("a\tb", "", 1),)}),
            ("attachments", {"attachments": (Attachment("", "", 1),)}),
            ("attachments", {"attachments": (Attachment("missing.txt", "", 2),)}),
        ):
            content = attrs.evolve(SIMPLE, **change)
            error = self.assertRaises(BadMessage, composed, content, {1: b""})
            self.assertEqual(field, error.field, change)
            self.assertNotIn("Bcc", error.problem)
        for value in ("", "x@y", "<x y>", "<x@y>\r\nBcc: z", "<x@ÿ>", "<<x>", f"<{'x' * 1000}>"):
            self.assertEqual("message_id", self.field_at_fault(message_id=value))
        for value in ("a\nb", "\0", "\x7f", "\ud800"):
            self.assertEqual("id", self.field_at_fault(mail_id=value))

    def test_dates(self) -> None:
        """Any instant with a year of four digits can be said; fractions are cut."""
        for seconds, text in (
            (0.0, b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"),
            (951_782_399.999, b"Date: Mon, 28 Feb 2000 23:59:59 +0000\r\n"),
            (951_782_400.0, b"Date: Tue, 29 Feb 2000 00:00:00 +0000\r\n"),
            (4_102_444_800.0, b"Date: Fri, 01 Jan 2100 00:00:00 +0000\r\n"),
        ):
            data = compose(SIMPLE, mail_id="1", message_id=MESSAGE_ID, date=seconds, parts={})
            self.assertIn(text, data)
        for seconds in (1e18, -1e18, -4e10):
            self.assertRaises(
                BadMessage,
                compose,
                SIMPLE,
                mail_id="1",
                message_id=MESSAGE_ID,
                date=seconds,
                parts={},
            )

    def test_nothing_reads_the_clock(self) -> None:
        """The modules a message is made with import no clock, no randomness, no Twisted."""
        for module in (compose_module, headers, lines, words):
            imported: set[str] = set()
            for node in ast.walk(ast.parse(inspect.getsource(module))):
                if isinstance(node, ast.ImportFrom):
                    imported.add(str(node.module))
                elif isinstance(node, ast.Import):
                    imported |= {alias.name for alias in node.names}
            roots = {name.partition(".")[0] for name in imported}
            self.assertEqual(set(), roots & {"time", "random", "os", "twisted", "uuid", "secrets"})
