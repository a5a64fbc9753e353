"""
The tenants and their keys as this process knows them: what has to be answered without waiting.

A copy of what is stored, read at the start, after every change made here, and every few seconds
for changes that other nodes made; as a rule it is told of those when they happen. A token is
judged, and a report's address found, by this copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailproxy.dkim_keys import DkimKey
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock
from mailproxy.interfaces_tenants import ITenants
from mailproxy.model import DEFAULT_TENANT
from mailproxy.tenancy import ApiKey, Tenant

#: Seconds between two looks at the store that nobody asked for.
POLL = 5.0

_log = Logger()


class TenantBook(Service):
    """
    :param store: what is copied.
    :param clock: timers and the wall clock.
    :param poll: seconds between two looks.

    :ivar loaded: whether keys can be judged: from the end of the first look on, and not while a
        change that was made here could not be read back.
    """

    name = "tenants"

    def __init__(self, store: ITenants, clock: IClock, poll: float = POLL) -> None:
        self._store = store
        self._clock = clock
        self._poll = poll
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[bytes, ApiKey] = {}
        self._dkim: dict[str, dict[str, list[DkimKey]]] = {}
        self._used: dict[bytes, float] = {}
        self._watchers: list[Callable[[str], None]] = []
        self._loop: LoopingCall | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._turn = DeferredLock()
        self._waiters: dict[Deferred[None], None] = {}
        self.loaded = False

    # -- what it answers ---------------------------------------------------------------------

    def tenant(self, tenant_id: str) -> Tenant | None:
        """The tenant; None if there is none, or it is being deleted."""
        found = self._tenants.get(tenant_id)
        return None if found is None or found.deleted_at is not None else found

    def exists(self, tenant_id: str) -> bool:
        """Whether there is such a tenant; the one of clients that know no tenants always is."""
        return tenant_id == DEFAULT_TENANT or self.tenant(tenant_id) is not None

    def reported(self, tenant_id: str) -> Tenant | None:
        """The tenant as long as it is to be told anything: also while it is being deleted."""
        return self._tenants.get(tenant_id)

    def tenants(self) -> list[Tenant]:
        """All that are not being deleted, by id."""
        return [each for each in self._tenants.values() if each.deleted_at is None]

    def key(self, token_hash: bytes) -> ApiKey | None:
        """The key with this hash, if it is good now."""
        found = self._keys.get(token_hash)
        if found is None or not self.exists(found.tenant_id):
            return None
        expired = found.expires_at is not None and found.expires_at <= self._clock.now()
        return None if expired else found

    def note_use(self, key: ApiKey) -> None:
        """The key let somebody in."""
        self._used[key.hash] = self._clock.now()

    def keys(self, tenant_id: str) -> list[ApiKey]:
        """The tenant's keys that are good now, oldest first."""
        return [
            attrs.evolve(each, used_at=self._used.get(each.hash, each.used_at))
            for each in self._keys.values()
            if each.tenant_id == tenant_id and self.key(each.hash) is not None
        ]

    def signs(self, tenant_id: str) -> bool:
        """Whether the tenant has a key that signs mail."""
        return tenant_id in self._dkim

    def signing(self, tenant_id: str, domain: str) -> Sequence[DkimKey]:
        """The keys that sign the tenant's mail from this domain (A-labels), the oldest first."""
        return self._dkim.get(tenant_id, _NONE).get(domain, ())

    @property
    def any_signing(self) -> bool:
        """Whether any mail is signed."""
        return bool(self._dkim)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Have *watcher* called with the id of each tenant that appears, changes or goes."""
        self._watchers.append(watcher)

    # -- how it stays true -------------------------------------------------------------------

    async def ready(self) -> None:
        """Wait until keys can be judged: see :attr:`loaded`."""
        if not self.loaded:
            waiter: Deferred[None] = Deferred()
            self._waiters[waiter] = None
            try:
                await waiter
            finally:
                self._waiters.pop(waiter, None)

    async def refresh(self) -> None:
        """
        Read everything again, after readings that are under way.

        :raises StoreError: nothing was changed.
        """
        await self._turn.run(self._read)

    async def _read(self) -> None:
        tenants = {each.id: each for each in await self._store.tenants()}
        keys = {each.hash: each for each in await self._store.keys()}
        self._dkim = _by_domain(await self._store.dkim_keys())
        before, self._tenants, self._keys = self._tenants, tenants, keys
        self.loaded = True
        for tenant_id in _differing(before, tenants):
            for watcher in self._watchers:
                watcher(tenant_id)
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            waiter.callback(None)

    async def changed(self) -> None:
        """
        Something was changed through this process: know it before that is answered.

        If it cannot be read back, no key is judged until it is: a revoked one must not stay good,
        nor a new one be refused.
        """
        try:
            await self.refresh()
        except StoreError as error:
            _log.error("a change of the tenants cannot be read back: {error}", error=error)
            self.loaded = False

    def startService(self) -> None:
        super().startService()
        self._unwatch = self._store.watch_changes(self._changed_elsewhere)
        self._loop = LoopingCall(self._look)
        self._loop.clock = self._clock
        self._loop.start(self._poll, now=True)

    def stopService(self) -> Deferred[None]:
        """Notes what keys were used since the last look."""
        super().stopService()
        self._unwatch()
        self._unwatch = lambda: None
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()
        return Deferred.fromCoroutine(self._look(reading=False))

    def _changed_elsewhere(self) -> None:
        if not self._turn.waiting:  # or a reading is to begin anyhow
            Deferred.fromCoroutine(self._look())

    async def _look(self, *, reading: bool = True) -> None:
        """Must not raise, or the looping call stops for good."""
        try:
            if reading:
                await self.refresh()
            await self._note_uses()
        except StoreError as error:
            _log.warn("tenants cannot be read: {error}", error=error)
        except Exception:
            _log.failure("reading tenants")

    async def _note_uses(self) -> None:
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._store.keys_used(used)
        except StoreError:
            self._used = {**used, **self._used}
            raise


#: What a tenant without keys that sign has of them.
_NONE: Mapping[str, Sequence[DkimKey]] = {}


def _by_domain(keys: Iterable[DkimKey]) -> dict[str, dict[str, list[DkimKey]]]:
    """Those that sign, by tenant and domain."""
    found: dict[str, dict[str, list[DkimKey]]] = {}
    for key in keys:
        if key.active:
            found.setdefault(key.tenant_id, {}).setdefault(key.domain, []).append(key)
    return found


def _differing(before: dict[str, Tenant], after: dict[str, Tenant]) -> Iterable[str]:
    return [
        tenant_id
        for tenant_id in {**before, **after}
        if before.get(tenant_id) != after.get(tenant_id)
    ]
