"""
The seams that tenants and their operators use: what they may ask of the store beside mail.

Here as in :mod:`mailproxy.interfaces` an ``async`` method may be any callable that returns an
awaitable. Everything that writes fires after the commit, and raises ``StoreError`` when it is known
that nothing was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from zope.interface import Interface

from mailproxy.dkim_keys import DkimKey
from mailproxy.model import Enqueued, NewMessage
from mailproxy.records import AccountSpec, MessageRecord, ReportItem
from mailproxy.submitters import Submitter
from mailproxy.tenancy import (
    ApiKey,
    CommandEntry,
    Destination,
    LargeFile,
    Remembered,
    Removed,
    Suppression,
    Tenant,
)
from mailproxy.undelivered import Undelivered


class ISubmitters(Interface):
    """Who may hand mail in by SMTP."""

    def watch_changes(told: Callable[[], object]) -> Callable[[], None]:
        """
        Have *told* called, in the reactor, when another node changed credentials, tenants, keys or
        keys that sign.

        A hint that may be missed: who keeps a copy reads it again from time to time anyhow.

        :return: ends that.
        """

    async def put_submitter(submitter: Submitter, now: float) -> Submitter:
        """
        Create or change the credential of this user name.

        :return: it as stored; ``created_at`` and ``updated_at`` are the store's to set.
        :raises ValueError: there is no such tenant, or it is being deleted.
        :raises mailproxy.submitters.UserTaken: another tenant has that user name.
        :raises mailproxy.submitters.TooManySubmitters: the tenant has as many as it may have.
        """

    async def delete_submitter(tenant_id: str, user: str) -> bool:
        """:return: whether the tenant had a credential of this user name."""

    async def submitters() -> list[Submitter]:
        """All credentials by user name, but those of tenants that are being deleted."""


class ISigningKeys(Interface):
    """The keys that sign mail (DKIM)."""

    async def add_dkim_key(key: DkimKey) -> None:
        """
        Add a key. Where it is active, no other of its algorithm for the domain is any more.

        :raises ValueError: there is no such tenant, or it is being deleted.
        :raises mailproxy.dkim_keys.DkimKeyExists: the domain has a key with this selector.
        :raises mailproxy.dkim_keys.TooManyDkimKeys: it has as many as it may have.
        """

    async def switch_dkim_key(tenant_id: str, domain: str, selector: str, active: bool) -> bool:
        """Likewise. :return: whether there is such a key."""

    async def drop_dkim_key(tenant_id: str, domain: str, selector: str) -> bool:
        """:return: whether there was such a key."""

    async def dkim_keys() -> list[DkimKey]:
        """All keys by tenant, domain and age, with their private halves; they go with a tenant."""


class ITenants(ISubmitters, ISigningKeys):
    """Tenants, their keys and credentials, and what the configuration declares."""

    async def change_tenant(
        tenant_id: str, change: Callable[[Tenant | None], Tenant], now: float
    ) -> Tenant:
        """
        Create or change a tenant in one transaction.

        :param change: given the stored one (None: there is none, or it is being deleted), what
            it is to be; pure, called in any thread. What it raises is raised here. ``version``,
            ``created_at``, ``updated_at`` and ``deleted_at`` are the store's to set.
        :return: the tenant as stored. Registering one that is being deleted ends the deletion:
            what is left of it is kept.
        """

    async def delete_tenant(tenant_id: str, now: float) -> bool:
        """
        End its keys and its intake at once; mail not yet begun is cancelled soon after.

        What is on its way keeps its outcome. Its reports are tried for another 24 h, those that
        are made later for 24 h from then; then all of it is purged (by ``upkeep``).

        :return: whether there was such a tenant. The tenant ``default`` cannot be deleted.
        :raises ValueError: for ``default``.
        """

    async def tenants() -> list[Tenant]:
        """All tenants by id, those being deleted included, with their secrets."""

    async def add_key(key: ApiKey, now: float, *, replace: bool = False) -> None:
        """
        Add a key. Of more than :data:`mailproxy.tenancy.MAX_KEYS` the one unused for longest ends.

        :param replace: end all others of the tenant.
        :raises ValueError: there is no such tenant, or it is being deleted.
        :raises mailproxy.tenancy.TooManyKeys: there is a key with its hash, or the tenant has one
            with its prefix.
        """

    async def revoke_keys(tenant_id: str, prefix: str | None, now: float) -> int:
        """End the key with this prefix (None: all of the tenant). :return: how many ended."""

    async def keys() -> list[ApiKey]:
        """All keys that have neither ended nor expired, by tenant and age."""

    async def keys_used(used: Mapping[bytes, float]) -> None:
        """Note when keys (by hash) were last used."""

    async def declare_accounts(specs: Sequence[AccountSpec], now: float) -> None:
        """
        Make these accounts the declared ones: created or changed as ``put_account`` does.

        One that is unchanged keeps its version. One that was declared before and is not among
        *specs* stays, and can be changed through the API again.

        :raises mailproxy.records.PasswordRequired: of one of them; nothing was changed.
        """

    async def instance_name() -> str:
        """What the operator calls this service; "" if nothing."""

    async def name_instance(name: str) -> None: ...

    async def log_command(entry: CommandEntry) -> None:
        """Append to the command log; its ``pk`` is the store's to set."""

    async def commands(tenant_id: str | None, after: int | None, limit: int) -> list[CommandEntry]:
        """The command log, newest first; *after* is the ``pk`` of the last one seen."""


