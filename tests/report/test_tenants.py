"""Where each tenant's reports go, and with whose credentials."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import attrs
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request

from mailproxy.book import TenantBook
from mailproxy.errors import SinkUnavailable
from mailproxy.interfaces import IReportSink
from mailproxy.report.signing import SIGNATURE
from mailproxy.report.tenants import NOWHERE, Address, TenantSinks, usual_address
from mailproxy.tenancy import ClientAuth, Tenant
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, result
from tests.report.fakes import item
from tests.report.test_http import Receiver, status

GLOBAL = "http://global.test/mail/sync"
SECRET = "whsec_" + b64encode(b"0" * 32).decode()


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


class Told:
    """Keeps what a reporter would be told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def registered(self, tenant_id: str) -> None:
        self.calls.append(("registered", tenant_id))

    def forget(self, tenant_id: str) -> None:
        self.calls.append(("forget", tenant_id))


class TenantsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(self.clock)
        self.book = TenantBook(self.store, self.clock)
        self.receiver = Receiver(status(200, b"{}"))
        self.agent = RequestTraversalAgent(self.receiver)

    def sinks(self, usual: Address = NOWHERE) -> TenantSinks:
        return TenantSinks(self.agent, self.clock, self.book, usual)

    def tenant(self, tenant_id: str, **fields: Any) -> None:
        """Register or change a tenant, and have the book know."""

        def change(old: Tenant | None) -> Tenant:
            return attrs.evolve(old or Tenant(tenant_id), **fields)

        result(self.store.change_tenant(tenant_id, change, self.clock.now()))
        result(self.book.refresh())

    def told(self, sink: IReportSink | None) -> tuple[str, str | None]:
        """The URL that one report went to, and the credentials with it."""
        assert sink is not None
        self.successResultOf(Deferred.fromCoroutine(_send(sink)))
        request: Request = self.receiver.requests[-1]
        host = request.getHeader("host")
        return f"http://{host}{request.uri.decode()}", request.getHeader("authorization")

    def refused(self, sink: IReportSink | None) -> str:
        assert sink is not None
        failure = self.failureResultOf(Deferred.fromCoroutine(_send(sink)), SinkUnavailable)
        return str(failure.value)


async def _send(sink: IReportSink) -> None:
    await sink.send([item()])


