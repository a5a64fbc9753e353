"""
When the writer begins, and who runs meanwhile.

The writer needs the interpreter between any two statements. If it has to win it from a busy
reactor each time, a transaction takes twice as long and both threads use a third more of the
processor. So the reactor asks for a transaction at the end of its turn only, and keeps still until
the statements are through; while the disk does the commit it goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mailproxy.turns import Sends

#: Seconds the reactor keeps still for the statements of one transaction, at most.
LENT = 0.005

#: Rows of a transaction from which on the next one waits a little for what is about to come.
CROWD = 8


class Lending:
    """
    All of it in the reactor's thread, but for :meth:`enough`.

    :param at_end: of the reactor's turn.
    :param begin: has the writer begin; returns whether anything waits for it.
    """

    def __init__(self, at_end: Sends, begin: Callable[[], bool]) -> None:
        self._at_end = at_end
        self._begin = begin
        self._rows = 0
        self._asked = self._out = False
        self._enough = threading.Event()

    def ask(self) -> None:
        """Something waits to be written."""
        if not self._asked:
            self._asked = True
            self._at_end(self._lend, self._rows >= CROWD)

    def _lend(self) -> None:
        self._asked = False
        if self._out:
            return  # asked for again when that transaction is told
        self._enough.clear()
        self._out = self._begin()
        if self._out:
            self._enough.wait(LENT)

    def enough(self) -> None:
        """In the writer's thread: what follows is for the disk, or for nobody."""
        self._enough.set()

    def told(self, rows: int) -> None:
        """
        The transaction is over, and what it came to was told; something may wait by now.

        :param rows: about how many it had.
        """
        self._out = False
        self._rows = rows
        self.ask()
