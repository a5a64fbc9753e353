"""
The fields of an element that need more than a type: each is taken, or refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs

from mailproxy.address import envelope_address, parse_mailbox, parse_mailboxes
from mailproxy.api.wire import DsnObject, Element, Rejected
from mailproxy.dsn import Dsn, originals
from mailproxy.dsn import read as read_dsn
from mailproxy.errors import BadAddress
from mailproxy.headers import check_header, is_reserved_header
from mailproxy.model import Content, Mailbox
from mailproxy.states import PRIORITY_LABELS

#: The last second of the year 9999.
MAX_TIME = 253_402_300_799

#: Header fields of the client's own in one message.
MAX_HEADERS = 200

#: Headers that fill the field of the same name.
_FILLS = {"message-id": "message_id", "reply-to": "reply_to", "return-path": "return_path"}
_CONTENT_TYPES = ("html", "plain")

_control = re.compile(r"[\x00-\x1f\x7f]").search
_digits = re.compile(r"[+-]?[0-9]{1,20}").fullmatch


def priority(value: int | str) -> int | None:
    """The priority that *value* stands for, clamped to 0..3; None if it stands for none."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in PRIORITY_LABELS:
            return PRIORITY_LABELS[text]
        if not _digits(text):
            return None
        value = int(text)
    return max(0, min(3, value))


def dsn(
    value: DsnObject, addresses: Sequence[str] = (), orcpt: Sequence[str] = (), where: str = "dsn."
) -> Dsn | None:
    """
    The notifications that are asked for; None for none.

    :param addresses: of the recipients, to whom *orcpt* belongs in that order, if it is given.
    :param where: what stands before the names of the fields.
    """
    try:
        asked = read_dsn(value.notify, value.ret, value.envid)
        asked = attrs.evolve(asked, recipients=originals(addresses, orcpt))
        return None if asked == Dsn() else asked
    except ValueError as error:
        raise Rejected(f"invalid {where}{error}") from None


def bad_id(id: object) -> str:
    if id is None or (isinstance(id, str) and (not id or id.isspace())):
        return "missing id"
    if not isinstance(id, str):
        return "invalid id: expected str"
    if len(id) > 255:
        return "invalid id: longer than 255 characters"
    return "invalid id: a control character"


def mailbox(field: str, text: str) -> Mailbox:
    try:
        return parse_mailbox(text)
    except BadAddress as error:
        raise Rejected(f"invalid {field}: {error}") from None


def mailboxes(field: str, value: str | list[str]) -> tuple[Mailbox, ...]:
    try:
        return parse_mailboxes(value)
    except BadAddress as error:
        raise Rejected(f"invalid {field}: {error}") from None


def bare(text: str | None) -> str:
    """The envelope sender of a message that has its own From; ``<>`` for the null sender."""
    if not text or text.isspace():
        raise Rejected("missing from")
    try:
        return envelope_address(text)
    except BadAddress as error:
        raise Rejected(f"invalid from: {error}") from None


def texts(element: Element) -> tuple[str | None, str | None]:
    """The plain and the HTML text; ``body`` is the one that ``content_type`` says."""
    kind = element.content_type or "plain"
    if kind not in _CONTENT_TYPES:
        raise Rejected("invalid content_type: expected html or plain")
    plain, html = element.body_plain, element.body_html
    if element.body or (plain is None and html is None):
        body = element.body or ""
        if kind == "html":
            html = body if html is None else html
        else:
            plain = body if plain is None else plain
    return plain, html


def take_headers(
    element: Element,
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The headers to set, and notes of those that are not the client's to set."""
    headers = element.headers or {}
    if len(headers) > MAX_HEADERS:
        raise Rejected(f"invalid headers: more than {MAX_HEADERS}")
    kept: list[tuple[str, str]] = []
    notes: list[str] = []
    for name, value in headers.items():
        text = value if isinstance(value, str) else _scalar(value)
        if not is_reserved_header(name):
            kept.append((name, text))
            continue
        check_header(name, text)
        field = _FILLS.get(name.lower())
        if field is not None and text and not getattr(element, field):
            setattr(element, field, text)
        elif field is None:
            notes.append(f"header dropped: {name}")
    return tuple(kept), tuple(notes)


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def message_id(text: str) -> str:
    """The client's own Message-ID, in the angle brackets it may lack; composing checks it."""
    text = text.strip(" ")
    return text if text.startswith("<") else f"<{text}>"


def batch(text: str) -> str:
    if len(text) > 64:
        raise Rejected("invalid batch_code: longer than 64 characters")
    if _control(text):
        raise Rejected("invalid batch_code: a control character")
    if text == "*":
        raise Rejected("invalid batch_code: * means all batches")
    return text


def instant(field: str, value: int | float | str) -> float:
    if isinstance(value, str):
        if not _digits(value):
            raise Rejected(f"invalid {field}: expected Unix seconds")
        value = int(value)
    if not -MAX_TIME <= value <= MAX_TIME:
        raise Rejected(f"invalid {field}: out of range")
    return float(value)


def period(element: Element) -> tuple[float | None, float | None]:
    """From when, and until when, it may be sent; None for no such instant."""
    first, last = element.deferred_ts, element.expires_at
    not_before = None if first is None else instant("deferred_ts", first)
    not_after = None if last is None else instant("expires_at", last)
    if not_before is not None and not_after is not None and not_after <= not_before:
        raise Rejected("invalid expires_at: not after deferred_ts")
    return not_before, not_after


def envelope_from(content: Content) -> str:
    if not content.return_path or content.return_path.isspace():
        return content.sender.addr
    try:
        return envelope_address(content.return_path)
    except BadAddress as error:
        raise Rejected(f"invalid return_path: {error}") from None
