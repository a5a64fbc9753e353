"""
The JSON of submissions as it comes in: types, and reasons for what does not fit them.

An envelope keeps its elements raw, so that each is decoded, and refused, on its own.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import attrs
import msgspec
from msgspec import Meta, Struct, field

from mailproxy.api.answers import Problem, Refused, error, invalid


class AttachmentObject(Struct, forbid_unknown_fields=True):
    """One attachment; the only object that may hold no unknown key."""

    filename: Annotated[
        str,
        Meta(description="1 to 255 characters; a marker `{MD5:...}` in it is taken out."),
    ]
    storage_path: Annotated[
        str, Meta(description="Where the content is: `base64:...`, a URL, or a path.")
    ]
    fetch_mode: Annotated[
        str | None,
        Meta(
            description="`base64`, `http_url`, `filesystem` or `endpoint` (the tenant's); default: "
            "what the path looks like."
        ),
    ] = None
    mime_type: Annotated[str | None, Meta(description="Default: as the name has it.")] = None
    content_md5: Annotated[
        str | None, Meta(description="32 hex digits; the content has to match.")
    ] = None
    auth: Annotated[
        dict[str, Any] | None,
        Meta(description="`{method: none, bearer or basic, token, user, password}`, to fetch it."),
    ] = None


class DsnObject(Struct):
    """Reports by mail from the servers behind the account's (RFC 3461), where it offers them."""

    notify: Annotated[
        list[str] | str | None,
        Meta(description="`never`, or some of `success`, `failure`, `delay`."),
    ] = None
    ret: Annotated[str | None, Meta(description="What they bring back: `full` or `hdrs`.")] = None
    envid: Annotated[
        str | None, Meta(description="By which they name the message: up to 100 characters.")
    ] = None


#: One address or several: a list, or one text with commas.
Addresses = str | list[str] | None


class Element(Struct):
    """One submitted message. A field that is null counts as absent."""

    id: Annotated[
        Any,
        Meta(
            description="Required: up to 255 characters, unique within the tenant; makes it safe "
            "to post the message again.",
            extra_json_schema={"type": ["string", "null"], "minLength": 1, "maxLength": 255},
        ),
    ] = None
    sender: Annotated[
        str | None, Meta(description="Required: one address, with or without a display name.")
    ] = field(default=None, name="from")
    tenant_id: Annotated[
        str | None, Meta(description="Has to agree with the token and the query.")
    ] = None
    account_id: Annotated[
        str | None, Meta(description="Default: the account with `is_default`, else the only one.")
    ] = None
    to: Annotated[
        Addresses,
        Meta(description="A list, or one text with commas. At least one recipient in all."),
    ] = None
    cc: Addresses = None
    bcc: Annotated[Addresses, Meta(description="Stand in no header.")] = None
    subject: Annotated[str | None, Meta(description="May be empty.")] = None
    body: Annotated[str | None, Meta(description="The text, of `content_type`.")] = None
    content_type: Annotated[str | None, Meta(description="`plain` (default) or `html`.")] = None
    body_html: Annotated[
        str | None, Meta(description="With `body_plain`: `multipart/alternative`.")
    ] = None
    body_plain: str | None = None
    reply_to: Annotated[str | None, Meta(description="Addresses, with commas.")] = None
    return_path: Annotated[
        str | None, Meta(description="The envelope sender; default: the address of `from`.")
    ] = None
    message_id: Annotated[
        str | None, Meta(description="Default: made once, and kept over all attempts.")
    ] = None
    headers: Annotated[
        dict[str, str | int | float | bool] | None,
        Meta(description="Further header fields; those a message has anyway are passed over."),
    ] = None
    attachments: list[AttachmentObject] | None = None
    priority: Annotated[
        int | str | None,
        Meta(description="0 to 3, or `immediate`, `high`, `medium`, `low`."),
    ] = None
    deferred_ts: Annotated[
        int | float | str | None, Meta(description="Not before this Unix time.")
    ] = None
    expires_at: Annotated[
        int | float | str | None,
        Meta(description="Nothing of it is begun from this Unix time on; then it expires."),
    ] = None
    batch_code: Annotated[
        str | None, Meta(description="Its campaign, up to 64 characters; can be suspended.")
    ] = None
    dsn: DsnObject | None = None
    test: Annotated[bool | None, Meta(description="Take it and report it, but do not send it.")] = (
        None
    )


class Envelope(Struct):
    """The body of ``add-messages``."""

    messages: list[msgspec.Raw]
    default_priority: int | str | None = None


class Rejected(Exception):
    """
    One element is not accepted.

    :param reason: what the client is told; names the field, never its value.
    :param id: the element's id, if it has a usable one.
    """

    def __init__(self, reason: str, id: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.id = id


_envelope = msgspec.json.Decoder(Envelope)
_element = msgspec.json.Decoder(Element)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])

_KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(Element))
_WHERE = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>[^`]*)`)?", re.DOTALL)
_TYPES = re.compile(r"Expected `([a-z |]+)`, got `([a-z]+)`")
_MISSING = re.compile(r"Object missing required field `([a-z_]+)`")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f]")


#: JSON values in one request: each may take a hundred times its bytes of memory once it is read.
MAX_VALUES = 1_000_000

