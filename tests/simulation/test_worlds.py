"""
The whole service in thousands of worlds, each from a seed: whatever goes wrong in them, every
promise is kept once the trouble ends.
"""

from __future__ import annotations

from tests.simulation.running import PARTS, SEEDS, Worlds, corpus, every, hashes_elsewhere


class CorpusTests(Worlds):
    def test_what_was_found_once(self) -> None:
        """Seeds that found something are well ever since."""
        self.check(seed for seed, _ in corpus())


class SeedTests(Worlds):
    def part(self, number: int) -> None:
        self.check(every(range(number, SEEDS, PARTS)))

    def test_part_0(self) -> None:
        """Nothing is lost, sent twice without a doubt, or left open."""
        self.part(0)

    def test_part_1(self) -> None:
        """The same of the next seeds."""
        self.part(1)

    def test_part_2(self) -> None:
        """The same of the next seeds."""
        self.part(2)

    def test_part_3(self) -> None:
        """The same of the next seeds."""
        self.part(3)

    def test_part_4(self) -> None:
        """The same of the next seeds."""
        self.part(4)

    def test_part_5(self) -> None:
        """The same of the next seeds."""
        self.part(5)

    def test_part_6(self) -> None:
        """The same of the next seeds."""
        self.part(6)

    def test_part_7(self) -> None:
        """The same of the next seeds."""
        self.part(7)


class SameTests(Worlds):
    seeds = ("3", "20", "41", "127+smtp+limits", "136+smtp+nodes")

    def test_same_seed_same_trace(self) -> None:
        """A seed gives the same trace each time, after whatever other worlds."""
        first = [self.world(seed).hash for seed in self.seeds]
        again = [self.world(seed).hash for seed in reversed(self.seeds)]
        self.assertEqual(first, again[::-1])
        self.assertEqual(len(first), len(set(first)))

    def test_no_matter_how_sets_are_ordered(self) -> None:
        """A seed gives the same trace whatever the order of sets is in the process."""
        here = {seed: self.world(seed).hash for seed in self.seeds}
        self.assertEqual(here, hashes_elsewhere(self.seeds, "1"))
        self.assertEqual(here, hashes_elsewhere(self.seeds, "4711"))

    def test_worlds_see_trouble(self) -> None:
        """In the worlds there are crashes, restarts, second copies with a doubt, lost answers."""
        seeds = [*every(range(24)), *(f"{number}+smtp" for number in range(16))]
        traces = "\n".join("\n".join(self.world(seed).trace) for seed in seeds)
        for sign in ("is killed", "has stopped", " fails\n", " None\n", " 503\n", "[250, 250]",
                     "[None]", "store remove", "store suspend", "store act"):  # fmt: skip
            self.assertTrue(sign in traces, sign)
