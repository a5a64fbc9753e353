"""
The torture run: sound, the service keeps every promise; broken on purpose, it is found out.

The seed is printed; ``MAILPROXY_SEED`` replays it.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.interfaces import CRASHPOINTS
from mailproxy.proving.torture import Result, Torture
from mailproxy.proving.torture_database import Embedded, Given
from mailproxy.proving.torture_plan import (
    Answered,
    Await,
    End,
    Passed,
    Plan,
    Post,
    Step,
    mail,
    make_plan,
    revised,
)
from mailproxy.proving.torture_settings import Settings
from mailproxy.proving.torture_tenants import TENANTS
from tests.postgres import server
from tests.scenarios.mutant import ROOT
from tests.scratch import scratch

#: Seconds of service between two kills, the fewest and the most.
EVERY = (0.1, 0.3)

#: Lives of the smoke run: each crash point ends one, every other has another end.
LIVES = 17

#: Seconds after which the smoke run has had its lives, or has not, on a machine however busy.
SECONDS = 400.0

#: Seconds for which a node of several counts as alive.
LEASE = 3.0

#: Seconds that a life may take until it comes to its crash point.
PATIENCE = 20.0


class TortureTests(SynchronousTestCase):
    def test_smoke(self) -> None:
        """F10: after many kills, all accepted mail arrived, repeats are admitted, all reported."""
        seed = int(os.environ.get("MAILPROXY_SEED") or random.SystemRandom().randrange(2**32))
        print(f"torture: MAILPROXY_SEED={seed}")
        plan = make_plan(seed, EVERY, rate=30.0, lives=LIVES, patience=PATIENCE)
        result = Torture(Settings(directory=scratch(self), seconds=SECONDS), plan).run()
        found, kills = result.findings, result.kills
        figures = f"seed={seed} {kills} {found}"
        print(figures)
        self.assertEqual((), found.breaches, figures)
        self.assertEqual(LIVES, kills.total, figures)
        self.assertGreaterEqual(kills.on_work, 15, figures)
        self.assertEqual(set(), set(CRASHPOINTS) - set(kills.at), figures)
        self.assertGreaterEqual(found.uncertain, 3, figures)
        self.assertGreaterEqual(found.again, 1, figures)
        self.assertEqual(set(), set(found.ends) - {"sent", "failed"}, figures)
        self.assertGreater(found.accepted["rest"], 0, figures)
        self.assertGreater(found.accepted["smtp"], 0, figures)
        self.assertEqual(TENANTS, found.tenants, figures)
        self.assertGreater(found.shared, 0, figures)


class NodesTests(SynchronousTestCase):
    """Two nodes on one PostgreSQL server."""

    def test_nodes(self) -> None:
        """F10: killed one and the other, and their server restarted, they lose nothing."""
        seed = int(os.environ.get("MAILPROXY_SEED") or random.SystemRandom().randrange(2**32))
        print(f"torture: MAILPROXY_SEED={seed}")
        plan = make_plan(seed, (0.3, 1.0), rate=20.0, lives=2, patience=2.0, nodes=2)
        settings = Settings(
            directory=scratch(self),
            seconds=60.0,
            database=Embedded(scratch(self) / "postgres", {"fsync": "off"}),
            nodes=2,
            lease=LEASE,
            restart_every=(2.0, 4.0),
            restarts=2,
        )
        result = Torture(settings, plan).run()
        figures = f"seed={seed} {result}"
        print(figures)
        self.assertEqual((), result.findings.breaches, figures)
        self.assertEqual(4, result.kills.total, figures)
        self.assertGreaterEqual(sum(result.restarts.values()), 1, figures)
        self.assertGreater(result.findings.calls, 0, figures)

    def test_a_forgotten_report_lease(self) -> None:
        """Nodes that call a tenant whoever else does are found out."""
        steps = [Post((mail(f"m{n}"),)) for n in range(20)]
        settings = Settings(
            directory=scratch(self),
            seconds=0.0,
            database=Given(server().url(server().database())),
            nodes=2,
            lease=LEASE,
            **mutated("forget-report-lease"),
        )
        found = Torture(settings, Plan(1, (steps,), (), ((),))).run().findings
        self.assertEqual({"C1"}, {each.promise for each in found.breaches}, found)


def mutated(name: str) -> dict[str, Any]:
    """Settings under which the service has that mutation."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {
        "service": (sys.executable, "-m", "tests.scenarios.mutant", name, "serve"),
        "environment": {"PYTHONPATH": path},
    }


class MutationTests(SynchronousTestCase):
    """The proof fails for a service with one promise broken on purpose."""

    def tried(self, mutation: str, steps: Sequence[Step], *ends: End) -> Result:
        """What becomes of *steps* with that mutation, where lives end with *ends*."""
        settings = Settings(directory=scratch(self), seconds=60.0, **mutated(mutation))
        return Torture(settings, Plan(1, (steps,), ends, patience=PATIENCE)).run()

    def found(self, mutation: str, steps: Sequence[Step], *ends: End) -> set[tuple[str, str]]:
        """The promises that are seen to be broken, and of which messages."""
        result = self.tried(mutation, steps, *ends)
        self.assertEqual(len(ends), result.kills.total)
        print(mutation, result.findings.breaches)
        return {(each.promise, each.id) for each in result.findings.breaches}

    def test_an_answer_before_the_commit(self) -> None:
        """Killed right after an answer, it has lost what it accepted."""
        steps = [Post((mail("m1"),))]
        self.assertEqual({("I1", "m1")}, self.found("answer-before-commit", steps, Answered(1)))

    def test_a_body_before_the_intent(self) -> None:
        """Killed after the reply, it sends again, and nothing admits the second copy."""
        steps = [Post((mail("m1"),))]
        self.assertEqual(
            {("I2", "m1")}, self.found("intent-after-body", steps, Passed("reply-read"))
        )

    def test_an_acknowledgement_before_the_report(self) -> None:
        """Killed after the acknowledgement, it never reports."""
        steps = [Post((mail("m1"),))]
        found = self.found("acknowledge-before-post", steps, Passed("ack-commit"))
        self.assertEqual({("I1", "m1")}, found)

    def test_a_new_event_id_for_a_repeat(self) -> None:
        """Killed after the report, it tells the same end as another event."""
        steps = [Post((mail("m1"),))]
        found = self.found("new-event-id", steps, Passed("report-post", 2))
        self.assertEqual({("I2", "m1")}, found)

    def test_reports_for_somebody_else(self) -> None:
        """Where one tenant is told what is another's, both are found: told, and never told."""
        steps = tuple([Post((mail("m1", tenant=each),))] for each in TENANTS)
        settings = Settings(directory=scratch(self), seconds=0.0, **mutated("one-receiver"))
        found = Torture(settings, Plan(1, steps, tenants=TENANTS)).run().findings
        breaches = {(each.promise, each.id) for each in found.breaches}
        self.assertLessEqual({("I5", "m1"), ("I1", "other/m1")}, breaches, found)
        self.assertEqual(1, found.shared)

    def test_a_forgotten_lease(self) -> None:
        """What was replaced while it waited for a session is sent as it was before."""
        slow, *others = (mail(f"m{n}", "narrow", ["slow" if n == 0 else ""]) for n in range(5))
        changed = others[-2:]
        steps: list[Step] = [
            Post((slow, *others)),
            Await(slow.id),
            Post(tuple(revised(each) for each in changed)),
        ]
        found = self.found("forget-token", steps)
        self.assertLessEqual({("I3", each.id) for each in changed}, found)
