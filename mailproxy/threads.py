"""
Named thread pools that are services.

Each kind of blocking work has its own pool, so that a slow disk cannot keep names from being
resolved, and the reactor's own pool stays what it is for: the resolver.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from mailproxy.errors import MailProxyError

T = TypeVar("T")


class _Daemon(Thread):
    """A thread that does not keep its process from ending."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, daemon=True)


class NotRunning(MailProxyError):
    """A pool that has not been started, or is being stopped, takes no work."""


class Threads(Service):
    """
    A pool of threads that lives from ``startService`` to ``stopService``; it can be started again.

    A call that hangs keeps no process from ending: the threads are daemons.

    :param reactor: where results are delivered.
    :param name: of the pool; threads carry it.
    :param size: threads at most; they are started when needed.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str, size: int) -> None:
        self.setName(f"threads:{name}")
        self._reactor = reactor
        self._size = size
        self._pool_name = name
        self._pool: ThreadPool | None = None

    def startService(self) -> None:
        super().startService()
        self._pool = ThreadPool(minthreads=0, maxthreads=self._size, name=self._pool_name)
        self._pool.threadFactory = _Daemon
        self._pool.start()

    def stopService(self) -> Deferred[None]:
        """Take no more work; fires when what was given has run. The reactor goes on meanwhile."""
        super().stopService()
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)
        done: Deferred[None] = Deferred()

        def stop() -> None:
            pool.stop()
            self._reactor.callFromThread(ended)

        def ended() -> None:
            stopping.join()
            done.callback(None)

        stopping = _Daemon(target=stop, name=f"stop {self.name}")
        stopping.start()
        return done

    def __call__(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
        """
        Run *function* in a thread of the pool.

        Cancelling the Deferred detaches from the call; the call itself goes on.

        :raises NotRunning: through the Deferred; *function* was not and will not be called.
        """
        if self._pool is None:
            return fail(NotRunning(f"{self.name} is not running"))
        result: Deferred[T] = Deferred(lambda _: None)

        def done(value: Any) -> None:
            if not result.called:
                result.callback(value)

        deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs).addBoth(done)
        return result


def inline(function: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
    """Run *function* at once, in this thread: what tests and simulations hand in."""
    result: Deferred[T] = maybeDeferred(function, *args, **kwargs)
    return result
