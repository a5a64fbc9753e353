"""
``mailproxy backup`` and ``mailproxy restore``: a copy of the database, and the way back.

They work on the database that the settings name, not through the service: a backup beside a
service that runs, a restore only where none does.
"""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailproxy.cli.group import Refused
from mailproxy.cli.output import Output, json_option, progress
from mailproxy.cli.settings import load_settings, setting_options
from mailproxy.clock import Names, SystemClock
from mailproxy.config import Settings
from mailproxy.config_database import DatabaseUrl
from mailproxy.config_secrets import kept_keys
from mailproxy.crypto import Sealer
from mailproxy.errors import ConfigurationError, StoreError, StoreRefused
from mailproxy.metrics import Metrics
from mailproxy.service_store import open_store
from mailproxy.store.backup import Copied, back_up, put_back
from mailproxy.store.database import LockFile

T = TypeVar("T")

#: The settings that say which database, and what its secrets are sealed with.
WHERE = ("db_path", "data_dir", "api_token", "allow_no_token", "encryption_key")

ELSEWHERE = (
    "backup and restore are for SQLite: use pg_dump and pg_restore for a database on a server, "
    "and `mailproxy restore --hold-only` on what was restored"
)


def make_backup(file: Path, json: bool, **given: Any) -> None:
    """Copy the database, and say what is in the copy and what is not."""
    output = Output(json)
    settings = load_settings(given, accounts=False)
    database = settings.db_path
    if isinstance(database, DatabaseUrl):
        raise Refused(ELSEWHERE)
    try:
        with progress("copying", "pages", output) as bar:
            copied = back_up(database, file, bar.to)
    except StoreRefused as error:
        raise click.ClickException(str(error)) from None
    missing = _not_in_it(settings)
    if json:
        output.json(_told(copied) | {"not_included": missing})
        return
    output.say(
        f"{copied.path}: {copied.size} bytes, schema {copied.schema}, {copied.messages} messages, "
        f"{copied.unfinished} of them unfinished; it is sound"
    )
    output.say("Keep by itself what is not in it: " + "; ".join(missing) + ".")


def _not_in_it(settings: Settings) -> list[str]:
    key = "GMP_ENCRYPTION_KEY" if settings.encryption_key else str(settings.key_file)
    token = "GMP_API_TOKEN" if settings.api_token else str(settings.token_file)
    return [
        f"the encryption key ({key}), without which its passwords cannot be opened",
        f"the API token ({token})",
        "large attachments that were put away as files",
        "the configuration",
    ]


def put_in_place(file: Path | None, hold_only: bool, json: bool, **given: Any) -> None:
    """Bring a copy back, with everything unfinished in it held."""
    output = Output(json)
    settings = load_settings(given, accounts=False)
    if hold_only == (file is not None):
        raise Refused("give either the FILE to restore or --hold-only")
    try:
        if file is None:
            held = _hold(settings, output)
        elif isinstance(settings.db_path, DatabaseUrl):
            raise Refused(ELSEWHERE)
        else:
            held = _restore(settings, settings.db_path, file, output)
    except ConfigurationError as error:
        raise Refused(str(error)) from None
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    if json:
        output.json({"ok": True, "held": held})
        return
    what = "held" if file is None else f"{settings.db_path} is restored"
    output.say(f"{what}: {held} messages were unfinished, and are held until an operator decides")
    if held:
        output.say(
            "They may have been sent since: `mailproxy messages list --state held` shows them; "
            "release those that were not, close those that were."
        )


def _restore(settings: Settings, database: Path, file: Path, output: Output) -> int:
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = LockFile(database.with_name(database.name + ".lock"))
    lock.acquire()
    try:
        with progress("copying", "pages", output) as bar, put_back(file, database, bar.to) as draft:
            return _hold(attrs.evolve(settings, db_path=draft), output)
    finally:
        lock.release()


def _hold(settings: Settings, output: Output) -> int:
    """
    Hold all that is unfinished in the database of *settings*, brought to the newest schema.

    :raises StoreError: somebody has it, its secrets were sealed with another key, ...
    """
    if isinstance(settings.db_path, Path) and not settings.db_path.exists():
        raise StoreRefused(f"there is no database {settings.db_path}")
    clock = SystemClock(Clock())
    store = open_store(None, settings, clock, Names(), Sealer(kept_keys(settings)), Metrics(), None)
    store.open()
    try:
        others = [each for each in _now(store.nodes(clock.now())) if each.id != store.node_id]
        if isinstance(settings.db_path, DatabaseUrl) and any(each.alive for each in others):
            raise StoreRefused("nodes have the database: stop them first, and wait half a minute")
        with progress("holding", "messages", output) as bar:
            return _now(store.hold_unfinished(clock.now(), bar.so_far))
    finally:
        _now(store.close())


def _now(awaitable: Awaitable[T]) -> T:
    """The result of a store that does everything at once."""

    async def wait() -> T:
        return await awaitable

    found: list[T | Failure] = []
    Deferred.fromCoroutine(wait()).addBoth(found.append)
    (result,) = found
    if isinstance(result, Failure):
        result.raiseException()
    return result


def _told(copied: Copied) -> dict[str, Any]:
    return {
        "ok": True,
        "file": str(copied.path),
        "bytes": copied.size,
        "schema": copied.schema,
        "messages": copied.messages,
        "unfinished": copied.unfinished,
    }


backup = click.Command(
    "backup",
    callback=make_backup,
    params=[
        click.Argument(["file"], type=click.Path(path_type=Path, dir_okay=False)),
        json_option("Print what was done as JSON."),
        *setting_options(WHERE),
    ],
    help=(
        "Copy the database to FILE, while the service goes on or while it is stopped.\n\n"
        "The copy is the state of one instant, checked, and complete once it has its name; a FILE "
        "that is there is not overwritten. In it is every message, account, tenant and report that "
        "is not yet taken. Not in it are the encryption key, without which its passwords cannot be "
        "opened, the API token, large attachments that were put away as files, and the "
        "configuration.\n\n"
        "Run it where and as whom the service runs. SQLite only; on a server use pg_dump."
    ),
)

restore = click.Command(
    "restore",
    callback=put_in_place,
    params=[
        click.Argument(["file"], required=False, type=click.Path(path_type=Path, dir_okay=False)),
        click.Option(
            ["--hold-only"],
            is_flag=True,
            help="Copy nothing: hold what is unfinished in the database that is configured, after "
            "it was restored by other means, such as pg_restore.",
        ),
        json_option("Print what was done as JSON."),
        *setting_options(WHERE),
    ],
    help=(
        "Put the copy FILE in the place of the database, where there is none, with the service "
        "stopped.\n\n"
        "What left after the backup was made is unknown. So all that is unfinished in it comes up "
        "held, and nothing of it is sent before an operator releases it; close what turns out to "
        "have been sent. What had ended and is not yet reported, is reported. The encryption key "
        "has to be in its place before: in GMP_ENCRYPTION_KEY or in the data directory."
    ),
)
