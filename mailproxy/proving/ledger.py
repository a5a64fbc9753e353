"""
What the sink has kept, within bounds, and the files in which it writes it down.

Counts are for ever; bodies and reports are the newest ones, as many as fit. Whoever needs every
copy of a long run has it written to a file, one JSON object a line, each line written before the
reply that accepts the copy.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

#: Ids whose copies are counted; beyond this the oldest are forgotten.
MAX_IDS = 1_000_000

#: Copies that can be told of after their bodies are gone; beyond this the oldest are forgotten.
MAX_FACTS = 100_000


class Copy(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """
    One accepted copy of a message.

    :param n: its number in this sink, from 1.
    :param time: when its end was there, in Unix seconds.
    :param connection: the number of its connection, from 1.
    :param tls: the TLS version, or an empty string.
    :param options: the parameters of MAIL, as they came.
    :param mail_id: the value of ``X-Genro-Mail-ID``; without one, that of ``Message-ID``.
    :param ascii: whether the message had no byte above 127.
    :param sha256: of the message as it was before dot transparency, in hex.
    """

    n: int
    time: float
    connection: int
    peer: str
    helo: str
    tls: str
    user: str
    sender: str
    recipients: list[str]
    options: list[str]
    mail_id: str
    message_id: str
    size: int
    ascii: bool
    sha256: str


class JsonLines:
    """
    A file to which objects are appended, one JSON object a line, each in one write.

    :raises OSError: if *path* cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._file: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115 - lives with the sink
        self._encode = msgspec.json.Encoder().encode

    def append(self, item: Any) -> None:
        """:raises OSError: if the line was not written whole."""
        line = self._encode(item) + b"\n"
        if self._file.write(line) != len(line):
            raise OSError("the ledger took only part of a line")

    def close(self) -> None:
        self._file.close()


class Ledger:
    """
    The accepted copies.

    :param keep: messages kept in memory at most.
    :param keep_bytes: bytes of them at most; the newest is always kept.
    :param lines: where every copy is written down, if anywhere.
    """

    def __init__(
        self, keep: int = 1000, keep_bytes: int = 256 << 20, lines: JsonLines | None = None
    ) -> None:
        self.accepted = 0
        self.recipients = 0
        self.bytes = 0
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._lines = lines
        self._kept: deque[tuple[Copy, bytes]] = deque()
        self._kept_bytes = 0
        self._copies: OrderedDict[str, int] = OrderedDict()
        self._facts: deque[Copy] = deque()
        self._by_id: dict[str, deque[Copy]] = {}

    def add(self, body: bytes, **facts: Any) -> Copy:
        """
        Keep one copy.

        :param facts: the fields of :class:`Copy` that do not follow from *body* and order.
        :raises OSError: it could not be written down; then it is not kept either.
        """
        copy = Copy(
            n=self.accepted + 1,
            size=len(body),
            ascii=body.isascii(),
            sha256=hashlib.sha256(body).hexdigest(),
            **facts,
        )
        if self._lines is not None:
            self._lines.append(copy)
        self.accepted += 1
        self.recipients += len(copy.recipients)
        self.bytes += copy.size
        self._count(copy.mail_id)
        self._note(copy)
        self._kept.append((copy, body))
        self._kept_bytes += copy.size
        self._trim()
        return copy

    def _count(self, mail_id: str) -> None:
        self._copies[mail_id] = self._copies.get(mail_id, 0) + 1
        if len(self._copies) > MAX_IDS:
            self._copies.popitem(last=False)

    def _note(self, copy: Copy) -> None:
        self._facts.append(copy)
        for key in {copy.mail_id, copy.message_id}:
            self._by_id.setdefault(key, deque()).append(copy)
        if len(self._facts) > MAX_FACTS:
            oldest = self._facts.popleft()
            for key in {oldest.mail_id, oldest.message_id}:
                self._by_id[key].popleft()
                if not self._by_id[key]:
                    del self._by_id[key]

    def _trim(self) -> None:
        kept = self._kept
        while len(kept) > self._keep or (self._kept_bytes > self._keep_bytes and len(kept) > 1):
            self._kept_bytes -= kept.popleft()[0].size

    def messages(self, mail_id: str = "", recipient: str = "") -> Iterator[tuple[Copy, bytes]]:
        """The kept ones, oldest first; an empty argument matches all."""
        for copy, body in self._kept:
            if mail_id and mail_id not in (copy.mail_id, copy.message_id):
                continue
            if recipient and recipient not in copy.recipients:
                continue
            yield copy, body

    def message(self, n: int) -> tuple[Copy, bytes] | None:
        """The kept message of that number."""
        if not self._kept or n < self._kept[0][0].n:
            return None
        # Numbers are consecutive: what is kept is always the newest.
        index = n - self._kept[0][0].n
        return self._kept[index] if index < len(self._kept) else None

    def copies(self, mail_id: str) -> int:
        """How many copies with that id were ever accepted."""
        return self._copies.get(mail_id, 0)

    def facts(self, mail_id: str) -> list[Copy]:
        """
        The copies with that id, oldest first, as far as they are remembered.

        :param mail_id: as of ``X-Genro-Mail-ID`` or ``Message-ID``.
        """
        return list(self._by_id.get(mail_id, ()))

    def all_copies(self, at_least: int = 1) -> dict[str, int]:
        """Every id that came *at_least* so often, with how often."""
        return {key: count for key, count in self._copies.items() if count >= at_least}

    def forget(self) -> int:
        """Forget the kept messages and the copies; totals and numbers go on. Returns how many."""
        count = len(self._kept)
        self._kept.clear()
        self._kept_bytes = 0
        self._copies.clear()
        self._facts.clear()
        self._by_id.clear()
        return count

    @property
    def kept(self) -> int:
        return len(self._kept)


def header(head: bytes, name: bytes) -> str:
    """
    The unfolded value of the first header *name* in *head*; empty if there is none.

    :param head: the message up to its first empty line, each line ended by CRLF.
    :param name: in lower case, without the colon.
    """
    lower = b"\r\n" + head.lower()
    start = lower.find(b"\r\n" + name + b":")
    if start < 0:
        return ""
    start += len(name) + 1
    end = head.find(b"\r\n", start)
    while end >= 0 and head[end + 2 : end + 3] in (b" ", b"\t"):
        end = head.find(b"\r\n", end + 2)
    value = head[start:] if end < 0 else head[start:end]
    return value.replace(b"\r\n", b"").strip().decode("utf-8", "replace")
