from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.auth import TokenLogin
from mailproxy.delivery.commands import OURS, UnsafeCommand
from mailproxy.delivery.pipeline import BODY_TIMEOUT, FINAL_TIMEOUT, ONE_WRITE
from mailproxy.errors import SessionLost, Withdrawn
from mailproxy.interfaces import observe_crashpoints
from mailproxy.model import Reply
from mailproxy.states import Phase
from tests.delivery.peer import PLAIN_EHLO, SILENCE, Answer, Cut, Letter, Opened, account

ENVELOPE = b"MAIL FROM:<a@example.com> SIZE=21\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
BODY = b"Subject: x\r\n\r\nhello\r\n"


class OneTests(SynchronousTestCase):
    """One transaction on a session with PIPELINING."""

    def test_the_envelope_is_one_write_and_the_body_another(self) -> None:
        """MAIL, RCPT and DATA go out together, then the body with its dot: two writes in all."""
        opened = Opened()
        letter = Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual([ENVELOPE, BODY + b".\r\n"], opened.wire.writes[1:])
        self.assertEqual(BODY, opened.server.messages[0][2])
        outcome = letter.outcome
        self.assertEqual(Phase.FINAL, outcome.phase)
        self.assertEqual(Reply(250, "2.1.0 Ok"), outcome.mail)
        self.assertEqual((Reply(250, "2.1.5 Ok"),), outcome.rcpts)
        self.assertEqual(Reply(250, "2.0.0 Ok: queued as 4711"), outcome.final)
        self.assertEqual("192.0.2.1:25", outcome.peer)
        self.assertEqual(["mail", "rcpt", "data", "final"], [name for name, _ in outcome.timings])

    def test_no_reset_between_good_messages(self) -> None:
        """A session goes from one message to the next without a word in between."""
        opened = Opened()
        for _ in range(3):
            Letter().sent_over(opened.session)
            opened.run()
        self.assertEqual(3, len(opened.server.messages))
        self.assertNotIn(b"RSET", opened.server.heard)

    def test_dots_are_doubled(self) -> None:
        """S9: no body ends its own data."""
        body = b".\r\n..\r\n.hidden\r\n\r\n.\r\nMAIL FROM:<evil@example.com>\r\n"
        opened = Opened()
        Letter(body).sent_over(opened.session)
        opened.run()
        self.assertEqual([body], [message[2] for message in opened.server.messages])
        self.assertEqual(1, opened.server.dots)

    def test_each_recipient_has_its_own_reply(self) -> None:
        """F31: who was refused is told; the others get the message."""
        opened = Opened({"rcpt": [b"250 ok\r\n", b"450 later\r\n", b"550 no\r\n"]})
        letter = Letter(to=("a@x.y", "b@x.y", "c@x.y")).sent_over(opened.session)
        opened.run()
        self.assertEqual([250, 450, 550], [r.code for r in letter.outcome.rcpts if r])
        self.assertEqual(250, letter.outcome.final and letter.outcome.final.code)
        self.assertEqual(1, len(opened.server.messages[0][1]))

    def test_a_hundred_recipients_go_in_one_write(self) -> None:
        """RFC 5321, section 4.5.3.1.8: a hundred recipients are nothing special."""
        opened = Opened(chunk=7)
        letter = Letter(to=[f"r{n}@x.y" for n in range(150)]).sent_over(opened.session)
        opened.run()
        self.assertEqual(3, len(opened.wire.writes))
        self.assertEqual(150, sum(r is not None and r.code == 250 for r in letter.outcome.rcpts))

    def test_a_refused_sender_needs_no_reset(self) -> None:
        """After a refused MAIL there is no transaction to forget."""
        answers: dict[str, Answer] = {
            "mail": [b"550 5.7.1 not you\r\n", b"250 ok\r\n"],
            "rcpt": [b"503 no\r\n", b"250 ok\r\n"],
            "data": [b"503 no\r\n", b"354 go\r\n"],
        }
        opened = Opened(answers)
        first = Letter().sent_over(opened.session)
        opened.run()
        second = Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual((Phase.MAIL, 550), (first.outcome.phase, _code(first.outcome.mail)))
        self.assertEqual(250, _code(second.outcome.final))
        self.assertNotIn(b"RSET", opened.server.heard)

    def test_all_refused_is_reset_once(self) -> None:
        """Where a transaction was left open, RSET goes before the next, in the same breath."""
        opened = Opened(
            {"rcpt": [b"550 no\r\n", b"250 ok\r\n"], "data": [b"503 no\r\n", b"354 go\r\n"]}
        )
        first = Letter().sent_over(opened.session)
        second = Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual(Phase.RCPT, first.outcome.phase)
        self.assertEqual(250, _code(second.outcome.final))
        verbs = [line[:4] for line in opened.server.heard[1:]]
        self.assertEqual([b"MAIL", b"RCPT", b"DATA", b"RSET", b"MAIL", b"RCPT", b"DATA"], verbs)
        self.assertEqual([], opened.clock.getDelayedCalls()[1:])

    def test_data_without_anybody_gets_a_lone_dot(self) -> None:
        """F32: 354 although all were refused is ended with a lone dot, and nobody got anything."""
        opened = Opened({"rcpt": b"550 no\r\n", "body": b"554 no valid recipients\r\n"})
        letter = Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual(b".\r\n", opened.wire.writes[-1])
        self.assertEqual(Phase.RCPT, letter.outcome.phase)
        self.assertFalse(letter.outcome.uncertain)
        self.assertIn("554 no valid recipients", letter.outcome.notes[0])
        self.assertTrue(opened.session.usable)

    def test_a_lone_dot_that_is_never_answered_is_not_uncertain(self) -> None:
        """Nobody was accepted, so nobody can have got it."""
        opened = Opened({"rcpt": b"450 later\r\n", "body": Cut()})
        letter = Letter().sent_over(opened.session)
        opened.run()
        self.assertFalse(letter.outcome.uncertain)
        self.assertEqual(450, _code(letter.outcome.rcpts[0]))

    def test_refused_data_is_told_as_such(self) -> None:
        """A refusal of DATA leaves the session usable, after a RSET."""
        opened = Opened({"data": b"451 later\r\n"})
        letter = Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual((Phase.DATA, 451), (letter.outcome.phase, _code(letter.outcome.data)))
        self.assertEqual(b"RSET", opened.server.heard[-1])
        self.assertTrue(opened.session.usable)

    def test_a_refused_reset_ends_the_session(self) -> None:
        """RSET is said once; a server that refuses it is not trusted with more."""
        opened = Opened({"data": b"451 later\r\n", "rset": b"500 what?\r\n"})
        Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual(1, opened.server.heard.count(b"RSET"))
        self.assertFalse(opened.session.usable)

    def test_an_unanswered_reset_ends_the_session(self) -> None:
        """A RSET has a deadline, too, though nothing waits for it."""
        opened = Opened({"data": b"451 later\r\n", "rset": SILENCE})
        Letter().sent_over(opened.session)
        opened.run()
        opened.wait(31.0)
        self.assertFalse(opened.session.usable)

    def test_421_ends_the_session_wherever_it_comes(self) -> None:
        """F29: after a 421 the reply is kept, and the connection is not used again."""
        for stage, phase in (
            ("mail", Phase.MAIL),
            ("rcpt", Phase.RCPT),
            ("data", Phase.DATA),
            ("body", Phase.FINAL),
        ):
            with self.subTest(stage=stage):
                opened = Opened({stage: b"421 4.3.2 bye\r\n"})
                letter = Letter().sent_over(opened.session)
                opened.run()
                outcome = letter.outcome
                replies = [outcome.mail, *outcome.rcpts, outcome.data, outcome.final]
                self.assertIn(421, map(_code, replies))
                self.assertEqual(phase, outcome.phase)
                self.assertFalse(outcome.uncertain or outcome.stale)
                self.assertFalse(opened.session.usable)
                self.assertFalse(opened.session.broken)

    def test_a_reply_that_makes_no_sense_breaks_the_session(self) -> None:
        """A 250 to DATA or a 354 to anything else is no answer: nothing more is believed."""
        for stage, answer in (("mail", 354), ("rcpt", 334), ("data", 250), ("body", 354)):
            with self.subTest(stage=stage):
                opened = Opened({stage: b"%d ok\r\n" % answer})
                letter = Letter().sent_over(opened.session)
                opened.run()
                self.assertEqual(stage == "body", letter.outcome.uncertain)
                self.assertTrue(opened.session.broken)

    def test_a_refusal_of_ours_is_not_sent(self) -> None:
        """F33: too large for the advertised SIZE: refused without a byte, but as an attempt."""
        opened = Opened({"ehlo": b"250-peer\r\n250 SIZE 20\r\n"})
        letter = Letter().sent_over(opened.session)
        self.assertEqual(1, len(opened.wire.writes))
        self.assertEqual(1, letter.begun)
        self.assertEqual((Phase.MAIL, 552), (letter.outcome.phase, _code(letter.outcome.mail)))
        self.assertIn(OURS, letter.outcome.notes)
        self.assertTrue(opened.session.usable)

    def test_an_unsafe_address_is_neither_sent_nor_begun(self) -> None:
        """S6: such a transaction fails before anything happens, and the session goes on."""
        opened = Opened()
        letter = Letter(to=("a@b>\r\nRCPT TO:<c@d",)).sent_over(opened.session)
        self.assertIsInstance(letter.error, UnsafeCommand)
        self.assertEqual((0, 1), (letter.begun, len(opened.wire.writes)))
        self.assertTrue(opened.session.usable)

    def test_crash_points_are_passed(self) -> None:
        """A crash can be placed behind the body and behind the last reply."""
        passed: list[str] = []
        self.addCleanup(observe_crashpoints(passed.append))
        opened = Opened()
        letter = Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual(["body-written", "reply-read"], passed)
        self.assertEqual(Phase.FINAL, letter.outcome.phase)


