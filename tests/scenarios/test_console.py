"""
The console in a real browser: what an operator does at night.

With ``CONSOLE_PICTURES`` set to a folder, pictures of the pages are put there; to have something to
show, mail flows for ``CONSOLE_SECONDS`` before that.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from pathlib import Path
from typing import ClassVar

from aiosmtpd.smtp import SMTP, Envelope, Session
from selenium.webdriver.common.keys import Keys
from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.browser import Browser
from tests.scenarios.processes import TOKEN, Service, account, free_port, message, wait_until
from tests.scenarios.test_nginx import ALONE, HOST, Nginx
from tests.scenarios.upstream import Mailroom, Upstream

#: Where pictures of the pages are wanted.
PICTURES = os.environ.get("CONSOLE_PICTURES")

PAGES = ("now", "messages", "accounts", "tenants", "nodes", "log")

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


class Moody(Mailroom):
    """Refuses ``picky`` as long as it is in the mood."""

    refusing = True

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refusing and address.startswith("picky"):
            return "550 5.1.1 Not today"
        return await super().handle_RCPT(server, session, envelope, address, options)


class ConsoleTests(SynchronousTestCase):
    service: ClassVar[Service]
    upstream: ClassVar[Upstream]
    mailroom: ClassVar[Moody]
    nginx: ClassVar[Nginx]
    browser: ClassVar[Browser]

    @classmethod
    def setUpClass(cls) -> None:
        cls.browser = Browser(HOST)
        cls.addClassCleanup(cls.browser.end)
        folder = tempfile.TemporaryDirectory(prefix="mailproxy-")
        cls.addClassCleanup(folder.cleanup)
        directory = Path(folder.name)
        directory.chmod(0o755)
        cls.service = Service(directory, GMP_TRUSTED_PROXIES="127.0.0.1", GMP_LOG_LEVEL="DEBUG")
        cls.addClassCleanup(cls.service.end)
        cls.service.start()
        cls.nginx = Nginx(directory, {ALONE: f"127.0.0.1:{cls.service.port}"})
        cls.addClassCleanup(cls.nginx.end)
        cls.nginx.start()
        port = free_port()
        cls.mailroom = Moody()
        cls.upstream = Upstream(port, mailroom=cls.mailroom).start()
        cls.addClassCleanup(cls.upstream.stop)
        cls.service.call("POST", "/account", account(port, limit_per_hour=10_000))

    def setUp(self) -> None:
        self.browser.look(1280)
        self.service.call("POST", "/v1/accounts/main/release")

    def tearDown(self) -> None:
        """No policy was offended, and nothing failed, whatever the test did."""
        self.assertEqual([], self.browser.complaints())

    @property
    def url(self) -> str:
        return f"{self.service.url}/console"

    def log_in(self, token: str = TOKEN, url: str | None = None) -> None:
        """Be logged in anew."""
        self.browser.forget()
        self.browser.open(url or self.url)
        self.browser.one("#token").send_keys(token, Keys.ENTER)
        self.browser.one("h1", "Now")

    def go(self, place: str) -> None:
        self.browser.run("location.hash = arguments[0]", f"#/{place}")

    def press(self, name: str) -> None:
        self.browser.click("button", name)

    def decide(self, name: str, reason: str) -> None:
        """Press a button, and give the reason it asks for."""
        self.press(name)
        self.browser.one("dialog input").send_keys(reason, Keys.ENTER)
        self.browser.wait("the dialog to close", lambda: not self.browser.all("dialog"))

    def state(self, id: str) -> str:
        return self.service.states().get(id, "")

    def test_by_keys_alone(self) -> None:
        """Logging in, skipping to the content, another page and logging out need no mouse."""
        browser = self.browser
        browser.forget()
        browser.open(self.url)
        browser.wait("the field to have the focus", lambda: browser.focused() == "token")
        browser.press("wrong", Keys.ENTER)
        browser.reads("Invalid or missing API token")
        self.assertEqual(1, len(browser.complaints()))  # the refusal itself
        browser.press(TOKEN, Keys.ENTER)
        browser.one("h1", "Now")
        browser.wait("the content to have the focus", lambda: browser.run(FOCUS) == "main")
        browser.back_tab()
        self.assertEqual("Log out", browser.focused())
        self.assertNotEqual("none", browser.run(OUTLINE))
        browser.run("document.activeElement.blur(); window.getSelection().collapse(document.body)")
        browser.tab_to("Skip to content")
        browser.press(Keys.ENTER)
        self.assertEqual("main", browser.run(FOCUS))
        browser.run("document.activeElement.blur(); window.getSelection().collapse(document.body)")
        browser.tab_to("Messages")
        browser.press(Keys.ENTER)
        browser.one("h1", "Messages")
        browser.tab_to("Log out", 60)
        browser.press(Keys.ENTER)
        browser.one("#token")
        browser.driver.refresh()
        browser.one("#token")

    def test_live(self) -> None:
        """A message goes from queued to sent before one's eyes."""
        self.log_in()
        self.service.call("POST", "/v1/accounts/main/hold")
        self.go("messages")
        self.browser.one("h1", "Messages")
        self.service.add(message("watched"))
        self.browser.reads("watched", patience=6.0)
        row = "tr:has(a[href$='/watched'])"
        self.assertIn("queued", self.browser.one(row).text)
        self.service.call("POST", "/v1/accounts/main/release")
        self.browser.reads("sent", row, patience=8.0)
        self.browser.run("document.querySelector(arguments[0]).click()", f"{row} a")
        self.browser.reads("250 2.0.0 queued as", ".timeline")

    def test_a_failed_message(self) -> None:
        """One that failed is found by its recipient, read about, and sent after all."""
        self.mailroom.refusing = True
        self.service.add(message("lost-1", to=["picky@example.test"], subject="Your ticket"))
        wait_until(lambda: self.state("lost-1") == "failed", what="the refusal")
        self.log_in()
        self.go("messages")
        self.browser.one("#by-text").send_keys("PICKY@", Keys.ENTER)
        self.browser.one("#by-state").send_keys("failed")
        self.browser.wait("the address", lambda: "state=failed" in self.browser.driver.current_url)
        self.browser.wait("one row", lambda: len(self.browser.all("tbody tr")) == 1)
        self.browser.click("tbody a", "lost-1")
        self.browser.reads("550 5.1.1 Not today", ".timeline")
        self.browser.reads("Failed", ".timeline .is-failed")
        self.mailroom.refusing = False
        self.decide("Retry", "they made room")
        self.browser.reads("Sent", ".timeline")
        self.browser.reads("they made room", ".timeline")
        self.assertEqual("sent", self.state("lost-1"))

    def test_deciding(self) -> None:
        """A message is held, released and cancelled, each as its state allows."""
        self.service.call("POST", "/v1/accounts/main/hold")
        self.service.add(message("doubtful"))
        self.log_in()
        self.go("messages/default/doubtful")
        self.browser.one(".head .state", "queued")
        self.assertEqual(["Hold", "Cancel"], self.offered())
        self.decide("Hold", "is it right?")
        self.browser.one(".head .state", "held")
        self.browser.reads("is it right?", ".timeline")
        self.assertEqual(["Release", "Cancel"], self.offered())
        self.decide("Release", "")
        self.browser.one(".head .state", "queued")
        self.press("Cancel")
        self.browser.one("dialog input").send_keys(Keys.ESCAPE)
        self.browser.wait("the dialog to close", lambda: not self.browser.all("dialog"))
        self.assertEqual(("Cancel", "queued"), (self.browser.focused(), self.state("doubtful")))
        self.decide("Cancel", "it was wrong")
        self.browser.one(".head .state", "cancelled")
        self.assertEqual("cancelled", self.state("doubtful"))
        self.assertEqual([], self.offered())

    def offered(self) -> list[str]:
        """What can be done with the message that is shown."""
        return [each.text for each in self.browser.all("main > .actions button")]

    def test_pausing_an_account(self) -> None:
        """An account is tried, paused, seen to need somebody, and released."""
        self.log_in()
        self.go("accounts")
        self.press("Test connection")
        self.browser.reads("It works.")
        self.decide("Pause", "their maintenance")
        self.browser.one("[data-account='default/main'] h2 .state", "paused")
        (shown,) = self.service.call("GET", "/accounts").body["accounts"]
        self.assertIsNotNone(shown["held_since"])
        self.go("now")
        self.browser.reads("Account main is paused")
        self.go("accounts")
        self.decide("Release", "")
        self.browser.one("[data-account='default/main'] h2 .state", "active")
        self.go("log")
        self.browser.reads("POST /v1/accounts/{id}/hold")

    def test_text_stays_text(self) -> None:
        """Markup in a message is shown as it is written, and does nothing."""
        self.service.add(message("evil", subject=EVIL, body=EVIL))
        wait_until(lambda: self.state("evil") == "sent", what="the message")
        self.log_in()
        self.go("messages?text=evil")
        self.browser.reads("<script>document.title='owned'</script><img src=x onerror=")
        self.go("messages/default/evil")
        self.browser.one("h1", EVIL)
        self.assertEqual([], self.browser.all("main script, main img"))
        self.assertEqual("evil · mailproxy", self.browser.run("return document.title"))
        self.assertEqual([], self.browser.complaints())
        self.browser.run(INJECT)  # if markup got in after all, the policy would stop it
        self.assertEqual("evil · mailproxy", self.browser.run("return document.title"))
        (complaint,) = self.browser.complaints()
        self.assertIn("Content Security Policy", complaint)

    def test_narrow_and_wide(self) -> None:
        """No page is wider than a telephone, nor than a large screen; none is without a heading."""
        self.service.add(message("x" * 200, subject="y" * 300, to=[f"{'z' * 60}@example.test"]))
        self.log_in()
        for width, dark in ((360, True), (1600, False)):
            self.browser.look(width, dark=dark)
            for page in (*PAGES, f"messages/default/{'x' * 200}"):
                self.go(page)
                self.browser.wait("the page", lambda: self.browser.all("main h1"))
                self.browser.wait("its content", lambda: not self.browser.all("[aria-busy]"))
                time.sleep(0.2)
                self.assertLessEqual(self.browser.overflow(), 0, (width, page))

    def test_a_tenant(self) -> None:
        """A tenant sees its own, and no page that is not for it."""
        self.service.call("POST", "/tenant", {"id": "acme"})
        made = self.service.call("POST", "/v1/tenants/acme/keys", {"label": "night shift"})
        self.log_in(made.body["api_key"])
        links = [each.text for each in self.browser.all("nav a")]
        self.assertEqual(["Now", "Messages", "Accounts", "Tenants"], links)
        self.go("messages")
        self.browser.reads("No message is like that.")
        self.go("tenants")
        self.browser.reads("night shift")
        self.service.call("DELETE", f"/v1/tenants/acme/keys/{made.body['prefix']}")
        self.browser.one("#token")
        self.browser.reads("The session has ended.")

    def test_behind_nginx(self) -> None:
        """Behind a proxy, below a path and by TLS, everything is the same, and stays there."""
        (port,) = self.nginx.ports
        self.log_in(url=f"https://{HOST}:{port}/mail/console")
        self.browser.reads("Live")
        (cookie,) = self.browser.driver.get_cookies()
        told = {name: cookie[name] for name in ("path", "secure", "httpOnly", "sameSite")}
        wanted = {"path": "/mail/console", "secure": True, "httpOnly": True, "sameSite": "Strict"}
        self.assertEqual(wanted, told)
        self.go("accounts")
        log = self.service.output()
        self.assertIn("POST /console/session 200", log)
        self.assertNotIn(cookie["value"], log)
        self.assertNotIn(TOKEN, log)
        self.decide("Pause", "by the proxy")
        self.browser.one("[data-account='default/main'] h2 .state", "paused")
        self.decide("Release", "")
        self.browser.one("[data-account='default/main'] h2 .state", "active")

    if PICTURES is not None:

        def test_pictures(self) -> None:
            """The pages as the documentation shows them."""
            take_pictures(
                self, Path(PICTURES or ""), float(os.environ.get("CONSOLE_SECONDS", "60"))
            )


