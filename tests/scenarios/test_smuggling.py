"""
Mail and commands smuggled in over real sockets: nothing of a body is ever a command.

Each conversation ends with QUIT, so that a command too many is a reply too many; and whatever was
said, nothing may arrive for the victim.
"""

from __future__ import annotations

from base64 import b64encode
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.door import PASSWORD, STRANGER, USER, OpenDoor
from tests.scenarios.processes import peak_memory, wait_until
from tests.scenarios.wire import EVIL, VICTIM, Wire, cut

LIMIT = 1_000_000

HELLO = b"EHLO client.test\r\n"
ENVELOPE = b"MAIL FROM:<erp@example.test>\r\nRCPT TO:<anna@example.test>\r\n"
HEADER = b"From: erp@example.test\r\nSubject: x\r\n\r\n"
MESSAGE = HEADER + b"Hello.\r\n"
QUIT = b"QUIT\r\n"

#: Replies to HELLO and ENVELOPE, with the banner before them.
BEGUN = ["220", "250", "250", "250"]

PLAIN = b64encode(f"\0{USER}\0{PASSWORD}".encode())

#: Ends of a message that are none; after each the client would go on with commands.
ENDS = (
    *(b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r.\n", b"\n.\r"),
    *(b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\0\r\n.\0\r\n", b"\r\r\n.\r\r\n", b"\n\n.\r\n"),
    *(b"\r\n .\r\n", b"\r\n.\r\r\n", b"\r\n..\r\n", b"\r\n. \r\n", b"\r\n\x0b.\r\n"),
)


class SmugglingTests(SynchronousTestCase):
    door: ClassVar[OpenDoor]

    @classmethod
    def setUpClass(cls) -> None:
        cls.door = OpenDoor(
            GMP_MAX_MESSAGE_BYTES=str(LIMIT), GMP_SMTP_PLAINTEXT_AUTH=STRANGER, GMP_LOG_LEVEL="INFO"
        )
        cls.addClassCleanup(cls.door.close)

    def tearDown(self) -> None:
        """What was to be smuggled did not arrive, and nothing went wrong inside."""
        wait_until(lambda: self.door.pending() == 0, what="an empty queue")
        self.assertEqual([], self.door.copies(VICTIM))
        self.assertNotIn("Traceback", self.door.service.output())

    def wire(self, source: str = "127.0.0.1") -> Wire:
        wire = Wire(self.door.port, source)
        self.addCleanup(wire.close)
        return wire

    def told(self, *pieces: bytes, source: str = "127.0.0.1") -> list[str]:
        """The codes of all replies to what was sent in these pieces."""
        return self.wire(source).send(*pieces).codes()

    def test_s1_s2_only_crlf_dot_crlf_ends_a_message(self) -> None:
        """S1, S2: a client that takes anything else for the end of a message is one message off."""
        for end in ENDS:
            body = MESSAGE + b"x" + end + EVIL + HEADER + b"smuggled"
            clean = end in (b"\r\n..\r\n", b"\r\n .\r\n", b"\r\n. \r\n", b"\r\n\x0b.\r\n")
            for pieces in (
                [HELLO + ENVELOPE + b"DATA\r\n" + body + b"\r\n.\r\n" + QUIT],
                [
                    HELLO,
                    ENVELOPE,
                    b"DATA\r\n",
                    MESSAGE + b"x",
                    end,
                    EVIL,
                    HEADER,
                    b"\r\n.\r\n",
                    QUIT,
                ],
            ):
                expected = [*BEGUN, "354", "250" if clean else "550", "221"]
                self.assertEqual(expected, self.told(*pieces), end)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.sampled_from([*ENDS, EVIL, b"\r", b"\n", b".", b"\r\n", QUIT, b"BDAT 9 LAST\r\n"])
            | st.binary(max_size=30),
            max_size=12,
        ).map(b"".join),
        st.lists(st.integers(1, 60), max_size=12),
    )
    def test_any_body_in_any_pieces(self, body: bytes, sizes: list[int]) -> None:
        """F53: whatever is in a body, however it is cut, has one reply; the next is QUIT's."""
        stuffed = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
        wire = HELLO + ENVELOPE + b"DATA\r\n" + MESSAGE + stuffed + b"\r\n.\r\n" + QUIT
        codes = self.told(*cut(wire, sizes))
        self.assertEqual(([*BEGUN, "354"], "221"), (codes[:5], codes[6]))
        self.assertIn(codes[5], ("250", "550"))
        self.assertEqual(7, len(codes))

    def test_s3_commands_before_tls(self) -> None:
        """S3: what follows STARTTLS in clear is not carried out, in the same piece or later."""
        self.assertEqual(["220", "250", "554"], self.told(HELLO + b"STARTTLS\r\n" + EVIL))
        wire = self.wire()
        wire.reply()
        wire.say(HELLO[:-2])
        self.assertEqual(["220"], wire.say(b"STARTTLS"))
        wire.send(EVIL)  # in clear, after the go-ahead: no TLS record, so the end
        self.assertFalse([code for code in wire.codes() if code in ("250", "354")])

    def test_s3_a_new_session_after_tls(self) -> None:
        """S3: greeting, login and envelope of the time before TLS are forgotten."""
        with self.wire(STRANGER) as wire:
            wire.reply()
            said = (HELLO[:-2], b"AUTH PLAIN " + PLAIN, *ENVELOPE.split(b"\r\n")[:2], b"STARTTLS")
            self.assertEqual(["250", "235", "250", "250", "220"], wire.say(*said))
            wire.encrypt(self.door.context())
            self.assertEqual(["503", "503"], wire.say(b"DATA", b"MAIL FROM:<erp@example.test>"))
            self.assertEqual(["250"], wire.say(HELLO[:-2]))
            self.assertEqual(["530"], wire.say(b"MAIL FROM:<erp@example.test>"))
            self.assertEqual(["503", "235"], wire.say(b"STARTTLS", b"AUTH PLAIN " + PLAIN))
            self.assertEqual(["250"], wire.say(b"MAIL FROM:<erp@example.test>"))

    def test_s19_commands_within_a_login(self) -> None:
        """S19, F54: a line of an exchange is no command; what follows a login waits for it."""
        mail = b"MAIL FROM:<erp@example.test>\r\n"
        for sent, expected in (
            (b"AUTH PLAIN\r\n" + mail + QUIT, ["334", "501", "221"]),
            (b"AUTH LOGIN\r\n" + mail + QUIT, ["334", "501", "221"]),
            (b"AUTH LOGIN\r\n*\r\n" + mail + QUIT, ["334", "501", "530", "221"]),
            (b"AUTH PLAIN " + PLAIN + b"\r\n" + mail + QUIT, ["235", "250", "221"]),
            (b"AUTH PLAIN\r\n" + PLAIN + b"\r\n" + mail + QUIT, ["334", "235", "250", "221"]),
            (b"AUTH PLAIN \0\r\n" + EVIL, ["500"]),
            (b"AUTH PLAIN\r\n" + PLAIN + b"\n" + mail + QUIT, ["334", "500"]),
            (b"AUTH PLAIN " + b"A" * 20_000 + b"\r\n" + EVIL, ["500"]),
        ):
            found = self.told(HELLO + sent, source=STRANGER)
            self.assertEqual(["220", "250", *expected], found, sent[:60])

    def test_f53_lines_without_an_end(self) -> None:
        """F53: a command without an end is cut off, a body without one is not kept in memory."""
        process = self.door.service.process
        assert process is not None
        self.told(HELLO + ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r\n" + QUIT)
        before = peak_memory(process.pid)
        block = b"x" * (1 << 20)
        self.assertEqual(["220", "500"], self.told(b"NOOP ", *[block] * 20, EVIL)[:2])
        expected = [*BEGUN, "354", "552", "221"]
        endless = [HELLO + ENVELOPE + b"DATA\r\n" + HEADER, *[block] * 60, b"\r\n.\r\n" + QUIT]
        self.assertEqual(expected, self.told(*endless))
        long = [HELLO + ENVELOPE + b"DATA\r\n" + HEADER, block[:5000], b"\r\n.\r\n" + QUIT]
        self.assertEqual([*BEGUN, "354", "550", "221"], self.told(*long))
        self.assertLess(peak_memory(process.pid) - before, 30 << 20)

    def test_chunks_and_data(self) -> None:
        """BDAT beside DATA, out of order, too large, cut anywhere: its octets are no commands."""
        evil = MESSAGE + b"\r\n.\r\n" + EVIL
        chunk = b"BDAT %d\r\n%b" % (len(evil), evil)
        last = b"BDAT %d LAST\r\n%b" % (len(evil), evil)
        for sent, expected in (
            (ENVELOPE + last, ["250", "250", "250"]),
            (ENVELOPE + chunk + b"BDAT 0 LAST\r\n", ["250", "250", "250", "250"]),
            (ENVELOPE + chunk + b"DATA\r\n", ["250", "250", "250", "503"]),
            (ENVELOPE + chunk + b"RSET\r\n" + last, ["250", "250", "250", "250", "503"]),
            (last, ["503"]),
            (b"MAIL FROM:<erp@example.test>\r\n" + last, ["250", "503"]),
            (ENVELOPE + b"BDAT 5\r\na\nb\r\nBDAT 0 LAST\r\n", ["250", "250", "250", "550"]),
        ):
            wire = HELLO + sent + QUIT
            for pieces in ([wire], cut(wire, [7] * 12), cut(wire, [len(wire) - len(QUIT) - 3, 1])):
                self.assertEqual(["220", "250", *expected, "221"], self.told(*pieces), sent[:120])
        huge = HELLO + ENVELOPE + b"BDAT %d LAST\r\n" % (1 << 40) + EVIL
        self.assertEqual([*BEGUN, "552"], self.told(huge))
        within = HELLO + ENVELOPE + b"DATA\r\n" + MESSAGE + b"BDAT 9 LAST\r\n" + EVIL + b".\r\n"
        self.assertEqual([*BEGUN, "354", "250", "221"], self.told(within + QUIT))

    def test_f54_before_the_banner(self) -> None:
        """F54: who speaks before the banner, all at once, is answered in order."""
        wire = self.wire()
        message = ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r\n"
        codes = wire.send(HELLO + message * 20 + QUIT).codes()
        self.assertEqual(["220", "250", *["250", "250", "354", "250"] * 20, "221"], codes)

    def test_s20_bombs(self) -> None:
        """S20, F55: ten thousand fields are refused, parts nested a thousand deep are carried."""
        many = b"".join(b"X-%d: y\r\n" % n for n in range(10_000))
        deep = b"".join(
            b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n)
            for n in range(1000)
        )
        for body, code in ((many + HEADER, "550"), (HEADER[:-2] + deep, "250")):
            sent = HELLO + ENVELOPE + b"DATA\r\n" + body + b".\r\n" + QUIT
            self.assertEqual([*BEGUN, "354", code, "221"], self.told(sent))
