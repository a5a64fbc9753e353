"""What known replies of known providers mean."""

from __future__ import annotations

import time
from importlib.resources import files

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.dispatch.faults import Standing
from mailproxy.dispatch.judge import Rules, judge
from mailproxy.model import Account, Outcome, Reply
from mailproxy.reply_rules import Action, RuleBook, read_rules
from mailproxy.states import Phase, RecipientState, TlsMode
from tests.dispatch.test_judge import NOW, claimed

SHIPPED = read_rules(files("mailproxy").joinpath("reply_rules.toml").read_text("utf-8"))

SES = "email-smtp.eu-west-1.amazonaws.com"

#: For each shipped rule, in order: a host, and a reply as it is seen there.
SEEN = (
    ("smtp.gmail.com", 550, "5.4.5 Daily user sending limit exceeded. a1-2002 - gsmtp"),
    ("smtp-relay.gmail.com", 450, "4.2.1 Peak SMTP relay limit exceeded for customer. - gsmtp"),
    ("smtp.gmail.com", 421, "4.7.28 Our system has detected an unusual rate of mail - gsmtp"),
    ("smtp.gmail.com", 454, "4.7.0 Too many login attempts, please try again later. - gsmtp"),
    ("smtp.office365.com", 432, "4.3.2 Concurrent connections limit exceeded. [X.PROD]"),
    ("smtp.office365.com", 554, "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceeded"),
    ("smtp.office365.com", 550, "5.2.252 Sender throttled due to continuous send as denied errors"),
    ("smtp.office365.com", 535, "5.7.139 Authentication unsuccessful, it is disabled"),
    (SES, 454, "Throttling failure: Daily message quota exceeded"),
    (
        SES,
        454,
        "Throttling failure: Maximum sending rate exceeded",
    ),
    (SES, 421, "Too many concurrent SMTP connections"),
    (SES, 554, "Message rejected: address is not verified."),
    ("smtp.sendgrid.net", 451, "Authentication failed: Maximum credits exceeded"),
    ("smtp.sendgrid.net", 550, "Temporarily blocked: too many requests"),
    ("smtp.sendgrid.net", 550, "The from address does not match a verified Sender Identity."),
    ("smtp.mailgun.org", 554, "Domain example.org is not allowed to send: account disabled"),
    ("smtp.eu.mailgun.org", 452, "4.5.3 recipient limit exceeded"),
)


def account(host: str) -> Account:
    return Account(7, "default", "main", 1, host, 587, TlsMode.STARTTLS)


class ShippedTests(SynchronousTestCase):
    def test_each_has_its_reply(self) -> None:
        """Every shipped rule is the one found for a reply as its provider gives it."""
        book = RuleBook(SHIPPED)
        found = [book.find(host, Reply(code, text)) for host, code, text in SEEN]
        self.assertEqual(list(SHIPPED), found)

    def test_nothing_is_found_elsewhere(self) -> None:
        """The same words from another host, and an acceptance, mean what their code says."""
        book = RuleBook(SHIPPED)
        for host, code, text in SEEN:
            self.assertIsNone(book.find(f"{host}.example.net", Reply(code, text)))
            self.assertIsNone(book.find(f"not{host}", Reply(250, text)))

    def test_what_follows(self) -> None:
        """Each does in an attempt what its action says."""
        rules = Rules(replies=RuleBook(SHIPPED))
        for rule, (host, code, text) in zip(SHIPPED, SEEN, strict=True):
            judged = judge(
                claimed(), account(host), Outcome(Phase.MAIL, Reply(code, text)), NOW, rules
            )
            (change,) = judged.record.changes
            self.assertEqual({rule: Reply(code, text)}, judged.rules)
            if rule.action is Action.PAUSE:
                self.assertEqual((Standing.STRIKE, rule.seconds), (judged.standing, judged.pause))
                self.assertIs(RecipientState.DEFERRED, change.state)
            elif rule.action is Action.SLOW:
                self.assertIs(Standing.SLOWER, judged.standing)
                self.assertIs(RecipientState.DEFERRED, change.state)

    def test_fail_and_retry(self) -> None:
        """A rule can make a temporary reply final, and a final one temporary."""
        text = '[[rule]]\nname="a"\ncodes=["4xx"]\ntext="never"\naction="fail"\n'
        text += '[[rule]]\nname="b"\ncodes=["5xx"]\naction="retry"\n'
        rules = Rules(replies=RuleBook(SHIPPED, read_rules(text)))
        for code, said, state in (
            (450, "never again", RecipientState.FAILED),
            (550, "5.4.5 Daily user sending limit exceeded", RecipientState.DEFERRED),
        ):
            outcome = Outcome(Phase.MAIL, Reply(code, said))
            judged = judge(claimed(), account("smtp.gmail.com"), outcome, NOW, rules)
            self.assertIs(state, judged.record.changes[0].state)
            self.assertIs(Standing.WORKS, judged.standing)


class FileTests(SynchronousTestCase):
    def test_what_is_wrong_is_named(self) -> None:
        """Each mistake is told with the number of its rule, and nothing is taken."""
        good = 'name="n"\ncodes=["421"]\naction="slow"\n'
        for text, words in (
            ("rule = [", "TOML"),
            ("x = 1", "[[rule]]"),
            ("[[rule]]\n" + good + "[[rule]]\nname='n'\naction='slow'", "rule 2: codes is missing"),
            ("[[rule]]\n" + good + "wide = 1", "unknown: wide"),
            ("[[rule]]\n" + good.replace("slow", "shout"), "action"),
            ("[[rule]]\n" + good.replace("421", "250"), "codes"),
            ("[[rule]]\n" + good.replace("slow", "pause"), "seconds"),
            ("[[rule]]\n" + good + "seconds = 5", "seconds"),
            ("[[rule]]\n" + good + "enhanced = '4.x'", "enhanced"),
            ("[[rule]]\n" + good + "hosts = 'a'", "hosts"),
            ("[[rule]]\n" + good + "text = '(a+)+b'", "repetition"),
            ("[[rule]]\n" + good + "text = 'a{9}'", "repetition"),
            ("[[rule]]\n" + good + "text = '.*a'", "empty"),
        ):
            error = self.assertRaises(ValueError, read_rules, text)
            self.assertIn(words, str(error), text)

    def test_pieces_in_order(self) -> None:
        """Between pieces anything may stand; alternatives are tried in turn; case is no matter."""
        text = "[[rule]]\nname='n'\ncodes=['45x']\naction='slow'\ntext='too many.*from \\d|busy'"
        book = RuleBook(read_rules(text))
        for said, fits in (
            ("4.7.0 Too many connections from 9.9.9.9", True),
            ("from 9 too many", False),
            ("SERVER BUSY", True),
            ("hurried", False),
        ):
            self.assertEqual(fits, book.find("any.example", Reply(451, said)) is not None)

    @given(st.text(alphabet="ab.*|[]\\d-^$", min_size=1, max_size=120))
    def test_no_pattern_blows_up(self, pattern: str) -> None:
        """Whatever is accepted as a pattern is done with a long reply at once."""
        head = "[[rule]]\nname='n'\ncodes=['4xx']\naction='slow'\ntext="
        try:
            (rule,) = read_rules(head + "'" + pattern + "'")
        except ValueError:
            return
        began = time.monotonic()
        rule.fits("x", Reply(450, "ab" * 30_000))
        self.assertLess(time.monotonic() - began, 0.5)
