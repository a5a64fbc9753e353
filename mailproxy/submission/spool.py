"""A message while it comes in: in memory as long as it is small, in a file beyond that."""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import IO

from mailproxy.lines import Unstuffer, is_canonical

#: Bytes kept in memory.
MEMORY_BYTES = 256 * 1024


class Spool:
    """
    :param most: bytes that are kept; what is beyond is counted, and thrown away.

    :ivar size: bytes that came.
    :ivar unstuffer: reads the form of DATA; BDAT brings the bytes as they are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._file: IO[bytes] | None = None
        self._chunks: list[bytes] = []
        self._edge = b""
        self._bare = False
        self.size = 0
        self.unstuffer = Unstuffer()

    @property
    def too_large(self) -> bool:
        return self.size > self._most

    @property
    def bare(self) -> bool:
        """Whether a CR or LF that is not part of a CRLF came."""
        return self._bare or self.unstuffer.bare or self._edge == b"\r"

    def stuffed(self, piece: bytes) -> None:
        """Take *piece* as DATA brings it."""
        self._keep(self.unstuffer.feed(piece))

    def plain(self, piece: bytes) -> None:
        """Take *piece* as BDAT brings it."""
        seen = self._edge + piece
        self._edge = b"\r" if seen.endswith(b"\r") else b""
        self._bare = self._bare or not is_canonical(seen[: len(seen) - len(self._edge)])
        self._keep(piece)

    def _keep(self, data: bytes) -> None:
        """:raises OSError: there is no room for it."""
        self.size += len(data)
        if self.too_large:
            self.close()
        elif self._file is not None:
            self._file.write(data)
        else:
            self._chunks.append(data)
            if self.size > MEMORY_BYTES:
                self._file = TemporaryFile()  # noqa: SIM115 - closed by close() and take()
                self._file.write(b"".join(self._chunks))
                self._chunks.clear()

    def take(self) -> bytes:
        """All of it, once. :raises OSError: it cannot be read back."""
        if self._file is None:
            data = b"".join(self._chunks)
            self._chunks.clear()
            return data
        file, self._file = self._file, None
        with file:
            file.seek(0)
            return file.read()

    def close(self) -> None:
        """Throw away what is kept."""
        self._chunks.clear()
        file, self._file = self._file, None
        if file is not None:
            file.close()
