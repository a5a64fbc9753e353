"""
Named thread pools that are services.

Each kind of blocking work has its own pool, so that a slow disk cannot keep names from being
resolved, and the reactor's own pool stays what it is for: the resolver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Threads(Service):
    """
    A pool of threads that lives from ``startService`` to ``stopService``.

    :param reactor: where results are delivered.
    :param name: of the pool; threads carry it.
    :param size: threads at most; they are started when needed.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str, size: int) -> None:
        self.setName(f"threads:{name}")
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=size, name=name)

    def startService(self) -> None:
        super().startService()
        self._pool.start()

    def stopService(self) -> None:
        """Waits for the calls that run; what is queued runs first."""
        super().stopService()
        self._pool.stop()

    def __call__(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
        """
        Run *function* in a thread of the pool.

        Cancelling the Deferred detaches from the call; the call itself goes on.
        """
        result: Deferred[T] = Deferred(lambda _: None)

        def done(value: Any) -> None:
            if not result.called:
                result.callback(value)

        deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs).addBoth(done)
        return result


def inline(function: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
    """Run *function* at once, in this thread: what tests and simulations hand in."""
    from twisted.internet.defer import maybeDeferred

    result: Deferred[T] = maybeDeferred(function, *args, **kwargs)
    return result
