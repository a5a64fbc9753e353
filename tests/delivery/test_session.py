from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.auth import Login, TokenLogin
from mailproxy.delivery.session import Session
from mailproxy.errors import AccountFault
from mailproxy.states import TlsMode
from tests.delivery.peer import (
    DEFAULTS,
    EHLO,
    PLAIN_EHLO,
    SILENCE,
    Answer,
    Cut,
    Letter,
    Opened,
    account,
)

AUTH_EHLO = b"250-peer.test\r\n250-auth Login plain\r\n250 PIPELINING\r\n"

LOGIN = account(user="joe", password="canary-secret", allow_plaintext_auth=True)


def watch_log(test: SynchronousTestCase, seen: Callable[[dict[str, Any]], None]) -> None:
    """Have *seen* called with every event logged during *test*."""
    observer = cast(ILogObserver, seen)
    globalLogPublisher.addObserver(observer)
    test.addCleanup(globalLogPublisher.removeObserver, observer)


class SessionCase(SynchronousTestCase):
    def assert_fault(self, opened: Opened, phase: str, code: int | None = None) -> AccountFault:
        fault = opened.result
        assert isinstance(fault, AccountFault), fault
        self.assertEqual((phase, code), (fault.phase, fault.code))
        self.assertTrue(opened.wire.aborted or opened.server.over)
        self.assertEqual([], opened.clock.getDelayedCalls())
        return fault


