"""Starts, watches, kills and ends the processes of a scenario; talks HTTP to them."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mailproxy.proving.children import free_port as free_port
from tests.scenarios.forking import Forked, fork, forkable

TOKEN = "scenario-token-0123456789abcdef0123456789"

#: Seconds a process may take to come up or to end.
PATIENCE = 30.0


def wait_until(
    condition: Callable[[], bool], patience: float = PATIENCE, what: str = "it", step: float = 0.02
) -> None:
    """Wait for *condition*. :raises AssertionError: it did not come true in *patience* seconds."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience} s for {what}")
        time.sleep(step)


_NONE: Mapping[str, str] = MappingProxyType({})


class Answer:
    """One HTTP answer: ``status``, ``headers`` and the decoded JSON ``body`` (or text)."""

    def __init__(self, status: int, raw: bytes, headers: Mapping[str, str] = _NONE) -> None:
        self.status = status
        self.raw = raw
        self.headers = headers

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


def http(
    method: str,
    url: str,
    payload: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> Answer:
    """One request. :raises OSError: there was no answer."""
    data = None if payload is None else json.dumps(payload).encode()
    request = urllib.request.Request(url, data, dict(headers or {}), method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.read(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(), dict(error.headers))


class Process:
    """A child process whose output goes to a file in *directory*."""

    name = "process"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.descriptors: tuple[int, ...] = ()

    def command(self) -> list[str]:
        raise NotImplementedError(type(self).__name__)

    def environment(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if not key.startswith("GMP_")} | {
            "PYTHONUNBUFFERED": "1"
        }

    def spawn(self) -> None:
        command, env = self.command(), self.environment()
        with self.log.open("ab") as out:
            if not self.descriptors and forkable(command, env):
                self.process = fork(command, env, self.directory, out)
                return
            self.process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=self.descriptors,
            )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """kill -9, and wait for it to be gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def terminate(self, patience: float = PATIENCE) -> int:
        """SIGTERM, and wait for the exit status."""
        assert self.process is not None
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience)

    def end(self) -> None:
        """Whatever state it is in, it is gone afterwards."""
        if self.alive:
            try:
                self.terminate(10.0)
            except subprocess.TimeoutExpired:
                self.kill()

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Service(Process):
    """``mailproxy serve`` on a port and a data directory of its own."""

    name = "service"

    def __init__(self, directory: Path, **settings: str) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.settings = {
            "GMP_HOST": "127.0.0.1",
            "GMP_PORT": str(self.port),
            "GMP_API_TOKEN": TOKEN,
            "GMP_DB_PATH": str(directory / "mail.db"),
        } | settings
        self.prefix: list[str] = []

    def command(self) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "mailproxy", "serve"]

    def environment(self) -> dict[str, str]:
        return super().environment() | self.settings

    def inherit(self, sockets: Sequence[socket.socket]) -> None:
        """Pass open sockets on at the start, as systemd does: in order, from descriptor 3 on."""
        self.descriptors = tuple(fcntl.fcntl(each, fcntl.F_DUPFD, 100) for each in sockets)
        moved = "".join(f"exec {n}<&{d}; " for n, d in enumerate(self.descriptors, 3))
        names = ":".join("door" for _ in sockets)
        told = f"export LISTEN_PID=$$ LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={names}; "
        self.prefix = ["bash", "-c", moved + told + 'exec "$@"', "bash"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Service:
        self.spawn()
        wait_until(self._up, what=f"the service: {self.output()[-2000:]}")
        return self

    def _up(self) -> bool:
        if not self.alive:
            raise AssertionError(f"the service ended: {self.output()[-4000:]}")
        try:
            return http("GET", f"{self.url}/readyz", timeout=5.0).status == 200
        except OSError:
            return False

    def call(self, method: str, path: str, payload: Any = None, timeout: float = 30.0) -> Answer:
        """An API request with the admin token."""
        return http(method, self.url + path, payload, {"X-API-Token": TOKEN}, timeout)

    def add(self, *messages: dict[str, Any], **envelope: Any) -> Answer:
        return self.call("POST", "/commands/add-messages", {"messages": messages, **envelope})

    def messages(self, **query: Any) -> list[dict[str, Any]]:
        """Every message the service lists."""
        return list(self.call("GET", "/messages?limit=100000").body["messages"])

    def states(self) -> dict[str, str]:
        """The state of every message, by id."""
        return {each["id"]: each["state"] for each in self.messages()}


class SinkProcess(Process):
    """``mailproxy sink``: an upstream and a report receiver, with a ledger of both."""

    name = "sink"

    def __init__(self, directory: Path, *options: str) -> None:
        super().__init__(directory)
        self.smtp_port, self.http_port = free_port(), free_port()
        self.options = options

    def command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "mailproxy",
            "sink",
            "--smtp-port",
            str(self.smtp_port),
            "--http-port",
            str(self.http_port),
            *self.options,
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def sync_url(self) -> str:
        return f"{self.url}/email/mailproxy/mp_endpoint/proxy_sync"

    def start(self) -> SinkProcess:
        self.spawn()
        self.wait()
        return self

    def wait(self) -> None:
        """Until it can be used, after ``spawn``."""
        wait_until(lambda: "sink ready" in self.output(), what="the sink")

    def get(self, path: str) -> Any:
        return http("GET", self.url + path).body


def peak_memory(pid: int) -> int:
    """The most memory a process has had so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def account(port: int, **fields: Any) -> dict[str, Any]:
    """The account ``main`` on a loopback upstream."""
    return {"id": "main", "host": "127.0.0.1", "port": port, "use_tls": False, **fields}


def message(id: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "account_id": "main",
        "from": "sender@example.test",
        "to": [f"{id}@example.test"],
        "subject": f"Message {id}",
        "body": f"Body of {id}.\n",
        **fields,
    }
