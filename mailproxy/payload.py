"""A message's :class:`~mailproxy.model.Content` as the JSON that is stored, and back. Pure."""

from __future__ import annotations

import msgspec

from mailproxy.model import Content

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Content)


def dump(content: Content) -> bytes:
    """The payload to store: compact JSON, the same bytes for equal content."""
    return _encoder.encode(content)


def load(payload: bytes) -> Content:
    """:raises ValueError: if *payload* is not what :func:`dump` makes (a damaged row)."""
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise ValueError(f"damaged payload: {error}") from None
