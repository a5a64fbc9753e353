"""
``POST /v1/suppressions/import``: a whole list of addresses, as CSV or as lines of JSON.

The request's body lies in a file; it is read some hundred lines at a time, so that neither memory
nor the reactor notices how long the list is. A line that is not good is named, and the others are
taken.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Annotated, BinaryIO

import attrs
from msgspec import Meta, MsgspecError, Struct, json

from mailproxy.api.answers import Answer, Problem, Refused, answer, error, invalid, unavailable
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Yes
from mailproxy.api.suppressions import MOST_PROBLEMS, BadEntry, Entry, read_entry
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, InThread
from mailproxy.interfaces_tenants import IRemoval
from mailproxy.tenancy import Suppression

#: Addresses in one list.
MAX_LINES = 100_000

#: Bytes of one line.
MAX_LINE = 4096

#: Lines that are read, and stored, at once.
SLICE = 500

#: First fields that make a line the heading of a table.
_HEADINGS = frozenset(("address", "email", "e-mail", "mail"))

CUT_SHORT = unavailable("the list is taken in part: import it again, what is there stays")


class BadLine(Struct, kw_only=True):
    """A line that was passed over."""

    line: Annotated[int, Meta(description="Its number, from 1.")]
    reason: str


class Imported(Struct, kw_only=True):
    """How the list has grown."""

    ok: Yes = True
    added: Annotated[int, Meta(description="Addresses that are new on the list.")]
    known: Annotated[int, Meta(description="Addresses that were on it, and stay as they were.")]
    invalid: Annotated[int, Meta(description="Lines that were passed over.")]
    errors: Annotated[list[BadLine], Meta(description=f"The first {MOST_PROBLEMS} of those.")]


#: What some programs begin a UTF-8 file with.
_MARK = b"\xef\xbb\xbf"

#: Reads one line, of which it is told the number: the address and the reason; None for a heading.
_Reader = Callable[[bytes, int], tuple[str, str] | None]

_entry = json.Decoder(Entry)

_DOC = Doc(
    about="Suppress a list of addresses: lines of CSV (address, reason; a heading is passed over), "
    f"or a JSON object with `address` and `reason` on each line; at most {MAX_LINES} lines.",
    takes=bytes,
    takes_type="text/csv",
    gives=Imported,
)


@attrs.define
class _Tally:
    """What an import has come to."""

    added: int = 0
    known: int = 0
    invalid: int = 0
    errors: list[BadLine] = attrs.Factory(list)

    def bad(self, line: int, reason: str) -> None:
        self.invalid += 1
        if len(self.errors) < MOST_PROBLEMS:
            self.errors.append(BadLine(line=line, reason=reason))


class SuppressionImport:
    """Takes lists in. :param in_thread: where they are read."""

    def __init__(self, store: IRemoval, clock: IClock, in_thread: InThread) -> None:
        self._store = store
        self._clock = clock
        self._in_thread = in_thread

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/v1/suppressions/import", self.take, Need.CONTROL, _DOC)

    async def take(self, call: Call) -> Answer:
        tenant_id = call.home()
        content, _ = call.take_body()
        try:
            await self._in_thread(_check_length, content)
            tally = await self._take(tenant_id, content, _is_json(call, content))
        finally:
            content.close()
        if not tally.added and not tally.known and tally.errors:
            raise invalid([Problem(("body", bad.line), bad.reason) for bad in tally.errors])
        return answer(Imported(**attrs.asdict(tally, recurse=False)))

    async def _take(self, tenant_id: str, content: BinaryIO, is_json: bool) -> _Tally:
        now, tally, taken = self._clock.now(), _Tally(), False
        lines = _lines(content)
        read = partial(_read_slice, lines, _json_line if is_json else _csv_line, tally)
        while (found := await self._in_thread(read)) is not None:
            entries = [
                Suppression(tenant_id, address, reason, "import", now)
                for address, reason in found.items()
            ]
            if not entries:
                continue
            try:
                added = await self._store.suppress(entries, now)
            except StoreError:
                if taken:
                    raise Refused(CUT_SHORT) from None
                raise
            taken = True
            tally.added += added
            tally.known += len(entries) - added
        return tally


def _check_length(content: BinaryIO) -> None:
    """Count the lines before anything is taken. :raises Refused: 413, there are too many."""
    content.seek(0)
    count = 0
    while piece := content.read(64 * 1024):
        count += piece.count(b"\n")
        if count > MAX_LINES:
            raise Refused(error(413, f"more than {MAX_LINES} lines, nothing was taken"))
    content.seek(0)


def _is_json(call: Call, content: BinaryIO) -> bool:
    """Whether the lines are JSON: the type says so, or, where it says nothing, the first byte."""
    kind = (call.request.getHeader("content-type") or "").lower()
    if "csv" in kind or "json" in kind:
        return "json" in kind
    first = content.read(256).removeprefix(_MARK).lstrip()
    content.seek(0)
    return first.startswith(b"{")


def _lines(content: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines that are not empty, with their numbers; None for one that is too long."""
    number = 0
    while line := content.readline(MAX_LINE + 2):
        number += 1
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            while (rest := content.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif line := line.removeprefix(_MARK if number == 1 else b"").strip():
            yield number, line


def _read_slice(
    lines: Iterator[tuple[int, bytes | None]], read: _Reader, tally: _Tally
) -> dict[str, str] | None:
    """The next addresses with their reasons; None at the end. What is no entry is in *tally*."""
    here = list(islice(lines, SLICE))
    found: dict[str, str] = {}
    for number, line in here:
        try:
            if line is None:
                raise BadEntry("line", f"longer than {MAX_LINE} bytes")
            given = read(line, number)
            if given is not None:
                address, reason = read_entry(*given)
                found.setdefault(address, reason)
        except BadEntry as bad:
            tally.bad(number, f"{bad.field}: {bad.problem}")
    return found if here else None


def _csv_line(line: bytes, number: int) -> tuple[str, str] | None:
    try:
        (row,) = csv.reader([line.decode("utf-8")], strict=True)
    except (UnicodeDecodeError, csv.Error, ValueError):
        raise BadEntry("line", "not CSV in UTF-8") from None
    address = row[0].strip() if row else ""
    if number == 1 and address.lower() in _HEADINGS:
        return None
    return address, row[1].strip() if len(row) > 1 else ""


def _json_line(line: bytes, number: int) -> tuple[str, str] | None:
    try:
        entry = _entry.decode(line)
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadEntry("line", "not a JSON object with address and reason") from None
    return entry.address, entry.reason or ""
