"""What is said of attachments: where they may come from, how large they may be, what is kept."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import attrs

from mailproxy.config_sources import setting
from mailproxy.config_values import Directory, Seconds, Whole, shown

#: A host name, as also private networks have them: with underscores, without a dot.
_name = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
).fullmatch

#: One root below which files may be attached: for this tenant (None: for every tenant).
Root = tuple[str | None, Path]


@attrs.frozen
class Roots:
    """Directories below which files may be attached, each for one tenant or for all."""

    says: str = "list of directories, TENANT=/path or /path (for every tenant)"

    def read(self, text: str, base: Path) -> tuple[Root, ...]:
        return tuple(self._root(part.strip()) for part in text.split(","))

    def _root(self, part: str) -> Root:
        before, slash, after = part.partition("/")
        tenant, equals, rest = before.rpartition("=")
        path = Path(slash + after)
        if not slash or rest.strip() or (equals and not tenant.strip()) or not part.isprintable():
            raise ValueError(f"{shown(part)} is neither /path nor TENANT=/path")
        if ".." in path.parts:
            raise ValueError(f"{shown(part)} has .. in it")
        if len(path.parts) < 2:
            raise ValueError(f"{shown(part)} would be the whole machine")
        return tenant.strip() or None, path


@attrs.frozen
class Places:
    """Addresses, CIDR blocks and host names; blocks in their usual form, names in lower case."""

    says: str = "list of IP addresses, CIDR blocks and host names"

    def read(self, text: str, base: Path) -> tuple[str, ...]:
        return tuple(self._place(part.strip()) for part in text.split(","))

    def _place(self, part: str) -> str:
        try:
            return str(ipaddress.ip_network(part, strict=False))
        except ValueError:
            pass
        if not _name(part):
            raise ValueError(f"{shown(part)} is neither an address, a CIDR block nor a host name")
        return part.lower().rstrip(".")


@attrs.frozen(kw_only=True)
class AttachmentSettings:
    """The part of :class:`mailproxy.config.Settings` that is about attachments."""

    cache_memory_max_mb: int = setting(
        "attachments.cache_memory_max_mb",
        Whole(0, 65536),
        50,
        "Most MiB of fetched attachments kept in memory; 0: none are.",
    )
    cache_memory_ttl_seconds: float = setting(
        "attachments.cache_memory_ttl_seconds",
        Seconds(0, 30 * 86400),
        300.0,
        "How long an attachment is kept there.",
    )
    cache_disk_dir: Path | None = setting(
        "attachments.cache_disk_dir",
        Directory(),
        None,
        "Where fetched attachments are kept as files as well.",
    )
    cache_disk_max_mb: int = setting(
        "attachments.cache_disk_max_mb",
        Whole(1, 2**20),
        500,
        "Most MiB of attachments kept there.",
    )
    cache_disk_ttl_seconds: float = setting(
        "attachments.cache_disk_ttl_seconds",
        Seconds(0, 30 * 86400),
        3600.0,
        "How long an attachment is kept there.",
    )
    attachment_roots: tuple[Root, ...] = setting(
        "attachments.attachment_roots",
        Roots(),
        (),
        "Directories below which files of this machine may be attached.",
    )
    attachment_allow: tuple[str, ...] = setting(
        "attachments.attachment_allow",
        Places(),
        (),
        "Private addresses, and hosts with private addresses, that URLs of attachments may name.",
    )
    attachment_max_bytes: int = setting(
        "attachments.attachment_max_bytes",
        Whole(1, 2**30),
        25 * 2**20,
        "Largest attachment.",
    )
