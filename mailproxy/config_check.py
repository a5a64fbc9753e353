"""The checks that need more than one setting."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from mailproxy.config_database import DatabaseUrl
from mailproxy.doors import described, words
from mailproxy.errors import ConfigurationError
from mailproxy.submitters import too_wide

if TYPE_CHECKING:
    from mailproxy.config import Settings

#: An API token shorter than this can be guessed.
TOKEN_LENGTH = 32


def check(settings: Settings) -> list[str]:
    """
    Check what goes together in *settings*.

    :return: warnings, one line each.
    :raises ConfigurationError: they contradict each other.
    """
    warnings: list[str] = []
    _check_shared(settings)
    _check_token(settings, warnings)
    _check_sync(settings, warnings)
    _check_door(settings, warnings)
    return warnings


def _check_shared(settings: Settings) -> None:
    """What every node of a service has to be given: two would invent two."""
    if not isinstance(settings.db_path, DatabaseUrl):
        return
    if not settings.encryption_key:
        raise ConfigurationError(
            "GMP_ENCRYPTION_KEY", "missing: the nodes of one database need the same key"
        )
    if settings.api_token is None and not settings.allow_no_token:
        raise ConfigurationError(
            "GMP_API_TOKEN", "missing: the nodes of one database need the same token"
        )


def _check_token(settings: Settings, warnings: list[str]) -> None:
    token = settings.api_token
    if token is None:
        if settings.allow_no_token and not settings.local:
            raise ConfigurationError(
                "GMP_ALLOW_NO_TOKEN",
                "without a token the API may listen on a loopback address or a Unix socket only",
            )
    elif len(token) < TOKEN_LENGTH:
        warnings.append(f"GMP_API_TOKEN: shorter than {TOKEN_LENGTH} characters, easy to guess")
    if token is None and settings.allow_no_token:
        warnings.append("GMP_ALLOW_NO_TOKEN: whoever can log in to this machine can use the API")


def _check_sync(settings: Settings, warnings: list[str]) -> None:
    user, password = settings.client_sync_user, settings.client_sync_password
    if user is not None and password is None:
        raise ConfigurationError("GMP_CLIENT_SYNC_PASSWORD", "missing, but there is a user")
    if password is not None and user is None:
        raise ConfigurationError("GMP_CLIENT_SYNC_USER", "missing, but there is a password")
    if user is not None and ":" in user:
        raise ConfigurationError("GMP_CLIENT_SYNC_USER", "has a colon, which Basic cannot carry")
    if settings.client_sync_url is None and (user or settings.client_sync_token):
        warnings.append("GMP_CLIENT_SYNC_URL: missing, so that the report credentials are unused")


def _check_door(settings: Settings, warnings: list[str]) -> None:
    certificate, key = settings.smtp_tls_cert, settings.smtp_tls_key
    if certificate is not None and key is None:
        raise ConfigurationError("GMP_SMTP_TLS_KEY", "missing, but there is a certificate")
    if key is not None and certificate is None:
        raise ConfigurationError("GMP_SMTP_TLS_CERT", "missing, but there is a key")
    for name, networks in (
        ("GMP_SMTP_ALLOW", settings.smtp_allow),
        ("GMP_SMTP_PLAINTEXT_AUTH", settings.smtp_plaintext_auth),
    ):
        if too_wide(networks):
            raise ConfigurationError(name, "would let in the world: a network is /8 or narrower")
    doors = [described(each) for each in settings.smtp_listen]
    if certificate is None and any(door.implicit for door in doors):
        raise ConfigurationError("GMP_SMTP_TLS_CERT", "missing, but a door is tls:")
    plain = not all(door.encrypted for door in doors)
    if plain and certificate is None and not settings.smtp_plaintext_auth:
        warnings.append(
            "GMP_SMTP_LISTEN: no login without GMP_SMTP_TLS_CERT or GMP_SMTP_PLAINTEXT_AUTH"
        )


def is_local(listen: str) -> bool:
    """
    Whether an endpoint is reached from this machine only.

    :param listen: an endpoint description; ``haproxy:`` before it changes nothing.
    """
    parts = words(listen)
    if parts[0] == "haproxy":
        del parts[0]
    if parts[0] == "unix":
        return True
    if parts[0] not in ("tcp", "tcp4", "tcp6", "ssl"):
        return False
    interfaces = [
        part.removeprefix("interface=") for part in parts if part.startswith("interface=")
    ]
    return len(interfaces) == 1 and _is_loopback(interfaces[0])


def _is_loopback(interface: str) -> bool:
    try:
        return ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return interface == "localhost"
