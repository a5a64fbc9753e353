"""What the API says of the fields of an account; what is right is said elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailproxy.account_fields import (
    FIELDS,
    LIMITS,
    OPTIONS,
    ROUTING,
    WrongFields,
    specify,
    tls,
)
from mailproxy.account_fields import read_fields as _read_fields
from mailproxy.api.answers import Problem, invalid

__all__ = [
    "FIELDS",
    "LIMITS",
    "OPTIONS",
    "ROUTING",
    "read_fields",
    "specify",
    "tls",
]


def read_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Every known field of *body* that is given and not null.

    :raises Refused: 422 with everything that is wrong.
    """
    try:
        return _read_fields(body)
    except WrongFields as wrong:
        raise invalid(
            [
                Problem(
                    ("body", name), problem, "missing" if name in wrong.missing else "value_error"
                )
                for name, problem in wrong.problems.items()
            ]
        ) from None
