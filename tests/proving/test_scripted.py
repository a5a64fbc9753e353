"""The scripted server, one conversation in memory at a time."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.scripted import FLIGHT
from tests.proving.talk import Talk

EHLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@x.org>\r\n"
RCPT = b"RCPT TO:<b@y.org>\r\n"
BODY = b"X-Genro-Mail-ID: m1\r\nSubject: x\r\n\r\nx\r\n"
WHOLE = MAIL + RCPT + b"DATA\r\n" + BODY + b".\r\n"


def rule(*lines: str) -> str:
    return "\n".join(["[[rule]]", *lines, ""])


class StageTests(SynchronousTestCase):
    def test_any_stage(self) -> None:
        """Every stage can have another reply, of any number of lines."""
        for at, before, command in (
            ("ehlo", b"", EHLO),
            ("helo", b"", b"HELO me\r\n"),
            ("mail", EHLO, MAIL),
            ("rcpt", EHLO + MAIL, RCPT),
            ("data", EHLO + MAIL + RCPT, b"DATA\r\n"),
            ("end", EHLO + MAIL + RCPT + b"DATA\r\n", BODY + b".\r\n"),
            ("rset", EHLO, b"RSET\r\n"),
            ("noop", EHLO, b"NOOP\r\n"),
            ("vrfy", EHLO, b"VRFY x\r\n"),
            ("quit", EHLO, b"QUIT\r\n"),
        ):
            with self.subTest(at):
                talk = Talk(scenario=rule(f"at = '{at}'", "reply = ['450-4.0.0 a', '450 b']"))
                talk.send(before)
                self.assertEqual(["450-4.0.0 a", "450 b"], talk.send(command))
                self.assertEqual({450: 1}, talk.house.counts.refused)
                self.assertEqual(0, talk.ledger.accepted)
                self.assertEqual(["250"], talk.codes(b"NOOP\r\n") if at != "noop" else ["250"])

    def test_refused_has_no_effect(self) -> None:
        """A command that was refused did nothing; the ones behind it find that out."""
        talk = Talk(scenario=rule("at = 'mail'", "reply = '451 no'"))
        talk.hello()
        self.assertEqual(["451", "503", "503"], talk.codes(MAIL + RCPT + b"DATA\r\n"))
        talk = Talk(scenario=rule("at = 'rcpt'", "recipient = 'b@*'", "reply = '550 no'"))
        talk.hello()
        two = MAIL + RCPT + b"RCPT TO:<c@y.org>\r\nDATA\r\n"
        self.assertEqual(["250", "550", "250", "354"], talk.codes(two))
        self.assertEqual(["250"], talk.codes(BODY + b".\r\n"))
        ((copy, _),) = talk.ledger.messages()
        self.assertEqual(["c@y.org"], copy.recipients)

    def test_accepted_in_other_words(self) -> None:
        """A reply that says yes has the effect of the ordinary one."""
        for at in ("ehlo", "mail", "rcpt", "end"):
            with self.subTest(at):
                talk = Talk(scenario=rule(f"at = '{at}'", "reply = ['250-one', '250 two']"))
                talk.send(EHLO)
                talk.send(WHOLE)
                self.assertEqual(1, talk.ledger.accepted)

    def test_magic_recipients_stay(self) -> None:
        """What no rule is about goes on as ever, by the recipient's first word too."""
        talk = Talk(scenario=rule("at = 'rcpt'", "recipient = 'odd@*'", "reply = '451 odd'"))
        talk.hello()
        self.assertEqual(["250", "550", "503"], talk.mail(to="reject@y.org")[:3])
        talk.send(b"RSET\r\n")
        self.assertEqual(["250", "451"], talk.codes(MAIL + b"RCPT TO:<odd@y.org>\r\n"))
        talk.send(b"RSET\r\n")
        self.assertEqual(["250", "250", "354", "250"], talk.mail())

    def test_data_without_recipients(self) -> None:
        """DATA can be answered with 354 where nobody is to get the message; then nobody does."""
        talk = Talk(
            scenario=rule("at = 'rcpt'", "reply = '550 no'")
            + rule("at = 'data'", "reply = '354 go on'")
        )
        talk.hello()
        self.assertEqual(["250", "550", "354"], talk.codes(MAIL + RCPT + b"DATA\r\n"))
        self.assertEqual(["554"], talk.codes(b".\r\n"))
        self.assertEqual(0, talk.ledger.accepted)

    def test_extensions(self) -> None:
        """Extensions can be left out, added and changed."""
        talk = Talk(
            scenario=rule("at = 'ehlo'", "without = ['pipelining']", "offer = ['SIZE 9', 'DSN']")
        )
        lines = talk.send(EHLO)
        said = {line[4:] for line in lines}
        self.assertLessEqual({"SIZE 9", "DSN", "8BITMIME"}, said)
        self.assertNotIn("PIPELINING", said)

    def test_421_closes(self) -> None:
        """Whoever says 421 closes the connection."""
        talk = Talk(scenario=rule("at = 'connect'", "connection = '2-'", "reply = '421 4.3.2 no'"))
        self.assertFalse(talk.closed)
        self.assertEqual(["421 4.3.2 no"], talk.connect())
        self.assertTrue(talk.closed)
        self.assertEqual({421: 1}, talk.house.counts.refused)

    def test_connection_limit(self) -> None:
        """A rule can be about how many connections are open."""
        talk = Talk(scenario=rule("at = 'connect'", "open = '3-'", "reply = '421 too many'"))
        self.assertEqual(["220"], [line[:3] for line in talk.connect()])
        talk.connect()
        self.assertTrue(talk.closed)

    def test_auth(self) -> None:
        """A login can be refused or accepted by its words; without a user any is right."""
        talk = Talk(
            scenario="[server]\nauth = ['PLAIN', 'XOAUTH2']\n"
            + rule("at = 'auth'", "login = '*:old'", "reply = '535 5.7.8 no'")
        )
        self.assertIn(
            "250 AUTH PLAIN XOAUTH2", [x.replace("250-", "250 ") for x in talk.send(EHLO)]
        )
        self.assertEqual(["530"], talk.codes(MAIL))
        old, new = (b64encode(b"\0anna\0" + word) for word in (b"old", b"new"))
        token = b64encode(b"user=anna\1auth=Bearer old\1\1")
        self.assertEqual(["535"], talk.codes(b"AUTH PLAIN %b\r\n" % old))
        self.assertEqual(["535"], talk.codes(b"AUTH XOAUTH2 %b\r\n" % token))
        self.assertEqual(["504"], talk.codes(b"AUTH LOGIN\r\n"))
        self.assertEqual(["501"], talk.codes(b"AUTH XOAUTH2 %b\r\n" % b64encode(b"user=x")))
        self.assertEqual(
            ["334", "235"], [*talk.codes(b"AUTH PLAIN\r\n"), *talk.codes(new + b"\r\n")]
        )
        self.assertEqual(["250"], talk.codes(MAIL))