_MARKS = (b",", b"[", b"{")
_PIECE = 256 * 1024

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[,\[{]', re.DOTALL)


@attrs.frozen
class Submission:
    """An envelope; an element that is an exception is already judged."""

    elements: list[msgspec.Raw | bytes | Rejected]
    default_priority: int | str | None


def check_weight(body: bytes) -> None:
    """
    Make sure that *body* does not hold far more values than a submission can.

    :raises Refused: 413.
    """
    # Piece by piece: whoever waits for the interpreter has it in between.
    pieces = range(0, len(body), _PIECE)
    if sum(body.count(mark, at, at + _PIECE) for at in pieces for mark in _MARKS) <= MAX_VALUES:
        return
    values = 0
    for token in _TOKEN.finditer(body):  # now without what stands in strings
        values += body[token.start()] != 0x22
        if values > MAX_VALUES:
            raise Refused(error(413, f"more than {MAX_VALUES} values"))


def read_envelope(body: bytes) -> Submission:
    """
    Take the body of ``add-messages`` apart.

    :raises Refused: 422, it is not an envelope.
    """
    try:
        envelope = _envelope.decode(body)
    except msgspec.ValidationError as problem:
        where, what = whats_wrong(str(problem))
        raise _bad_envelope(what, *where) from None
    except RecursionError:
        raise _bad_envelope("nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A lone surrogate is legal JSON; it spoils its element, not the others.
        if _SURROGATE.search(body) is None:
            raise _bad_envelope("not JSON") from None
        return _read_slowly(body)
    return Submission(list(envelope.messages), envelope.default_priority)


def check_single(body: bytes) -> None:
    """:raises Refused: 422, *body* is not exactly one JSON value."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except RecursionError:
        raise _bad_envelope("nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        if _SURROGATE.search(body) is None or not _is_json(body):
            raise _bad_envelope("not JSON") from None


def read_element(raw: msgspec.Raw | bytes) -> Element:
    """:raises Rejected: it is not a message; the reason names the first field at fault."""
    try:
        return _element.decode(raw)
    except msgspec.ValidationError as problem:
        where, what = whats_wrong(str(problem))
        raise _rejected("".join(where), what, raw) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _rejected(*_blame(raw), raw) from None


def find_id(raw: msgspec.Raw | bytes) -> str | None:
    """The id of an element that is otherwise not what it should be; None if it is not usable."""
    try:
        value = msgspec.json.decode(_fields.decode(raw).get("id", b"null"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return value if usable_id(value) else None


def usable_id(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= 255
        and not value.isspace()
        and _UNUSABLE.search(value) is None
    )


def _rejected(where: str, what: str, raw: msgspec.Raw | bytes) -> Rejected:
    return Rejected(f"invalid {where or 'message'}: {what}", find_id(raw))


def _bad_envelope(what: str, *where: str) -> Refused:
    kind = "missing" if what == "required" else "value_error"
    return invalid([Problem(("body", *where), what, kind)])


def whats_wrong(text: str) -> tuple[list[str], str]:
    """Where and what, from the text of a validation error; no value or key of the input in it."""
    match = _WHERE.fullmatch(text)
    assert match is not None  # matches every text
    what, where = match["what"], (match["where"] or "").replace("[...]", "")
    place = [where] if where else []
    if types := _TYPES.fullmatch(what):
        return place, f"expected {types[1].replace(' |', ',')}, got {types[2]}"
    if missing := _MISSING.fullmatch(what):
        return [f"{where}.{missing[1]}" if where else missing[1]], "required"
    if what.startswith("Object contains unknown field"):
        return place, "an unknown key"
    return place, "out of range" if what == "Number out of range" else "not acceptable"


def _blame(raw: msgspec.Raw | bytes) -> tuple[str, str]:
    """The known field whose text cannot be read, and why."""
    try:
        fields = _fields.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "message", "not readable"
    for name in sorted(_KNOWN & fields.keys()):
        try:
            msgspec.json.decode(fields[name])
        except RecursionError:
            return name, "nested too deep"
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return name, "not UTF-8 text"
    return "message", "not readable"


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _read_slowly(body: bytes) -> Submission:
    """:func:`read_envelope` for a body with a lone surrogate somewhere in it."""
    try:
        envelope = json.loads(body, parse_constant=_no_constant)
        elements = envelope["messages"]
        priority = envelope.get("default_priority")
    except RecursionError:
        raise _bad_envelope("nested too deep") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _bad_envelope("not JSON") from None
    if not isinstance(elements, list):
        raise _bad_envelope("expected array", "messages")
    if isinstance(priority, bool) or not isinstance(priority, int | str | None):
        raise _bad_envelope("expected int, str, null", "default_priority")
    return Submission([_without_surrogates(element) for element in elements], priority)


def _without_surrogates(element: Any) -> bytes | Rejected:
    """The element as JSON again; rejected if a field of ours cannot be."""
    if not isinstance(element, dict):
        return b"null"
    kept = {}
    spoilt = None
    for name, value in element.items():
        if name in _KNOWN:
            kept[name] = value
            if not _encodable(value):
                spoilt = name
    if spoilt is None:
        return json.dumps(kept, ensure_ascii=False).encode()
    id = kept.get("id")
    return Rejected(
        f"invalid {spoilt}: a lone surrogate", id if spoilt != "id" and usable_id(id) else None
    )


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True
