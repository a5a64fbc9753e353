"""Composed messages read by the standard library's parser: they say what the client wrote."""

from __future__ import annotations

import re
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from email.policy import default

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.address import parse_mailboxes
from mailproxy.compose import compose
from mailproxy.errors import BadMessage
from mailproxy.lines import is_canonical
from mailproxy.model import Attachment, Content, Mailbox

MESSAGE_ID = "<0123456789abcdef@mail.example.org>"
SENDER = Mailbox("", "sender", "example.org")

# Any text a header can say: no control characters, no lone surrogates.
_plain = st.characters(exclude_categories=["Cc", "Cs"])
_pieces = st.sampled_from(
    ["=?", "?=", "=?utf-8?q?x?=", " ", "  ", '"', "\\", "word", ", ", "é", "日本"]
)
words = st.lists(_pieces | st.text(_plain, max_size=8), max_size=12).map("".join)
long_words = st.lists(
    st.sampled_from(["lorem", "ipsum", "dölor", "sit-amet", "x" * 90]), max_size=40
)
header_texts = words | long_words.map(" ".join)

# At most what the address parser reads back, once it is encoded.
displays = header_texts.map(lambda text: text[:300]).map(
    lambda text: re.sub(" +", " ", text).strip(" ")
)
mailboxes = st.builds(
    Mailbox,
    displays,
    st.sampled_from(["a", "john.doe", '"a b"', '"a@b, <c>"', '"q\\"q"', "x+y"]),
    st.sampled_from(["b.c", "example.com", "xn--bcher-kva.example", "[192.0.2.1]"]),
)
boxes = st.lists(mailboxes, max_size=5).map(tuple)

# Bodies: what encodings, boundaries and line ends could stumble over.
_lines = st.sampled_from(
    [
        "",
        ".",
        "..",
        "From x",
        "--",
        "--=_",
        "=",
        "=20",
        "trailing ",
        "tab\t",
        "\0",
        "é",
        "日本" * 20,
    ]
)
_ends = st.sampled_from(["\n", "\r\n", "\r", "", "\n\n"])
texts = st.lists(
    st.tuples(_lines | st.text(st.characters(exclude_categories=["Cs"]), max_size=30), _ends)
    | st.tuples(st.integers(990, 1010).map("x".__mul__), _ends),
    max_size=8,
).map(lambda rows: "".join(text + end for text, end in rows))

filenames = st.text(_plain, min_size=1, max_size=60) | words.filter(bool)
types = st.sampled_from(["application/pdf", "text/csv", "image/PNG", "message/rfc822", ""])
files = st.lists(st.tuples(filenames, types, st.binary(max_size=200)), max_size=3)
names = st.sampled_from(["X-One", "X-Two", "List-Unsubscribe", "Precedence", "X-" + "n" * 70])
customs = st.lists(st.tuples(names, header_texts), max_size=3, unique_by=lambda pair: pair[0])


def read(data: bytes) -> EmailMessage:
    message = BytesParser(policy=default).parsebytes(data)
    assert isinstance(message, EmailMessage)
    return message


