"""
The tenants of a torture run, and how what is seen of them is told apart.

Pure. All of them submit the same ids, for accounts of the same names: what keeps them apart has to
be the service. Each sends from a domain of its own to recipients in it, and is told on a path of
its own, so that whatever comes to the wrong one shows whose it is.
"""

from __future__ import annotations

from mailproxy.model import DEFAULT_TENANT

#: Of a run of the command; the first is there without being registered.
TENANTS = (DEFAULT_TENANT, "other")

_DOMAIN = "example.test"
_PATH = "/sync"


def named(tenant: str, id: str) -> str:
    """What the ledgers call the message *id* of *tenant*."""
    return id if tenant == DEFAULT_TENANT else f"{tenant}/{id}"


def domain(tenant: str) -> str:
    """Where its mail comes from, and goes to."""
    return _DOMAIN if tenant == DEFAULT_TENANT else f"{tenant}.{_DOMAIN}"


def sender(tenant: str) -> str:
    """Whom all its mail is from."""
    return f"torture@{domain(tenant)}"


def of_address(address: str) -> str:
    """Whose an address is, by its domain."""
    host = address.rpartition("@")[2]
    return host.removesuffix(_DOMAIN).rstrip(".") or DEFAULT_TENANT


def path(tenant: str) -> str:
    """Where it is told what became of its mail."""
    return _PATH if tenant == DEFAULT_TENANT else f"{_PATH}/{tenant}"


def of_path(told: str) -> str:
    """Whose path that is."""
    return told.removeprefix(_PATH).strip("/") or DEFAULT_TENANT
