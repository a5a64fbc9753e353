"""
The fields of an account as somebody declares it, by HTTP or in the configuration: every check and
every default in one place.

Each reader takes a JSON value that is not null and returns what is to be kept, or raises
:class:`Wrong` with what is wrong, without the value.

Pure.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import msgspec
from cryptography import x509

from mailproxy import logins, pins
from mailproxy.errors import MailProxyError
from mailproxy.records import AccountSpec
from mailproxy.states import OnUncertain, TlsMode

_control = re.compile(r"[\x00-\x1f\x7f]").search
_digits = re.compile(r"[+-]?[0-9]{1,18}").fullmatch
_hostname = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
).fullmatch

_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off", ""))

Reader = Callable[[Any], Any]

#: The most accounts in ``fallback`` and in ``weights``, and the largest weight.
MOST_ROUTES, MOST_WEIGHT = 100, 1000


class Wrong(MailProxyError):
    """A field's value is not acceptable."""


class WrongFields(MailProxyError):
    """
    Fields of a declaration are not acceptable.

    :param problems: for each, its name and what is wrong with it, without its value; all of them.
    :param missing: the names of those that are required and not there.
    """

    def __init__(self, problems: Mapping[str, str], missing: frozenset[str]) -> None:
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in problems.items()))
        self.problems = problems
        self.missing = missing


def text(low: int, high: int, *, strip: bool = False) -> Reader:
    """A string of *low* to *high* characters, none of them a control character."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong("expected a string")
        text = value.strip(" ") if strip else value
        if not low <= len(text) <= high:
            raise Wrong("must not be empty" if not text else f"expected at most {high} characters")
        if _control(text):
            raise Wrong("a control character")
        return text

    return read


def whole(low: int, high: int) -> Reader:
    """An integer, also as a string of digits."""

    def read(value: Any) -> int:
        number = _whole(value)
        if not low <= number <= high:
            raise Wrong(f"expected {low} to {high}")
        return number

    return read


def limit(value: Any) -> int | None:
    """A number of messages; zero and less is no limit."""
    number = _whole(value)
    if number > 10**12:
        raise Wrong("too large")
    return number if number > 0 else None


def seconds(low: float, high: float) -> Reader:
    def read(value: Any) -> float:
        number = float(_whole(value)) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Wrong("expected a number of seconds")
        if not math.isfinite(number) or not low <= number <= high:
            raise Wrong(f"expected {low:g} to {high:g} seconds")
        return float(number)

    return read


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, int | str) else None
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Wrong("expected true or false")


def word(*words: str) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value.strip().lower() not in words:
            raise Wrong(f"expected one of {', '.join(words)}")
        return value.strip().lower()

    return read


def host(value: Any) -> str:
    """A host name or an IP address; names outside ASCII become A-labels."""
    name = str(text(1, 253, strip=True)(value))
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    try:
        name = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        raise Wrong("not a host name or IP address") from None
    if not _hostname(name):
        raise Wrong("not a host name or IP address")
    return name


def delays(value: Any) -> tuple[float, ...]:
    """Seconds after the first, second, ... failed attempt; a list, or separated by commas."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not 1 <= len(items) <= 50:
        raise Wrong("expected 1 to 50 numbers of seconds")
    read = seconds(1, 30 * 86_400)
    return tuple(read(item.strip() if isinstance(item, str) else item) for item in items)


def certificates(value: Any) -> str:
    """One or more certificates in PEM; nothing secret may be among them."""
    if not isinstance(value, str) or len(value) > 100_000 or "PRIVATE KEY" in value:
        raise Wrong("expected certificates in PEM, and no key")
    try:
        x509.load_pem_x509_certificates(value.encode("ascii"))
    except ValueError:
        raise Wrong("not a certificate in PEM") from None
    return value


def names(value: Any) -> list[str]:
    """Ids of accounts: a list, or separated by commas."""
    items = _listed(value) if isinstance(value, str) else value
    if not isinstance(items, list) or len(items) > MOST_ROUTES:
        raise Wrong(f"expected a list of at most {MOST_ROUTES} account ids")
    return list(dict.fromkeys(map(text(1, 255), items)))


