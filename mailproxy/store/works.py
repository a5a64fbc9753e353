"""What callers hand in to the writer, and what the reactor is told of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailproxy.store.compiling import Statement
from mailproxy.store.transaction import Finished, Limited, Transaction

C = TypeVar("C")
R = TypeVar("R")


#: A statement, and its values.
Question = tuple[Statement, *tuple[Any, ...]]


@attrs.frozen
class Ahead:
    """
    What calls ask first.

    :param questions: the answers may be those from before the transaction changed anything, as
        long as only kinds that have such questions, of other messages, ran before.
    :param messages: the keys of those that the calls are about.
    """

    questions: Sequence[Question]
    messages: Collection[int] = ()


@attrs.frozen(eq=False)
class Kind(Generic[C, R]):
    """
    What works of one kind do.

    :param run: does all the calls it is given, in order, and gives a result for each. Called
        again with fewer calls when it raised.
    :param mark: the crash point passed after a commit that such a work was part of.
    :param rows: about how many rows a call changes; for the size of a group.
    :param ahead: what calls ask first, for a database where each question costs a step.
    """

    run: Callable[[Transaction, Sequence[C]], Sequence[R]]
    mark: str = ""
    rows: Callable[[C], int] = lambda _call: 1
    ahead: Callable[[Sequence[C]], Ahead] | None = None


def alone(
    function: Callable[[Transaction, C], R],
    mark: str = "",
    ahead: Callable[[Sequence[C]], Ahead] | None = None,
) -> Kind[C, R]:
    """A kind whose calls gain nothing from being run together."""
    return Kind(lambda tx, calls: [function(tx, call) for call in calls], mark, ahead=ahead)


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
