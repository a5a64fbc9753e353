"""Signals the service hears besides the one that stops it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads


class Signals:
    """
    Calls functions in the reactor when a signal comes; knows how it was before.

    :param reactor: where the functions are called.
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._before: dict[signal.Signals, Any] = {}

    def on(self, number: signal.Signals, call: Callable[[], None]) -> None:
        """Have *call* called for *number*; without effect outside the main thread."""

        def come(_: int, frame: FrameType | None) -> None:
            self._reactor.callFromThread(call)

        try:
            before = signal.signal(number, come)
        except ValueError:  # not the main thread: signals are somebody else's
            return
        self._before.setdefault(number, before)

    def restore(self) -> None:
        """Let every signal do what it did before."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()
