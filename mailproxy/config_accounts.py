"""
Accounts that the configuration declares.

In an ini file each is a section ``[account NAME]``; in JSON they are the objects of a list. The
fields are those of ``POST /account``, and ``tenant``. A password never stands there itself: it is
named by ``password_env`` or ``password_file``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec

from mailproxy.account_fields import (
    FIELDS,
    OPTIONS,
    WrongFields,
    read_fields,
    specify,
)
from mailproxy.config_sources import (
    Ini,
    account_of,
    parse_ini,
    read_secret,
    read_text,
)
from mailproxy.config_values import shown
from mailproxy.errors import ConfigurationError
from mailproxy.model import DEFAULT_TENANT
from mailproxy.records import AccountSpec

_VARIABLE = "GMP_ACCOUNTS_FILE"

#: Fields that only a declaration has.
_OWN = ("tenant", "password_env", "password_file", "ca_pem_file")

#: Parts of ``auth``, as fields of their own; secrets as the name of where they are.
_AUTH = ("grant", "token_url", "client_id", "scope")
_AUTH_SECRETS = ("client_secret", "refresh_token")
_OWN_AUTH = (
    *(f"auth_{name}" for name in _AUTH),
    *(f"auth_{name}_{where}" for name in _AUTH_SECRETS for where in ("env", "file")),
)

_KNOWN = frozenset((*FIELDS, *OPTIONS, *_OWN, *_OWN_AUTH)) - {
    "password",
    "tenant_id",
}


@attrs.frozen
class Declaration:
    """
    One account as it is written.

    :param where: what stands before the field's name when something is wrong with it.
    """

    where: str
    file: Path
    fields: Mapping[str, Any] = attrs.field(repr=False)

    def wrong(self, field: str, problem: str) -> ConfigurationError:
        """The error to raise."""
        return ConfigurationError(f"{self.where} {field}", f"{problem} ({self.file})")

    def text(self, field: str) -> str | None:
        """A field that is a text; None if it is absent or empty."""
        value = self.fields.get(field)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or not value.isprintable():
            raise self.wrong(field, "expected a text")
        return value


def declared(
    ini: Ini, file: Path | None, environ: Mapping[str, str], base: Path
) -> tuple[AccountSpec, ...]:
    """
    Every account that the ini file or *file* declares, by tenant and id.

    :param file: what ``GMP_ACCOUNTS_FILE`` names: an ini file, or JSON if its name says so.
    :param environ: where ``password_env`` looks.
    :param base: where relative paths start.
    :raises ConfigurationError: the first field that is wrong, or an account declared twice.
    """
    found: dict[tuple[str, str], AccountSpec] = {}
    for each in (*_in_ini(ini), *(_in_file(file) if file is not None else ())):
        spec = _account(each, environ, base)
        key = (spec.tenant_id, spec.id)
        if key in found:
            raise each.wrong("id", "declared twice")
        found[key] = spec
    return tuple(found[key] for key in sorted(found))


def _in_file(file: Path) -> Iterable[Declaration]:
    if file.suffix.lower() == ".json":
        return _in_json(file)
    ini = parse_ini(_VARIABLE, file)
    for section, key in sorted(ini.entries):
        if account_of(section) is None:
            entry = shown(f"[{section}] {key}")[1:-1]
            raise ConfigurationError(_VARIABLE, f"{entry} in {file}: not an account's section")
    return _in_ini(ini)


def _in_ini(ini: Ini) -> Iterable[Declaration]:
    sections: dict[str, dict[str, Any]] = {}
    for (section, key), value in ini.entries.items():
        name = account_of(section)
        if name is not None:
            sections.setdefault(section, {"id": name})[key] = value.strip()
    for section, fields in sections.items():
        assert ini.path is not None
        given = {name: value for name, value in fields.items() if value != ""}
        yield Declaration(f"[{shown(section)[1:-1]}]", ini.path, given)


def _in_json(file: Path) -> Iterable[Declaration]:
    try:
        content = msgspec.json.decode(read_text(_VARIABLE, file))
    except (msgspec.DecodeError, RecursionError):
        raise ConfigurationError(_VARIABLE, f"{shown(str(file), 200)} is not JSON") from None
    listed = content.get("accounts") if isinstance(content, dict) else content
    if not isinstance(listed, list):
        problem = f"{shown(str(file), 200)} is neither a list nor an object with accounts in it"
        raise ConfigurationError(_VARIABLE, problem)
    for number, each in enumerate(listed, 1):
        name = each.get("id") if isinstance(each, dict) else None
        where = f"account {shown(name)}" if isinstance(name, str) else f"account no. {number}"
        if not isinstance(each, dict):
            raise ConfigurationError(_VARIABLE, f"{where} in {file} is not an object")
        yield Declaration(where, file, each)


def _account(each: Declaration, environ: Mapping[str, str], base: Path) -> AccountSpec:
    _check_names(each)
    tenant = each.text("tenant") or DEFAULT_TENANT
    own = (*_OWN, *_OWN_AUTH)
    given = {name: value for name, value in each.fields.items() if name not in own}
    certificates = each.text("ca_pem_file")
    if certificates is not None:
        given["ca_pem"] = read_text(f"{each.where} ca_pem_file", base / certificates)
    password = _secret(each, "password", environ, base)
    given |= {"tenant_id": tenant, "password": password, "auth": _auth(each, environ, base)}
    try:
        fields = read_fields(given)
    except WrongFields as wrong:
        name, problem = next(iter(wrong.problems.items()))
        names = {"tenant_id": "tenant", "ca_pem": "ca_pem_file" if certificates else "ca_pem"}
        raise each.wrong(names.get(name, name), problem) from None
    by_token = "auth" in fields and fields["auth"].auth.by_token
    if by_token and fields["auth"].secrets is None:
        raise each.wrong("auth", "has no secret: give auth_client_secret_env or ..._file")
    if fields.get("user") and not fields.get("password") and not by_token:
        raise each.wrong("user", "has no password: give password_env or password_file")
    if fields.get("password") and not fields.get("user"):
        raise each.wrong("user", "missing, but there is a password")
    return specify(fields.pop("tenant_id"), fields, declared=True)


def _check_names(each: Declaration) -> None:
    """Nothing is passed over here: a name that was mistyped may be the one for the password."""
    for name in each.fields:
        if name == "password":
            raise each.wrong(name, "secrets do not stand here: use password_env or password_file")
        if name not in _KNOWN:
            near = difflib.get_close_matches(name, sorted(_KNOWN), n=1, cutoff=0.75)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise each.wrong(shown(name)[1:-1], f"unknown field{hint}")


def _auth(each: Declaration, environ: Mapping[str, str], base: Path) -> Any:
    """The field ``auth``, with what is said of it in fields of its own."""
    said = each.fields.get("auth")
    parts = {name: each.text(f"auth_{name}") for name in _AUTH}
    parts |= {name: _secret(each, f"auth_{name}", environ, base) for name in _AUTH_SECRETS}
    given = {name: value for name, value in parts.items() if value is not None}
    if isinstance(said, dict) and set(said) & set(_AUTH_SECRETS):
        raise each.wrong(
            "auth", "secrets do not stand here: use auth_client_secret_env or ..._file"
        )
    if not given:
        return said
    whole = said if isinstance(said, dict) else {"method": said}
    return {**whole, **given}


def _secret(each: Declaration, name: str, environ: Mapping[str, str], base: Path) -> str | None:
    in_env, in_file = f"{name}_env", f"{name}_file"
    variable, file = each.text(in_env), each.text(in_file)
    if variable is not None and file is not None:
        raise each.wrong(in_env, f"given twice: also as {in_file}")
    if file is not None:
        return read_secret(f"{each.where} {in_file}", base / file)
    if variable is None:
        return None
    secret = environ.get(variable)
    if not secret:
        raise each.wrong(in_env, f"the variable {shown(variable)} is not set")
    return secret
