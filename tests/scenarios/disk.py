"""
A disk that fails when it is told to, under a real process; and the disk that a loss of power would
leave behind.

The process is started with ``disk.c`` loaded before its C library, so that what fails is the call
of the system, and everything above it is what runs in production.
"""

from __future__ import annotations

import random
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs

from tests.need import need_program

#: What the operations of the disk are called.
OPERATIONS = ("read", "write", "sync", "open")

#: In the place of an errno: the operation answers nothing until the disk is well.
HANGS = 0

#: What a disk writes whole or not at all, in bytes.
SECTOR = 512

#: Memory that is mapped into processes, and locks: no loss of power leaves any of it.
_VOLATILE = ("-shm", ".lock")


@cache
def library() -> Path:
    """The compiled shim. :raises SkipTest: there is no compiler."""
    compiler = need_program("cc")
    made = Path(tempfile.mkdtemp(prefix="mailproxy-disk-")) / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True, timeout=60
    )
    return made


class FaultyDisk:
    """
    :param directory: in which its own are made.
    :param remember: keep the journal that :func:`read_journal` takes.

    :ivar path: the directory that is the disk.
    """

    def __init__(self, directory: Path, *, remember: bool = False) -> None:
        self._library = library()
        self.path = directory / "disk"
        self.path.mkdir()
        self._control = directory / "faults"
        self._control.mkdir()
        self.journal = directory / "journal" if remember else None

    def environment(self) -> dict[str, str]:
        """For the process whose files lie on it."""
        told = {
            "LD_PRELOAD": str(self._library),
            "FAULTY_DISK": str(self.path.resolve()),
            "FAULTY_CONTROL": str(self._control),
        }
        return told if self.journal is None else told | {"FAULTY_JOURNAL": str(self.journal)}

    def fail(self, **operations: int) -> None:
        """From now on each of these (see :data:`OPERATIONS`) fails with that errno, or hangs."""
        for operation, number in operations.items():
            assert operation in OPERATIONS, operation
            half = self._control / f".{operation}"
            half.write_text(str(number))
            half.rename(self._control / operation)

    def heal(self) -> None:
        """From now on nothing fails."""
        for operation in OPERATIONS:
            (self._control / operation).unlink(missing_ok=True)

    def mark(self, text: str) -> None:
        """Note in the journal that *text* is true by now."""
        assert self.journal is not None
        name = text.encode()
        with self.journal.open("ab", buffering=0) as file:
            file.write(_ENTRY.pack(ord("M"), 0, len(name), 0, 0) + name)


_ENTRY = struct.Struct("=IIIIq")


@attrs.frozen
class Entry:
    """
    :param kind: W for a write, T for a truncation, U for a removal, B and E for the beginning and
        the end of a sync, F for one that failed, M for a mark.
    :param name: the file's; of a mark its text.
    """

    kind: str
    thread: int
    name: str
    offset: int
    data: bytes


def read_journal(path: Path) -> Iterator[Entry]:
    """What happened to a disk, in its order."""
    held, at = path.read_bytes(), 0
    while at < len(held):
        kind, thread, name, length, offset = _ENTRY.unpack_from(held, at)
        at += _ENTRY.size
        text = held[at : at + name].decode()
        at += name
        yield Entry(chr(kind), thread, text, offset, held[at : at + length])
        at += length


@attrs.define
class _Doubted:
    """A file as it was before a sync failed, and what was written since: whether it is synced."""

    before: bytearray
    later: list[tuple[Entry, bool]] = attrs.Factory(list)


class PowerLoss:
    """
    Follows a disk by its journal; at any time tells what a loss of power would leave.

    What was written before a sync of the file began is there once that has ended. Of what came
    later any part may be there, and of each write any number of its first sectors. What a sync that
    failed was to write stays in doubt for ever, whatever is synced later: systems take such pages
    for written.
    """

    def __init__(self) -> None:
        self._synced: dict[str, bytearray] = {}
        self._pending: dict[str, list[Entry]] = {}
        self._begun: dict[tuple[int, str], int] = {}
        self._doubted: dict[str, _Doubted] = {}

    def follow(self, entry: Entry) -> None:
        if entry.kind == "M" or entry.name.endswith(_VOLATILE):
            return
        waiting = self._pending.setdefault(entry.name, [])
        if entry.kind == "B":
            self._begun[entry.thread, entry.name] = len(waiting)
        elif entry.kind == "E":
            self._sync(entry, waiting)
        elif entry.kind == "F":
            whole = bytearray(self._synced.get(entry.name, b""))
            doubted = self._doubted.setdefault(entry.name, _Doubted(whole))
            doubted.later += [(each, False) for each in waiting]
            for other in [each for each in self._begun if each[1] == entry.name]:
                self._begun[other] = 0
            waiting.clear()
        elif entry.kind == "U":
            self._synced.pop(entry.name, None)
            self._doubted.pop(entry.name, None)
            waiting.clear()
        else:
            waiting.append(entry)

    def _sync(self, entry: Entry, waiting: list[Entry]) -> None:
        count = self._begun.pop((entry.thread, entry.name))
        for each in waiting[:count]:
            _apply(self._synced, each)
            if entry.name in self._doubted:
                self._doubted[entry.name].later.append((each, True))
        del waiting[:count]
        for (thread, name), other in self._begun.items():
            if name == entry.name:
                self._begun[thread, name] = max(0, other - count)

    @property
    def unsynced(self) -> int:
        """Changes that may be lost."""
        return sum(map(len, self._pending.values()))

    def leave(self, directory: Path, rng: random.Random | None) -> None:
        """
        Write to *directory* what is left of the disk.

        :param rng: draws what of the unsynced is there; None for nothing of it.
        """
        files = {name: bytearray(held) for name, held in self._synced.items()}
        if rng is not None:
            for name, doubted in self._doubted.items():
                files[name] = bytearray(doubted.before)
                for each, certain in doubted.later:
                    if certain or rng.random() < 0.5:
                        _apply(files, each if certain else _torn(each, rng))
        for waiting in self._pending.values():
            for each in waiting:
                if rng is not None and rng.random() < 0.5:
                    _apply(files, _torn(each, rng))
        directory.mkdir()
        for name, held in files.items():
            (directory / name).write_bytes(held)


def _torn(entry: Entry, rng: random.Random) -> Entry:
    """Some of a write's sectors from its beginning; half of the times all of them."""
    if entry.kind != "W" or rng.random() < 0.5:
        return entry
    sectors = -(-len(entry.data) // SECTOR)
    end = (entry.offset // SECTOR + rng.randint(0, sectors)) * SECTOR - entry.offset
    return attrs.evolve(entry, data=entry.data[: max(0, end)])


def _apply(files: dict[str, bytearray], entry: Entry) -> None:
    held = files.setdefault(entry.name, bytearray())
    if entry.kind == "T":
        del held[entry.offset :]
    end = entry.offset + len(entry.data)
    if len(held) < end:
        held.extend(bytes(end - len(held)))
    held[entry.offset : end] = entry.data
