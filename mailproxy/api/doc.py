"""What the description of the API (``/openapi.json``) says of an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

JSON_TYPE = "application/json"


@attrs.frozen
class Param:
    """
    A parameter in the query, or a header field of the request.

    :param type: a Python type that msgspec can describe.
    :param required: whether the endpoint refuses a request without it.
    """

    name: str
    type: Any = str
    about: str = ""
    required: bool = False


@attrs.frozen
class Doc:
    """
    What cannot be seen from the route itself.

    Left to the description: what the path holds, ``tenant_id`` where a tenant's key will do, how
    the caller shows who it is, and the refusals that follow from all that (400, 401, 403, 404,
    408, 413, 422, 503).

    :param about: what the endpoint does; the first sentence is its title.
    :param takes: the type of the request's JSON body; None: it has none.
    :param gives: the type of the 200 answer's JSON; None: any object with ``ok``.
    :param query: its parameters beside ``tenant_id``.
    :param headers: header fields of the request that it heeds beside the token.
    :param takes_type: the media type of the request's body; other than JSON, *takes* is ``bytes``.
    :param gives_type: the media type of the 200 answer; other than JSON, *gives* is ``str`` or
        ``bytes``.
    :param bodiless: whether the request's body may be left out.
    :param refuses: answers beside those above, by status: the type of the JSON, None for a plain
        refusal.
    :param example: a body of a request that is good, as JSON values.
    """

    about: str = ""
    takes: Any = None
    gives: Any = None
    query: tuple[Param, ...] = ()
    headers: tuple[Param, ...] = ()
    takes_type: str = JSON_TYPE
    gives_type: str = JSON_TYPE
    bodiless: bool = False
    refuses: Mapping[int, Any] = attrs.field(factory=dict)
    example: Any = None
