"""
A message's payload in two: what is kept until the message is removed, and its text, which goes
when the message is sent.

Two rows, so that dropping the text is a delete and reads nothing. Pure.
"""

from __future__ import annotations

import attrs

from mailproxy import payload as payloads

# In JSON as the program writes it the two stand side by side, and a quote within a string has a
# backslash before it: what is looked for can only be a key.
_BEGINS = b'"html":'
_BEHIND = b',"raw":'
_GONE = b'"html":null,"plain":null'


def split(payload: bytes) -> tuple[bytes, bytes]:
    """
    :param payload: what :func:`mailproxy.payload.dump` made; anything else counts as text.
    :return: the payload without its text, as JSON of its own; and the text.
    """
    start = payload.find(_BEGINS)
    end = payload.rfind(_BEHIND, start)  # what stands behind it is short, the text is not
    if start > 0 and end > 0 and payload.find(b',"plain":', start, end) > 0:
        return payload[:start] + _GONE + payload[end:], payload[start:end]
    try:
        content = payloads.load(payload)
    except ValueError:
        return b"", payload
    return payloads.dump(attrs.evolve(content, plain=None, html=None)), payload


def joined(head: bytes, text: bytes | None) -> bytes:
    """The payload that was :func:`split`; *head* itself where the text is gone (None)."""
    if text is None:
        return head
    return head.replace(_GONE, text, 1) if text.startswith(_BEGINS) else text
