"""What the one address parser accepts, what it makes of it, and what it refuses."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.address import (
    MAX_ADDR,
    MAX_LOCAL,
    MAX_MAILBOXES,
    MAX_TEXT,
    envelope_address,
    format_mailbox,
    parse_mailbox,
    parse_mailboxes,
)
from mailproxy.errors import BadAddress
from mailproxy.model import Mailbox

ACCEPTED = [
    # the address itself
    ("a@b.c", ("", "a", "b.c")),
    ("John.Doe+tag@Example.COM", ("", "John.Doe+tag", "example.com")),
    ("!#$%&'*+/=?^_`{|}~-@x.it", ("", "!#$%&'*+/=?^_`{|}~-", "x.it")),
    ("root@localhost", ("", "root", "localhost")),
    ("a@host.test", ("", "a", "host.test")),
    ("a@printer.local", ("", "a", "printer.local")),
    ("a@a--b.example", ("", "a", "a--b.example")),
    ("a@[192.0.2.1]", ("", "a", "[192.0.2.1]")),
    ("a@[IPv6:2001:DB8:0::1]", ("", "a", "[IPv6:2001:db8::1]")),
    ("a@[ipv6:::1]", ("", "a", "[IPv6:::1]")),
    # quoted local parts: quoted on the wire only where they have to be
    ('"a@b"@x.it', ("", '"a@b"', "x.it")),
    ('"john doe"@x.it', ("", '"john doe"', "x.it")),
    ('"a\\"b\\\\"@x.it', ("", '"a\\"b\\\\"', "x.it")),
    ('"john.doe"@x.it', ("", "john.doe", "x.it")),
    ('"\\j\\d"@x.it', ("", "jd", "x.it")),
    ('"a..b"@x.it', ("", '"a..b"', "x.it")),
    ('"<>,:;()"@x.it', ("", '"<>,:;()"', "x.it")),
    # beyond ASCII
    ("a@bücher.example", ("", "a", "xn--bcher-kva.example")),
    ("a@BÜCHER.example", ("", "a", "xn--bcher-kva.example")),
    ("a@xn--bcher-kva.example", ("", "a", "xn--bcher-kva.example")),
    ("a@büro.local", ("", "a", "xn--bro-hoa.local")),
    ("a@例え。テスト", ("", "a", "xn--r8jz45g.xn--zckzah")),
    ("jörg@bücher.example", ("", "jörg", "xn--bcher-kva.example")),
    ('"jörg"@x.it', ("", "jörg", "x.it")),
    ('"jörg m"@x.it', ("", '"jörg m"', "x.it")),
    # display names
    ("<a@b.c>", ("", "a", "b.c")),
    ("John Doe <a@b.c>", ("John Doe", "a", "b.c")),
    ("John Q. Doe <a@b.c>", ("John Q. Doe", "a", "b.c")),
    ('"Doe, John" <a@b.c>', ("Doe, John", "a", "b.c")),
    ('"The \\"Boss\\"" <a@b.c>', ('The "Boss"', "a", "b.c")),
    ('"a@evil.example" <a@b.c>', ("a@evil.example", "a", "b.c")),
    ('"<a@evil.example>" <a@b.c>', ("<a@evil.example>", "a", "b.c")),
    ('John "Jack" Doe<a@b.c>', ("John Jack Doe", "a", "b.c")),
    ("  John   Doe  < a@b.c >  ", ("John Doe", "a", "b.c")),
    ('"" <a@b.c>', ("", "a", "b.c")),
    ("Jörg Müller <a@b.c>", ("Jörg Müller", "a", "b.c")),
    ("=?utf-8?q?J=C3=B6rg?= <a@b.c>", ("Jörg", "a", "b.c")),
    ("=?utf-8?b?SsO2cmcg?= =?iso-8859-1?q?M=FCller?= <a@b.c>", ("Jörg Müller", "a", "b.c")),
    ('"=?utf-8?q?J=C3=B6rg?=" <a@b.c>', ("=?utf-8?q?J=C3=B6rg?=", "a", "b.c")),
    ("=?utf-8?q?=22x=22_=3Ca=40evil=3E?= <a@b.c>", ('"x" <a@evil>', "a", "b.c")),
    # comments around the address say nothing
    ("a@b.c (John)", ("", "a", "b.c")),
    ("(x) John (a (nested) one \\) ) Doe <a@b.c> (z)", ("John Doe", "a", "b.c")),
    ("(a@evil.example) a@b.c", ("", "a", "b.c")),
]

REFUSED = [
    ("", "empty"),
    ("   ", "empty"),
    ("(only a comment)", "empty"),
    ("John Doe", "no address in angle brackets"),
    ("a", "no address in angle brackets"),
    ("@b.c", "an @ stands where none belongs"),
    ("a@", "an @ stands where none belongs"),
    ("a@b@c", "an @ stands where none belongs"),
    ("a @b.c", "an @ stands where none belongs"),
    ("a@b.c, d@e.f", "a comma stands where none belongs"),
    ("Doe, John <a@b.c>", "a comma stands where none belongs"),
    ("a@b.c d@e.f", "something follows the address"),
    ("<a@b.c> x", "something follows the address"),
    ("<a@b.c><d@e.f>", "something follows the address"),
    ("<a@b.c>>", "a > without its <"),
    ("a@b.c)", "a ) without its ("),
    ("<a@b.c", "what stands in angle brackets is not an address"),
    ("<>", "what stands in angle brackets is not an address"),
    ("<a b@c.d>", "what stands in angle brackets is not an address"),
    ("<a@b.c,d@e.f>", "what stands in angle brackets is not an address"),
    ("<@x.it,@y.it:a@b.c>", "what stands in angle brackets is not an address"),
    ("John @ Work <a@b.c>", "an @ stands where none belongs"),
    ("a@evil.example <a@b.c>", "something follows the address"),
    ("undisclosed-recipients:;", "group syntax is not accepted"),
    ("Friends: a@b.c, d@e.f;", "group syntax is not accepted"),
    ("a@b.c;", "group syntax is not accepted"),
    ("a@b.c; d@e.f", "group syntax is not accepted"),
    ('"a@b.c', "a quotation mark is not closed"),
    ('"a"b@c.d', "an @ stands where none belongs"),
    ("John (<a@b.c>", "a comment is not closed"),
    ("a@b.c (x\\)", "a comment is not closed"),
    ("(" * 9 + ")" * 9 + "a@b.c", "comments nest too deep"),
    ("a@b.c" + "(" * 5000, "comments nest too deep"),
    ("a(x)@b.c", "an @ stands where none belongs"),
    ("John\\Doe <a@b.c>", "an unexpected character"),
    ("[ACME] <a@b.c>", "an unexpected character"),
    # local parts
    ('""@x.it', "the local part is empty"),
    (".a@b.c", "the local part is not a dot-atom, and not quoted"),
    ("a.@b.c", "the local part is not a dot-atom, and not quoted"),
    ("a..b@b.c", "the local part is not a dot-atom, and not quoted"),
    ("a" * 65 + "@b.c", "the local part is longer than 64 octets"),
    ("ö" * 33 + "@b.c", "the local part is longer than 64 octets"),
    ("ö..b@b.c", "the local part is not one that RFC 6531 allows"),
    ("\u0300a@b.c", "the local part is not one that RFC 6531 allows"),
    ("a\u202eb@b.c", "the local part is not one that RFC 6531 allows"),
    ("a\u00a0b@b.c", "the local part is not one that RFC 6531 allows"),
    # domains
    ("a@b.c.", "the domain is not a host name"),
    ("a@.b.c", "the domain is not a host name"),
    ("a@b..c", "the domain is not a host name"),
    ("a@-b.c", "the domain is not a host name"),
    ("a@b-.c", "the domain is not a host name"),
    ("a@b_c.d", "the domain is not a host name"),
    ("a@b/c.d", "the domain is not a host name"),
    ("a@b!c", "the domain is not a host name"),
    ("a@ab--c.d", "the domain is not a host name"),
    ("a@xn--a", "the domain is not a host name"),
    ("a@xn--bcher-kva-.example", "the domain is not a host name"),
    ("a@\u2100.example", "the domain is not a host name"),
    ("a@b\ufe0fc.d", "the domain is not a host name"),
    ("a@b\u00adc.d", "the domain is not a host name"),
    ("a@b\u200bc.d", "the domain is not a host name"),
    ("a@" + "b" * 64 + ".c", "the domain is not a host name"),
    ("a@" + "b." * 150 + "c", "the address is longer than 254 octets"),
    ("a@" + "b." * 126 + "c", "the address is longer than 254 octets"),
    ("a@" + "ü" * 500, "the address is longer than 254 octets"),
    ("a@" + "ü" * 5000, "longer than 1000 characters"),
    ("x" * 2000 + " <a@b.c>", "longer than 1000 characters"),
    ("a@[256.1.1.1]", "the address literal is not an IP address"),
    ("a@[1.2.3]", "the address literal is not an IP address"),
    ("a@[::1]", "the address literal is not an IP address"),
    ("a@[IPv6:fe80::1%eth0]", "the address literal is not an IP address"),
    ("a@[x-tag:foo]", "the address literal is not an IP address"),
    ("a@[]", "the address literal is not an IP address"),
    ("a@[1.2.3.4", "an @ stands where none belongs"),
    ("a@[1.2.3.4]x", "something follows the address"),
]


class ParseTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """Every legal spelling gives one canonical mailbox."""
        for text, parts in ACCEPTED:
            self.assertEqual(Mailbox(*parts), parse_mailbox(text), text)

    def test_accepted_again(self) -> None:
        """What a mailbox is shown as is read as the same mailbox."""
        for text, _ in ACCEPTED:
            mailbox = parse_mailbox(text)
            self.assertEqual(mailbox, parse_mailbox(format_mailbox(mailbox)), text)
            self.assertEqual(mailbox.addr, envelope_address(mailbox.addr), text)

    def test_refused(self) -> None:
        """Everything else is refused, with a reason that does not repeat the text."""
        for text, reason in REFUSED:
            try:
                accepted = parse_mailbox(text)
            except BadAddress as error:
                self.assertEqual(reason, str(error), text[:60])
            else:
                self.fail(f"{text[:60]!r} was read as {accepted}")

    def test_control_characters(self) -> None:
        """No control character, line separator or half surrogate passes, wherever it stands."""
        bad = [*map(chr, range(0x20)), "\x7f", "\x85", "\x9f", "\u2028", "\u2029", "\ud800"]
        for character in bad:
            for text in (
                f"a@b.c{character}",
                f"{character}a@b.c",
                f"a{character}@b.c",
                f'"a{character}b"@b.c',
                f'"a\\{character}b"@b.c',
                f"Jo{character}hn <a@b.c>",
                f'"Jo{character}hn" <a@b.c>',
                f"a@b.c ({character})",
                f"a@b{character}.c",
            ):
                error = self.assertRaises(BadAddress, parse_mailbox, text)
                self.assertEqual("a control character", str(error))
                self.assertRaises(BadAddress, parse_mailboxes, f"x@y.z, {text}")

    def test_control_characters_in_disguise(self) -> None:
        """An encoded word cannot bring in what may not be written plainly."""
        for word in ("=?utf-8?q?a=0D=0ABcc:_x?=", "=?utf-8?b?AA==?=", "=?utf-7?q?+2AA-?="):
            self.assertRaises(BadAddress, parse_mailbox, f"{word} <a@b.c>")

    def test_the_longest(self) -> None:
        """The limits themselves are allowed: 64 octets, 254 octets, 1000 characters."""
        local = "a" * MAX_LOCAL
        longest = f"{local}@{'b' * 62}.{'b' * 62}.{'b' * 63}"
        self.assertEqual(MAX_ADDR, len(longest))
        self.assertEqual(longest, parse_mailbox(longest).addr)
        self.assertRaises(BadAddress, parse_mailbox, longest + "b")
        name = "x" * (MAX_TEXT - len(" <a@b.c>"))
        self.assertEqual(name, parse_mailbox(f"{name} <a@b.c>").display)

    def test_a_long_text_is_refused_quickly(self) -> None:
        """Megabytes of any one character, or pair of them, are refused in one pass."""
        for piece in ('"', "(", "\\", '"\\', "a", "a ", "<", "a@", "=?", "(\\", ".", "@["):
            text = piece * 200_000
            self.assertRaises(BadAddress, parse_mailbox, text)
            self.assertRaises(BadAddress, parse_mailboxes, "x@y.z," + text)


class ListTests(SynchronousTestCase):
    def test_one_string(self) -> None:
        """Commas separate addresses, but not inside quotes and comments."""
        self.assertEqual(
            (
                Mailbox("Doe, John", "a", "b.c"),
                Mailbox("", '"x,y"', "d.e"),
                Mailbox("F", "f", "g.h"),
                Mailbox("", "i", "j.k"),
            ),
            parse_mailboxes('"Doe, John" <a@b.c>, "x,y"@d.e,F <f@g.h> (and, others) , i@j.k'),
        )

    def test_empty_places(self) -> None:
        """Nothing between two commas is no address, and not an error."""
        self.assertEqual((), parse_mailboxes(""))
        self.assertEqual((), parse_mailboxes("  "))
        self.assertEqual((), parse_mailboxes(" , ,(x),"))
        self.assertEqual((Mailbox("", "a", "b.c"),), parse_mailboxes(", a@b.c ,,"))

    def test_a_sequence(self) -> None:
        """Each element of a list is one address, by the same rules as a single one."""
        self.assertEqual((), parse_mailboxes([]))
        self.assertEqual(
            (Mailbox("", "a", "b.c"), Mailbox("D", "d", "e.f")),
            parse_mailboxes(["a@b.c", "D <d@e.f>"]),
        )
        for element in ("", "a@b.c, d@e.f", "<>"):
            self.assertRaises(BadAddress, parse_mailboxes, ["x@y.z", element])

    def test_one_bad_address_refuses_the_list(self) -> None:
        """No address is passed over: the first bad one refuses them all."""
        for value in ("a@b.c, d", "a@b.c d@e.f,", "a@b.c, g: d@e.f;", "a@b.c; d@e.f,", "a@b.c,<"):
            self.assertRaises(BadAddress, parse_mailboxes, value)

    def test_too_many(self) -> None:
        """A list of more than the most addresses is refused in either form."""
        most = ["a@b.c"] * MAX_MAILBOXES
        self.assertEqual(MAX_MAILBOXES, len(parse_mailboxes(most)))
        self.assertEqual(MAX_MAILBOXES, len(parse_mailboxes(",".join(most))))
        self.assertRaises(BadAddress, parse_mailboxes, [*most, "a@b.c"])
        self.assertRaises(BadAddress, parse_mailboxes, ",".join([*most, "a@b.c"]))


class EnvelopeTests(SynchronousTestCase):
    def test_return_path(self) -> None:
        """A bare address, with or without its angle brackets, comes back canonical."""
        self.assertEqual("a@b.c", envelope_address(" a@B.C "))
        self.assertEqual("a@b.c", envelope_address("<a@b.c>"))
        self.assertEqual('"a b"@b.c', envelope_address('"a b"@b.c'))

    def test_null_sender(self) -> None:
        """Nothing, and empty angle brackets, are the null sender."""
        for text in ("", "  ", "<>", " <> "):
            self.assertEqual("", envelope_address(text))

    def test_refused(self) -> None:
        """A display name has no place in an envelope, nor has anything a mailbox may not be."""
        for text in ("John <a@b.c>", '"J" <a@b.c>', "a", "<<>>", "a@b.c\r\nRCPT TO:<d@e.f>"):
            self.assertRaises(BadAddress, envelope_address, text)
