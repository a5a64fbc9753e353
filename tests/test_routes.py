"""Which accounts may carry a message, in which order."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.routes import Routes, read_routes, routes_of
from tests.delivery.peer import account

IDS = st.text(min_size=1, max_size=8)
WEIGHTS = st.dictionaries(IDS, st.integers(0, 1000), max_size=6)


class ReadTests(SynchronousTestCase):
    def read(self, **options: Any) -> Routes:
        return routes_of(account(id="main", options=json.dumps(options)))

    def test_nothing_said(self) -> None:
        """An account that names no other is alone."""
        for options in ("", "{}", '{"limit_per_hour":5}', '{"fallback":[],"weights":{}}'):
            routes = routes_of(account(id="main", options=options))
            self.assertTrue(routes.alone, options)
            self.assertEqual(("main",), routes.order("m1"))
            self.assertEqual((), routes.others)

    def test_fallback(self) -> None:
        """The account itself comes first, then the others as they are listed, each once."""
        routes = self.read(fallback=["b", "main", "a", "b"])
        self.assertEqual(("main", "b", "a"), routes.order("m1"))
        self.assertEqual(("b", "a"), routes.others)

    def test_fallback_of_an_earlier_version(self) -> None:
        """One fallback that was stored as a text is that one, whatever characters it has."""
        self.assertEqual(("main", "b, c"), self.read(fallback="b, c").order("m1"))

    def test_own_weight(self) -> None:
        """Where weights do not name the account itself, it counts 1."""
        self.assertEqual({"b": 1, "main": 1}, self.read(weights={"b": 1}).weights)
        self.assertEqual({"b": 1, "main": 0}, self.read(weights={"b": 1, "main": 0}).weights)

    def test_without_a_share(self) -> None:
        """An account of weight 0 comes after all that share, and before the fallback."""
        routes = self.read(weights={"main": 0, "a": 1}, fallback=["c"])
        self.assertEqual(("a", "main", "c"), routes.order("m1"))
        self.assertEqual(("a", "c"), routes.others)


class OrderTests(SynchronousTestCase):
    def test_proportion(self) -> None:
        """Of 20 000 ids each account comes first as often as its weight says, within 1.5 %."""
        routes = Routes("a", {"a": 3, "b": 1, "c": 6, "d": 0})
        first = Counter(routes.order(f"msg-{n}")[0] for n in range(20_000))
        for name, share in (("a", 0.3), ("b", 0.1), ("c", 0.6)):
            self.assertApproximates(share, first[name] / 20_000, 0.015)
        self.assertEqual(0, first["d"])

    def test_proportion_of_those_left(self) -> None:
        """What the first cannot take, the others share in their own proportion."""
        routes = Routes("a", {"a": 5, "b": 3, "c": 1})
        orders = [routes.order(f"msg-{n}") for n in range(20_000)]
        second = Counter(order[1] for order in orders if order[0] == "a")
        self.assertApproximates(0.75, second["b"] / second.total(), 0.015)

    @given(IDS, WEIGHTS, st.lists(IDS, max_size=5), IDS)
    def test_always_the_same(
        self, own: str, weights: dict[str, int], fallback: list[str], message_id: str
    ) -> None:
        """An id has one order, with every account in it once, and the own one among them."""
        routes = read_routes(own, {"weights": weights, "fallback": fallback})
        order = routes.order(message_id)
        again = read_routes(own, {"weights": dict(reversed(weights.items())), "fallback": fallback})
        self.assertEqual(order, again.order(message_id))
        self.assertEqual(len(order), len(set(order)))
        named = {name for name, weight in weights.items() if weight > 0}
        self.assertEqual({own, *named, *fallback}, set(order))
        self.assertEqual({own, *named, *fallback, *weights}, {own, *routes.others})

    @given(IDS, st.dictionaries(IDS, st.integers(1, 1000), min_size=2, max_size=6))
    def test_one_less(self, message_id: str, weights: dict[str, int]) -> None:
        """Taking an account away changes nothing in the order of the others."""
        names = list(weights)
        before = Routes(names[0], weights).order(message_id)
        less = {name: weight for name, weight in weights.items() if name != names[-1]}
        after = Routes(names[0], less).order(message_id)
        self.assertEqual([name for name in before if name != names[-1]], list(after))
