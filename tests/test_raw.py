"""Messages that come as RFC 5322 bytes: what is read of them, what is cut, what stays."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.compose import compose
from mailproxy.errors import BadMessage
from mailproxy.lines import canonical, is_canonical
from mailproxy.model import Content, Mailbox
from mailproxy.raw import KEPT_AS_TEXT, MAX_FIELDS, MAX_HEADER_BYTES, finish, given_back, kept, read
from tests.build import mailbox

FROM = b"From: Sender <sender@example.com>\r\n"
WIRE_ID = "<0123@mail.example.com>"
DATE = 1_750_000_000.0
ALL_THREE = (
    b"X-Genro-Mail-ID: m1\r\n"
    b"Date: Sun, 15 Jun 2025 15:06:40 +0000\r\n"
    b"Message-ID: <0123@mail.example.com>\r\n"
)


def problem(data: bytes) -> str:
    """Why *data* is not taken."""
    try:
        read(data)
    except BadMessage as error:
        return str(error)
    raise AssertionError("it was taken")


def wire(data: bytes) -> bytes:
    """What goes out for *data*."""
    return finish(read(data).data, mail_id="m1", message_id=WIRE_ID, date=DATE)


class ReadTests(SynchronousTestCase):
    def test_what_is_read(self) -> None:
        """Sender, subject and Message-ID are read, unfolded and decoded."""
        found = read(
            b'from : "Rossi, Anna"\r\n <Anna@EXAMPLE.org>\r\n'
            b"Subject: =?utf-8?q?caff=C3=A8?=\r\n\tand more\r\n"
            b"MESSAGE-ID:\r\n <a@b.c> (a comment)\r\n\r\nText\r\n"
        )
        self.assertEqual(Mailbox("Rossi, Anna", "Anna", "example.org"), found.sender)
        self.assertEqual(("caffè and more", "<a@b.c>"), (found.subject, found.message_id))
        self.assertEqual((), found.cut)

    def test_a_sender_that_cannot_be_read(self) -> None:
        """A From that is no address we know is left as it is; nobody is shown as the sender."""
        for value in (b"", b"undisclosed:;", b"a@b@c", b"\xff\xfe", b"a@example.org,\r\n " * 300):
            data = b"From: " + value + b"\r\n\r\n"
            self.assertIsNone(read(data).sender)
            self.assertEqual(data, read(data).data)

    def test_cut(self) -> None:
        """Blind recipients and the fields that are ours to write are cut, with all their lines."""
        found = read(
            b"Bcc: a@example.org,\r\n b@example.org\r\n"
            + FROM
            + b"bcc : c@example.org\r\nX-Genro-Mail-ID: theirs\r\nResent-Bcc: d@example.org\r\n"
            b"X-MailProxy-Anything: x\r\n\tmore\r\nX-Other: y\r\n\r\nBcc: text\r\n"
        )
        self.assertEqual(FROM + b"X-Other: y\r\n\r\nBcc: text\r\n", found.data)
        self.assertEqual(
            ("Bcc", "bcc", "X-Genro-Mail-ID", "Resent-Bcc", "X-MailProxy-Anything"), found.cut
        )

    def test_a_field_behind_a_bare_line_end(self) -> None:
        """What a bare CR or LF makes a line of is read as the line it becomes."""
        for end in (b"\r", b"\n"):
            found = read(b"Subject: x" + end + b"Bcc: a@example.org" + end + FROM + end + b"text")
            self.assertEqual(b"Subject: x\r\n" + FROM + b"\r\ntext", found.data)

    def test_no_body(self) -> None:
        """A message may end with its header."""
        for data in (FROM, FROM + b"\r\n", FROM.rstrip()):
            self.assertEqual(data, read(data).data)

    def test_refused(self) -> None:
        """What cannot go on as it is, or could be read in two ways, is refused."""
        for data, expected in (
            (b"", "message: no From field"),
            (b"\r\ntext", "message: no From field"),
            (b"Subject: x\r\n\r\n" + FROM, "message: no From field"),
            (FROM + b"FROM: b@example.org\r\n\r\n", "message: more than one From field"),
            (FROM + b"Date: x\r\ndate: y\r\n\r\n", "message: more than one Date field"),
            (
                FROM + b"Message-ID: <a@b>\r\nMessage-Id: <a@b>\r\n\r\n",
                "message: more than one Message-Id field",
            ),
            (b"From a@b Mon\r\n" + FROM, "message: line 1 of the header is not a header field"),
            (b" x\r\n" + FROM, "message: line 1 of the header is not a header field"),
            (FROM + b"no colon\r\n\r\n", "message: line 2 of the header is not a header field"),
            (FROM + b"N\xc3\xa4me: x\r\n", "message: line 2 of the header is not a header field"),
            (FROM + b": x\r\n\r\n", "message: line 2 of the header is not a header field"),
            (FROM + b"\r\nte\0xt", "message: a NUL octet"),
            (FROM + b"X: \0\r\n\r\ntext", "message: a NUL octet"),
            (FROM + b"\r\n" + b"x" * 999, "message: a line longer than 998 octets"),
            (FROM + b"X-Y: " + b"x" * 994 + b"\r\n", "message: a line longer than 998 octets"),
            (FROM + b"X: y\r\n" * MAX_FIELDS, f"message: more than {MAX_FIELDS} header fields"),
            (
                FROM + (b"X: " + b"y" * 900 + b"\r\n") * (MAX_HEADER_BYTES // 900),
                f"message: a header larger than {MAX_HEADER_BYTES} bytes",
            ),
        ):
            self.assertEqual(expected, problem(data))

    def test_message_ids(self) -> None:
        """A Message-ID of its own has to be one."""
        for value in (b"", b"abc", b"<>", b"<a b>", b"<\xc3\xa4@b>"):
            text = problem(FROM + b"Message-ID: " + value + b"\r\n\r\n")
            self.assertTrue(text.startswith("message_id: "), text)

    def test_longest(self) -> None:
        """Lines of 998 octets are as long as lines may be."""
        data = FROM + b"\r\n" + b"x" * 998 + b"\r\n" + b"y" * 998
        self.assertEqual(data, read(data).data)


class FinishTests(SynchronousTestCase):
    def test_what_is_missing(self) -> None:
        """The id goes in front, and with it Date and Message-ID where there are none."""
        body = FROM + b"\r\nDate: in the text\r\nMessage-ID: there too\r\n"
        self.assertEqual(ALL_THREE + body, wire(body))

    def test_what_is_there(self) -> None:
        """A Date and a Message-ID that are there stay alone, however they are written."""
        body = b"date : then\r\n" + FROM + b"MESSAGE-id:\r\n <a@b>\r\n\r\n"
        self.assertEqual(b"X-Genro-Mail-ID: m1\r\n" + body, wire(body))

    def test_continuation_lines_are_no_fields(self) -> None:
        """What stands in a folded line is no field of its own."""
        body = b"Subject: x\r\n Date: y\r\n\tMessage-ID: <a@b>\r\n" + FROM + b"\r\n"
        self.assertEqual(ALL_THREE + body, wire(body))

    def test_odd_id(self) -> None:
        """An id outside ASCII goes out as encoded words; one with a line end is refused."""
        text = finish(FROM, mail_id="è" * 40, message_id=WIRE_ID, date=DATE)
        self.assertTrue(text.isascii())
        with self.assertRaises(BadMessage):
            finish(FROM, mail_id="a\r\nBcc: b", message_id=WIRE_ID, date=DATE)
        with self.assertRaises(BadMessage):
            finish(FROM, mail_id="a", message_id="<a>\r\nBcc: b", date=DATE)

    def test_compose(self) -> None:
        """Composing a raw message gives exactly that, and needs its bytes."""
        content = Content(sender=mailbox("sender@example.com"), raw=True)
        given = {"mail_id": "m1", "message_id": WIRE_ID, "date": DATE}
        body = FROM + b"\r\ntext \xff\r\n.\r\n"
        self.assertEqual(ALL_THREE + body, compose(content, parts={1: body}, **given))  # type: ignore[arg-type]
        with self.assertRaises(BadMessage):
            compose(content, parts={}, **given)  # type: ignore[arg-type]


_names = st.sampled_from(
    b"Bcc BCC X-Genro-Mail-ID X-Mailproxy-Test Resent-bcc Received Date Message-ID X-A".split()
)
_values = st.sampled_from([b"<a@b>", b"x", b"", b"y\r\n more", b"z\n\tfolded\r\n again", b"\xe8"])
_ends = st.sampled_from([b"\r\n", b"\n", b"\r"])
_rows = st.lists(st.tuples(_names, _values, _ends), max_size=8)
_bodies = st.lists(
    st.sampled_from([b"", b"Bcc: x", b".", b"text ", b"\xff\xfe", b"From z", b"\r", b"\n", b"\r\n"])
    | st.binary(max_size=20).map(lambda data: data.replace(b"\0", b"")),
    max_size=8,
).map(b"\r\n".join)

_OURS = re.compile(rb"(?i)(bcc|x-genro-mail-id|x-mailproxy-test|resent-bcc):")


class PropertyTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(_rows, _bodies, st.integers(0, 8))
    def test_nothing_else_is_touched(
        self, rows: list[tuple[bytes, bytes, bytes]], body: bytes, place: int
    ) -> None:
        """But for line ends, what was cut and what went in front, a message leaves as it came."""
        fields = [name + b": " + value + end for name, value, end in rows]
        fields.insert(place, FROM)
        kept = [canonical(each) for each in fields if not _OURS.match(each)]
        data = b"".join([*fields, b"\r\n", body])
        try:
            out = wire(data)
        except BadMessage:
            names = [name.lower() for name, _, _ in rows]
            bad_id = any(n == b"Message-ID" and b"<" not in v for n, v, _ in rows)
            twice = names.count(b"date") > 1 or names.count(b"message-id") > 1
            self.assertTrue(bad_id or twice, data)
            return
        expected = b"".join([*kept, b"\r\n", canonical(body)])
        self.assertTrue(out.endswith(expected), (out, expected))
        self.assertTrue(is_canonical(out))
        front = out[: len(out) - len(expected)].split(b"\r\n")
        names = [line.partition(b":")[0] for line in front if line]
        here = [name.lower() for name, _, _ in rows]
        wanted = [b"X-Genro-Mail-ID"]
        wanted += [n for n in (b"Date", b"Message-ID") if n.lower() not in here]
        self.assertEqual(wanted, names)

    @settings(deadline=None)
    @given(st.binary(max_size=300))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes is read or refused."""
        for each in (data, FROM + data):
            try:
                found = read(each)
            except BadMessage:
                continue
            self.assertTrue(is_canonical(found.data))
            self.assertEqual(found.data, read(found.data).data)

    @given(st.binary(max_size=300), st.booleans())
    def test_kept_and_given_back(self, data: bytes, large: bool) -> None:
        """What is kept, as text in a payload or as a part, is given back to the octet."""
        data += b"\xe4" * (KEPT_AS_TEXT + 1) if large else b""
        text, parts = kept(data)
        self.assertEqual(large, text is None)
        content = Content(Mailbox("", "a", "x.org"), plain=text, raw=True)
        again = payload.load(payload.dump(content))
        self.assertEqual(data, given_back(again.plain, dict(enumerate(parts, 1))))
