"""
Large attachments on their way to where links lead to them, and away from there in time.

The place is a URL of fsspec, which is asked only when there is something to put; its calls block
and are made in threads. What is put there is written down before, so that nothing stays for ever.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from twisted.logger import Logger

from mailproxy.errors import LargeFileFault
from mailproxy.filelinks import FileLinks
from mailproxy.interfaces import IClock, InThread
from mailproxy.interfaces_tenants import ILargeFiles
from mailproxy.model import Attachment, Claimed
from mailproxy.rounds import Rounds
from mailproxy.tenancy import LargeFile, LargeFiles

_log = Logger()

#: Seconds between two looks for files whose time is over.
SWEEP = 300.0

#: Files that are removed in one look.
MOST_SWEPT = 100

_DAY = 86_400.0
_ODD = re.compile(r"[^A-Za-z0-9._-]+")

Filesystem = Callable[[str], tuple[Any, str]]


def fsspec_filesystem(url: str) -> tuple[Any, str]:
    """
    The file system that *url* is in, and the path there.

    :raises ImportError: fsspec, or what it needs for such a URL, is not installed.
    """
    fsspec = importlib.import_module("fsspec.core")
    found: tuple[Any, str] = fsspec.url_to_fs(url)
    return found


class Uploads:
    """
    :param store: where is written down what was put where.
    :param links: signs links to files that the service itself gives out.
    :param in_thread: where file systems are called.
    """

    def __init__(
        self,
        store: ILargeFiles,
        links: FileLinks,
        clock: IClock,
        in_thread: InThread,
        filesystem: Filesystem = fsspec_filesystem,
    ) -> None:
        self._store = store
        self._links = links
        self._clock = clock
        self._in_thread = in_thread
        self._filesystem = filesystem

    async def put(
        self, message: Claimed, attachment: Attachment, data: bytes, config: LargeFiles
    ) -> tuple[str, float]:
        """
        The link to *data*, and until when it is good.

        Done again for the same message, it leads to the same file.

        :raises LargeFileFault: it cannot be put there.
        :raises StoreError: it cannot be written down; nothing was put.
        """
        if is_local(config.storage_url) and not config.public_base_url:
            text = "it cannot be put away: public_base_url is not set"
            raise LargeFileFault(attachment.filename, text, transient=True)
        until = float(int(self._clock.now() + config.file_ttl_days * _DAY))
        about = (message.tenant_id, message.pk, message.generation, attachment.part)
        pk = self._links.number(*about, attachment.sha256)
        secret = f"{pk:016x}{self._links.number(pk, attachment.sha256):016x}"
        name = f"{secret}/{_safe(attachment.filename)}"
        url = f"{config.storage_url.rstrip('/')}/{name}"
        await self._store.keep_file(
            LargeFile(pk, message.tenant_id, url, attachment.filename, len(data), until)
        )
        try:
            await self._in_thread(self._write, url, data)
            return await self._link(pk, url, name, attachment, config, until), until
        except Exception as error:
            problem = _wording(error)
        raise LargeFileFault(attachment.filename, problem, transient=True)

    async def _link(
        self,
        pk: int,
        url: str,
        name: str,
        attachment: Attachment,
        config: LargeFiles,
        until: float,
    ) -> str:
        if is_local(url):
            return self._links.link(config.public_base_url, pk, attachment.filename, int(until))
        if config.public_base_url:
            return f"{config.public_base_url.rstrip('/')}/{quote(name)}"
        signed: str = await self._in_thread(self._signed, url, int(until - self._clock.now()))
        return signed

    def _write(self, url: str, data: bytes) -> None:
        filesystem, path = self._filesystem(url)
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(path, data)

    def _signed(self, url: str, seconds: int) -> str:
        filesystem, path = self._filesystem(url)
        return str(filesystem.sign(path, expiration=seconds))

    async def sweep(self) -> int:
        """Remove files whose time is over. :return: how many. :raises StoreError: none of them."""
        files = await self._store.expired_files(self._clock.now(), MOST_SWEPT)
        gone = []
        for file in files:
            try:
                await self._in_thread(self._remove, file.url)
            except Exception as error:
                _log.warn(
                    "a large file of tenant {tenant} cannot be removed: {problem}",
                    tenant=file.tenant_id,
                    problem=_wording(error),
                )
            else:
                gone.append(file.pk)
        if gone:
            await self._store.forget_files(gone)
        return len(gone)

    def _remove(self, url: str) -> None:
        filesystem, path = self._filesystem(url)
        if filesystem.exists(path):
            filesystem.rm_file(path)
        if is_local(url):
            with suppress(OSError):  # it is not there, or not empty: no matter
                filesystem.rmdir(path.rpartition("/")[0])


class Sweeper(Rounds):
    """Removes large files in time, once every :data:`SWEEP` seconds."""

    about = "removing large files"
    interval = SWEEP

    def __init__(self, uploads: Uploads, clock: IClock) -> None:
        super().__init__("sweeper", clock)
        self._uploads = uploads

    async def round(self) -> None:
        while self.running and await self._uploads.sweep() == MOST_SWEPT:
            pass


def is_local(url: str) -> bool:
    """Whether the service itself gives out what is at *url*."""
    return url.startswith(("file://", "local://", "/"))


def _safe(name: str) -> str:
    return _ODD.sub("_", name).lstrip("._")[-100:] or "file"


def _wording(error: Exception) -> str:
    """What an operator can act upon; nothing that a library may have put a secret into."""
    if isinstance(error, ImportError):
        return "it cannot be put away: the extra large-files, or what fsspec wants, is missing"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be put away: {error.strerror}"
    return f"it cannot be put away: {type(error).__name__}"
