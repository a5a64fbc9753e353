"""What the parts of the fake store begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tests.fake_store_intake import Change
from tests.fake_store_rows import Disk
from tests.fakes import FakeClock

T = TypeVar("T")


class FakePart:
    """What a part of the fake has of the whole, see :class:`tests.fake_store.FakeStore`."""

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
