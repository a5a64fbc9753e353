"""``mailproxy healthcheck``: where it asks, and how little it needs to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.cli.healthcheck import Where, endpoints, reached
from mailproxy.config import load
from tests.cli.process import clean_env
from tests.cli.test_serve import invoke
from tests.scenarios.processes import free_port
from tests.scratch import scratch


class WhereTests(SynchronousTestCase):
    def test_the_same_as_the_service(self) -> None:
        """Without any module of the settings it finds what the settings say."""
        cwd = scratch(self)
        for env in (
            {},
            {"GMP_PORT": "8025"},
            {"GMP_HOST": " 127.0.0.1 ", "GMP_PORT": " 8025 "},
            {"GMP_HOST": "::", "GMP_PORT": ""},
            {"GMP_HTTP_LISTEN": "unix:/run/x tcp:1:interface=127.0.0.1", "GMP_PORT": "9"},
        ):
            found = [reached(each) for each in endpoints(env, cwd)]
            self.assertEqual([reached(each) for each in load(env, cwd=cwd).listen], found)
            self.assertNotIn(None, found)

    def test_follows_the_port(self) -> None:
        """GMP_PORT is the port that is asked, on the loopback address if any will do."""
        (endpoint,) = endpoints({"GMP_PORT": "8025"}, scratch(self))
        self.assertEqual(Where(("127.0.0.1", 8025)), reached(endpoint))

    def test_kinds(self) -> None:
        """Of every kind of endpoint it is known whether and how it is reached."""
        for text, where in (
            ("tcp:80", Where(("127.0.0.1", 80))),
            ("tcp:port=80:interface=10.0.0.1", Where(("10.0.0.1", 80))),
            ("tcp:80:interface=0.0.0.0:backlog=5", Where(("127.0.0.1", 80))),
            (r"tcp6:80:interface=\:\:", Where(("::1", 80))),
            ("tcp6:80", Where(("::1", 80))),
            (r"unix:/run/a\:b:mode=660", Where("/run/a:b")),
            ("unix:address=/run/x", Where("/run/x")),
            ("ssl:443:privateKey=/k", Where(("127.0.0.1", 443), tls=True)),
            ("haproxy:tcp:80", Where(("127.0.0.1", 80), proxied=True)),
            ("systemd:domain=INET:index=0", None),
            ("tcp:http", None),
            ("unix:", None),
        ):
            self.assertEqual(where, reached(text), text)


class CommandTests(SynchronousTestCase):
    def test_nobody_there(self) -> None:
        """Where nobody listens it fails with status 1 and one line that says where."""
        port = free_port()
        result = invoke("healthcheck", GMP_HTTP_LISTEN=f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual(1, result.exit_code)
        self.assertIn(f"tcp:{port}", result.output)
        self.assertEqual(1, len(result.output.splitlines()), result.output)

    def test_nothing_to_ask(self) -> None:
        """Only a socket that another program opened: it says that it cannot know."""
        result = invoke("healthcheck", GMP_HTTP_LISTEN="systemd:domain=INET:index=0")
        self.assertEqual(1, result.exit_code)
        self.assertIn("GMP_HTTP_LISTEN", result.output)

    def test_ini_file(self) -> None:
        """Where there is an ini file, it is followed."""
        directory, port = scratch(self), free_port()
        ini = directory / "my.ini"
        ini.write_text(f"[server]\nhost = 127.0.0.1\nport = {port}\n")
        result = invoke("healthcheck", GMP_CONFIG=str(ini))
        self.assertEqual(1, result.exit_code)
        self.assertIn(f"tcp:{port}", result.output)

    def test_light(self) -> None:
        """It loads neither Twisted nor the settings."""
        code = (
            "import sys; from mailproxy.__main__ import group\n"
            "try: group()(['healthcheck'])\n"
            "except SystemExit as end: print(end.code)\n"
            "heavy = ('twisted', 'cryptography', 'sqlalchemy', 'msgspec', 'mailproxy.config')\n"
            "print([name for name in heavy if name in sys.modules])"
        )
        env = clean_env({"GMP_PORT": str(free_port())})
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=scratch(self), env=env, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        self.assertEqual(["1", "[]"], done.stdout.splitlines())

    def test_listed(self) -> None:
        """The image's health command is this one."""
        dockerfile = (Path(__file__).parents[2] / "Dockerfile").read_text()
        self.assertIn('CMD ["mailproxy", "healthcheck"]', dockerfile)
