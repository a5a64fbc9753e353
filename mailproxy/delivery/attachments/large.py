"""
What is done with attachments that are larger than their tenant wants: told, refused, or put where
a link leads to them.

A message is judged before its first attempt only: once something of it may have arrived, it stays
what it is.
"""

from __future__ import annotations

import html
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import attrs

from mailproxy.delivery.attachments.uploads import Uploads
from mailproxy.errors import LargeFileFault
from mailproxy.model import Attachment, Claimed, Content
from mailproxy.tenancy import LargeFiles, Tenant

_MIB = 1024 * 1024

_END = re.compile(r"</body\s*>", re.IGNORECASE)


@attrs.frozen
class Link:
    """A file that is not in the message, and where it is until when (Unix seconds)."""

    name: str
    size: int
    url: str
    until: float


class Large:
    """
    :param tenants: finds a tenant.
    """

    def __init__(self, tenants: Callable[[str], Tenant | None], uploads: Uploads) -> None:
        self._tenants = tenants
        self._uploads = uploads

    def concerns(self, message: Claimed, content: Content) -> bool:
        """Whether *message* is not to be sent with all its attachments."""
        config = self._config(message.tenant_id)
        if config is None or config.action == "warn" or message.attempts:
            return False
        return any(_exceeds(each, config) for each in content.attachments)

    def notes(self, tenant_id: str, content: Content) -> Sequence[str]:
        """What there is to say of attachments that are sent though they are large."""
        config = self._config(tenant_id)
        if config is None or config.action != "warn":
            return ()
        return [
            f"large attachment: {each.filename}, {each.size} bytes"
            for each in content.attachments
            if _exceeds(each, config)
        ]

    async def relieved(
        self,
        message: Claimed,
        content: Content,
        parts: Mapping[int, bytes],
        read: Callable[[int], Awaitable[bytes]],
    ) -> tuple[Content, dict[int, bytes]]:
        """
        *content* with links in place of what is too large, and what is left of the new *parts*.

        :param read: reads a part that is stored already.
        :raises LargeFileFault: the tenant refuses such attachments, or they cannot be put away.
        """
        config = self._config(message.tenant_id)
        if config is None:
            return content, dict(parts)
        large = [each for each in content.attachments if _exceeds(each, config)]
        if config.action == "reject" and large:
            text = f"larger than {config.max_size_mb:g} MiB, which its tenant does not allow"
            raise LargeFileFault(large[0].filename, text, transient=False)
        links = []
        for each in large:
            data = parts[each.part] if each.part in parts else await read(each.part)
            url, until = await self._uploads.put(message, each, data, config)
            links.append(Link(each.filename, each.size, url, until))
        kept = tuple(each for each in content.attachments if each not in large)
        left = {part: data for part, data in parts.items() if part in {e.part for e in kept}}
        return linked(attrs.evolve(content, attachments=kept), links), left

    def _config(self, tenant_id: str) -> LargeFiles | None:
        tenant = self._tenants(tenant_id)
        config = None if tenant is None else tenant.large_file_config
        return config if config is not None and config.enabled else None


def _exceeds(attachment: Attachment, config: LargeFiles) -> bool:
    return bool(attachment.part) and attachment.size > config.max_size_mb * _MIB


def linked(content: Content, links: Sequence[Link]) -> Content:
    """*content* with *links* at the end of each of its texts."""
    if not links:
        return content
    plain, page = content.plain, content.html
    if plain is not None or page is None:
        plain = (plain or "").rstrip("\r\n") + _plain(links)
    if page is not None:
        ends = list(_END.finditer(page))
        at = ends[-1].start() if ends else len(page)
        page = page[:at] + _html(links) + page[at:]
    return attrs.evolve(content, plain=plain, html=page)


def _plain(links: Sequence[Link]) -> str:
    lines = [f"{each.name} ({_size(each.size)}, until {_day(each.until)}):\n{each.url}\n"
             for each in links]  # fmt: skip
    return "\n\n" + "\n".join(lines)


def _html(links: Sequence[Link]) -> str:
    items = [
        f'<li><a href="{html.escape(each.url)}">{html.escape(each.name)}</a>'
        f" ({_size(each.size)}, until {_day(each.until)})</li>"
        for each in links
    ]
    return f"\n<ul>{''.join(items)}</ul>\n"


def _size(size: int) -> str:
    return f"{size / _MIB:.1f} MB"


def _day(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d")
