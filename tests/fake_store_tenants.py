"""The fake store's tenants: what is registered, the keys to it, and the log of commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs

from mailproxy.logins import same_secret
from mailproxy.model import DEFAULT_TENANT, Account
from mailproxy.records import AccountSpec
from mailproxy.states import EventKind, MessageState, RecipientState
from mailproxy.submitters import MAX_SUBMITTERS, Submitter, TooManySubmitters, UserTaken
from mailproxy.tenancy import MAX_KEYS, ApiKey, CommandEntry, Tenant, TooManyKeys
from tests import fake_store_intake as intake
from tests import fake_store_limits as limits
from tests import fake_store_reports as reports
from tests.fake_store_dkim import FakeSigningKeys
from tests.fake_store_intake import Change
from tests.fake_store_queue import without_text
from tests.fake_store_rows import AccountRow, Disk

T = TypeVar("T")

#: Seconds a line of the command log is kept.
LOG_KEPT = 90 * 86_400.0

#: What the mail of a deleted tenant ends with.
DELETED = "tenant deleted"

#: Seconds for which its reports are tried.
GRACE = 86_400.0

#: What a declaration is compared in.
_FIELDS = tuple(
    field.name for field in attrs.fields(AccountSpec) if field.name not in ("password", "declared")
)


class FakeTenants(FakeSigningKeys):
    """
    The part of the fake that is ``ITenants``.

    :ivar watchers: to be called by tests as if another node had changed something.
    """

    watchers: list[Callable[[], object]]

    def add_tenant(self, tenant_id: str, *, active: bool = True) -> None:
        """Make *tenant_id* known, or change whether it is active; for tests."""
        old = self.disk.tenants.get(tenant_id, Tenant(tenant_id))
        self.disk.tenants[tenant_id] = attrs.evolve(old, active=active)

    def watch_changes(self, told: Callable[[], object]) -> Callable[[], None]:
        self.watchers.append(told)
        return lambda: self.watchers.remove(told)

    async def change_tenant(
        self, tenant_id: str, change: Callable[[Tenant | None], Tenant], now: float
    ) -> Tenant:
        return await self._write(
            "change_tenant", now, lambda c: _change_tenant(c, tenant_id, change)
        )

    async def delete_tenant(self, tenant_id: str, now: float) -> bool:
        if tenant_id == DEFAULT_TENANT:
            raise ValueError("the default tenant cannot be deleted")
        return await self._write("delete_tenant", now, lambda c: _delete_tenant(c, tenant_id))

    async def tenants(self) -> list[Tenant]:
        self._check_alive()
        return sorted(self.disk.tenants.values(), key=lambda tenant: tenant.id)

    async def put_submitter(self, submitter: Submitter, now: float) -> Submitter:
        return await self._write("put_submitter", now, lambda c: _put_submitter(c, submitter))

    async def delete_submitter(self, tenant_id: str, user: str) -> bool:
        now = self.clock.now()
        return await self._write(
            "delete_submitter", now, lambda c: _delete_submitter(c, tenant_id, user)
        )

    async def submitters(self) -> list[Submitter]:
        self._check_alive()
        return sorted(self.disk.submitters.values(), key=lambda each: each.user)

    async def add_key(self, key: ApiKey, now: float, *, replace: bool = False) -> None:
        await self._write("add_key", now, lambda c: _add_key(c, key, replace))

    async def revoke_keys(self, tenant_id: str, prefix: str | None, now: float) -> int:
        return await self._write("revoke_keys", now, lambda c: _revoke_keys(c, tenant_id, prefix))

    async def keys(self) -> list[ApiKey]:
        self._check_alive()
        good = _good(self.disk, self.clock.now())
        return sorted(good, key=lambda key: (key.tenant_id, key.created_at, key.hash))

    async def keys_used(self, used: Mapping[bytes, float]) -> None:
        def work(change: Change) -> None:
            for key in list(change.disk.keys):
                at = used.get(key.hash)
                if at is not None and (key.used_at or 0.0) < at:
                    change.disk.keys.remove(key)
                    change.disk.keys.append(attrs.evolve(key, used_at=at))

        await self._write("keys_used", self.clock.now(), work)

    async def declare_accounts(self, specs: Sequence[AccountSpec], now: float) -> None:
        await self._write("declare_accounts", now, lambda c: _declare(c, specs))

    async def instance_name(self) -> str:
        self._check_alive()
        return self.disk.instance_name

    async def name_instance(self, name: str) -> None:
        def work(change: Change) -> None:
            change.disk.instance_name = name

        await self._write("name_instance", self.clock.now(), work)

    async def log_command(self, entry: CommandEntry) -> None:
        def work(change: Change) -> None:
            pk = change.names.pk(entry.at)
            change.disk.commands.append(attrs.evolve(entry, pk=pk))

        await self._write("log_command", entry.at, work)

    async def commands(
        self, tenant_id: str | None, after: int | None, limit: int
    ) -> list[CommandEntry]:
        self._check_alive()
        found = [
            entry
            for entry in reversed(self.disk.commands)
            if tenant_id in (None, entry.tenant_id) and (after is None or entry.pk < after)
        ]
        return found[:limit]


def _change_tenant(
    change: Change, tenant_id: str, wanted: Callable[[Tenant | None], Tenant]
) -> Tenant:
    disk = change.disk
    old = disk.tenants.get(tenant_id)
    new = attrs.evolve(
        wanted(disk.tenant(tenant_id)),
        id=tenant_id,
        version=1 if old is None else old.version + 1,
        created_at=change.now if old is None else old.created_at,
        updated_at=change.now,
        deleted_at=None,
    )
    reports.settle_ages(change)
    disk.tenants[tenant_id] = new
    if old is not None and new.active and (old.deleted_at is not None or not old.active):
        rows = disk.messages.values()
        change.due.update(row.account_pk for row in rows if row.tenant_id == tenant_id and row.open)
    if old is not None and new.rate_limits != old.rate_limits:
        limits.forget(disk)
        rows = disk.messages.values()
        change.due.update(row.account_pk for row in rows if row.tenant_id == tenant_id and row.open)
    return new


def _delete_tenant(change: Change, tenant_id: str) -> bool:
    disk = change.disk
    old = disk.tenant(tenant_id)
    if old is None:
        return False
    reports.settle_ages(change)
    disk.tenants[tenant_id] = attrs.evolve(old, deleted_at=change.now, version=old.version + 1)
    disk.keys = [key for key in disk.keys if key.tenant_id != tenant_id]
    left = {user: each for user, each in disk.submitters.items() if each.tenant_id != tenant_id}
    disk.submitters = left
    disk.dkim = {name: key for name, key in disk.dkim.items() if key.tenant_id != tenant_id}
    return True


def _put_submitter(change: Change, given: Submitter) -> Submitter:
    disk = change.disk
    if disk.tenant(given.tenant_id) is None:
        raise ValueError("tenant not found")
    before = disk.submitters.get(given.user)
    if before is not None and before.tenant_id != given.tenant_id:
        raise UserTaken("the user name is taken")
    mine = [each for each in disk.submitters.values() if each.tenant_id == given.tenant_id]
    if before is None and len(mine) >= MAX_SUBMITTERS:
        raise TooManySubmitters(f"the tenant has {len(mine)} credentials already")
    created_at = change.now if before is None else before.created_at
    stored = attrs.evolve(given, created_at=created_at, updated_at=change.now)
    disk.submitters[given.user] = stored
    return stored


def _delete_submitter(change: Change, tenant_id: str, user: str) -> bool:
    found = change.disk.submitters.get(user)
    if found is None or found.tenant_id != tenant_id:
        return False
    del change.disk.submitters[user]
    return True


def _good(disk: Disk, now: float) -> list[ApiKey]:
    return [key for key in disk.keys if key.expires_at is None or key.expires_at > now]


def _add_key(change: Change, key: ApiKey, replace: bool) -> None:
    """:raises ValueError: there is no such tenant, or it is being deleted."""
    disk = change.disk
    if disk.tenant(key.tenant_id) is None:
        raise ValueError("tenant not found")
    kept = [each for each in disk.keys if not replace or each.tenant_id != key.tenant_id]
    for each in kept:
        if each.hash == key.hash or (each.tenant_id, each.prefix) == (key.tenant_id, key.prefix):
            raise TooManyKeys("there is a key like this already")
    mine = [each for each in kept if each.tenant_id == key.tenant_id]
    mine = [each for each in mine if each.expires_at is None or each.expires_at > change.now]
    mine.sort(key=lambda each: (each.used_at or each.created_at, each.created_at), reverse=True)
    ended = mine[MAX_KEYS - 1 :]
    disk.keys = [each for each in kept if each not in ended] + [key]


def _revoke_keys(change: Change, tenant_id: str, prefix: str | None) -> int:
    disk = change.disk
    ended = [key for key in disk.keys if key.tenant_id == tenant_id]
    ended = [key for key in ended if prefix in (None, key.prefix)]
    good = _good(disk, change.now)
    disk.keys = [key for key in disk.keys if key not in ended]
    return sum(key in good for key in ended)


def _declare(change: Change, specs: Sequence[AccountSpec]) -> None:
    disk = change.disk
    accounts = dict(disk.accounts)
    for pk, row in accounts.items():
        disk.accounts[pk] = _marked(row, False)
    try:
        for spec in specs:
            _declare_one(change, spec)
    except Exception:
        disk.accounts = accounts
        raise


def _marked(row: AccountRow, declared: bool) -> AccountRow:
    return AccountRow(attrs.evolve(row.value, declared=declared), row.deleted_at)


def _declare_one(change: Change, spec: AccountSpec) -> None:
    disk = change.disk
    key = (spec.tenant_id, spec.id)
    old = next((row for row in disk.live_accounts() if (row.tenant_id, row.id) == key), None)
    if old is None or not _same(old, spec):
        intake.put_account(change, attrs.evolve(spec, declared=True))
    else:
        disk.accounts[old.pk] = _marked(disk.accounts[old.pk], True)


def _same(old: Account, spec: AccountSpec) -> bool:
    if any(getattr(old, name) != getattr(spec, name) for name in _FIELDS):
        return False
    if not spec.user or spec.password is None:
        return True
    return same_secret(spec.password, old.password, spec.options)


# --- background work -----------------------------------------------------------------------------


def upkeep(change: Change) -> int:
    """Deleted tenants go by and by; what is old of keys and commands goes."""
    return _cancel(change) or _purge(change) or _forget(change)


def _cancel(change: Change) -> int:
    """The open mail of tenants that are being deleted, but for what is on its way."""
    disk = change.disk
    gone = {tenant.id for tenant in disk.tenants.values() if tenant.deleted_at is not None}
    rows = [
        row
        for row in disk.messages.values()
        if row.tenant_id in gone and row.open and not row.open_attempt
    ][: reports.STEP]
    for row in rows:
        for rcpt in row.recipients:
            if rcpt.state.open:
                rcpt.state, rcpt.code, rcpt.reply = RecipientState.CANCELLED, None, DELETED
        row.lease, row.hold, row.reason, row.next_at = None, "", DELETED, None
        if final := row.state.final:
            row.finished_at = change.now
            change.reportable.add(row.tenant_id)
        if row.state is MessageState.CANCELLED:
            row.payload, row.parts = without_text(row.payload), {}
        row.tell(change.names, EventKind.CANCELLED, change.now, final=final)
    return len(rows)


def _purge(change: Change) -> int:
    """All of a tenant, a day after its deletion and after the newest event nobody took."""
    disk, before = change.disk, change.now - GRACE
    gone = {
        tenant.id
        for tenant in disk.tenants.values()
        if tenant.deleted_at is not None and tenant.deleted_at <= before
    }
    rows = [row for row in disk.messages.values() if row.tenant_id in gone]
    over = [
        row
        for row in rows
        if not row.open_attempt and not any(e.unreported and e.at > before for e in row.events)
    ][: reports.STEP]
    for row in over:
        del disk.messages[row.pk]
    if over:
        return len(over)
    empty = sorted(gone - {row.tenant_id for row in rows})[:1]
    for tenant_id in empty:
        _remove(disk, tenant_id)
    return len(empty)


def _remove(disk: Disk, tenant_id: str) -> None:
    del disk.tenants[tenant_id]
    disk.tombstones = {key: row for key, row in disk.tombstones.items() if key[0] != tenant_id}
    disk.suspended = {pair for pair in disk.suspended if pair[0] != tenant_id}
    disk.accounts = {
        pk: row for pk, row in disk.accounts.items() if row.value.tenant_id != tenant_id
    }


def _forget(change: Change) -> int:
    disk = change.disk
    good = _good(disk, change.now)
    expired = [key for key in disk.keys if key not in good][: reports.STEP]
    if expired:
        disk.keys = [key for key in disk.keys if key not in expired]
        return len(expired)
    old = [entry for entry in disk.commands if entry.at < change.now - LOG_KEPT][: reports.STEP]
    disk.commands = [entry for entry in disk.commands if entry not in old]
    return len(old)
