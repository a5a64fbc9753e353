"""The calls about everything but mail: the service, accounts, tenants and who may do what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from mailproxy.client.caller import Caller, given, join
from mailproxy.client.results_service import (
    Account,
    AccountTaken,
    AccountTest,
    Command,
    Credential,
    DkimKey,
    Instance,
    Key,
    Node,
    Status,
    Suspension,
    SyncStatus,
    SyncTest,
    Tenant,
)


class NewKey(msgspec.Struct, frozen=True):
    """A key that is shown this once: it is in no text that is made of this."""

    api_key: str

    def __repr__(self) -> str:
        return "NewKey(...)"


class Administration(Caller):
    """What changes a key or may tell a secret but once is never repeated."""

    # -- the service ---------------------------------------------------------------------------

    def health(self) -> bool:
        """Whether it answers. :raises Unavailable: it does not."""
        return self.call("GET", "/health").get("status") == "ok"

    def status(self) -> Status:
        """How it is."""
        return self.ask(Status, "GET", "/status")

    def metrics(self) -> str:
        """Its metrics, in the Prometheus text format."""
        return self.exchange("GET", "/metrics", repeatable=True).decode()

    def instance(self) -> Instance:
        """What it is called, and whether it sends."""
        return self.ask(Instance, "GET", "/instance")

    def change_instance(self, *, name: str | None = None, active: bool | None = None) -> None:
        """Name it, suspend it, or let it send."""
        self.call("PUT", "/instance", json=given(name=name, active=active))

    def nodes(self) -> list[Node]:
        """Its processes, the oldest first."""
        return self.entries(Node, "/v1/nodes", "nodes")

    def command_log(self, limit: int | None = None) -> Iterator[Command]:
        """What was changed, by whom and when, newest first; fetched page by page."""
        return self.paged(Command, "/command-log", "commands", limit)

    def run_now(self) -> None:
        """Look for due mail, and send reports, now."""
        self.call("POST", "/commands/run-now", repeatable=True)

    def suspend(self, batch_code: str | None = None) -> Suspension:
        """Stop sending. :param batch_code: one campaign; None: everything."""
        return self._sending("suspend", batch_code)

    def activate(self, batch_code: str | None = None) -> Suspension:
        """Undo :meth:`suspend`."""
        return self._sending("activate", batch_code)

    def _sending(self, verb: str, batch_code: str | None) -> Suspension:
        path, query = f"/commands/{verb}", {"batch_code": batch_code}
        return self.ask(Suspension, "POST", path, query, repeatable=True)

    # -- accounts ------------------------------------------------------------------------------

    def accounts(self) -> list[Account]:
        """All accounts, without their secrets."""
        return self.entries(Account, "/accounts", "accounts")

    def add_account(self, id: str, host: str, port: int | None = None, **fields: Any) -> list[str]:
        """
        Declare an account, or change it.

        :param fields: further ones as the API names them: ``user``, ``password``, ``use_tls``, ...
        :return: what may be meant otherwise.
        """
        body = {"id": id, "host": host, **given(port=port), **fields}
        taken = self.ask(AccountTaken, "POST", "/account", json=body, repeatable=True)
        return taken.warnings

    def test_account(self, id: str) -> AccountTest:
        """Connect to an account's server and log in, without sending mail."""
        return self.ask(AccountTest, "POST", join("/v1/accounts", id, "test"))

    def delete_account(self, id: str) -> None:
        """Delete an account; its waiting mail fails."""
        self.call("DELETE", join("/account", id))

    # -- tenants -------------------------------------------------------------------------------

    def tenants(self, *, active_only: bool = False) -> list[Tenant]:
        """All tenants."""
        query: dict[str, Any] = {"tenant_id": None, "active_only": active_only or None}
        return self.entries(Tenant, "/tenants", "tenants", **query)

    def tenant(self, id: str) -> Tenant:
        """One tenant. :raises NotFound: there is none."""
        return self.ask(Tenant, "GET", join("/tenant", id), _ANY)

    def add_tenant(self, id: str, **fields: Any) -> NewKey:
        """
        Register a tenant, or change it: what is left out stays, None clears.

        :return: a further key, shown this once.
        """
        return self.ask(NewKey, "POST", "/tenant", _ANY, {"id": id, **fields})

    def change_tenant(self, id: str, **fields: Any) -> None:
        """Change a tenant; no new key."""
        self.call("PUT", join("/tenant", id), _ANY, fields)

    def delete_tenant(self, id: str) -> None:
        """End its keys and its intake at once; its reports are tried for 24 hours more."""
        self.call("DELETE", join("/tenant", id), _ANY)

    def sync_status(self) -> SyncStatus:
        """When each tenant was called last, when it is due, and what went wrong."""
        return self.ask(SyncStatus, "GET", "/tenants/sync-status", _ANY)

    def test_sync(self, tenant_id: str) -> SyncTest:
        """Post an empty report to a tenant, and tell whether its answer would count."""
        return self.ask(SyncTest, "POST", join("/v1/tenants", tenant_id, "test-sync"), _ANY)

    # -- keys ----------------------------------------------------------------------------------

    def keys(self, tenant_id: str) -> list[Key]:
        """A tenant's keys, as far as they are shown."""
        return self.entries(Key, join("/v1/tenants", tenant_id, "keys"), "keys", **_ANY)

    def add_key(self, tenant_id: str, **fields: Any) -> NewKey:
        """Make a further key. :param fields: ``label``, ``scopes``, ``networks``, ``ttl``, ..."""
        return self.ask(NewKey, "POST", join("/v1/tenants", tenant_id, "keys"), _ANY, fields)

    def rotate_keys(self, tenant_id: str) -> NewKey:
        """Make a key, and end all others."""
        return self.ask(NewKey, "POST", join("/tenant", tenant_id, "api-key"), _ANY)

    def delete_key(self, tenant_id: str, prefix: str) -> None:
        """End one key."""
        self.call("DELETE", join("/v1/tenants", tenant_id, "keys", prefix), _ANY)

    def delete_keys(self, tenant_id: str) -> None:
        """End all keys of a tenant."""
        self.call("DELETE", join("/tenant", tenant_id, "api-key"), _ANY)

    # -- SMTP credentials ----------------------------------------------------------------------

    def credentials(self) -> list[Credential]:
        """With these, programs hand mail in by SMTP."""
        return self.entries(Credential, "/v1/credentials", "credentials")

    def add_credential(self, user: str, **fields: Any) -> Credential:
        """
        Create or change a credential; what is left out stays.

        :param fields: ``password``, ``account_id``, ``senders``, ``networks``, ``label``,
            ``active``.
        """
        body = {"user": user, **fields}
        return self.ask(Credential, "POST", "/v1/credentials", json=body, repeatable=True)

    def delete_credential(self, user: str) -> None:
        """End a credential."""
        self.call("DELETE", join("/v1/credentials", user))

    # -- DKIM keys -----------------------------------------------------------------------------

    def dkim_keys(self) -> list[DkimKey]:
        """The keys that sign mail, with the records to publish."""
        return self.entries(DkimKey, "/v1/dkim", "keys")

    def add_dkim_key(
        self,
        domain: str,
        selector: str,
        *,
        private_key: str | None = None,
        algorithm: str | None = None,
        active: bool = False,
    ) -> DkimKey:
        """
        Add a key.

        :param private_key: in PEM; None: one is made there.
        :raises Conflict: the selector is taken, or the domain has ten keys.
        """
        named = {"domain": domain, "selector": selector, "active": active}
        body = named | given(private_key=private_key, algorithm=algorithm)
        return self.ask(DkimKey, "POST", "/v1/dkim", json=body)

    def activate_dkim_key(self, domain: str, selector: str) -> DkimKey:
        """Sign with it from now on."""
        path = join("/v1/dkim", domain, selector, "activate")
        return self.ask(DkimKey, "POST", path, repeatable=True)

    def deactivate_dkim_key(self, domain: str, selector: str) -> DkimKey:
        """Sign with it no more."""
        path = join("/v1/dkim", domain, selector, "deactivate")
        return self.ask(DkimKey, "POST", path, repeatable=True)

    def delete_dkim_key(self, domain: str, selector: str) -> None:
        """Remove a key."""
        self.call("DELETE", join("/v1/dkim", domain, selector))


#: The call names its tenant in the path, or is about all: not the client's own.
_ANY: dict[str, Any] = {"tenant_id": None}
