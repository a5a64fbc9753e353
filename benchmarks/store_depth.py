"""
Claim and counts cost the same whatever lies in the queue.

Run as ``python -m benchmarks.store_depth``. For each way mail can lie about, a store with few
messages is compared with one that has many, both before and after ANALYZE. Judged is the CPU time
of a call (median of many), since the time of a commit is the disk's; the wall time is shown beside
it. Exit code 1 if a ratio is over the limit.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from zope.interface import implementer

from benchmarks.figures import Figure
from benchmarks.filled import fill, lane
from mailproxy.clock import Names
from mailproxy.crypto import Sealer, new_key
from mailproxy.interfaces import IClock
from mailproxy.records import AccountSpec
from mailproxy.states import TlsMode
from mailproxy.store.database import connect as connected
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.store.schema import ACCOUNT_PARKED, BATCH_SUSPENDED

T = TypeVar("T")

NOW = 1_750_000_000.0
LIVE = 1_000
BATCH = 50
LIMIT = 1.2


@implementer(IClock)
class Still(Clock):
    """A clock that nobody moves."""

    def now(self) -> float:
        return NOW

    def follow(self, instant: float) -> None:
        """It stands still."""


def wait(answer: Awaitable[T]) -> T:
    """What *answer* gives: nothing here is really awaited."""

    async def run() -> T:
        return await answer

    got: list[Any] = []
    ensureDeferred(run()).addBoth(got.append)
    if hasattr(got[0], "raiseException"):
        got[0].raiseException()
    result: T = got[0]
    return result


@attrs.frozen
class Bench:
    """A store on a file of its own, and the connection it writes through."""

    store: EmbeddedStore
    connection: Any
    account: int

    def live(self, pk: int = 1) -> int:
        """A lane of the measured account, with :data:`LIVE` messages that are due."""
        lane(self.connection, pk, self.account)
        fill(self.connection, [pk], LIVE, now=NOW, due=NOW - 1)
        return pk


def due(bench: Bench, count: int) -> None:
    """all due"""
    fill(bench.connection, [bench.live()], count, now=NOW, due=NOW)


def future(bench: Bench, count: int) -> None:
    """not yet due"""
    fill(bench.connection, [bench.live()], count, now=NOW, due=NOW + 3600)


def suspended(bench: Bench, count: int) -> None:
    """in a suspended batch"""
    other = lane(bench.connection, 2, bench.account, batch="campaign", blocked=BATCH_SUSPENDED)
    fill(bench.connection, [other], count, now=NOW, due=NOW - 100)
    bench.live()


def parked(bench: Bench, count: int) -> None:
    """on a parked account"""
    other = lane(bench.connection, 2, bench.account + 1, blocked=ACCOUNT_PARKED)
    fill(bench.connection, [other], count, now=NOW, due=NOW - 100)
    bench.live()


def accounts(bench: Bench, count: int) -> None:
    """over 5 000 accounts"""
    lanes = [lane(bench.connection, n, bench.account + n) for n in range(2, 5_002)]
    fill(bench.connection, lanes, count, now=NOW, due=NOW)
    bench.live()


SCENARIOS: tuple[Callable[[Bench, int], None], ...] = (due, future, suspended, parked, accounts)


@attrs.define
class Cost:
    """Milliseconds of each call. *cpu* is this thread's."""

    cpu: list[float] = attrs.Factory(list)
    wall: list[float] = attrs.Factory(list)

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        began = time.perf_counter(), time.thread_time()
        result = wait(function())
        ended = time.perf_counter(), time.thread_time()
        self.wall.append(1000 * (ended[0] - began[0]))
        self.cpu.append(1000 * (ended[1] - began[1]))
        return result


def claim(bench: Bench, cost: Cost) -> None:
    """One claim, measured, and its undoing, which is not."""
    claimed = cost.call(lambda: bench.store.claim(bench.account, BATCH, NOW))
    assert len(claimed) == BATCH, f"{len(claimed)} claimed"
    wait(bench.store.release([(each.pk, each.token) for each in claimed]))


def counts(bench: Bench, cost: Cost) -> None:
    cost.call(lambda: bench.store.counts(NOW))


CALLS: tuple[Callable[[Bench, Cost], None], ...] = (claim, counts)


def compare(
    few: Bench, many: Bench, call: Callable[[Bench, Cost], None], times: int
) -> tuple[Cost, Cost]:
    """Measure *call* on both in turn, so that what else the machine does meets both."""
    for bench in (few, many):
        for _ in range(5):
            call(bench, Cost())
    small, large = Cost(), Cost()
    for _ in range(times):
        call(few, small)
        call(many, large)
    return small, large


def opened(folder: Path) -> Bench:
    made: list[Any] = []

    def connect(path: str) -> Any:
        made.append(connected(path))
        return made[-1]

    store = EmbeddedStore(
        folder / "mail.db",
        clock=Still(),
        names=Names(random.Random(1)),
        sealer=Sealer([new_key()]),
        reactor=None,
        connect=connect,
    )
    store.open()
    spec = AccountSpec("default", "a", "localhost", 25, TlsMode.PLAIN)
    account = wait(store.put_account(spec, NOW))
    return Bench(store, made[0], account.pk)


def run(
    scenario: Callable[[Bench, int], None], few: int, many: int, times: int
) -> Iterator[tuple[str, str, Cost, Cost]]:
    """(ANALYZE or not, what, cost with few, cost with many)."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-depth-") as folder:
        benches = []
        for name, depth in (("few", few), ("many", many)):
            (Path(folder) / name).mkdir()
            benches.append(opened(Path(folder) / name))
            scenario(benches[-1], depth)
        for analyzed in ("", "analyzed"):
            if analyzed:
                for bench in benches:
                    bench.connection.execute("ANALYZE")
            for call in CALLS:
                yield analyzed, call.__name__, *compare(benches[0], benches[1], call, times)
        for bench in benches:
            bench.store.close()


def figures(quick: bool) -> list[Figure]:
    many, times = (10_000, 11) if quick else (200_000, 51)
    worst: dict[str, tuple[float, str]] = {}
    for scenario in SCENARIOS:
        for analyzed, what, *costs in run(scenario, LIVE, many, times):
            small, large = (statistics.median(cost.cpu) for cost in costs)
            how = f"{scenario.__doc__}{', after ANALYZE' if analyzed else ''}; {large:.2f} ms CPU"
            worst[what] = max(worst.get(what, (0.0, "")), (large / small, how))
    return [
        Figure(f"depth-{what}", ratio, "x", f"{many} messages against {LIVE}, the worst: {how}")
        for what, (ratio, how) in worst.items()
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=101, help="calls of which the median is taken")
    options = parser.parse_args(arguments)
    print(f"{'mail':24}{'':10}{'call':8}{'few':>9}{'many':>9}{'ratio':>7}   ms CPU (ms wall)")
    worst = 0.0
    for scenario in SCENARIOS:
        for analyzed, what, *costs in run(scenario, options.few, options.many, options.times):
            small, large = (statistics.median(cost.cpu) for cost in costs)
            wall = [statistics.median(cost.wall) for cost in costs]
            worst = max(worst, large / small)
            print(
                f"{scenario.__doc__:24}{analyzed:10}{what:8}{small:9.3f}{large:9.3f}"
                f"{large / small:7.2f}   ({wall[0]:.2f}, {wall[1]:.2f})",
                flush=True,
            )
    print(f"worst ratio {worst:.2f}, limit {LIMIT}")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
