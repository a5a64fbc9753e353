"""Who may fetch now: so many at once in all, and so many for one tenant."""

from __future__ import annotations

from collections import OrderedDict, deque

from twisted.internet.defer import Deferred


class Turns:
    """
    Tenants take turns; the messages of one tenant go in order.

    :param total: at once.
    :param each: at once for one tenant, so that one whose source hangs leaves room for others.
    """

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._taken: dict[str, int] = {}
        self._waiting: OrderedDict[str, deque[Deferred[None]]] = OrderedDict()
        self._letting_in = False

    @property
    def taken(self) -> int:
        return sum(self._taken.values())

    def take(self, tenant_id: str) -> Deferred[None]:
        """Fires when it is the tenant's turn; cancel it to go away."""
        turn: Deferred[None] = Deferred(lambda turn: self._leave(tenant_id, turn))
        self._waiting.setdefault(tenant_id, deque()).append(turn)
        self._let_in()
        return turn

    def give(self, tenant_id: str) -> None:
        """A turn is over."""
        left = self._taken[tenant_id] - 1
        if left:
            self._taken[tenant_id] = left
        else:
            del self._taken[tenant_id]
        self._let_in()

    def _leave(self, tenant_id: str, turn: Deferred[None]) -> None:
        queue = self._waiting.get(tenant_id)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[tenant_id]

    def _let_in(self) -> None:
        if self._letting_in:
            return  # whoever was let in was done at once: the loop below goes on
        self._letting_in = True
        while (tenant_id := self._next()) is not None:
            queue = self._waiting[tenant_id]
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(tenant_id)
            else:
                del self._waiting[tenant_id]
            self._taken[tenant_id] = self._taken.get(tenant_id, 0) + 1
            turn.callback(None)
        self._letting_in = False

    def _next(self) -> str | None:
        if self.taken >= self._total:
            return None
        free = (each for each in self._waiting if self._taken.get(each, 0) < self._each)
        return next(free, None)
