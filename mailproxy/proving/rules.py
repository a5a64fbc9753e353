"""
When a rule of a scenario applies, and which of its acts is taken.

Whoever plays a scenario describes each moment as a :class:`Moment` and asks :class:`Rules` for the
first rule that fits. A rule may count (the first attempt, every tenth, three times) and may throw
dice; the dice of a connection or request follow from the scenario's seed and its number alone, so
the same connections in the same order meet the same server again, however their bytes interleave.

Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

import attrs

ActT = TypeVar("ActT")

#: Subjects whose attempts are remembered; beyond this the oldest are forgotten.
MEMORY = 100_000

_ENDLESS = float("inf")


@attrs.frozen
class Span:
    """Whole numbers from *low* to *high*, both included; no *high*: without end."""

    low: int
    high: int | None

    def __contains__(self, number: int) -> bool:
        return number >= self.low and (self.high is None or number <= self.high)


def parse_span(text: str) -> Span:
    """
    Read ``3``, ``2-5`` or ``3-``.

    :raises ValueError: *text* is none of these, or counts from less than 1.
    """
    first, dash, last = text.partition("-")
    low = int(first)
    high = int(last) if last else None if dash else low
    if low < 1 or (high is not None and high < low):
        raise ValueError(text)
    return Span(low, high)


@attrs.frozen
class Moment:
    """
    What is going on when a rule is looked for.

    :param at: the stage.
    :param subject: what attempts are counted of, such as a recipient.
    :param words: texts to compare with patterns; a rule fits if any of a name's texts does.
    :param numbers: counts to compare with spans.
    :param draw: gives numbers from 0 up to, but not including, 1.
    """

    at: str
    subject: tuple[str, ...]
    words: Mapping[str, Sequence[str]]
    numbers: Mapping[str, int]
    draw: Callable[[], float]


@attrs.frozen
class When:
    """
    What must be so. An empty condition always is.

    :param at: stages; empty: any.
    :param words: patterns by name, as :mod:`fnmatch` has them, in lower case.
    :param numbers: spans by name; ``attempt`` is counted by the rules themselves.
    :param since: seconds since the first moment at least ...
    :param until: ... and less than.
    :param within: seconds since the subject's first attempt at most.
    :param every: of the moments that fit so far, the 1st of these is skipped until the *every*-th.
    :param times: that the rule applies at most; 0: for ever.
    :param chance: how often, 0 to 1, it applies.
    """

    at: frozenset[str] = frozenset()
    words: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    numbers: Mapping[str, Span] = attrs.field(factory=dict)
    since: float = 0.0
    until: float = _ENDLESS
    within: float = _ENDLESS
    every: int = 1
    times: int = 0
    chance: float = 1.0


@attrs.frozen
class Rule(Generic[ActT]):
    """
    :param acts: each with its weight; one is drawn where there are several.
    """

    when: When
    acts: tuple[tuple[float, ActT], ...]


@attrs.define
class _Tally:
    fitted: int = 0
    used: int = 0


class Rules(Generic[ActT]):
    """
    The rules of one run, with what they remember.

    :param rules: the first that fits counts.
    :param seconds: the monotonic clock.
    :param memory: subjects whose attempts are remembered.
    """

    def __init__(
        self,
        rules: Sequence[Rule[ActT]],
        seconds: Callable[[], float],
        memory: int = MEMORY,
    ) -> None:
        self._rules = [(rule, _Tally()) for rule in rules]
        self._seconds = seconds
        self._memory = memory
        self._began: float | None = None
        self._attempts: OrderedDict[tuple[str, ...], tuple[int, float]] = OrderedDict()

    def find(self, moment: Moment) -> ActT | None:
        """The act of the first rule that fits *moment*; None: the server behaves."""
        now = self._seconds()
        if self._began is None:
            self._began = now
        attempt, first = self._attempt(moment, now)
        numbers = {**moment.numbers, "attempt": attempt}
        for rule, tally in self._rules:
            if not _fits(rule.when, moment, numbers, now - self._began, now - first):
                continue
            if _counts(rule.when, tally, moment.draw):
                return _chosen(rule.acts, moment.draw)
        return None

    def _attempt(self, moment: Moment, now: float) -> tuple[int, float]:
        key = (moment.at, *moment.subject)
        count, first = self._attempts.get(key, (0, now))
        self._attempts[key] = count + 1, first
        if len(self._attempts) > self._memory:
            self._attempts.popitem(last=False)
        return count + 1, first


def _fits(
    when: When, moment: Moment, numbers: Mapping[str, int], elapsed: float, age: float
) -> bool:
    if when.at and moment.at not in when.at:
        return False
    if not when.since <= elapsed < when.until or age > when.within:
        return False
    for name, span in when.numbers.items():
        if name not in numbers or numbers[name] not in span:
            return False
    return all(
        any(
            fnmatchcase(text.lower(), pattern)
            for text in moment.words.get(name, ())
            for pattern in patterns
        )
        for name, patterns in when.words.items()
    )


def _counts(when: When, tally: _Tally, draw: Callable[[], float]) -> bool:
    tally.fitted += 1
    if tally.fitted % when.every or (when.times and tally.used >= when.times):
        return False
    if when.chance < 1.0 and draw() >= when.chance:
        return False
    tally.used += 1
    return True


def _chosen(acts: Sequence[tuple[float, ActT]], draw: Callable[[], float]) -> ActT:
    if len(acts) == 1:
        return acts[0][1]
    point = draw() * sum(weight for weight, _ in acts)
    for weight, act in acts:
        point -= weight
        if point < 0:
            return act
    return acts[-1][1]
