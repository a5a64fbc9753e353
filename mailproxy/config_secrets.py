"""
The data directory and what a first start puts there: token, key, and an empty database.

Called when the service starts, not when it is configured: by then a daemon has forked and the
process has the user it will run as, who must own the files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import attrs
from twisted.logger import Logger

from mailproxy.config import Settings
from mailproxy.config_database import DatabaseUrl
from mailproxy.config_values import Keys, Token
from mailproxy.crypto import new_key, new_token
from mailproxy.errors import ConfigurationError
from mailproxy.log import hide

_log = Logger()

T = TypeVar("T")


@attrs.frozen
class Secrets:
    """
    What the running service needs to know.

    :param api_token: None: the API is open to this machine.
    :param keys: for a :class:`mailproxy.crypto.Sealer`.
    """

    api_token: str | None = attrs.field(repr=False)
    keys: tuple[str, ...] = attrs.field(repr=False)


def obtain(settings: Settings) -> Secrets:
    """
    Make sure of the directories, and give the token and keys: as configured, else as kept in the
    data directory, else new ones.

    What is given is kept out of the log from then on. A new key is made only for a new store: what
    an older key sealed would be lost with it.

    :raises ConfigurationError: a directory is not writable, a file is damaged, or the key of an
        existing store is missing.
    """
    database = settings.db_path
    if isinstance(database, DatabaseUrl):
        hide(*database.passwords)
    else:
        _make_writable("GMP_DB_PATH", database.parent)
    _make_writable("GMP_DATA_DIR", settings.data_dir)
    secrets = Secrets(_token(settings), _keys(settings))
    if not isinstance(database, DatabaseUrl):
        _make_private(database)
    hide(secrets.api_token, *secrets.keys)
    return secrets


def kept_token(settings: Settings) -> str | None:
    """
    The API token in force, for the operator's own command; makes nothing.

    :return: None if there is none (yet).
    :raises ConfigurationError: the file cannot be read or is damaged.
    """
    if settings.api_token is not None or settings.allow_no_token:
        return settings.api_token
    return _kept("GMP_API_TOKEN", settings.token_file, Token().read)


def kept_keys(settings: Settings) -> tuple[str, ...]:
    """
    The encryption keys in force, for the operator's own command; makes nothing.

    :raises ConfigurationError: there are none, or the file cannot be read or is damaged.
    """
    keys = settings.encryption_key or _kept("GMP_ENCRYPTION_KEY", settings.key_file, Keys().read)
    if not keys:
        raise ConfigurationError(
            "GMP_ENCRYPTION_KEY", f"missing, and {settings.key_file} is not there"
        )
    return keys


def _token(settings: Settings) -> str | None:
    if settings.api_token is not None or settings.allow_no_token:
        return settings.api_token
    path = settings.token_file
    token = _kept("GMP_API_TOKEN", path, Token().read)
    if token is None:
        token = _keep("GMP_API_TOKEN", path, new_token())
        _log.info("made an API token: {path}", path=str(path))
    else:
        _log.info("the API token is in {path}", path=str(path))
    return token


def _keys(settings: Settings) -> tuple[str, ...]:
    if settings.encryption_key:
        return settings.encryption_key
    path = settings.key_file
    keys = _kept("GMP_ENCRYPTION_KEY", path, Keys().read)
    if keys is not None:
        return keys
    database = settings.db_path
    # On a server nothing is made up: the settings are refused without a key.
    if not isinstance(database, Path) or (database.exists() and database.stat().st_size):
        raise ConfigurationError(
            "GMP_ENCRYPTION_KEY",
            f"missing, and {path} is not there, but the store {database} is: its passwords are "
            "sealed with that key",
        )
    key = _keep("GMP_ENCRYPTION_KEY", path, new_key())
    _log.info(
        "made an encryption key: {path}; a backup of the store is worth nothing without it",
        path=str(path),
    )
    return Keys().read(key, path.parent)


def _make_writable(variable: str, directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(variable, f"cannot make {directory}: {error.strerror}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(variable, f"{directory} is not writable for this user")


def _make_private(database: Path) -> None:
    """Let a new database be one that only its owner can read; an old one stays as it is."""
    try:
        os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise ConfigurationError(
            "GMP_DB_PATH", f"cannot make {database}: {error.strerror}"
        ) from None


def _kept(variable: str, path: Path, read: Callable[[str, Path], T]) -> T | None:
    """What an earlier start kept in *path*; None if there is no such file."""
    try:
        text = path.read_text(encoding="ascii").strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(variable, f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(variable, f"{path} is damaged") from None
    if mode & 0o077:
        _log.warn("{path} can be read by others (mode {mode})", path=str(path), mode=f"{mode:o}")
    try:
        return read(text, path.parent)
    except ValueError:
        raise ConfigurationError(variable, f"{path} is damaged") from None


def _keep(variable: str, path: Path, secret: str) -> str:
    """
    Write *secret* to *path*, whole or not at all, readable for the owner only, and durable.

    :return: what is in the file afterwards: *secret*, or what another start wrote just before.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, f"{secret}\n".encode("ascii"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            _name(draft, path)
        except FileExistsError:
            return path.read_text(encoding="ascii").strip()
        _sync(path.parent)
    except OSError as error:
        raise ConfigurationError(variable, f"cannot write {path}: {error.strerror}") from None
    return secret


def _name(draft: Path, path: Path) -> None:
    """Give *draft* its final name. :raises FileExistsError: another start was faster."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        draft.rename(path)  # a file system without hard links
    finally:
        draft.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    """Make a new name in *directory* survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
