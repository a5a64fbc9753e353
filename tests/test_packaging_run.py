"""The service, run in every way there is: as a plugin, as a command, as a daemon."""

from __future__ import annotations

import http.client
import json
import os
import pty
import pwd
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.need import need_root
from tests.scratch import scratch
from tests.test_packaging import build_wheel, install

#: Seconds a start or stop may take on a busy machine.
PATIENCE = 60

BIN = Path(sys.executable).parent

#: A line for a person.
SERVES = r"(?m)^\S+ \[mailproxy.service#info\] mailproxy .* serves on"
TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket: no port to be found free, and none to be taken meanwhile."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


@contextmanager
def deadline(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill *process* if what is done here takes too long, so that reading from it ends."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(PATIENCE, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if late.is_set():
        raise AssertionError(f"{process.args!r} took longer than {PATIENCE} s")


class RunCase(SynchronousTestCase):
    """
    :ivar out: where programs write to.
    """

    out = subprocess.PIPE

    def setUp(self) -> None:
        self.dir = scratch(self)
        self.socket = self.dir / "api.sock"
        self.log = self.dir / "output"

    def environ(self, **settings: str) -> dict[str, str]:
        """This environment, without our variables but *settings* and where to listen."""
        clean = {name: value for name, value in os.environ.items() if name[:4] != "GMP_"}
        ours = {"GMP_HTTP_LISTEN": f"unix:{self.socket}", "GMP_DB_PATH": str(self.dir / "d/m.db")}
        return {**clean, "PYTHONUNBUFFERED": "1", **ours, **settings}

    def start(self, *argv: object, **settings: str) -> subprocess.Popen[str]:
        """Run a program in the test's directory; it is killed when the test ends, at the latest."""
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=self.dir,
            env=self.environ(**settings),
            stdout=self.out,
            stderr=subprocess.STDOUT,
            text=True,
            # Who runs the tests in the background ignores SIGINT, and so would the program.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)
        if process.stdout is not None:
            self.addCleanup(process.stdout.close)
        return process

    def until(self, process: subprocess.Popen[str], words: str | None) -> str:
        """What *process* says until a line has *words* in it; None: until it has ended."""
        assert process.stdout is not None
        said = ""
        with deadline(process):
            for line in process.stdout:
                said += line
                if words is not None and words in line:
                    return said
            process.wait()
        self.assertIsNone(words, said)
        return said

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """The status and JSON answer of one request."""
        connection = UnixConnection(self.socket)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def serves(self) -> None:
        """The API answers, asks for the token, and takes the one that was made."""
        self.assertEqual((200, {"ok": True, "status": "ok"}), self.get("/health"))
        self.assertEqual(401, self.get("/status")[0])
        token = (self.dir / "d/api-token").read_text().strip()
        status, answer = self.get("/status", {"X-API-Token": token})
        self.assertEqual((200, True), (status, answer["ok"]))

    def stop(self, process: subprocess.Popen[str]) -> str:
        """End *process* as an operator does; what it said to that."""
        process.terminate()
        said = self.until(process, None)
        self.assertIn("stopped", said)
        self.assertNotIn("Traceback", said)
        self.assertNotIn("Unhandled", said)
        return said

    def run_in_the_foreground(self, *argv: object, **settings: str) -> str:
        process = self.start(*argv, **settings)
        said = self.until(process, "serves on")
        self.serves()
        return said + self.stop(process)


class ForegroundTests(RunCase):
    def test_twist(self) -> None:
        """``twist mailproxy`` serves and stops; where nobody watches, every line is JSON."""
        self.is_json(self.run_in_the_foreground(BIN / "twist", "mailproxy"))

    def is_json(self, said: str) -> None:
        for line in said.splitlines():
            self.assertLessEqual({"time", "level", "logger", "message"}, set(json.loads(line)))

    def test_twistd(self) -> None:
        """``twistd -n mailproxy`` serves and stops; where nobody watches, every line is JSON."""
        argv = (BIN / "twistd", "-n", "--pidfile=", "mailproxy")
        self.is_json(self.run_in_the_foreground(*argv))

    def test_python_m(self) -> None:
        """``python -m mailproxy serve`` serves and stops."""
        self.run_in_the_foreground(sys.executable, "-m", "mailproxy", "serve")

    def test_command(self) -> None:
        """``mailproxy serve`` serves and stops, and leaves no process id file."""
        self.run_in_the_foreground(BIN / "mailproxy", "serve")
        self.assertEqual({"d"}, {p.name for p in self.dir.iterdir() if p != self.socket})

    def test_asyncio_reactor(self) -> None:
        """Another reactor can be chosen, under twist and by our own command."""
        said = self.run_in_the_foreground(BIN / "twist", "--reactor=asyncio", "mailproxy")
        self.assertNotIn("already installed", said)
        said = self.run_in_the_foreground(BIN / "mailproxy", "serve", "--reactor=asyncio")
        self.assertIn("asyncioreactor", said)

    def test_interrupt(self) -> None:
        """Ctrl-C stops the service as a termination does."""
        process = self.start(BIN / "mailproxy", "serve")
        self.until(process, "serves on")
        self.serves()
        process.send_signal(signal.SIGINT)
        said = self.until(process, None)
        self.assertIn("stopped", said)
        self.assertNotIn("Traceback", said)

    def test_tcp(self) -> None:
        """Host and port may come from the command line."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            process = self.start(
                BIN / "mailproxy", "serve", "--host=127.0.0.1", f"--port={port}", GMP_HTTP_LISTEN=""
            )
            said = self.until(process, None)
        self.assertNotEqual(0, process.returncode)
        self.assertIn("cannot listen on tcp:", said)
        self.assertNotIn("Traceback", said)
        process = self.start(
            BIN / "mailproxy", "serve", "--host=127.0.0.1", f"--port={port}", GMP_HTTP_LISTEN=""
        )
        self.until(process, "serves on")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.addCleanup(connection.close)
        connection.request("GET", "/health")
        self.assertEqual(200, connection.getresponse().status)
        self.stop(process)


class WheelTests(RunCase):
    def test_from_a_wheel(self) -> None:
        """What is installed from the wheel serves as well, as a command and as a plugin."""
        folder = scratch(self)
        bin_ = install(build_wheel(folder), folder / "venv")
        self.run_in_the_foreground(bin_ / "mailproxy", "serve")
        self.run_in_the_foreground(bin_ / "python", *TWISTD, "-n", "--pidfile=", "mailproxy")


class RefusalTests(RunCase):
    def refused(self, *argv: object, **settings: str) -> str:
        """What a start that must fail says; no traceback, and the exit status tells."""
        process = self.start(*argv, **settings)
        said = self.until(process, None)
        self.assertNotEqual(0, process.returncode, said)
        self.assertNotIn("Traceback", said)
        return said

    def test_wrong_value(self) -> None:
        """A wrong value is one line that names the variable, however the service is run."""
        for argv in (
            (BIN / "twist", "mailproxy"),
            (BIN / "twistd", "-n", "mailproxy"),
            (BIN / "twistd", "mailproxy"),
            (BIN / "mailproxy", "serve"),
        ):
            with self.subTest(argv):
                said = self.refused(*argv, GMP_PORT="http")
                self.assertEqual(1, len(said.splitlines()), said)
                self.assertIn("GMP_PORT: 'http' is not a whole number", said)

    def test_lost_key(self) -> None:
        """A store whose key is gone, or is another one, stops the start in one line."""
        self.run_in_the_foreground(BIN / "mailproxy", "serve")
        key = self.dir / "d/encryption-key"
        kept = key.read_text()
        key.unlink()
        self.assertIn("GMP_ENCRYPTION_KEY: missing", self.refused(BIN / "mailproxy", "serve"))
        from mailproxy.crypto import new_key

        key.write_text(new_key())
        self.assertIn("key", self.refused(BIN / "twist", "mailproxy"))
        key.write_text(kept)
        self.run_in_the_foreground(BIN / "mailproxy", "serve")

    def test_second_process(self) -> None:
        """A second process on the same store is refused; the first goes on."""
        process = self.start(BIN / "mailproxy", "serve")
        self.until(process, "serves on")
        other = self.dir / "other.sock"
        said = self.refused(BIN / "mailproxy", "serve", GMP_HTTP_LISTEN=f"unix:{other}")
        self.assertIn("m.db", said)
        self.serves()
        self.stop(process)


class LogTests(RunCase):
    def test_level_and_secrets(self) -> None:
        """GMP_LOG_LEVEL is what counts, also under twist, and no secret is logged."""
        secrets = {
            "GMP_API_TOKEN": "canary-token-0123456789abcdef-0123456789",
            "GMP_CLIENT_SYNC_TOKEN": "canary-sync-token",
            "GMP_METRICS_TOKEN": "canary-metrics-token",
        }
        url = {"GMP_CLIENT_SYNC_URL": "http://127.0.0.1:9/"}
        for argv in ((BIN / "twist", "mailproxy"), (BIN / "mailproxy", "serve")):
            process = self.start(
                *argv, GMP_LOG_LEVEL="debug", GMP_LOG_FORMAT="text", **secrets, **url
            )
            said = self.until(process, "serves on")
            self.get(f"/messages?x={secrets['GMP_API_TOKEN']}", {"X-API-Token": "canary-wrong"})
            self.get("/status", {"Authorization": f"Bearer {secrets['GMP_API_TOKEN']}"})
            said += self.stop(process)
            self.assertNotIn("canary", said)
            self.assertRegex(said, SERVES)
            self.assertIn("#debug", said)
            self.assertIn("/status", said)

    def test_warning_level(self) -> None:
        """At WARNING the ordinary lines are not logged, the warnings are."""
        process = self.start(BIN / "twist", "mailproxy", GMP_LOG_LEVEL="WARNING", GMP_NONSENSE="1")
        said = self.until(process, "GMP_NONSENSE: unknown variable")
        self.assertNotIn("serves on", said)

    def test_form_chosen_by_twist(self) -> None:
        """What ``twist`` was told about the form of the log counts, unless we were told, too."""
        process = self.start(BIN / "twist", "--log-format=text", "mailproxy")
        self.assertRegex(self.until(process, "serves on"), SERVES)

    def test_on_a_terminal(self) -> None:
        """On a terminal the log is for a person."""
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        self.out = slave
        self.start(BIN / "mailproxy", "serve")
        os.close(slave)
        said = ""
        while "serves on" not in said:
            self.assertTrue(select.select([master], [], [], PATIENCE)[0], said)
            said += os.read(master, 65536).decode()
        self.assertRegex(said, SERVES)

    def test_json_lines(self) -> None:
        """twistd writes one JSON object per line when told to use our observer."""
        process = self.start(
            BIN / "twistd", "-n", "--pidfile=", "--logger=mailproxy.log.json_lines", "mailproxy"
        )
        said = self.until(process, "serves on")
        self.serves()
        said += self.stop(process)
        messages = [json.loads(line)["message"] for line in said.splitlines()]
        self.assertTrue([message for message in messages if "serves on" in message])


class DaemonTests(RunCase):
    def daemon(self, *options: str) -> int:
        """Start a daemon; its process id. When that returns, the service serves."""
        argv = [str(BIN / "twistd"), "--logfile=the.log", *options, "mailproxy"]
        done = subprocess.run(
            argv,
            cwd=self.dir,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr), done.stdout)
        pid = int((self.dir / "twistd.pid").read_text())
        self.descriptor = os.pidfd_open(pid)
        self.addCleanup(os.close, self.descriptor)
        self.addCleanup(self.kill)
        return pid

    def kill(self) -> None:
        """End the daemon, whatever state it is in; nothing if it has ended."""
        try:
            signal.pidfd_send_signal(self.descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return

    def end(self) -> str:
        """End the daemon as an operator does; its log."""
        signal.pidfd_send_signal(self.descriptor, signal.SIGTERM)
        self.assertTrue(select.select([self.descriptor], [], [], PATIENCE)[0], "it did not end")
        log = (self.dir / "the.log").read_text()
        self.assertNotIn("Traceback", log)
        self.assertFalse((self.dir / "twistd.pid").exists())
        return log

    def test_daemon(self) -> None:
        """``twistd mailproxy`` forks, serves, keeps a process id file and a log, and ends."""
        pid = self.daemon()
        self.assertNotEqual(os.getpid(), pid)
        self.serves()
        log = self.end()
        self.assertIn("serves on", log)
        self.assertIn("stopped", log)

    def test_daemon_that_cannot_start(self) -> None:
        """A daemon whose start fails tells its parent, whose exit status tells."""
        (self.dir / "d").write_text("a file, not a directory")
        done = subprocess.run(
            [str(BIN / "twistd"), "--logfile=the.log", "mailproxy"],
            cwd=self.dir, env=self.environ(), capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        self.assertEqual(1, done.returncode)
        self.assertIn("GMP_DB_PATH", done.stderr)
        log = (self.dir / "the.log").read_text()
        self.assertIn("GMP_DB_PATH", log)
        self.assertNotIn("Traceback", log)

    def test_other_user(self) -> None:
        """With --uid and --gid all that is made belongs to that user, and root is given up."""
        need_root()
        nobody = pwd.getpwnam("nobody")
        os.chown(self.dir, nobody.pw_uid, nobody.pw_gid)
        pid = self.daemon(f"--uid={nobody.pw_uid}", f"--gid={nobody.pw_gid}")
        self.serves()
        for path in (self.dir / "d").iterdir():
            self.assertEqual(nobody.pw_uid, path.stat().st_uid, path)
        self.assertEqual(nobody.pw_uid, Path(f"/proc/{pid}").stat().st_uid)
        signal.pidfd_send_signal(self.descriptor, signal.SIGTERM)
        self.assertTrue(select.select([self.descriptor], [], [], PATIENCE)[0])