class LifeTests(SynchronousTestCase):
    def test_silence(self) -> None:
        """After silence nothing more is said; in the end the connection is closed."""
        talk = Talk(scenario=rule("at = 'mail'", "then = 'silence'", "hold = 3"))
        talk.hello()
        self.assertEqual([], talk.send(MAIL + RCPT))
        talk.clock.advance(2.9)
        self.assertFalse(talk.closed)
        talk.clock.advance(0.2)
        self.assertTrue(talk.closed)
        self.assertEqual(1, talk.house.counts.unanswered)

    def test_silent_banner(self) -> None:
        """Also the banner can stay away."""
        talk = Talk(scenario=rule("at = 'connect'", "then = 'silence'"))
        self.assertEqual([], talk.send(EHLO))
        talk.clock.advance(61)
        self.assertTrue(talk.closed)

    def test_close_and_reset(self) -> None:
        """The connection is closed or reset in place of a reply, or behind it."""
        for then in ("close", "reset"):
            talk = Talk(scenario=rule("at = 'mail'", f"then = '{then}'"))
            talk.hello()
            self.assertEqual([], talk.send(MAIL + RCPT))
            talk.clock.advance(0)
            self.assertEqual((then == "reset", True), (talk.transport.aborted, talk.protocol.over))
            talk = Talk(scenario=rule("at = 'mail'", "reply = '250 ok'", f"then = '{then}'"))
            talk.hello()
            self.assertEqual(["250 ok"], talk.send(MAIL + RCPT))
            talk.clock.advance(FLIGHT)
            self.assertTrue(talk.protocol.over)

    def test_drip(self) -> None:
        """A reply comes so many octets a second; what is behind it waits."""
        talk = Talk(scenario=rule("at = 'noop'", "reply = '250 abc'", "drip = 1"))
        talk.protocol.dataReceived(b"NOOP\r\nVRFY x\r\n")
        seen = b""
        for _ in range(8):
            seen += talk.transport.value()[-1:]
            talk.clock.advance(1)
        self.assertEqual(b"250 abc\r", seen[-8:])
        self.assertTrue(talk.replies()[-1].startswith("252"))

    def test_delay(self) -> None:
        """A delay comes before the reply, the ordinary one too, and before what is behind it."""
        talk = Talk(scenario=rule("at = ['mail', 'rcpt']", "delay = 2"))
        talk.hello()
        self.assertEqual([], talk.send(MAIL + RCPT + b"DATA\r\n"))
        talk.clock.advance(2)
        self.assertEqual(["250"], [line[:3] for line in talk.replies()])
        talk.clock.advance(2)
        self.assertEqual(["250", "354"], [line[:3] for line in talk.replies()])

    def test_endless_reply(self) -> None:
        """A reply can be as long as it likes."""
        talk = Talk(scenario=rule("at = 'noop'", 'raw = "250-x\\r\\n"', "repeat = 1000"))
        self.assertEqual(1000, len(talk.send(b"NOOP\r\n")))

    def test_closed_when_idle(self) -> None:
        """After a lingering time the connection is closed, unless a command came."""
        talk = Talk(scenario=rule("at = 'end'", "then = 'close'", "linger = 1"))
        talk.hello()
        for _ in range(2):
            self.assertEqual(["250", "250", "354", "250"], talk.mail())
            talk.clock.advance(0.9)
            self.assertFalse(talk.closed)
        talk.clock.advance(0.2)
        self.assertTrue(talk.closed)

    def test_gone_meanwhile(self) -> None:
        """When the client goes, nothing is left that would happen later."""
        talk = Talk(scenario=rule("delay = 5"))
        talk.end()
        self.assertEqual([], talk.clock.getDelayedCalls())


