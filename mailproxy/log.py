"""
What may reach the log, and in what form: no secret, no control character, nothing below a level.

The program logs with :class:`twisted.logger.Logger`; ``twist`` and ``twistd`` decide where it
goes. :func:`screen` puts a :class:`Screen` between the two, however the service is run, and has
files written as ``GMP_LOG_FORMAT`` says: for a person, or one JSON object a line.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import IO, Any
from urllib.parse import quote

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    globalLogBeginner,
    textFileLogObserver,
)
from zope.interface import implementer

#: What stands in the log where a secret stood.
HIDDEN = "********"

#: Shorter secrets are not looked for: they would blot out parts of ordinary words.
SHORTEST = 4

#: Characters that could move a cursor, begin a line or turn the direction of the text.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_CONTROL_IN_LINES = re.compile(_CONTROL.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))

#: Fields of an event that are for programs, not for the reader of a log.
_INTERNAL = frozenset({"format", "isError", "message", "system", "text", "time", "failure", "why"})

#: Twisted tells of each connection here, at INFO; that is detail.
_DETAIL = ("twisted.web.client.", "twisted.internet.protocol.")

#: The words of ``GMP_LOG_LEVEL``.
LEVELS = {
    "DEBUG": LogLevel.debug,
    "INFO": LogLevel.info,
    "WARNING": LogLevel.warn,
    "ERROR": LogLevel.error,
    "CRITICAL": LogLevel.critical,
}

#: The words of ``GMP_LOG_FORMAT``.
FORMATS = ("auto", "text", "json")


class Mask:
    """Knows secrets, and takes them out of texts, also where they stand quoted or encoded."""

    def __init__(self) -> None:
        self._forms: dict[str, None] = {}

    def hide(self, *secrets: str | None) -> None:
        """
        Take these out of every text from now on.

        :param secrets: None and what is shorter than :data:`SHORTEST` is passed over.
        """
        for secret in secrets:
            if secret is not None and len(secret) >= SHORTEST:
                self._forms.update(dict.fromkeys(_forms(secret)))
        # The longest first, so that no secret leaves a rest of one that contains it.
        self._forms = dict.fromkeys(sorted(self._forms, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text


#: The secrets of this process.
_mask = Mask()

#: Keep these secrets out of this process's log from now on.
hide = _mask.hide


def masked(text: str) -> str:
    """*text* without this process's secrets, as it may be stored and shown."""
    return _mask(text)


def basic_credentials(user: str, password: str) -> str:
    """What an ``Authorization: Basic`` header carries, to be hidden."""
    return base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogatepass")).decode("ascii")


def _forms(secret: str) -> Iterable[str]:
    """*secret* in every way that code at hand writes it."""
    data = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield repr(secret)[1:-1]
    yield ascii(secret)[1:-1]
    yield repr(data)[2:-1]
    yield json.dumps(secret)[1:-1]
    yield quote(data, safe="")
    yield base64.b64encode(data).decode("ascii")


