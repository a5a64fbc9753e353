"""
Credentials for the source of one attachment: checked, sealed, and shown to that source.

They travel with the message's stored content, where they are only ever a sealed text. Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mailproxy.tenancy import ClientAuth

METHODS = ("none", "bearer", "basic")

#: The most characters of a token, a user or a password.
MOST = 4096

_FIELDS = {"none": (), "bearer": ("token",), "basic": ("user", "password")}
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f]")
_BEARER = re.compile(r"[\x21-\x7e]+")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


def read_auth(fields: Mapping[str, Any]) -> ClientAuth:
    """
    What a client says as ``auth``: a method, and exactly what belongs to it.

    :raises ValueError: it says something else; the text names the field, never its value.
    """
    method = fields.get("method")
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}")
    wanted = _FIELDS[method]
    given = {name for name, value in fields.items() if value is not None} - {"method"}
    if given - {"token", "user", "password"}:
        raise ValueError("an unknown key")
    if given - set(wanted):
        raise ValueError(f"{min(given - set(wanted))}: has no place in method {method}")
    return ClientAuth(method, **{name: _word(name, fields.get(name)) for name in wanted})


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str) or (not value and name != "password"):
        raise ValueError(f"{name}: required")
    if len(value) > MOST:
        raise ValueError(f"{name}: longer than {MOST} characters")
    if _UNUSABLE.search(value) or (name == "token" and not _BEARER.fullmatch(value)):
        raise ValueError(f"{name}: a character that cannot be sent")
    if name == "user" and ":" in value:
        raise ValueError("user: a colon")  # RFC 7617, section 2
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}: half of a surrogate pair") from None
    return value


def seal_auth(auth: ClientAuth, seal: Callable[[str], str]) -> str:
    """:param auth: as :func:`read_auth` gives it. :return: the text to store."""
    fields = {"method": auth.method, "token": auth.token, "user": auth.user}
    fields["password"] = auth.password
    return seal(_encode({k: v for k, v in fields.items() if v is not None}).decode())


def open_auth(sealed: str, unseal: Callable[[str], str]) -> ClientAuth:
    """:raises mailproxy.errors.MailProxyError: *unseal* cannot open it."""
    return ClientAuth(**_decode(unseal(sealed).encode()))


def secrets_of(auth: ClientAuth) -> tuple[str, ...]:
    """What must not be repeated of *auth*: its secrets, and the form in which they are sent."""
    sent = (authorization(auth) or b"").decode("utf-8", "replace").partition(" ")[2]
    return tuple(each for each in (sent, auth.token, auth.password) if each)


def authorization(auth: ClientAuth) -> bytes | None:
    """The value of the ``Authorization`` field; None where there is nothing to show."""
    if auth.method == "bearer" and auth.token:
        return f"Bearer {auth.token}".encode("utf-8", "replace")
    if auth.method == "basic":
        pair = f"{auth.user or ''}:{auth.password or ''}".encode("utf-8", "replace")
        return b"Basic " + base64.b64encode(pair)
    return None
