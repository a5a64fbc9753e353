"""The page that describes the API to people: whole, by itself, and harmless."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from urllib.parse import urljoin

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.call import Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.docs_page import page
from mailproxy.api.openapi import document
from tests.api.door import Door
from tests.api.test_openapi import nothing

#: Elements without an end.
VOID = {"meta", "link", "br"}

#: Elements whose end may be left out.
LOOSE = {"li"}


class Reader(HTMLParser):
    """Takes a page apart, and notes what is wrong with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        if tag not in VOID | LOOSE:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in LOOSE and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.reply = self.door.call("GET", "/docs", token=None)
        self.text = self.reply.body.decode()
        self.read = Reader(self.text)
        self.document = self.door.call("GET", "/openapi.json").json

    def test_open(self) -> None:
        """Anyone may read it; it is HTML."""
        self.assertEqual(200, self.reply.status)
        self.assertEqual("text/html; charset=utf-8", self.reply.headers["content-type"])
        self.assertEqual([], [*self.read.wrong, *self.read.open])

    def test_whole(self) -> None:
        """It shows every operation with its parameters, every type and every field."""
        words = set(self.read.words)
        for path, verbs in self.document["paths"].items():
            for verb, operation in verbs.items():
                self.assertIn(f"{verb.upper()} {path}", words)
                self.assertIn(operation["operationId"], self.read.ids)
                for each in operation.get("parameters", []):
                    self.assertIn(each.get("name", "tenant_id"), words)
        for name, schema in self.document["components"]["schemas"].items():
            self.assertIn(f"type-{name}", self.read.ids)
            self.assertLessEqual(set(schema.get("properties", {})), words)

    def test_links(self) -> None:
        """Every link leads somewhere on the page, or to the description for programs."""
        self.assertEqual(len(self.read.ids), len(set(self.read.ids)))
        for link in self.read.links:
            if link.startswith("#"):
                self.assertIn(link[1:], self.read.ids)
            else:
                self.assertIn(link, ("data:,", "openapi.json"))

    def test_behind_a_prefix(self) -> None:
        """Where a proxy serves it below another path, its links still lead to the service."""
        url = urljoin("https://example.com/mail/docs", "openapi.json")
        self.assertEqual("https://example.com/mail/openapi.json", url)
        server = self.document["servers"][0]["url"]
        self.assertEqual("https://example.com/mail/", urljoin(url, server))

    def test_offline(self) -> None:
        """It loads nothing and runs nothing."""
        self.assertEqual(set(), self.read.tags & {"script", "img", "iframe", "object", "form"})
        self.assertEqual(set(), {name for name in self.read.attributes if name.startswith("on")})
        self.assertNotIn("style", self.read.attributes)
        self.assertEqual([], re.findall(r"@import|url\(", self.text))

    def test_policy(self) -> None:
        """The browser is told to allow nothing but the page's own style."""
        style = re.search(r"<style>(.*?)</style>", self.text, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        policy = self.reply.headers["content-security-policy"]
        self.assertTrue(policy.startswith("default-src 'none'; "), policy)
        self.assertIn(f"style-src 'sha256-{digest}'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual("nosniff", self.reply.headers["x-content-type-options"])

    def test_light_and_dark(self) -> None:
        """It is readable in light and in dark."""
        self.assertIn("color-scheme: light dark", self.text)

    def test_small(self) -> None:
        """It is small enough to be read over a slow line."""
        self.assertLess(len(self.reply.body), 256 * 1024)

    def test_text_is_text(self) -> None:
        """What looks like HTML in a description is shown, not obeyed."""
        about = "Do <script>alert(1)</script> & `<b>`. Then more."
        told = document([Route("GET", "/x", nothing, Need.READ, Doc(about))], "1 & <2>")
        read = Reader(page(told))
        self.assertEqual([], read.wrong)
        self.assertEqual(set(), read.tags & {"script", "b"})
        self.assertIn("<script>alert(1)</script>", "".join(read.words))