class NextTests(SynchronousTestCase):
    """A second transaction while the first is on its way."""

    def test_the_next_envelope_rides_with_the_body(self) -> None:
        """Body, dot and the next message's envelope are exactly one write."""
        opened = Opened()
        first = Letter().sent_over(opened.session)
        second = Letter().sent_over(opened.session)
        self.assertEqual([ENVELOPE], opened.wire.writes[1:])
        self.assertEqual((1, 0), (first.begun, second.begun))
        opened.run()
        self.assertEqual(
            [ENVELOPE, BODY + b".\r\n" + ENVELOPE, BODY + b".\r\n"], opened.wire.writes[1:]
        )
        self.assertEqual([250, 250], [_code(each.outcome.final) for each in (first, second)])

    def test_behind_the_body_the_envelope_goes_at_once(self) -> None:
        """What comes while the last reply is awaited does not wait for it (RFC 2920)."""
        opened = Opened({"body": SILENCE})
        Letter().sent_over(opened.session)
        opened.run()
        second = Letter().sent_over(opened.session)
        self.assertEqual(ENVELOPE, opened.wire.writes[-1])
        self.assertEqual(1, second.begun)

    def test_before_the_body_the_next_one_waits(self) -> None:
        """Nothing is written between DATA and the body."""
        opened = Opened()
        first = Letter(grant=None).sent_over(opened.session)
        opened.run()
        Letter().sent_over(opened.session)
        self.assertEqual([ENVELOPE], opened.wire.writes[1:])
        first.settle(True)
        self.assertEqual(BODY + b".\r\n" + ENVELOPE, opened.wire.writes[-1])

    def test_a_refused_body_does_not_harm_the_next(self) -> None:
        """The next envelope is out already; the refusal concerns the first alone."""
        opened = Opened({"body": [b"554 spam\r\n", b"250 ok\r\n"]})
        first = Letter().sent_over(opened.session)
        second = Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual([554, 250], [_code(each.outcome.final) for each in (first, second)])

    def test_a_lost_connection_tells_both_by_how_far_they_came(self) -> None:
        """The first is uncertain, the second was not heard of: it is stale, nothing accepted."""
        opened = Opened({"body": Cut()})
        first = Letter().sent_over(opened.session)
        second = Letter().sent_over(opened.session)
        opened.run()
        self.assertTrue(first.outcome.uncertain)
        self.assertFalse(first.outcome.stale)
        self.assertEqual((Phase.MAIL, True), (second.outcome.phase, second.outcome.stale))

    def test_one_that_was_only_queued_was_never_begun(self) -> None:
        """What no command was written of ends as SessionLost, and its intent is not asked for."""
        opened = Opened({"mail": Cut()})
        Letter().sent_over(opened.session)
        second = Letter().sent_over(opened.session)
        opened.run()
        self.assertIsInstance(second.error, SessionLost)
        self.assertEqual(0, second.begun)
        third = Letter().sent_over(opened.session)
        self.assertIsInstance(third.error, SessionLost)

    def test_a_dead_session_burns_no_attempt(self) -> None:
        """F42: a used session that dies at the next MAIL makes it stale; a new one does not."""
        for answer in (Cut(), b"421 too many\r\n"):
            opened = Opened({"mail": [b"250 ok\r\n", answer]})
            Letter().sent_over(opened.session)
            opened.run()
            late = Letter().sent_over(opened.session)
            opened.run()
            self.assertTrue(late.outcome.stale)
            fresh = Opened({"mail": answer})
            early = Letter().sent_over(fresh.session)
            fresh.run()
            self.assertFalse(early.outcome.stale)


