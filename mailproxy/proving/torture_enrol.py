"""A tenant's own way into the service: registered, with accounts, a key, and an SMTP login."""

from __future__ import annotations

import secrets
import smtplib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from mailproxy.model import DEFAULT_TENANT
from mailproxy.proving.children import Pause
from mailproxy.proving.torture_client import HOST, PATIENCE, Api, Door, NoAnswer, Unexpected
from mailproxy.proving.torture_plan import ACCOUNTS
from mailproxy.proving.torture_tenants import path

#: Seconds between two looks whether a node knows a key that another has made.
LOOK = 0.1


@attrs.frozen
class Sink:
    """The ports of the upstream, and of the receiver of reports."""

    smtp_port: int = 0
    http_port: int = 0

    def url(self, tenant: str) -> str:
        """Where reports to *tenant* go."""
        return f"http://{HOST}:{self.http_port}{path(tenant)}"

    def account(self, name: str, sessions: int) -> dict[str, Any]:
        return {
            "id": name,
            "host": HOST,
            "port": self.smtp_port,
            "tls_mode": "plain",
            "max_sessions": sessions,
            "is_default": name == "main",
        }


@attrs.frozen
class Key:
    """
    What a tenant shows.

    :param login: user and password by SMTP; None: its programs are let in as they are.
    """

    token: str = attrs.field(repr=False)
    login: tuple[str, str] | None = attrs.field(default=None, repr=False)

    def at(self, api: Api) -> Api:
        """The interface, as the tenant's."""
        return api.shown(self.token)

    def known(self, door: Door) -> bool:
        """Whether that node lets the tenant in; one that hears of it from another may be late."""
        try:
            self.at(door.api).call("GET", "/accounts")
            if self.login is not None:
                with smtplib.SMTP(HOST, door.smtp_port, timeout=PATIENCE) as client:
                    client.login(*self.login)
        except (NoAnswer, Unexpected, OSError, smtplib.SMTPException):
            return False
        return True


@attrs.define
class Keys:
    """
    The keys that were given, to whichever submitter asked first.

    :param tenants: that get one; where there are none, all submit as who set the service up.
    """

    doors: Sequence[Door]
    pause: Pause
    tenants: Sequence[str] = ()
    sink: Sink = attrs.Factory(Sink)
    _given: dict[str, Key] = attrs.Factory(dict)
    _turn: threading.Lock = attrs.Factory(threading.Lock)

    @property
    def complete(self) -> bool:
        """Whether each tenant has its key."""
        return len(self._given) == len(self.tenants)

    def of(self, tenant: str, ask: Callable[[Callable[[Door], Any]], Any]) -> Key:
        """
        The tenant's key, which every node knows, as soon as all have theirs.

        :param ask: asks some node, and others, until one has answered.
        :raises Unexpected: an answer that no right program gives.
        """
        with self._turn:
            if not self.complete:
                self._given = {each: self._enrol(each, ask) for each in self.tenants}
            return self._given[tenant]

    def apis(self, api: Api) -> dict[str, Api]:
        """*api* as each tenant's; the default one's as it is, if nobody was asked for a key."""
        return {tenant: key.at(api) for tenant, key in self._given.items()} or {DEFAULT_TENANT: api}

    def _enrol(self, tenant: str, ask: Callable[[Callable[[Door], Any]], Any]) -> Key:
        """Whatever answer is lost, each call may be made again."""

        def post(where: str, body: dict[str, Any]) -> Any:
            return ask(lambda door: door.api.call("POST", where, body))

        if tenant == DEFAULT_TENANT:  # it is there, with accounts and without a login
            made = post(f"/v1/tenants/{tenant}/keys", {"label": "torture"})
            return self._everywhere(Key(made["api_key"]))
        told = post("/tenant", {"id": tenant, "client_sync_url": self.sink.url(tenant)})
        key = self._everywhere(Key(told["api_key"]))
        for name, sessions in ACCOUNTS.items():
            post("/account", self.sink.account(name, sessions) | {"tenant_id": tenant})
        password = secrets.token_urlsafe(16)
        post("/v1/credentials", {"user": tenant, "password": password, "tenant_id": tenant})
        return self._everywhere(attrs.evolve(key, login=(tenant, password)))

    def _everywhere(self, key: Key) -> Key:
        """Wait until every node knows *key*: a single one knows what it has made."""
        for door in self.doors if len(self.doors) > 1 else ():
            while not key.known(door):
                self.pause.pause(LOOK)
        return key
