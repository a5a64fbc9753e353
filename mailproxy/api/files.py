"""
``GET /v1/files/...``: large attachments that were put away on this machine, for whoever has the
link.

The link's signature is the only key, and its number the only name: where the file is stands in the
store. Whatever is wrong with a link, it leads nowhere.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from threading import Lock
from urllib.parse import quote

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from mailproxy.api.answers import NOT_FOUND, Answer
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc, Param
from mailproxy.api.streaming import AnswerStream
from mailproxy.filelinks import PATH, FileLinks
from mailproxy.interfaces import IClock, InThread
from mailproxy.interfaces_tenants import ILargeFiles
from mailproxy.tenancy import LargeFile

#: Bytes that are read at once.
CHUNK = 64 * 1024

_NUMBER = re.compile(r"[0-9]{1,19}")
_PLAIN = re.compile(r"[A-Za-z0-9 ._()+,=@-]*")

_DOC = Doc(
    about="Give out a large attachment that a message links to. The link is the key to it.",
    gives=bytes,
    gives_type="application/octet-stream",
    query=(
        Param("expires", str, "Until when the link is good, Unix seconds; part of the link."),
        Param("signature", str, "Part of the link."),
    ),
)

_log = Logger()


class Files:
    """
    :param links: judges links; None: none is good.
    :param in_thread: where files are read.
    """

    def __init__(
        self, store: ILargeFiles, links: FileLinks | None, clock: IClock, in_thread: InThread
    ) -> None:
        self._store = store
        self._links = links
        self._clock = clock
        self._in_thread = in_thread

    def routes(self) -> Iterable[Route]:
        yield Route("GET", f"{PATH}/<pk>/<name>", self.get, Need.OPEN, _DOC)

    async def get(self, call: Call) -> Answer | None:
        file = await self._find(call)
        if file is None:
            return NOT_FOUND
        try:
            opened = await self._in_thread(_Opened, _local_path(file.url))
        except (OSError, ValueError):
            _log.warn("a large file of tenant {tenant} is not there", tenant=file.tenant_id)
            return NOT_FOUND
        try:
            await self._send(call, file, opened)
        finally:
            opened.close()
        return None

    async def _find(self, call: Call) -> LargeFile | None:
        numbers = (call.path["pk"], call.query("expires") or "")
        if not all(_NUMBER.fullmatch(each) for each in numbers):
            return None
        pk, expires = map(int, numbers)
        signature = call.query("signature") or ""
        if self._links is None:
            return None
        if pk >= 2**63 or not self._links.opens(pk, expires, signature, self._clock.now()):
            return None
        return await self._store.file(pk)

    async def _send(self, call: Call, file: LargeFile, opened: _Opened) -> None:
        size = opened.size
        for name, value in _headers(file, size):
            call.request.setHeader(name, value)
        stream = AnswerStream(call.request, self._clock)
        try:
            while data := await self._in_thread(opened.read, min(CHUNK, size)):
                size -= len(data)
                await stream.write(data)
            if size:  # it was cut short meanwhile: never a file that looks whole
                await stream.abort()
        except CancelledError:
            raise
        except OSError:
            _log.failure("a large file was cut short")
            await stream.abort()
        finally:
            stream.close()


def _headers(file: LargeFile, size: int) -> Iterable[tuple[bytes, bytes]]:
    plain = file.name if _PLAIN.fullmatch(file.name) else "attachment"
    name = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file.name, safe='')}"
    return (
        (b"Server", b"mailproxy"),
        (b"Content-Type", b"application/octet-stream"),
        (b"Content-Length", b"%d" % size),
        (b"Content-Disposition", name.encode("ascii")),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Content-Security-Policy", b"default-src 'none'; sandbox"),
        (b"Cache-Control", b"private, no-store"),
        (b"Referrer-Policy", b"no-referrer"),
    )


def _local_path(url: str) -> str:
    """:raises ValueError: it is not on this machine."""
    for prefix in ("file://", "local://"):
        if url.startswith(prefix):
            return url.removeprefix(prefix)
    if url.startswith("/"):
        return url
    raise ValueError("not a file of this machine")


class _Opened:
    """
    An open file, read in threads and closed here; never in the middle of a read.

    :raises OSError: it is not there, or not a regular file.
    """

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            os.close(fd)
            raise OSError("not a regular file")
        self._fd: int | None = fd
        self._lock = Lock()
        self.size = about.st_size

    def read(self, most: int) -> bytes:
        with self._lock:
            return b"" if self._fd is None else os.read(self._fd, most)

    def close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)
