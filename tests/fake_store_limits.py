"""The fake store's rate limits: every instant at which something was handed over, by limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from mailproxy.limits import Use, exceeded, of_account, of_tenant, rejects
from tests.fake_store_rows import Disk

if TYPE_CHECKING:
    from tests.fake_store_intake import Change

#: A limit: tenant, account (0 for the tenant's own), seconds; and the most messages in those.
Limit = tuple[tuple[str, int, int], int]


def limits_of(disk: Disk, tenant_id: str, account_pk: int) -> Iterator[Limit]:
    """The limits that mail through this account has to keep."""
    tenant = disk.tenants.get(tenant_id)
    if tenant is not None:
        for seconds, most in sorted(of_tenant(tenant.rate_limits).items()):
            yield (tenant_id, 0, seconds), most
    account = disk.live_account(account_pk)
    if account is not None:
        for seconds, most in sorted(of_account(msgspec.json.decode(account.options)).items()):
            yield (tenant_id, account_pk, seconds), most


def _counted(disk: Disk, key: tuple[str, int, int], now: float) -> list[float]:
    return [at for at in disk.handed_over.get(key, ()) if at + key[2] > now]


def _opens(disk: Disk, limit: Limit, now: float) -> float | None:
    key, most = limit
    counted = sorted(_counted(disk, key, now))
    return counted[len(counted) - most] + key[2] if len(counted) >= most else None


def opens_at(disk: Disk, tenant_id: str, account_pk: int, now: float) -> float | None:
    """When there is room; None: there is now."""
    opens = (_opens(disk, limit, now) for limit in limits_of(disk, tenant_id, account_pk))
    return max((when for when in opens if when is not None), default=None)


def room(
    disk: Disk, account_pk: int, now: float, *, spill: bool = False
) -> tuple[int, float | None]:
    """
    How many more messages may go through the account; if none, when there is room.

    :param spill: ask for the tenant's own limits only.
    """
    account = disk.live_account(account_pk)
    if account is None:
        return 0, None
    tenant_id = account.tenant_id
    asked = 0 if spill else account_pk  # no account has that number
    left = (most - len(_counted(disk, key, now)) for key, most in limits_of(disk, tenant_id, asked))
    return max(0, min(left, default=10**12)), opens_at(disk, tenant_id, asked, now)


def reason(disk: Disk, account_pk: int, now: float) -> str:
    """Why a message fails: by the limit that takes longest to have room."""
    account = disk.live_account(account_pk)
    assert account is not None
    full = [
        (when, limit[0])
        for limit in limits_of(disk, account.tenant_id, account_pk)
        if (when := _opens(disk, limit, now)) is not None
    ]
    _, (_, owner, seconds) = max(full, key=lambda each: each[0])
    return exceeded(seconds, of_tenant=not owner)


def rejecting(disk: Disk, account_pk: int) -> bool:
    account = disk.live_account(account_pk)
    return account is not None and rejects(msgspec.json.decode(account.options))


def pass_through(change: Change, tenant_id: str, account_pk: int) -> bool:
    """Count one message, if there is room; tell observers when there is none left."""
    disk, now = change.disk, change.now
    passed = opens_at(disk, tenant_id, account_pk, now) is None
    if passed:
        for key, _ in limits_of(disk, tenant_id, account_pk):
            disk.handed_over.setdefault(key, []).append(now)
    opens = opens_at(disk, tenant_id, account_pk, now)
    if opens is not None:
        change.limited.append((account_pk, opens))
    return passed


def forget(disk: Disk) -> None:
    """A limit that is taken back takes with it what counted for it."""
    known = {
        key
        for account in disk.live_accounts()
        for key, _ in limits_of(disk, account.tenant_id, account.pk)
    }
    known |= {key for tenant in disk.tenants for key, _ in limits_of(disk, tenant, 0)}
    for key in set(disk.handed_over) - known:
        del disk.handed_over[key]


def shown(disk: Disk, tenant_id: str | None, now: float) -> list[Use]:
    accounts = {account.pk: account for account in disk.live_accounts()}
    wanted: dict[tuple[str, int, int], int] = {}
    for tenant in sorted(disk.tenants):
        wanted.update(limits_of(disk, tenant, 0))
        for pk in sorted(pk for pk, each in accounts.items() if each.tenant_id == tenant):
            wanted.update(limits_of(disk, tenant, pk))
    return [
        Use(
            key[0],
            accounts[key[1]].id if key[1] else "",
            key[2],
            most,
            len(_counted(disk, key, now)),
            _opens(disk, (key, most), now),
        )
        for key, most in wanted.items()
        if tenant_id in (None, key[0])
    ]