class IRemoval(Interface):
    """Taking back, forgetting, and not sending."""

    async def remove(tenant_id: str | None, ids: Sequence[str], now: float) -> Removed:
        """
        Cancel and remove messages that wait; a tombstone stays. They are not reported.

        One whose body has begun, or that is final but not yet reported, is kept.

        :param tenant_id: None: of whichever tenant has the id.
        """

    async def cleanup(tenant_id: str | None, before: float, now: float) -> int:
        """
        Remove messages that finished before *before* and are reported, by the way of retention.

        Done in transactions of at most 500 messages. :return: how many.
        """

    async def remembered(
        tenant_id: str, message_id: str, addresses: Sequence[str]
    ) -> Remembered | None:
        """
        What is kept of a message that was removed, also while its id is there again; None: it was
        not, or is forgotten.

        :param addresses: whose having it is asked for: it cannot be listed.
        """

    async def pause_destination(tenant_id: str, domain: str, now: float) -> bool:
        """
        Begin no further body of the tenant's mail for recipients in *domain* (A-labels, exact).

        Other recipients of the same message are served. While paused, the age of what waits for
        it does not run. :return: whether it was not paused before.
        """

    async def resume_destination(tenant_id: str, domain: str, now: float) -> bool:
        """:return: whether it was paused."""

    async def destinations(tenant_id: str | None) -> list[Destination]:
        """What is paused."""

    async def suppress(entries: Sequence[Suppression], now: float) -> int:
        """Add to suppression lists; what is there already stays. :return: how many are new."""

    async def unsuppress(tenant_id: str, addresses: Sequence[str]) -> int:
        """:return: how many were on the list."""

    async def suppressions(
        tenant_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Suppression]:
        """By tenant and address, beginning behind the pair *after*."""

    async def suppressed(tenant_id: str, addresses: Sequence[str]) -> list[Suppression]:
        """Those of *addresses* that are on the tenant's list."""


class IEventLog(Interface):
    """What was or will be reported, for applications that pull."""

    async def events(tenant_id: str, after: int, limit: int) -> list[ReportItem]:
        """
        Reportable events of a tenant, oldest first, one item each, reported or not.

        The number of an event is ``item.event_pks[-1]``: it ascends within the tenant in the order
        of commits. An event that is offered again gets a new number and keeps its ``event_id``.

        :param after: the number of the last event seen, 0 for the beginning.
        """

    async def replay(
        tenant_id: str, since: float | None, ids: Sequence[str] | None, now: float
    ) -> int:
        """
        Offer events again with the same ``event_id``: those born at or after *since*, or the newest
        final one of each message in *ids*; parked ones too.

        Done in transactions of at most 500 events. :return: how many.
        """

    async def message(tenant_id: str | None, message_id: str) -> MessageRecord | None:
        """One message (tenant None: of whichever tenant, the oldest first)."""


class IBounces(Interface):
    """What senders are to be told by mail. Beside the end of a message stands a note of it."""

    async def undelivered(limit: int) -> list[Undelivered]:
        """
        Messages that failed or expired and whose sender may have to be told, the oldest first.

        Those of tenants that want bounces; while a tenant is inactive they wait. One that was sent
        again, replaced or removed since is among them, without anything to tell of.
        """

    async def bounce(pk: int, message: NewMessage | None, now: float) -> Enqueued | None:
        """
        Settle a note: in one transaction it goes, and *message* is taken into the queue.

        Of what becomes of *message* nobody is told; it is listed as any other. If the tenant has no
        account of the name it says, it goes through the tenant's default one. The timeline of the
        message that failed says what was done.

        :param message: with an id that nobody else can know; None: there is nothing to be told.
        :return: None where the note was settled before, or is without *message*; rejected where
            nothing can be sent: the note is gone then, unless the tenant is inactive.
        """


class ILargeFiles(Interface):
    """What was put away in place of being sent, so that it is found again, and removed in time."""

    async def keep_file(file: LargeFile) -> None:
        """Write it down; in place of what was known by its ``pk``."""

    async def file(pk: int) -> LargeFile | None:
        """What is known by that number."""

    async def expired_files(now: float, limit: int) -> list[LargeFile]:
        """Those whose time is over, the oldest first."""

    async def forget_files(pks: Sequence[int]) -> None:
        """They were removed."""