class IntentTests(SynchronousTestCase):
    def test_a_login_that_expires_burns_no_attempt(self) -> None:
        """F50: a token that is over in mid-session ends the session; the message is just stale."""
        for pipelining in (True, False):
            for reply in (b"530 5.7.57 log in\r\n", b"535 5.7.8 expired\r\n"):
                login = TokenLogin("joe", "token")
                ehlo = b"250-peer.test\r\n250-AUTH XOAUTH2\r\n250 PIPELINING\r\n"
                opened = Opened(
                    {"ehlo": ehlo, "mail": [b"250 ok\r\n", reply]},
                    to=account(user="joe", allow_plaintext_auth=True),
                    pipelining=pipelining,
                    login=login,
                )
                first = Letter().sent_over(opened.session)
                opened.run()
                second = Letter(b"Subject: y\r\n\r\nother\r\n").sent_over(opened.session)
                opened.run()
                self.assertEqual(250, first.outcome.final.code if first.outcome.final else 0)
                self.assertEqual((True, None), (second.outcome.stale, second.outcome.mail))
                self.assertFalse(opened.session.usable)

    def test_a_password_does_not_expire(self) -> None:
        """F34: without a token, or on a new session, such a reply is the account's to hear."""
        opened = Opened({"mail": [b"250 ok\r\n", b"530 5.7.0 log in\r\n"]})
        letters = [Letter().sent_over(opened.session) for _ in range(2)]
        opened.run()
        mail = letters[1].outcome.mail
        self.assertEqual((530, False), (mail.code if mail else 0, letters[1].outcome.stale))

    def test_the_body_waits_for_the_intent(self) -> None:
        """I7: 354 alone is not enough."""
        opened = Opened()
        letter = Letter(grant=None).sent_over(opened.session)
        opened.run()
        self.assertEqual([ENVELOPE], opened.wire.writes[1:])
        letter.settle(True)
        self.assertEqual(BODY + b".\r\n", opened.wire.writes[-1])

    def test_a_refused_intent_cuts_the_connection(self) -> None:
        """After DATA, what was withdrawn ends the connection; not even a dot is written."""
        for settled_first in (True, False):
            opened = Opened()
            letter = Letter(grant=None).sent_over(opened.session)
            if settled_first:
                letter.settle(False)
                opened.run()
            else:
                opened.run()
                letter.settle(False)
            self.assertIsInstance(letter.error, Withdrawn)
            self.assertEqual([ENVELOPE], opened.wire.writes[1:])
            self.assertTrue(opened.wire.aborted)
            self.assertFalse(opened.session.usable)

    def test_an_intent_that_raises_is_refused(self) -> None:
        """An error while asking counts as a refusal, and is logged."""
        opened = Opened()
        letter = Letter(grant=RuntimeError("no")).sent_over(opened.session)
        opened.run()
        self.assertIsInstance(letter.error, Withdrawn)
        self.assertEqual(0, opened.server.dots)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_an_error_of_our_own_ends_the_session(self) -> None:
        """What raises while a reply is read is logged; what was under way has its outcome."""
        opened = Opened()
        letter = Letter().sent_over(opened.session)

        def broken(data: bytes) -> None:
            raise ZeroDivisionError

        opened.wire.write = broken  # type: ignore[method-assign]
        opened.run()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertFalse(opened.session.usable)
        self.assertTrue(opened.wire.aborted)
        self.assertEqual("an internal error", letter.outcome.error)

    def test_the_one_before_keeps_its_answer(self) -> None:
        """A refused intent of the next one does not make the first uncertain."""
        opened = Opened()
        first = Letter().sent_over(opened.session)
        second = Letter(grant=False).sent_over(opened.session)
        opened.run()
        self.assertEqual(250, _code(first.outcome.final))
        self.assertIsInstance(second.error, Withdrawn)
        self.assertEqual(1, opened.server.dots)

    def test_refused_by_both_the_session_lives(self) -> None:
        """If the server refuses DATA anyway, nothing has to be cut."""
        opened = Opened({"data": b"451 later\r\n"})
        letter = Letter(grant=False).sent_over(opened.session)
        opened.run()
        self.assertIsInstance(letter.error, Withdrawn)
        self.assertTrue(opened.session.usable)

    def test_an_outcome_waits_for_its_intent(self) -> None:
        """Nothing is told of an attempt before it is known whether there is one."""
        opened = Opened({"mail": Cut()})
        letter = Letter(grant=None).sent_over(opened.session)
        opened.run()
        self.assertEqual([], letter.results)
        letter.settle(True)
        self.assertEqual(Phase.MAIL, letter.outcome.phase)

    def test_a_lone_dot_is_not_a_body(self) -> None:
        """An intent granted after the lone dot has gone changes nothing."""
        opened = Opened({"rcpt": b"550 no\r\n", "body": SILENCE})
        letter = Letter(grant=None).sent_over(opened.session)
        opened.run()
        letter.settle(True)
        self.assertEqual(b".\r\n", opened.wire.writes[-1])
        self.assertEqual(1, opened.server.dots)


