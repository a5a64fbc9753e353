"""
What known replies of known providers mean, where the code alone would mislead.

Pure. A rule names the provider's hosts, the codes and a pattern of the text, and what to do:
*pause* the account, *slow* down, *fail*, treat as temporary (*retry*), or tell a person (*alarm*)
and go on as the code says. The operator's rules come before the shipped ones; the first that fits
counts.

Patterns cannot blow up: a pattern is alternatives (``|``) of pieces (``.*`` between them) without
any repetition, and looks at the first :data:`MOST_TEXT` characters of a reply only.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs

from mailproxy.model import Reply

#: Characters of a reply that patterns see; of a pattern; rules of one file; seconds of a pause.
MOST_TEXT, MOST_PATTERN, MOST_RULES, MOST_PAUSE = 1000, 300, 1000, 86400.0

_PIECE = re.compile(r"(?:\\[dswDSWb.\\/()*+?{}\[\]|^$-]|\[(?:\\.|[^\]\\])+\]|[^\\\[\](){}*+?|])*")
_CODES = re.compile(r"[45](?:xx|[0-9]x|[0-9][0-9])")
_ENHANCED = re.compile(r"[45]\.[0-9]{1,3}\.(?:[0-9]{1,3}|\*)")
_HOST = re.compile(r"[a-z0-9.-]{1,253}")
_FIELDS = frozenset({"name", "hosts", "codes", "enhanced", "text", "action", "seconds"})


class Action(StrEnum):
    """What a rule has done."""

    PAUSE = "pause"
    SLOW = "slow"
    FAIL = "fail"
    RETRY = "retry"
    ALARM = "alarm"


Pieces = tuple[re.Pattern[str], ...]


@attrs.frozen
class Rule:
    """
    :param hosts: the provider's host names, or the domains they end in; none: any host.
    :param codes: such as ``421``, ``45x``, ``5xx``; at least one.
    :param enhanced: such as ``4.7.28`` or ``5.4.*``; "" for any.
    :param pattern: alternatives, each of pieces to be found in this order; none: any text.
    :param seconds: of a pause.
    """

    name: str
    action: Action
    codes: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    enhanced: str = ""
    pattern: tuple[Pieces, ...] = ()
    seconds: float = 0.0

    def fits(self, host: str, reply: Reply) -> bool:
        """Whether *reply*, from the account's *host*, is one of those meant."""
        if not any(_alike(code, str(reply.code)) for code in self.codes):
            return False
        if self.hosts and not any(host == own or host.endswith(f".{own}") for own in self.hosts):
            return False
        if self.enhanced and not _enhanced(self.enhanced, reply.enhanced or ""):
            return False
        text = reply.text[:MOST_TEXT].replace("\n", " ")
        return not self.pattern or any(_found(pieces, text) for pieces in self.pattern)


def _alike(code: str, said: str) -> bool:
    return all(one in ("x", other) for one, other in zip(code, said, strict=True))


def _enhanced(wanted: str, said: str) -> bool:
    return said == wanted or (wanted.endswith("*") and said.startswith(wanted[:-1]))


def _found(pieces: Pieces, text: str) -> bool:
    at = 0
    for piece in pieces:
        found = piece.search(text, at)
        if found is None:
            return False
        at = found.end()
    return True


class RuleBook:
    """
    The rules in force.

    :param own: the operator's, which come first.
    :param shipped: those that come with the program.
    """

    def __init__(self, shipped: Sequence[Rule] = (), own: Sequence[Rule] = ()) -> None:
        self._shipped = tuple(shipped)
        self._rules = (*own, *self._shipped)

    def replace(self, own: Sequence[Rule]) -> None:
        """The operator's rules are these now."""
        self._rules = (*own, *self._shipped)

    def find(self, host: str, reply: Reply) -> Rule | None:
        """The first rule that fits *reply*; None: its code says what it means."""
        if reply.code < 400:
            return None
        name = host.lower().rstrip(".")
        return next((rule for rule in self._rules if rule.fits(name, reply)), None)


def read_rules(text: str) -> tuple[Rule, ...]:
    """
    The rules of a file, TOML with a table ``[[rule]]`` for each.

    :raises ValueError: what is wrong, and in which rule.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    if set(found) - {"rule"}:
        raise ValueError("expected nothing but [[rule]]")
    rules = found.get("rule", [])
    if not isinstance(rules, list) or len(rules) > MOST_RULES:
        raise ValueError(f"expected up to {MOST_RULES} tables [[rule]]")
    read = []
    for number, fields in enumerate(rules, 1):
        try:
            read.append(_rule(fields))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"rule {number}: {_words(error)}") from None
    return tuple(read)


def _words(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def _rule(fields: Any) -> Rule:
    if not isinstance(fields, Mapping):
        raise ValueError("expected a table")
    if strange := sorted(set(fields) - _FIELDS):
        raise ValueError(f"unknown: {', '.join(strange)[:100]}")
    name, action = _text(fields, "name"), _text(fields, "action")
    if action not in tuple(Action):
        raise ValueError(f"action: expected one of {', '.join(Action)}")
    codes = _list(fields["codes"], "codes", _CODES)
    if not codes:
        raise ValueError("codes: expected at least one")
    enhanced = str(fields.get("enhanced", ""))
    if enhanced and not _ENHANCED.fullmatch(enhanced):
        raise ValueError("enhanced: expected such as 4.7.28 or 5.4.*")
    pattern = _pattern(fields["text"]) if "text" in fields else ()
    pause = action == Action.PAUSE
    seconds = fields.get("seconds", 0.0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError("seconds: expected a number")
    if pause != ("seconds" in fields) or (pause and not 1 <= seconds <= MOST_PAUSE):
        raise ValueError(f"seconds: expected 1 to {MOST_PAUSE:g} with pause, and with it only")
    hosts = _list(fields.get("hosts", []), "hosts", _HOST)
    return Rule(name, Action(action), codes, hosts, enhanced, pattern, float(seconds))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not 0 < len(value) <= 100 or not value.isprintable():
        raise ValueError(f"{name}: expected up to 100 characters")
    return value


def _list(value: Any, name: str, form: re.Pattern[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name}: expected a list of strings")
    if not all(form.fullmatch(each) for each in value):
        raise ValueError(f"{name}: not as expected")
    return tuple(value)


def _pattern(text: Any) -> tuple[Pieces, ...]:
    if not isinstance(text, str) or not 0 < len(text) <= MOST_PATTERN:
        raise ValueError(f"text: expected up to {MOST_PATTERN} characters")
    return tuple(
        tuple(_piece(piece) for piece in alternative.split(".*"))
        for alternative in re.split(r"(?<!\\)\|", text)
    )


def _piece(text: str) -> re.Pattern[str]:
    if not text:
        raise ValueError("text: an empty piece")
    if not _PIECE.fullmatch(text):
        raise ValueError("text: no groups, and no repetition but .*")
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error:
        raise ValueError("text: not a regular expression") from None
