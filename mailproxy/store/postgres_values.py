"""
How this program's values are given to a PostgreSQL server.

Arrays are written by hand: the driver would look at each value three times.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from psycopg import Connection as Raw
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper

_decoded = msgspec.json.Decoder(list[str]).decode


class _Text(StrDumper):
    """The server keeps no NUL in a text; whatever brought one, the rest of it is kept."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


class _Integer(Int8Dumper):
    """All integers, and flags, have one type, so that one prepared statement does for them all."""

    def dump(self, obj: Any) -> Any:
        return super().dump(int(obj))


class Packed(bytes):
    """An array of bytes as the server keeps it."""


class _Packed(Dumper):
    format = Format.BINARY
    oid = 1001  # bytea[]

    def dump(self, obj: Packed) -> bytes:
        return obj


def adapt(raw: Raw[Any]) -> None:
    """Tell *raw* how this program's values are given to the server."""
    raw.adapters.register_dumper(int, _Integer)
    raw.adapters.register_dumper(bool, _Integer)
    raw.adapters.register_dumper(str, _Text)
    raw.adapters.register_dumper(Packed, _Packed)


def _integers(values: Iterable[Any]) -> str:
    return f"{{{','.join(['NULL' if each is None else str(int(each)) for each in values])}}}"


def _floats(values: Iterable[Any]) -> str:
    return f"{{{','.join(['NULL' if each is None else repr(float(each)) for each in values])}}}"


def _texts(values: Iterable[Any]) -> str:
    return f"{{{','.join(['NULL' if each is None else _quoted(str(each)) for each in values])}}}"


#: One dimension; whether there are NULLs; the type of the elements, bytea; and how many they are,
#: from 1 on. An element is its length and its bytes; NULL has the length -1.
_HEAD, _LENGTH, _NULL = struct.Struct(">iiIii"), struct.Struct(">i"), b"\xff\xff\xff\xff"
_BYTEA = 17


def _bytes(values: Iterable[Any]) -> Packed:
    listed, length = list(values), _LENGTH.pack
    parts = [b"" if each is None else each for each in listed]
    lengths = [_NULL if each is None else length(len(each)) for each in listed]
    head = _HEAD.pack(1 if listed else 0, None in listed, _BYTEA, len(listed), 1)
    if not listed:
        head = head[:12]  # no dimension
    pairs = [piece for pair in zip(lengths, parts, strict=True) for piece in pair]
    return Packed(head + b"".join(pairs))


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


#: How the values of a column become an array, by its SQL type.
ARRAYS: dict[str, Callable[[Iterable[Any]], Any]] = {
    "BIGINT": _integers,
    "INTEGER": _integers,
    "SMALLINT": _integers,
    "FLOAT": _floats,
    "VARCHAR": _texts,
    "BYTEA": _bytes,
}


def keys(listed: str) -> str:
    """The array of a list of keys, which is JSON: integers look the same in both."""
    if '"' not in listed:
        return f"{{{listed[1:-1]}}}"
    return _texts(_decoded(listed))