class OpeningTests(SessionCase):
    def test_the_session_is_ready_after_ehlo(self) -> None:
        """Without TLS and login, EHLO is all; then the session is handed out."""
        opened = Opened()
        self.assertIs(opened.session, opened.result)
        self.assertTrue(opened.session.usable)
        self.assertEqual([b"EHLO me.test"], opened.server.heard)

    def test_nothing_waits_for_more_to_send(self) -> None:
        """TCP_NODELAY is set: a small write is not held back."""
        self.assertTrue(Opened().wire.nodelay)

    def test_helo_is_enough_where_nothing_needs_more(self) -> None:
        """A server that knows no EHLO is greeted with HELO, and then not pipelined to."""
        opened = Opened({"ehlo": b"502 what?\r\n"})
        self.assertEqual([b"EHLO me.test", b"HELO me.test"], opened.server.heard)
        letter = Letter().sent_over(opened.session)
        self.assertEqual(b"MAIL FROM:<a@example.com>\r\n", opened.wire.writes[-1])
        opened.run()
        assert letter.outcome.final is not None

    def test_login_needs_ehlo(self) -> None:
        """With credentials there is no way round EHLO."""
        opened = Opened({"ehlo": b"502 what?\r\n"}, to=LOGIN)
        self.assert_fault(opened, "ehlo", 502)

    def test_a_refusal_ends_the_opening_where_it_comes(self) -> None:
        """F29: a refusal in the opening is the account's fault, told with phase and code."""
        cases: list[tuple[dict[str, Answer], str, int]] = [
            ({"banner": b"421 busy\r\n"}, "banner", 421),
            ({"banner": b"554 go away\r\n"}, "banner", 554),
            ({"ehlo": b"421 busy\r\n"}, "ehlo", 421),
            ({"ehlo": b"451 later\r\n"}, "ehlo", 451),
            ({"ehlo": b"502 what\r\n", "helo": b"550 no\r\n"}, "ehlo", 550),
        ]
        for answers, phase, code in cases:
            with self.subTest(answers=answers):
                self.assert_fault(Opened(answers), phase, code)

    def test_a_broken_connection_ends_the_opening(self) -> None:
        """F23: a reset before the session is ready is told with its phase, without a code."""
        for answers, phase in (
            ({"banner": Cut()}, "banner"),
            ({"banner": Cut(b"220 he")}, "banner"),
            ({"ehlo": Cut(b"250-peer\r\n", clean=True)}, "ehlo"),
        ):
            with self.subTest(phase=phase):
                self.assert_fault(Opened(answers), phase)

    def test_a_malformed_reply_ends_the_opening(self) -> None:
        """F28: what is no reply is the account's fault, without a crash."""
        self.assert_fault(Opened({"banner": b"25O hello\r\n"}), "banner")
        self.assert_fault(Opened({"banner": b"354 go\r\n"}), "banner", 354)

    def test_a_silent_server_is_given_up(self) -> None:
        """F24, F25: a server that says nothing has the account's timeout, at each step."""
        for stage, phase in (("banner", "banner"), ("ehlo", "ehlo")):
            with self.subTest(stage=stage):
                opened = Opened({stage: SILENCE}, to=account(timeout=7.0))
                opened.wait(6.9)
                self.assertIsNone(opened.result)
                opened.wait(0.2)
                self.assert_fault(opened, phase)

    def test_bytes_that_trickle_in_move_no_deadline(self) -> None:
        """F26: only a complete reply counts; one byte after the other is silence."""
        opened = Opened({"banner": SILENCE}, to=account(timeout=30.0))
        for byte in b"220-peer.test\r\n220-and so on":
            opened.server.say(bytes([byte]))
            opened.wait(2.0)
        self.assert_fault(opened, "banner")

    def test_a_reset_at_every_byte_of_the_opening(self) -> None:
        """F23: wherever the greeting or the answer to EHLO breaks off, there is one fault."""
        for stage, whole in (("banner", DEFAULTS["banner"]), ("ehlo", EHLO)):
            for count in range(len(whole)):
                for clean in (True, False):
                    self.assert_fault(Opened({stage: Cut(whole[:count], clean)}), stage)

    def test_any_bytes_in_the_opening_are_a_fault(self) -> None:
        """F27, F28: lines without end and what is no reply at all are given up at once."""
        for said in (
            b"2" * 100_000,
            b"220-more\r\n" * 200,
            b"25O ok\r\n",
            b"220 bare line feed\n",
            bytes(range(256)),
            b"\x16\x03\x01\r\n",
        ):
            with self.subTest(said=said[:10]):
                self.assert_fault(Opened({"banner": said}), "banner")

    def test_nothing_is_collected_behind_the_end(self) -> None:
        """F27: a server that goes on talking after our QUIT fills no memory."""
        opened = Opened()
        opened.session.quit()
        for _ in range(100):
            opened.session.dataReceived(b"250 still here" * 1000)
        self.assertEqual(0, opened.session.replies.held)

    def test_a_name_that_is_no_name_is_not_sent(self) -> None:
        """S7: an EHLO name with a line end is refused before it is written."""
        opened = Opened(run=False)
        opened.session.identity = b"me\r\nMAIL FROM:<x@y>"
        opened.run()
        self.assert_fault(opened, "ehlo")
        self.assertEqual([], opened.wire.writes)

    def test_required_tls_that_is_not_offered_is_a_fault(self) -> None:
        """F36: an account that requires STARTTLS sends nothing to a server without it."""
        opened = Opened(to=account(tls_mode=TlsMode.STARTTLS))
        fault = self.assert_fault(opened, "tls")
        self.assertIn("STARTTLS", fault.reason)
        self.assertEqual([b"EHLO me.test"], opened.server.heard)