def escape(text: str) -> str:
    """*text* on one line: its control characters as ``\\n``, ``\\x1b``, ``\\u2028``."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _escape_lines(text: str) -> str:
    return _CONTROL_IN_LINES.sub(lambda match: ascii(match[0])[1:-1], text)


@implementer(ILogObserver)
class Screen:
    """
    Passes events on, cleaned; drops those below a level.

    What it passes on has plain values only: the message (``log_message``), the traceback if there
    is one (``log_traceback``), and those fields that are texts, numbers or booleans.

    :param observer: gets the clean events.
    :param level: one of the words of ``GMP_LOG_LEVEL``.
    """

    def __init__(
        self, observer: Callable[[LogEvent], object], level: str, mask: Mask = _mask
    ) -> None:
        self._observer = observer
        self._least = LEVELS[level]
        self._mask = mask

    def pass_from(self, level: str) -> None:
        """Drop what is below *level* from now on."""
        self._least = LEVELS[level]

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        if level is LogLevel.info and str(event.get("log_namespace")).startswith(_DETAIL):
            level = LogLevel.debug
        if level is None or level >= self._least:
            self._observer(self._clean(event))

    def _clean(self, event: LogEvent) -> LogEvent:
        clean: dict[str, Any] = {
            key: self._line(value) if isinstance(value, str) else value
            for key, value in event.items()
            if isinstance(value, (str, int, float, bool))
            and not key.startswith("log_")
            and key not in _INTERNAL
        }
        for key in ("log_time", "log_level"):
            if key in event:
                clean[key] = event[key]
        for key in ("log_namespace", "log_system"):
            if event.get(key) is not None:
                clean[key] = self._line(str(event[key]))
        clean["log_message"] = self._line(formatEvent(event))
        clean["log_format"] = "{log_message}"
        failure = event.get("log_failure")
        if failure is not None:
            clean["log_traceback"] = _escape_lines(self._mask(_traceback(failure)))
            clean["log_format"] = "{log_message}\n{log_traceback}"
        return clean

    def _line(self, text: str) -> str:
        return escape(self._mask(text))


def _traceback(failure: Any) -> str:
    try:
        return str(failure.getTraceback()).rstrip("\n")
    except Exception as error:  # an exception whose own repr fails must not silence the log
        return f"(no traceback: {type(error).__name__})"


#: What this process's log goes through, once it has begun.
_screens: list[Screen] = []


def screen(level: str, beginner: Any = globalLogBeginner, form: str = "auto") -> None:
    """
    Screen whatever *beginner* begins to log to from now on; a second call replaces the first.

    To be called before logging begins, that is when the service is made: ``twistd`` begins right
    after that, ``twist`` when the reactor runs, and what was logged before is kept and screened.

    :param form: one of :data:`FORMATS`, of what is written to files. An observer that was chosen by
        name (``twistd --logger``) and the system's log stay as they are.
    """
    current = beginner.beginLoggingTo
    begin = getattr(current, "unscreened", current)

    def begin_screened(
        observers: Iterable[Callable[[LogEvent], object]], *args: Any, **kwargs: Any
    ) -> None:
        _screens[:] = [Screen(_written(observer, form), level) for observer in observers]
        begin(_screens, *args, **kwargs)

    vars(begin_screened)["unscreened"] = begin
    beginner.beginLoggingTo = begin_screened


def observer_of(form: str) -> Callable[[IO[str]], FileLogObserver]:
    """
    What makes an observer that writes to a file.

    :param form: one of :data:`FORMATS`; ``auto`` is text on a terminal, else JSON.
    """

    def observer(out: IO[str]) -> FileLogObserver:
        text = _is_terminal(out) if form == "auto" else form == "text"
        return textFileLogObserver(out) if text else json_lines(out)

    return observer


def _is_terminal(out: Any) -> bool:
    return hasattr(out, "isatty") and bool(out.isatty())


def _written(observer: Callable[[LogEvent], object], form: str) -> Callable[[LogEvent], object]:
    """*observer*; if it writes text to a file, one that writes *form* to that file."""
    if isinstance(observer, FileLogObserver) and observer.formatEvent is not _as_json:
        return observer_of(form)(observer._outFile)
    return observer


def set_level(level: str) -> None:
    """Change the level of this process's log; without effect before logging has begun."""
    for each in _screens:
        each.pass_from(level)


def json_lines(out: IO[str] | None = None) -> FileLogObserver:
    """
    An observer that writes one JSON object per line.

    ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, ``traceback``, then the event's
    own fields.

    :param out: None for the standard output.
    """
    return FileLogObserver(sys.stdout if out is None else out, _as_json)


def _as_json(event: LogEvent) -> str:
    when = event.get("log_time")
    level = event.get("log_level")
    line = {
        "time": when and datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds"),
        "level": level and level.name,
        "logger": event.get("log_system") or event.get("log_namespace"),
        "message": event.get("log_message") or formatEvent(event),
        "traceback": event.get("log_traceback"),
    }
    fields = {
        key: value
        for key, value in event.items()
        if isinstance(value, (str, int, float, bool)) and not key.startswith("log_")
    }
    return json.dumps({**fields, **{k: v for k, v in line.items() if v is not None}}) + "\n"
