"""Fields of what is declared: given one by one, or as a JSON object in a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import click
import msgspec

from mailproxy.cli.connection import content
from mailproxy.cli.group import Refused

#: What is not given where every user of the machine can read it.
SECRETS = frozenset(
    ("password", "token", "signing_secret", "client_secret", "refresh_token", "private_key")
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def field_options() -> list[click.Option]:
    return [
        click.Option(
            ["--set", "fields"],
            multiple=True,
            metavar="FIELD=VALUE",
            help="Any other field of the API, as JSON or as text; may be repeated.",
        ),
        click.Option(
            ["--from", "file"],
            metavar="FILE",
            help="A JSON object with fields, - for the standard input; options win over it.",
        ),
    ]


def read_fields(
    fields: Sequence[str], file: str | None, given: dict[str, Any], clears: bool = False
) -> dict[str, Any]:
    """
    The fields of a request.

    :param given: by options of their own; None: not given.
    :param clears: whether ``FIELD=null`` says something.
    :raises Refused: one cannot be read, or is a secret.
    """
    found = {} if file is None else _object(file)
    for each in fields:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise Refused(f"--set {name}: expected FIELD=VALUE")
        value = _value(text)
        if not _open(name, value) and value is not None:
            raise Refused(f"--set {name}: a secret; give it in a file with --from, or when asked")
        if value is None and not clears:
            continue
        found[name] = value
    return found | {name: value for name, value in given.items() if value is not None}


def _open(name: str, value: Any) -> bool:
    if name in SECRETS:
        return False
    return not isinstance(value, dict) or all(_open(key, each) for key, each in value.items())


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return text


def _object(file: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content(file), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Refused(f"--from {file}: not a JSON object: {error}") from None


class Instant(click.ParamType[float]):
    """
    Unix seconds, ISO 8601, or a time that is so long ago: ``30m``, ``2h``, ``7d``.

    :param now: gives the Unix time.
    """

    name = "TIME"

    def __init__(self, now: Any) -> None:
        self._now = now

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip()
        try:
            if text[-1:] in _UNITS and text[:-1].replace(".", "", 1).isdigit():
                return float(self._now()) - float(text[:-1]) * _UNITS[text[-1]]
            if text.replace(".", "", 1).isdigit():
                return float(text)
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.astimezone()).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{text!r} is no time: 1735689600, 2025-01-01T00:00Z, or 2h for two hours ago"
            )


def one_of(kind: type[StrEnum]) -> click.Choice[str]:
    """One of the words of *kind*."""
    return click.Choice([each.value for each in kind])


def names(values: Iterable[str]) -> str:
    """A list of words as a cell."""
    return " ".join(values)
