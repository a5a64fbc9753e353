"""
SMTP replies, read from whatever a server sends.

The form is strict (three digits, one code per reply, lines that end in CRLF), the text is not:
whatever it holds is kept, with everything a terminal or a log might act upon escaped. Size and
number of lines have a cap, so no server can make us collect for ever. Pure.
"""

from __future__ import annotations

from mailproxy.model import Reply

#: Octets of one reply line. RFC 5321, section 4.5.3.1.5 has 512; servers exceed it.
MAX_LINE = 8192

#: Octets and lines of one reply.
MAX_REPLY, MAX_LINES = 65536, 100

#: Different short replies remembered, since a session hears the same few over and over.
_REMEMBERED = 32


class BadReply(ValueError):
    """What the server sent is not an SMTP reply, or too long for one."""


def readable(text: bytes) -> str:
    """*text* for logs and reports: UTF-8 where it is, all that is not printable escaped."""
    decoded = text.decode("utf-8", "backslashreplace")
    if decoded.isprintable():
        return decoded
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)


class ReplyReader:
    """Takes bytes as they come (:meth:`push`) and gives complete replies (:meth:`pop`)."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._lines: list[str] = []
        self._size = 0
        self._code = 0
        self._known: dict[bytes, Reply] = {}

    @property
    def held(self) -> int:
        """Octets that were received and belong to no reply given so far."""
        return len(self._data) - self._at + self._size

    @property
    def residue(self) -> bool:
        """Whether something was received that no reply has used up."""
        return bool(self.held or self._lines)

    def push(self, data: bytes) -> None:
        """Add what was received."""
        self._data = self._data[self._at :] + data if self._data else data
        self._at = 0

    def pop(self) -> Reply | None:
        """
        The next complete reply; None until there is one.

        :raises BadReply: the stream is of no further use.
        """
        while self._data:
            start, end = self._at, self._data.find(b"\n", self._at)
            if (len(self._data) if end < 0 else end) - start > MAX_LINE:
                raise BadReply(f"a reply line of more than {MAX_LINE} octets")
            if end < 0:
                return None
            line = self._data[start:end]
            self._at = end + 1
            if self._at == len(self._data):
                self._data, self._at = b"", 0
            reply = self._known.get(line) if not self._lines else None
            if reply is None:
                reply = self._take(line)
            if reply is not None:
                return reply
        return None

    def _take(self, line: bytes) -> Reply | None:
        code = _code(line)
        if self._lines and code != self._code:
            raise BadReply(f"a reply with two codes, {self._code} and {code}")
        self._size += len(line)
        if self._size > MAX_REPLY or len(self._lines) >= MAX_LINES:
            raise BadReply(f"a reply of more than {MAX_REPLY} octets or {MAX_LINES} lines")
        self._code = code
        self._lines.append(readable(line[4:-1]))
        if line[3:4] == b"-":
            return None
        reply = Reply(code, "\n".join(self._lines))
        if len(self._lines) == 1 and len(self._known) < _REMEMBERED and len(line) <= 128:
            self._known[line] = reply
        self._lines, self._size = [], 0
        return reply


def _code(line: bytes) -> int:
    if not line.endswith(b"\r"):
        raise BadReply("a reply line that does not end in CRLF")
    digits, after = line[:3], line[3:4]
    if len(digits) == 3 and digits.isdigit() and b"2" <= digits < b"6" and after in b" -\r":
        return int(digits)
    raise BadReply(f"not a reply: {readable(line[:40].rstrip())!r}")
