"""How many bytes of bodies are in memory at once."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred


class Budget:
    """
    :param limit: bytes. A single body that is larger is let in when there is no other.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()
        self._letting_in = False

    @property
    def used(self) -> int:
        return self._used

    def take(self, size: int) -> bool:
        """Take *size* bytes if they are free and nobody waits."""
        if self._waiting or not self._fits(size):
            return False
        self._used += size
        return True

    def wait(self, size: int) -> Deferred[None]:
        """Take *size* bytes, in turn; fires when they are taken."""
        turn: Deferred[None] = Deferred()
        self._waiting.append((size, turn))
        self._let_in()
        return turn

    def give(self, size: int) -> None:
        """The *size* bytes of one body are free again."""
        self._used -= size
        if self._waiting:
            self._let_in()

    def _fits(self, size: int) -> bool:
        return not self._used or self._used + size <= self._limit

    def _let_in(self) -> None:
        if self._letting_in:
            return  # whoever was let in was done at once: the loop below goes on
        self._letting_in = True
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            self._used += size
            turn.callback(None)
        self._letting_in = False
