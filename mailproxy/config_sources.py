"""
Where the text of a setting comes from: the command line, the environment, the ini file.

In each of the three a secret may be given as the path of a file that holds it: ``NAME_FILE`` for
``NAME``. The stronger source wins; within one source, a value and a file for it are an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from configparser import ConfigParser
from configparser import Error as IniError
from pathlib import Path
from typing import Any

import attrs

from mailproxy.config_values import DatabasePath, Kind, shown
from mailproxy.errors import ConfigurationError

#: The ini file that is read if it is there and no other is named.
DEFAULT_INI = "config.ini"

#: More than any token or key list takes.
_MAX_SECRET_FILE = 65536


@attrs.frozen
class Variable:
    """
    One setting, as it is declared.

    :param field: its name in ``Settings``.
    :param section: of the ini file; *key* likewise.
    :param shown: the default in words, where it is not simply *default*.
    """

    field: str
    section: str
    key: str
    kind: Kind
    default: Any
    secret: bool
    says: str
    shown: str = ""

    @property
    def name(self) -> str:
        """Of the environment variable."""
        return f"GMP_{self.field.upper()}"

    @property
    def option(self) -> str:
        """On the command line; a secret's value never stands there, only the file it is in."""
        return f"{self.field}_file" if self.secret else self.field

    @property
    def in_file(self) -> bool:
        """Whether a file may hold it; a secret may be part of it."""
        return self.secret or isinstance(self.kind, DatabasePath)

    @property
    def default_text(self) -> str:
        """The default as it would be written; "" for none."""
        if self.shown:
            return self.shown
        if self.default is None:
            return ""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        values = self.default if isinstance(self.default, tuple) else (self.default,)
        return ",".join(f"{v:.10g}" if isinstance(v, float) else str(v) for v in values)


def setting(
    where: str, kind: Kind, default: Any, says: str, *, secret: bool = False, shown: str = ""
) -> Any:
    """
    A field of ``Settings``.

    :param where: ``section.key`` in the ini file.
    :param shown: the default in words, where it is not simply *default*.
    """
    section, _, key = where.partition(".")
    return attrs.field(
        default=default,
        repr=not secret,
        metadata={
            "section": section, "key": key, "kind": kind, "secret": secret,
            "says": says, "shown": shown,
        },
    )  # fmt: skip


@attrs.frozen
class Ini:
    """
    An ini file that was read.

    :param path: None if there is none.
    :param entries: text by (section, key).
    """

    path: Path | None
    entries: Mapping[tuple[str, str], str]


def read_ini(options: Mapping[str, str], environ: Mapping[str, str], base: Path) -> Ini:
    """
    Read the file named by ``--config`` or ``GMP_CONFIG``, else ``config.ini`` if it is there.

    :raises ConfigurationError: it cannot be read, or is not an ini file.
    """
    named = (options.get("config") or environ.get("GMP_CONFIG") or "").strip()
    path = base / (named or DEFAULT_INI)
    if not named and not path.exists():
        return Ini(None, {})
    return parse_ini("GMP_CONFIG", path)


def parse_ini(variable: str, path: Path) -> Ini:
    """
    Read an ini file.

    :param variable: what named it.
    :raises ConfigurationError: it cannot be read, or is not an ini file.
    """
    text = read_text(variable, path)
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except IniError as error:
        # Their texts quote the line, which may be a secret.
        number = getattr(error, "lineno", None)
        if number is None and getattr(error, "errors", None):
            number = error.errors[0][0]  # type: ignore[attr-defined]  # of ParsingError
        problem = (
            f"{shown(str(path), 200)} is not an ini file: {type(error).__name__}, line {number}"
        )
        raise ConfigurationError(variable, problem) from None
    return Ini(
        path,
        {
            (section, key): value
            for section in parser.sections()
            for key, value in parser.items(section)
        },
    )


def read_text(variable: str, path: Path) -> str:
    """:raises ConfigurationError: the file *path*, named by *variable*, cannot be read."""
    name = shown(str(path), 200)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(variable, f"there is no file {name}") from None
    except OSError as error:
        raise ConfigurationError(variable, f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(variable, f"{name} is not UTF-8") from None


def find(
    variable: Variable,
    options: Mapping[str, str],
    environ: Mapping[str, str],
    ini: Ini,
    base: Path,
) -> Any | None:
    """
    The value of *variable* from the strongest source that has one; None if none has.

    :raises ConfigurationError: it is not a value of the variable's kind.
    """
    section, key = variable.section, variable.key
    option = variable.field.replace("_", "-")
    at = f"[{section}] {key} in {ini.path}"
    name, here = variable.name, ini.entries
    sources = (
        (f"{name} (--{option})", options.get(variable.field),
         f"{name} (--{option}-file)", options.get(f"{variable.field}_file")),
        (name, environ.get(name), f"{name}_FILE", environ.get(f"{name}_FILE")),
        (f"{name} ({at})", here.get((section, key)),
         f"{name} ({at}, _file)", here.get((section, f"{key}_file"))),
    )  # fmt: skip
    for label, value, file_label, file in sources:
        text, path = (value or "").strip(), (file or "").strip() if variable.in_file else ""
        if text and path:
            raise ConfigurationError(label, f"given twice: also as {file_label}")
        if path:
            label, text = file_label, read_secret(file_label, base / path)
        if text:
            try:
                return variable.kind.read(text, base)
            except ValueError as error:
                raise ConfigurationError(label, str(error)) from None
    return None


def read_secret(label: str, path: Path) -> str:
    """
    The content of a secret's file, without the white space around it.

    :param label: what named it.
    :raises ConfigurationError: it cannot be read, is empty, or too large for a secret.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SECRET_FILE + 1)
    except OSError as error:
        problem = f"cannot read {shown(str(path), 200)}: {error.strerror}"
        raise ConfigurationError(label, problem) from None
    if len(content) > _MAX_SECRET_FILE:
        raise ConfigurationError(label, f"{shown(str(path), 200)} is too large for a secret")
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigurationError(label, f"{shown(str(path), 200)} is not UTF-8") from None
    if not text:
        raise ConfigurationError(label, f"{shown(str(path), 200)} is empty")
    return text


def account_of(section: str) -> str | None:
    """The name of the account that a section ``[account NAME]`` declares; None for another."""
    word, _, name = section.strip().partition(" ")
    return name.strip() if word.lower() == "account" and name.strip() else None


def strangers(
    variables: Collection[Variable],
    environ: Mapping[str, str],
    ini: Ini,
) -> list[str]:
    """One warning for each name that looks like ours and is not read."""
    known = {"GMP_CONFIG"}
    places = set()
    for variable in variables:
        known.add(variable.name)
        places.add((variable.section, variable.key))
        if variable.in_file:
            known.add(f"{variable.name}_FILE")
            places.add((variable.section, f"{variable.key}_file"))
    warnings = []
    for name in sorted(name for name in environ if name.startswith("GMP_") and name not in known):
        near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.85)
        hint = f"; did you mean {near[0]}?" if near else ""
        warnings.append(f"{shown(name)[1:-1]}: unknown variable{hint}")
    unread = (place for place in ini.entries if place not in places)
    for section, key in sorted(unread):
        if account_of(section) is not None:
            continue
        entry = shown(f"[{section}] {key}")[1:-1]
        warnings.append(f"{entry} in {ini.path}: not an entry this release reads")
    return warnings
