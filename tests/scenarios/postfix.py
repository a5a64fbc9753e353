"""A Postfix of its own: its configuration, queue and log in one directory, and not the system's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.need import missing, need_program
from tests.scenarios.processes import free_port

#: What the package brings a master.cf as.
_TABLE = Path("/etc/postfix/master.cf.proto")


class Postfix:
    """
    A Postfix that relays what comes from this machine to one server; stock, but for *settings*.

    Its master process runs as root, so that it takes one, or a ``sudo`` that does not ask.

    :param directory: where it lives; must be reachable for everybody.
    :param relay: ``[host]:port`` to relay to.
    :param settings: further lines of main.cf.
    :raises SkipTest: it is not installed, or this is not root; in CI an AssertionError.
    """

    def __init__(self, directory: Path, relay: str, *settings: str) -> None:
        self._program = need_program("postfix")
        if not _TABLE.exists():
            missing("Postfix's master.cf.proto")
        self._root = as_root()
        self.port = free_port()
        self.directory = directory
        self.config = directory / "etc"
        self.log = directory / "mail.log"
        queue, data = directory / "spool", directory / "lib"
        for each in (self.config, queue, data):
            each.mkdir()
        directory.chmod(0o755)
        self._as_root("chown", "postfix", str(data))
        lines = map(self._service, _TABLE.read_text().splitlines())
        (self.config / "master.cf").write_text("\n".join(lines) + "\n")
        main = (
            *("compatibility_level = 3.6", f"queue_directory = {queue}"),
            *(f"data_directory = {data}", "inet_interfaces = 127.0.0.1", "inet_protocols = ipv4"),
            *("myhostname = satellite.example.test", "mydestination =", "alias_maps ="),
            *("mynetworks = 127.0.0.0/8", "alias_database =", f"relayhost = {relay}"),
            *(f"maillog_file = {self.log}", f"maillog_file_prefixes = {directory}", *settings),
        )
        (self.config / "main.cf").write_text("\n".join(main) + "\n")
        self._postfix("start")

    def _service(self, line: str) -> str:
        """A line of master.cf: on our port, and outside of a chroot that nobody has furnished."""
        words = line.split()
        if line[:1] in ("#", " ", "") or len(words) < 8:
            return line
        if words[:2] == ["smtp", "inet"]:
            words[0] = f"127.0.0.1:{self.port}"
        words[4] = "n"
        return " ".join(words)

    def _as_root(self, *command: str) -> str:
        done = subprocess.run(
            [*self._root, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            text=True,
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _postfix(self, word: str) -> str:
        return self._as_root(self._program, "-c", str(self.config), word)

    def queued(self) -> int:
        """Messages in its queue."""
        listed = self._as_root(need_program("postqueue"), "-c", str(self.config), "-j")
        return len(listed.splitlines())

    def flush(self) -> None:
        """Try everything in the queue now."""
        self._postfix("flush")

    def said(self) -> str:
        """What it logged so far."""
        try:
            return self.log.read_text(errors="replace")
        except PermissionError:
            return self._as_root("cat", str(self.log))
        except FileNotFoundError:
            return ""

    def stop(self) -> None:
        """Stop it, and take away what only root may."""
        try:
            self._postfix("stop")
        finally:
            for name in ("spool", "lib"):
                self._as_root("rm", "-rf", str(self.directory / name))


def as_root() -> list[str]:
    """
    What to put before a command that root has to run.

    :raises SkipTest: nothing would do; in CI an AssertionError.
    """
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None or subprocess.run([sudo, "-n", "true"], capture_output=True).returncode:
        missing("root, to start Postfix")
    return [sudo, "-n"]
