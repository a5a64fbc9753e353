"""
Mail of other accounts at one account: who may have how many of its sessions, and in which order.

One session is kept for the account's own mail, so that it never has to wait for a message of
somebody else; where the account has no more than one, its own mail has the next turn.
"""

from __future__ import annotations

from mailproxy.dispatch.detour import Detour

#: Messages waiting per open session before another session is opened.
PER_SESSION = 4


class Guests:
    """:ivar carrying: sessions that carry the mail of others."""

    def __init__(self) -> None:
        self.carrying = 0
        self._waiting: dict[Detour, None] = {}
        self._serving = False
        self._asked = False

    @property
    def busy(self) -> bool:
        """Whether there is mail of others here."""
        return bool(self._waiting)

    def may_have_one(self, most: int) -> bool:
        """
        Whether one session more may carry the mail of others.

        :param most: sessions the account may have now.
        """
        return self.carrying < max(1, most - 1)

    def welcome(self, detour: Detour) -> None:
        """Start *detour* when there is a session for it, until nothing of it is here."""
        self._waiting[detour] = None
        self.serve()

    def serve(self) -> None:
        """Start those that wait; who was served now comes last the next time."""
        self._asked = True
        if self._serving:
            return
        self._serving = True
        try:
            while self._asked:
                self._asked = False
                for detour in tuple(self._waiting):
                    self._serve(detour)
        finally:
            self._serving = False

    def _serve(self, detour: Detour) -> None:
        served = detour.start(PER_SESSION)
        if not detour.busy:
            self._waiting.pop(detour, None)
        elif served:
            self._waiting[detour] = self._waiting.pop(detour, None)

    def crowded(self, detour: Detour) -> bool:
        """Whether others than *detour* have mail here that waits for a session."""
        return any(each is not detour and len(each) for each in self._waiting)

    def disband(self) -> None:
        """All that waits goes elsewhere."""
        for detour in tuple(self._waiting):
            detour.disband()
            if not detour.busy:
                self._waiting.pop(detour, None)
