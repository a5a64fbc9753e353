"""
What a source of attachments is, what it says when it fails, and where the content goes meanwhile.
"""

from __future__ import annotations

import hashlib
from tempfile import SpooledTemporaryFile
from typing import Protocol

from mailproxy.model import Attachment

#: Bytes of an attachment that are kept in memory while the rest of it is not there.
IN_MEMORY = 256 * 1024


class Trouble(Exception):
    """
    An attachment could not be had.

    :param problem: one line; never a secret.
    :param transient: whether it may be had later.
    :param down: whether its source is out of reach, so that others there need not be tried now.
    """

    def __init__(self, problem: str, *, transient: bool, down: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.transient = transient
        self.down = down


class Spool:
    """
    Content as it comes in, counted and digested; what is large goes to a temporary file.

    :param limit: bytes of content at most.
    :ivar shown: secrets that the source was shown: an error that came in place of the content may
        repeat them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.shown: tuple[str, ...] = ()
        self.size = 0
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - see close
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._whole: tuple[bytes, str, str] | None = None

    def fill(self, data: bytes, md5: str, sha256: str) -> None:
        """
        Take *data* whole, with digests that are known: to compute those of megabytes takes long.

        :raises Trouble: it is too much.
        """
        self.expect(len(data))
        self.size = len(data)
        self._whole = (data, md5, sha256)

    def expect(self, size: int) -> None:
        """:raises Trouble: *size* bytes, which are announced, are too many."""
        if size > self.limit:
            raise Trouble(f"larger than {self.limit} bytes", transient=False)

    def write(self, data: bytes) -> None:
        """:raises Trouble: it is too much."""
        self.expect(self.size + len(data))
        self.size += len(data)
        self._sha256.update(data)
        self._md5.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise Trouble(f"no room for it: {error.strerror}", transient=True) from None

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest() if self._whole is None else self._whole[2]

    @property
    def md5(self) -> str:
        return self._md5.hexdigest() if self._whole is None else self._whole[1]

    def read(self) -> bytes:
        """What was written, from the beginning."""
        if self._whole is not None:
            return self._whole[0]
        self._file.seek(0)
        data = self._file.read()
        self._file.seek(0, 2)
        return data

    def close(self) -> None:
        self._whole = None
        self._file.close()


class Source(Protocol):
    """One of the places that attachments come from."""

    def where(self, tenant_id: str, attachment: Attachment) -> str | None:
        """The place that others may come from too; None: there is no such place."""

    async def fetch(self, tenant_id: str, attachment: Attachment, spool: Spool) -> str:
        """
        Write the content to *spool*. Cancelling it leaves nothing behind.

        :return: the media type that the source says it is, in lower case; "" for none.
        :raises Trouble: it could not be had.
        """
