"""``/tenant`` and ``/tenants``: who may hand mail over, and how it is told what became of it."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET
from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from mailproxy.account_fields import Wrong
from mailproxy.api import shapes_tenants as shapes
from mailproxy.api.answers import Answer, Problem, answer, invalid, ok, refused, unavailable
from mailproxy.api.bodies import read_object
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.keys import KeyMaker
from mailproxy.api.tenant_fields import changing, read_tenant, shown, tenant_id
from mailproxy.api.times import seconds
from mailproxy.book import TenantBook
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, IControl, IStore
from mailproxy.metrics import Metrics
from mailproxy.model import DEFAULT_TENANT
from mailproxy.tenancy import Tenant

#: The tenant is stored, but has no further key.
NO_KEY = unavailable("no key could be stored: register the tenant again")

_log = Logger()


class Tenants:
    """
    Registers, shows, changes and deletes tenants.

    :param interval: seconds after which a tenant is called though there is nothing to report.
    """

    def __init__(
        self,
        store: IStore,
        control: IControl,
        clock: IClock,
        book: TenantBook,
        metrics: Metrics,
        interval: float,
    ) -> None:
        self._store = store
        self._control = control
        self._clock = clock
        self._book = book
        self._keys = KeyMaker(store, clock)
        self._metrics = metrics
        self._interval = interval

    def routes(self) -> Iterable[Route]:
        one, test = "/tenant/<tenant_id>", "/v1/tenants/<tenant_id>/test-sync"
        yield Route("POST", "/tenant", self.register, Need.ADMIN, shapes.REGISTER)
        yield Route("GET", one, self.get, Need.ADMIN, shapes.GET_TENANT)
        yield Route("PUT", one, self.put, Need.ADMIN, shapes.PUT_TENANT)
        yield Route("DELETE", one, self.delete, Need.ADMIN, shapes.DELETE_TENANT)
        yield Route("GET", "/tenants", self.all, Need.ADMIN, shapes.LIST_TENANTS)
        yield Route("GET", "/tenants/sync-status", self.status, Need.ADMIN, shapes.SYNC_STATUS)
        yield Route("POST", test, self.test, Need.CONTROL, shapes.TEST_SYNC)

    async def register(self, call: Call) -> Answer:
        """
        The tenant and its new key are two commits, of which the second may fail; whoever repeats
        the call then gets what is missing.
        """
        body = read_object(call)
        try:
            id = tenant_id(body.get("id"))
        except Wrong as wrong:
            raise invalid([Problem(("body", "id"), str(wrong))]) from None
        fields, now = read_tenant(body), self._clock.now()
        await self._store.change_tenant(id, changing(id, fields), now)
        try:
            key = await self._keys.make(id)
        except StoreError:
            await self._book.changed()
            return NO_KEY
        await self._book.changed()
        self._control.tenant_registered(id)
        ensureDeferred(self._fetch_again(id))
        return answer(shapes.Registered(api_key=key))

    async def _fetch_again(self, id: str) -> None:
        """Attachments that could not be fetched are tried again; nobody waits for that."""
        try:
            await self._store.refetch(id, self._clock.now())
        except StoreError as error:
            _log.warn(
                "attachments of {tenant} are fetched when it was planned: {error}",
                tenant=id,
                error=str(error),
            )
        except Exception:
            _log.failure("making attachments of {tenant} due", tenant=id)

    async def get(self, call: Call) -> Answer:
        tenant = await self._find(call.path["tenant_id"])
        return answer(_one(tenant))

    async def put(self, call: Call) -> Answer:
        id, body = call.path["tenant_id"], read_object(call)
        if body.get("id", id) != id:
            raise invalid([Problem(("body", "id"), "not the id in the path")])
        fields = read_tenant(body)
        change = changing(id, fields)

        def change_known(old: Tenant | None) -> Tenant:
            if old is None:
                raise _unknown()
            return change(old)

        await self._store.change_tenant(id, change_known, self._clock.now())
        await self._book.changed()
        return answer(shapes.TenantTaken())

    async def delete(self, call: Call) -> Answer:
        id = call.path["tenant_id"]
        if id == DEFAULT_TENANT:
            raise refused(409, "the tenant of clients without tenants cannot be deleted")
        accounts = await self._store.accounts(id)
        if not await self._store.delete_tenant(id, self._clock.now()):
            raise _unknown()
        await self._book.changed()
        for account in accounts:
            self._metrics.forget(id, account.id)
        return ok()

    async def all(self, call: Call) -> Answer:
        active_only = call.flag("active_only")
        tenants = [each for each in await self._living() if each.active or not active_only]
        return answer(shapes.Tenants(tenants=[shown(each) for each in tenants]))

    async def status(self, call: Call) -> Answer:
        lags = await self._store.report_lags(self._clock.now())
        tenants = [self._sync(each, lags.get(each.id, 0.0)) for each in await self._living()]
        return answer(shapes.SyncStatus(sync_interval_seconds=int(self._interval), tenants=tenants))

    def _sync(self, tenant: Tenant, lag: float) -> shapes.TenantSync:
        state = self._control.sync_status(tenant.id)
        return shapes.TenantSync(
            id=tenant.id,
            active=tenant.active,
            last_sync_ts=None if state is None else seconds(state.last_sync),
            next_sync_due=None if state is None else seconds(state.next_due),
            in_dnd=state is not None and state.in_dnd,
            report_lag_seconds=round(lag, 3),
            last_error=UNSET if state is None or not state.last_error else state.last_error,
        )

    async def test(self, call: Call) -> Answer:
        tenant = await self._find(call.path["tenant_id"])
        outcome = await self._control.test_sync(tenant.id)
        return answer(
            shapes.SyncTested(
                acknowledged=outcome.acknowledged,
                problem=outcome.problem,
                seconds=round(outcome.seconds, 3),
            )
        )

    async def _living(self) -> list[Tenant]:
        return [each for each in await self._store.tenants() if each.deleted_at is None]

    async def _find(self, id: str) -> Tenant:
        """:raises Refused: 404, there is no such tenant."""
        for tenant in await self._living():
            if tenant.id == id:
                return tenant
        raise _unknown()


def _unknown() -> Exception:
    return refused(404, "tenant not found")


def _one(tenant: Tenant) -> shapes.OneTenant:
    known = shown(tenant)
    return shapes.OneTenant(**{name: getattr(known, name) for name in known.__struct_fields__})
