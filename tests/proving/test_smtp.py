"""One connection to the sink, in memory."""

from __future__ import annotations

import tracemalloc
from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from tests.proving.talk import Talk


class GreetingTests(SynchronousTestCase):
    def test_banner(self) -> None:
        """A client is greeted as soon as it connects."""
        talk = Talk(host="sink.example")

        self.assertEqual(["220 sink.example ESMTP sink"], talk.connect())

    def test_extensions(self) -> None:
        """EHLO lists what the sink can do, and the size it takes."""
        talk = Talk(host="sink.example", max_size=1000)

        lines = talk.send(b"EHLO me\r\n")

        self.assertEqual("250-sink.example", lines[0])
        self.assertEqual(
            {"PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 1000"},
            {line[4:] for line in lines[1:]},
        )

    def test_mail_before_greeting(self) -> None:
        """MAIL before EHLO or HELO is out of order."""
        self.assertEqual(["503"], Talk().codes(b"MAIL FROM:<a@x.org>\r\n"))

    def test_nameless_greeting(self) -> None:
        """EHLO and HELO need a name."""
        self.assertEqual(["501", "501"], Talk().codes(b"EHLO\r\nHELO \r\n"))

    def test_helo(self) -> None:
        """HELO is enough to send mail; nothing is offered in its answer."""
        talk = Talk()

        self.assertEqual(["250"], talk.codes(b"HELO me\r\n"))
        self.assertEqual(["250", "250", "354", "250"], talk.mail())


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.talk = Talk()
        self.talk.hello()

    def test_small_commands(self) -> None:
        """NOOP, VRFY and RSET are answered; commands may be in any case."""
        self.assertEqual(["250", "252", "250"], self.talk.codes(b"noop\r\nVrfy x\r\nrset\r\n"))

    def test_unknown_command(self) -> None:
        """An unknown command is refused, also when it is not even text."""
        self.assertEqual(["500", "500", "500"], self.talk.codes(b"TURN\r\n\xff\xfe\r\n\r\n"))

    def test_order_of_commands(self) -> None:
        """RCPT needs MAIL, DATA needs a recipient, and MAIL may not come twice."""
        self.assertEqual(["503", "503"], self.talk.codes(b"RCPT TO:<b@y.org>\r\nDATA\r\n"))
        self.assertEqual(
            ["250", "503", "503"],
            self.talk.codes(b"MAIL FROM:<a@x.org>\r\nMAIL FROM:<a@x.org>\r\nDATA\r\n"),
        )

    def test_reset_forgets(self) -> None:
        """After RSET there is no sender."""
        self.talk.send(b"MAIL FROM:<a@x.org>\r\nRSET\r\n")

        self.assertEqual(["503"], self.talk.codes(b"RCPT TO:<b@y.org>\r\n"))

    def test_quit(self) -> None:
        """QUIT is answered, the connection closed, and what follows is ignored."""
        self.assertEqual(["221"], self.talk.codes(b"QUIT\r\nNOOP\r\n"))
        self.assertTrue(self.talk.closed)

    def test_ten_errors(self) -> None:
        """After ten wrong commands the connection is closed."""
        self.assertEqual(["500"] * 9 + ["421"], self.talk.codes(b"WHAT\r\n" * 12))
        self.assertTrue(self.talk.closed)
        self.assertEqual(10, self.talk.house.counts.protocol_errors)

    def test_refused_recipients_are_no_errors(self) -> None:
        """Any number of recipients may be refused on one connection."""
        self.talk.send(b"MAIL FROM:<a@x.org>\r\n")

        self.assertEqual(["550"] * 50, self.talk.codes(b"RCPT TO:<reject@y.org>\r\n" * 50))
        self.assertFalse(self.talk.closed)

    def test_endless_line(self) -> None:
        """A command line that does not end is cut off, and the connection closed."""
        self.assertEqual(["500"], self.talk.codes(b"N" * 5000))
        self.assertTrue(self.talk.closed)

    def test_long_line(self) -> None:
        """A command line that is too long is refused though it ends."""
        self.assertEqual(["500"], self.talk.codes(b"NOOP " + b"x" * 5000 + b"\r\n"))
        self.assertTrue(self.talk.closed)

    def test_stray_characters(self) -> None:
        """A CR, LF or NUL inside a command line ends the connection."""
        for line in (b"NOOP\nQUIT", b"NOOP\rQUIT", b"NOOP\0"):
            talk = Talk()
            self.assertEqual(["500"], talk.codes(line + b"\r\nNOOP\r\n"))
            self.assertTrue(talk.closed)

    def test_silence(self) -> None:
        """A silent client is sent away after the time-out; each command puts that off."""
        talk = Talk(timeout=300.0)
        talk.clock.advance(299)
        talk.send(b"NOOP\r\n")
        talk.clock.advance(299)
        self.assertFalse(talk.closed)

        talk.clock.advance(2)

        self.assertEqual("421", talk.replies()[0][:3])
        self.assertTrue(talk.closed)

    def test_recipient_limit(self) -> None:
        """Recipients beyond the limit are put off; the others get the mail."""
        talk = Talk(max_recipients=2)
        talk.hello()

        codes = talk.codes(b"MAIL FROM:<a@x.org>\r\n" + b"RCPT TO:<b@y.org>\r\n" * 3)

        self.assertEqual(["250", "250", "250", "452"], codes)

    def test_message_limit(self) -> None:
        """After the given number of messages the next MAIL closes the connection."""
        talk = Talk(close_after=2)
        talk.hello()
        self.assertEqual("250", talk.mail()[-1])
        self.assertEqual("250", talk.mail()[-1])

        self.assertEqual(["421"], talk.mail())
        self.assertTrue(talk.closed)


class MessageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.talk = Talk()
        self.talk.hello()

    def test_what_is_kept(self) -> None:
        """A copy carries its envelope, ids, size and digest, and the bytes as they were."""
        body = b"Message-ID: <1@x>\r\nx-genro-mail-id:  m-1\r\nSubject: s\r\n\r\n.dot\r\n"

        codes = self.talk.codes(
            b"MAIL FROM:<a@x.org> SIZE=60 BODY=8BITMIME\r\nRCPT TO:<b@y.org>\r\n"
            b"RCPT TO:<c@y.org>\r\nDATA\r\n" + body.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        )

        self.assertEqual(["250", "250", "250", "354", "250"], codes)
        ((copy, kept),) = self.talk.ledger.messages()
        self.assertEqual(body, kept)
        self.assertEqual(("a@x.org", ["b@y.org", "c@y.org"]), (copy.sender, copy.recipients))
        self.assertEqual(["SIZE=60", "BODY=8BITMIME"], copy.options)
        self.assertEqual(("m-1", "<1@x>"), (copy.mail_id, copy.message_id))
        self.assertEqual((len(body), True, "client.example"), (copy.size, copy.ascii, copy.helo))
        self.assertEqual((1, 1, "", ""), (copy.n, copy.connection, copy.tls, copy.user))
        self.assertEqual(self.talk.clock.now(), copy.time)

    def test_null_sender_and_empty_message(self) -> None:
        """The null sender is a sender, and an empty message is a message."""
        codes = self.talk.codes(b"MAIL FROM:<>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n.\r\n")

        self.assertEqual(["250", "250", "354", "250"], codes)
        ((copy, body),) = self.talk.ledger.messages()
        self.assertEqual(("", b""), (copy.sender, body))

    def test_one_message_after_the_other(self) -> None:
        """One connection carries many messages; the reply names the number of each."""
        self.talk.mail()
        lines = self.talk.send(
            b"MAIL FROM:<>\r\nRCPT TO:<b@y.org>\r\nDATA\r\nx\r\n.\r\n"
            b"MAIL FROM:<>\r\nRCPT TO:<b@y.org>\r\nDATA\r\nx\r\n.\r\n"
        )

        self.assertEqual("250 2.6.0 Message kept as 2", lines[3])
        self.assertEqual("250 2.6.0 Message kept as 3", lines[7])

    def test_commands_in_the_body(self) -> None:
        """Whatever stands in a message is no command, however long its lines are."""
        body = b"x" * 100_000 + b"\r\nMAIL FROM:<evil@x.org>\r\nQUIT\r\n"

        self.assertEqual(["250", "250", "354", "250"], self.talk.mail(body=body))
        self.assertEqual([body], [kept for _, kept in self.talk.ledger.messages()])
        self.assertEqual(["250"], self.talk.codes(b"NOOP\r\n"))

    def test_bare_line_ends(self) -> None:
        """A message with a CR or LF on its own is refused after its end; the session goes on."""
        for bare in (b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\n.\r\r\n"):
            self.assertEqual(["250", "250", "354", "550"], self.talk.mail(body=bare))
        self.assertEqual(0, self.talk.ledger.accepted)
        self.assertEqual(["250", "250", "354", "250"], self.talk.mail())

    def test_declared_size(self) -> None:
        """A message declared too large is refused at MAIL."""
        talk = Talk(max_size=1000)
        talk.hello()

        self.assertEqual(["552"], talk.codes(b"MAIL FROM:<a@x.org> SIZE=1001\r\n"))

    def test_real_size(self) -> None:
        """A message that turns out too large is read to its end and refused there."""
        talk = Talk(max_size=1000)
        talk.hello()

        self.assertEqual(["250", "250", "354", "552"], talk.mail(body=b"x" * 2000 + b"\r\n"))
        self.assertEqual(["250", "250", "354", "250"], talk.mail())

    def test_endless_message(self) -> None:
        """Of a message that is too large nothing is held, however long it goes on."""
        talk = Talk(max_size=100_000)
        talk.hello()
        talk.send(b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n")
        piece = b"x" * 50_000
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)

        for _ in range(100):
            talk.send(piece)

        self.assertLess(tracemalloc.get_traced_memory()[0], 500_000)

    def test_message_in_pieces(self) -> None:
        """A message may come a byte at a time."""
        talk = self.talk
        talk.send(b"MAIL FROM:<>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n")
        answers = [talk.codes(bytes([byte])) for byte in b"..a\r\n.\r\n"]

        self.assertEqual([[]] * 7 + [["250"]], answers)
        self.assertEqual([b".a\r\n"], [kept for _, kept in talk.ledger.messages()])

    def test_unwritable_ledger(self) -> None:
        """What cannot be written down is put off, and does not count as accepted."""

        class Full:
            def append(self, item: object) -> None:
                raise OSError(28, "No space left on device")

        talk = Talk(lines=Full())  # type: ignore[arg-type]
        talk.hello()

        self.assertEqual(["250", "250", "354", "452"], talk.mail())
        self.assertEqual(0, talk.ledger.accepted)


class BehaviourTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.talk = Talk(hold=60.0)
        self.talk.hello()

    def test_reject(self) -> None:
        """``reject@`` is refused for good; the other recipients are not."""
        codes = self.talk.codes(
            b"MAIL FROM:<a@x.org>\r\nRCPT TO:<reject@y.org>\r\nRCPT TO:<b@y.org>\r\n"
            b"DATA\r\nx\r\n.\r\n"
        )

        self.assertEqual(["250", "550", "250", "354", "250"], codes)
        ((copy, _),) = self.talk.ledger.messages()
        self.assertEqual(["b@y.org"], copy.recipients)
        self.assertEqual({550: 1}, self.talk.house.counts.refused)

    def test_all_refused(self) -> None:
        """With no recipient left, DATA is refused and nothing is kept."""
        codes = self.talk.codes(b"MAIL FROM:<a@x.org>\r\nRCPT TO:<full@y.org>\r\nDATA\r\n")

        self.assertEqual(["250", "452", "503"], codes)

    def test_later(self) -> None:
        """``later@`` puts the first copy of each message off and takes the second."""
        one, two = b"Message-ID: <1@x>\r\n\r\n", b"Message-ID: <2@x>\r\n\r\n"

        ends = [self.talk.mail("later@y.org", body)[-1] for body in (one, two, one, two, one)]

        self.assertEqual(["451", "451", "250", "250", "250"], ends)
        self.assertEqual(3, self.talk.ledger.accepted)

    def test_grey(self) -> None:
        """``grey@`` puts each pair of sender and recipient off once, in answer to RCPT."""
        talk = self.talk
        first = talk.codes(b"MAIL FROM:<a@x.org>\r\nRCPT TO:<grey@y.org>\r\nRSET\r\n")
        second = talk.codes(b"MAIL FROM:<a@x.org>\r\nRCPT TO:<grey@y.org>\r\nRSET\r\n")
        other = talk.codes(b"MAIL FROM:<c@x.org>\r\nRCPT TO:<grey@y.org>\r\nRSET\r\n")

        self.assertEqual(["450", "250", "450"], [first[1], second[1], other[1]])

    def test_drop(self) -> None:
        """``drop@`` keeps the message, never answers, and closes after a while."""
        self.assertEqual(["250", "250", "354"], self.talk.mail("drop@y.org"))
        self.assertEqual([], self.talk.codes(b"NOOP\r\n"))
        self.assertEqual(1, self.talk.ledger.accepted)
        self.talk.clock.advance(59)
        self.assertFalse(self.talk.closed)

        self.talk.clock.advance(1)

        self.assertTrue(self.talk.closed)
        self.assertEqual([], self.talk.replies())

    def test_drop_closed_on_request(self) -> None:
        """A connection left without an answer can be closed at once."""
        self.talk.mail("drop@y.org")

        self.assertEqual(1, self.talk.house.close_unanswered())
        self.assertTrue(self.talk.closed)
        self.assertEqual(0, self.talk.house.close_unanswered())

    def test_vanish(self) -> None:
        """``vanish@`` closes when the message is there, and keeps nothing."""
        self.assertEqual(["250", "250", "354"], self.talk.mail("vanish@y.org"))
        self.assertTrue(self.talk.closed)
        self.assertEqual(0, self.talk.ledger.accepted)
        self.assertEqual(1, self.talk.house.counts.unanswered)

    def test_close(self) -> None:
        """``close@`` closes the connection in place of an answer to RCPT."""
        codes = self.talk.codes(b"MAIL FROM:<a@x.org>\r\nRCPT TO:<close@y.org>\r\nNOOP\r\n")

        self.assertEqual(["250"], codes)
        self.assertTrue(self.talk.closed)

    def test_busy(self) -> None:
        """``busy@`` is answered 421, and the connection closed."""
        codes = self.talk.codes(b"MAIL FROM:<a@x.org>\r\nRCPT TO:<busy@y.org>\r\nNOOP\r\n")

        self.assertEqual(["250", "421"], codes)
        self.assertTrue(self.talk.closed)

    def test_refused_data(self) -> None:
        """``nodata@`` is refused at DATA, ``dataerr@`` at the end; neither is kept."""
        codes = self.talk.codes(b"MAIL FROM:<a@x.org>\r\nRCPT TO:<nodata@y.org>\r\nDATA\r\n")

        self.assertEqual(["250", "250", "554"], codes)
        self.assertEqual(["250", "250", "354", "554"], self.talk.mail("dataerr@y.org"))
        self.assertEqual(0, self.talk.ledger.accepted)

    def test_slow(self) -> None:
        """``slow@`` is kept at once and answered late; what follows waits for that."""
        self.assertEqual(["250", "250", "354"], self.talk.mail("slow@y.org"))
        self.assertEqual(1, self.talk.ledger.accepted)
        self.assertEqual([], self.talk.send(b"NOOP\r\nNOOP\r\n"))

        self.talk.clock.advance(5)

        self.assertEqual(
            ["250 2.6.0 Message kept as 1", "250 2.0.0 Ok", "250 2.0.0 Ok"], self.talk.replies()
        )

    def test_client_leaves_while_it_waits(self) -> None:
        """A client that leaves before a late answer leaves nothing behind."""
        self.talk.mail("slow@y.org")
        self.assertEqual(2, len(self.talk.clock.getDelayedCalls()))

        self.talk.end()

        self.assertEqual([], self.talk.clock.getDelayedCalls())
        self.assertEqual(0, self.talk.house.counts.open)

    def test_flood_while_it_waits(self) -> None:
        """A client that goes on sending while it waits is made to stop, and goes on after."""
        self.talk.mail("slow@y.org")
        self.talk.send(b"NOOP\r\n" * 20_000)
        self.assertTrue(self.talk.transport.paused)

        self.talk.clock.advance(5)

        self.assertFalse(self.talk.transport.paused)
        self.assertEqual(20_001, len(self.talk.replies()))

    def test_lost_replies(self) -> None:
        """With a drop rate of 1 a message is kept and the connection closed in place of a reply."""
        talk = Talk(drop_rate=1.0)
        talk.hello()

        self.assertEqual(["250", "250", "354"], talk.mail())
        self.assertTrue(talk.closed)
        self.assertEqual(1, talk.ledger.accepted)

    def test_stop(self) -> None:
        """Stopping closes every connection."""
        first = self.talk.transport
        self.talk.connect()

        self.talk.house.close_all()

        self.assertEqual((False, False), (first.connected, self.talk.transport.connected))


class LoginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.talk = Talk(user="anna", password="geheim")
        self.talk.hello()

    def plain(self, user: str, password: str) -> bytes:
        return b64encode(f"\0{user}\0{password}".encode())

    def test_offered(self) -> None:
        """With a user set, AUTH PLAIN and LOGIN are offered."""
        self.assertIn("250 AUTH PLAIN LOGIN", self.talk.send(b"EHLO me\r\n"))

    def test_required(self) -> None:
        """With a user set, no mail is taken before AUTH."""
        self.assertEqual(["530"], self.talk.codes(b"MAIL FROM:<a@x.org>\r\n"))

    def test_plain_at_once(self) -> None:
        """AUTH PLAIN may bring its response along; the copy names the user."""
        response = self.plain("anna", "geheim")

        self.assertEqual(["235"], self.talk.codes(b"AUTH PLAIN " + response + b"\r\n"))
        self.assertEqual("250", self.talk.mail()[-1])
        ((copy, _),) = self.talk.ledger.messages()
        self.assertEqual("anna", copy.user)

    def test_plain_in_two_steps(self) -> None:
        """AUTH PLAIN without a response is asked for it."""
        self.assertEqual(["334 "], self.talk.send(b"AUTH PLAIN\r\n"))
        self.assertEqual(["235"], self.talk.codes(self.plain("anna", "geheim") + b"\r\n"))

    def test_login(self) -> None:
        """AUTH LOGIN asks for the user, then for the password."""
        self.assertEqual(
            [f"334 {b64encode(b'Username:').decode()}"], self.talk.send(b"AUTH LOGIN\r\n")
        )
        self.assertEqual(
            [f"334 {b64encode(b'Password:').decode()}"], self.talk.send(b"YW5uYQ==\r\n")
        )
        self.assertEqual(["235"], self.talk.codes(b64encode(b"geheim") + b"\r\n"))
        self.assertEqual(1, self.talk.house.counts.logins)

    def test_wrong(self) -> None:
        """A wrong user or password is refused, and may be tried again."""
        for user, password in (("anna", "falsch"), ("otto", "geheim"), ("", "")):
            response = self.plain(user, password)
            self.assertEqual(["535"], self.talk.codes(b"AUTH PLAIN " + response + b"\r\n"))
        self.assertEqual(["530"], self.talk.codes(b"MAIL FROM:<a@x.org>\r\n"))
        self.assertEqual({535: 3}, self.talk.house.counts.refused)

    def test_malformed(self) -> None:
        """What is no response, no mechanism or nothing at all is refused, and the session lives."""
        self.assertEqual(["504", "504"], self.talk.codes(b"AUTH\r\nAUTH CRAM-MD5\r\n"))
        self.assertEqual(["501", "501"], self.talk.codes(b"AUTH PLAIN !\r\nAUTH PLAIN eA==\r\n"))
        self.assertEqual(["334", "501", "250"], self.talk.codes(b"AUTH PLAIN\r\n*\r\nNOOP\r\n"))
        self.assertFalse(self.talk.closed)

    def test_not_twice(self) -> None:
        """Who is logged in is not logged in again."""
        line = b"AUTH PLAIN " + self.plain("anna", "geheim") + b"\r\n"

        self.assertEqual(["235", "503"], self.talk.codes(line + line))

    def test_not_offered(self) -> None:
        """Without a user set there is no AUTH."""
        self.assertEqual(["250", "502"], Talk().codes(b"HELO me\r\nAUTH PLAIN x\r\n"))

    def test_private_only(self) -> None:
        """When TLS is demanded, neither AUTH nor MAIL is taken in clear, and AUTH not offered."""
        talk = Talk(user="anna", password="geheim", require_tls=True)

        lines = talk.send(b"EHLO me\r\n")

        self.assertFalse([line for line in lines if "AUTH" in line])
        self.assertEqual(["538", "530"], talk.codes(b"AUTH PLAIN x\r\nMAIL FROM:<a@x.org>\r\n"))
