"""
What libraries would work out anew in every world though it is always the same.

Worlds run with it or without: their traces do not differ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import idna
from hyperlink import _url as hyperlink_url
from twisted.internet import endpoints
from werkzeug.routing.rules import Rule

T = TypeVar("T")


def _no_url(**_: object) -> tuple[str, str]:
    raise AssertionError("nobody makes URLs here")


def _no_builder(self: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
    return _no_url


def _says_nothing(*interfaces: Any) -> Callable[[T], T]:
    return lambda declared: declared


_encode = lru_cache(idna.encode)

#: What stands for what: object, attribute, value.
KEPT: tuple[tuple[Any, str, Any], ...] = (
    # Werkzeug compiles for each route how its URL is made: a third of the time.
    (Rule, "_compile_builder", _no_builder),
    # Each attempt to connect makes a class, and says what it implements: nobody asks it.
    (endpoints, "implementer", _says_nothing),
    # The few names of hosts here.
    (idna, "encode", _encode),
    (hyperlink_url, "idna_encode", _encode),
)
