"""A real browser, driven as a person uses it: by what is to be read, and by keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    WebDriverException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.need import need_program

T = TypeVar("T")

#: Seconds the browser, or a page, may take for anything.
PATIENCE = 30.0

#: Height of the window in pixels.
HEIGHT = 900


#: What is said of an element that the page has just put another in place of.
_BEING_REPLACED = (NoSuchElementException, StaleElementReferenceException)


class Browser:
    """
    Chromium without a window, with nothing kept from before.

    :param hosts: names that lead to the loopback address.
    """

    def __init__(self, hosts: str = "") -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = need_program("chromium")
        for argument in (
            "--headless=new",
            "--no-sandbox",  # which root cannot have
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--force-color-profile=srgb",
            "--ignore-certificate-errors",
            f"--host-resolver-rules=MAP {hosts or 'unused'} 127.0.0.1",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(need_program("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)
        self.look(1280)

    def end(self) -> None:
        self.driver.quit()

    def look(self, width: int, *, dark: bool = False, height: int = HEIGHT) -> None:
        """Be a screen of so many pixels, of a person who prefers light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, url: str) -> None:
        self.driver.get(url)

    def forget(self) -> None:
        """Leave the page, and all cookies."""
        self.open("about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, what: str, condition: Callable[[], T | None], patience: float = PATIENCE) -> T:
        """
        What *condition* gives as soon as that is true; it may look at what is just replaced.

        :raises AssertionError: it did not become true; with what was to be read.
        """
        end = time.monotonic() + patience
        while True:
            try:
                if value := condition():
                    return value
            except _BEING_REPLACED:
                pass
            if time.monotonic() > end:
                raise AssertionError(f"waited for {what}; the page says:\n{self.text()}")
            time.sleep(0.05)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str, text: str | None = None) -> WebElement:
        """The only element like that, with this text if one is given, as soon as it is there."""

        def found() -> WebElement | None:
            fitting = [each for each in self.all(css) if text is None or each.text.strip() == text]
            return fitting[0] if len(fitting) == 1 else None

        return self.wait(f"{css} {text or ''}", found)

    def click(self, css: str, text: str) -> None:
        """Click the only element like that, as soon as it is there."""

        def clicked() -> bool:
            fitting = [each for each in self.all(css) if each.text.strip() == text]
            if len(fitting) == 1:
                fitting[0].click()
            return len(fitting) == 1

        self.wait(f"{css} {text}", clicked)

    def text(self) -> str:
        """All that is to be read now."""
        try:
            return self.one_now("body").text
        except WebDriverException as problem:
            return f"(nothing: {problem.msg})"

    def one_now(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def reads(self, text: str, css: str = "body", patience: float = PATIENCE) -> None:
        """Wait until *text* is to be read."""
        self.wait(f"{text!r} in {css}", lambda: text in self.one_now(css).text, patience)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def back_tab(self) -> None:
        """Press Shift and Tab."""
        chain = webdriver.ActionChains(self.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB)
        chain.key_up(Keys.SHIFT).perform()

    def focused(self) -> str:
        """What has the focus: its text, or its id."""
        return str(self.run("const e = document.activeElement; return e.innerText.trim() || e.id"))

    def tab_to(self, name: str, most: int = 40) -> None:
        """Press Tab until what is called *name* has the focus. :raises AssertionError: never."""
        for _ in range(most):
            self.press(Keys.TAB)
            if self.focused() == name:
                return
        raise AssertionError(f"Tab does not lead to {name!r}")

    def overflow(self) -> int:
        """Pixels by which the page is wider than the screen."""
        return int(
            self.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth")
        )

    def complaints(self) -> list[str]:
        """What the browser wrote into its log since it was asked last."""
        return [
            each["message"]
            for each in self.driver.get_log("browser")
            if each["level"] in ("WARNING", "SEVERE")
        ]

    def picture(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))
