"""What is made of the figures of a run: the table, the plot, the ratios, the verdict."""

from __future__ import annotations

import importlib
import inspect
from xml.etree import ElementTree

import attrs
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import table
from benchmarks.__main__ import PIECES, WHOLE, run, verdict
from benchmarks.figures import Figure, Piece, Results, from_json, read, to_json
from benchmarks.machine import conditions
from benchmarks.numbers import shown
from benchmarks.piece import measure
from benchmarks.targets import RATIOS, TARGETS, missed
from tests.test_architecture import ROOT


def piece(name: str, **figures: float) -> Piece:
    """A piece that found *figures*; ``_`` in a name stands for ``-``."""
    found = (Figure(key.replace("_", "-"), value, "msg/s") for key, value in figures.items())
    return Piece(name, "2026-01-02 03:04:05 UTC", 12.0, 0.25, tuple(found))


RELAY = piece("relay", relay_2k_16=4000.0, relay_2k_1=500.0, cpu=0.25)
SMTP = piece("submission", smtp_relayed=2500.0, postfix=500.0, smtp_postfix=1.5)
BROKEN = Piece("add", "2026-01-02 03:05:00 UTC", 90.0, 1.5, failed="took longer than 90 s")
RESULTS = Results({"cores": "2", "Python": "3.11.9"}, (RELAY, SMTP, BROKEN))


class ResultsTests(SynchronousTestCase):
    def test_kept_as_they_were(self) -> None:
        """What is written is read back as it was."""
        self.assertEqual(RESULTS, from_json(to_json(RESULTS)))

    def test_what_is_none_is_refused(self) -> None:
        """A file that holds no run is an error that says so."""
        for text in ("{}", '{"conditions": {}, "pieces": [{"name": "x"}]}', "no"):
            self.assertRaises(ValueError, from_json, text)

    def test_a_piece_takes_its_place(self) -> None:
        """A piece that was measured anew stands where the old one stood; a new one at the end."""
        again = piece("relay", relay_2k_16=9000.0)
        new = RESULTS.with_piece(again).with_piece(piece("reports", reports=1.0))
        self.assertEqual(
            ["relay", "submission", "add", "reports"], [each.name for each in new.pieces]
        )
        self.assertEqual(9000.0, new.value("relay-2k-16"))
        self.assertIsNone(new.value("relay-2k-1"))


class TargetTests(SynchronousTestCase):
    def test_shares(self) -> None:
        """A share of 1 is the aim, whether more or less is better."""
        for row in TARGETS:
            self.assertEqual(1.0, row.share(row.aim))
            self.assertLess(row.share(row.floor), 1.0)
            self.assertTrue(row.holds(row.floor))
            worse = row.floor * (1.1 if row.less else 0.9)
            self.assertFalse(row.holds(worse), row.what)

    def test_what_costs_nothing(self) -> None:
        """Where less is better, nothing at all is the aim and more."""
        (row,) = (row for row in TARGETS if row.figure == "memory-100k")
        self.assertEqual(float("inf"), row.share(-1.0))
        self.assertTrue(row.holds(-1.0))

    def test_missed(self) -> None:
        """A figure below its floor is named; what was not measured is not judged."""
        (line,) = missed(RESULTS)
        self.assertIn("against Postfix: 1.5 x, the floor is 2", line)


class TableTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """Every target has its row: floor, aim, what was reached and what that is of the aim."""
        text = table.markdown(RESULTS, "latest")
        for row in TARGETS:
            self.assertIn(f"| {row.what} | ", text)
        self.assertIn("| 3 000 msg/s | 8 000 msg/s | 4 000 msg/s | 0.50 |", text)
        self.assertIn("| 2 x | 5 x | 1.5 x (below) | 0.30 |", text)
        self.assertIn("| 1 s | 0.3 s | 0.25 s | 1.20 |", text)
        self.assertIn("not measured", text)

    def test_the_rest(self) -> None:
        """The machine, every figure, and what failed are there."""
        text = table.markdown(RESULTS, "latest")
        self.assertIn("* Python: 3.11.9\n", text)
        self.assertIn("| `relay-2k-1` | 500 msg/s |", text)
        self.assertIn("**Failed**: took longer than 90 s", text)

    def test_numbers(self) -> None:
        """Three digits count, and thousands are set apart."""
        shows = {0.1234: "0.123", 12.345: "12.3", 999.6: "1 000", 4567.0: "4 570", 23456: "23 500"}
        self.assertEqual(list(shows.values()), [shown(value) for value in shows])

    def test_ratios(self) -> None:
        """The README gets the ratios whose figures there are, between its marks, and no others."""
        text = table.with_ratios(f"a\n{table.BEGIN}\nold\n{table.END}\nb\n", RESULTS)
        self.assertTrue(text.startswith(f"a\n{table.BEGIN}\n\n| what | ratio |\n"))
        self.assertTrue(text.endswith(f"\n\n{table.END}\nb\n"))
        self.assertNotIn("old", text)
        first, second = list(RATIOS)[:2]
        self.assertIn(f"| {first} | 1.5 |", text)
        self.assertIn(f"| {second} | 8 |", text)
        self.assertEqual(2 + 2, table.ratios(RESULTS).count("\n") + 1)

    def test_a_machine_that_was_busy(self) -> None:
        """Where something else was at work, table and README say so."""
        busy = RESULTS.with_piece(attrs.evolve(RELAY, load=7.6))
        for results, said in ((RESULTS, 0), (busy, 1)):
            for text in (
                table.markdown(results, "latest"),
                table.with_ratios(f"{table.BEGIN}\n{table.END}", results),
            ):
                self.assertEqual(said, text.count("load up to 8"))

    def test_marks(self) -> None:
        """A text without the marks is refused."""
        self.assertRaises(ValueError, table.with_ratios, "no marks", RESULTS)


