"""``mailproxy serve``, ``token`` and ``status``, as a person calls them."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing

from click.testing import CliRunner, Result
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailproxy.__main__ import group
from mailproxy.cli.serve import twistd_arguments
from mailproxy.config import VARIABLES
from tests.cli.process import Running, clean_env
from tests.scenarios.processes import free_port
from tests.scratch import scratch


def invoke(*arguments: str, **env: str | None) -> Result:
    """Run a command in this process, with none of our variables but *env*."""
    none: dict[str, str | None] = {name: None for name in os.environ if name.startswith("GMP_")}
    return CliRunner().invoke(group(), arguments, env={**none, **env})


class ArgumentTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """Without options it is ``twistd -n mailproxy`` without a process id file."""
        self.assertEqual(["--nodaemon", "--pidfile=", "mailproxy"], twistd_arguments(None, {}))

    def test_options(self) -> None:
        """The reactor goes to Twisted, settings to the service."""
        self.assertEqual(
            [
                *("--nodaemon", "--pidfile=", "--reactor=asyncio"),
                *("mailproxy", "--db-path=-x y"),
            ],
            twistd_arguments("asyncio", {"db_path": "-x y", "port": None}),
        )

    def test_every_setting_is_an_option(self) -> None:
        """Every setting can be given to ``serve``; of a secret, the file that holds it."""
        output = invoke("serve", "--help").output

        for variable in VARIABLES:
            self.assertIn(f"--{variable.option.replace('_', '-')} ", output)
            if variable.secret:
                self.assertNotIn(f"--{variable.field.replace('_', '-')} ", output)


class RefusalTests(SynchronousTestCase):
    """What is wrong is said in one line, before anything is started."""

    def refused(self, result: Result) -> str:
        self.assertEqual(2, result.exit_code, result.output)
        (line,) = result.stderr.splitlines()
        return line

    def test_bad_variable(self) -> None:
        """A wrong variable is named."""
        for command in ("serve", "token", "status"):
            self.assertIn("GMP_PORT", self.refused(invoke(command, GMP_PORT="http")))

    def test_bad_option(self) -> None:
        """A wrong option is named, with its variable."""
        line = self.refused(invoke("serve", "--retry-delays", "soon"))

        self.assertIn("GMP_RETRY_DELAYS (--retry-delays)", line)

    def test_bad_secret(self) -> None:
        """A wrong secret is not repeated."""
        line = self.refused(invoke("serve", GMP_CLIENT_SYNC_PASSWORD="geheim-1"))

        self.assertIn("GMP_CLIENT_SYNC_USER", line)
        self.assertNotIn("geheim", line)

    def test_bad_ini_file(self) -> None:
        """An ini file that is not there is named."""
        self.assertIn("GMP_CONFIG", self.refused(invoke("serve", "--config", "/nowhere.ini")))

    def test_bad_reactor(self) -> None:
        """An unknown reactor is refused, and the known ones named."""
        line = self.refused(invoke("serve", "--reactor", "nuclear"))

        self.assertIn("asyncio", line)


class TokenTests(SynchronousTestCase):
    TOKEN = "0123456789abcdef0123456789abcdef"

    def test_configured(self) -> None:
        """A configured token is shown, and nothing but it."""
        result = invoke("token", GMP_API_TOKEN=self.TOKEN)

        self.assertEqual((0, f"{self.TOKEN}\n"), (result.exit_code, result.output))

    def test_generated(self) -> None:
        """Else the one in the data directory is."""
        folder = scratch(self)
        file = folder / "api-token"
        file.write_text(f"{self.TOKEN}\n")
        file.chmod(0o600)

        for arguments in (["--data-dir", str(folder)], ["--db-path", str(folder / "q.db")]):
            self.assertEqual(f"{self.TOKEN}\n", invoke("token", *arguments).stdout)

    def test_damaged(self) -> None:
        """A file that holds no token is named."""
        folder = scratch(self)
        (folder / "api-token").write_text("two words\n")

        result = invoke("token", "--data-dir", str(folder))

        self.assertEqual((2, ""), (result.exit_code, result.stdout))
        self.assertIn("GMP_API_TOKEN", result.stderr)

    def test_none_yet(self) -> None:
        """Before the first start there is none, and none is made."""
        folder = scratch(self) / "data"

        result = invoke("token", "--data-dir", str(folder))

        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertIn(str(folder / "api-token"), result.stderr)
        self.assertFalse(folder.exists())

    def test_none_at_all(self) -> None:
        """Where none is asked for, that is said."""
        result = invoke("token", GMP_ALLOW_NO_TOKEN="yes", GMP_HOST="127.0.0.1")

        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertIn("GMP_ALLOW_NO_TOKEN", result.stderr)


class ServiceTests(TestCase):
    """The real service in a process of its own."""

    timeout = 60

    def setUp(self) -> None:
        self.port = free_port()
        self.folder = scratch(self)
        self.env = {
            "GMP_HOST": "127.0.0.1",
            "GMP_PORT": str(self.port),
            "GMP_DB_PATH": str(self.folder / "q.db"),
        }

    async def run_command(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end: exit status and all output."""
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "mailproxy", *arguments],
            env=clean_env(self.env),
            path=str(self.folder),
        )
        return status, (out + err).decode()

    async def test_lives(self) -> None:
        """
        ``serve`` serves until SIGTERM; ``token`` shows the token it made and ``status`` that it is
        active; afterwards ``status`` says that nobody is there.
        """
        service = Running(self, ["serve"], self.env, cwd=str(self.folder))
        await service.says("serves on")

        status, token = await self.run_command("token")
        self.assertEqual((0, 64), (status, len(token.strip())))
        self.assertNotIn(token.strip(), service.out)
        status, said = await self.run_command("status")
        self.assertEqual(0, status, said)
        self.assertIn(f"http://127.0.0.1:{self.port}: active, version ", said)
        status, said = await self.run_command("status", "--json")
        self.assertEqual(True, json.loads(said)["active"])
        status, said = await self.run_command("status", "--token", "wrong")
        self.assertEqual((1, True), (status, "401 Invalid or missing API token" in said), said)

        await service.terminate()
        self.assertIn("Server Shut Down", service.out)
        self.assertEqual([], [each.name for each in self.folder.glob("*.pid")])
        status, said = await self.run_command("status")
        self.assertEqual((1, 1), (status, len(said.splitlines())), said)

    async def test_reactor_and_json(self) -> None:
        """``--reactor=asyncio`` takes that reactor; ``--log-format=json`` writes JSON lines."""
        service = Running(
            self,
            ["serve", "--reactor=asyncio", "--log-format", "json"],
            self.env,
            cwd=str(self.folder),
        )
        await service.says("serves on")
        await service.terminate()

        messages = [json.loads(line)["message"] for line in service.out.splitlines()]
        self.assertTrue(any("AsyncioSelectorReactor" in message for message in messages), messages)

    async def refused(self) -> str:
        """The one line with which a start by ``serve`` is refused."""
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "mailproxy", "serve", "--port", str(free_port())],
            env=clean_env(self.env),
            path=str(self.folder),
        )
        self.assertEqual((1, 1), (status, len(err.splitlines())), out + err)
        return str(err.decode())

    async def test_second_process(self) -> None:
        """F19: a second service on the same store is refused in one line; the first goes on."""
        service = Running(self, ["serve"], self.env, cwd=str(self.folder))
        await service.says("serves on")

        said = await self.refused()

        self.assertIn(f"another process has the store: {self.folder / 'q.db.lock'}", said)
        status, said = await self.run_command("status")
        self.assertEqual(0, status, said)
        await service.terminate()

    async def test_newer_schema(self) -> None:
        """F18: a store of a newer program is refused in one line, and not touched."""
        service = Running(self, ["serve"], self.env, cwd=str(self.folder))
        await service.says("serves on")
        await service.terminate()
        path = self.folder / "q.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num='9999'")
        before = path.read_bytes()

        said = await self.refused()

        self.assertIn("schema '9999'", said)
        self.assertEqual(before, path.read_bytes())

    async def test_bad_configuration(self) -> None:
        """A wrong setting ends the start with one line that names it."""
        self.env["GMP_DRAIN_SECONDS"] = "-1"

        status, said = await self.run_command("serve")

        self.assertEqual((2, 1), (status, len(said.splitlines())), said)
        self.assertIn("GMP_DRAIN_SECONDS", said)
