"""A deadline that is moved often and hardly ever met."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_NEVER = float("inf")


class Deadline:
    """
    Calls *missed* once the time set has passed.

    Moving it costs no timer: the one that runs is left alone while it is early enough, and looks
    again when it fires.
    """

    __slots__ = ("_at", "_call", "_clock", "_fires_at", "_missed")

    def __init__(self, clock: IReactorTime, missed: Callable[[], None]) -> None:
        self._clock = clock
        self._missed = missed
        self._at = self._fires_at = _NEVER
        self._call: IDelayedCall | None = None

    def set(self, seconds: float | None) -> None:
        """Expect the next call within *seconds*; None: whenever it comes."""
        if seconds is None:
            self._at = _NEVER
            return
        self._at = at = self._clock.seconds() + seconds
        if at < self._fires_at:
            self._start(seconds)

    def stop(self) -> None:
        """Never call again; no timer is left."""
        self._at = self._fires_at = _NEVER
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _start(self, seconds: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._fires_at = self._clock.seconds() + seconds
        self._call = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._call, self._fires_at = None, _NEVER
        if self._at == _NEVER:
            return
        left = self._at - self._clock.seconds()
        if left > 0:
            self._start(left)
        else:
            self._at = _NEVER
            self._missed()
