"""
How many messages may be handed over in a minute, an hour or a day: limits and their windows.

A window slides: in no stretch of its length, wherever that begins, are there more messages than
the limit. What was handed over is kept as instants with a count each. A limit of at most
:data:`PARTS` keeps every message's own instant and is exact. Above that, messages within the same
``1/PARTS`` of the window share the instant of the last of them: that errs by at most that much, and
only towards waiting longer.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

#: The lengths of the windows in seconds, and what they are called.
UNITS = {60: "minute", 3600: "hour", 86_400: "day"}

#: Into how many parts a window is divided at most: 0.25 s of a minute, 15 s of an hour, 6 min of a
#: day.
PARTS = 240

#: Seconds by which an instant may lie ahead: nodes differ by less, so beyond that the clock was set
#: back, and what is said to come later has just been handed over.
AHEAD = 60.0

#: What ``limit_behavior`` says when messages at a limit are to fail.
REJECT = "reject"

_FIELDS = {60: "limit_per_minute", 3600: "limit_per_hour", 86_400: "limit_per_day"}


class TenantLimits(Protocol):
    """As :class:`mailproxy.tenancy.RateLimits` has them."""

    @property
    def hourly(self) -> int | None: ...  # pragma: no cover - a type

    @property
    def daily(self) -> int | None: ...  # pragma: no cover - a type


def of_account(options: Mapping[str, Any]) -> dict[int, int]:
    """The most messages by window length, of an account's stored *options*."""
    return {each: options[name] for each, name in _FIELDS.items() if options.get(name)}


def rejects(options: Mapping[str, Any]) -> bool:
    """Whether the account's messages fail at a limit, instead of waiting."""
    return bool(options.get("limit_behavior") == REJECT)


def of_tenant(limits: TenantLimits) -> dict[int, int]:
    """The same of a tenant."""
    found = {3600: limits.hourly, 86_400: limits.daily}
    return {each: most for each, most in found.items() if most}


def exceeded(seconds: int, *, of_tenant: bool) -> str:
    """``rate limit exceeded (per minute)``, or ``(per hour of the tenant)``."""
    whose = " of the tenant" if of_tenant else ""
    return f"rate limit exceeded (per {UNITS[seconds]}{whose})"


@attrs.frozen
class Use:
    """
    How far one limit is used.

    :param account_id: "" for a limit of the tenant itself.
    :param until: when there is room again; None while there is.
    """

    tenant_id: str
    account_id: str
    seconds: int
    most: int
    used: int
    until: float | None = None

    @property
    def reason(self) -> str:
        """What mail waits for, or fails for."""
        return exceeded(self.seconds, of_tenant=not self.account_id)


def waiting(uses: Sequence[Use]) -> Use | None:
    """Of the limits a message has to keep, the one it waits for the longest; None: for none."""
    full = [use for use in uses if use.until is not None]
    return max(full, key=lambda use: use.until or 0.0, default=None)


@attrs.frozen
class Window:
    """
    What was handed over, as far as it counts.

    :param most: messages in any stretch of *seconds*.
    :param entries: (instant, messages) pairs, the oldest first.
    """

    seconds: int
    most: int
    entries: tuple[tuple[float, int], ...] = ()

    @property
    def latest(self) -> float:
        """When something was handed over last; 0 if nothing is known."""
        return self.entries[-1][0] if self.entries else 0.0

    @property
    def used(self) -> int:
        return sum(count for _, count in self.entries)

    @property
    def room(self) -> int:
        return max(0, self.most - self.used)

    @property
    def opens_at(self) -> float | None:
        """The instant from which on there is room for one more; None: there is now."""
        over = self.used - self.most + 1
        for at, count in self.entries:
            if over <= 0:
                break
            over -= count
            if over <= 0:
                return at + self.seconds
        return None

    def at(self, now: float) -> Window:
        """The same without what does not count any more at *now*."""
        if self.latest > now + AHEAD:
            return attrs.evolve(self, entries=_not_ahead(self.entries, now)).at(now)
        kept = tuple(entry for entry in self.entries if entry[0] + self.seconds > now)
        return self if len(kept) == len(self.entries) else attrs.evolve(self, entries=kept)

    def take(self, count: int, now: float) -> Window:
        """
        The same after *count* messages were handed over at *now*.

        :param now: not before :attr:`latest`.
        """
        if count < 1:
            return self
        entries, new = self.entries, (now, count)
        if entries and self._together(entries[-1][0], now):
            entries, new = entries[:-1], (now, entries[-1][1] + count)
        return attrs.evolve(self, entries=(*entries, new))

    def _together(self, one: float, other: float) -> bool:
        """Whether messages of these instants share one."""
        if self.most <= PARTS:
            return one == other
        return one * PARTS // self.seconds == other * PARTS // self.seconds


def _not_ahead(entries: Sequence[tuple[float, int]], now: float) -> tuple[tuple[float, int], ...]:
    """What lies after *now*, where a clock was set back, becomes *now*."""
    past = tuple(entry for entry in entries if entry[0] <= now)
    return (*past, (now, sum(count for at, count in entries if at > now)))
