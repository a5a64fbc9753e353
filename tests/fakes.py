"""Fakes that tests of every stage share; a fake of a seam passes the contract of the real one."""

from __future__ import annotations

from twisted.internet.task import Clock
from zope.interface import implementer

from mailproxy.interfaces import IClock

#: What the wall clock says when a test begins: 2025-06-15 15:06:40 UTC.
EPOCH = 1_750_000_000.0


@implementer(IClock)
class FakeClock(Clock):
    """A clock that moves only when the test says so; its wall clock moves along."""

    def now(self) -> float:
        return EPOCH + self.seconds()
