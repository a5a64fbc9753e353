"""
What is asked of one process with SQLite, and of one on PostgreSQL: a floor that must be held, and
an aim.

All with everything on: durable answers, events, recipients, sealing, metrics, reports.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from benchmarks.figures import Results


@attrs.frozen
class Target:
    """
    One row.

    :param figure: the name of the figure that is judged.
    :param floor: what must be reached, in *unit*.
    :param aim: what is wanted.
    :param less: whether less is better.
    """

    what: str
    figure: str
    unit: str
    floor: float
    aim: float
    less: bool = False

    def share(self, value: float) -> float:
        """How much of the aim *value* is: 1 and more is all of it, whichever way is better."""
        if not self.less:
            return value / self.aim
        return self.aim / value if value > 0 else float("inf")

    def holds(self, value: float) -> bool:
        """Whether the floor is held."""
        return value <= self.floor if self.less else value >= self.floor


TARGETS: tuple[Target, ...] = (
    Target("REST in batches of 100, to the sink, 2 kB", "relay-2k-16", "msg/s", 3000, 8000),
    Target("SMTP in (10 sessions) to the sink, against Postfix", "smtp-postfix", "x", 2, 5),
    Target("add-messages, 100 a call", "add-100", "msg/s", 4000, 10_000),
    Target("add-messages, 1 a call, 16 clients", "add-1x16", "msg/s", 1200, 2500),
    Target("POST to arrival, idle: p50", "idle-p50", "ms", 15, 5, less=True),
    Target("POST to arrival, idle: p99", "idle-p99", "ms", 60, 15, less=True),
    Target("priority 0 under bulk, POST to arrival: p99", "urgent-p99", "ms", 250, 50, less=True),
    Target("arrival to report: p99", "report-p99", "ms", 1000, 250, less=True),
    Target("reports to one tenant", "reports", "msg/s", 3000, 10_000),
    Target("50 kB, 10 sessions", "relay-50k-10", "msg/s", 800, 2000),
    Target("drain with 100 k waiting, against 2 k", "drain-100k-2k", "x", 0.8, 0.95),
    Target("drain with 1 M waiting, against 2 k", "drain-1m-2k", "x", 0.8, 0.95),
    Target("memory with 100 k waiting, above empty", "memory-100k", "MB", 60, 20, less=True),
    Target("CPU for 1 000 messages", "cpu", "s", 1.0, 0.3, less=True),
    Target("50 ms away, for each session", "rtt-session", "msg/s", 12, 17),
    Target("sessions with TLS and AUTH, against plain", "tls-plain", "x", 0.7, 0.9),
    Target("one node on PostgreSQL, to the sink, 2 kB", "nodes-1", "msg/s", 1000, 2500),
    Target("a claim in PostgreSQL, 1 M against 1 k", "nodes-claim-ratio", "x", 1.5, 1.2, less=True),
)


def _quotient(over: str, under: str) -> Callable[[Results], float | None]:
    def found(results: Results) -> float | None:
        above, below = results.value(over), results.value(under)
        return None if above is None or not below else above / below

    return found


#: What is quoted elsewhere: ratios only, for they hold on other machines. By what each is.
RATIOS: dict[str, Callable[[Results], float | None]] = {
    "SMTP in, SMTP out, against a stock Postfix in the same minute": (
        lambda results: results.value("smtp-postfix")
    ),
    "REST in batches of 100, SMTP out, against the same Postfix": (
        _quotient("relay-2k-16", "postfix")
    ),
    "the same, against a client in C that hands the mail to the sink itself": (
        _quotient("relay-2k-16", "raw-2k-16")
    ),
    "add-messages with 100 a call, against bare commits of 100 rows in SQLite": (
        _quotient("add-100", "sqlite-100")
    ),
    "rate with 100 000 messages waiting, against 2 000": (
        lambda results: results.value("drain-100k-2k")
    ),
    "rate with 1 000 000 waiting, against 2 000": lambda results: results.value("drain-1m-2k"),
    "rate over TLS and with a login, against plain sessions": (
        lambda results: results.value("tls-plain")
    ),
    "rate to a server 50 ms away, against a client that waits for every reply": (
        lambda results: results.value("rtt-plain")
    ),
}


def missed(results: Results) -> list[str]:
    """The rows whose floor is not held, in words; what was not measured is not judged."""
    return [
        f"{row.what}: {value:.4g} {row.unit}, the floor is {row.floor:g}"
        for row in TARGETS
        if (value := results.value(row.figure)) is not None and not row.holds(value)
    ]
