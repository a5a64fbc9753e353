"""
Starts ``python -m mailproxy ...`` from a process that has imported what it is made of.

A second of processor time goes into the start of the service before anything of it runs, and the
scenarios start it more than a hundred times. So each process of tests has one that imported it
once: ``python -m tests.scenarios.forking N`` is asked at the socket with descriptor *N*, and forks
one child for each start, with the arguments, directory, environment and output it is told. It ends
when that socket does. A start from nothing is what tests/cli, tests/test_packaging_run.py and the
torture runs try.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

ROOT = Path(__file__).parents[2]

#: Whether the services of this process may be forked: where their start, their memory and what they
#: cost are not what is looked at. Tests say so, benchmarks do not.
allowed = False

#: What the service and the sink import when they run.
IMPORTED = (
    *("mailproxy.cli.serve", "mailproxy.tap", "mailproxy.service", "mailproxy.store.migrating"),
    *("mailproxy.proving.command", "mailproxy.proving.sink", "twisted.internet.epollreactor"),
    *("twisted.internet.ssl", "twisted.scripts.twistd", "twisted.plugins.mailproxy_plugin"),
    *("twisted.internet.default", "encodings.idna", "zoneinfo"),
)

#: How what the service itself heeds is named: it may be another at every start.
_OURS = ("GMP_", "MAILPROXY_")

#: It opens files, so that every process needs one of its own.
_REACTOR = "twisted.internet.reactor"


class Forked:
    """
    One process that was forked: what a test uses of :class:`subprocess.Popen`.

    :param args: its command line, for messages.
    :param told: where its process id and its exit status come from.
    """

    def __init__(self, args: Sequence[str], told: socket.socket) -> None:
        self.args = list(args)
        self.returncode: int | None = None
        self._told = told
        self.pid = self._number()

    def _number(self) -> int:
        """:raises TimeoutError: it does not come in time. :raises BlockingIOError: not yet."""
        data = self._told.recv(4)
        if len(data) < 4:
            raise AssertionError(f"nobody watches {self.args} any more")
        return int(struct.unpack("i", data)[0])

    def _ended(self) -> None:
        self.returncode = os.waitstatus_to_exitcode(self._number())
        self._told.close()

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        if self.returncode is None:
            self._told.setblocking(False)
            try:
                self._ended()
            except BlockingIOError:
                return None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. :raises subprocess.TimeoutExpired: it runs after *timeout* seconds."""
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self._ended()
            except (TimeoutError, BlockingIOError) as error:  # the latter for 0 seconds
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from error
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def forkable(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """
    Whether a fork is allowed and the same as a start: only settings of ours differ from here.

    A program that changes modules before it imports the service would change them too late.
    """
    if not allowed:
        return False
    if tuple(command[:3]) != (sys.executable, "-m", "mailproxy") or "--reactor" in command:
        return False
    own, others = dict(os.environ), dict(env)
    for each in (own, others):
        each.pop("PYTHONPATH", None)
        each.pop("PYTHONUNBUFFERED", None)
    differ = {name for name, _ in own.items() ^ others.items()}
    return all(name.startswith(_OURS) for name in differ)


def fork(command: Sequence[str], env: Mapping[str, str], cwd: Path, out: BinaryIO) -> Forked:
    """Fork the process of *command*, which is :func:`forkable`; it writes to *out*."""
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other:
        call = json.dumps({"argv": list(command[2:]), "cwd": str(cwd), "env": dict(env)})
        socket.send_fds(_parent(os.getpid()), [call.encode()], [out.fileno(), other.fileno()])
    mine.settimeout(30.0)
    return Forked(command, mine)


@functools.cache
def _parent(pid: int) -> socket.socket:
    """Where the process that forks for the process *pid*, which is this one, is asked."""
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other:
        _parents[pid] = subprocess.Popen(
            [sys.executable, "-m", __name__, str(other.fileno())],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
        )
    return mine


#: Kept, so that nobody waits for them.
_parents: dict[int, subprocess.Popen[bytes]] = {}


def next_call(asked: socket.socket) -> dict[str, Any]:
    """
    Fork for every call; returns in the processes that are forked, with what each has to be.

    :raises SystemExit: nobody can call any more.
    """
    later = sys.modules[_REACTOR] = ModuleType(_REACTOR)
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who watch end unseen
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        data, files, _, _ = socket.recv_fds(asked, 1 << 20, 2)
        if not data:
            sys.exit()
        out, told = files
        if os.fork() == 0:
            asked.close()
            _watched(told)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.close(out)
            _install_reactor(later)
            return dict(json.loads(data))
        os.close(out)
        os.close(told)


def _watched(told: int) -> None:
    """Go on in a child of this process, which tells the child's id and how it ended, and ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    with socket.socket(fileno=told) as teller:
        if pid:
            teller.send(struct.pack("i", pid))
            teller.send(struct.pack("i", os.waitpid(pid, 0)[1]))
            os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _install_reactor(later: ModuleType) -> None:
    """Make the reactor, and put it where modules hold *later* in its place."""
    del sys.modules[_REACTOR]
    reactor = import_module(_REACTOR)
    for module in tuple(sys.modules.values()):
        for name, value in tuple(vars(module).items()):
            if value is later:
                setattr(module, name, reactor)


def become(argv: list[str], cwd: str, env: dict[str, str]) -> None:
    """Do what ``python -m`` does with *argv*."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = cwd
    sys.argv = argv
    runpy.run_module(argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    become(**next_call(socket.socket(fileno=int(sys.argv[1]))))
