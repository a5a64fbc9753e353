"""
A real PostgreSQL server for tests: started when first asked for, once in each process of tests.

It keeps nothing safe from a crash of the machine, and ends with the process that asked for it.
"""

from __future__ import annotations

import atexit
import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import attrs
import psycopg

from mailproxy.proving.cluster import Cluster

#: For speed, and so that a test can open as many stores as it wants.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


@attrs.define
class Server(Cluster):
    """One cluster, and how tests look into it and make databases."""

    settings: dict[str, str] = attrs.Factory(lambda: dict(SETTINGS))
    password: str = attrs.field(default="secret", repr=False)
    _made: int = attrs.field(default=0, init=False)
    _connections: dict[str, psycopg.Connection[Any]] = attrs.field(factory=dict, init=False)

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
