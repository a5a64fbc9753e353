"""What the description of the API (``/openapi.json``) says of an endpoint."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Param:
    """
    A parameter in the query.

    :param type: a Python type that msgspec can describe.
    """

    name: str
    type: Any = str
    about: str = ""


@attrs.frozen
class Doc:
    """
    :param about: one sentence; what the endpoint does.
    :param takes: the type of the request's JSON body; None: it has none.
    :param gives: the type of the 200 answer's JSON; None: any object with ``ok``.
    :param query: its parameters beside ``tenant_id``.
    """

    about: str = ""
    takes: Any = None
    gives: Any = None
    query: tuple[Param, ...] = ()
