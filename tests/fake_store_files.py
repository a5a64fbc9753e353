"""The fake store's large files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mailproxy.tenancy import LargeFile
from tests.fake_store_base import FakePart
from tests.fake_store_intake import Change

T = TypeVar("T")


class FakeFiles(FakePart):
    """The part of the fake that is ``ILargeFiles``."""

    async def keep_file(self, file: LargeFile) -> None:
        await self._write("keep_file", self.clock.now(), lambda change: _keep(change, file))

    async def file(self, pk: int) -> LargeFile | None:
        self._check_alive()
        return self.disk.files.get(pk)

    async def expired_files(self, now: float, limit: int) -> list[LargeFile]:
        self._check_alive()
        over = [file for file in self.disk.files.values() if file.expires_at <= now]
        return sorted(over, key=lambda file: file.expires_at)[:limit]

    async def forget_files(self, pks: Sequence[int]) -> None:
        await self._write("forget_files", self.clock.now(), lambda change: _forget(change, pks))


def _keep(change: Change, file: LargeFile) -> None:
    change.disk.files[file.pk] = file


def _forget(change: Change, pks: Sequence[int]) -> None:
    for pk in pks:
        change.disk.files.pop(pk, None)
