from __future__ import annotations

from urllib.parse import unquote, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.report.target import parse_url


class ParseTests(SynchronousTestCase):
    def test_as_it_is_requested(self) -> None:
        """What is requested is ASCII, without user info and fragment, escapes kept as they are."""
        for text, url in (
            ("http://app.test", "http://app.test/"),
            (" HTTPS://App.Test:8443/sync ", "https://app.test:8443/sync"),
            ("http://u:p@app.test/a%2Fb?x=1&y=%20#z", "http://app.test/a%2Fb?x=1&y=%20"),
            ("http://app.test?x=1", "http://app.test/?x=1"),
            ("http://bücher.test/città?q=è", "http://xn--bcher-kva.test/citt%C3%A0?q=%C3%A8"),
            ("http://[2001:DB8::1]:81/", "http://[2001:db8::1]:81/"),
            ("http://my_app:8069/sync", "http://my_app:8069/sync"),
            ("http://app.test/a b", "http://app.test/a%20b"),
        ):
            self.assertEqual(url, parse_url(text).url, text)

    def test_the_name_has_no_query(self) -> None:
        """What may be logged has neither query nor user info."""
        self.assertEqual("http://app.test/sync", parse_url("http://u:p@app.test/sync?key=1").name)

    def test_user_info(self) -> None:
        """User info is decoded; a missing password is not an empty one."""
        target = parse_url("http://syn%40c:p%3Aw@app.test/")
        self.assertEqual(("syn@c", "p:w"), (target.user, target.password))
        self.assertNotIn("p:w", repr(target))
        target = parse_url("http://sync@app.test/")
        self.assertEqual(("sync", None), (target.user, target.password))
        self.assertEqual(None, parse_url("http://app.test/").user)

    def test_refused(self) -> None:
        """What names no http or https host is refused, without being quoted."""
        for text in (
            "",
            "app.test",
            "//app.test/",
            "ftp://app.test/",
            "http://",
            "http:///sync",
            "http://:80/",
            "http://app.test:http/",
            "http://app.test:99999/",
            "http://[::1/",
            "http://a b/",
            "http://a\\b/",
            "http://..é/",
        ):
            error = self.assertRaises(ValueError, parse_url, text)
            self.assertNotIn("app", str(error))

    @given(st.text(max_size=60).map("http://app.test/".__add__) | st.text(max_size=60))
    @settings(deadline=None)
    def test_any_text(self, text: str) -> None:
        """Every text is refused or becomes one line of ASCII that means the same path."""
        try:
            target = parse_url(text)
        except ValueError:
            return
        self.assertTrue(target.url.isascii() and target.url.isprintable())
        self.assertNotIn(" ", target.url)
        asked, made = urlsplit(text.strip()), urlsplit(target.url)
        self.assertEqual(unquote(asked.path) or "/", unquote(made.path))
        self.assertEqual(unquote(asked.query), unquote(made.query))
        self.assertEqual(target.url, parse_url(target.url).url)
