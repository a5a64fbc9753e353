"""Messages by SMTP: one reply for each command, in order, and nothing of a body is a command."""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.submission.desk import Reply
from mailproxy.submission.gate import GateRules
from mailproxy.submission.visit import MAX_ERRORS, MAX_IDLING
from tests.submission.talk import MAIL, House

EVIL = b"MAIL FROM:<evil@x.org>\r\nRCPT TO:<victim@y.org>\r\nDATA\r\n"


class TransactionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House()
        self.talk = self.house.connect()

    def test_banner_and_extensions(self) -> None:
        """The banner names us, and EHLO lists what is offered, and no more."""
        self.assertEqual(["220 mx.example.net ESMTP"], self.talk.banner)
        offered = {line[4:].split()[0] for line in self.talk.hello()[1:]}
        self.assertEqual(
            {
                *("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"),
                *("DSN", "CHUNKING", "SIZE"),
            },
            offered,
        )

    def test_one_message(self) -> None:
        """A message is handed over with its envelope, and its reply is what that came to."""
        self.talk.hello()
        codes = self.talk.mail(to=(b"b@y.org", b"c@Y.org"))
        self.assertEqual(["250", "250", "250", "354", "250"], codes)

        (handed,) = self.house.intake.handed
        self.assertEqual("a@x.org", handed.mail.sender)
        self.assertEqual(["b@y.org", "c@y.org"], [each.recipient for each in handed.recipients])
        self.assertEqual((MAIL, False), (handed.data, handed.bare))
        self.assertEqual(
            ("192.0.2.7", "client.example", "ESMTP", ""),
            (handed.peer, handed.helo, handed.protocol, handed.tls),
        )

    def test_many_messages(self) -> None:
        """One connection carries message after message, with HELO as well."""
        self.talk.send(b"HELO old.example\r\n")
        for _ in range(3):
            self.assertEqual("250", self.talk.mail()[-1])
        self.assertEqual(["SMTP"] * 3, [each.protocol for each in self.house.intake.handed])

    def test_f54_next_command_waits_for_the_commit(self) -> None:
        """F54: the reply to the next command does not come before the message is stored."""
        stored: Deferred[Reply] = Deferred()
        self.house.intake.answers.append(stored)
        self.talk.hello()
        self.talk.envelope()
        self.talk.send(b"DATA\r\n")
        self.assertEqual([], self.talk.codes(MAIL + b".\r\nMAIL FROM:<n@x.org>\r\nNOOP\r\n"))

        stored.callback(Reply(451, b"4.3.0 no"))
        replies = self.talk.replies()
        self.assertEqual(["451", "250", "250"], [line[:3] for line in replies])

    def test_reply_is_what_it_came_to(self) -> None:
        """What a message came to is said as it is: kept, refused for now, refused for good."""
        self.talk.hello()
        for code in (250, 451, 452, 550, 554):
            self.house.intake.answers.append(Reply(code, b"x.y.z because"))
            self.assertEqual(str(code), self.talk.mail()[-1])

    def test_an_error_of_ours_is_temporary(self) -> None:
        """An exception while a message is taken is a 451: the client keeps its mail."""
        self.house.intake.answers.append(RuntimeError("a bug"))
        self.talk.hello()
        self.assertEqual("451", self.talk.mail()[-1])
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual("250", self.talk.mail()[-1])

    def test_order_of_commands(self) -> None:
        """A command out of order is refused, and the transaction goes on."""
        self.assertEqual(["503"], self.talk.codes(b"MAIL FROM:<a@x.org>\r\n"))
        self.talk.hello()
        for line in (b"RCPT TO:<b@y.org>", b"DATA"):
            self.assertEqual(["503"], self.talk.codes(line + b"\r\n"))
        self.talk.send(b"MAIL FROM:<a@x.org>\r\n")
        self.assertEqual(["503", "503"], self.talk.codes(b"MAIL FROM:<a@x.org>\r\nDATA\r\n"))
        self.assertEqual(["250", "354"], self.talk.codes(b"RCPT TO:<b@y.org>\r\nDATA\r\n"))
        self.assertEqual(["250"], self.talk.codes(b".\r\n"))

    def test_rset_and_ehlo_forget(self) -> None:
        """RSET and EHLO forget sender and recipients."""
        self.talk.hello()
        for forget in (b"RSET\r\n", b"EHLO again.example\r\n"):
            self.talk.envelope()
            self.talk.send(forget)
            self.assertEqual(["503"], self.talk.codes(b"DATA\r\n"))

    def test_small_commands(self) -> None:
        """Commands that change nothing have their replies; unknown ones are refused."""
        for line, code in (
            (b"NOOP", "250"),
            (b"noop anything", "250"),
            (b"VRFY a@x.org", "252"),
            (b"EXPN list", "502"),
            (b"HELP", "214"),
            (b"TURN", "500"),
            (b"", "500"),
            (b"\xff\xfe", "500"),
            (b"EHLO", "501"),
        ):
            self.assertEqual([code], self.talk.codes(line + b"\r\n"), line)
        self.assertEqual(["221"], self.talk.codes(b"QUIT\r\n"))
        self.assertTrue(self.talk.closed)

    def test_stopping(self) -> None:
        """A service that stops takes no further message, and says goodbye to who waits for none."""
        self.talk.hello()
        stored: Deferred[Reply] = Deferred()
        self.house.intake.answers.append(stored)
        self.talk.envelope()
        self.talk.send(b"DATA\r\n" + MAIL + b".\r\n")
        self.house.intake.stopping = True
        self.talk.protocol.end()
        self.assertFalse(self.talk.closed)

        stored.callback(Reply(250, b"2.0.0 queued"))

        self.assertEqual(["250 2.0.0 queued"], self.talk.replies())
        self.assertTrue(self.talk.closed)
        late = self.house.connect()
        late.hello()
        self.assertEqual(["421"], late.codes(b"MAIL FROM:<a@x.org>\r\n"))


