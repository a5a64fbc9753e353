"""Large attachments that were put away: what is where, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from sqlalchemy import delete, insert, select

from mailproxy.store.compiling import LIMIT, columns, compiled, listed, p
from mailproxy.store.face import DEADLINE, Face
from mailproxy.store.schema_tenants import files
from mailproxy.store.transaction import Transaction, numbers
from mailproxy.store.works import alone
from mailproxy.tenancy import LargeFile

_PUT = compiled(
    insert(files).values({name: p(name) for name in columns(files)}).prefix_with("OR REPLACE"),
    *columns(files),
)
_FIND = compiled(select(files).where(files.c.pk == p("file")), "file")
_EXPIRED = compiled(
    select(files)
    .where(files.c.expires_at <= p("now"))
    .order_by(files.c.expires_at)
    .suffix_with(LIMIT),
    "now",
    "limit",
)
_FORGET = compiled(delete(files).where(files.c.pk.in_(listed())), "pks")


def keep(tx: Transaction, file: LargeFile) -> int:
    return tx.do(_PUT, *attrs.astuple(file))


def forget(tx: Transaction, pks: Sequence[int]) -> int:
    return tx.do(_FORGET, numbers(pks))


def find(cursor: Any, pk: int) -> LargeFile | None:
    row = cursor.execute(_FIND.sql, (pk,)).fetchone()
    return None if row is None else LargeFile(*row)


def expired(cursor: Any, now: float, limit: int) -> list[LargeFile]:
    return [LargeFile(*row) for row in cursor.execute(_EXPIRED.sql, (now, limit))]


KEEP = alone(keep)
FORGET = alone(forget)


class FilesFace(Face):
    """The part of the store that is ``ILargeFiles``."""

    async def keep_file(self, file: LargeFile) -> None:
        await self._write(KEEP, file, DEADLINE)

    async def file(self, pk: int) -> LargeFile | None:
        return await self._read(find, pk)

    async def expired_files(self, now: float, limit: int) -> list[LargeFile]:
        return await self._read(expired, now, limit)

    async def forget_files(self, pks: Sequence[int]) -> None:
        await self._write(FORGET, pks, DEADLINE)
