"""
Five hundred messages with 20 MB each, at once: what they take of memory.

    python -m benchmarks.large [--messages 500] [--sessions 50]

Every message names a file of 20 MB on this machine, which is read, stored with the message, and
sent in base64, 27 MB, over many sessions. The peak of the service's memory is read from the system,
from before the first message until the last report, or for five minutes: what has not arrived by
then is not waited for, since it is the memory that is looked at.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import attrs

from benchmarks.bodies import element
from benchmarks.figures import Figure
from benchmarks.relay import PostfixSink, Receiver
from tests.scenarios.processes import Service, account, peak_memory

SIZE = 20_000_000

#: Seconds that are waited.
PATIENCE = 300.0


@attrs.frozen
class Large:
    """
    What came of it.

    :param before: MB of memory before the first; *peak* the most that was.
    :param sent: messages that were reported as sent, *seconds* after the first POST.
    """

    before: float
    peak: float
    sent: int
    seconds: float


def measured(directory: Path, count: int, sessions: int) -> Large:
    files = directory / "files"
    files.mkdir()
    (files / "large.bin").write_bytes(os.urandom(SIZE))
    receiver, sink = Receiver(), PostfixSink(directory)
    service = Service(
        directory,
        GMP_CLIENT_SYNC_URL=receiver.url,
        GMP_ATTACHMENT_ROOTS=str(files),
        GMP_LOG_LEVEL="WARNING",
    ).start()
    try:
        made = service.call("POST", "/account", account(sink.port, max_sessions=sessions))
        if made.status != 200:
            raise SystemExit(f"POST /account answered {made.status}: {made.raw!r}")
        file = {"filename": "large.bin", "storage_path": str(files / "large.bin")}
        messages = [element(f"large{n}", attachments=[file]) for n in range(count)]
        assert service.process is not None
        before = peak_memory(service.process.pid)
        start = time.perf_counter()
        queued = sum(
            service.add(*messages[first : first + 100]).body["queued"]
            for first in range(0, count, 100)
        )
        if queued != count:
            raise SystemExit(f"{queued} of {count} were accepted")
        while len(receiver.ids) < count and time.perf_counter() - start < PATIENCE:
            time.sleep(0.05)
        sent, seconds = len(receiver.ids), time.perf_counter() - start
        if not sent <= sink.count <= count or receiver.repeats:
            raise SystemExit(f"{sink.count} arrived, {sent} were reported, of {count}")
        return Large(before / 1e6, peak_memory(service.process.pid) / 1e6, sent, seconds)
    finally:
        service.end()
        sink.stop()


def found(count: int, sessions: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        run = measured(Path(directory), count, sessions)
    if not run.sent:
        raise SystemExit(f"none of {count} was sent in {run.seconds:.0f} s")
    note = f"{count} messages with {SIZE / 1e6:.0f} MB, at most {sessions} sessions"
    sent = f"of files; {run.sent} were sent in {run.seconds:.0f} s"
    return [
        Figure("large-peak", run.peak - run.before, "MB", f"peak above empty; {note}"),
        Figure("large-rate", run.sent * SIZE / 1e6 / run.seconds, "MB/s", sent),
    ]


def figures(quick: bool) -> list[Figure]:
    return found(20, 10) if quick else found(500, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=50)
    given = parser.parse_args()
    for figure in found(given.messages, given.sessions):
        print(f"{figure.name}: {figure.value:.0f} {figure.unit} ({figure.note})")


if __name__ == "__main__":
    main()
