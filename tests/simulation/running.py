"""Runs many worlds, and says of each that failed how to see it again."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.once import KEPT
from tests.simulation.store import SimulatedStore
from tests.simulation.world import Result, forget, simulate

CORPUS = Path(__file__).with_name("corpus.txt")

#: Seeds of one run; the variable asks for more before a release, or for fewer.
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))

#: Tests that the seeds are spread over, so that several processes can share them.
PARTS = 8

#: Lines of a trace that are shown of a world that failed.
SHOWN = 60


#: What worlds have besides, by turns: half of them nothing, for each ability takes its time.
_TURNS = ("", "+smtp", "", "+limits", "", "+nodes", "", "+smtp")
KINDS = (*_TURNS, *_TURNS[:-1], "", *_TURNS, *_TURNS[:-1], "+smtp+limits+nodes")


def every(numbers: Iterable[int]) -> Iterator[str]:
    """The seeds of these *numbers*, each a world of one kind."""
    for number in numbers:
        yield f"{number}{KINDS[number // PARTS % len(KINDS)]}"


def corpus() -> Iterator[tuple[str, str]]:
    """Seeds that found something, and what that was."""
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            seed, why = line.split(maxsplit=1)
            yield seed, why


class Worlds(SynchronousTestCase):
    """Base of the tests that run worlds."""

    def setUp(self) -> None:
        for each in KEPT:
            self.patch(*each)
        # What the tests before this one left is not looked at again after every world.
        forget()
        gc.freeze()
        self.addCleanup(self._clear)
        self.addCleanup(gc.unfreeze)

    def world(self, seed: str, make_store: type[SimulatedStore] | None = None) -> Result:
        """What the world of *seed* came to; what it logged is its own affair."""
        result = simulate(seed, make_store)
        self.flushLoggedErrors()
        return result

    def _clear(self) -> None:
        """Leave nothing to the next test."""
        forget()
        while self.flushLoggedErrors():
            forget()

    def check(self, seeds: Iterable[str]) -> None:
        """Every world keeps every promise."""
        for seed in seeds:
            result = self.world(seed)
            if result.problems:
                again = self.world(seed)
                same = "the same" if again.hash == result.hash else f"another: {again.hash}"
                last = "\n    ".join(result.trace[-SHOWN:])
                self.fail(
                    f"{result}\nrun again, its trace was {same}; to see it again:\n"
                    f"    python -m tests.simulation {seed}\nthe end of its trace:\n    {last}"
                )

    def found(
        self, broken: type[SimulatedStore], numbers: Iterable[int], kind: str = ""
    ) -> list[str]:
        """The problems of the first world, of these *numbers*, in which *broken* is caught."""
        for number in numbers:
            problems = self.world(f"{number}{kind}", broken).problems
            if problems:
                return list(problems)
        return []


def hashes_elsewhere(seeds: Iterable[str], hash_seed: str) -> dict[str, str]:
    """The traces of *seeds* in another process, with another order of sets and dicts of its own."""
    command = [sys.executable, "-m", "tests.simulation", "--hashes", *seeds]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        command, env=environment, cwd=root, capture_output=True, timeout=120, check=True
    )
    return dict(json.loads(done.stdout))
