"""URLs that clients name, taken apart."""

from __future__ import annotations

from urllib.parse import urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI

from mailproxy.urls import origin_of, parse


class UrlTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Scheme, host, port and target, in the form that a request has them."""
        for text, expected in (
            ("http://Example.COM", ("http", "example.com", 80, "/")),
            (
                "https://example.com/a b".replace(" ", "%20"),
                ("https", "example.com", 443, "/a%20b"),
            ),
            ("http://example.com:8080?x=1#y", ("http", "example.com", 8080, "/?x=1")),
            ("http://10.0.0.1/ü?ö=ß", ("http", "10.0.0.1", 80, "/%C3%BC?%C3%B6=%C3%9F")),
            ("http://[2001:DB8::1]:81/", ("http", "[2001:db8::1]", 81, "/")),
            ("https://bücher.example/", ("https", "xn--bcher-kva.example", 443, "/")),
            ("http://my_box/%2e%2E/", ("http", "my_box", 80, "/%2e%2E/")),
            ("http://2130706433/", ("http", "2130706433", 80, "/")),
        ):
            url = parse(text)
            self.assertEqual(expected, (url.scheme, url.host, url.port, url.target))
            self.assertEqual(url, parse(str(url)))

    def test_refused(self) -> None:
        """What is not a URL of ours is refused in words that do not repeat it."""
        for text in (
            "", "x", "/a", "//h/", "ftp://h/", "file:///etc/passwd", "HTTP:h", "javascript:1",
            "http://", "http:///a", "http://u@h/", "http://u:p@h/", "http://@h/",
            "http://h:0/", "http://h:99999/", "http://h:x/", "http://h h/", "http://h/a b",
            "http://h/\r\nX: y", "http://h\\@e/", "http://[::1/", "http://::1/", "http://h%00/",
            "http://[::1%25eth0]/", "http://-/", "http://a\u3002b c/", "http://" + "x" * 300 + "/",
            "http://h/" + "x" * 9000, "http://exa\x00mple/", "http://h/\u2028",
        ):  # fmt: skip
            with self.assertRaises(ValueError) as caught:
                parse(text)
            if len(text) > 8:
                self.assertNotIn(text, str(caught.exception))
            self.assertIsNone(origin_of(text))
        self.assertIsNone(origin_of(None))

    def test_join(self) -> None:
        """A redirect may be relative, or lead elsewhere, but not to another protocol."""
        base = parse("https://h/a/b?c")
        for location, expected in (
            ("d", "https://h/a/d"),
            ("/d", "https://h/d"),
            ("?d", "https://h/a/b?d"),
            ("//k:81/e", "https://k:81/e"),
            (" http://k/ ", "http://k/"),
        ):
            self.assertEqual(expected, str(base.join(location)))
        for location in ("ftp://h/", "http://u@h/", "http://h/ /"):
            self.assertRaises(ValueError, base.join, location)

    @given(st.from_regex(r"https?://[a-z0-9.\[\]:@\\/?#%_-]{0,30}", fullmatch=True))
    @settings(max_examples=300, deadline=None)
    def test_nobody_reads_it_otherwise(self, text: str) -> None:
        """What is judged is what is called: our host and port are those that the agent sees."""
        try:
            url = parse(text)
        except ValueError:
            return
        called = URI.fromBytes(str(url).encode("ascii"))
        self.assertEqual(url.bare_host, called.host.decode().strip("[]"))
        self.assertEqual(url.port, called.port)
        self.assertEqual(url.bare_host, urlsplit(text).hostname)
        self.assertTrue(str(url).isascii() and str(url).isprintable() and " " not in str(url))
