"""Thread pools as services."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailproxy.threads import NotRunning, Threads, inline


def refuse() -> None:
    raise KeyError("from the thread")


class ThreadsTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = cast(IReactorFromThreads, reactor)
        self.threads = Threads(self.reactor, "under-test", 2)

    async def test_runs_elsewhere(self) -> None:
        """A call runs in a thread that carries the pool's name; its result comes back to us."""
        self.threads.startService()
        name, value = await self.threads(
            lambda a, b: (threading.current_thread().name, a + b), 1, b=2
        )
        self.assertIn("under-test", name)
        self.assertEqual(3, value)
        await self.threads.stopService()

    async def test_exceptions_come_back(self) -> None:
        """What the call raises, the Deferred raises."""
        self.threads.startService()
        with self.assertRaises(KeyError):
            await self.threads(refuse)
        await self.threads.stopService()

    async def test_stop_waits_and_leaves_no_thread(self) -> None:
        """Stopping waits for the calls that run, and for those that wait for a thread; meanwhile
        the reactor goes on. Afterwards no thread is left."""
        self.threads.startService()
        gate = threading.Event()
        ran: list[int] = []

        def work(n: int) -> None:
            gate.wait(10)
            ran.append(n)

        calls = [self.threads(work, n) for n in range(5)]
        stopped = self.threads.stopService()
        turn: Deferred[None] = Deferred()
        self.reactor.callFromThread(turn.callback, None)
        await turn
        self.assertFalse(stopped.called)
        gate.set()
        await stopped
        for call in calls:
            await call
        self.assertEqual([0, 1, 2, 3, 4], sorted(ran))
        self.assertEqual(
            [], [t.name for t in threading.enumerate() if "PoolThread-under" in t.name]
        )

    async def test_stop_waits_for_the_thread_that_stops(self) -> None:
        """The thread that waits for the others is gone as well, however long its end takes."""
        gate, reactor = threading.Event(), self.reactor

        class Slow:
            """A reactor after whose calls a thread goes on for a while."""

            def callFromThread(self, call: Callable[..., object]) -> None:
                reactor.callFromThread(call)
                threading.Timer(0.2, gate.set).start()
                gate.wait(10)

        threads = Threads(cast(IReactorFromThreads, Slow()), "under-test", 1)
        threads.startService()
        await threads.stopService()
        self.assertEqual([], [t.name for t in threading.enumerate() if "under-test" in t.name])

    async def test_takes_no_work_unless_running(self) -> None:
        """Before the start and after the stop a call is refused at once; it does not hang."""
        with self.assertRaises(NotRunning):
            await self.threads(refuse)
        self.threads.startService()
        stopped = self.threads.stopService()
        with self.assertRaises(NotRunning):
            await self.threads(refuse)
        await stopped

    async def test_can_be_started_again(self) -> None:
        """After a stop the pool can be started again; a stop without a start does no harm."""
        await self.threads.stopService()
        for round_ in range(3):
            self.threads.startService()
            self.assertEqual(round_, await self.threads(lambda n: n, round_))
            await self.threads.stopService()

    async def test_cancel_detaches(self) -> None:
        """Cancelling fires the Deferred at once; the call goes on and its end disturbs nobody."""
        self.threads.startService()
        began, gate, ended = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            began.set()
            gate.wait(10)
            ended.set()
            refuse()

        call = self.threads(work)
        began.wait(10)
        call.cancel()
        with self.assertRaises(CancelledError):
            await call
        self.assertFalse(ended.is_set())
        gate.set()
        await self.threads.stopService()
        self.assertTrue(ended.is_set())

    async def test_size_bounds_the_threads(self) -> None:
        """As many calls run at once as the pool has threads, and no more."""
        self.threads.startService()
        lock, running, most = threading.Lock(), 0, 0
        both = threading.Barrier(2)

        def work() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            both.wait(10)
            with lock:
                running -= 1

        for call in [self.threads(work) for _ in range(12)]:
            await call
        self.assertEqual(2, most)
        await self.threads.stopService()

    async def test_a_hanging_call_holds_nobody(self) -> None:
        """The threads are daemons: a call that hangs does not keep the process from ending."""
        self.threads.startService()
        self.assertTrue(await self.threads(lambda: threading.current_thread().daemon))
        await self.threads.stopService()


class InlineTests(SynchronousTestCase):
    def test_runs_here_and_now(self) -> None:
        """The stand-in for tests runs the call at once, in this thread, and reports its errors."""
        call = inline(lambda a: (threading.current_thread(), a), a=1)
        self.assertEqual((threading.current_thread(), 1), self.successResultOf(call))
        self.failureResultOf(inline(refuse), KeyError)
