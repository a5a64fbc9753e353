"""What callers hand in to the writer, and what the reactor is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailproxy.store.transaction import Finished, Limited, Transaction

C = TypeVar("C")
R = TypeVar("R")


@attrs.frozen(eq=False)
class Kind(Generic[C, R]):
    """
    What works of one kind do.

    :param run: does all the calls it is given, in order, and gives a result for each. Called
        again with fewer calls when it raised.
    :param mark: the crash point passed after a commit that such a work was part of.
    :param rows: about how many rows a call changes; for the size of a group.
    """

    run: Callable[[Transaction, Sequence[C]], Sequence[R]]
    mark: str = ""
    rows: Callable[[C], int] = lambda _call: 1


def alone(function: Callable[[Transaction, C], R], mark: str = "") -> Kind[C, R]:
    """A kind whose calls gain nothing from being run together."""
    return Kind(lambda tx, calls: [function(tx, call) for call in calls], mark)


def copied(function: Callable[[Transaction, C], R]) -> Kind[C, R]:
    """A kind that changes what processes keep copies of: see ``ISubmitters.watch_changes``."""

    def run(tx: Transaction, call: C) -> R:
        tx.copied = True
        return function(tx, call)

    return alone(run)


@attrs.define(eq=False)
class Work:
    """
    One call that waits for its transaction.

    :param rows: about how many rows it changes.
    :param result: a value or a Failure.
    """

    kind: Kind[Any, Any]
    call: Any
    done: Deferred[Any]
    since: float
    rows: int = 1
    timer: IDelayedCall | None = None
    result: Any = None

    def fire(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if self.done.called:  # its caller cancelled it: that detached the caller, not the work
            return
        self.done.callback(self.result)


@attrs.frozen
class Committed:
    """What the reactor is told after a commit."""

    works: list[Work]
    due: frozenset[int] = frozenset()
    reportable: frozenset[str] = frozenset()
    finished: tuple[Finished, ...] = ()
    limited: tuple[Limited, ...] = ()
    seconds: float = 0.0
