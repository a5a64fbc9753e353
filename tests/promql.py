"""Which metrics and labels a query of Prometheus names; whether it is one, Prometheus decides."""

from __future__ import annotations

import re

import attrs

#: Words of the language that are no metrics.
_WORDS = frozenset(
    ("and", "or", "unless", "bool", "offset", "inf", "nan", "by", "without", "on", "ignoring")
) | {"group_left", "group_right"}

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'")
_GROUP = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SELECTOR = re.compile(rf"({_NAME})\s*\{{([^}}]*)\}}")


@attrs.frozen
class Query:
    """
    :param metrics: by their names.
    :param matched: metrics with the labels that are asked for.
    :param grouped: labels that are kept or dropped in an aggregation, or joined by.
    """

    metrics: frozenset[str]
    matched: frozenset[tuple[str, frozenset[str]]]
    grouped: frozenset[str]


def read(text: str) -> Query:
    """Take a query to pieces."""
    bare = _STRING.sub("S", text)
    grouped = set()
    for _, labels in _GROUP.findall(bare):
        grouped |= set(re.findall(_NAME, labels))
    bare = _GROUP.sub(" ", bare)
    matched = {
        (name, frozenset(re.findall(rf"({_NAME})\s*(?:=|!)", inside)))
        for name, inside in _SELECTOR.findall(bare)
    }
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset\s+\w+", " ", bare)
    # A number is no name, nor is what follows it (1e3, 5m).
    bare = re.sub(r"(?<![\w:])[0-9][\w.]*", " ", bare)
    names = {
        name
        for name, call in re.findall(rf"({_NAME})\s*(\(?)", bare)
        if not call and name.lower() not in _WORDS
    }
    return Query(frozenset(names), frozenset(matched), frozenset(grouped))
