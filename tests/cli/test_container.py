"""``mailproxy container``: what it refuses, what it warns of, and that it serves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.cli.container import MOUNTS, check_place
from mailproxy.cli.group import Refused
from mailproxy.config import Settings, load
from mailproxy.mounts import judge
from tests.need import need_program
from tests.scenarios.processes import PATIENCE, Service, account, free_port, message, wait_until
from tests.scratch import scratch
from tests.test_mounts import ANONYMOUS, DOCKER, EMPTY_DIR, NAMED, POD, TMPFS


class PlaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.table = scratch(self) / "mountinfo"

    def check(self, table: str, **env: str) -> str | None:
        self.table.write_text(table)
        # /data need not exist: nothing is looked up but the table.
        return check_place(self.settings(**env), self.table)

    def settings(self, **env: str) -> Settings:
        return load({"GMP_DB_PATH": "/data/mail_service.db", **env}, cwd=self.table.parent)

    def test_kept(self) -> None:
        """A volume with a name is nothing to speak of."""
        self.assertIsNone(self.check(DOCKER + NAMED))

    def test_anonymous(self) -> None:
        """A volume without a name is used, with a warning that says how to name it."""
        self.assertIn("-v mailproxy:/data", self.check(DOCKER + ANONYMOUS) or "")

    def test_lost(self) -> None:
        """What does not outlast the container is refused in one line that says what to do."""
        for table in (DOCKER, DOCKER + TMPFS, POD + EMPTY_DIR):
            with self.assertRaises(Refused) as caught:
                self.check(table)
            said = caught.exception.format_message()
            self.assertIn("GMP_DB_PATH: /data is ", said)
            self.assertIn("GMP_ALLOW_EPHEMERAL", said)
            self.assertNotIn("\n", said)

    def test_allowed(self) -> None:
        """GMP_ALLOW_EPHEMERAL turns the refusal into a warning."""
        for table in (DOCKER, DOCKER + TMPFS, POD + EMPTY_DIR):
            self.assertIn("warning", self.check(table, GMP_ALLOW_EPHEMERAL="true") or "")

    def test_server(self) -> None:
        """With PostgreSQL nothing that matters lies in the container."""
        shared = {"GMP_ENCRYPTION_KEY": "A" * 43 + "=", "GMP_API_TOKEN": "t" * 32}
        self.assertIsNone(self.check(DOCKER, GMP_DB_PATH="postgresql://db/mail", **shared))

    def test_no_table(self) -> None:
        """Where there is no table of mounts the warning says that it cannot tell."""
        said = check_place(self.settings(), self.table)
        self.assertIn("cannot tell", said or "")


class Contained(Service):
    """The command of the image, in front of it what the image has."""

    name = "container"

    def command(self) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "mailproxy", "container"]


def health(env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run the health command of the image."""
    argv = [sys.executable, "-m", "mailproxy", "healthcheck", *options]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)


class ContainerTests(SynchronousTestCase):
    def service(self, **env: str) -> Contained:
        made = Contained(scratch(self), **env)
        self.addCleanup(made.end)
        return made

    def test_memory_is_refused(self) -> None:
        """A database in memory stops the start; nothing was made there."""
        if not Path("/dev/shm").is_dir():
            self.fail("no tmpfs at /dev/shm")
        service = self.service(GMP_DB_PATH=f"/dev/shm/mailproxy-{os.getpid()}/mail.db")
        service.spawn()
        assert service.process is not None
        self.assertEqual(2, service.process.wait(PATIENCE))
        self.assertIn("in memory (tmpfs)", service.output())
        self.assertFalse(Path(service.settings["GMP_DB_PATH"]).parent.exists())

    def test_it_serves_as_first_process(self) -> None:
        """
        Below the image's init it serves, tells its health, reaps orphans and hears the signals.

        Two doors, one of them a socket in the file system: the health command takes the first.
        """
        tini = need_program("tini")
        service = self.service(GMP_ALLOW_EPHEMERAL="1")
        path = str(service.directory / "api.sock")
        tcp = f"tcp:{service.port}:interface=127.0.0.1"
        service.settings["GMP_HTTP_LISTEN"] = f"unix:{path} {tcp}"
        orphan = '(exec sleep 0.1) & echo $! > orphan; exec "$@"'
        service.prefix = [
            tini,
            "-s",
            "-e",
            "143",
            "--",
            "sh",
            "-c",
            f"(sh -c '{orphan}' sh true); exec \"$@\"",
        ]
        service.prefix.append("sh")
        service.start()
        self.assertEqual(200, service.call("GET", "/status").status)
        env = service.environment()
        for options in ((), ("--ready",)):
            done = health(env, *options)
            self.assertEqual((0, ""), (done.returncode, done.stderr))
            self.assertIn(f"unix:{path}: 200", done.stdout)
        pid = int((service.directory / "orphan").read_text())
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the orphan to be reaped")
        self.assertEqual(0, service.terminate())
        self.assertIn("stopped", service.output())
        done = health(env)
        self.assertEqual(1, done.returncode)

    def test_an_ordinary_user_and_nothing_else_to_write(self) -> None:
        """
        As the image's user it serves with one directory to write in, which large bodies use, too.

        The directory is mounted as a directory of the host is, and taken without a word.
        """
        if os.geteuid() != 0:
            self.skipTest("only root can change users")
        if subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
            self.skipTest("this root may not mount")
        service = self.service(HOME="/nonexistent", TMPDIR="/nonexistent")
        here = judge(str(service.directory), MOUNTS.read_text(errors="surrogateescape"))
        if "memory" in here.what:
            service.settings["GMP_ALLOW_EPHEMERAL"] = "1"
        data = service.directory / "data"
        data.mkdir()
        service.settings["GMP_DB_PATH"] = str(data / "mail.db")
        self.assertEqual({"data"}, {each.name for each in service.directory.iterdir()})
        shutil.chown(data, 10001, 10001)
        service.directory.chmod(0o755)
        # The root read-only, as `docker run --read-only` makes it.
        script = (
            'mount --make-rprivate / && mount --bind "$0" "$0" && mount -o remount,bind,ro / && '
            'cd "$0" && exec setpriv --reuid=10001 --regid=10001 --clear-groups '
            '--no-new-privs --bounding-set=-all "$@"'
        )
        service.prefix = ["unshare", "--mount", "sh", "-c", script, str(data)]
        service.start()
        self.assertEqual(200, service.call("POST", "/account", account(free_port())).status)
        added = service.add(message("large", body="x" * 2_000_000))
        self.assertEqual((200, 1), (added.status, added.body["queued"]))
        self.assertEqual(-signal.SIGTERM, service.terminate())
        self.assertNotIn("[error]", service.output().lower())
        self.assertEqual("memory" in here.what, "warning: " in service.output())