class LoginTests(SessionCase):
    def open(self, ehlo: bytes, auth: Answer, **changes: Any) -> Opened:
        return Opened({"ehlo": ehlo, "auth": auth}, to=attrs.evolve(LOGIN, **changes))

    def test_plain_is_preferred(self) -> None:
        """PLAIN is used where it is offered, without an authorization identity."""
        opened = self.open(AUTH_EHLO, b"235 hello\r\n")
        self.assertIsInstance(opened.result, Session)
        word = base64.b64encode(b"\0joe\0canary-secret")
        self.assertEqual(b"AUTH PLAIN " + word, opened.server.heard[-1])

    def test_login_is_used_where_there_is_no_plain(self) -> None:
        """LOGIN answers user and password to the two questions, whatever they say."""
        ehlo = b"250-peer\r\n250 AUTH CRAM-MD5 LOGIN\r\n"
        opened = self.open(ehlo, [b"334 VXNlcg==\r\n", b"334 !!!\r\n", b"235 hello\r\n"])
        self.assertIsInstance(opened.result, Session)
        said = [base64.b64encode(word) for word in (b"joe", b"canary-secret")]
        self.assertEqual([b"AUTH LOGIN", *said], opened.server.heard[1:])

    def test_a_refused_login_is_tried_once(self) -> None:
        """F34: one refusal is the end: the account's fault in phase auth, with its code."""
        for code in (535, 534, 454, 538, 504, 421):
            with self.subTest(code=code):
                opened = self.open(AUTH_EHLO, b"%d 5.7.8 no\r\n" % code)
                fault = opened.result
                assert isinstance(fault, AccountFault)
                self.assertEqual(("auth", code), (fault.phase, fault.code))
                self.assertEqual(1, sum(b"AUTH" in line for line in opened.server.heard))

    def test_what_a_server_repeats_of_the_login_is_hidden(self) -> None:
        """S16: a refusal that repeats the credentials, whole or in part, does not carry them on."""
        word = base64.b64encode(b"\0joe\0canary-secret")
        for answer in (
            b"535 no canary-secret here\r\n",
            b"500 5.5.2 unknown: AUTH PLAIN " + word + b"\r\n",
            b"501 bad base64 <" + word[:12] + b"...>\r\n",
            b"500-" + word + b"\r\n500 sorry\r\n",
            b"AUTH PLAIN " + word + b"?\r\n",
        ):
            fault = self.open(AUTH_EHLO, answer).result
            assert isinstance(fault, AccountFault)
            self.assertEqual("auth", fault.phase)
            self.assertIn("********", fault.reason)
            for secret in ("canary-secret", *(word[n : n + 8].decode() for n in range(12))):
                self.assertNotIn(secret, fault.reason)

    def test_a_token_is_said_at_once(self) -> None:
        """XOAUTH2 sends user and token with the command; a refusal is asked for with nothing."""
        ehlo = b"250-peer.test\r\n250 AUTH PLAIN XOAUTH2\r\n"
        login = TokenLogin("joe@example.com", "canary-token")
        said = b"user=joe@example.com\x01auth=Bearer canary-token\x01\x01"
        line = b"AUTH XOAUTH2 " + base64.b64encode(said)
        opened = Opened({"ehlo": ehlo}, to=LOGIN, login=login)
        self.assertIs(opened.session, opened.result)
        self.assertEqual(line, opened.server.heard[-1])

        answers: Answer = [b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n", b"535 5.7.8 bad canary-token\r\n"]
        opened = Opened({"ehlo": ehlo, "auth": answers}, to=LOGIN, login=login)
        fault = self.assert_fault(opened, "auth", 535)
        self.assertEqual([line, b""], opened.server.heard[-2:])
        self.assertNotIn("canary-token", repr((fault, login)))

        opened = Opened({"ehlo": AUTH_EHLO}, to=LOGIN, login=login)
        self.assertIn("(XOAUTH2)", self.assert_fault(opened, "auth").reason)

    def test_a_mechanism_may_be_insisted_on(self) -> None:
        """F35: where the account names a mechanism, no other is used, offered or not."""
        for method, start in (("plain", b"AUTH PLAIN "), ("login", b"AUTH LOGIN")):
            login = Login("joe", "canary-secret", method)
            opened = Opened({"ehlo": AUTH_EHLO, "auth": b"334 x\r\n"}, to=LOGIN, login=login)
            self.assertTrue(opened.server.heard[1].startswith(start))
            opened = Opened({"ehlo": b"250-x\r\n250 AUTH CRAM-MD5\r\n"}, to=LOGIN, login=login)
            self.assert_fault(opened, "auth")
            self.assertEqual(1, len(opened.server.heard))

    def test_a_server_that_never_has_enough_is_given_up(self) -> None:
        """A third question is not answered."""
        opened = self.open(b"250-peer\r\n250 AUTH LOGIN\r\n", b"334 \r\n")
        self.assertIsInstance(opened.result, AccountFault)

    def test_no_login_offered_is_a_fault(self) -> None:
        """F35: without a mechanism we know, the account's configuration is at fault."""
        opened = self.open(b"250-peer\r\n250 AUTH CRAM-MD5\r\n", b"")
        assert isinstance(opened.result, AccountFault)
        self.assertEqual("auth", opened.result.phase)
        self.assertIn("CRAM-MD5", opened.result.reason)

    def test_credentials_never_go_in_clear(self) -> None:
        """S5: without TLS no AUTH is sent, unless the account says that it may be."""
        opened = self.open(AUTH_EHLO, b"235 hello\r\n", allow_plaintext_auth=False)
        assert isinstance(opened.result, AccountFault)
        self.assertEqual("auth", opened.result.phase)
        self.assertEqual([b"EHLO me.test"], opened.server.heard)

    def test_the_secret_is_nowhere(self) -> None:
        """I8: neither error texts nor the log of commands hold the password in any form."""
        seen: list[str] = []

        watch_log(self, lambda event: seen.append(repr(event)))
        for answer in (b"235 ok\r\n", b"535 no\r\n", b"334 again?\r\n", Cut()):
            opened = Opened({"ehlo": AUTH_EHLO, "auth": answer}, to=LOGIN, trace=True)
            seen += [repr(opened.result), str(opened.result), repr(opened.factory.login)]
        text = "\n".join(seen)
        self.assertIn("(credentials)", text)
        for secret in (
            "canary-secret",
            base64.b64encode(b"canary-secret").decode(),
            base64.b64encode(b"\0joe\0canary-secret").decode(),
        ):
            self.assertNotIn(secret, text)


class IdleTests(SynchronousTestCase):
    def test_an_unasked_421_ends_an_idle_session_quietly(self) -> None:
        """F29, F42: a goodbye between messages makes the session unusable, and nothing else."""
        opened = Opened()
        gone: list[Session] = []
        opened.session.gone = gone.append
        opened.server.say(b"421 4.4.2 idle too long\r\n")
        opened.run()
        self.assertFalse(opened.session.usable)
        self.assertEqual([opened.session], gone)
        self.assertFalse(opened.session.broken)

    def test_a_closed_idle_session_is_unusable(self) -> None:
        """F42: the server may close between messages."""
        opened = Opened()
        gone: list[Session] = []
        opened.session.gone = gone.append
        opened.server.say(Cut(clean=True))
        opened.run()
        self.assertFalse(opened.session.usable)
        self.assertEqual([opened.session], gone)

    def test_anything_else_unasked_breaks_the_session(self) -> None:
        """A reply nobody asked for would be taken for the next one's: the session ends."""
        opened = Opened()
        opened.server.say(b"250 by the way\r\n")
        opened.run()
        self.assertFalse(opened.session.usable)
        self.assertTrue(opened.session.broken)

    def test_an_idle_session_has_no_timer(self) -> None:
        """An idle session waits for ever; whoever keeps it decides when it has had enough."""
        opened = Opened()
        opened.wait(3600.0)
        self.assertTrue(opened.session.usable)
        self.assertEqual([], opened.clock.getDelayedCalls())

    def test_quit_says_goodbye(self) -> None:
        """QUIT is said and the answer awaited before the connection is closed."""
        opened = Opened()
        done: list[None] = []
        opened.session.quit().addCallback(done.append)
        self.assertFalse(opened.session.usable)
        self.assertEqual([], done)
        opened.run()
        self.assertEqual([None], done)
        self.assertEqual(b"QUIT", opened.server.heard[-1])
        self.assertFalse(opened.wire.aborted)

    def test_quit_does_not_wait_for_ever(self) -> None:
        """A server that does not answer QUIT is cut off after 5 s."""
        opened = Opened({"quit": SILENCE})
        done: list[None] = []
        opened.session.quit().addCallback(done.append)
        opened.run()
        opened.wait(4.9)
        self.assertEqual([], done)
        opened.wait(0.2)
        self.assertEqual([None], done)
        self.assertEqual([], opened.clock.getDelayedCalls())

    def test_quit_of_a_session_that_is_gone_is_done(self) -> None:
        """There is nobody to say goodbye to."""
        opened = Opened()
        opened.server.say(Cut())
        opened.run()
        self.successResultOf(opened.session.quit())

    def test_the_log_of_commands_shows_both_sides(self) -> None:
        """DEBUG: every command and reply is logged, bodies as their size."""
        seen: list[str] = []

        watch_log(self, lambda event: seen.append(str(event.get("what") or event.get("reply"))))
        opened = Opened({"ehlo": PLAIN_EHLO}, trace=True)
        Letter(b"Subject: hidden\r\n\r\ncanary\r\n").sent_over(opened.session)
        opened.run()
        self.assertIn("MAIL FROM:<a@example.com>", seen)
        self.assertIn("354 go on", seen)
        self.assertIn("(27 octets)", seen)
        self.assertNotIn("canary", "".join(seen))
