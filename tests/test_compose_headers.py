"""Header lines: which names clients may use, how values are encoded and folded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.compose import is_reserved_header
from mailproxy.errors import BadMessage
from mailproxy.headers import MAX_VALUE, check_header, mailbox_header, text_header
from mailproxy.model import Mailbox
from mailproxy.words import decode_words


class ReservedTests(SynchronousTestCase):
    def test_reserved(self) -> None:
        """What we write, and what only a mail server may write, is not the client's."""
        for name in (
            *("From", "To", "Cc", "BCC", "Subject", "Date", "Received", "Message-Id", "Reply-To"),
            *("Return-Path", "X-Genro-Mail-ID", "MIME-Version", "mime-foo", "Content-Type"),
            *("Content-Transfer-Encoding", "content-x", "DKIM-Signature", "Authentication-Results"),
            *("Resent-Bcc", "content-\nx"),
        ):
            self.assertTrue(is_reserved_header(name), name)

    def test_free(self) -> None:
        """Everything else is."""
        for name in (
            *("X-From", "X-Campaign", "Sender", "List-Unsubscribe", "References", "In-Reply-To"),
            *("Importance", "Contents", "Mime", "Subject2", "Precedence", "Dkim"),
        ):
            self.assertFalse(is_reserved_header(name), name)

    def test_check(self) -> None:
        """A header is checked, name and value, though it may never be sent."""
        check_header("X-A", "a tab\tand é")
        for name, value in (("X A", ""), ("", ""), ("X-A", "a\r\nb"), ("X-A", "\ud800")):
            self.assertRaises(BadMessage, check_header, name, value)


class TextTests(SynchronousTestCase):
    def test_folding(self) -> None:
        """A long value breaks at spaces into lines of at most 78 characters."""
        line = text_header("subject", "Subject", " ".join(["word"] * 40))
        rows = line.split("\r\n")
        self.assertEqual("", rows.pop())
        self.assertEqual("Subject: " + " ".join(["word"] * 40), "".join(rows))
        self.assertEqual([78, 75, 55], list(map(len, rows)))
        self.assertTrue(all(row.startswith(" word") for row in rows[1:]))

    def test_a_word_longer_than_a_line(self) -> None:
        """A word that no line of 78 takes has one of its own, of at most 998."""
        url = "<https://example.org/" + "x" * 300 + ">"
        line = text_header("h", "List-Unsubscribe", f"<mailto:a@b.c>, {url}")
        self.assertEqual(f"List-Unsubscribe: <mailto:a@b.c>,\r\n {url}\r\n", line)
        line = text_header("h", "X-A", "y" * 2000)
        self.assertLessEqual(max(map(len, line.split("\r\n"))), 78)

    def test_a_value_longer_than_any_header(self) -> None:
        """The longest value is composed, one character more is refused."""
        longest = text_header("subject", "Subject", "é" * MAX_VALUE)
        self.assertEqual(
            "é" * MAX_VALUE, decode_words(longest.partition(": ")[2].replace("\r\n", ""))
        )
        for value in ("é" * (MAX_VALUE + 1), "x " * MAX_VALUE):
            error = self.assertRaises(BadMessage, text_header, "subject", "Subject", value)
            self.assertEqual("subject", error.field)

    def test_only_what_needs_it_is_encoded(self) -> None:
        """Plain words around the others stay as they are, so addresses and ids stay readable."""
        self.assertEqual(
            "Sender: =?utf-8?b?SsO2cmcgTcO8bGxlcg==?= <j@b.c>\r\n",
            text_header("h", "Sender", "Jörg Müller <j@b.c>"),
        )
        self.assertEqual(
            "Subject: Re: =?utf-8?b?w6Q=?= end\r\n", text_header("h", "Subject", "Re: ä end")
        )

    def test_what_looks_encoded(self) -> None:
        """Text that looks like an encoded word is encoded, so that it is read as written."""
        line = text_header("subject", "Subject", "=?utf-8?q?x?=")
        self.assertNotIn("=?utf-8?q?x?=", line)

    def test_space_at_the_edges(self) -> None:
        """Space at either end, which a reader may drop, is encoded."""
        self.assertEqual("S: =?utf-8?q?_a?=\r\n", text_header("h", "S", " a"))
        self.assertEqual("S: =?utf-8?q?=09?=\r\n", text_header("h", "S", "\t"))
        self.assertEqual("S: =?utf-8?q?a_?=\r\n", text_header("h", "S", "a "))
        self.assertEqual("S: \r\n", text_header("h", "S", ""))


class MailboxTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Plain names go as words, others in quotes, the rest as encoded words."""
        for display, text in (
            ("", "a@b.c"),
            ("John Doe", "John Doe <a@b.c>"),
            ("Doe, John", '"Doe, John" <a@b.c>'),
            ("J. Doe", '"J. Doe" <a@b.c>'),
            ('"x" \\ y', '"\\"x\\" \\\\ y" <a@b.c>'),
            ("Jörg", "=?utf-8?b?SsO2cmc=?= <a@b.c>"),
            ("=?x?=", "=?utf-8?b?PT94Pz0=?= <a@b.c>"),
        ):
            self.assertEqual(
                f"To: {text}\r\n", mailbox_header("to", "To", (Mailbox(display, "a", "b.c"),))
            )

    def test_folding(self) -> None:
        """Many addresses break into lines between them; none ends in white space."""
        boxes = [Mailbox(f"Name {n}", f"user{n}", "example.com") for n in range(200)]
        line = mailbox_header("to", "To", boxes)
        rows = line.split("\r\n")[:-1]
        self.assertLessEqual(max(map(len, rows)), 78)
        self.assertEqual([], [row for row in rows if row != row.rstrip()])
        self.assertEqual(200, line.count("@"))
        self.assertEqual(199, line.count(","))

    def test_no_addresses(self) -> None:
        """A field without addresses makes no header."""
        self.assertEqual("", mailbox_header("cc", "Cc", ()))
