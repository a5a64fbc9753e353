"""Bodies that are JSON of one type: decoded by it, or refused by the field at fault."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from mailproxy.api.answers import Problem, invalid
from mailproxy.api.call import SMALL_BYTES, Call
from mailproxy.api.wire import whats_wrong

T = TypeVar("T")

#: Bodies that hold up to ten thousand ids or addresses.
LIST_BYTES = 4 * 1024 * 1024

#: Entries in one list.
LIST_LENGTH = 10_000


def read_typed(
    call: Call,
    decoder: msgspec.json.Decoder[T],
    most: int = SMALL_BYTES,
    *,
    absent: T | None = None,
) -> T:
    """
    The request's body.

    :param absent: what a request without a body stands for; None: it needs one.
    :raises Refused: 422, it is not of the decoder's type; 413, it has more than *most* bytes.
    """
    body = call.body(most)
    if absent is not None and not body.strip():
        return absent
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        where, what = whats_wrong(str(problem))
        kind = "missing" if what == "required" else "value_error"
        raise invalid([Problem(("body", *where), what, kind)]) from None
    except RecursionError:
        raise invalid([Problem(("body",), "nested too deep")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise invalid([Problem(("body",), "not JSON")]) from None


def check_length(name: str, values: list[T]) -> list[T]:
    """:raises Refused: 422, there are more than :data:`LIST_LENGTH`."""
    if len(values) > LIST_LENGTH:
        raise invalid([Problem(("body", name), f"more than {LIST_LENGTH}")])
    return values