class AddressTests(TenantsCase):
    def test_the_global_url(self) -> None:
        """The tenant ``default`` is told at the global URL, with the global credentials."""
        result(self.book.refresh())
        for usual, credentials in (
            (usual_address(GLOBAL, None, None, None), None),
            (usual_address(GLOBAL, "t", None, None), "Bearer t"),
            (usual_address(GLOBAL, "t", "u", "p"), "Bearer t"),
            (usual_address(GLOBAL, None, "u", "p"), basic("u", "p")),
        ):
            self.assertEqual((GLOBAL, credentials), self.told(self.sinks(usual)("default")))

    def test_global_credentials_stay_at_home(self) -> None:
        """The global credentials go to no tenant's URL, not even that of ``default``."""
        sinks = self.sinks(usual_address(GLOBAL, "global-token", None, None))
        self.tenant("shop", client_base_url="http://shop.test/app/")
        self.tenant("default", client_sync_url="http://other.test/sync")
        shop, default = sinks("shop"), sinks("default")
        self.assertEqual(("http://shop.test/app/mail-proxy/sync", None), self.told(shop))
        self.assertEqual(("http://other.test/sync", None), self.told(default))

    def test_own_credentials(self) -> None:
        """Each tenant is called with its own token, or user and password, by its method."""
        sinks = self.sinks(usual_address(GLOBAL, "global-token", None, None))
        both = {"token": "t", "user": "u", "password": "p"}
        for method, credentials in (("none", None), ("bearer", "Bearer t"),
                                    ("basic", basic("u", "p"))):  # fmt: skip
            self.tenant("shop", client_base_url="http://shop.test", client_sync_path="in",
                        client_auth=ClientAuth(method, **both))  # fmt: skip
            self.assertEqual(("http://shop.test/in", credentials), self.told(sinks("shop")))

    def test_no_url(self) -> None:
        """A tenant without a URL, or ``default`` without the global one, wants no reports."""
        self.tenant("shop", client_auth=ClientAuth("bearer", token="t"))
        self.assertIsNone(self.sinks()("shop"))
        self.assertIsNone(self.sinks()("default"))

    def test_not_known(self) -> None:
        """As long as the tenants were not read, and of strangers, nothing counts as reported."""
        sinks = self.sinks(usual_address(GLOBAL, None, None, None))
        self.assertIn("not known", self.refused(sinks("default")))
        result(self.book.refresh())
        self.assertIn("not known", self.refused(sinks("stranger")))
        self.assertEqual((GLOBAL, None), self.told(sinks("default")))

    def test_an_address_that_cannot_be_used(self) -> None:
        """A URL or credentials that cannot be used keep the events, with a reason, no secret."""
        sinks = self.sinks()
        self.tenant("a", client_sync_url="ftp://user:hunter2@files.test/")
        self.tenant("b", client_sync_url="http://b.test/", signing_secret="hunter2")
        self.tenant("c", client_sync_url="http://c.test/",
                    client_auth=ClientAuth("bearer", token="hunter2\r\nX: 1"))  # fmt: skip
        for tenant_id in "abc":
            reason = self.refused(sinks(tenant_id))
            self.assertIn("cannot be used", reason)
            self.assertNotIn("hunter2", reason)
        self.assertEqual([], self.receiver.requests)

    def test_a_global_url_that_cannot_be_used(self) -> None:
        """A global URL that cannot be used is found when the service is put together."""
        with self.assertRaises(ValueError) as caught:
            self.sinks(usual_address("http://a b/", "hunter2", None, None))
        self.assertNotIn("hunter2", str(caught.exception))

    def test_signed(self) -> None:
        """Who has a signing secret gets signed reports, at the global URL too."""
        sinks = self.sinks(usual_address(GLOBAL, None, None, None))
        self.tenant("default", signing_secret=SECRET)
        self.tenant("shop", client_base_url="http://shop.test", signing_secret=SECRET)
        self.tenant("other", client_base_url="http://other.test")
        for tenant_id, signed in (("default", True), ("shop", True), ("other", False)):
            self.told(sinks(tenant_id))
            self.assertEqual(signed, bool(self.receiver.requests[-1].getHeader(SIGNATURE)))

    def test_kept_until_the_address_changes(self) -> None:
        """A sink is made anew when the address changes, not with every change of the tenant."""
        sinks = self.sinks()
        self.tenant("shop", client_base_url="http://shop.test")
        first = sinks("shop")
        self.tenant("shop", name="The shop")
        self.assertIs(first, sinks("shop"))
        self.tenant("shop", client_auth=ClientAuth("bearer", token="t"))
        self.assertEqual("Bearer t", self.told(sinks("shop"))[1])

    def test_secrets_do_not_show(self) -> None:
        """The repr of an address shows no secret."""
        for address in (
            usual_address(GLOBAL, "hunter2", None, None),
            usual_address(GLOBAL, None, "u", "hunter2"),
            Address(GLOBAL, signing_secret="hunter2"),
        ):
            self.assertNotIn("hunter2", repr(address))


class CallTests(TenantsCase):
    def test_who_is_called(self) -> None:
        """Every tenant with a URL is called now and then, an inactive one too; others are not."""
        self.tenant("a", client_base_url="http://a.test")
        self.tenant("b")
        self.tenant("c", client_base_url="http://c.test", active=False)
        self.assertEqual(["a", "c"], self.sinks().tenants())
        usual = usual_address(GLOBAL, None, None, None)
        self.assertEqual(["a", "c", "default"], sorted(self.sinks(usual).tenants()))

    def test_a_deleted_tenant(self) -> None:
        """A tenant that is being deleted still gets its reports, and no calls besides."""
        sinks = self.sinks()
        self.tenant("shop", client_base_url="http://shop.test")
        result(self.store.delete_tenant("shop", self.clock.now()))
        result(self.book.refresh())
        self.assertEqual([], sinks.tenants())
        self.assertEqual("http://shop.test/mail-proxy/sync", self.told(sinks("shop"))[0])

    def test_changes_are_passed_on(self) -> None:
        """The reporter hears of new addresses, and of no other change."""
        sinks, told = self.sinks(), Told()
        sinks.follow(told)
        self.tenant("shop", client_base_url="http://shop.test")
        self.tenant("shop", name="The shop", active=False)
        self.assertEqual([("registered", "shop")], told.calls)
        self.tenant("shop", client_auth=ClientAuth("bearer", token="t"))
        self.tenant("shop", client_base_url=None)
        self.assertEqual([("registered", "shop")] * 3, told.calls)
        self.tenant("silent")
        self.assertEqual([("registered", "shop")] * 3, told.calls)

    def test_a_tenant_that_is_gone(self) -> None:
        """The reporter hears of a tenant whose deletion has come to its end."""
        sinks, told = self.sinks(), Told()
        self.tenant("shop", client_base_url="http://shop.test")
        sinks.follow(told)
        del self.store.disk.tenants["shop"]
        result(self.book.refresh())
        self.assertEqual([("forget", "shop")], told.calls)
        self.assertIn("not known", self.refused(sinks("shop")))
