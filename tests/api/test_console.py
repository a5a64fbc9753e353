"""``/console``: who is logged in, what a session may do, and how the files are served."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import mailproxy.api.console
from mailproxy.api.console.sessions import IDLE, LONGEST, MOST, WRONG_FROM_ALL, WRONG_FROM_ONE
from mailproxy.api.console.site import FILES, POLICY
from mailproxy.tenancy import Scope
from tests.api.door import TOKEN, Door, Reply, message
from tests.fakes import result

ASSETS = Path(mailproxy.api.console.__file__).with_name("assets")
KEY = "key-of-acme-0123456789abcdef"


class Page:
    """A browser's side: the cookie, and the secret that is repeated."""

    def __init__(self, door: Door, token: str = TOKEN, **headers: str) -> None:
        self.door = door
        self.reply = log_in(door, token, **headers)
        self.cookie = self.reply.headers.get("set-cookie", "").partition(";")[0]
        self.csrf = self.reply.json["session"]["csrf"] if self.reply.status == 200 else ""

    def call(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        given = {"Cookie": f"other=1; {self.cookie}; more=2", "X-CSRF-Token": self.csrf, **headers}
        kept = {name: value for name, value in given.items() if value}
        return self.door.call(method, target, body, token=None, headers=kept)


def log_in(door: Door, token: str = TOKEN, **headers: str) -> Reply:
    fields = {"Content-Type": "application/json", **headers}
    return door.call("POST", "/console/session", {"token": token}, token=None, headers=fields)


class LoginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def test_admin(self) -> None:
        """The admin's token opens a session whose cookie no script reads and no site sends."""
        page = Page(self.door)

        self.assertEqual(200, page.reply.status)
        cookie, *attributes = page.reply.headers["set-cookie"].split("; ")
        self.assertRegex(cookie, r"^mailproxy-console=[\w-]{43}$")
        self.assertEqual(["HttpOnly", "SameSite=Strict"], attributes)
        self.assertEqual("no-store", page.reply.headers["cache-control"])
        session = page.call("GET", "/console/session").json["session"]
        self.assertEqual((True, None), (session["admin"], session["tenant_id"]))
        self.assertNotIn(TOKEN.encode(), page.reply.body)

    def test_nobody(self) -> None:
        """Without a session it is said that there is none; a wrong token opens none."""
        reply = self.door.call("GET", "/console/session", token=None)
        self.assertEqual((200, None), (reply.status, reply.json["session"]))
        reply = log_in(self.door, "wrong")
        self.assertEqual(401, reply.status)
        self.assertNotIn("set-cookie", reply.headers)

    def test_secure(self) -> None:
        """The cookie is for TLS alone where a trusted proxy says that the page came by it."""
        for trusted, said, secure in (
            (("192.0.2.7",), "https", True),
            (("192.0.2.7",), "http", False),
            (("192.0.2.7",), "https, http", False),
            ((), "https", False),
        ):
            door = Door(trusted_proxies=trusted)
            cookie = log_in(door, **{"X-Forwarded-Proto": said}).headers["set-cookie"]
            self.assertEqual(secure, cookie.endswith("; Secure"), (trusted, said))

    def test_only_from_the_page(self) -> None:
        """Another site's form or script cannot log a browser in."""
        for headers in (
            {"Content-Type": "text/plain"},
            {"Content-Type": ""},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            self.assertEqual(403, log_in(self.door, **headers).status, headers)
        self.assertEqual(200, log_in(self.door, **{"Sec-Fetch-Site": "same-origin"}).status)

    def test_wrong_tokens(self) -> None:
        """Many wrong tokens from one address make it wait a minute; others go on."""
        door = Door(trusted_proxies=("192.0.2.7",))
        for _ in range(WRONG_FROM_ONE):
            self.assertEqual(401, log_in(door, "wrong").status)
        reply = log_in(door)
        self.assertEqual((429, "60"), (reply.status, reply.headers["retry-after"]))
        self.assertEqual(200, log_in(door, **{"X-Forwarded-For": "198.51.100.9"}).status)

        door.clock.advance(61)
        self.assertEqual(200, log_in(door).status)

    def test_wrong_tokens_from_everywhere(self) -> None:
        """Whoever guesses from many addresses is stopped as well."""
        door = Door(trusted_proxies=("192.0.2.7",))
        for n in range(WRONG_FROM_ALL):
            log_in(door, "wrong", **{"X-Forwarded-For": f"198.51.{n // 9}.{n % 9}"})
        self.assertEqual(429, log_in(door, **{"X-Forwarded-For": "203.0.113.1"}).status)

    def test_open_service(self) -> None:
        """Where the API needs no token, nor does the console."""
        door = Door(admin_token=None, allow_no_token=True)
        self.assertEqual(200, Page(door, "").call("GET", "/console/api/status").status)
        self.assertEqual(401, door.call("GET", "/console/api/status", token=None).status)

    def test_bad_input(self) -> None:
        """What is no login is refused with what is wrong."""
        for body in (b"[]", b"{", {"token": 1}):
            headers = {"Content-Type": "application/json"}
            reply = self.door.call("POST", "/console/session", body, token=None, headers=headers)
            self.assertEqual(422, reply.status, body)


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.page = Page(self.door)

    def test_endpoints(self) -> None:
        """All endpoints are below the console's path, and answer as ever, to be kept nowhere."""
        self.door.put_account()
        reply = self.page.call("GET", "/console/api/accounts?tenant_id=default")
        expected = self.door.call("GET", "/accounts?tenant_id=default")
        self.assertEqual((200, expected.json), (reply.status, reply.json))
        self.assertEqual("no-store", reply.headers["cache-control"])
        self.assertEqual("nosniff", reply.headers["x-content-type-options"])
        self.assertEqual(404, self.page.call("GET", "/console/api/none").status)
        self.assertEqual(405, self.page.call("PUT", "/console/api/accounts").status)

    def test_streamed(self) -> None:
        """A list that is streamed comes through as well."""
        self.door.put_account()
        self.door.add(message("m1"))
        reply = self.page.call("GET", "/console/api/messages")
        self.assertEqual(["m1"], [each["id"] for each in reply.json["messages"]])

    def test_changes_repeat_the_secret(self) -> None:
        """What changes something has to repeat the session's secret."""
        self.door.put_account()
        for secret in ("", "wrong", Page(self.door).csrf):
            call = {"X-CSRF-Token": secret}
            reply = self.page.call("POST", "/console/api/v1/accounts/smtp-main/hold", {}, **call)
            self.assertEqual(403, reply.status, secret)
        (account,) = self.door.call("GET", "/accounts").json["accounts"]
        self.assertIsNone(account["held_since"])

        reply = self.page.call("POST", "/console/api/v1/accounts/smtp-main/hold", {})
        self.assertEqual((200, True), (reply.status, reply.json["changed"]))
        (line, *_) = self.door.call("GET", "/command-log").json["commands"]
        self.assertEqual(("POST /v1/accounts/{id}/hold", "admin"), (line["command"], line["who"]))

    def test_registered_by_the_console(self) -> None:
        """The command log names the tenant of a registration also below the console's path."""
        self.assertEqual(200, self.page.call("POST", "/console/api/tenant", {"id": "acme"}).status)
        (line, *_) = self.door.call("GET", "/command-log").json["commands"]
        self.assertEqual("acme", line["tenant_id"])

    def test_the_cookie_is_good_for_the_console_only(self) -> None:
        """The cookie opens no path but the console's, and a token opens nothing below that."""
        self.assertEqual(401, self.page.call("GET", "/accounts").status)
        self.assertEqual(401, self.door.call("GET", "/console/api/accounts").status)
        self.assertEqual(401, self.page.call("GET", "/console/%61pi/accounts").status)
        self.assertEqual(401, self.page.call("GET", "/console/api/accounts", Cookie="a=b").status)

    def test_large_bodies(self) -> None:
        """Nobody's body is read, however large it is, without a session."""
        client = self.door.connect()
        client.send(
            b"POST /console/api/account HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        )
        self.assertEqual([401], [each.status for each in client.replies])

    def test_logout(self) -> None:
        """Logging out ends the session, and needs its secret."""
        self.assertEqual(
            403, self.page.call("DELETE", "/console/session", **{"X-CSRF-Token": ""}).status
        )
        reply = self.page.call("DELETE", "/console/session")
        self.assertEqual(200, reply.status)
        self.assertIn("Max-Age=0", reply.headers["set-cookie"])
        self.assertEqual(401, self.page.call("GET", "/console/api/status").status)

    def test_idle(self) -> None:
        """A session ends half a day after its last request."""
        for _ in range(3):
            self.door.clock.advance(IDLE - 1)
            self.assertEqual(200, self.page.call("GET", "/console/api/status").status)
        self.door.clock.advance(IDLE)
        self.assertEqual(401, self.page.call("GET", "/console/api/status").status)

    def test_longest(self) -> None:
        """A session that is used all the time ends nevertheless."""
        for _ in range(int(LONGEST / (IDLE - 1))):
            self.door.clock.advance(IDLE - 1)
            self.assertEqual(200, self.page.call("GET", "/console/api/status").status)
        self.door.clock.advance(IDLE - 1)
        self.assertEqual(401, self.page.call("GET", "/console/api/status").status)

    def test_most(self) -> None:
        """There are so many sessions at once; the one used longest ago ends."""
        for _ in range(MOST):
            log_in(self.door)
        self.assertEqual(401, self.page.call("GET", "/console/api/status").status)


class TenantTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.add_key("acme", KEY)
        self.door.add_key("other", "key-of-other-0123456789abcdef")
        self.page = Page(self.door, KEY)

    def test_rights(self) -> None:
        """A tenant's session may what its key may."""
        session = self.page.reply.json["session"]
        self.assertEqual((False, "acme"), (session["admin"], session["tenant_id"]))
        self.assertEqual(["control", "read", "send"], session["scopes"])
        self.assertEqual(200, self.page.call("GET", "/console/api/accounts").status)
        self.assertEqual(401, self.page.call("GET", "/console/api/accounts?tenant_id=other").status)
        self.assertEqual(403, self.page.call("GET", "/console/api/command-log").status)

    def test_scopes(self) -> None:
        """A key that may not read opens no session; one that may only read changes nothing."""
        self.door.add_key("acme", "key-to-send-0123456789", scopes=frozenset((Scope.SEND,)))
        self.assertEqual(403, log_in(self.door, "key-to-send-0123456789").status)
        self.door.add_key("acme", "only-read-0123456789ab", scopes=frozenset((Scope.READ,)))
        page = Page(self.door, "only-read-0123456789ab")
        self.assertEqual(200, page.call("GET", "/console/api/status").status)
        self.assertEqual(403, page.call("POST", "/console/api/v1/messages/m1/hold", {}).status)

    def test_revoked(self) -> None:
        """The session is worth nothing as soon as its key is revoked."""
        self.assertEqual(200, self.page.call("GET", "/console/api/status").status)
        self.assertEqual(200, self.door.call("DELETE", "/tenant/acme/api-key").status)
        self.assertEqual(401, self.page.call("GET", "/console/api/status").status)
        self.assertIsNone(self.page.call("GET", "/console/session").json["session"])

    def test_networks(self) -> None:
        """A key for certain networks is good from there only, in a session too."""
        door = Door(trusted_proxies=("192.0.2.7",))
        door.add_key("acme", KEY, networks=("198.51.100.0/24",))
        self.assertEqual(401, log_in(door, KEY, **{"X-Forwarded-For": "203.0.113.5"}).status)
        inside = {"X-Forwarded-For": "198.51.100.5"}
        page = Page(door, KEY, **inside)
        self.assertEqual(200, page.call("GET", "/console/api/status", **inside).status)
        self.assertEqual(401, page.call("GET", "/console/api/status").status)

    def test_keys_not_read_yet(self) -> None:
        """While keys cannot be judged, a tenant's session waits, and does not end."""
        self.door.book.loaded = False
        self.assertEqual(503, self.page.call("GET", "/console/api/status").status)
        self.assertEqual(503, self.page.call("GET", "/console/session").status)
        result(self.door.book.refresh())
        self.assertEqual(200, self.page.call("GET", "/console/api/status").status)


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def get(self, target: str) -> Reply:
        return self.door.call("GET", target, token=None)

    def test_headers(self) -> None:
        """The page and its files run nothing but themselves, and are framed by nobody."""
        for target in ("/console/", *(f"/console/assets/{name}" for name in FILES)):
            reply = self.get(target)
            self.assertEqual(200, reply.status, target)
            self.assertEqual(POLICY, reply.headers["content-security-policy"])
            self.assertEqual("nosniff", reply.headers["x-content-type-options"])
            self.assertEqual("no-referrer", reply.headers["referrer-policy"])
            self.assertEqual("no-cache", reply.headers["cache-control"])
        self.assertIn("default-src 'none'", POLICY)
        self.assertNotIn("unsafe", POLICY)

    def test_without_the_slash(self) -> None:
        """``/console`` leads to where relative links are right, whatever path a proxy serves."""
        reply = self.get("/console")
        self.assertEqual((308, "console/"), (reply.status, reply.headers["location"]))

    def test_no_other_file(self) -> None:
        """Nothing but the console's own files is served."""
        for name in ("none.js", "..%2fsite.py", "%2e%2e/site.py", "__init__.py"):
            self.assertIn(self.get(f"/console/assets/{name}").status, (401, 404), name)

    def test_links_are_relative(self) -> None:
        """No file names a path from the root or another host, so any prefix serves."""
        for name, content in FILES.items():
            found = re.findall(r"""["'`(](?:/(?!/|\*)[\w-]|https?:)[^"'`]*""", content.decode())
            allowed = ("http://www.w3.org/", "/accounts", "/v1/", "/status", "/tenants", "/command",
                       "/messages", "/tenant")  # fmt: skip
            self.assertEqual([], [each for each in found if not each[1:].startswith(allowed)], name)

    def test_nothing_inline(self) -> None:
        """The page has no script and no style of its own in its text, nor reads HTML from data."""
        page = FILES["index.html"].decode()
        self.assertEqual([], re.findall(r"<style|\son\w+=|style=|<script(?![^>]*\ssrc=)", page))
        for name, content in FILES.items():
            found = re.findall(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|srcdoc",
                content.decode(),
            )
            self.assertEqual([], found, name)

    def test_all_are_there(self) -> None:
        """Whatever a module imports is among the files."""
        self.assertEqual({path.name for path in ASSETS.iterdir()}, set(FILES))
        for name, content in FILES.items():
            for wanted in re.findall(r'from "\./([^"]+)"', content.decode()):
                self.assertIn(wanted, FILES, name)


class PaletteTests(SynchronousTestCase):
    #: Text and what it stands on; 4.5 is asked for. Then edges and marks: 3.
    TEXT = (
        *((name, on) for name in ("text", "quiet", "accent", "bad", "warn", "good")
          for on in ("surface", "ground")),
        ("text", "raised"), ("quiet", "raised"), ("on-accent", "accent"),
        ("text", "bad-ground"), ("text", "warn-ground"),
    )  # fmt: skip
    MARKS = (
        *((name, "surface") for name in ("edge", "doubt", "wait", "good", "warn", "bad")),
        *((name, "raised") for name in ("wait", "warn", "doubt")),
        ("accent", "ground"), ("bad", "bad-ground"), ("warn", "warn-ground"),
    )  # fmt: skip

    def palettes(self) -> list[dict[str, str]]:
        css = FILES["console.css"].decode()
        light, dark, *_ = [
            dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
            for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
        ]
        self.assertEqual(set(light), set(dark))
        return [light, dark]

    def test_contrast(self) -> None:
        """Text and marks stand out from their ground as WCAG 2.1 AA asks, in light and in dark."""
        for palette in self.palettes():
            for pairs, least in ((self.TEXT, 4.5), (self.MARKS, 3.0)):
                for name, on in pairs:
                    ratio = contrast(palette[name], palette[on])
                    self.assertGreaterEqual(ratio, least, (name, on, palette[name]))

    def test_colours_come_from_the_palette(self) -> None:
        """No rule names a colour of its own."""
        css = re.sub(r":root \{.*?\}", "", FILES["console.css"].decode(), flags=re.DOTALL)
        self.assertEqual([], re.findall(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)|\brgba?\(|\bhsl", css))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21. Source: WCAG 2.1, contrast ratio."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