class LimitTests(SynchronousTestCase):
    def test_size_at_mail(self) -> None:
        """A message that is declared too large is refused before it is sent."""
        talk = House(max_size=1000).connect()
        talk.hello()
        self.assertEqual(["552"], talk.codes(b"MAIL FROM:<a@x.org> SIZE=1001\r\n"))
        self.assertEqual(["250"], talk.codes(b"MAIL FROM:<a@x.org> SIZE=1000\r\n"))

    def test_size_while_it_comes(self) -> None:
        """One that is too large is read to its end, refused there, and the session goes on."""
        house = House(max_size=1000)
        talk = house.connect()
        talk.hello()
        self.assertEqual("552", talk.mail(body=b"x" * 998 + b"\r\n" + b"y\r\n" + EVIL)[-1])
        self.assertEqual("250", talk.mail()[-1])
        self.assertEqual([MAIL], [each.data for each in house.intake.handed])

    def test_recipients(self) -> None:
        """One recipient too many is put off; those that were taken get the mail."""
        house = House(max_recipients=2)
        talk = house.connect()
        talk.hello()
        codes = talk.mail(to=(b"a@y.org", b"b@y.org", b"c@y.org"))
        self.assertEqual(["250", "250", "250", "452", "354", "250"], codes)
        self.assertEqual(2, len(house.intake.handed[0].recipients))

    def test_errors(self) -> None:
        """A client that only errs is shown out."""
        talk = House().connect()
        codes = talk.codes(b"BOO\r\n" * 20)
        self.assertEqual(["500"] * (MAX_ERRORS - 1) + ["421"], codes)
        self.assertTrue(talk.closed)

    def test_idling(self) -> None:
        """A client that keeps talking without a message is shown out."""
        talk = House().connect()
        codes = talk.codes(b"NOOP\r\n" * (MAX_IDLING + 5))
        self.assertEqual("421", codes[-1])
        self.assertEqual(MAX_IDLING + 1, len(codes))

    def test_f52_silence(self) -> None:
        """F52: who says nothing for long is shown out, whatever comes in drops is too."""
        house = House(idle=300.0, opening=120.0)
        silent = house.connect()
        house.clock.advance(120)
        self.assertEqual("421", silent.replies()[0][:3])

        slow = house.connect()
        slow.hello()
        slow.envelope()
        slow.send(b"DATA\r\n")
        seconds = 0.0
        while not slow.closed and seconds < 10_000:
            slow.send(b"x")
            house.clock.advance(60)
            seconds += 60
        self.assertTrue(slow.closed)
        self.assertLess(seconds, house.terms.transaction + house.terms.max_size / 16384 + 61)

    def test_f52_silence_in_a_transaction(self) -> None:
        """F52: who falls silent in the middle of something is shown out after ``idle`` seconds."""
        for said in (b"", b"DATA\r\n", b"BDAT 10\r\nabc", b"DATA\r\nFrom: a@x.org\r\n"):
            house = House(idle=300.0, opening=120.0)
            talk = house.connect()
            talk.hello()
            talk.envelope()
            talk.send(said)
            house.clock.advance(299)
            self.assertEqual([], talk.replies(), said)
            house.clock.advance(1)
            self.assertEqual(["421 4.4.2 Nothing heard for too long"], talk.replies(), said)
            self.assertTrue(talk.closed)

    def test_f52_time_of_a_transaction(self) -> None:
        """F52: a transaction has the time of its size, however much is said; the next its own."""
        house = House(transaction=600.0, slowest=1000.0, max_size=10_000, idle=300.0)
        talk = house.connect()
        talk.hello()
        for size, seconds in ((b" SIZE=5000", 605), (b"", 610)):
            talk.send(b"MAIL FROM:<a@x.org>%b\r\nRCPT TO:<b@y.org>\r\n" % size)
            for _ in range(seconds - 1):
                house.clock.advance(1)
                self.assertEqual(["250"], talk.codes(b"NOOP\r\n") or ["closed"])
                talk.protocol.idling = 0
            talk.send(b"DATA\r\n")
            if size:
                self.assertEqual(["250"], talk.codes(MAIL + b".\r\n"))
        house.clock.advance(1)
        self.assertEqual(["421 4.4.2 That took too long"], talk.replies())

    def test_f52_time_after_a_transaction(self) -> None:
        """F52: one that took long leaves no more time until the next than any other."""
        house = House(opening=120.0, transaction=600.0)
        talk = house.connect()
        talk.hello()

        def chat(seconds: int) -> None:
            for _ in range(seconds):
                house.clock.advance(1)
                self.assertEqual(["250"], talk.codes(b"NOOP\r\n") or ["closed"])
                talk.protocol.idling = 0

        talk.envelope()
        chat(300)
        talk.send(b"DATA\r\n")
        self.assertEqual(["250"], talk.codes(MAIL + b".\r\n"))
        chat(119)
        house.clock.advance(1)
        self.assertEqual(["421 4.4.2 That took too long"], talk.replies())

    def test_f52_no_time_is_set_for_the_store(self) -> None:
        """F52: a client that waits for us is not shown out, however long the store takes."""
        house = House()
        stored: Deferred[Reply] = Deferred()
        house.intake.answers.append(stored)
        talk = house.connect()
        talk.hello()
        talk.mail()
        house.clock.advance(10_000)
        stored.callback(Reply(250, b"2.0.0 queued"))
        self.assertEqual(["250 2.0.0 queued"], talk.replies())

    def test_connections(self) -> None:
        """Beyond the limits, in total and from one address, a connection hears 421."""
        house = House(GateRules(max_connections=3, per_peer=2, trusted=("0.0.0.0/1",)))
        kept = [house.connect("192.0.2.1"), house.connect("192.0.2.1")]
        self.assertEqual("421 4.7.0", house.connect("192.0.2.1").banner[0][:9])
        third = house.connect("10.0.0.1")
        self.assertEqual("220", third.banner[0][:3])
        self.assertEqual("421 4.3.2", house.connect("10.0.0.2").banner[0][:9])
        for talk in (*kept, third):
            talk.send(b"QUIT\r\n")
        self.assertEqual("220", house.connect("192.0.2.1").banner[0][:3])
        self.assertEqual(1, len(house.factory.connections))


