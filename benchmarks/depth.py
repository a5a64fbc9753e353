"""
Whether mail goes as fast when much of it waits.

    python -m benchmarks.depth [--depth 2000 --depth 100000 --depth 1000000] [--rounds 10]

Queues of different depths, made by bulk SQL of one small message that was posted, are sent to
Postfix's ``smtp-sink``. In each round sending is activated, and suspended again after two thousand
messages; measured is the rate between the 200th arrival and the 1 800th, so that neither beginning
nor end is in it. The shallow queue is one of several batches, a new one in each round: no more is
due. The first round is not counted. Reports are not asked for.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.bodies import text
from benchmarks.figures import Figure
from benchmarks.numbers import shown
from benchmarks.relay import PostfixSink
from benchmarks.troubles import FLOOD, prepare
from tests.scenarios.processes import Service, account, wait_until

#: The arrivals of a round between which its rate is taken.
FIRST, LAST = 200, 1800

#: What a round takes off a deep queue at most, about.
ROUND = 4000

#: Seconds in which nothing arrives, when all is quiet.
QUIET = 0.3

#: Bytes of a body: what is compared is the queue.
SIZE = 64

#: How the depths are called in the names of figures.
NAMES = {2000: "2k", 100_000: "100k", 1_000_000: "1m"}


def _rate(service: Service, sink: PostfixSink, batch: str) -> float:
    """Messages a second of one round."""
    before = sink.count
    service.call("POST", f"/commands/activate?batch_code={batch}")

    def arrived(count: int) -> tuple[int, float]:
        wait_until(lambda: sink.count >= before + count, 60.0, "the sink", step=0.001)
        return sink.count, time.perf_counter()

    first, began = arrived(FIRST)
    last, ended = arrived(LAST)
    rate = (last - first) / (ended - began)
    service.call("POST", f"/commands/suspend?batch_code={batch}")
    while (count := sink.count) != last:  # what was under way arrives
        last = count
        time.sleep(QUIET)
    return rate


def rates(directory: Path, depth: int, rounds: int) -> list[float]:
    """Of each of *rounds*, with *depth* messages waiting."""
    sink = PostfixSink(directory)
    service = Service(directory, GMP_LOG_LEVEL="ERROR").start()
    try:
        service.call("POST", "/account", account(sink.port, max_sessions=16))
        batches = [FLOOD] * (rounds + 1)
        if depth < ROUND * len(batches):
            batches = [f"{FLOOD}{n}" for n in range(rounds + 1)]
        made = list(dict.fromkeys(batches))
        prepare(service, depth * len(made), "main", batches=made, body=text(SIZE))
        return [_rate(service, sink, batch) for batch in batches][1:]
    finally:
        service.end()
        sink.stop()


def found(depths: list[int], rounds: int) -> list[Figure]:
    figures: list[Figure] = []
    middle: dict[int, float] = {}
    for depth in depths:
        with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
            each = rates(Path(directory), depth, rounds)
        middle[depth] = statistics.median(each)
        name = NAMES.get(depth, str(depth))
        note = f"{depth} waiting, {SIZE} bytes, 16 sessions; {', '.join(map(shown, each))}"
        figures.append(Figure(f"drain-{name}", middle[depth], "msg/s", note))
        if depth != depths[0]:
            note = f"against {depths[0]} waiting"
            figures.append(Figure(f"drain-{name}-2k", middle[depth] / middle[depths[0]], "x", note))
    return figures


def figures(quick: bool) -> list[Figure]:
    return found([2000, 100_000], 2) if quick else found([2000, 100_000, 1_000_000], 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    for figure in found(given.depth or list(NAMES), given.rounds):
        print(f"{figure.name}: {figure.value:.3g} {figure.unit} ({figure.note})")


if __name__ == "__main__":
    main()