class SequentialTests(SynchronousTestCase):
    """Without PIPELINING, or where it is not to be used."""

    def test_one_command_at_a_time(self) -> None:
        """Each command waits for the reply to the one before."""
        for opened in (Opened({"ehlo": PLAIN_EHLO}), Opened(pipelining=False)):
            for _ in range(2):
                Letter(to=("b@x.y", "c@x.y")).sent_over(opened.session)
            opened.run()
            self.assertEqual(2, len(opened.server.messages))
            for write in opened.wire.writes[1:]:
                self.assertTrue(write.count(b"\r\n") == 1 or write.endswith(b"\r\n.\r\n"))

    def test_refusals_end_a_transaction_early(self) -> None:
        """A refused MAIL is not followed by RCPT, refused RCPTs not by DATA."""
        opened = Opened({"ehlo": PLAIN_EHLO, "mail": b"451 later\r\n"})
        letter = Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual(Phase.MAIL, letter.outcome.phase)
        self.assertEqual(2, len(opened.server.heard))

        opened = Opened({"ehlo": PLAIN_EHLO, "rcpt": [b"550 no\r\n", b"550 no\r\n", b"250 k\r\n"]})
        letter = Letter(to=("b@x.y", "c@x.y")).sent_over(opened.session)
        after = Letter().sent_over(opened.session)
        opened.run()
        self.assertEqual(Phase.RCPT, letter.outcome.phase)
        self.assertEqual(b"RSET", opened.server.heard[4])
        self.assertEqual(250, _code(after.outcome.final))

    def test_a_withdrawn_message_costs_no_connection(self) -> None:
        """Before DATA, RSET takes everything back."""
        opened = Opened({"ehlo": PLAIN_EHLO})
        letter = Letter(grant=False).sent_over(opened.session)
        opened.run()
        self.assertIsInstance(letter.error, Withdrawn)
        self.assertEqual([b"MAIL", b"RSET"], [line[:4] for line in opened.server.heard[1:]])
        self.assertTrue(opened.session.usable)


