"""
The end of the reactor's turn: where what many things of one turn asked for is done once.

A turn is what the reactor does between two looks at its sockets. What is gathered until its end
goes together, though each part of it was asked for by itself, and nothing waits longer for it than
the turn takes anyhow.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

#: Has a function called when the turn ends.
AtEnd = Callable[[Callable[[], None]], None]


def at_once(function: Callable[[], None]) -> None:
    """Where there are no turns to speak of: a simulation, a test."""
    function()


class Turns:
    """:param reactor: whose turns they are; everything here happens in its thread."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._gathering: list[Callable[[], None]] = []
        self._sending: list[Callable[[], None]] = []
        self._waiting = False

    def gather(self, function: Callable[[], None]) -> None:
        """At the end of the turn call *function*, which may ask others for something."""
        self._gathering.append(function)
        self._wait()

    def send(self, function: Callable[[], None]) -> None:
        """At the end of the turn, when all that :meth:`gather` named is done, call *function*."""
        self._sending.append(function)
        self._wait()

    def _wait(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._reactor.callLater(0.0, self._end)

    def _end(self) -> None:
        try:
            for function in self._gathering:  # which may grow meanwhile
                function()
        finally:
            sending = self._sending
            self._gathering, self._sending, self._waiting = [], [], False
            for function in sending:
                function()
