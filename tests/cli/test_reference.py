"""The reference of the command line."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.__main__ import COMMANDS
from mailproxy.cli.reference import PLACE, main, reference
from tests.scratch import scratch


class ReferenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.docs = scratch(self)

    def run_main(self, *arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*arguments, str(self.docs)])
        return result.exit_code, result.output

    def test_complete(self) -> None:
        """Every command is in it, with its options and what they do."""
        page = reference()

        for name in COMMANDS:
            self.assertIn(f"## mailproxy {name}\n", page)
        self.assertIn("| `--drop-rate", page)
        self.assertIn("| `--port", page)
        self.assertTrue(page.replace("\n", "").isprintable())

    def test_set_by_hand(self) -> None:
        """What is set by hand in a help text stays as it is set."""
        self.assertRegex(reference(), r"```text\n  close@ .*\n(  .*\n)+```\n")

    def test_written_and_checked(self) -> None:
        """It is written where it belongs; checked, it is up to date until it is changed."""
        self.assertEqual(1, self.run_main("--check")[0])
        self.assertEqual((0, ""), self.run_main())
        self.assertEqual((0, ""), self.run_main("--check"))
        path = self.docs / PLACE
        page = path.read_text()
        path.write_text(page + "x")

        status, said = self.run_main("--check")

        self.assertEqual((1, page + "x"), (status, path.read_text()))
        self.assertIn("not up to date", said)

    def test_in_the_repository(self) -> None:
        """The page in the repository is up to date."""
        docs = Path(__file__).parents[2] / "docs"

        self.assertEqual(reference(), (docs / PLACE).read_text(encoding="utf-8"))
