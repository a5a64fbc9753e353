"""The fake store's large files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from mailproxy.tenancy import LargeFile
from tests.fake_store_intake import Change
from tests.fake_store_rows import Disk
from tests.fakes import FakeClock

T = TypeVar("T")


class FakeFiles:
    """The part of the fake that is ``ILargeFiles``."""

    if TYPE_CHECKING:
        clock: FakeClock
        disk: Disk

        def _check_alive(self) -> None: ...
        async def _write(
            self,
            method: str,
            now: float,
            work: Callable[[Change], T],
            deadline: float | None = None,
        ) -> T: ...

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
