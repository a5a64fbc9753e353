"""
What the receiver of a report answered: taken, or why not.

Only an answer that cannot be mistaken for anything else counts as an acknowledgement: a 2xx that
is empty, or whose body is a JSON object that reports no error. A login page, a maintenance page
and ``200 {"error": "..."}`` leave every event unreported.

Pure.
"""

from __future__ import annotations

import json
import math
from email.utils import parsedate_to_datetime

import attrs

from mailproxy.errors import ReportRefused, ReportTooLarge, ReportUnanswered, SinkUnavailable

#: Client errors that another call may change: credentials, a route not there yet, too early.
PASSING = frozenset({401, 403, 404, 408, 429})

#: Characters of a receiver's own words that are kept.
WORDS = 200


@attrs.frozen
class Taken:
    """
    All events of the report were taken.

    :param queued: messages the application still wants to submit; 0 if it did not say.
    :param next_sync_after: no empty report before this Unix time; None for no wish.
    """

    queued: int = 0
    next_sync_after: float | None = None


def refused(status: int, retry_after: float | None = None) -> SinkUnavailable:
    """
    Name what an answer without a 2xx status means.

    :param status: the HTTP status.
    :param retry_after: seconds the receiver asked for.
    :return: the error to raise.
    """
    if status == 413:
        return ReportTooLarge(f"HTTP {status}", retry_after)
    if status == 504:  # the receiver's own proxy stopped waiting; the receiver may not have
        return ReportUnanswered(f"HTTP {status}", retry_after)
    if 300 <= status < 400:
        return SinkUnavailable(f"HTTP {status}: redirects are not followed", retry_after)
    if 400 <= status < 500 and status not in PASSING:
        return ReportRefused(f"HTTP {status}", retry_after)
    return SinkUnavailable(f"HTTP {status}", retry_after)


def read_answer(status: int, body: bytes) -> Taken:
    """
    Judge a whole answer.

    :param status: the HTTP status.
    :param body: the whole body of a 2xx answer; of others it is not looked at.
    :raises ReportTooLarge: 413.
    :raises ReportRefused: another 4xx that repetition will not change.
    :raises ReportUnanswered: 504.
    :raises SinkUnavailable: anything else that is not an acknowledgement.
    """
    if not 200 <= status < 300:
        raise refused(status)
    if not body:
        return Taken()
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise SinkUnavailable(f"HTTP {status}, but the body is not JSON") from None
    if not isinstance(answer, dict):
        raise SinkUnavailable(f"HTTP {status}, but the body is not a JSON object")
    error = answer.get("error")
    if isinstance(error, str):
        raise SinkUnavailable(f"HTTP {status} with an error: {plain(error)}")
    if isinstance(error, bool) or not isinstance(error, int | float | list | None):
        raise SinkUnavailable(f"HTTP {status} with an error")
    if answer.get("ok") is False:
        raise SinkUnavailable(f"HTTP {status} with ok: false")
    return Taken(_count(answer.get("queued")), _instant(answer.get("next_sync_after")))


def retry_after(value: str | None, now: float) -> float | None:
    """
    Read a ``Retry-After`` header.

    :param value: seconds, or an HTTP date; anything else is as good as no header.
    :param now: Unix seconds.
    :return: seconds to wait, at least 0.0; None if the receiver did not say.

    Source: RFC 9110, section 10.2.3.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def plain(text: str) -> str:
    """*text* on one line of at most :data:`WORDS` characters, fit for a log."""
    cut = text if len(text) <= WORDS else text[: WORDS - 3] + "..."
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in cut)


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return max(0, value)
    return 0


def _instant(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        when = float(value)
    except OverflowError:
        return None
    return when if math.isfinite(when) else None
