"""
The JSON of answers, and of requests that are read field by field, as types.

Where an endpoint does not encode its answer from one of these itself, a test compares what it says
with them. A field that may be missing is ``UNSET``; all others are always there.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from mailproxy.api.doc import Param

Yes = Annotated[bool, Meta(extra_json_schema={"const": True})]
No = Annotated[bool, Meta(extra_json_schema={"const": False})]

#: Instants in whole Unix seconds, and as ISO 8601 in UTC.
Unix = Annotated[int, Meta(description="Unix seconds.")]
Iso = Annotated[str, Meta(description="ISO 8601, UTC.", extra_json_schema={"format": "date-time"})]


class Done(Struct, kw_only=True):
    """It was done."""

    ok: Yes


class Refusal(Struct, kw_only=True):
    """It was not done."""

    ok: No
    error: Annotated[str, Meta(description="The reason.")]
    detail: Annotated[str, Meta(description="The reason again, as older clients read it.")]


class Fault(Struct, kw_only=True):
    """One wrong part of a request."""

    type: str
    loc: Annotated[
        list[str | int],
        Meta(description="Where it is: `query`, `body` or `path`, and the name of the field."),
    ]
    msg: Annotated[str, Meta(description="What is wrong with it, without its value.")]


class Invalid(Struct, kw_only=True):
    """Parts of the request are wrong."""

    ok: No
    error: Annotated[str, Meta(description="All reasons in one text.")]
    detail: list[Fault]


# -- how the service is ------------------------------------------------------------------------


class Alive(Struct, kw_only=True):
    """It answers."""

    ok: Yes
    status: Annotated[str, Meta(extra_json_schema={"const": "ok"})]


class NotReady(Refusal, kw_only=True):
    """It does not take mail now."""

    status: Annotated[str, Meta(extra_json_schema={"const": "error"})]


class ServiceStatus(Struct, kw_only=True):
    """How the service is, or the caller's part of it."""

    ok: Yes
    active: Annotated[bool, Meta(description="Whether mail is sent: nothing is suspended.")]
    version: str
    draining: Annotated[bool, Meta(description="Whether the service is on its way down.")]
    suspended_batches: Annotated[
        list[str], Meta(description="Suspended campaigns; `*` is everything.")
    ]
    pending_messages: Annotated[int, Meta(description="Messages that are not final.")]
    in_flight: Annotated[int, Meta(description="Messages whose body is under way.")]
    queue: Annotated[
        dict[str, int] | UnsetType, Meta(description="Messages by state; for the admin only.")
    ] = UNSET


# -- commands ----------------------------------------------------------------------------------


class Suspended(Struct, kw_only=True):
    """What is suspended now."""

    ok: Yes
    tenant_id: Annotated[str | None, Meta(description="Null: the whole service.")]
    batch_code: str | UnsetType = UNSET
    suspended_batches: Annotated[
        list[str], Meta(description="Suspended campaigns; `*` is everything.")
    ]
    pending_messages: int
    in_flight: Annotated[int, Meta(description="Had begun before; nothing else is begun.")]
    active: bool


BATCH = (
    Param("batch_code", Annotated[str, Meta(max_length=64)], "One campaign; `*`: everything."),
)
