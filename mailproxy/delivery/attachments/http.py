"""
Attachments from the web (``http_url``): any address the guard lets pass, by GET.

Credentials of a tenant are shown to its own origin only, those of an attachment to the origin of
its URL only; a redirect to another origin goes without. There are no cookies.
"""

from __future__ import annotations

from collections.abc import Callable

from mailproxy.credentials import authorization, open_auth, secrets_of
from mailproxy.delivery.attachments.exchange import Answer, Exchanges, Request
from mailproxy.delivery.attachments.guard import Guard
from mailproxy.delivery.attachments.source import Spool, Trouble
from mailproxy.model import Attachment
from mailproxy.tenancy import ClientAuth, Tenant
from mailproxy.urls import Url, origin_of, parse

#: Redirects that are followed for one attachment.
MOST_REDIRECTS = 5

#: Nothing will change these answers.
PERMANENT = frozenset({400, 403, 404, 410})

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_HEADERS = {b"User-Agent": b"mailproxy", b"Accept": b"*/*", b"Accept-Encoding": b"identity"}

Tenants = Callable[[str], Tenant | None]


class HttpSource:
    """
    :param guard: which addresses may be called.
    :param tenants: finds a tenant.
    :param unseal: opens what an attachment's ``auth`` was sealed to.
    """

    def __init__(
        self, exchanges: Exchanges, guard: Guard, tenants: Tenants, unseal: Callable[[str], str]
    ) -> None:
        self._exchanges = exchanges
        self._guard = guard
        self._tenants = tenants
        self._unseal = unseal

    def where(self, tenant_id: str, attachment: Attachment) -> str | None:
        return str(origin_of(attachment.storage_path))

    async def fetch(self, tenant_id: str, attachment: Attachment, spool: Spool) -> str:
        url = checked(attachment.storage_path)
        auth = self._auth(tenant_id, attachment, url)
        spool.shown = () if auth is None else secrets_of(auth)
        first = url.origin
        for _ in range(MOST_REDIRECTS + 1):
            headers = headers_with(auth if url.origin == first else None)
            answer = await self._exchanges.run(Request(url, headers, self._guard), spool)
            if answer.status not in REDIRECTS or not answer.location:
                return judged(answer)
            try:
                url = url.join(answer.location)
            except ValueError as error:
                raise Trouble(f"redirected to what is {error}", transient=False) from None
        raise Trouble(f"more than {MOST_REDIRECTS} redirects", transient=False)

    def _auth(self, tenant_id: str, attachment: Attachment, url: Url) -> ClientAuth | None:
        if attachment.auth:
            return open_auth(attachment.auth, self._unseal)
        tenant = self._tenants(tenant_id)
        if tenant is None:
            return None
        own = (origin_of(tenant.client_base_url), origin_of(tenant.attachment_url))
        return tenant.client_auth if url.origin in own else None


def headers_with(auth: ClientAuth | None) -> dict[bytes, bytes]:
    """The fields of a request, with credentials if there are any."""
    shown = None if auth is None else authorization(auth)
    return _HEADERS if shown is None else {**_HEADERS, b"Authorization": shown}


def checked(text: str) -> Url:
    """:raises Trouble: it is no URL we would call."""
    try:
        return parse(text)
    except ValueError as error:
        raise Trouble(f"its URL is {error}", transient=False) from None


def judged(answer: Answer) -> str:
    """The media type of what came. :raises Trouble: nothing came."""
    if 200 <= answer.status < 300:
        return answer.kind
    raise Trouble(f"answered {answer.status}", transient=answer.status not in PERMANENT)
