"""
How many sessions an account bears: all it may have, fewer after trouble, one by one more again.

Pure. Additive increase, multiplicative decrease: trouble halves the number, at most once a second;
as many good attempts as there are sessions add one, as long as replies are not slower than usual.
An account without trouble costs nothing here.
"""

from __future__ import annotations

#: More sessions than any account has: no limit of ours.
MOST = 1000

#: Seconds in which further trouble is that which was answered already.
ONCE = 1.0

#: Good attempts until a session is tried again that the server refused to open.
REGAIN = 64

#: The share by which the usual time of an attempt follows the latest one.
_FOLLOW = 1.0 / 16

#: An attempt is fast up to this many times the usual time, and so many seconds.
_TIMES, _SECONDS = 2.0, 0.1


class Concurrency:
    """:ivar target: the most sessions that shall be in use at once, at least 1."""

    def __init__(self) -> None:
        self.target = MOST
        self._good = 0
        self._step = 1
        self._soft = 0
        self._usual = 0.0
        self._cut_at = float("-inf")

    @property
    def limited(self) -> bool:
        """Whether anything here is less than all."""
        return self.target < MOST

    def troubled(self, in_use: int, at: float) -> bool:
        """
        The server puts us off, or does not answer. :return: whether the number is now less.

        :param in_use: sessions at this moment.
        :param at: monotonic seconds.
        """
        if at - self._cut_at < ONCE:
            return False
        self._cut_at = at
        before = min(self.target, max(1, in_use))
        self.target = max(1, before // 2)
        self._good, self._step, self._soft = 0, 1, 0
        return True

    def refused(self, left: int) -> None:
        """The server did not open one more session; *left* are there."""
        self.target = max(1, min(self.target, left))
        self._good, self._step, self._soft = 0, REGAIN, 0

    def well(self, seconds: float, most: int) -> bool:
        """
        An attempt went well. :return: whether there is one session more now.

        :param seconds: that it took.
        :param most: sessions the account may have at all; there, the limit here ends.
        """
        if self.target >= MOST:
            return False
        usual = self._usual or seconds
        self._usual = usual + (seconds - usual) * _FOLLOW
        if seconds > usual * _TIMES + _SECONDS:
            return False
        self._good += 1
        if self._good < (1 if self.target < self._soft else max(self.target, self._step)):
            return False
        self._good = 0
        self.target += 1
        if self.target >= most:
            self.all()
        return True

    def restart(self, most: int) -> None:
        """After a pause that trouble led to: begin with one, and double until half of *most*."""
        self.all()
        if most > 1:
            self.target, self._soft = 1, max(1, most // 2)

    def all(self) -> None:
        """No limit of ours any more."""
        self.target = MOST
        self._good, self._step, self._soft = 0, 1, 0