class BodyTests(SynchronousTestCase):
    def body(self, *lines: str) -> Talk:
        talk = Talk(scenario=rule("at = 'body'", *lines))
        talk.hello()
        self.assertEqual(["250", "250", "354"], talk.codes(MAIL + RCPT + b"DATA\r\n"))
        return talk

    def test_reset_at_byte(self) -> None:
        """The connection is reset when so many octets of the body were there, not before."""
        talk = self.body("at_byte = 10", "then = 'reset'")
        talk.send(b"x" * 9)
        self.assertFalse(talk.protocol.over)
        talk.send(b"xx")
        talk.clock.advance(0)
        self.assertTrue(talk.transport.aborted)
        self.assertEqual(0, talk.ledger.accepted)

    def test_percent_of_the_declared_size(self) -> None:
        """The place can be part of the declared size; where none is, the rule has no place."""
        scenario = rule("at = 'body'", "at_percent = 50", "then = 'close'")
        for size, cut in ((b" SIZE=100", True), (b"", False)):
            talk = Talk(scenario=scenario)
            talk.hello()
            talk.send(b"MAIL FROM:<a@x.org>" + size + b"\r\n" + RCPT + b"DATA\r\n")
            talk.send(b"x" * 49)
            self.assertFalse(talk.closed)
            talk.send(b"x")
            self.assertEqual(cut, talk.closed, size)

    def test_stall(self) -> None:
        """Nothing is read for a while, then everything is."""
        talk = self.body("at_byte = 5", "stall = 3")
        self.assertEqual([], talk.send(BODY + b".\r\nNOOP\r\n"))
        self.assertTrue(talk.transport.paused)
        talk.clock.advance(2.9)
        self.assertEqual([], talk.replies())
        talk.clock.advance(0.2)
        self.assertEqual(["250", "250"], [line[:3] for line in talk.replies()])
        self.assertFalse(talk.transport.paused)
        self.assertEqual([BODY], [body for _, body in talk.ledger.messages()])

    def test_slow_reading(self) -> None:
        """A body is read at a rate; what arrives is what was sent."""
        talk = self.body("read_rate = 100")
        talk.send(b"x" * 98 + b"\r\n" + b".\r\n")
        talk.clock.pump([0.05] * 18)
        self.assertEqual([], talk.replies())
        talk.clock.pump([0.05] * 4)
        self.assertEqual(["250"], [line[:3] for line in talk.replies()])
        self.assertEqual(100, talk.ledger.bytes)

    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(0, 120))
    @settings(max_examples=40, deadline=None)
    def test_any_body_is_read_whole(self, chunks: Sequence[bytes], at: int) -> None:
        """Wherever reading stalls, the message is the one that was sent, and no other begins."""
        text = b"".join(chunks).replace(b"\r", b"").replace(b"\n", b"").replace(b".", b"")
        talk = self.body(f"at_byte = {at}", "stall = 1", "read_rate = 400")
        whole = text + b"\r\n.\r\nNOOP\r\n"
        talk.protocol.dataReceived(whole[:7])
        talk.protocol.dataReceived(whole[7:])
        talk.clock.pump([0.05] * 60)
        self.assertEqual(["250", "250"], [line[:3] for line in talk.replies()])
        self.assertEqual([text + b"\r\n"], [body for _, body in talk.ledger.messages()])