def canonical_text(text: str) -> str:
    """*text* with LF for every line end, and one at its end, as a reader of the part sees it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if not text or text.endswith("\n") else text + "\n"


def text_of(part: MIMEPart) -> str:
    """The text of a part, decoded by hand: ``get_content`` strips nothing we want to see."""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8").replace("\r\n", "\n")


def raw_header(message: EmailMessage, name: str) -> str:
    """The header as it was sent, unfolded."""
    ((_, value),) = [pair for pair in message.raw_items() if pair[0] == name]
    return str(value).replace("\r\n", "").replace("\n", "")


def addresses(message: EmailMessage, name: str) -> list[tuple[str, str]]:
    header = message[name]
    if header is None:
        return []
    found = []
    for address in header.addresses:
        display = "".join(address.display_name.split())
        found.append((display, f"{address.username}@{address.domain}"))
    return found


def expected(mailboxes: tuple[Mailbox, ...]) -> list[tuple[str, str]]:
    out = []
    for mailbox in mailboxes:
        local = mailbox.local
        if local.startswith('"'):
            local = re.sub(r"\\(.)", r"\1", local[1:-1])
        out.append(("".join(mailbox.display.split()), f"{local}@{mailbox.domain}"))
    return out


class WireTests(SynchronousTestCase):
    def assert_wire(self, data: bytes) -> None:
        self.assertTrue(data.isascii())
        self.assertNotIn(b"\0", data)
        self.assertTrue(is_canonical(data))
        self.assertTrue(data.endswith(b"\r\n"))
        self.assertLessEqual(max(map(len, data.split(b"\r\n"))), 998)

    def compose(self, content: Content, mail_id: str = "id-1", **parts: bytes) -> EmailMessage:
        data = compose(content, mail_id=mail_id, message_id=MESSAGE_ID, date=1.75e9, parts={})
        self.assert_wire(data)
        return read(data)

    @given(header_texts, header_texts)
    @example("a  b" * 40, " x ")
    @example("x" * 996, "y" * 1500)
    @settings(max_examples=250, deadline=None)
    def test_subject_and_id(self, subject: str, mail_id: str) -> None:
        """Subject and id are read exactly as they were given."""
        message = self.compose(Content(SENDER, subject=subject), mail_id)
        self.assertEqual(subject, message["Subject"])
        self.assertEqual(mail_id, message["X-Genro-Mail-ID"])

    @given(mailboxes, boxes, boxes, boxes)
    @settings(max_examples=250, deadline=None)
    def test_addresses(
        self,
        sender: Mailbox,
        to: tuple[Mailbox, ...],
        cc: tuple[Mailbox, ...],
        reply_to: tuple[Mailbox, ...],
    ) -> None:
        """Every address is read with its display name, in order; Bcc does not appear."""
        content = Content(sender, to=to, cc=cc, reply_to=reply_to, bcc=(SENDER,))
        message = self.compose(content)
        self.assertNotIn("bcc", message)
        for name, mailboxes in (
            ("From", (sender,)),
            ("To", to),
            ("Cc", cc),
            ("Reply-To", reply_to),
        ):
            self.assertEqual(expected(mailboxes), addresses(message, name))
            self.assertEqual((), getattr(message[name], "defects", ()), name)
            # The library strips names and, in some Python versions, puts spaces between the
            # encoded words of one, so the exact name is what our own parser reads.
            raw = message.get(name, "") if not mailboxes else raw_header(message, name)
            self.assertEqual(mailboxes, parse_mailboxes(raw))

    @given(customs)
    @settings(max_examples=250, deadline=None)
    def test_custom_headers(self, custom: list[tuple[str, str]]) -> None:
        """Headers of the client's own are read exactly as they were given."""
        message = self.compose(Content(SENDER, headers=tuple(custom)))
        for name, value in custom:
            self.assertEqual([value], message.get_all(name))

    @given(st.none() | texts, st.none() | texts)
    @settings(max_examples=250, deadline=None)
    def test_texts(self, plain: str | None, html: str | None) -> None:
        """Plain and HTML text are read as written, with canonical line ends."""
        message = self.compose(Content(SENDER, plain=plain, html=html))
        wanted = [("text/plain", plain), ("text/html", html)]
        written = [(kind, text) for kind, text in wanted if text is not None]
        written = written or [("text/plain", "")]
        if len(written) == 1:
            found: list[MIMEPart] = [message]
        else:
            self.assertEqual("multipart/alternative", message.get_content_type())
            found = list(message.iter_parts())
        self.assertEqual([], [defect for part in message.walk() for defect in part.defects])
        self.assertEqual(
            [(kind, canonical_text(text)) for kind, text in written],
            [(part.get_content_type(), text_of(part)) for part in found],
        )

    @given(st.none() | texts, st.none() | texts, files)
    @settings(max_examples=250, deadline=None)
    def test_attachments(
        self, plain: str | None, html: str | None, files: list[tuple[str, str, bytes]]
    ) -> None:
        """Attachments are read with their names and bytes, beside the text."""
        attachments = tuple(
            Attachment(name, kind, number) for number, (name, kind, _) in enumerate(files, 1)
        )
        content = Content(SENDER, plain=plain, html=html, attachments=attachments)
        parts = {number: data for number, (_, _, data) in enumerate(files, 1)}
        data = compose(content, mail_id="1", message_id=MESSAGE_ID, date=0.0, parts=parts)
        self.assert_wire(data)
        message = read(data)
        self.assertEqual([], [defect for part in message.walk() for defect in part.defects])
        found = [
            (part["Content-Disposition"].params["filename"], part.get_payload(decode=True))
            for part in message.walk()
            if part.get_content_disposition() == "attachment"
        ]
        self.assertEqual([(name, data) for name, _, data in files], found)
        if files:
            self.assertEqual("multipart/mixed", message.get_content_type())
        for kind, text in (("text/plain", plain), ("text/html", html)):
            if text is not None:
                bodies = [
                    part
                    for part in message.walk()
                    if part.get_content_type() == kind and not part.get_content_disposition()
                ]
                self.assertEqual([canonical_text(text)], [text_of(part) for part in bodies])


