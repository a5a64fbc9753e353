"""How a torture run is wanted, and with which settings its processes are started."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from mailproxy.crypto import new_key
from mailproxy.model import DEFAULT_TENANT
from mailproxy.proving.children import clean_environment
from mailproxy.proving.torture_database import Database, File
from mailproxy.proving.torture_enrol import Sink
from mailproxy.proving.torture_plan import ACCOUNTS

#: Seconds between the attempts of one message, so short that nobody has to wait for the end.
RETRY_DELAYS = "0.3,0.6,1"

#: What the receiver of reports does where several nodes could call it at once: it takes its time.
REPORTS = """\
title = "Reports take a moment"

[[report]]
delay = 0.1
"""


@attrs.frozen(kw_only=True)
class Settings:
    """
    :param directory: for everything the run writes.
    :param seconds: after which nothing is killed any more.
    :param database: None: an SQLite file in *directory*.
    :param nodes: processes of the service; several need a database that they can share.
    :param lease: seconds for which a node counts as alive after it last said so.
    :param restart_every: least and most seconds between two restarts of the database's server.
    :param restarts: of these at most; None for any number.
    :param service: the command that runs the service.
    :param environment: what is added to the service's environment.
    """

    directory: Path
    seconds: float
    database: Database | None = None
    nodes: int = 1
    lease: float = 60.0
    restart_every: tuple[float, float] | None = None
    restarts: int | None = None
    service: Sequence[str] = (sys.executable, "-m", "mailproxy", "serve")
    environment: Mapping[str, str] = attrs.Factory(dict)

    def opened(self) -> Database:
        """The database that is used."""
        return self.database or File(self.directory / "mail.db")


def environment(settings: Settings, database: Database, sink: Sink, token: str) -> dict[str, str]:
    """What is the same for all nodes; the default tenant's accounts are written to their file."""
    accounts = settings.directory / "accounts.ini"
    accounts.write_text(
        "\n".join(
            f"[account {name}]\nhost = 127.0.0.1\nport = {sink.smtp_port}\ntls_mode = plain\n"
            f"max_sessions = {sessions}\nis_default = {str(name == 'main').lower()}\n"
            for name, sessions in ACCOUNTS.items()
        )
    )
    return {
        **clean_environment(),
        "GMP_HOST": "127.0.0.1",
        "GMP_API_TOKEN": token,
        "GMP_DB_PATH": database.url,
        "GMP_DATA_DIR": str(settings.directory),
        "GMP_ENCRYPTION_KEY": new_key(),
        "GMP_NODE_LEASE_SECONDS": f"{settings.lease:g}",
        "GMP_ACCOUNTS_FILE": str(accounts),
        "GMP_CLIENT_SYNC_URL": sink.url(DEFAULT_TENANT),
        "GMP_SMTP_ALLOW": "127.0.0.1",
        "GMP_SMTP_PLAINTEXT_AUTH": "127.0.0.1",
        "GMP_RETRY_DELAYS": RETRY_DELAYS,
        "GMP_LOG_LEVEL": "WARNING",
    }


def sink_command(settings: Settings, seed: int) -> list[str]:
    """How the upstream and the receiver of reports are started."""
    directory = settings.directory
    command = [
        *(sys.executable, "-m", "mailproxy", "sink", "--smtp-port=0", "--http-port=0"),
        *("--delay=0-50ms", f"--seed={seed}", "--slow=0.4", "--quiet", "--keep=1"),
        f"--ledger={directory / 'copies.jsonl'}",
        f"--report-ledger={directory / 'reports.jsonl'}",
    ]
    if settings.nodes > 1:
        scenario = directory / "reports.toml"
        scenario.write_text(REPORTS)
        command.append(f"--scenario={scenario}")
    return command
