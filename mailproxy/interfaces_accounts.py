"""The seam towards what is stored of upstream accounts; part of :mod:`mailproxy.interfaces`."""

from __future__ import annotations

from zope.interface import Interface

from mailproxy.limits import Use
from mailproxy.model import Account
from mailproxy.records import AccountSpec


class IAccounts(Interface):
    """Upstream accounts. Secrets are sealed before they are written."""

    async def put_account(spec: AccountSpec, now: float) -> Account:
        """
        Create or change the account (``spec.tenant_id``, ``spec.id``).

        A change raises its version, un-parks it and wakes the dispatcher. With a password of
        None the stored one is kept if :func:`mailproxy.logins.may_keep` allows it. Where the login
        is with a token, secrets that are given again leave a renewed one in place.

        :raises mailproxy.records.PasswordRequired: there is a user, no password was given, and
            none can be kept.
        :raises mailproxy.tenancy.Declared: by the configuration, and *spec* is not from there.
        :raises StoreError: nothing was changed.
        """

    async def delete_account(tenant_id: str, account_id: str, now: float) -> bool:
        """
        Mark the account deleted; its open mail fails with ``account deleted`` soon after.

        When the answer is there no further body of its mail is begun.

        :return: whether there was such an account.
        :raises mailproxy.tenancy.Declared: the configuration declares it.
        """

    async def accounts(tenant_id: str | None) -> list[Account]:
        """All live accounts of a tenant (None: of all), with their passwords, by tenant and id."""

    async def account(pk: int) -> Account | None:
        """The live account *pk* with its password; None if it was deleted."""

    async def park_account(
        pk: int, version: int, reason: str, probe_at: float, now: float, *, closed: bool = True
    ) -> None:
        """
        Note that the account does not work; without effect on a newer version.

        :param probe_at: when it is tried again.
        :param closed: nothing of its mail is claimed or begun until then. Otherwise its mail goes
            on being claimed: other accounts carry it.
        """

    async def unpark_account(pk: int) -> None:
        """The account works again."""

    async def limits(tenant_id: str | None, now: float) -> list[Use]:
        """
        How far the rate limits of a tenant (None: of all) and its accounts are used at *now*.

        By tenant, the tenant's own before those of its accounts, and the shorter window first.
        """

    async def renew_secret(pk: int, version: int, used: str, secret: str) -> bool:
        """
        Store what stands in the password's place anew; the account stays in its version.

        Of several that renew the same one, on whatever nodes, the first is stored.

        :param used: what was renewed, as it had been read.
        :param secret: as :class:`mailproxy.logins.Secrets` dumps it.
        :return: false: the account was changed or deleted meanwhile, or its secret renewed by
            another; nothing was stored.
        """
