"""The command and its list of commands."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import __version__
from mailproxy.__main__ import COMMANDS, group
from tests.cli.process import clean_env


class GroupTests(SynchronousTestCase):
    def test_help(self) -> None:
        """``mailproxy --help`` names every command."""
        result = CliRunner().invoke(group(), ["--help"])

        self.assertEqual(0, result.exit_code)
        text = " ".join(result.output.split())
        for name, (_, line) in COMMANDS.items():
            self.assertIn(f"{name} {line}", text)

    def test_help_is_quick(self) -> None:
        """Help imports neither Twisted nor anything a single command needs."""
        program = (
            "import sys\n"
            "from mailproxy.__main__ import group\n"
            "group().main(['--help'], standalone_mode=False)\n"
            "ours = {name for name in sys.modules if name.startswith('mailproxy')}\n"
            "print(sorted(ours | ({'twisted', 'cryptography', 'msgspec'} & set(sys.modules))))\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env=clean_env(),
        )  # fmt: skip

        self.assertEqual(
            "['mailproxy', 'mailproxy.__main__', 'mailproxy.cli', 'mailproxy.cli.group']",
            done.stdout.splitlines()[-1],
        )

    def test_no_reactor(self) -> None:
        """The help of no command installs a reactor."""
        program = (
            "import sys\n"
            "from mailproxy.__main__ import COMMANDS, group\n"
            "for name in COMMANDS:\n"
            "    group().main([name, '--help'], standalone_mode=False)\n"
            "print('twisted.internet.reactor' in sys.modules)\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env=clean_env(),
        )  # fmt: skip

        self.assertEqual("False", done.stdout.splitlines()[-1])

    def test_version(self) -> None:
        """``mailproxy --version`` names the version."""
        result = CliRunner().invoke(group(), ["--version"])

        self.assertEqual(f"mailproxy, version {__version__}\n", result.output)

    def test_unknown(self) -> None:
        """An unknown command is an error of usage."""
        result = CliRunner().invoke(group(), ["nonsense"])

        self.assertEqual(2, result.exit_code)
        self.assertIn("No such command", result.output)
