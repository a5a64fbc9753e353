"""Accounts that come and go at random: every message arrives, once, whoever carries it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailproxy.errors import AccountFault
from mailproxy.model import Outcome
from mailproxy.states import OnUncertain, Phase
from tests.dispatch.test_failover import DEATHS, LARGE, LOST, FailoverCase, Providers, always

#: What may become of an account: works, has no session, dies under a message, takes none so large.
WAYS_TO_BE = ["works", "connect", "auth", "large", *DEATHS]


@attrs.frozen
class Step:
    """For *seconds*, the accounts are like this; *arrive* messages come in for each of them."""

    being: dict[str, str]
    arrive: dict[str, int]
    seconds: int


NAMES = ("acct", "b", "c")
STEPS = st.lists(
    st.builds(
        Step,
        st.fixed_dictionaries({name: st.sampled_from(WAYS_TO_BE) for name in NAMES}),
        st.fixed_dictionaries({name: st.integers(0, 12) for name in NAMES}),
        st.integers(0, 90),
    ),
    min_size=1,
    max_size=6,
)
#: Routes of the accounts: chains, circles and shares.
ROUTES: list[dict[str, dict[str, Any]]] = [
    {"acct": {"fallback": ["b", "c"]}, "b": {}, "c": {}},
    {"acct": {"fallback": ["b"]}, "b": {"fallback": ["c"]}, "c": {"fallback": ["acct"]}},
    {"acct": {"fallback": ["b"]}, "b": {"fallback": ["acct"]}, "c": {}},
    {
        "acct": {"weights": {"acct": 1, "b": 1}, "fallback": ["c"]},
        "b": {"weights": {"c": 2}},
        "c": {},
    },
    {
        "acct": {"weights": {"acct": 0, "b": 1}},
        "b": {"fallback": ["acct"], "max_sessions": 1},
        "c": {},
    },
]


class RandomTests(FailoverCase):
    def begin(self, routes: dict[str, dict[str, Any]], **fields: Any) -> None:
        """Start anew on an empty store."""
        self.tearDown()
        self.doCleanups()
        self.setUp()
        for name in NAMES:
            self.put(name, **routes[name], **fields)

    def be(self, name: str, what: str) -> None:
        courier: Providers = self.courier
        courier.faults.pop(name, None)
        courier.outcomes.pop(name, None)
        if what in ("connect", "auth"):
            courier.faults[name] = AccountFault(what, "it died")
        elif what == "large":
            courier.outcomes[name] = always(Outcome(Phase.MAIL, LARGE))
        elif what == "lost":
            courier.outcomes[name] = always(LOST)
        elif what != "works":
            courier.outcomes[name] = always(DEATHS[what])

    def run_through(self, steps: list[Step]) -> list[str]:
        """Let it all happen, then let every account work. :return: the ids."""
        ids = []
        for number, step in enumerate(steps):
            for name, what in step.being.items():
                self.be(name, what)
            for name, count in step.arrive.items():
                new = [f"{number}-{name}-{n}" for n in range(count)]
                ids += new
                if new:
                    self.add(*new, account_id=name)
            self.clock.pump([1.0] * step.seconds)
        for name in NAMES:
            self.be(name, "works")
        self.clock.pump([30.0] * 200)
        return ids

    @settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
    @given(STEPS, st.sampled_from(ROUTES))
    def test_one_copy(self, steps: list[Step], routes: dict[str, dict[str, Any]]) -> None:
        """Nothing is lost, and nothing comes twice, wherever it was tried before."""
        self.begin(routes)
        ids = self.run_through(steps)
        states = self.store.states()
        refused = {name for name in ids if states[name] == "failed"}
        took = Counter(name for _, name in self.courier.took)
        self.assertEqual(dict.fromkeys(set(ids) - refused, 1), took)
        if not any("large" in step.being.values() for step in steps):
            self.assertEqual(set(), refused)
        self.assertEqual({"sent"}, set(states.values()) - {"failed"} or {"sent"})

    @settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
    @given(STEPS, st.sampled_from(ROUTES), st.lists(st.sampled_from(NAMES), min_size=1), st.data())
    def test_doubt_binds(
        self,
        steps: list[Step],
        routes: dict[str, dict[str, Any]],
        losing: list[str],
        data: st.DataObject,
    ) -> None:
        """What may have been accepted is tried through no other account, and once more at most."""
        policy = data.draw(st.sampled_from([OnUncertain.RETRY, OnUncertain.HOLD]))
        self.begin(routes, on_uncertain=policy)
        lossy = [
            attrs.evolve(step, being={**step.being, losing[n % len(losing)]: "lost"})
            for n, step in enumerate(steps)
        ]
        for name in self.run_through(lossy):
            lost = [(who, at) for who, what, at in self.courier.lost if what == name]
            self.assertLessEqual(len(lost), 2 if policy is OnUncertain.RETRY else 1)
            for who, at in lost[:1]:
                after = {later for later, what in self.courier.tries[at:] if what == name}
                self.assertLessEqual(after, {who})
