"""``/account`` and ``/accounts``: the upstreams mail goes through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mailproxy.api import shapes_accounts
from mailproxy.api.account_fields import LIMITS, ROUTING, read_fields, specify
from mailproxy.api.answers import (
    OTHER_TENANT,
    Answer,
    Problem,
    Refused,
    answer,
    error,
    invalid,
    ok,
    refused,
)
from mailproxy.api.bodies import read_object
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.times import iso, seconds
from mailproxy.interfaces import IAccounts, IClock, IControl
from mailproxy.limits import UNITS, Use, waiting
from mailproxy.logins import auth_of
from mailproxy.metrics import Metrics
from mailproxy.model import DEFAULT_TENANT, Account
from mailproxy.pins import pins_of
from mailproxy.records import AccountSpec, AccountTest, PasswordRequired
from mailproxy.routes import read_routes
from mailproxy.tenancy import Declared

#: Said of an account that only the configuration may change.
DECLARED = error(409, "declared in the configuration")


class Accounts:
    """Declares, lists and deletes upstream accounts."""

    def __init__(
        self, store: IAccounts, clock: IClock, metrics: Metrics, control: IControl
    ) -> None:
        self._store = store
        self._control = control
        self._clock = clock
        self._metrics = metrics

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/account", self.put, Need.CONTROL, shapes_accounts.PUT_ACCOUNT)
        yield Route("GET", "/accounts", self.list, Need.READ, shapes_accounts.LIST_ACCOUNTS)
        yield Route(
            "DELETE",
            "/account/<path:id>",
            self.delete,
            Need.CONTROL,
            shapes_accounts.DELETE_ACCOUNT,
        )
        yield Route(
            "POST",
            "/v1/accounts/<path:id>/test",
            self.test,
            Need.CONTROL,
            shapes_accounts.TEST_ACCOUNT,
        )

    async def put(self, call: Call) -> Answer:
        home, asked = call.home(), call.asked_tenant()
        body = read_object(call)
        fields = read_fields(body)
        tenant_id = fields.pop("tenant_id", home)
        if tenant_id != home:
            if call.caller.tenant_id is not None:
                raise Refused(OTHER_TENANT)
            if asked is not None:
                raise invalid([Problem(("body", "tenant_id"), "not the tenant of the query")])
            if not call.tenant_exists(tenant_id):
                raise invalid([Problem(("body", "tenant_id"), "tenant not found")])
        spec = specify(tenant_id, fields)
        try:
            await self._store.put_account(spec, self._clock.now())
        except PasswordRequired:
            raise invalid([_missing_secret(spec)]) from None
        except Declared:
            raise Refused(DECLARED) from None
        self._metrics.know(tenant_id, spec.id)
        remarks = _remarks(body)
        if any(fields.get(name) for name in ROUTING):
            await self._look_for_routes(spec, remarks)
        return ok(**remarks)

    async def _look_for_routes(self, spec: AccountSpec, remarks: dict[str, Any]) -> None:
        """Accounts may be declared in any order; but somebody should know of a slip of the pen."""
        known = {each.id for each in await self._store.accounts(spec.tenant_id)}
        routes = read_routes(spec.id, msgspec.json.decode(spec.options))
        missing = {name for name in routes.others if name not in known}
        for field, names in (("fallback", routes.fallback), ("weights", routes.weights)):
            if not missing.isdisjoint(names):
                warning = f"{field}: names an account that is not there (yet); it is passed over"
                remarks.setdefault("warnings", []).append(warning)

    async def list(self, call: Call) -> Answer:
        accounts = await self._store.accounts(call.scope())
        uses = await self._store.limits(call.scope(), self._clock.now())
        kept: dict[tuple[str, str], list[Use]] = {}
        for use in uses:
            kept.setdefault((use.tenant_id, use.account_id), []).append(use)
        sessions = self._metrics.open_sessions()
        return ok(accounts=[_shown(account, kept, sessions) for account in accounts])

    async def delete(self, call: Call) -> Answer:
        given = call.asked_tenant()
        tenant_id = DEFAULT_TENANT if given is None else given
        now = self._clock.now()
        try:
            deleted = await self._store.delete_account(tenant_id, call.path["id"], now)
        except Declared:
            raise Refused(DECLARED) from None
        if deleted:
            self._metrics.forget(tenant_id, call.path["id"])
        elif given is not None:
            raise refused(404, "account not found")
        return ok()

    async def test(self, call: Call) -> Answer:
        for account in await self._store.accounts(call.home()):
            if account.id == call.path["id"]:
                return _tested(await self._control.test_account(account))
        raise refused(404, "account not found")


def _tested(test: AccountTest) -> Answer:
    return answer(
        shapes_accounts.AccountTested(
            works=test.works,
            phase=test.phase or None,
            code=test.code,
            problem=test.problem,
            peer=test.peer or None,
            tls=test.tls or None,
            logged_in=test.logged_in,
            offers=list(test.offers),
            notes=list(test.notes),
            seconds=round(test.seconds, 3),
        )
    )


def _missing_secret(spec: AccountSpec) -> Problem:
    if auth_of(spec.options).by_token:
        return Problem(("body", "auth"), "its secrets are required", "missing")
    return Problem(("body", "password"), "password required", "missing")


def _remarks(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the client should know of a declaration that was taken."""
    remarks: dict[str, Any] = {}
    behavior = body.get("limit_behavior")
    if isinstance(behavior, str) and behavior.strip().lower() not in ("defer", "reject", "drop"):
        remarks["warnings"] = ["limit_behavior: an unknown word, taken as defer"]
    return remarks


def _shown(
    account: Account,
    kept: Mapping[tuple[str, str], Sequence[Use]],
    sessions: Mapping[tuple[str, str], int],
) -> dict[str, Any]:
    """Every field but the secrets; *kept* has the limits of tenants and accounts."""
    options = msgspec.json.decode(account.options or "{}")
    own = kept.get((account.tenant_id, account.id), ())
    limited = waiting([*own, *kept.get((account.tenant_id, ""), ())])
    return {
        "id": account.id,
        "tenant_id": account.tenant_id,
        "name": account.name,
        "host": account.host,
        "port": account.port,
        "user": account.user,
        "use_tls": account.use_tls,
        "tls_mode": account.tls_mode.value,
        "allow_plaintext_auth": account.allow_plaintext_auth,
        "timeout": account.timeout,
        "ttl": account.ttl,
        "max_sessions": account.max_sessions,
        "sessions": sessions.get((account.tenant_id, account.id), 0),
        "batch_size": account.batch_size,
        "is_default": account.is_default,
        "on_uncertain": account.on_uncertain.value,
        "retry_delays": account.retry_delays,
        "max_age_seconds": account.max_age_seconds,
        "ca_pem": account.ca_pem,
        "fallback": list(read_routes(account.id, options).fallback) or None,
        "weights": options.get("weights") or None,
        "auth": auth_of(account.options).public(),
        "pin": sorted(pins_of(account.options)),
        **{name: options.get(name) for name in LIMITS},
        "used": {f"per_{UNITS[use.seconds]}": use.used for use in own},
        "limited_until": None if limited is None else limited.until,
        "limited_reason": None if limited is None else limited.reason,
        "state": "parked" if account.parked_reason else "active",
        "parked_reason": account.parked_reason or None,
        "parked_since": seconds(account.parked_since),
        "probe_at": seconds(account.probe_at),
        "held_since": seconds(account.held_since),
        "declared": account.declared,
        "created_at": iso(account.created_at),
        "updated_at": iso(account.updated_at),
    }
