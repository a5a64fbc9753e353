"""What MAIL, RCPT and BDAT may say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import BadCommand
from mailproxy.submission.commands import Mail, Rcpt, parse_bdat, parse_mail, parse_rcpt

LIMIT = 10_000


class MailTests(SynchronousTestCase):
    def refused(self, argument: bytes) -> int:
        with self.assertRaises(BadCommand) as caught:
            parse_mail(argument, LIMIT)
        return int(caught.exception.code)

    def test_paths(self) -> None:
        """The sender in brackets, as old programs write it, with a source route, or none."""
        for argument, sender in (
            (b"FROM:<a@x.org>", "a@x.org"),
            (b"from: <a@X.org> ", "a@x.org"),
            (b"FROM:a@x.org", "a@x.org"),
            (b"FROM:<@relay.example:a@x.org>", "a@x.org"),
            (b'FROM:<"a b"@x.org>', '"a b"@x.org'),
            (b'FROM:<"a"@x.org>', "a@x.org"),
            (b"FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
            (b"FROM:<>", ""),
        ):
            self.assertEqual(sender, parse_mail(argument, LIMIT).sender, argument)

    def test_parameters(self) -> None:
        """What the parameters say is kept."""
        argument = (
            b"FROM:<a@x.org> SIZE=5000 BODY=8BITMIME SMTPUTF8 RET=hdrs ENVID=QQ+2B314 AUTH=<>"
        )
        self.assertEqual(Mail("a@x.org", 5000, True, "HDRS", "QQ+314"), parse_mail(argument, LIMIT))

    def test_refusals(self) -> None:
        """What is malformed, unknown, said twice or too large is refused, by the right code."""
        for argument, code in (
            (b"", 501),
            (b"TO:<a@x.org>", 501),
            (b"FROM:<a@x.org", 501),
            (b"FROM:<a@x.org> SIZE", 501),
            (b"FROM:<a@x.org> SIZE=1 SIZE=1", 501),
            (b"FROM:<a@x.org> BODY=BINARYMIME", 501),
            (b"FROM:<a@x.org> SMTPUTF8=1", 501),
            (b"FROM:<a@x.org> RET=ALL", 501),
            (b"FROM:<a@x.org> ENVID=a=b", 501),
            (b"FROM:<a@x.org> XYZ=1", 555),
            (b"FROM:<a@x.org> SIZE=10001", 552),
            (b"FROM:<a@>", 501),
            (b"FROM:<a b@x.org>", 501),
            (b"FROM:<@relay.example>", 501),
            (b"FROM:<Name<a@x.org>>", 501),
            ("FROM:<ä@x.org>".encode(), 553),
            (b"FROM:<\xff@x.org> SMTPUTF8", 501),
        ):
            self.assertEqual(code, self.refused(argument), argument)

    def test_utf8(self) -> None:
        """With SMTPUTF8 the local part may be UTF-8; the domain becomes A-labels."""
        mail = parse_mail("FROM:<jürgen@bücher.example> SMTPUTF8".encode(), LIMIT)
        self.assertEqual("jürgen@xn--bcher-kva.example", mail.sender)


class RcptTests(SynchronousTestCase):
    def refused(self, argument: bytes) -> int:
        with self.assertRaises(BadCommand) as caught:
            parse_rcpt(argument)
        return int(caught.exception.code)

    def test_parameters(self) -> None:
        """NOTIFY and ORCPT are kept, decoded."""
        self.assertEqual(
            Rcpt("b@y.org", ("SUCCESS", "FAILURE"), "rfc822;B+c@y.org"),
            parse_rcpt(b"TO:<b@Y.org> NOTIFY=success,failure ORCPT=rfc822;B+2Bc@y.org"),
        )
        self.assertEqual(("NEVER",), parse_rcpt(b"TO:<b@y.org> NOTIFY=NEVER").notify)

    def test_refusals(self) -> None:
        """What is malformed is refused, by the right code."""
        for argument, code in (
            (b"TO:<>", 501),
            (b"TO:<postmaster>", 501),
            (b"TO:<b@y.org> NOTIFY=NEVER,SUCCESS", 501),
            (b"TO:<b@y.org> NOTIFY=", 501),
            (b"TO:<b@y.org> NOTIFY=DELAY,DELAY", 501),
            (b"TO:<b@y.org> NOTIFY=DELAY NOTIFY=DELAY", 501),
            (b"TO:<b@y.org> ORCPT=b@y.org", 501),
            (b"TO:<b@y.org> ORCPT=rfc822;a+zz", 501),
            (b"TO:<b@y.org> SIZE=1", 555),
            ("TO:<ä@y.org>".encode(), 553),
        ):
            self.assertEqual(code, self.refused(argument), argument)

    @given(st.binary(max_size=80))
    def test_any_argument(self, argument: bytes) -> None:
        """Anything is either an address that can stand in a command, or refused."""
        for text in (argument, b"TO:<" + argument + b">"):
            try:
                found = parse_rcpt(text, utf8=True)
            except BadCommand as error:
                self.assertIn(error.code, (501, 553, 555))
                self.assertNotIn(b"\n", error.text)
            else:
                self.assertNotRegex(found.recipient, r"[\r\n\0<>]")
                self.assertIn("@", found.recipient)


class BdatTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        """A size, and whether it is the last chunk."""
        self.assertEqual((0, False), parse_bdat(b"0"))
        self.assertEqual((86, True), parse_bdat(b"86 last"))
