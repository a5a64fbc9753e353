"""
Attachments from the application itself (``endpoint``): a POST to the tenant's own URL.

The operator named that URL, so that it may be at a private address; nothing else that is called
may. No redirect is followed: the tenant's credentials go to the place they were given for.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mailproxy.credentials import open_auth, secrets_of
from mailproxy.delivery.attachments.exchange import Exchanges, Request
from mailproxy.delivery.attachments.http import Tenants, checked, headers_with, judged
from mailproxy.delivery.attachments.source import Spool, Trouble
from mailproxy.model import Attachment
from mailproxy.urls import origin_of

_encode = msgspec.json.Encoder().encode


class EndpointSource:
    """
    :param tenants: finds a tenant.
    :param unseal: opens what an attachment's ``auth`` was sealed to.
    """

    def __init__(
        self, exchanges: Exchanges, tenants: Tenants, unseal: Callable[[str], str]
    ) -> None:
        self._exchanges = exchanges
        self._tenants = tenants
        self._unseal = unseal

    def where(self, tenant_id: str, attachment: Attachment) -> str | None:
        tenant = self._tenants(tenant_id)
        return None if tenant is None else str(origin_of(tenant.attachment_url))

    async def fetch(self, tenant_id: str, attachment: Attachment, spool: Spool) -> str:
        tenant = self._tenants(tenant_id)
        if tenant is None or tenant.attachment_url is None:
            raise Trouble("the tenant has no URL for attachments", transient=True)
        auth = tenant.client_auth
        if attachment.auth:
            auth = open_auth(attachment.auth, self._unseal)
        spool.shown = () if auth is None else secrets_of(auth)
        headers = {**headers_with(auth), b"Content-Type": b"application/json"}
        body = _encode({"storage_path": attachment.storage_path})
        request = Request(checked(tenant.attachment_url), headers, None, body)
        return judged(await self._exchanges.run(request, spool))
