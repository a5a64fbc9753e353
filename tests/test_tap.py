"""The command line of the service, as twist and twistd see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.application.service import IServiceMaker, Service
from twisted.plugin import IPlugin, getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import VARIABLES, load
from mailproxy.tap import CannotStart, Options, Starter, makeService
from tests.scratch import scratch


class OptionsTests(SynchronousTestCase):
    def options(self, *argv: str, **environ: str) -> Options:
        """Options parsed in an environment that has only *environ*."""
        for name, value in environ.items():
            self.patch_environ(name, value)
        options = Options()
        options.parseOptions(argv)
        return options

    def patch_environ(self, name: str, value: str) -> None:
        old = os.environ.get(name)
        os.environ[name] = value

        def restore() -> None:
            if old is None:
                del os.environ[name]
            else:
                os.environ[name] = old

        self.addCleanup(restore)

    def test_every_variable_has_an_option(self) -> None:
        """Each variable that is no secret has an option of its name; a secret has one for a file,
        and none that would show it in the list of processes."""
        names = set(Options().defaults)
        for variable in VARIABLES:
            flag = variable.field.replace("_", "-")
            self.assertEqual(not variable.secret, flag in names, flag)
            self.assertEqual(variable.secret, f"{flag}-file" in names, flag)
        self.assertEqual(len(VARIABLES) + 1, len(names))

    def test_command_line_wins(self) -> None:
        """An option beats the environment; what was not given is left to it."""
        cwd = scratch(self)
        options = self.options("--port=1", "--log-level", "debug", GMP_PORT="2", GMP_MAX_BATCH="7")
        settings = load(options.environ, options.given(), cwd)
        self.assertEqual((1, "DEBUG", 7), (settings.port, settings.log_level, settings.max_batch))

    def test_the_environment_is_read_when_options_are_made(self) -> None:
        """The environment counts as it is when the options are made, not when we are imported."""
        self.assertEqual("5", self.options(GMP_PORT="5").environ["GMP_PORT"])

    def test_help_tells_what_is_in_force(self) -> None:
        """The help shows each variable with its present value, and no secret or broken value."""
        text = " ".join(
            str(
                self.options(
                    GMP_PORT="12345",
                    GMP_API_TOKEN="hunter2",
                    GMP_CLIENT_SYNC_URL="http://u:hunter2@app/",
                )
            ).split()
        )
        self.assertIn("GMP_PORT=12345", text)
        self.assertIn("[GMP_API_TOKEN_FILE]", text)
        self.assertIn("GMP_CLIENT_SYNC_URL=not valid", text)
        self.assertNotIn("hunter2", text)

    def test_unknown_options(self) -> None:
        """An option that does not exist is an error."""
        with self.assertRaises(usage.UsageError):
            self.options("--frobnicate=1")

    def test_a_wrong_value_ends_the_start(self) -> None:
        """A wrong value ends the program with one line that names the variable."""
        options = self.options("--port=http")
        with self.assertRaises(SystemExit) as caught:
            makeService(options)
        self.assertEqual(
            "mailproxy: GMP_PORT (--port): 'http' is not a whole number", caught.exception.code
        )


class StarterTests(SynchronousTestCase):
    def test_a_failed_start(self) -> None:
        """A service that raises SystemExit at its start is told of as an Exception, in one line."""

        class Failing(Service):
            def startService(self) -> None:
                raise SystemExit("mailproxy: no")

        starter = Starter()
        Failing().setServiceParent(starter)
        with self.assertRaises(CannotStart) as caught:
            starter.startService()
        self.assertEqual("mailproxy: no", str(caught.exception))

    def test_starts_and_stops(self) -> None:
        """What is in it is started and stopped with it."""
        starter = Starter()
        service = Service()
        service.setServiceParent(starter)
        starter.startService()
        self.assertTrue(service.running)
        self.successResultOf(starter.stopService())
        self.assertFalse(service.running)


class ImportTests(SynchronousTestCase):
    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parent.parent
        return subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60
        )

    def test_no_reactor_is_installed(self) -> None:
        """Importing the plugin and the module behind it leaves the choice of a reactor open."""
        done = self.python(
            "import sys\n"
            "import twisted.plugins.mailproxy_plugin, mailproxy.tap, mailproxy.config_secrets\n"
            "mailproxy.tap.Options().parseOptions(['--http-listen=tcp:8000'])\n"
            "mailproxy.tap.load({'GMP_HTTP_LISTEN': 'haproxy:tcp:8000'})\n"
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr))

    def test_the_plugin_is_found(self) -> None:
        """Twisted finds one service maker called mailproxy, with these options."""
        makers = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "mailproxy"]
        self.assertEqual(1, len(makers))
        self.assertTrue(IPlugin.providedBy(makers[0]))
        self.assertIs(Options, makers[0].options)
