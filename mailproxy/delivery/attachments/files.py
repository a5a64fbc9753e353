"""
Attachments from files below the operator's roots (``filesystem``), and from nowhere else.

A path is walked from its root down, one directory after the other, each opened within the one
before; no link is followed anywhere, so that neither a name nor somebody who moves things around
meanwhile can lead out of the root. What is opened last has to be a regular file: it is the open
file that is judged and read, whatever becomes of its name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from twisted.logger import Logger

from mailproxy.delivery.attachments.source import Spool, Trouble
from mailproxy.interfaces import InThread
from mailproxy.model import Attachment

_CHUNK = 256 * 1024

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.ENODEV})

_OUTSIDE = "not below a directory that attachments may come from"

_log = Logger()


class FileSource:
    """
    :param roots: absolute directories, each with the only tenant it is for; None: for every one.
    :param in_thread: where files are read.
    """

    def __init__(self, roots: Sequence[tuple[str | None, Path]], in_thread: InThread) -> None:
        self._roots = tuple((tenant_id, PurePosixPath(root)) for tenant_id, root in roots)
        self._in_thread = in_thread

    def where(self, tenant_id: str, attachment: Attachment) -> str | None:
        return None

    async def fetch(self, tenant_id: str, attachment: Attachment, spool: Spool) -> str:
        await self._in_thread(self.read, tenant_id, attachment.storage_path, spool)
        _log.info(
            "a file was read for tenant {tenant}: {path!r}, {size} bytes",
            tenant=tenant_id,
            path=attachment.storage_path,
            size=spool.size,
        )
        return ""

    def read(self, tenant_id: str, path: str, spool: Spool) -> None:
        """
        Read the file at *path*, an absolute one.

        :raises Trouble: there is none, it is not ours to send, or it is too large.
        """
        root, parts = self._place(tenant_id, path)
        try:
            with _opened(root, parts) as fd:
                _copy(fd, spool)
        except OSError as error:
            raise _judged(error) from None

    def _place(self, tenant_id: str, path: str) -> tuple[str, tuple[str, ...]]:
        """The root that *path* is below, and the way down from there."""
        if "\0" in path or not path.startswith("/") or ".." in path.split("/"):
            raise Trouble(_OUTSIDE, transient=False)
        wanted = PurePosixPath(path)
        for tenant, root in self._roots:
            if tenant in (None, tenant_id) and wanted != root and wanted.is_relative_to(root):
                return str(root), wanted.relative_to(root).parts
        raise Trouble(_OUTSIDE, transient=False)


@contextmanager
def _opened(root: str, parts: Sequence[str]) -> Iterator[int]:
    """The file's descriptor. The way to the root may have links in it: it is the operator's."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            if last:  # a device is better not even opened
                _check_regular(os.stat(part, dir_fd=fd, follow_symlinks=False))
            below = os.open(part, _FILE if last else _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _copy(fd: int, spool: Spool) -> None:
    before = os.fstat(fd)
    _check_regular(before)
    spool.expect(before.st_size)
    while data := os.read(fd, _CHUNK):
        spool.write(data)
    after = os.fstat(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Trouble("it changed while it was read", transient=True)


def _check_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Trouble("not a regular file", transient=False)


def _judged(error: OSError) -> Trouble:
    if error.errno in _GONE:
        return Trouble("there is no such file", transient=False)
    if error.errno in _REFUSED:
        return Trouble("a link, or a file that may not be read", transient=False)
    return Trouble(f"it cannot be read: {error.strerror}", transient=True)
