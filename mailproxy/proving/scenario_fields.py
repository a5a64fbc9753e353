"""
One table of a scenario file, read field by field; what is wrong is named with its place.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mailproxy.errors import MailProxyError


class BadScenario(MailProxyError):
    """
    A scenario is not one.

    :param place: the file, the line and the table, as far as they are known.
    :param problem: what is wrong, beginning with the key.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


class Source:
    """
    The text of a scenario, to find the line of a key again.

    :param name: what it is called in messages.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._lines = text.splitlines()

    def place(self, table: str, number: int, key: str) -> str:
        """
        Where *key* of the *number*-th table of that name is; as close as can be found.

        :param table: empty for what stands before the first table.
        :param number: from 1.
        """
        line = self._line(table, number, key)
        of = f" [{table}] {number}" if number > 1 or table in LISTS else f" [{table}]"
        return f"{self.name}:{line}:{of if table else ''}".rstrip(":")

    def _line(self, table: str, number: int, key: str) -> int:
        head = re.compile(r"\s*\[\[?\s*" + re.escape(table) + r"\s*\]\]?\s*(#.*)?")
        word = re.compile(r"\s*[\"']?" + re.escape(key) + r"[\"']?\s*[.=]")
        seen, start = 0, 0 if not table else None
        for index, line in enumerate(self._lines):
            if table and head.fullmatch(line):
                seen += 1
                start = index if seen == number else start
            elif start is not None and key and word.match(line):
                return index + 1
            elif start is not None and index > start and line.lstrip().startswith("["):
                break
        return (start or 0) + 1


#: The tables of which there may be several.
LISTS = ("rule", "report", "attachment", "token")


class Table:
    """
    The fields of one table. Each is taken once; :meth:`done` refuses what is left.

    :param where: tells the place of a key.
    """

    def __init__(self, fields: object, where: Callable[[str], str]) -> None:
        if not isinstance(fields, dict):
            raise BadScenario(where(""), "expected a table")
        self._fields: dict[str, Any] = dict(fields)
        self._where = where
        self._known: list[str] = []

    def wrong(self, key: str, problem: str) -> BadScenario:
        """The error that says *problem* of *key*."""
        return BadScenario(self._where(key), f"{key}: {problem}")

    def place(self, key: str) -> str:
        """Where *key* is."""
        return self._where(key)

    def has(self, key: str) -> bool:
        """Whether *key* is there, and not yet taken."""
        return key in self._fields

    def take(self, key: str) -> Any:
        """The value of *key*, whatever it is; None if it is not there."""
        self._known.append(key)
        return self._fields.pop(key, None)

    def text(self, key: str, default: str = "", one_of: Collection[str] = ()) -> str:
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "expected a text")
        if one_of and value not in one_of:
            raise self.wrong(key, f"{value!r} is none of {', '.join(one_of)}")
        return value

    def texts(self, key: str, one_of: Collection[str] = ()) -> tuple[str, ...]:
        """One text or a list of them."""
        value = self.take(key)
        if value is None:
            return ()
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise self.wrong(key, "expected a text or a list of texts")
        for each in values:
            if one_of and each not in one_of:
                raise self.wrong(key, f"{each!r} is none of {', '.join(one_of)}")
        return tuple(values)

    def flag(self, key: str) -> bool | None:
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "expected true or false")
        return value

    def number(
        self, key: str, default: float = 0.0, least: float = 0.0, most: float = 1e9
    ) -> float:
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, "expected a number")
        if not least <= value <= most:
            raise self.wrong(key, f"expected {least:g} to {most:g}, not {value}")
        return float(value)

    def whole(self, key: str, least: int = 0, most: int = 1 << 40) -> int | None:
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, "expected a whole number")
        if not least <= value <= most:
            raise self.wrong(key, f"expected {least} to {most}, not {value}")
        return value

    def strings(self, key: str) -> Mapping[str, str]:
        """A table of texts."""
        value = self.take(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.wrong(key, "expected a table of texts")
        return value

    def done(self) -> None:
        """:raises BadScenario: a field was not taken."""
        for key in self._fields:
            raise self.wrong(key, f"unknown; known here: {', '.join(sorted(set(self._known)))}")
