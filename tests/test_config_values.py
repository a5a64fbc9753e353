"""Reading single values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import VARIABLES
from mailproxy.config_attachments import Places, Roots
from mailproxy.config_values import (
    Certificates,
    Delays,
    HeloName,
    Host,
    Keys,
    Kind,
    Listen,
    Networks,
    Seconds,
    Switch,
    Url,
    Whole,
    Word,
    shown,
)
from mailproxy.crypto import new_key
from tests.scratch import scratch

BASE = Path("/base")
TEXT = st.text(st.characters(codec=None), min_size=1, max_size=80)
each_kind = st.sampled_from([variable.kind for variable in VARIABLES])


def problem(kind: Kind, text: str) -> str:
    try:
        value = kind.read(text, BASE)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{text!r} was read as {value!r}")


class ValueTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=300)
    @given(each_kind, TEXT)
    def test_any_text(self, kind: Kind, text: str) -> None:
        """Whatever is given, it is read or refused with one printable line, never a crash."""
        try:
            kind.read(text, BASE)
        except ValueError as error:
            self.assertTrue(str(error).isprintable(), ascii(str(error)))

    @settings(deadline=None)
    @given(st.integers(-5, 20))
    def test_whole_numbers(self, number: int) -> None:
        """Whole numbers are read within their range and refused outside of it."""
        kind = Whole(0, 10)
        if 0 <= number <= 10:
            self.assertEqual(number, kind.read(str(number), BASE))
        else:
            self.assertIn("not within 0 to 10", problem(kind, str(number)))

    def test_odd_numbers(self) -> None:
        """Spellings that only a programmer would understand are no numbers."""
        for text in ("1_0", "0x10", "1e1", "\u0661", "1.0", "", "+-1", "9" * 100):
            problem(Whole(0, 10), text)
        for text in ("nan", "inf", "-inf", "1_0", "x", "1e400"):
            problem(Seconds(0, 10), text)
        self.assertEqual(0.25, Seconds(0, 10).read("0.25", BASE))

    def test_delays(self) -> None:
        """A list of delays keeps its order; spaces do not matter, empty places do."""
        kind = Delays(Seconds(1, 100))
        self.assertEqual((3.0, 1.0, 2.0), kind.read("3, 1 ,2", BASE))
        for text in ("", "1,", ",1", "1;2", "0"):
            problem(kind, text)

    def test_switches(self) -> None:
        """Booleans have four spellings each, in any case."""
        for text in ("1", "true", "YES", "On"):
            self.assertIs(True, Switch().read(text, BASE))
        for text in ("0", "FALSE", "no", "off"):
            self.assertIs(False, Switch().read(text, BASE))

    def test_words(self) -> None:
        """A word is read in any case and kept in its own spelling."""
        self.assertEqual("INFO", Word(("DEBUG", "INFO")).read("info", BASE))

    def test_names_and_addresses(self) -> None:
        """Hosts are addresses or names; what we call ourselves is a domain or a literal."""
        good: list[tuple[Callable[..., Any], str, str]] = [
            (Host, "[::1]", "::1"),
            (Host, "::", "::"),
            (Host, "mail.example", "mail.example"),
            (HeloName, "relay-1.example", "relay-1.example"),
            (HeloName, "[192.0.2.1]", "[192.0.2.1]"),
            (HeloName, "[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
            (HeloName, "[2001:db8::1]", "[IPv6:2001:db8::1]"),
        ]
        for kind, text, value in good:
            self.assertEqual(value, kind().read(text, BASE))
        for text in ("a b", "-a", "a..b", "a.", "é.example", "a" * 64, "a\n", "[x]"):
            problem(Host(), text)
            problem(HeloName(), text)

    def test_networks(self) -> None:
        """Addresses and CIDR blocks become blocks; what is neither is named."""
        self.assertEqual(
            ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"),
            Networks().read("10.1.2.3/8, 192.0.2.7,2001:db8::/32", BASE),
        )
        for text in ("proxy", "10.0.0.0/33", "10.0.0.1,", "10.0.0.1 10.0.0.2"):
            self.assertIn("neither", problem(Networks(), text))

    def test_urls(self) -> None:
        """Report URLs are http or https, with a host, without credentials or fragment."""
        for text in ("http://app:8080/sync", "https://[2001:db8::1]/x?y=1"):
            self.assertEqual(text, Url().read(text, BASE))
        for text in (
            "ftp://app/",
            "app:8080",
            "http:///path",
            "http://a:b@app/",
            "http://app/#x",
            "http://app:99999/",
            "http://[::1/",
            "http://app/a b",
            "http://app/ü",
        ):
            said = problem(Url(), text)
            self.assertNotIn(text, said)

    def test_listen(self) -> None:
        """Endpoint descriptions are read by Twisted's own parsers before anything is opened."""
        for text in ("tcp:8000", "unix:/x", "haproxy:tcp:0:interface=127.0.0.1"):
            self.assertEqual((text,), Listen().read(text, BASE))
        for text in (
            "8000",
            "tcp:x",
            "ssl:1:privateKey=/nope",
            "tcp:1:colour=red",
            "pigeon:1",
            "tcp:1 x",
        ):
            self.assertIn("not an endpoint description", problem(Listen(), text))
        for text in ("systemd:domain=INET:index=7", "systemd:domain=INET:name=api"):
            self.assertIn("no such socket was passed", problem(Listen(), text))

    def test_certificates(self) -> None:
        """A file without a certificate is refused when it is named, not when it is needed."""
        path = scratch(self) / "ca.pem"
        path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.assertIn("no certificate", problem(Certificates(), str(path)))
        self.assertIn("cannot read", problem(Certificates(), "/no/such/file"))

    @given(st.text(st.characters(codec=None)))
    def test_shown(self, text: str) -> None:
        """What a message quotes is short and printable ASCII."""
        quoted = shown(text)
        self.assertTrue(quoted.isascii() and quoted.isprintable())
        self.assertLessEqual(len(quoted), 60 * 10 + 2)


class AttachmentTests(SynchronousTestCase):
    def test_roots(self) -> None:
        """A root is an absolute directory, for one tenant or for all, and never the machine."""
        kind = Roots()
        self.assertEqual(((None, Path("/srv/a=b")),), kind.read("/srv/a=b/", BASE))
        self.assertEqual((("a=b", Path("/srv")),), kind.read(" a=b = /srv", BASE))
        for text in ("srv", "/", "shop=", "=/srv", "shop=srv/x", "/srv,,/x", "/srv/../etc", "x=/"):
            self.assertIn("'", problem(kind, text), text)

    def test_places(self) -> None:
        """Places are addresses, blocks and names, each kept in its usual form."""
        kind = Places()
        self.assertEqual(
            ("10.0.0.0/8", "192.0.2.7/32", "::1/128", "files_1", "a.example"),
            kind.read("10.1.2.3/8,192.0.2.7, ::1,files_1,A.example.", BASE),
        )
        for text in ("10.0.0.0/40", "http://a", "a b", "-x", "a..b", ""):
            self.assertIn("neither", problem(kind, text), text)

    def test_keys(self) -> None:
        """Keys may be separated by commas, spaces and lines, as a file of them has."""
        keys = [new_key() for _ in range(3)]
        for between in (",", ", ", "\n", " ", "\r\n", ",\n"):
            self.assertEqual(tuple(keys), Keys().read(between.join(keys), BASE), repr(between))
        self.assertIn("a key is", problem(Keys(), f"{keys[0]},,{keys[1]}"))
