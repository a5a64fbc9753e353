"""A service for a class of tests that run commands against it."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.__main__ import group
from tests.cli.process import clean_env
from tests.scenarios.processes import TOKEN, Service, SinkProcess, account, wait_until


class RunningCase(SynchronousTestCase):
    """Each test uses ids of its own: the service is there for all of them."""

    directory: ClassVar[Path]
    sink: ClassVar[SinkProcess]
    service: ClassVar[Service]

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = Path(tempfile.mkdtemp(prefix="mailproxy-cli-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        cls.sink = SinkProcess(cls.directory)
        cls.service = Service(cls.directory, GMP_CLIENT_SYNC_URL=cls.sink.sync_url)
        cls.addClassCleanup(cls.sink.end)
        cls.addClassCleanup(cls.service.end)
        cls.sink.spawn()
        cls.service.start()
        cls.sink.wait()
        cls.service.call("POST", "/account", account(cls.sink.smtp_port, is_default=True))

    def invoke(self, *arguments: str, stdin: str | None = None, **env: str) -> Result:
        """Run a command as the operator of the service."""
        none: dict[str, str | None] = {name: None for name in clean_env() if name[:4] == "GMP_"}
        settings = {"GMP_HOST": "127.0.0.1", "GMP_PORT": str(self.service.port)}
        settings |= {"GMP_API_TOKEN": TOKEN}
        return CliRunner().invoke(group(), arguments, stdin, env=none | settings | env)

    def done(self, *arguments: str, stdin: str | None = None, **env: str) -> str:
        """What a command prints that did what it was asked."""
        result = self.invoke(*arguments, stdin=stdin, **env)
        self.assertEqual((0, ""), (result.exit_code, _but_remarks(result.stderr)), result.output)
        return result.stdout

    def json(self, *arguments: str, **options: Any) -> Any:
        return json.loads(self.done(*arguments, "--json", **options))

    def rows(self, *arguments: str) -> list[list[str]]:
        """The rows of a table, without its heading."""
        return [line.split("\t") for line in self.done(*arguments).splitlines()[1:]]

    def fields(self, *arguments: str) -> dict[str, str]:
        """What is told of one thing."""
        lines = (line.split("\t") for line in self.done(*arguments).splitlines())
        return {line[0]: line[1] for line in lines if len(line) == 2}

    def refused(self, status: int, *arguments: str, stdin: str | None = None, **env: str) -> str:
        """Why a command ended with *status*; without its ``Error:``."""
        result = self.invoke(*arguments, stdin=stdin, **env)
        self.assertEqual(status, result.exit_code, result.output)
        self.assertNotIn("Traceback", result.output)
        return result.stderr.rpartition("Error: ")[2].strip()

    def wait_state(self, id: str, state: str) -> None:
        wait_until(lambda: self.service.states().get(id) == state, what=f"{id} to be {state}")


def _but_remarks(text: str) -> str:
    """The standard error without what is said there for people."""
    known = ("The key is shown", "there are more:")
    return "".join(line for line in text.splitlines(True) if not line.startswith(known))
