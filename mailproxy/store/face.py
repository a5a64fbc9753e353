"""What every part of the store's face stands on: the ways to read and to write, and the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mailproxy.crypto import Sealer
from mailproxy.interfaces import IClock
from mailproxy.metrics import Metrics
from mailproxy.store.works import Kind

C = TypeVar("C")
R = TypeVar("R")
T = TypeVar("T")

#: Seconds a call of a front door waits for the writer's turn.
DEADLINE = 5.0


class Face:
    """
    A base for the parts; the store that is put together of them has what is named here.

    ``_write`` does a work in the next transaction, ``_read`` runs a function on a snapshot.
    """

    if TYPE_CHECKING:
        _clock: IClock
        _sealer: Sealer
        _metrics: Metrics

        def _write(
            self, kind: Kind[C, R], call: C, deadline: float | None = None
        ) -> Awaitable[R]: ...

        def _read(self, function: Callable[..., T], *args: Any) -> Awaitable[T]: ...
