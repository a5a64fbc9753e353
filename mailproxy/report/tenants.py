"""
Where each tenant's reports go: its own endpoint with its own credentials, or nowhere.

The global URL and the global credentials belong together and to the tenant ``default`` alone;
neither is ever used with another's. Of a tenant that is not known, or whose address cannot be used,
the events are kept: only a known tenant that wants no reports has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs
from twisted.web.iweb import IAgent
from zope.interface import implementer

from mailproxy.book import TenantBook
from mailproxy.errors import SinkUnavailable
from mailproxy.interfaces import IClock, IReportSink, ReportAnswer
from mailproxy.model import DEFAULT_TENANT
from mailproxy.records import ReportItem
from mailproxy.report.http import HttpSink
from mailproxy.tenancy import ClientAuth, Tenant

#: How we show ourselves where nothing was said of it.
_NO_AUTH = ClientAuth()


@attrs.frozen
class Address:
    """
    What a sink is made of.

    :param url: None for no reports at all.
    """

    url: str | None = None
    auth: ClientAuth = _NO_AUTH
    signing_secret: str | None = attrs.field(default=None, repr=False)


#: Of who wants no reports.
NOWHERE = Address()


class Told(Protocol):
    """What a reporter is told about tenants; see :class:`mailproxy.report.reporter.Reporter`."""

    def registered(self, tenant_id: str) -> None: ...

    def forget(self, tenant_id: str) -> None: ...


class TenantSinks:
    """
    The sink of each tenant, made anew when its address changes.

    :param agent: connects; see :func:`mailproxy.report.agent.make_agent`.
    :param clock: deadlines and the wall clock.
    :param book: who the tenants are.
    :param usual: where ``default`` is told unless it says otherwise.
    :param timeout: seconds for a whole call.
    :raises ValueError: *usual* cannot be used; the text names no secret.
    """

    def __init__(
        self,
        agent: IAgent,
        clock: IClock,
        book: TenantBook,
        usual: Address = NOWHERE,
        timeout: float = 300.0,
    ) -> None:
        self._agent = agent
        self._clock = clock
        self._book = book
        self._usual = usual
        self._timeout = timeout
        self._made: dict[str, tuple[Address, IReportSink | None]] = {}
        if usual.url is not None:
            self._http(usual.url, usual)

    def __call__(self, tenant_id: str) -> IReportSink | None:
        """The tenant's sink; None if it wants no reports."""
        tenant = self._book.reported(tenant_id) if self._book.loaded else None
        if tenant is None:
            return _Closed("the tenant is not known (yet)")
        address = self.address(tenant)
        before = self._made.get(tenant_id)
        if before is not None and before[0] == address:
            return before[1]
        sink = self._sink(address)
        self._made[tenant_id] = (address, sink)
        return sink

    def address(self, tenant: Tenant) -> Address:
        """Where *tenant* is told, and how it knows us."""
        url = tenant.sync_url
        if url is None and tenant.id == DEFAULT_TENANT:
            return attrs.evolve(self._usual, signing_secret=tenant.signing_secret)
        return Address(url, tenant.client_auth, tenant.signing_secret)

    def tenants(self) -> list[str]:
        """Those that are called though there is nothing to report, by id; inactive ones too."""
        return [each.id for each in self._book.tenants() if self.address(each).url is not None]

    def follow(self, reporter: Told) -> None:
        """Have *reporter* told of tenants that have a new address, or are gone."""

        def changed(tenant_id: str) -> None:
            tenant = self._book.reported(tenant_id)
            if tenant is None:
                self._made.pop(tenant_id, None)
                reporter.forget(tenant_id)
                return
            before = self._made.get(tenant_id)
            known = NOWHERE if before is None else before[0]
            if self.address(tenant) != known:
                self(tenant_id)
                reporter.registered(tenant_id)

        self._book.watch(changed)

    def _sink(self, address: Address) -> IReportSink | None:
        if address.url is None:
            return None
        try:
            return self._http(address.url, address)
        except ValueError as error:
            return _Closed(f"the URL or the credentials cannot be used: {error}")

    def _http(self, url: str, address: Address) -> HttpSink:
        auth = address.auth
        bearer, basic = auth.method == "bearer", auth.method == "basic"
        return HttpSink(
            self._agent,
            self._clock,
            url,
            token=auth.token if bearer else None,
            user=auth.user if basic else None,
            password=auth.password if basic else None,
            signing_secret=address.signing_secret,
            timeout=self._timeout,
        )


@implementer(IReportSink)
class _Closed:
    """Takes nothing, and says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def send(self, items: Sequence[ReportItem]) -> ReportAnswer:
        raise SinkUnavailable(self._reason)


def usual_address(
    url: str | None, token: str | None, user: str | None, password: str | None
) -> Address:
    """The address that the global settings name: a token wins over user and password."""
    if token:
        return Address(url, ClientAuth("bearer", token=token))
    if user or password:
        return Address(url, ClientAuth("basic", user=user, password=password))
    return Address(url)
