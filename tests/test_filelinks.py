"""Links to files that the service gives out."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.filelinks import FileLinks


def parts(link: str) -> tuple[int, int, str]:
    """Number, end and signature of a link."""
    url = urlsplit(link)
    query = parse_qs(url.query)
    return int(url.path.split("/")[-2]), int(query["expires"][0]), query["signature"][0]


class FileLinksTests(SynchronousTestCase):
    links = FileLinks([b"new", b"old"])

    def test_good(self) -> None:
        """A link opens its file until its time is over."""
        link = self.links.link("https://h/base/", 7, "ü/..?&b.pdf", 1000)
        self.assertTrue(link.startswith("https://h/base/v1/files/7/%C3%BC%2F..%3F%26b.pdf?expires"))
        self.assertTrue(self.links.opens(*parts(link), now=999.9))
        self.assertFalse(self.links.opens(*parts(link), now=1000.0))

    @given(st.integers(0, 2**62), st.integers(0, 2**40), st.text(max_size=70))
    @settings(max_examples=100, deadline=None)
    def test_no_other(self, pk: int, expires: int, signature: str) -> None:
        """A link that we did not make opens nothing, nor does one that was changed."""
        own = parts(self.links.link("", 7, "a", 1000))
        self.assertFalse(self.links.opens(pk, expires, signature, now=0.0))
        if (pk, expires) != own[:2]:
            self.assertFalse(self.links.opens(pk, expires, own[2], now=0.0))

    def test_keys(self) -> None:
        """A key that was changed opens what it signed; one that is gone does not."""
        old = FileLinks([b"old"]).link("", 7, "a", 1000)
        self.assertTrue(self.links.opens(*parts(old), now=0.0))
        self.assertFalse(FileLinks([b"new"]).opens(*parts(old), now=0.0))
        self.assertRaises(ValueError, FileLinks, [])

    def test_numbers(self) -> None:
        """Numbers are the same for the same, not to be guessed, and fit the store."""
        self.assertEqual(self.links.number("a", 1), self.links.number("a", 1))
        several = {self.links.number(*of) for of in (("a", 1), ("a1",), ("a", 2), (), ("a", "", 1))}
        self.assertEqual(5, len(several))
        self.assertTrue(all(0 <= number < 2**62 for number in several))
        self.assertNotEqual(self.links.number("a"), FileLinks([b"old"]).number("a"))