# Text that tries to be more than text. The first kind may stand in a message, if it is written
# with care; the second, line breaks of every kind with whole headers after them, may not.
_SLY = (
    *("=?utf-8?q?=0D=0ABcc:_x@evil?=", "Bcc: x@evil.example", ">, <x@evil.example", "\u2028", '"'),
    *("\\", ";", "=", "@", "<", ">", "é", " ", "a", ",", ":", "(", "*0*=", "?=", "\t", "--=_"),
)
_RUDE = (
    "\r",
    "\n",
    "\r\n",
    "\0",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x85",
    "\ud800",
    "\r\nBcc: x@evil.example",
)
sly = st.lists(st.sampled_from(_SLY), max_size=6).map("".join)
rude = st.lists(st.sampled_from(_SLY + _RUDE), max_size=6).map("".join)

# Every text field is sly; at most one is rude, and addresses, ids and types are left alone else.
_FREE = ("subject", "mail_id", "display", "plain", "html", "filename", "value")
_GRAMMAR = {
    "local": "{}",
    "domain": "{}",
    "message_id": "<{}@x>",
    "mime_type": "t/{}",
    "name": "X-{}",
}
attacks = st.tuples(
    st.fixed_dictionaries({}, optional=dict.fromkeys(_FREE, sly)),
    st.just({})
    | st.one_of([st.fixed_dictionaries({name: rude}) for name in _FREE])
    | st.one_of(
        [
            st.fixed_dictionaries({name: (sly | rude).map(form.format)})
            for name, form in _GRAMMAR.items()
        ]
    ),
).map(lambda pair: pair[0] | pair[1])

_ALWAYS = ["from", "subject", "date", "message-id", "x-genro-mail-id", "mime-version"]


class InjectionTests(SynchronousTestCase):
    @given(attacks)
    @settings(max_examples=400, deadline=None)
    def test_no_field_becomes_a_header(self, fields: dict[str, str]) -> None:
        """Whatever the fields hold, a message has exactly its headers and parts, or is refused."""
        get = fields.get
        box = Mailbox(get("display", ""), get("local", "a"), get("domain", "b.c"))
        content = Content(
            sender=box,
            to=(box, box),
            subject=get("subject", ""),
            plain=get("plain", "text"),
            html=get("html"),
            headers=((get("name", "X-A"), get("value", "v")),),
            attachments=(Attachment(get("filename", "f"), get("mime_type", ""), 1),),
        )
        try:
            data = compose(
                content,
                mail_id=get("mail_id", "1"),
                message_id=get("message_id", MESSAGE_ID),
                date=0.0,
                parts={1: b"data"},
            )
        except BadMessage as error:
            for value in fields.values():
                if len(value) > 8:
                    self.assertNotIn(value, error.problem)
            return
        message = read(data)
        custom = get("name", "X-A").lower()
        self.assertEqual(
            sorted([*_ALWAYS, "to", "content-type", custom]), sorted(map(str.lower, message.keys()))
        )
        self.assertEqual([1, 2], [len(message[name].addresses) for name in ("From", "To")])
        top = list(message.iter_parts())
        self.assertEqual(2, len(top))
        for part in message.walk():
            self.assertLessEqual(
                set(map(str.lower, part.keys())) - set(map(str.lower, message.keys())),
                {"content-transfer-encoding", "content-disposition"},
            )
        self.assertEqual(b"data", top[1].get_payload(decode=True))

    @given(st.sampled_from(["subject", "plain", "html"]), st.integers(0, 6))
    @settings(max_examples=60, deadline=None)
    def test_the_same_input_gives_the_same_bytes(self, field: str, size: int) -> None:
        """Composing twice gives equal bytes, and a changed field changes them."""
        content = Content(SENDER, plain="a", html="b", attachments=(Attachment("f", "", 1),))
        other = attrs.evolve(content, **{field: "x" * (size + 2)})  # type: ignore[arg-type]
        first, again, changed = (
            compose(c, mail_id="1", message_id=MESSAGE_ID, date=0.0, parts={1: b"x" * size})
            for c in (content, attrs.evolve(content), other)
        )
        self.assertEqual(first, again)
        self.assertNotEqual(first, changed)