FOCUS = "return document.activeElement.id"

INJECT = """
const script = document.createElement("script");
script.textContent = "document.title = 'owned'";
document.body.append(script);
"""

OUTLINE = "return getComputedStyle(document.activeElement).outlineStyle"


def take_pictures(test: ConsoleTests, folder: Path, seconds: float) -> None:
    """Of each page, at work, on a large screen and on a telephone."""
    service, browser = test.service, test.browser
    service.call("POST", "/account", {**account(free_port()), "id": "newsletter"})
    service.call("POST", "/tenant", {"id": "shop", "name": "The shop"})
    service.call("POST", "/v1/tenants/shop/keys", {"label": "web server"})
    test.mailroom.refusing = True
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in range(8 + round(6 * math.sin(number / 60))):
            number += 1
            service.add(message(f"order-{number}", subject=f"Your order {2000 + number}"))
        if number % 7 == 0:
            service.add(message(f"order-{number}-b", to=["picky@example.test"]))
        if number % 9 == 0:
            service.add(message(f"news-{number}", account_id="newsletter", subject="News"))
        time.sleep(1.0)
    service.add(message("ticket-7", to=["picky@example.test"], subject="Your ticket"))
    test.log_in()
    for width, dark, height in ((1280, False, 860), (1280, True, 860), (360, True, 780)):
        for page in ("now", "messages", "messages/default/ticket-7", "accounts", "tenants"):
            browser.look(width, dark=dark, height=height)
            test.go(page)
            browser.wait("the page", lambda: browser.all("main h1"))
            time.sleep(3.0)
            name = "message" if "/" in page else page
            theme = f"{width}-{'dark' if dark else 'light'}"
            browser.picture(folder / f"console-{name}-{theme}.png")