class EndTests(SynchronousTestCase):
    def ended(self, *lines: str) -> Talk:
        talk = Talk(scenario=rule("at = 'end'", *lines))
        talk.hello()
        self.answer = talk.send(WHOLE)[3:]
        return talk

    def test_lost_reply(self) -> None:
        """A message can be kept and its reply lost."""
        talk = self.ended("keep = true", "then = 'close'")
        self.assertEqual(([], True, 1), (self.answer, talk.closed, talk.ledger.accepted))

    def test_black_hole(self) -> None:
        """A message can be acknowledged and lost."""
        talk = self.ended("keep = false", "reply = '250 2.0.0 queued'")
        self.assertEqual((["250 2.0.0 queued"], 0), (self.answer, talk.ledger.accepted))
        talk = self.ended("keep = false")
        self.assertEqual(("250", 0), (self.answer[0][:3], talk.ledger.accepted))

    def test_every_tenth(self) -> None:
        """Each tenth message is lost."""
        talk = Talk(scenario=rule("at = 'end'", "every = 10", "keep = false"))
        talk.hello()
        for _ in range(20):
            self.assertEqual("250", talk.mail()[-1])
        self.assertEqual(18, talk.ledger.accepted)

    def test_by_id_and_attempt(self) -> None:
        """The first attempt of a message is put off, the next one is taken."""
        talk = self.ended("id = 'm*'", "attempt = 1", "reply = '451 4.3.0 later'")
        self.assertEqual(["451 4.3.0 later"], self.answer)
        self.assertEqual("250", talk.codes(WHOLE)[-1])
        self.assertEqual("250", talk.mail()[-1])

    def test_greylisting(self) -> None:
        """A pair of sender and recipient is put off for as long as it is said."""
        talk = Talk(scenario=rule("at = 'rcpt'", "within = 5", "reply = '451 4.7.1 grey'"))
        talk.hello()
        codes = []
        for wait in (0, 3, 3):
            talk.clock.advance(wait)
            codes.append(talk.codes(MAIL + RCPT + b"RSET\r\n")[1])
        self.assertEqual(["451", "451", "250"], codes)


class SeedTests(SynchronousTestCase):
    SCENARIO = "\n".join(
        [
            rule("at = 'connect'", "chance = 0.2", "reply = '421 no'"),
            rule("at = 'end'", "choose = [{weight = 2, reply = '250 a'}, {reply = '451 b'},"),
            " {keep = true, then = 'close'}]",
        ]
    )

    def run_through(self, seed: int, turns: Sequence[int]) -> list[list[str]]:
        """What each of three connections saw, taking turns as they are told."""
        talk = Talk(scenario=self.SCENARIO, seed=seed)
        lines = []
        for _ in range(3):
            first = talk.connect()
            lines.append((talk.protocol, talk.transport, first))
            if not talk.closed:
                first += talk.send(EHLO)[:1]
        for turn in turns:
            talk.protocol, talk.transport, seen = lines[turn]
            if not talk.closed:
                seen += talk.send(WHOLE)[3:]
        return [[line[:5] for line in seen] for _, _, seen in lines]

    def test_same_seed(self) -> None:
        """The same connections meet the same server, in whatever order they take turns."""
        first = self.run_through(3, [0, 1, 2] * 4)
        again = self.run_through(3, [2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0])
        self.assertEqual(first, again)
        others = {str(self.run_through(seed, [0, 1, 2] * 4)) for seed in range(8)}
        self.assertGreater(len(others), 4)