def _listed(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")]


def weights(value: Any) -> dict[str, int]:
    """What each account counts: an object, or ``id=weight`` separated by commas."""
    if isinstance(value, str):
        pairs = [item.rpartition("=") for item in _listed(value)]
        if not all(equals for _, equals, _ in pairs):
            raise Wrong("expected account=weight, separated by commas")
        value = {name.strip(): weight for name, _, weight in pairs}
    if not isinstance(value, dict) or len(value) > MOST_ROUTES:
        raise Wrong(f"expected an object of at most {MOST_ROUTES} account ids")
    read_id, read_weight = text(1, 255), whole(0, MOST_WEIGHT)
    found = {read_id(name): read_weight(weight) for name, weight in value.items()}
    if found and not any(found.values()):
        raise Wrong("expected at least one weight that is not 0")
    return found


def behavior(value: Any) -> str:
    """What to do at a limit: *reject* or its other name *drop*; any other word means *defer*."""
    if not isinstance(value, str):
        raise Wrong("expected a string")
    return "reject" if value.strip().lower() in ("reject", "drop") else "defer"


def auth(value: Any) -> logins.Given:
    """How to log in; see :mod:`mailproxy.logins`."""
    try:
        return logins.read(value)
    except ValueError as error:
        raise Wrong(str(error)) from None


def pin(value: Any) -> list[str]:
    """The certificates to insist on; see :mod:`mailproxy.pins`."""
    try:
        return pins.read(value)
    except ValueError as error:
        raise Wrong(str(error)) from None


#: Fields that are in force, by name.
FIELDS: Mapping[str, Reader] = {
    "id": text(1, 255),
    "tenant_id": text(1, 255),
    "name": text(0, 255),
    "host": host,
    "port": whole(1, 65535),
    "user": text(0, 255),
    "password": text(0, 4096),
    "use_tls": flag,
    "tls_mode": word(*TlsMode),
    "allow_plaintext_auth": flag,
    "timeout": seconds(0.1, 3600),
    "ttl": seconds(0, 86_400),
    "max_sessions": whole(1, 1000),
    "batch_size": limit,
    "on_uncertain": word(*OnUncertain),
    "retry_delays": delays,
    "max_age_seconds": seconds(1, 366 * 86_400),
    "ca_pem": certificates,
    "is_default": flag,
    "pin": pin,
    "auth": auth,
}

#: Fields that are in force and kept among the account's options; see :mod:`mailproxy.routes`.
ROUTING: Mapping[str, Reader] = {"fallback": names, "weights": weights}

#: Likewise; see :mod:`mailproxy.limits`.
LIMITS: Mapping[str, Reader] = {
    "limit_per_minute": limit,
    "limit_per_hour": limit,
    "limit_per_day": limit,
    "limit_behavior": behavior,
}

#: All that are kept among the account's options.
OPTIONS: Mapping[str, Reader] = {**ROUTING, **LIMITS}

_REQUIRED = ("id", "host")


#: Fields of :class:`AccountSpec` that are taken as they are read.
_AS_READ = frozenset(field.name for field in attrs.fields(AccountSpec)) & frozenset(FIELDS)


def read_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Every known field of *body* that is given and not null.

    :raises WrongFields: everything that is wrong.
    """
    found: dict[str, Any] = {}
    problems: dict[str, str] = {}
    missing = frozenset(name for name in _REQUIRED if body.get(name) is None)
    for name, reader in (*FIELDS.items(), *OPTIONS.items()):
        value = body.get(name)
        if name in missing:
            problems[name] = "required"
        elif value is not None:
            try:
                found[name] = reader(value)
            except Wrong as wrong:
                problems[name] = str(wrong)
    if not problems:
        _agree(found, problems)
    if problems:
        raise WrongFields(problems, missing)
    return {name: value for name, value in found.items() if value is not None}


def _agree(found: dict[str, Any], problems: dict[str, str]) -> None:
    """Fields that need each other, or that do not go together."""
    given: logins.Given | None = found.get("auth")
    user = given.user if given is not None else ""
    if user and found.setdefault("user", user) != user:
        problems["auth"] = "user: not the account's user"
    if given is not None and given.auth.by_token:
        if not found.get("user"):
            problems["user"] = "required by auth xoauth2"
        if found.get("password"):
            problems["password"] = "has no place beside auth xoauth2"
    if found.get("pin") and found.get("tls_mode") in (TlsMode.PLAIN, TlsMode.OPPORTUNISTIC):
        problems["pin"] = "needs tls_mode implicit or starttls"


def specify(tenant_id: str, fields: Mapping[str, Any], *, declared: bool = False) -> AccountSpec:
    """
    The account that *fields*, as :func:`read_fields` gives them, stand for.

    :param declared: whether the configuration says so.
    """
    mode, port = tls(fields)
    values = {name: value for name, value in fields.items() if name in _AS_READ}
    user = fields.get("user") or None
    options = {name: fields[name] for name in OPTIONS if name in fields}
    if fields.get("pin"):
        options["pin"] = fields["pin"]
    password = fields.get("password") or None
    given: logins.Given | None = fields.get("auth")
    if given is not None and (public := given.auth.public()) is not None:
        options["auth"] = public
        if given.auth.by_token:
            password = None if given.secrets is None else given.secrets.dump()
    values |= {
        "tenant_id": tenant_id,
        "port": port,
        "tls_mode": mode,
        "user": user,
        "password": password if user else None,
        "on_uncertain": OnUncertain(fields.get("on_uncertain", OnUncertain.RETRY)),
        "options": msgspec.json.encode(options).decode(),
        "declared": declared,
    }
    return AccountSpec(**values)


def tls(fields: Mapping[str, Any]) -> tuple[TlsMode, int]:
    """
    The TLS mode and the port.

    ``tls_mode`` wins over ``use_tls``; port 465 is implicit TLS; 587 with credentials and every
    port with a pin require STARTTLS; all else takes TLS if it is offered.
    """
    mode = fields.get("tls_mode")
    use_tls = fields.get("use_tls")
    port = fields.get("port")
    if port is None:
        if mode is None:
            port = 465 if use_tls else 25
        else:
            port = {"implicit": 465, "starttls": 587}.get(mode, 25)
    if mode is not None:
        return TlsMode(mode), port
    if port == 465:
        return TlsMode.IMPLICIT, port
    if use_tls or fields.get("pin") or (port == 587 and fields.get("user")):
        return TlsMode.STARTTLS, port
    return TlsMode.OPPORTUNISTIC, port


def _whole(value: Any) -> int:
    if isinstance(value, str) and _digits(value.strip()):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Wrong("expected an integer")
    return value
