"""Paces the store's background work: bulk acts, retention, what was left over."""

from __future__ import annotations

from mailproxy.interfaces import IClock, IStatus
from mailproxy.rounds import Rounds

#: Seconds between two rounds.
INTERVAL = 1.0

#: Steps of one round; each is a transaction of its own, so others get their turn between them.
STEPS = 20


class Caretaker(Rounds):
    """
    :param store: whose ``upkeep`` is called until it has nothing left, once every
        :data:`INTERVAL` seconds.
    """

    about = "upkeep of the store"
    interval = INTERVAL

    def __init__(self, store: IStatus, clock: IClock) -> None:
        super().__init__("caretaker", clock)
        self._store = store
        self._clock = clock

    async def round(self) -> None:
        for _ in range(STEPS):
            if not self.running or not await self._store.upkeep(self._clock.now()):
                return
