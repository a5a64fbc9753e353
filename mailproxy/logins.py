"""
How an account logs in, as its field ``auth`` says: with a password, by a mechanism of its own
choice, or with a token that an authorization server gives out (OAuth 2.0, RFC 6749).

What is no secret of it is kept among the account's options. What is, stands where the password
would: sealed with it, never shown, and kept or required by the same rules.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import attrs
import msgspec

from mailproxy.urls import parse

#: The login with a token; everything else uses user and password.
XOAUTH2 = "xoauth2"

#: Mechanisms an account may insist on.
MECHANISMS = ("plain", "login", XOAUTH2)

CLIENT_CREDENTIALS, REFRESH_TOKEN = "client_credentials", "refresh_token"
GRANTS = (CLIENT_CREDENTIALS, REFRESH_TOKEN)

#: ``auth`` that asks for nothing but user and password.
_USUAL = ("", "password")

#: The most characters of one secret, and of what is no secret.
MOST_SECRET, MOST = 4096, 1000

#: RFC 6749, appendix A: what may stand in ids, secrets, tokens and scopes.
_unusable = re.compile(r"[^\x20-\x7e]").search

_PUBLIC = ("method", "grant", "token_url", "client_id", "scope")
_SECRET = ("client_secret", "refresh_token")


@attrs.frozen
class Auth:
    """
    :param method: a mechanism to insist on; "" for the best that user and password allow.
    :param grant: one of :data:`GRANTS`, for :data:`XOAUTH2`; the other fields likewise.
    """

    method: str = ""
    grant: str = ""
    token_url: str = ""
    client_id: str = ""
    scope: str = ""

    @property
    def by_token(self) -> bool:
        return self.method == XOAUTH2

    def public(self) -> dict[str, str] | None:
        """What is kept among an account's options, and shown; None: nothing was asked for."""
        return {k: v for k, v in attrs.asdict(self).items() if v} or None


@attrs.frozen
class Secrets:
    """
    What the authorization server wants to see.

    :param refresh_token: as it was declared.
    :param renewed: what the server gave in its place since; "" while it has not.
    """

    client_secret: str = attrs.field(default="", repr=False)
    refresh_token: str = attrs.field(default="", repr=False)
    renewed: str = attrs.field(default="", repr=False)

    @property
    def valid_token(self) -> str:
        """The refresh token to be used now."""
        return self.renewed or self.refresh_token

    def dump(self) -> str:
        """The text that is sealed in a password's place."""
        fields = {name: value for name, value in attrs.asdict(self).items() if value}
        return msgspec.json.encode(fields, order="sorted").decode()


@attrs.frozen
class Given:
    """
    The field ``auth`` as it was given.

    :param secrets: None: those that are stored are to be kept.
    :param user: the mailbox's name, where it was said here.
    """

    auth: Auth
    secrets: Secrets | None = None
    user: str = ""


def read(value: Any) -> Given:
    """
    Check the field ``auth``.

    :raises ValueError: with what is wrong, without the value.
    """
    fields = value if isinstance(value, dict) else {"method": value}
    method = fields.get("method", "")
    if not isinstance(method, str) or method.strip().lower() not in (*_USUAL, *MECHANISMS):
        raise ValueError(f"method: expected one of {', '.join(MECHANISMS)}")
    method = method.strip().lower()
    allowed = {"method"} if method != XOAUTH2 else {*_PUBLIC, *_SECRET, "user"}
    given = {name: each for name, each in fields.items() if each is not None}
    if set(given) - allowed:
        raise ValueError("a key that has no place there")
    if method != XOAUTH2:
        return Given(Auth("" if method in _USUAL else method))
    return _by_token(given)


def _by_token(fields: Mapping[str, Any]) -> Given:
    grant = fields.get("grant")
    if grant not in GRANTS:
        raise ValueError(f"grant: expected one of {', '.join(GRANTS)}")
    values = {name: _word(name, fields.get(name, ""), MOST) for name in _PUBLIC[2:]}
    for name in ("token_url", "client_id"):
        if not values[name]:
            raise ValueError(f"{name}: required")
    try:
        url = parse(values["token_url"])
    except ValueError as error:
        raise ValueError(f"token_url: {error}") from None
    if url.scheme != "https":
        raise ValueError("token_url: expected https")  # RFC 6749, section 3.2
    secrets = Secrets(**{name: _word(name, fields.get(name, ""), MOST_SECRET) for name in _SECRET})
    needed = "client_secret" if grant == CLIENT_CREDENTIALS else "refresh_token"
    if grant == CLIENT_CREDENTIALS and secrets.refresh_token:
        raise ValueError("refresh_token: has no place in grant client_credentials")
    if secrets.client_secret and not getattr(secrets, needed):
        raise ValueError(f"{needed}: required")
    given = secrets if getattr(secrets, needed) else None
    user = fields.get("user", "")
    if not isinstance(user, str):
        raise ValueError("user: expected a string")
    return Given(Auth(XOAUTH2, grant, **values), given, user)


def _word(name: str, value: Any, most: int) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected a string")
    if len(value) > most:
        raise ValueError(f"{name}: longer than {most} characters")
    if _unusable(value):
        raise ValueError(f"{name}: a character that cannot be sent")
    return value


@lru_cache(maxsize=1024)
def auth_of(options: str) -> Auth:
    """What the options of an account say of its login."""
    if '"auth"' not in options:
        return _NONE
    said = msgspec.json.decode(options).get("auth")
    # A text was stored before the field was in force, and had no effect.
    return Auth(**said) if isinstance(said, dict) else _NONE


_NONE = Auth()


def secrets_of(password: str | None) -> Secrets:
    """The secrets that stand in a password's place; empty ones if they are damaged or missing."""
    try:
        return msgspec.json.decode(password or "{}", type=Secrets)
    except msgspec.DecodeError:
        return Secrets()


def may_keep(old: tuple[str, str | None, str], new: tuple[str, str | None, str]) -> bool:
    """
    Whether the stored secret may serve an account as it is declared now.

    It may not be shown to anybody it was not given for: neither another host or user, nor another
    authorization server or client, nor by another kind of login.

    :param old: host, user and options as they are stored; *new* as they are declared.
    """
    (old_host, old_user, old_options), (new_host, new_user, new_options) = old, new
    before, after = auth_of(old_options), auth_of(new_options)
    if (old_host, old_user, before.by_token) != (new_host, new_user, after.by_token):
        return False
    return not after.by_token or _party(before) == _party(after)


def _party(auth: Auth) -> tuple[str, str, str]:
    return auth.grant, auth.token_url, auth.client_id


def same_secret(declared: str | None, stored: str | None, options: str) -> bool:
    """Whether *stored* is what *declared* says, whatever a server has renewed of it since."""
    if declared == stored or declared is None or stored is None or not auth_of(options).by_token:
        return declared == stored
    return declared == attrs.evolve(secrets_of(stored), renewed="").dump()