class SmugglingTests(SynchronousTestCase):
    """S1, S2, F53."""

    def setUp(self) -> None:
        self.house = House()
        self.talk = self.house.connect()
        self.talk.hello()

    def test_s1_s2_only_crlf_dot_crlf_ends_a_message(self) -> None:
        """S1, S2: no other end of data ends a message; a message with bare CR or LF is refused."""
        for end in (
            *(b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"),
            *(b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n..\r\n"),
        ):
            count = len(self.house.intake.handed)
            self.talk.envelope()
            self.talk.send(b"DATA\r\n")
            self.assertEqual([], self.talk.codes(b"From: a@x.org\r\n\r\nx" + end + EVIL), end)
            self.talk.send(b"\r\n.\r\n")
            handed = self.house.intake.handed[count:]
            self.assertEqual(1, len(handed), end)
            bare = b"\0" not in end and end != b"\r\n..\r\n"
            self.assertEqual(bare, handed[0].bare, end)
            self.assertIn(b"victim@y.org", handed[0].data)

    def test_f53_long_lines_in_a_body(self) -> None:
        """F53: a line of any length is content, never a command."""
        body = MAIL + b"x" * 200_000 + b"\r\n" + EVIL
        self.assertEqual("250", self.talk.mail(body=body)[-1])
        self.assertEqual(body, self.house.intake.handed[0].data)

    def test_f53_long_command(self) -> None:
        """F53: a command without an end is cut, and what follows it is not read."""
        for data in (b"NOOP " + b"x" * 5000, b"NOOP " + b"x" * 5000 + b"\r\n" + EVIL):
            talk = self.house.connect()
            self.assertEqual(["500"], talk.codes(data))
            self.assertTrue(talk.closed)
        self.assertEqual([], self.house.intake.handed)

    def test_f53_stray_characters_in_a_command(self) -> None:
        """F53: a bare CR, a bare LF or a NUL in a command ends the connection."""
        for line in (b"NOOP\rMAIL", b"NOOP\nMAIL FROM:<a@x.org>", b"NOOP\0"):
            talk = self.house.connect()
            self.assertEqual(["500"], talk.codes(line + b"\r\n" + EVIL), line)
            self.assertTrue(talk.closed)

    def test_dots(self) -> None:
        """Doubled dots are undone, wherever the pieces are cut."""
        wire = b"From: a@x.org\r\n\r\n..a\r\n...\r\n..\r\nb.\r\n"
        for cut in range(len(wire)):
            self.talk.envelope()
            self.talk.send(b"DATA\r\n")
            self.talk.send(wire[:cut])
            self.assertEqual(["250"], self.talk.codes(wire[cut:] + b".\r\n"))
            self.assertEqual(
                b"From: a@x.org\r\n\r\n.a\r\n..\r\n.\r\nb.\r\n", self.house.intake.handed[-1].data
            )


class ChunkingTests(SynchronousTestCase):
    """RFC 3030."""

    def setUp(self) -> None:
        self.house = House(max_size=10_000)
        self.talk = self.house.connect()
        self.talk.hello()

    def test_chunks(self) -> None:
        """A message in chunks is handed over with the last one, dots as they are."""
        self.talk.envelope()
        first, second = b"From: a@x.org\r\n\r\n.\r\n", b"\r\n.\r\nQUIT\r\n"
        codes = self.talk.codes(
            b"BDAT %d\r\n%bBDAT %d\r\n%bBDAT 0 LAST\r\nNOOP\r\n"
            % (len(first), first, len(second), second)
        )
        self.assertEqual(["250"] * 4, codes)
        self.assertEqual(first + second, self.house.intake.handed[0].data)

    def test_out_of_order(self) -> None:
        """A chunk that may not come is swallowed; its octets are never commands."""
        self.assertEqual(["503"], self.talk.codes(b"BDAT %d LAST\r\n%b" % (len(EVIL), EVIL)))
        self.talk.envelope()
        self.assertEqual(["250"], self.talk.codes(b"BDAT 3\r\nabc"))
        for line in (b"DATA\r\n", b"RCPT TO:<c@y.org>\r\n"):
            self.assertEqual(["503"], self.talk.codes(line))
        self.assertEqual(["250"], self.talk.codes(b"RSET\r\n"))
        self.assertEqual([], self.house.intake.handed)

    def test_sizes(self) -> None:
        """Sizes that are none are refused; a chunk beyond the limit ends the connection."""
        for argument in (b"", b"x", b"-1", b"1 LAST x", b"1 FIRST"):
            self.talk.envelope()
            self.assertEqual(["501"], self.talk.codes(b"BDAT " + argument + b"\r\n"), argument)
            self.talk.send(b"RSET\r\n")
        self.talk.envelope()
        self.assertEqual(["250"], self.talk.codes(b"BDAT 9000\r\n" + b"x" * 9000))
        self.assertEqual(["552"], self.talk.codes(b"BDAT 9000 LAST\r\n" + b"x" * 9000))
        self.talk.envelope()
        self.assertEqual(["552"], self.talk.codes(b"BDAT 10001\r\n"))
        self.assertTrue(self.talk.closed)

    def test_bare_line_ends(self) -> None:
        """Bare CR and LF are seen over the edges of chunks."""
        for pieces, bare in (
            ((b"a\r", b"\nb"), False),
            ((b"a\r", b"b"), True),
            ((b"a", b"\nb"), True),
            ((b"a\r\n", b"b\r"), True),
            ((b"\r\n", b""), False),
        ):
            self.talk.envelope()
            for n, piece in enumerate(pieces):
                last = b" LAST" if n == len(pieces) - 1 else b""
                self.talk.send(b"BDAT %d%b\r\n%b" % (len(piece), last, piece))
            self.assertEqual(bare, self.house.intake.handed[-1].bare, pieces)


#: Pieces of a stream that a hostile client might send.
_PIECES = st.sampled_from(
    [
        *(b"EHLO x\r\n", b"HELO x\r\n", b"MAIL FROM:<a@x.org>\r\n", b"RCPT TO:<b@y.org>\r\n"),
        *(b"DATA\r\n", b"\r\n.\r\n", b".\r\n", b"BDAT 5\r\n", b"BDAT 3 LAST\r\n", b"hello"),
        *(b"RSET\r\n", b"AUTH PLAIN\r\n", b"AUTH LOGIN AAAA\r\n", b"=\r\n", b"*\r\n"),
        *(b"STARTTLS\r\n", b"NOOP\r\n", b"\r", b"\n", b"\0", b"\xff", b"x" * 5000, EVIL),
    ]
)


#: A reply: with an enhanced status of its own class (RFC 2034), but for a greeting's and the 3yz.
_REPLY = r"^(?:([245])\d\d \1\.\d{1,3}\.\d{1,3} [ -~]+|250[- ][!-~ ]+|354 [ -~]+|334 [!-~]*)$"


class AnyBytesTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(_PIECES | st.binary(max_size=40), max_size=30).map(b"".join),
        st.integers(0, 2**32),
    )
    @example(b"EHLO x\r\n" + EVIL + b"\r\n.\r\n", 0)
    def test_any_bytes_in_any_splits(self, data: bytes, seed: int) -> None:
        """Any bytes, however cut, give the same replies; nothing raises, nothing is kept on."""
        whole, cut = House(max_size=2000), House(max_size=2000)
        one, other = whole.connect(), cut.connect()
        expected = one.send(data)
        rng, at, got = random.Random(seed), 0, []
        while at < len(data):
            size = rng.choice((1, 2, 7, 100))
            got += other.send(data[at : at + size]) if not other.closed else []
            at += size
        self.assertEqual(expected, got)
        self.assertEqual(
            [each.data for each in whole.intake.handed], [each.data for each in cut.intake.handed]
        )
        self.assertLessEqual(len(other.protocol.held), 64 * 1024 + 100)
        for line in expected:
            self.assertRegex(line, _REPLY)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=300), st.lists(st.integers(1, 50), max_size=20))
    def test_a_body_is_never_a_command(self, body: bytes, cuts: list[int]) -> None:
        """Whatever is in a body, one message is handed over, and it is that body."""
        house = House()
        talk = house.connect()
        talk.hello()
        talk.envelope()
        talk.send(b"DATA\r\n")
        wire = b"\r\n".join(
            b"." + line if line.startswith(b".") else line for line in body.split(b"\r\n")
        )
        if not wire.endswith(b"\r\n") and wire:
            wire += b"\r\n"
            body += b"\r\n"
        wire += b".\r\n"
        replies = []
        for size in (*cuts, len(wire)):
            piece, wire = wire[:size], wire[size:]
            replies += talk.codes(piece) if piece else []
        self.assertEqual(["250"], replies)
        self.assertEqual([body], [each.data for each in house.intake.handed])
