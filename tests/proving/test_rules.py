"""When a rule applies: what it asks for, what it counts, its dice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.rules import Moment, Rule, Rules, Span, When, parse_span


def moment(
    at: str = "rcpt",
    *subject: str,
    words: Mapping[str, Sequence[str]] | None = None,
    numbers: Mapping[str, int] | None = None,
    dice: Random | None = None,
) -> Moment:
    return Moment(at, subject, words or {}, numbers or {}, (dice or Random(0)).random)


class RulesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def rules(self, *given: tuple[When, Any], memory: int = 100) -> Rules[Any]:
        made = [Rule(when, ((1.0, act),)) for when, act in given]
        return Rules(made, self.clock.seconds, memory)

    def test_first_that_fits(self) -> None:
        """The first rule that fits counts; where none does, nothing is said."""
        rules = self.rules((When(frozenset({"mail"})), "a"), (When(frozenset({"rcpt"})), "b"),
                           (When(frozenset({"rcpt", "data"})), "c"))  # fmt: skip
        found = [rules.find(moment(at)) for at in ("mail", "rcpt", "data", "end")]
        self.assertEqual(["a", "b", "c", None], found)

    def test_patterns(self) -> None:
        """A pattern is compared without regard to case, with any of the texts; none: no fit."""
        rules = self.rules((When(words={"recipient": ("grey*@y.org", "x@*")}), "hit"))
        for texts, expected in (
            (["GREY1@y.org"], "hit"),
            (["b@y.org", "x@z"], "hit"),
            (["b@y.org"], None),
            ([], None),
        ):
            self.assertEqual(expected, rules.find(moment(words={"recipient": texts})), texts)
        self.assertIsNone(rules.find(moment()))

    def test_spans(self) -> None:
        """A count is compared with a span; what is not counted does not fit."""
        rules = self.rules((When(numbers={"connection": Span(2, 3)}), "hit"))
        found = [rules.find(moment(numbers={"connection": n})) for n in (1, 2, 3, 4)]
        self.assertEqual([None, "hit", "hit", None], found)
        self.assertIsNone(rules.find(moment()))

    def test_attempts(self) -> None:
        """Attempts are counted for each stage and subject by itself."""
        rules = self.rules((When(numbers={"attempt": Span(1, 1)}), "first"))
        found = [
            rules.find(moment(at, subject))
            for at, subject in (("rcpt", "a"), ("rcpt", "b"), ("data", "a"), ("rcpt", "a"))
        ]
        self.assertEqual(["first", "first", "first", None], found)

    def test_attempts_are_forgotten(self) -> None:
        """Beyond what is remembered, the oldest subject counts as new."""
        rules = self.rules((When(numbers={"attempt": Span(1, 1)}), "first"), memory=2)
        found = [rules.find(moment("rcpt", each)) for each in "abca"]
        self.assertEqual(["first"] * 4, found)

    def test_time(self) -> None:
        """since and until count from the first moment, within from the subject's first."""
        rules = self.rules(
            (When(since=1.0, until=2.0), "storm"), (When(within=0.5), "grey")
        )  # fmt: skip
        found = []
        for subject, wait in (("a", 0.4), ("a", 0.2), ("a", 0.5), ("b", 1.0), ("b", 0.1)):
            found.append(rules.find(moment("rcpt", subject)))
            self.clock.advance(wait)
        found.append(rules.find(moment("rcpt", "c")))
        self.assertEqual(["grey", "grey", None, "storm", None, "grey"], found)

    def test_every_and_times(self) -> None:
        """Every third moment that fits, and twice at most."""
        rules = self.rules((When(every=3, times=2), "hit"))
        found = [rules.find(moment()) for _ in range(12)]
        self.assertEqual([3, 6], [n for n, act in enumerate(found, 1) if act])

    def test_chance(self) -> None:
        """About as often as it says; the same seed gives the same."""
        first, again = (
            [
                rules.find(moment(dice=dice))
                for rules in [self.rules((When(chance=0.25), "hit"))]
                for dice in [Random(5)]
                for _ in range(1000)
            ]
            for _ in range(2)
        )
        self.assertEqual(first, again)
        self.assertTrue(200 < first.count("hit") < 300, first.count("hit"))

    def test_weights(self) -> None:
        """Of several acts one is drawn by weight; one that weighs nothing never is."""
        rules = Rules(
            [Rule(When(), ((3.0, "a"), (1.0, "b"), (0.0, "c")))], self.clock.seconds
        )  # fmt: skip
        dice = Random(7)
        found = [rules.find(moment(dice=dice)) for _ in range(1000)]
        self.assertEqual({"a", "b"}, set(found))
        self.assertTrue(700 < found.count("a") < 800, found.count("a"))


class SpanTests(SynchronousTestCase):
    def test_read(self) -> None:
        """A number, a range, or an open range."""
        self.assertEqual(
            [Span(3, 3), Span(2, 5), Span(3, None)], [parse_span(x) for x in ("3", "2-5", "3-")]
        )

    def test_wrong(self) -> None:
        """Nothing else, nothing below 1, and no range that is empty."""
        for text in ("", "-", "-3", "0", "5-2", "a", "1-b", "1.5", "3--"):
            self.assertRaises(ValueError, parse_span, text)

    @given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 120))
    @settings(max_examples=60)
    def test_within(self, low: int, more: int, number: int) -> None:
        """A number is in a span if it lies between its ends, both included."""
        self.assertEqual(low <= number <= low + more, number in parse_span(f"{low}-{low + more}"))
