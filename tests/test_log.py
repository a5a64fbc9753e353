"""What reaches the log."""

from __future__ import annotations

import importlib
import io
import json
import pkgutil
import re
import sys
import warnings
from operator import itemgetter
from typing import Any, cast

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import (
    LogBeginner,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    formatEvent,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import mailproxy
from mailproxy.log import HIDDEN, Mask, Screen, basic_credentials, escape, json_lines, screen

ANY_TEXT = st.text(st.characters(codec=None))


class MaskTests(SynchronousTestCase):
    def test_hides_every_form(self) -> None:
        """A secret is taken out as it is, quoted, in JSON, in a URL and in base64."""
        secret = "pä'ss\\w \"ord"
        mask = Mask()
        mask.hide(secret)
        import base64
        import urllib.parse

        for form in (
            secret,
            repr(secret),
            ascii(secret),
            json.dumps(secret),
            urllib.parse.quote(secret),
            base64.b64encode(secret.encode()).decode(),
            str(secret.encode()),
        ):
            with self.subTest(form):
                self.assertIn(HIDDEN, mask(f"before {form} after"))
                self.assertNotIn("ss\\w", mask(form).replace("\\\\", "\\"))

    def test_a_secret_within_a_secret(self) -> None:
        """Nothing is left of a secret that contains another one, in whatever order they come."""
        for order in (("secret", "secret-and-more"), ("secret-and-more", "secret")):
            mask = Mask()
            for secret in order:
                mask.hide(secret)
            self.assertEqual(HIDDEN, mask("secret-and-more"))

    def test_short_and_absent(self) -> None:
        """None, empty and very short secrets do not turn the log into asterisks."""
        mask = Mask()
        mask.hide(None, "", "a", "abc")
        self.assertEqual("a banana, abc", mask("a banana, abc"))

    def test_basic_credentials(self) -> None:
        """The Basic form of a user and password is the one HTTP clients send."""
        self.assertEqual("c3luY3VzZXI6c3luY3Bhc3M=", basic_credentials("syncuser", "syncpass"))


class EscapeTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(ANY_TEXT)
    def test_one_line(self, text: str) -> None:
        """An escaped text is one line, can be written as UTF-8 and stays so when escaped again."""
        escaped = escape(text)
        self.assertLessEqual(len(escaped.splitlines()), 1)
        escaped.encode("utf-8")
        self.assertEqual(escaped, escape(escaped))

    def test_what_is_escaped(self) -> None:
        """Control characters are shown as Python writes them; letters of any script stay."""
        self.assertEqual(
            r"a\r\nb\x1b[31m\x00\u2028\u202e é 漢", escape("a\r\nb\x1b[31m\0\u2028\u202e é 漢")
        )


class ScreenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mask = Mask()
        self.mask.hide("hunter2-hunter2")
        self.events: list[LogEvent] = []

    def logger(self, level: str = "DEBUG") -> Logger:
        """A logger whose events arrive, screened, in ``self.events``."""
        return Logger("test", observer=Screen(self.events.append, level, self.mask))

    def text(self) -> str:
        """The events as a log file has them."""
        out = io.StringIO()
        observer = textFileLogObserver(out)
        for event in self.events:
            observer(event)
        return out.getvalue()

    def test_secrets_do_not_pass(self) -> None:
        """A secret in a field, a template, a format, an object or an exception does not pass."""

        class Talkative:
            def __repr__(self) -> str:
                return "<password hunter2-hunter2>"

        log = self.logger()
        log.info("{field} {obj} {obj!r}", field="hunter2-hunter2", obj=Talkative())
        log.info("hunter2-hunter2")
        log.info("nothing", unused="hunter2-hunter2", unused_obj=Talkative())
        try:
            raise ValueError("AUTH hunter2-hunter2")
        except ValueError:
            log.failure("failed with hunter2-hunter2")
        self.assertEqual(4, len(self.events))
        self.assertNotIn("hunter2", self.text())
        self.assertNotIn("hunter2", repr(self.events))
        out = io.StringIO()
        for event in self.events:
            json_lines(out)(event)
        self.assertNotIn("hunter2", out.getvalue())
        self.assertIn("ValueError", out.getvalue())

    def test_peers_cannot_write_lines(self) -> None:
        """What a peer sends cannot begin a line of the log, nor move the cursor."""
        forged = "250 ok\n2026-01-01T00:00:00+0000 [mailproxy#info] sent\r\x1b[2J"
        log = self.logger()
        log.info("reply {reply}", reply=forged)
        try:
            raise ValueError(forged)
        except ValueError:
            log.failure("while talking")
        lines = self.text().split("\n")
        self.assertNotIn("\x1b", self.text())
        self.assertNotIn("\r", self.text())
        self.assertEqual(2, sum(not line.startswith("\t") for line in lines if line), lines)

    def test_level(self) -> None:
        """Events below the level are dropped; those without one are not."""
        for level, expected in (("DEBUG", 5), ("INFO", 4), ("WARNING", 3), ("CRITICAL", 1)):
            self.events.clear()
            log = self.logger(level)
            log.debug("1")
            log.info("2")
            log.warn("3")
            log.error("4")
            log.critical("5")
            self.assertEqual(expected, len(self.events), level)
        Screen(self.events.append, "CRITICAL", self.mask)({"log_format": "no level"})
        self.assertEqual("no level", formatEvent(self.events[-1]))

    def test_twisted_s_details(self) -> None:
        """What Twisted says at INFO of each connection counts as DEBUG; its warnings stay."""
        for level, expected in (("INFO", ["bad"]), ("DEBUG", ["Starting factory", "bad"])):
            self.events.clear()
            screen = Screen(self.events.append, level, self.mask)
            log = Logger("twisted.web.client._HTTP11ClientFactory", observer=cast(Any, screen))
            log.info("Starting factory")
            log.warn("bad")
            self.assertEqual(expected, [formatEvent(event) for event in self.events])

    def test_templates_are_formatted_once(self) -> None:
        """Braces in a field's value are text, not a template."""
        self.logger().info("{a}", a="{b} {log_failure} {{", b=1)
        self.assertEqual("{b} {log_failure} {{", formatEvent(self.events[0]))

    def test_broken_objects(self) -> None:
        """An object that cannot be formatted, or an exception that cannot, still leaves a line."""

        class Broken(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no")

            __repr__ = __str__

        class Mute(Failure):
            def getTraceback(self, *args: Any, **kwargs: Any) -> str:
                raise RuntimeError("no")

        log = self.logger()
        log.info("{x}", x=Broken())
        log.failure("bad", Mute(Broken()))
        self.assertEqual(2, len(self.events))
        self.assertIn("no traceback: RuntimeError", self.text())

    def test_legacy_events(self) -> None:
        """Events of Twisted's older log pass with their text and their system."""
        self.logger()
        Screen(self.events.append, "INFO", self.mask)(
            {
                "log_format": "{log_text}",
                "log_text": "old hunter2-hunter2",
                "log_level": LogLevel.info,
                "log_system": "a\nb",
                "log_time": 0.0,
                "message": ("old hunter2-hunter2",),
            }
        )
        self.assertIn(rf"[a\nb] old {HIDDEN}", self.text())
        self.assertNotIn("hunter2", repr(self.events))


class ConstructionTests(SynchronousTestCase):
    def test_no_value_shows_its_secret(self) -> None:
        """The repr of a value, as a traceback or a careless line shows it, has no secret in it."""
        secret = re.compile(r"password|secret|(^|_)tokens?$|^(api|private|encryption)_keys?$")
        found = []
        for module in pkgutil.walk_packages(mailproxy.__path__, "mailproxy."):
            # What is for frameworks needs theirs set up, and has no values of its own.
            skipped = (".migrations.", ".contrib.")
            if module.name.endswith("__main__") or any(each in module.name for each in skipped):
                continue
            for kind in vars(importlib.import_module(module.name)).values():
                if isinstance(kind, type) and attrs.has(kind):
                    found += [
                        (f"{kind.__name__}.{field.name}", field.repr)
                        for field in attrs.fields(kind)
                        if secret.search(field.name)
                        and "str" in str(field.type)
                        and "__repr__" in vars(kind)
                    ]
        self.assertGreater(len(set(found)), 10)
        self.assertEqual([], sorted({name for name, shown in found if shown}))


class BeginTests(SynchronousTestCase):
    def setUp(self) -> None:
        class Stdio:
            stdout = io.StringIO()
            stderr = io.StringIO()

        class Warnings:
            def showwarning(self, *args: object) -> None: ...

        self.publisher = LogPublisher()
        self.beginner = LogBeginner(self.publisher, io.StringIO(), Stdio(), Warnings())

    def test_whoever_begins_is_screened(self) -> None:
        """What was logged before logging began, and after, reaches the log screened, once."""
        log = Logger("test", observer=self.publisher)
        log.debug("early detail")
        log.info("early\nline")
        screen("ERROR", self.beginner)
        screen("INFO", self.beginner)
        events: list[LogEvent] = []
        self.beginner.beginLoggingTo([cast(Any, events.append)], redirectStandardIO=False)
        log.info("late\nline")
        self.assertEqual([r"early\nline", r"late\nline"], [formatEvent(e) for e in events])


class FormTests(SynchronousTestCase):
    """A file in memory that is a terminal, or is none."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def written(self, out: io.StringIO, form: str, observer: Any = textFileLogObserver) -> str:
        """What logging one line to *out* leaves there."""
        publisher = LogPublisher()
        beginner = LogBeginner(publisher, io.StringIO(), sys, warnings)
        screen("INFO", beginner, form=form)
        beginner.beginLoggingTo([observer(out)], redirectStandardIO=False)
        Logger("mailproxy.x", observer=publisher).info("{n} sent", n=3)
        return out.getvalue()

    def test_who_reads_it(self) -> None:
        """Text on a terminal, JSON elsewhere; either can be asked for."""
        for form, terminal, json_wanted in (
            ("auto", True, False), ("auto", False, True), ("text", False, False),
            ("json", True, True),
        ):  # fmt: skip
            got = self.written(self.Terminal() if terminal else io.StringIO(), form)
            if json_wanted:
                self.assertEqual(("3 sent", 3), itemgetter("message", "n")(json.loads(got)))
            else:
                self.assertRegex(got, r"^\d{4}-\S+ \[mailproxy\.x#info\] 3 sent\n$")

    def test_what_was_chosen_by_name_stays(self) -> None:
        """An observer of ours stays the one it is, and so does what writes to no file."""
        self.assertEqual("3 sent", json.loads(self.written(io.StringIO(), "text", json_lines))
                         ["message"])  # fmt: skip
        events: list[LogEvent] = []
        self.assertEqual("", self.written(io.StringIO(), "json", lambda out: events.append))
        self.assertEqual(["3 sent"], [formatEvent(event) for event in events])


class JsonTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Every event is one line of JSON with time, level, logger, message and its fields."""
        out = io.StringIO()
        log = Logger("mailproxy.x", observer=Screen(json_lines(out), "INFO", Mask()))
        log.info("to {n}", n=3, host="a\nb", ok=True, obj=object())
        log.error("second")
        first, second = map(json.loads, out.getvalue().splitlines())
        self.assertRegex(first.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$")
        self.assertEqual(
            {
                "level": "info",
                "logger": "mailproxy.x",
                "message": "to 3",
                "n": 3,
                "host": r"a\nb",
                "ok": True,
            },
            first,
        )
        self.assertEqual("second", second["message"])

    def test_without_a_screen(self) -> None:
        """An event that did not come through a screen is still one line."""
        out = io.StringIO()
        json_lines(out)({"log_format": "x {y}", "y": "a\nb"})
        self.assertEqual({"message": "x a\nb", "y": "a\nb"}, json.loads(out.getvalue()))
