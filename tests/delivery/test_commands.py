from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.commands import (
    MAX_COMMAND,
    Capabilities,
    UnsafeCommand,
    capabilities,
    command,
    plan,
)
from mailproxy.model import Envelope

ALL = Capabilities(pipelining=True, size_offered=True, size=1000, eight_bit=True, utf8=True)
NONE = Capabilities()


class CommandTests(SynchronousTestCase):
    def test_a_command_is_one_line(self) -> None:
        """S7: CR, LF and NUL never get into a command, whatever it is made of."""
        for bad in (b"\r", b"\n", b"\0", b"\r\nRSET"):
            self.assertRaises(UnsafeCommand, command, b"EHLO me" + bad)

    def test_a_command_is_short(self) -> None:
        """RFC 5321, section 4.5.3.1.4: 512 octets with the CRLF, no more."""
        self.assertEqual(MAX_COMMAND, len(command(b"x" * 510)))
        self.assertRaises(UnsafeCommand, command, b"x" * 511)


class CapabilityTests(SynchronousTestCase):
    def test_case_does_not_matter(self) -> None:
        """Keywords are found however they are written."""
        found = capabilities("peer\nstarttls\nauth plain Login\npipelining\nsize 5")
        self.assertEqual(
            Capabilities(
                pipelining=True,
                size_offered=True,
                size=5,
                starttls=True,
                auth=frozenset({"PLAIN", "LOGIN"}),
            ),
            found,
        )

    def test_the_greeting_offers_nothing(self) -> None:
        """The first line is a name, even if it looks like a keyword."""
        self.assertEqual(NONE, capabilities("PIPELINING"))

    def test_the_old_spelling_of_auth_is_read(self) -> None:
        """``AUTH=PLAIN`` is understood."""
        self.assertEqual({"PLAIN"}, capabilities("peer\nAUTH=PLAIN").auth)

    def test_a_size_that_is_no_number_is_no_limit(self) -> None:
        """What cannot be understood limits nothing."""
        for text in ("SIZE", "SIZE x", "SIZE -1", "SIZE " + "9" * 30, "SIZE \u0661"):
            self.assertEqual(0, capabilities(f"peer\n{text}").size, text)


class PlanTests(SynchronousTestCase):
    def test_parameters_only_when_offered_and_needed(self) -> None:
        """SIZE goes with every MAIL that may have it; 8BITMIME and SMTPUTF8 only when needed."""
        for body, sender, offered, line in (
            (b"abc", "a@b.c", NONE, b"MAIL FROM:<a@b.c>\r\n"),
            (b"abc", "a@b.c", ALL, b"MAIL FROM:<a@b.c> SIZE=3\r\n"),
            (b"\xff", "a@b.c", ALL, b"MAIL FROM:<a@b.c> SIZE=1 BODY=8BITMIME\r\n"),
            (b"abc", "\u00e9@b.c", ALL, "MAIL FROM:<\u00e9@b.c> SIZE=3 SMTPUTF8\r\n".encode()),
            (b"abc", "", NONE, b"MAIL FROM:<>\r\n"),
        ):
            made = plan(Envelope(sender, ("x@y.z",), body), offered)
            self.assertEqual((line, b"RCPT TO:<x@y.z>\r\n", b"DATA\r\n"), made.commands)

    def test_a_message_the_server_would_not_take_is_not_uploaded(self) -> None:
        """F33: with SIZE known, a larger message is refused by us and nothing is sent."""
        made = plan(Envelope("a@b.c", ("x@y.z",), b"x" * 1001), ALL)
        self.assertEqual((), made.commands)
        assert made.mail is not None
        self.assertEqual((552, "5.3.4"), (made.mail.code, made.mail.enhanced))
        self.assertTrue(made.notes)

    def test_an_address_the_server_cannot_read_is_refused_alone(self) -> None:
        """Without SMTPUTF8 a recipient that needs it is refused, the others are asked."""
        made = plan(Envelope("a@b.c", ("\u00e9@y.z", "x@y.z"), b""), NONE)
        self.assertEqual((1,), tuple(made.asked))
        self.assertEqual(3, len(made.commands))
        assert made.rcpts[0] is not None
        self.assertEqual((553, "5.6.7"), (made.rcpts[0].code, made.rcpts[0].enhanced))
        self.assertIsNone(made.rcpts[1])

    def test_a_sender_the_server_cannot_read_refuses_the_message(self) -> None:
        """Without SMTPUTF8 a sender that needs it leaves nothing to send."""
        made = plan(Envelope("\u00e9@b.c", ("x@y.z",), b""), NONE)
        assert made.mail is not None
        self.assertEqual(((), 553), (made.commands, made.mail.code))

    def test_quoted_local_parts_and_literals_pass(self) -> None:
        """Everything the address grammar allows can be sent."""
        for address in ('"a b>"@c.d', '"\\""@c.d', "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]"):
            made = plan(Envelope("a@b.c", (address,), b""), NONE)
            self.assertEqual(f"RCPT TO:<{address}>\r\n".encode(), made.commands[1])

    def test_addresses_that_are_none_are_not_sent(self) -> None:
        """S6: what could end an address early is never written."""
        for address in (
            "a@b> SIZE=1",
            "a@b\r\nRSET",
            "a b@c",
            "a@b@c",
            '"a@b',
            "@c",
            "a@",
            "",
            "a@b\0",
            "<a@b>",
            "a,b@c",
            "a\ud800@b",
            '"a\r\n"@b',
        ):
            with self.subTest(address=address):
                self.assertRaises(UnsafeCommand, plan, Envelope("a@b.c", (address,), b""), ALL)

    @settings(deadline=None, max_examples=300)
    @given(
        st.text(max_size=30),
        st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3),
    )
    def test_whatever_the_addresses_are_each_command_is_one_line(
        self, sender: str, recipients: list[str]
    ) -> None:
        """S6: a plan is refused, or has one line for each command and one pair of brackets each."""
        try:
            made = plan(Envelope(sender, tuple(recipients), b""), ALL)
        except UnsafeCommand:
            return
        self.assertEqual(2 + len(recipients), len(made.commands))
        for line in made.commands:
            self.assertEqual(1, line.count(b"\r") + line.count(b"\n") - 1)
            self.assertTrue(line.endswith(b"\r\n"))
            self.assertNotIn(b"\0", line)
