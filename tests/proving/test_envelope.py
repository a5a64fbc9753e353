"""MAIL and RCPT as the sink reads them."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import BadCommand
from mailproxy.proving.envelope import Sender, parse_mail, parse_rcpt


class MailTests(SynchronousTestCase):
    def refused(self, argument: bytes) -> int:
        error: BadCommand = self.assertRaises(BadCommand, parse_mail, argument, 1000)
        return error.code

    def test_plain(self) -> None:
        """The address stands in brackets; ``FROM:`` may be in any case and be followed by space."""
        for argument in (b"FROM:<a@x.org>", b"from: <a@x.org>", b"FROM:<a@x.org> "):
            self.assertEqual(Sender("a@x.org"), parse_mail(argument, 1000))

    def test_null_sender(self) -> None:
        """Empty brackets are the null sender."""
        self.assertEqual(Sender(""), parse_mail(b"FROM:<>", 1000))

    def test_parameters(self) -> None:
        """Known parameters are taken; a declared size is understood."""
        sender = parse_mail(b"FROM:<a@x.org> SIZE=999 body=8bitmime SMTPUTF8 AUTH=<>", 1000)

        self.assertEqual((999, True), (sender.size, sender.utf8))
        self.assertEqual(("SIZE=999", "body=8bitmime", "SMTPUTF8", "AUTH=<>"), sender.options)

    def test_unknown_parameters(self) -> None:
        """Anything else is refused as RFC 5321 says, with 555."""
        for word in (b"RET=HDRS", b"SIZE=x", b"SIZE=", b"BODY=BINARYMIME", b"SMTPUTF8=1"):
            self.assertEqual(555, self.refused(b"FROM:<a@x.org> " + word))

    def test_too_large(self) -> None:
        """A declared size above the limit is refused with 552."""
        self.assertEqual(552, self.refused(b"FROM:<a@x.org> SIZE=1001"))

    def test_not_an_address(self) -> None:
        """What is no address in brackets is refused with 501."""
        for argument in (
            *(b"", b"FROM:", b"FROM:a@x.org", b"FROM:<a@x.org", b"FROM:<a>", b"FROM:<@x.org>"),
            *(b"FROM:<a@>", b"FROM:<a@x.org>SIZE=1", b"TO:<a@x.org>", b"FROM:<a b@x.org>"),
            *(b"FROM:<@x.org:>", b"FROM:<" + b"a" * 65 + b"@x.org>"),
        ):
            self.assertEqual(501, self.refused(argument), argument)

    def test_other_forms(self) -> None:
        """Quoted local parts, address literals and source routes are understood."""
        for path, address in (
            (b'"a b>"@x.org', '"a b>"@x.org'),
            (b'"a@b"@x.org', '"a@b"@x.org'),
            (b"a@[192.0.2.1]", "a@[192.0.2.1]"),
            (b"@one.org,@two.org:a@x.org", "a@x.org"),
        ):
            self.assertEqual(address, parse_mail(b"FROM:<%b>" % path, 1000).address)

    def test_beyond_ascii(self) -> None:
        """An address beyond ASCII needs SMTPUTF8, and must be UTF-8."""
        path = "jörg@x.org".encode()

        self.assertEqual(553, self.refused(b"FROM:<%b>" % path))
        self.assertEqual("jörg@x.org", parse_mail(b"FROM:<%b> SMTPUTF8" % path, 0).address)
        self.assertEqual(501, self.refused(b"FROM:<\xff@x.org> SMTPUTF8"))


class RcptTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """The recipient stands in brackets."""
        self.assertEqual("b@y.org", parse_rcpt(b"TO:<b@y.org>"))
        self.assertEqual("Postmaster", parse_rcpt(b"to:<Postmaster>"))

    def test_refused(self) -> None:
        """No recipient, parameters, and what is no address are refused."""
        for argument, code in (
            (b"TO:<>", 501),
            (b"TO:<b@y.org> NOTIFY=NEVER", 555),
            (b"TO:b@y.org", 501),
            ("TO:<ö@y.org>".encode(), 553),
        ):
            self.assertEqual(code, self.assertRaises(BadCommand, parse_rcpt, argument).code)

    def test_utf8(self) -> None:
        """With SMTPUTF8 a recipient may be beyond ASCII."""
        self.assertEqual("ö@y.org", parse_rcpt("TO:<ö@y.org>".encode(), utf8=True))

    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=60), st.booleans())
    @example(b'<"' + b'\\"' * 20_000 + b">", True)
    @example(b" " * 20_000 + b"<", True)
    def test_anything(self, junk: bytes, utf8: bool) -> None:
        """Whatever comes is an address with its brackets off, or refused."""
        try:
            address = parse_rcpt(b"TO:" + junk, utf8)
        except BadCommand as error:
            self.assertIn(error.code, (501, 553, 555))
        else:
            self.assertIn(address.encode(), junk)
            self.assertTrue("@" in address or address.lower() == "postmaster")
