"""
Every setting of the service, declared once, and how a start comes by its values.

A setting is one field of :class:`Settings`. The field's name gives the variable (``GMP_`` and the
name in capitals) and the option (``--`` and the name with dashes); ``setting()`` adds the place in
the ini file, the kind of value, the default and what it is for. The reference in ``docs/`` is made
from the same table.

:func:`load` only reads. What must be made first — the data directory, a token, a key — is
:mod:`mailproxy.config_secrets`' business, once the service has the user it runs as.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from mailproxy.config_accounts import declared
from mailproxy.config_attachments import AttachmentSettings, Places
from mailproxy.config_check import check, is_local
from mailproxy.config_database import DatabaseUrl
from mailproxy.config_sources import Variable, find, read_ini, setting, strangers
from mailproxy.config_submission import Peers, SubmissionSettings
from mailproxy.config_values import (
    Certificates,
    Credential,
    DatabasePath,
    Delays,
    Directory,
    File,
    HeloName,
    Host,
    Keys,
    Listen,
    Port,
    ReplyRules,
    Seconds,
    Switch,
    Token,
    Url,
    Whole,
    Word,
)
from mailproxy.log import FORMATS
from mailproxy.records import AccountSpec
from mailproxy.reply_rules import Rule

_DAY = 86400.0
_YEAR = 365 * _DAY


@attrs.frozen(kw_only=True)
class Settings(AttachmentSettings, SubmissionSettings):
    """
    What the service was told, checked. Paths are absolute; nothing has been made or opened yet.

    :param accounts: those that are declared.
    :param warnings: what the operator should know of the configuration, one line each.
    """

    host: str = setting("server.host", Host(), "0.0.0.0", "Address the API listens on.")
    port: int = setting("server.port", Port(), 8000, "Port of the API; 0: any free one.")
    http_listen: tuple[str, ...] = setting(
        "server.listen", Listen(), (), "Where the API listens, instead of host and port."
    )
    api_token: str | None = setting(
        "server.api_token",
        Token(),
        None,
        "The admin token of the API; 32 characters or more.",
        secret=True,
        shown="generated into the data directory",
    )
    metrics_token: str | None = setting(
        "server.metrics_token",
        Token(),
        None,
        "The token /metrics asks for, if it shall ask for one.",
        secret=True,
    )
    allow_no_token: bool = setting(
        "server.allow_no_token",
        Switch(),
        False,
        "Serve the API without a token; only where it listens on this machine alone.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "server.trusted_proxies",
        Peers(),
        (),
        "Reverse proxies whose X-Forwarded-For says who is calling.",
    )
    ca_file: Path | None = setting(
        "server.ca_file", Certificates(), None, "Further certificate authorities to trust."
    )

    db_path: Path | DatabaseUrl = setting(
        "storage.db_path",
        DatabasePath(),
        Path("data/mail_service.db"),
        "The database that holds every message: a file of SQLite, or "
        "postgresql://user:password@host/database for any number of nodes.",
        shown="/data/mail_service.db where /data exists, else ./data/mail_service.db",
    )
    db_check_seconds: float = setting(
        "storage.db_check_seconds",
        Seconds(0, 86400),
        10.0,
        "How long a file of SQLite that was not closed is looked through for damage at the start; "
        "0: not at all.",
    )
    data_dir: Path = setting(
        "storage.data_dir",
        Directory(),
        Path("data"),
        "Where the generated token and key are kept.",
        shown="the directory of the database",
    )
    allow_ephemeral: bool = setting(
        "storage.allow_ephemeral",
        Switch(),
        False,
        "Let `mailproxy container` keep the database where it is lost with the container.",
    )
    accounts_file: Path | None = setting(
        "server.accounts_file", File(), None, "A file that declares accounts, ini or JSON."
    )
    encryption_key: tuple[str, ...] = setting(
        "security.encryption_key",
        Keys(),
        (),
        "The key that account passwords are sealed with.",
        secret=True,
        shown="generated into the data directory",
    )

    node_lease_seconds: float = setting(
        "storage.node_lease_seconds",
        Seconds(2, 3600),
        60.0,
        "How long a node counts as alive after it last said so to a PostgreSQL server.",
    )

    scheduler_active: bool = setting(
        "scheduler.active", Switch(), True, "Send mail; if not, wait for the activate command."
    )

    client_sync_url: str | None = setting(
        "client.client_sync_url", Url(), None, "Where delivery reports are POSTed."
    )
    client_sync_user: str | None = setting(
        "client.client_sync_user", Credential(), None, "User for the report URL (Basic)."
    )
    client_sync_password: str | None = setting(
        "client.client_sync_password", Credential(), None, "Its password.", secret=True
    )
    client_sync_token: str | None = setting(
        "client.client_sync_token",
        Token(),
        None,
        "Token for the report URL (Bearer); wins over user and password.",
        secret=True,
    )
    client_sync_timeout: float = setting(
        "client.client_sync_timeout",
        Seconds(1, 3600),
        300.0,
        "How long one report call may take; the application may submit mail inside it.",
    )
    client_sync_interval: float = setting(
        "client.client_sync_interval",
        Seconds(0.1, _DAY),
        300.0,
        "An empty report is sent after this time without other contact.",
    )

    send_loop_interval: float = setting(
        "delivery.send_interval_seconds",
        Seconds(0.01, 3600),
        0.5,
        "How often to look for due mail besides being woken; a net, not a pace.",
    )
    test_mode: bool = setting(
        "delivery.test_mode", Switch(), False, "Nothing is sent until run-now, then what is due."
    )
    default_priority: int = setting(
        "delivery.default_priority", Whole(0, 3), 2, "Priority of a message that names none."
    )
    batch_size_per_account: int = setting(
        "delivery.batch_size_per_account",
        Whole(1, 10_000),
        50,
        "Most messages of one account taken up at once.",
    )
    retry_delays: tuple[float, ...] = setting(
        "delivery.retry_delays",
        Delays(Seconds(0.01, _YEAR)),
        (60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0),
        "Seconds to wait after the 1st, 2nd, ... failed attempt; the last one repeats.",
    )
    max_age_seconds: float = setting(
        "delivery.max_age_seconds",
        Seconds(1, _YEAR),
        _DAY,
        "How long a message is tried before it fails.",
    )
    account_fault_max_age_seconds: float = setting(
        "delivery.account_fault_max_age_seconds",
        Seconds(1, _YEAR),
        5 * _DAY,
        "The same while the account, not the message, is at fault.",
    )
    oauth_allow: tuple[str, ...] = setting(
        "delivery.oauth_allow",
        Places(),
        (),
        "Private addresses, and hosts with private addresses, that token URLs may name.",
    )
    reply_rules: tuple[Rule, ...] = setting(
        "delivery.reply_rules", ReplyRules(), (), "What certain replies mean, before what is known."
    )
    helo_name: str = setting(
        "delivery.helo_name",
        HeloName(),
        "localhost",
        "What we call ourselves in EHLO and in the Message-IDs we make.",
        shown="the name of the host",
    )
    drain_seconds: float = setting(
        "delivery.drain_seconds",
        Seconds(0, 3600),
        25.0,
        "How long a stop waits for deliveries that have begun.",
    )
    delivery_report_retention_seconds: float = setting(
        "delivery.delivery_report_retention_seconds",
        Seconds(0, 10 * _YEAR),
        7 * _DAY,
        "How long finished and reported messages are kept.",
    )
    idempotency_seconds: float = setting(
        "delivery.idempotency_seconds",
        Seconds(0, 10 * _YEAR),
        30 * _DAY,
        "How long the id of a removed message is remembered, so that it is not sent again.",
    )
    report_max_age_seconds: float = setting(
        "delivery.report_max_age_seconds",
        Seconds(1, 10 * _YEAR),
        30 * _DAY,
        "How long a report that is not taken is kept.",
    )

    max_request_bytes: int = setting(
        "limits.max_request_bytes", Whole(1024, 2**31 - 1), 64 * 2**20, "Largest API request."
    )
    max_batch: int = setting(
        "limits.max_batch", Whole(1, 100_000), 10_000, "Most messages in one request."
    )
    max_message_bytes: int = setting(
        "limits.max_message_bytes",
        Whole(1024, 2**30),
        50 * 2**20,
        "Largest message, composed.",
    )
    max_recipients: int = setting(
        "limits.max_recipients", Whole(1, 100_000), 1000, "Most recipients of one message."
    )

    log_level: str = setting(
        "logging.level",
        Word(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
        "INFO",
        "What is logged; DEBUG also tells each HTTP request, SMTP command and reply.",
    )
    log_format: str = setting(
        "logging.format",
        Word(FORMATS),
        "auto",
        "How the log is written: text for a person, json for one object a line; auto is text on a "
        "terminal, json elsewhere.",
    )
    log_delivery_activity: bool = setting(
        "logging.delivery_activity",
        Switch(),
        False,
        "One line per delivery attempt and per report call.",
    )

    accounts: tuple[AccountSpec, ...] = attrs.field(default=(), repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def listen(self) -> tuple[str, ...]:
        """The endpoint descriptions of the API, at least one."""
        if self.http_listen:
            return self.http_listen
        kind = "tcp6" if ":" in self.host else "tcp"
        interface = self.host.replace(":", "\\:")
        return (f"{kind}:{self.port}:interface={interface}:backlog=1024",)

    @property
    def local(self) -> bool:
        """Whether the API can be reached from this machine only."""
        return all(map(is_local, self.listen))

    @property
    def token_file(self) -> Path:
        """Where a generated API token is kept."""
        return self.data_dir / "api-token"

    @property
    def key_file(self) -> Path:
        """Where a generated encryption key is kept."""
        return self.data_dir / "encryption-key"


#: Every variable in force, in the order of the reference.
VARIABLES: tuple[Variable, ...] = tuple(
    Variable(field=field.name, default=field.default, **field.metadata)
    for field in attrs.fields(Settings)
    if field.metadata
)


def load(
    environ: Mapping[str, str],
    options: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
    *,
    accounts: bool = True,
    volume: Path = Path("/data"),
    hostname: Callable[[], str] = socket.gethostname,
) -> Settings:
    """
    Put together what the command line, the environment and the ini file say, in that order.

    An empty value counts as not given. Reads files, makes none.

    :param options: option names with underscores, as in ``{"port": "8025"}``; None: not given.
    :param cwd: where relative paths start, and ``config.ini`` is looked for; absolute.
    :param accounts: whether declared accounts are read, with their secrets.
    :param volume: a directory to keep the database in by default, if it exists.
    :param hostname: gives the host's name.
    :raises ConfigurationError: the first value that is wrong.
    """
    base = Path.cwd() if cwd is None else cwd
    given = {name: text for name, text in (options or {}).items() if text is not None}
    ini = read_ini(given, environ, base)
    values: dict[str, Any] = {}
    for variable in VARIABLES:
        found = find(variable, given, environ, ini, base)
        if found is not None:
            values[variable.field] = found
    warnings = strangers(VARIABLES, environ, ini)
    _fill(values, base, volume, hostname, warnings)
    if accounts:
        values["accounts"] = declared(ini, values.get("accounts_file"), environ, base)
    settings = Settings(**values)
    warnings += check(settings)
    return attrs.evolve(settings, warnings=tuple(warnings))


def _fill(
    values: dict[str, Any],
    base: Path,
    volume: Path,
    hostname: Callable[[], str],
    warnings: list[str],
) -> None:
    """Set the defaults that depend on where and how the service is started."""
    home = volume if volume.is_dir() else base / "data"
    database = values.setdefault("db_path", home / "mail_service.db")
    values.setdefault("data_dir", database.parent if isinstance(database, Path) else home)
    if "helo_name" not in values:
        name = hostname()
        try:
            values["helo_name"] = HeloName().read(name, base)
        except ValueError:
            warnings.append("GMP_HELO_NAME: the host's name is no domain name; using localhost")
            values["helo_name"] = "localhost"
