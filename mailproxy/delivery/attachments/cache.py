"""
Attachments that were fetched before: in memory, and on disk if there is a place for it.

What is kept belongs to one tenant and is known by its SHA-256 and its size. A client's MD5 is but a
hint at it: it finds only what this tenant fetched, and only under the MD5 that the bytes really
have. What became of the bytes on disk shows when they are read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import attrs
from twisted.logger import Logger

from mailproxy.delivery.attachments.disk import DiskCache, Found
from mailproxy.interfaces import InThread

_log = Logger()


@attrs.frozen
class _Key:
    tenant_id: str
    sha256: str
    size: int


class MemoryCache:
    """
    The least recently used goes first.

    :param max_bytes: of content; 0 keeps nothing.
    :param ttl: seconds after which content is fetched anew.
    """

    def __init__(self, max_bytes: int, ttl: float) -> None:
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._kept: OrderedDict[_Key, tuple[bytes, str, float]] = OrderedDict()
        self._hints: dict[tuple[str, str], _Key] = {}
        self.size = 0

    def find(self, tenant_id: str, md5: str, now: float) -> Found | None:
        key = self._hints.get((tenant_id, md5))
        if key is None:
            return None
        data, _, since = self._kept[key]
        if now - since >= self._ttl:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return Found(data, key.sha256)

    def keep(self, tenant_id: str, md5: str, sha256: str, data: bytes, now: float) -> None:
        """:param md5: that of *data*."""
        key = _Key(tenant_id, sha256, len(data))
        if len(data) > self._max_bytes:
            return
        if key in self._kept:
            self._drop(key)
        self._kept[key] = (data, md5, now)
        self._hints[tenant_id, md5] = key
        self.size += len(data)
        while self.size > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: _Key) -> None:
        data, md5, _ = self._kept.pop(key)
        self.size -= len(data)
        if self._hints.get((key.tenant_id, md5)) == key:
            del self._hints[key.tenant_id, md5]


class Cache:
    """
    :param now: the wall clock, in Unix seconds.
    :param disk: None: there is no place for it.
    :param in_thread: where the disk is read and written.
    """

    def __init__(
        self,
        now: Callable[[], float],
        memory: MemoryCache,
        disk: DiskCache | None,
        in_thread: InThread,
    ) -> None:
        self._now = now
        self._memory = memory
        self._disk = disk
        self._in_thread = in_thread

    async def find(self, tenant_id: str, md5: str) -> Found | None:
        """What the tenant fetched before that has this MD5 (in lower case hex); None if nothing."""
        now = self._now()
        found = self._memory.find(tenant_id, md5, now)
        if found is not None or self._disk is None:
            return found
        try:
            found = await self._in_thread(self._disk.find, tenant_id, md5, now)
        except OSError as error:
            _log.warn("the cache of attachments cannot be read: {error}", error=error)
            return None
        if found is not None:
            self._memory.keep(tenant_id, md5, found.sha256, found.data, now)
        return found

    async def keep(self, tenant_id: str, md5: str, sha256: str, data: bytes) -> None:
        """
        Keep what was fetched; a cache that cannot is no reason to fail.

        :param md5: that of *data*, as computed from it; likewise *sha256*.
        """
        now = self._now()
        self._memory.keep(tenant_id, md5, sha256, data, now)
        if self._disk is None:
            return
        try:
            await self._in_thread(self._disk.keep, tenant_id, md5, sha256, data, now)
        except OSError as error:
            _log.warn("the cache of attachments cannot be written: {error}", error=error)
