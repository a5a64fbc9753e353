"""
The report receiver: plays the application that is told what became of its mail.

It accepts a report on any path, checks who sends it when told to, prints each item on a line of
its own and keeps the newest.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from mailproxy.crypto import same
from mailproxy.errors import MailProxyError
from mailproxy.proving.ledger import JsonLines

#: Event ids that are remembered; beyond this the oldest are forgotten.
MAX_EVENTS = 1_000_000


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """
    One report that was taken.

    :param n: its number, from 1.
    :param time: Unix seconds.
    :param items: of its ``delivery_report``, as they came.
    :param beside: calls to the same path that had not been answered yet when it came.
    """

    n: int
    time: float
    path: str
    items: list[dict[str, Any]]
    beside: int = 0


class _Body(msgspec.Struct):
    delivery_report: list[dict[str, Any]]


class NotAReport(MailProxyError):
    """The body of the call is not a report; the text says why."""


_decode = msgspec.json.Decoder(_Body).decode


@attrs.frozen
class Credentials:
    """
    What a caller must show. With nothing set, everybody may call.

    :param user: with *password*: Basic authentication is taken.
    :param token: Bearer authentication is taken.
    """

    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    token: str | None = attrs.field(default=None, repr=False)

    @property
    def wanted(self) -> bool:
        return self.user is not None or self.token is not None

    def admit(self, authorization: str) -> bool:
        """Whether the value of the ``Authorization`` header is one of those set."""
        if not self.wanted:
            return True
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.token is not None:
            return same(value.strip(), self.token)
        if scheme.lower() == "basic" and self.user is not None:
            try:
                given = base64.b64decode(value.strip(), validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return False
            return same(given, f"{self.user}:{self.password or ''}")
        return False


class Receiver:
    """
    Takes reports.

    :param now: the wall clock, Unix seconds.
    :param say: is given each line for a person to read.
    :param credentials: what callers must show.
    :param keep: items kept in memory at most.
    :param lines: where every call is written down, if anywhere.
    """

    def __init__(
        self,
        now: Callable[[], float],
        say: Callable[[str], None] = lambda line: None,
        credentials: Credentials = Credentials(),
        keep: int = 100_000,
        lines: JsonLines | None = None,
    ) -> None:
        self.credentials = credentials
        self.calls = self.items = self.empty = self.unauthorised = self.malformed = 0
        self.verdicts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self._events: OrderedDict[str, int] = OrderedDict()
        self._open: Counter[str] = Counter()
        self._now = now
        self._say = say
        self._keep = keep
        self._lines = lines
        self._kept: deque[Call] = deque()
        self._kept_items = 0

    def began(self, path: str) -> None:
        """A call has come, and is not answered yet."""
        self._open[path] += 1

    def ended(self, path: str) -> None:
        """It is answered, or its connection is gone."""
        self._open[path] -= 1
        if not self._open[path]:
            del self._open[path]

    def take(self, path: str, body: bytes) -> dict[str, Any]:
        """
        Take one call and return the answer to it.

        :raises NotAReport: it is not one; nothing is kept.
        :raises OSError: it could not be written down; nothing is kept.
        """
        try:
            items = _decode(body).delivery_report
        except msgspec.MsgspecError as error:
            self.malformed += 1
            raise NotAReport(str(error)) from None
        beside = max(0, self._open[path] - 1)
        call = Call(n=self.calls + 1, time=self._now(), path=path, items=items, beside=beside)
        if self._lines is not None:
            self._lines.append(call)
        self.calls += 1
        self.items += len(items)
        if not items:
            self.empty += 1
            self._say(f"report: nothing new ({printable(path)})")
        for item in items:
            self._count(item)
            verdict, line = describe(item)
            self.verdicts[verdict] += 1
            self._say(f"report: {line}")
        self._remember(call)
        return {"ok": True, "queued": 0}

    def _count(self, item: dict[str, Any]) -> None:
        event = item.get("event_id")
        if isinstance(event, str):
            self._events[event] = self._events.get(event, 0) + 1
            if len(self._events) > MAX_EVENTS:
                self._events.popitem(last=False)

    def repeats(self) -> dict[str, int]:
        """The events that were told of more than once, with how often."""
        return {event: count for event, count in self._events.items() if count > 1}

    def _remember(self, call: Call) -> None:
        self._kept.append(call)
        self._kept_items += len(call.items) + 1
        while self._kept_items > self._keep and len(self._kept) > 1:
            self._kept_items -= len(self._kept.popleft().items) + 1

    def counts(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "items": self.items,
            "empty": self.empty,
            "unauthorised": self.unauthorised,
            "malformed": self.malformed,
            "verdicts": dict(self.verdicts),
            "events": len(self._events),
            "answers": dict(self.answered),
        }

    def kept(self, mail_id: str = "") -> list[Call]:
        """The kept calls, oldest first; with *mail_id* only those with it, and only its items."""
        if not mail_id:
            return list(self._kept)
        found = (
            msgspec.structs.replace(
                call, items=[item for item in call.items if item.get("id") == mail_id]
            )
            for call in self._kept
        )
        return [call for call in found if call.items]

    def forget(self) -> int:
        """Forget the kept calls; the counts go on. Returns how many."""
        count = len(self._kept)
        self._kept.clear()
        self._kept_items = 0
        return count


def describe(item: dict[str, Any]) -> tuple[str, str]:
    """What an item says: ``sent``, ``failed``, ``uncertain``, ``deferred`` or ``?``; and a line."""
    name = printable(str(item.get("id")))
    account = f" by {printable(str(item['account_id']))}" if item.get("account_id") else ""
    reason = item.get("error") or item.get("deferred_reason") or ""
    because = f": {printable(str(reason))}" if reason else ""
    if item.get("sent_ts") is not None:
        return "sent", f"{name} sent at {_clock(item['sent_ts'])}{account}"
    if item.get("error_ts") is not None:
        return "failed", f"{name} failed at {_clock(item['error_ts'])}{account}{because}"
    if item.get("uncertain"):
        return "uncertain", f"{name} is uncertain{account}{because}"
    if item.get("deferred_ts") is not None:
        return "deferred", f"{name} deferred until {_clock(item['deferred_ts'])}{account}{because}"
    return "?", f"{name} says neither sent, failed nor deferred{account}"


def printable(text: str) -> str:
    """*text* with everything that could move a terminal's cursor shown as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _clock(when: object) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(float(str(when)), datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return printable(str(when))
    return moment.strftime("%H:%M:%S UTC")
