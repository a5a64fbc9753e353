"""
When a message that could not be delivered is tried again.

Pure: the caller brings the time and the randomness in and stores the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

#: Seconds to wait after the 1st, 2nd, ... failed attempt; the last one repeats. Shorter than the
#: half hour of RFC 5321, section 4.5.4.1: the next hop is the account's own server.
DEFAULT_DELAYS = (60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0)

#: The share of a delay by which it is spread, so that messages deferred together part.
JITTER = 0.1

#: The longest pause between two tries to reach a parked account, in seconds.
LONGEST_PROBE = 300.0

#: The longest wait a server's "try again in ..." is believed, in seconds.
LONGEST_HINT = 4 * 3600.0

_HINT = re.compile(
    r"(?:try(?:ing)? again|retry|wait|come back)\b[^0-9]{0,20}(\d{1,6})\s*(s|m|h)", re.IGNORECASE
)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@attrs.frozen
class RetryAt:
    """Try again, no sooner than *when* (Unix seconds)."""

    when: float


@attrs.frozen
class GiveUp:
    """The age limit ends before another attempt would be made."""


def after_deferral(
    attempts: int,
    now: float,
    expires_at: float,
    delays: Sequence[float] = DEFAULT_DELAYS,
    hint: float | None = None,
    jitter: float = 0.0,
) -> RetryAt | GiveUp:
    """
    Decide when a message that was put off is tried again.

    :param attempts: attempts made so far, this one included; at least 1.
    :param now: when it was put off, in Unix seconds.
    :param expires_at: when the message is too old, in Unix seconds.
    :param delays: seconds to wait after each attempt; the last one repeats.
    :param hint: seconds the server asked us to wait, if it did.
    :param jitter: a number from -1 to 1, which spreads the delay by up to :data:`JITTER`.
    :raises ValueError: if *attempts* is less than 1 or there are no delays.

    Source: RFC 5321, section 4.5.4.1 (a client keeps trying until a limit of its own).
    """
    if attempts < 1:
        raise ValueError(f"attempts starts at 1, not {attempts}")
    if not delays:
        raise ValueError("there is no delay to wait")
    delay = delays[min(attempts, len(delays)) - 1] * (1.0 + JITTER * jitter)
    if hint is not None:
        delay = min(hint, LONGEST_HINT)
    when = now + delay
    return GiveUp() if when >= expires_at else RetryAt(when)


def probe_delay(failures: int, first: float, jitter: float = 0.0) -> float:
    """
    Seconds until an account that cannot be reached is tried again.

    :param failures: failed tries in a row, at least 1.
    :param first: seconds after the first failure; doubled each time up to :data:`LONGEST_PROBE`.
    :param jitter: a number from -1 to 1, which spreads the pause by up to :data:`JITTER`.
    """
    pause = min(first * 2.0 ** (min(failures, 20) - 1), LONGEST_PROBE)
    return pause * (1.0 + JITTER * jitter)


def hint_in(text: str) -> float | None:
    """Seconds of "try again in N seconds/minutes/hours" in a reply, or None."""
    found = _HINT.search(text)
    if found is None:
        return None
    return float(found.group(1)) * _UNITS[found.group(2).lower()]