class PlotTests(SynchronousTestCase):
    def test_the_same_bytes(self) -> None:
        """The same run gives the same bytes, which are a picture that names every row it has."""
        from benchmarks.plot import svg  # which takes a second to import

        text = svg(RESULTS)
        self.assertEqual(text, svg(RESULTS))
        words = " ".join(ElementTree.fromstring(text).itertext())
        for row in TARGETS:
            self.assertEqual(RESULTS.value(row.figure) is not None, row.what in words, row.what)
        self.assertIn("Postfix", words)


class RunTests(SynchronousTestCase):
    def test_a_failed_piece(self) -> None:
        """A piece that failed is written down, the others are measured, and the verdict says it."""
        kept: list[int] = []

        def one(name: str, limit: float, quick: bool) -> Piece:
            self.assertEqual(PIECES[name], limit)
            return {"relay": RELAY, "add": BROKEN, "submission": SMTP}[name]

        found = run(
            ["add", "relay", "submission"],
            Results({}, ()),
            False,
            lambda results: kept.append(len(results.pieces)),
            one,
        )
        self.assertEqual([1, 2, 3], kept)
        self.assertEqual((BROKEN, RELAY, SMTP), found.pieces)
        wrong = verdict(found, ["add", "relay", "submission"])
        self.assertEqual("add: took longer than 90 s", wrong[0])
        self.assertEqual(2, len(wrong))
        self.assertEqual([], verdict(found, ["relay"]))

    def test_pieces(self) -> None:
        """Every piece is a module with figures to give."""
        for name in PIECES:
            found = importlib.import_module(f"benchmarks.{name}").figures
            self.assertEqual(["quick"], list(inspect.signature(found).parameters))

    def test_the_whole_run_has_an_end(self) -> None:
        """No piece gets more time than is left of the run; what is left over is not begun."""
        spent = [0.0]
        limits: dict[str, float] = {}

        def one(name: str, limit: float, quick: bool) -> Piece:
            limits[name] = limit
            spent[0] += WHOLE * 0.4
            return piece(name, x=1.0)

        found = run(
            ["depth", "relay", "large", "raw"],
            Results({}, ()),
            True,
            lambda results: None,
            one,
            lambda: spent[0],
        )
        self.assertEqual(["depth", "relay", "large"], list(limits))
        self.assertEqual(PIECES["depth"], limits["depth"])
        self.assertAlmostEqual(min(PIECES["large"], WHOLE * 0.2), limits["large"])
        (left,) = found.failed
        self.assertEqual("raw", left.name)
        self.assertLess(WHOLE, 25 * 60)

    def test_what_a_process_says(self) -> None:
        """A piece that does not work, or takes too long, is a failed piece that says why."""
        nothing = measure("numbers", 60.0, True)
        self.assertIn("has no attribute 'figures'", nothing.failed)
        late = measure("raw", 0.0, True)
        self.assertEqual("took longer than 0 s", late.failed)
        self.assertEqual((), nothing.figures + late.figures)

    def test_the_machine(self) -> None:
        """The conditions say what figures depend on."""
        found = conditions()
        self.assertLessEqual({"date", "cores", "Python", "SQLite", "additions"}, set(found))
        self.assertTrue(all(found[name] for name in ("cores", "additions", "sync of 4 kB")))


class LatestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.latest = read(table.LATEST)

    def test_pages(self) -> None:
        """The table of the latest run and the ratios of the README are made from what is kept."""
        self.assertTrue(self.latest.pieces)
        page = table.LATEST.with_suffix(".md").read_text(encoding="utf-8")
        self.assertEqual(table.markdown(self.latest, "latest"), page)
        readme = table.README.read_text(encoding="utf-8")
        self.assertEqual(table.with_ratios(readme, self.latest), readme)
        self.assertTrue(table.LATEST.with_suffix(".svg").exists())

    def test_every_piece_is_described(self) -> None:
        """The page on benchmarks tells what each piece measures."""
        text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
        for name in PIECES:
            self.assertIn(f"| `{name}` | ", text)

    def test_a_stale_page_is_found(self) -> None:
        """A figure that changed changes the page."""
        first, *others = self.latest.pieces
        figure = attrs.evolve(first.figures[0], value=first.figures[0].value * 1.5)
        changed = attrs.evolve(first, figures=(figure, *first.figures[1:]))
        other = Results(self.latest.conditions, (changed, *others))
        page = table.LATEST.with_suffix(".md").read_text(encoding="utf-8")
        self.assertNotEqual(table.markdown(other, "latest"), page)
