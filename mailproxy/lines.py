"""
Line ends and dots: the canonical form of a body, and its form between DATA and the final dot.

A body is canonical when CR and LF occur only as the pair CRLF. On the wire every line that begins
with a dot gets one more, and a line that is only a dot ends the message (RFC 5321, section 4.5.2).
What :func:`stuff` and :class:`Stuffer` write holds exactly one such line, whatever the body and
however it is cut into chunks. Pure.
"""

from __future__ import annotations

_CRLF = b"\r\n"
_DOT = b"\r\n."
_END = b"\r\n.\r\n"

#: Suffixes of a chunk that may be the beginning of the end, longest first.
_BEGINNINGS = tuple(_END[:length] for length in range(len(_END) - 1, 0, -1))


def is_canonical(data: bytes) -> bool:
    """Whether CR and LF occur in *data* only as CRLF."""
    return data.replace(b"\r", b"").replace(b"\n", _CRLF) == data


def canonical(data: bytes) -> bytes:
    """*data* with every CRLF, bare CR and bare LF as CRLF; *data* itself if it is canonical."""
    if b"\r" not in data:  # most texts of programs
        return data.replace(b"\n", _CRLF)
    if is_canonical(data):
        return data
    return data.replace(_CRLF, b"\n").replace(b"\r", b"\n").replace(b"\n", _CRLF)


def lines_fit(data: bytes, most: int) -> bool:
    """Whether no line of canonical *data* passes *most* bytes; leaps from line end to line end."""
    start = 0
    while len(data) - start > most:
        end = data.rfind(_CRLF, start, start + most + 2)
        if end < 0:
            return False
        start = end + 2
    return True


class Canonicaliser:
    """:func:`canonical` for a body that comes in chunks; nothing is held back between them."""

    def __init__(self) -> None:
        self._after_cr = False

    def feed(self, chunk: bytes) -> bytes:
        """The canonical form of *chunk*, as the continuation of the chunks before it."""
        if not chunk:
            return b""
        # The CR that ended the last chunk went out as CRLF already.
        if self._after_cr and chunk[0] == 0x0A:
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        return canonical(chunk)


def stuff(body: bytes) -> bytes:
    """
    The wire form of *body*, up to and including the ``.\\r\\n`` that ends it.

    A body that is not canonical is made so: nothing bare ever goes out. A last line without its
    CRLF gets one.
    """
    body = canonical(body)
    if body.rfind(_DOT) >= 0:  # which takes half the time of looking from the front
        body = body.replace(_DOT, b"\r\n..")
    if body.startswith(b"."):
        body = b"." + body
    if body.endswith(_CRLF) or not body:
        return body + b".\r\n"
    return body + _END


class Stuffer:
    """:func:`stuff` for a body that comes in chunks."""

    def __init__(self) -> None:
        self._canonical = Canonicaliser()
        self._line_start = True

    def feed(self, chunk: bytes) -> bytes:
        """The wire form of *chunk*, as the continuation of the chunks before it."""
        # Canonical chunks never end between CR and LF, so where a line starts is all to remember.
        chunk = self._canonical.feed(chunk)
        if not chunk:
            return b""
        first = self._line_start and chunk.startswith(b".")
        self._line_start = chunk.endswith(_CRLF)
        if _DOT in chunk:
            chunk = chunk.replace(_DOT, b"\r\n..")
        return b"." + chunk if first else chunk

    def finish(self) -> bytes:
        """What ends the body: the final dot, after a CRLF if the last line has none."""
        return b".\r\n" if self._line_start else _END


class Unstuffer:
    """
    Reads a body back from the wire.

    Only CRLF ``.`` CRLF ends it; a dot between bare CRs or LFs is content.

    :ivar done: whether the end of the data was read.
    :ivar rest: once *done*, what came after it: the next command.
    :ivar bare: whether a CR or LF that is not part of a CRLF occurred.
    """

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.bare = False
        self._held = _CRLF
        self._skip = len(_CRLF)

    def feed(self, data: bytes) -> bytes:
        """
        Take *data* from the wire; what of the body is certain by now comes back.

        :raises ValueError: the end of the data was read before.
        """
        if self.done:
            raise ValueError("the body has ended")
        data = self._held + data
        end = data.find(_END)
        if end >= 0:
            self.done = True
            self.rest = data[end + len(_END) :]
            data = data[: end + len(_CRLF)]
        else:
            self._held = next((held for held in _BEGINNINGS if data.endswith(held)), b"")
            data = data[: len(data) - len(self._held)]
        if not data:
            return b""
        self.bare = self.bare or not is_canonical(data)
        if _DOT in data:
            data = data.replace(_DOT, _CRLF)
        if self._skip:
            data, self._skip = data[self._skip :], 0
        return data
