from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.commands import (
    MAX_COMMAND,
    NO_DSN,
    Capabilities,
    UnsafeCommand,
    capabilities,
    command,
    plan,
)
from mailproxy.dsn import Dsn, OfRecipient, read
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
            (b"Subject: \xc3\xa9", "a@b.c", ALL, b"MAIL FROM:<a@b.c> SIZE=11 BODY=8BITMIME\r\n"),
            (b"To: \xe9@b.c", "a@b.c", ALL, b"MAIL FROM:<a@b.c> SIZE=9 BODY=8BITMIME\r\n"),
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

    def test_notifications_are_asked_for_where_they_are_offered(self) -> None:
        """RFC 3461: NOTIFY, ORCPT, RET and ENVID; elsewhere the timeline says that it could not."""
        dsn = Dsn(("SUCCESS", "DELAY"), "HDRS", "id=1+2")
        envelope = Envelope("a@b.c", ("x+y@z.z", "\u00e9@y.z"), b"abc", dsn)
        made = plan(envelope, attrs.evolve(ALL, dsn=True))
        self.assertEqual(
            (
                b"MAIL FROM:<a@b.c> SIZE=3 SMTPUTF8 RET=HDRS ENVID=id+3D1+2B2\r\n",
                b"RCPT TO:<x+y@z.z> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@z.z\r\n",
                "RCPT TO:<\u00e9@y.z> NOTIFY=SUCCESS,DELAY\r\n".encode(),
                b"DATA\r\n",
            ),
            made.commands,
        )
        self.assertEqual((), made.notes)
        made = plan(envelope, ALL)
        self.assertNotIn(b"NOTIFY", b"".join(made.commands))
        self.assertEqual((NO_DSN,), made.notes)

    def test_nobody_is_asked_for_what_was_not_asked(self) -> None:
        """A server that offers notifications is not told of them for nothing."""
        made = plan(Envelope("a@b.c", ("x@y.z",), b""), attrs.evolve(NONE, dsn=True))
        self.assertEqual(b"MAIL FROM:<a@b.c>\r\n", made.commands[0])
        dsn = Dsn(envid="x", recipients=(OfRecipient("x@y.z", ("NEVER",), "rfc822;o@p.q"),))
        made = plan(Envelope("", ("x@y.z", "v@y.z"), b"", dsn), attrs.evolve(NONE, dsn=True))
        self.assertEqual(
            (
                b"MAIL FROM:<> ENVID=x\r\n",
                b"RCPT TO:<x@y.z> NOTIFY=NEVER ORCPT=rfc822;o@p.q\r\n",
                b"RCPT TO:<v@y.z>\r\n",
            ),
            made.commands[:3],
        )

    @settings(deadline=None, max_examples=300)
    @given(st.text(max_size=200), st.text(max_size=600), st.text(max_size=120))
    def test_notifications_never_end_a_line(self, kind: str, original: str, envid: str) -> None:
        """S7: whatever an original recipient or an id is, each command is one line."""
        own = OfRecipient("x@y.z", ("FAILURE",), f"{kind};{original}")
        try:
            dsn = Dsn((), "FULL", read(None, None, envid).envid, (own,))
        except ValueError:
            dsn = Dsn((), "FULL", "", (own,))
        made = plan(Envelope("a@b.c", ("x@y.z",), b"", dsn), attrs.evolve(NONE, dsn=True))
        for line in made.commands:
            self.assertEqual((1, True), (line.count(b"\r\n"), line.isascii()))
            self.assertTrue(all(32 <= octet < 127 for octet in line[:-2]))

    def test_addresses_in_a_header_that_are_not_ascii_are_said(self) -> None:
        """RFC 6531: mail with such addresses is SMTPUTF8 mail, even if its envelope is ASCII."""
        body = "X: y\r\nto: x@y.z,\r\n \u00e9@y.z\r\n\r\nabc\r\n".encode()
        envelope = Envelope("a@b.c", ("x@y.z",), body)
        line = b"MAIL FROM:<a@b.c> SIZE=%d BODY=8BITMIME SMTPUTF8\r\n" % len(body)
        self.assertEqual(line, plan(envelope, ALL).commands[0])
        made = plan(envelope, NONE)
        self.assertEqual((b"MAIL FROM:<a@b.c>\r\n", 2), (made.commands[0], len(made.notes)))
        plain = "To: x@y.z\r\n\r\n\u00e9\r\n".encode()
        self.assertNotIn(b"UTF8", plan(Envelope("a@b.c", ("x@y.z",), plain), ALL).commands[0])

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
