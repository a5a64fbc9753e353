"""The plan of a torture run: from its seed alone, with everything in it that has to be tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.interfaces import CRASHPOINTS
from mailproxy.proving.answers import WORDS, word_of
from mailproxy.proving.torture_plan import (
    ACCOUNTS,
    PASSINGS,
    Answered,
    End,
    Killed,
    Letter,
    Mail,
    Passed,
    Plan,
    Post,
    Step,
    TakeBack,
    mail,
    make_plan,
    revised,
)
from mailproxy.proving.torture_tenants import (
    TENANTS,
    named,
    of_address,
    of_path,
    path,
    sender,
)


def plan(seed: int = 1, lives: int | None = None) -> Plan:
    return make_plan(seed, (0.1, 0.3), 30.0, lives)


def head(steps: Iterable[Step], count: int = 1000) -> list[Step]:
    return list(itertools.islice(steps, count))


def mails(steps: Iterable[Step]) -> list[Mail]:
    found: list[Mail] = []
    for step in steps:
        found += step.mails if isinstance(step, Post) else ()
        found += [step.mail] if isinstance(step, Letter) else ()
    return found


class PlanTests(SynchronousTestCase):
    def test_nodes(self) -> None:
        """Each node has lives of its own, and mail is posted for each, with ids of its own."""
        made = make_plan(5, (0.1, 0.3), 30.0, nodes=3)
        self.assertEqual((12, 2), (len(made.steps), len(made.others)))
        ids = [
            {(tenant, each.id) for each in mails(head(steps, 300))}
            for steps, tenant in zip(made.steps, made.tenants, strict=True)
        ]
        self.assertEqual(sum(map(len, ids)), len(set().union(*ids)))
        lives = [list(itertools.islice(each, 20)) for each in (made.ends, *made.others)]
        self.assertNotEqual(lives[0], lives[1])
        self.assertNotEqual(lives[1], lives[2])
        alone = make_plan(5, (0.1, 0.3), 30.0)
        self.assertEqual(lives[0], list(itertools.islice(alone.ends, 20)))

    def ends(self, seed: int, count: int = 64) -> list[End]:
        return list(itertools.islice(plan(seed).ends, count))

    def test_from_its_seed(self) -> None:
        """The same seed gives the same plan, another another."""
        for submitter in (0, 1):
            first, second, other = (head(plan(seed).steps[submitter]) for seed in (1, 1, 2))
            self.assertEqual(first, second)
            if not submitter:
                self.assertNotEqual(first, other)
        self.assertEqual(self.ends(1), self.ends(1))
        self.assertNotEqual(self.ends(1), self.ends(2))

    def test_every_crash_point(self) -> None:
        """Of 16 ends in a row from the first, each crash point is one, within its passings."""
        points = [each for each in self.ends(3, 16) if isinstance(each, Passed)]
        self.assertEqual(sorted(CRASHPOINTS), sorted(each.point for each in points))
        self.assertEqual(set(CRASHPOINTS), set(PASSINGS))
        for each in points:
            self.assertLessEqual(1, each.count)
            self.assertLessEqual(each.count, PASSINGS[each.point])

    def test_other_ends(self) -> None:
        """Between them lives are ended at random, young, and after an answer."""
        others = [each for each in self.ends(4, 200) if not isinstance(each, Passed)]
        self.assertTrue(any(isinstance(each, Answered) for each in others))
        killed = [each for each in others if isinstance(each, Killed)]
        self.assertTrue(any(each.young for each in killed))
        for each in killed:
            if not each.young:
                self.assertTrue(0.1 <= each.seconds <= 0.3, each)

    def test_so_many_lives(self) -> None:
        """With a number of lives there are no more ends than that."""
        self.assertEqual(7, len(list(plan(1, 7).ends)))

    def test_what_is_submitted(self) -> None:
        """Batches and single messages, bad elements, lost answers, repeats, changes, removals."""
        posts = head(plan().steps[0])
        self.assertEqual(set(map(type, posts)), {Post, TakeBack})
        made = [each for each in posts if isinstance(each, Post)]
        self.assertLessEqual({1, 2, 4, 8}, {len(each.mails) for each in made})
        self.assertTrue(any(each.bad for each in made))
        self.assertTrue(any(each.hang_up for each in made))
        self.assertGreater(len(made), len(set(made)))
        found = mails(made)
        self.assertEqual(set(ACCOUNTS), {each.account for each in found})
        self.assertEqual({1, 2}, {each.version for each in found})
        letters = mails(head(plan().steps[1]))
        self.assertGreater(len(letters), len(set(letters)))

    def test_ids(self) -> None:
        """An id has one content for each version, and no id comes from two submitters."""
        rest, smtp = (mails(head(each)) for each in plan().steps[:2])
        self.assertEqual(set(), {each.id for each in rest} & {each.id for each in smtp})
        for found in (rest, smtp):
            contents = set(found)
            self.assertEqual(len(contents), len({(each.id, each.version) for each in contents}))

    def test_tenants(self) -> None:
        """The tenants submit the same ids, each with contents and recipients of its own."""
        made = plan()
        self.assertEqual(("default", "default", "other", "other"), made.tenants)
        found = [mails(head(each)) for each in made.steps]
        for one, other in ((0, 2), (1, 3)):
            shared = {each.id for each in found[one]} & {each.id for each in found[other]}
            self.assertGreater(len(shared), 100)
            to = [{to for each in found[n] for to in each.recipients} for n in (one, other)]
            self.assertEqual(set(), to[0] & to[1])
        for mine, tenant in zip(found, made.tenants, strict=True):
            self.assertEqual({tenant}, {each.tenant for each in mine})
            self.assertEqual({tenant}, {of_address(to) for each in mine for to in each.recipients})

    def test_names(self) -> None:
        """Senders, paths and names in the ledgers lead back to the tenant."""
        for tenant in (*TENANTS, "third"):
            self.assertEqual(tenant, of_address(sender(tenant)))
            self.assertEqual(tenant, of_path(path(tenant)))
        self.assertEqual(("m", "other/m"), tuple(named(each, "m") for each in TENANTS))

    def test_words(self) -> None:
        """Recipients name the message and its version, and only words the sink knows, or none."""
        other = {"to", "second"}
        for each in mails(head(plan().steps[0])):
            for to in each.recipients:
                self.assertIn(f"+{each.id}.v{each.version}@", to)
                word = to.partition("+")[0]
                self.assertTrue(word in other or (word_of(to) == word and word in WORDS), to)
        self.assertEqual(("to+x.v2@example.test",), revised(mail("x")).recipients)
