"""Attachments from the application's own endpoint."""

from __future__ import annotations

import base64
import json

from mailproxy.credentials import seal_auth
from mailproxy.delivery.attachments.endpoint import EndpointSource
from mailproxy.delivery.attachments.source import Spool, Trouble
from mailproxy.model import Attachment
from mailproxy.tenancy import ClientAuth, Tenant
from tests.delivery.attachments.web import Script, Web, WebCase, answer, redirect, seal, unseal


class EndpointTests(WebCase):
    def register(self, script: Script, **fields: object) -> Web:
        """Serve at the tenant's usual path; *fields* are the tenant's."""
        web = self.serve({"/app/mail-proxy/attachments": script, "/other": script})
        fields.setdefault("client_base_url", f"{self.url}/app/")
        self.tenants["t1"] = Tenant("t1", **fields)  # type: ignore[arg-type]
        self.source_ = EndpointSource(self.exchanges(), self.tenants.get, unseal)
        return web

    async def fetch(self, path: str = "home:emails/ä.pdf", auth: str = "") -> tuple[bytes, str]:
        wanted = Attachment("a", "x/y", 0, storage_path=path, fetch_mode="endpoint", auth=auth)
        self.spool = spool = Spool(1000)
        try:
            kind = await self.source_.fetch("t1", wanted, spool)
            return spool.read(), kind
        finally:
            spool.close()

    async def test_asked(self) -> None:
        """The path is asked for in JSON, with the tenant's credentials; the body is the content."""
        web = self.register(
            answer("200 OK", b"%PDF", "Content-Type: application/octet-stream"),
            client_auth=ClientAuth("basic", user="mailproxy", password="s3cret"),
        )
        self.assertEqual((b"%PDF", "application/octet-stream"), await self.fetch())
        (asked,) = web.asked
        self.assertEqual(("POST", "/app/mail-proxy/attachments"), (asked.method, asked.target))
        self.assertEqual({"storage_path": "home:emails/ä.pdf"}, json.loads(asked.body))
        self.assertEqual("application/json", asked.headers["content-type"])
        shown = base64.b64encode(b"mailproxy:s3cret").decode()
        self.assertEqual(f"Basic {shown}", asked.headers["authorization"])
        self.assertEqual((shown, "s3cret"), self.spool.shown)

    async def test_private(self) -> None:
        """The tenant's endpoint may be at a private address: the operator named it."""
        self.register(answer("200 OK", b"x"))
        self.names.known["files.example"] = ["127.0.0.1"]
        self.assertEqual(b"x", (await self.fetch())[0])

    async def test_own_path_and_url(self) -> None:
        """The tenant's path counts, and a whole URL more than that."""
        web = self.register(answer("200 OK"), client_attachment_path="other")
        self.tenants["t1"] = Tenant("t1", client_base_url=self.url, client_attachment_path="/other")
        await self.fetch()
        self.tenants["t1"] = Tenant(
            "t1", client_base_url="http://x.example", client_attachment_url=f"{self.url}/other"
        )
        await self.fetch()
        self.assertEqual(["/other", "/other"], [asked.target for asked in web.asked])

    async def test_auth_of_the_attachment(self) -> None:
        """Credentials of the attachment take the place of the tenant's, also if they are none."""
        web = self.register(answer("200 OK"), client_auth=ClientAuth("bearer", token="tenant"))
        await self.fetch()
        await self.fetch(auth=seal_auth(ClientAuth("bearer", token="own"), seal))
        await self.fetch(auth=seal_auth(ClientAuth("none"), seal))
        shown = [asked.headers.get("authorization") for asked in web.asked]
        self.assertEqual(["Bearer tenant", "Bearer own", None], shown)

    async def test_s13_redirects_are_not_followed(self) -> None:
        """S13: the endpoint's redirect is not followed: nobody else sees what it is told."""
        other = self.serve({"/steal": answer("200 OK", b"x")})
        to = f"{self.url}/steal"
        self.register(redirect(to, "307 Temporary Redirect"))
        with self.assertRaises(Trouble) as caught:
            await self.fetch()
        self.assertEqual(("answered 307", True), _told(caught.exception))
        self.assertEqual([], other.connections)

    async def test_no_endpoint(self) -> None:
        """A tenant that has not said where its attachments are may say so later."""
        self.register(answer("200 OK"))
        for tenants in ({}, {"t1": Tenant("t1")}):
            self.tenants.clear()
            self.tenants.update(tenants)
            with self.assertRaises(Trouble) as caught:
                await self.fetch()
            text = "the tenant has no URL for attachments"
            self.assertEqual((text, True), _told(caught.exception))
        self.assertIsNone(self.source_.where("t2", Attachment("a", "", 0)))

    async def test_f65_statuses(self) -> None:
        """F65: 404 of the endpoint is for good, 503 for now."""
        for status, transient in (("404 Not Found", False), ("503 Busy", True)):
            self.register(answer(status))
            with self.assertRaises(Trouble) as caught:
                await self.fetch()
            self.assertEqual((f"answered {status[:3]}", transient), _told(caught.exception))


def _told(trouble: Trouble) -> tuple[str, bool]:
    return trouble.problem, trouble.transient