class LargeTests(SynchronousTestCase):
    """Bodies that go in chunks."""

    BODY = b"0123456789abcdef\r\n.\r\n" * (ONE_WRITE // 4)

    def test_a_large_body_arrives_as_it_was(self) -> None:
        """Chunks change nothing about a body, wherever their edges fall."""
        opened = Opened(capacity=100_000)
        letter = Letter(self.BODY).sent_over(opened.session)
        following = Letter().sent_over(opened.session)
        opened.run()
        while not letter.results:
            opened.wire.drain()
            opened.run()
        self.assertEqual(self.BODY, opened.server.messages[0][2])
        self.assertIsNone(opened.wire.producer)
        self.assertEqual(250, _code(following.outcome.final))
        self.assertIn(
            b".\r\n" + ENVELOPE, [write[-len(ENVELOPE) - 3 :] for write in opened.wire.writes]
        )

    def test_before_its_last_chunk_it_is_safe(self) -> None:
        """F39: a connection that breaks before the dot is handed over leaves nothing uncertain."""
        opened = Opened(capacity=10)
        letter = Letter(self.BODY).sent_over(opened.session)
        opened.run()
        opened.server.say(Cut())
        opened.run()
        self.assertEqual((Phase.BODY, False), (letter.outcome.phase, letter.outcome.uncertain))

    def test_a_reply_in_the_middle_is_kept_and_ends_the_session(self) -> None:
        """An early refusal is the result; nothing is written into the body after it."""
        opened = Opened(capacity=10)
        letter = Letter(self.BODY).sent_over(opened.session)
        opened.run()
        count = len(opened.wire.writes)
        opened.server.say(b"552 5.3.4 too big\r\n")
        opened.run()
        self.assertEqual(552, _code(letter.outcome.final))
        self.assertTrue(opened.wire.aborted)
        self.assertIsNone(opened.wire.producer)
        self.assertEqual(count, len(opened.wire.writes))

    def test_an_early_yes_is_not_believed(self) -> None:
        """I4: a 250 before the end of the body proves nothing."""
        opened = Opened(capacity=10)
        letter = Letter(self.BODY).sent_over(opened.session)
        opened.run()
        opened.server.say(b"250 ok\r\n")
        opened.run()
        self.assertIsNone(letter.outcome.final)
        self.assertTrue(opened.session.broken)

    def test_progress_is_what_counts(self) -> None:
        """F48: a slow body has as long as it moves; without progress it is given up."""
        opened = Opened(capacity=10)
        letter = Letter(self.BODY).sent_over(opened.session)
        opened.run()
        for _ in range(2):
            opened.wait(BODY_TIMEOUT - 1)
            opened.wire.drain()
        self.assertEqual([], letter.results)
        opened.wait(BODY_TIMEOUT + 1)
        self.assertEqual(Phase.BODY, letter.outcome.phase)

    def test_a_body_survives_three_minutes_without_network(self) -> None:
        """F48: a connection that moves again after three minutes goes on: one copy, whole."""
        opened = Opened(capacity=10)
        letter = Letter(self.BODY).sent_over(opened.session)
        opened.run()
        opened.wait(180.0)
        while opened.wire.producer is not None:
            opened.wire.drain()
        opened.run()
        self.assertEqual([self.BODY], [body for _, _, body in opened.server.messages])
        self.assertEqual(250, letter.outcome.final.code if letter.outcome.final else None)


class TimerTests(SynchronousTestCase):
    def test_each_reply_has_its_time(self) -> None:
        """F25: the account's timeout for each reply before the body."""
        for stage, phase in (("mail", "mail"), ("rcpt", "rcpt"), ("data", "data")):
            with self.subTest(stage=stage):
                opened = Opened({stage: SILENCE}, to=account(timeout=10.0))
                letter = Letter().sent_over(opened.session)
                opened.wait(0)
                opened.wait(9.9)
                self.assertEqual([], letter.results)
                opened.wait(0.2)
                self.assertEqual(phase, letter.outcome.phase)
                self.assertIn("no answer", letter.outcome.error)
                self.assertTrue(opened.wire.aborted)

    def test_the_last_reply_may_take_ten_minutes(self) -> None:
        """F40: within ten minutes it counts; after that nobody knows."""
        opened = Opened({"body": SILENCE})
        letter = Letter().sent_over(opened.session)
        opened.run()
        opened.wait(FINAL_TIMEOUT - 60)
        opened.server.say(b"250 at last\r\n")
        opened.run()
        self.assertEqual("at last", letter.outcome.final and letter.outcome.final.text)
        opened = Opened({"body": SILENCE})
        letter = Letter().sent_over(opened.session)
        opened.run()
        opened.wait(FINAL_TIMEOUT + 60)
        self.assertTrue(letter.outcome.uncertain)

    def test_the_short_time_holds_again_after_a_long_one(self) -> None:
        """Behind a body that took its time, the next MAIL has the account's timeout only."""
        opened = Opened({"body": SILENCE, "mail": [b"250 ok\r\n", SILENCE]})
        Letter().sent_over(opened.session)
        opened.run()
        opened.wait(100.0)
        second = Letter().sent_over(opened.session)
        opened.server.say(b"250 ok\r\n")
        opened.run()
        opened.wait(31.0)
        self.assertEqual(Phase.MAIL, second.outcome.phase)

    def test_an_intent_that_never_comes_does_not_hold_the_server(self) -> None:
        """Between 354 and the body there is a limit, too."""
        opened = Opened()
        letter = Letter(grant=None).sent_over(opened.session)
        opened.run()
        opened.wait(BODY_TIMEOUT + 1)
        self.assertTrue(opened.wire.aborted)
        letter.settle(True)
        self.assertEqual(Phase.DATA, letter.outcome.phase)


def _code(reply: Reply | None) -> int | None:
    return reply.code if reply is not None else None
