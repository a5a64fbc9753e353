"""The units of systemd: what it makes of them, and the service with what they give it."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import Settings
from tests.need import need_program
from tests.scenarios.processes import TOKEN, Service, http, wait_until
from tests.scratch import scratch
from tests.test_architecture import ROOT

UNITS = ROOT / "deploy" / "systemd"

#: Where the unit expects the program; here it is another.
INSTALLED = "/opt/mailproxy/bin/mailproxy"

#: Seconds that a stop takes besides draining: last report, last answers, what is written.
AFTER_DRAIN = 15

#: Has the kernel refuse memory that is written and run, as MemoryDenyWriteExecute does (prctl(2),
#: PR_SET_MDWE; older kernels know nothing of it), then runs what follows.
NO_NEW_CODE = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def entries(name: str) -> dict[str, list[str]]:
    """Every entry of a unit, whatever its section, by its key."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if match := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


class UnitTests(SynchronousTestCase):
    def verify(self, key: str = "Backlog") -> str:
        """What systemd finds in copies of the units that name a program that is there."""
        folder = scratch(self)
        copies = []
        for unit in sorted(UNITS.iterdir()):
            text = unit.read_text().replace(INSTALLED, sys.executable)
            copies.append(folder / unit.name)
            copies[-1].write_text(text.replace("Backlog=", f"{key}="))
        argv = [need_program("systemd-analyze"), "verify", "--man=no", *map(str, copies)]
        env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def test_verified(self) -> None:
        """systemd finds nothing wrong in the units, and would in a wrong one."""
        self.assertEqual("", self.verify())
        self.assertIn("Backlogg", self.verify("Backlogg"))

    def test_hardened(self) -> None:
        """By systemd's own measure (10: nothing is kept from it) the service is well locked in."""
        program = need_program("systemd-analyze")
        argv = [program, "security", "--offline=true", "--threshold=15", "--no-pager"]
        unit = str(UNITS / "mailproxy.service")
        done = subprocess.run([*argv, unit], capture_output=True, text=True, timeout=60)
        self.assertEqual(0, done.returncode, done.stdout[-2000:])

    def test_time_to_stop(self) -> None:
        """It is killed only after it had the time to stop in order, and a socket keeps the door."""
        unit, door = entries("mailproxy.service"), entries("mailproxy.socket")
        (stop,) = unit["TimeoutStopSec"]
        self.assertGreaterEqual(int(stop), Settings().drain_seconds + AFTER_DRAIN)
        self.assertGreaterEqual(int(unit["LimitNOFILE"][0]), 10_000)
        (name,) = door["FileDescriptorName"]
        self.assertIn(f"GMP_HTTP_LISTEN=systemd:domain=INET:name={name}", unit["Environment"])
        given = {line.partition(":")[0] for line in unit["LoadCredential"]}
        for line in unit["Environment"]:
            if (at := line.partition("=%d/"))[1]:
                self.assertIn(at[2], given)


class Activated(Service):
    """The service as its unit starts it, by systemd's own program that passes a socket on."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        unit = entries("mailproxy.service")
        self.settings = {"NOTIFY_SOCKET": str(directory / "notify")}
        for line in unit["Environment"]:
            name, _, value = line.partition("=")
            self.settings[name] = value.replace("%S", str(directory)).replace("%d", str(directory))
        (directory / "mailproxy").mkdir(mode=0o700)
        (directory / "api-token").write_text(TOKEN + "\n")
        key = base64.urlsafe_b64encode(os.urandom(32)).decode()
        (directory / "encryption-key").write_text(key + "\n")
        self.unit = unit

    def command(self) -> list[str]:
        (start,) = self.unit["ExecStart"]
        (name,) = entries("mailproxy.socket")["FileDescriptorName"]
        words = start.replace(INSTALLED, f"{sys.executable} -m mailproxy").split()
        return [
            need_program("systemd-socket-activate"),
            f"--listen=127.0.0.1:{self.port}",
            f"--fdname={name}",
            *(f"--setenv={name}" for name in self.environment()),
            *(sys.executable, "-c", NO_NEW_CODE, *words),
        ]


class ActivationTests(SynchronousTestCase):
    def test_as_the_unit_says(self) -> None:
        """
        The first caller wakes it and is answered; it says when it is ready and when it stops.

        Its secrets are the files that systemd gives it, its database lies in its directory, and it
        does without memory that is written and run.
        """
        folder = scratch(self)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(folder / "notify"))
            manager.settimeout(30)
            service = Activated(folder)
            self.addCleanup(service.end)
            service.spawn()
            wait_until(lambda: "Listening on" in service.output(), what="the socket")
            answer = http("GET", f"{service.url}/status", headers={"X-API-Token": TOKEN})
            self.assertEqual(200, answer.status, service.output())
            self.assertEqual(b"READY=1", manager.recv(100))
            self.assertEqual(200, service.call("GET", "/readyz").status)
            service.terminate()
            self.assertEqual(b"STOPPING=1", manager.recv(100))
        self.assertIn("stopped", service.output())
        names = {path.name for path in (folder / "mailproxy").iterdir()}
        self.assertLessEqual({"mail_service.db"}, names)
        self.assertNotIn("api-token", names)
