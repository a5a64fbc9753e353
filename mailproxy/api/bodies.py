"""Bodies that are small JSON objects, and the words for what is wrong with their fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mailproxy.account_fields import Wrong
from mailproxy.api.answers import Problem, invalid
from mailproxy.api.call import Call

Reader = Callable[[Any], Any]
Place = tuple[str | int, ...]


def read_object(call: Call, *, optional: bool = False) -> Mapping[str, Any]:
    """
    The request's body.

    :param optional: whether there may be none; that is an empty object.
    :raises Refused: 422, it is no JSON object; 413, it is not small.
    """
    body = call.body()
    if optional and not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise invalid([Problem(("body",), "nested too deep")]) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise invalid([Problem(("body",), "not JSON")]) from None
    if not isinstance(value, dict):
        raise invalid([Problem(("body",), "expected an object")])
    return value


class Fields:
    """
    Reads the fields of an object, and gathers all that is wrong with them.

    :ivar problems: what is wrong so far.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def read(
        self, body: Mapping[str, Any], readers: Mapping[str, Reader], at: Place = ("body",)
    ) -> dict[str, Any]:
        """Every field that is given; null is None. A reader raises ``Wrong``."""
        found = {}
        for name, reader in readers.items():
            if name not in body:
                continue
            value = body[name]
            try:
                found[name] = None if value is None else reader(value)
            except Wrong as wrong:
                self.wrong((*at, name), str(wrong))
        return found

    def nested(
        self, fields: dict[str, Any], name: str, readers: Mapping[str, Reader]
    ) -> dict[str, Any] | None:
        """The object in the field *name*, as :meth:`read` reads it; None if there is none."""
        value = fields.get(name)
        return None if value is None else self.read(value, readers, ("body", name))

    def wrong(self, at: Place, problem: str, kind: str = "value_error") -> None:
        self.problems.append(Problem(at, problem, kind))

    def check(self) -> None:
        """:raises Refused: 422, with everything that is wrong, if anything is."""
        if self.problems:
            raise invalid(self.problems)


def mapping(value: Any) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise Wrong("expected an object")
    return value
