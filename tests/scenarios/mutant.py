"""
The service with one promise broken on purpose: ``python -m tests.scenarios.mutant NAME serve``.

Each mutation breaks what one of the durability proofs is there to see; the proofs are tried
against them, so that a proof that sees nothing is found out.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailproxy.__main__ import main
from mailproxy.model import Claimed


def answer_before_commit() -> None:
    """Callers are answered while the transaction is still open that has their submission in it."""
    from mailproxy.store.works import Committed, Work
    from mailproxy.store.writer import Writer

    commit, end = Writer._commit, Writer._end
    early: list[Work] = []

    def mutated_commit(self: Writer, cursor: sqlite3.Cursor, works: list[Work]) -> Committed:
        early[:] = works
        return commit(self, cursor, works)

    def mutated_end(self: Writer, cursor: sqlite3.Cursor, changed: bool) -> None:
        if any(work.kind.mark == "enqueue-commit" for work in early):
            for work in early:
                self._deliver(work.fire)
            if self._lending is not None:  # else the reactor, which has to answer, waits for us
                self._lending.enough()
            time.sleep(0.4)  # long enough for the answer to be on its way on a busy machine
        end(self, cursor, changed)

    Writer._commit = mutated_commit  # type: ignore[method-assign]
    Writer._end = mutated_end  # type: ignore[method-assign]


def no_sync() -> None:
    """Commits return before the disk has them."""
    from mailproxy.store.database import Database

    opened = Database._open

    def mutated(self: Database, cache_bytes: int) -> sqlite3.Connection:
        connection = opened(self, cache_bytes)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    Database._open = mutated  # type: ignore[method-assign]


def intent_after_body() -> None:
    """The body leaves first, the intent is stored some time later."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred, succeed

    from mailproxy.dispatch.stream import Stream

    begin = Stream.begin

    def mutated(self: Stream, message: Claimed) -> Deferred[bool]:
        reactor.callLater(0.2, begin, self, message)
        return succeed(True)

    Stream.begin = mutated  # type: ignore[method-assign]


def acknowledge_before_post() -> None:
    """Events count as reported before the receiver has seen them."""
    from mailproxy.report.calls import event_pks
    from mailproxy.report.stream import Stream

    offer = Stream._offer

    async def mutated(self: Stream, sink: Any, items: Any, *, empty: bool) -> bool:
        if items:
            await self._parts.store.acked(event_pks(items), self._clock.now())
        return await offer(self, sink, items, empty=empty)

    Stream._offer = mutated  # type: ignore[method-assign]


def new_event_id() -> None:
    """An event has another id each time it is told."""
    import uuid

    from mailproxy.items import WireItem, wire_item
    from mailproxy.records import ReportItem
    from mailproxy.report import encoding

    def mutated(item: ReportItem) -> WireItem:
        made = wire_item(item)
        made.event_id = str(uuid.uuid4())
        return made

    encoding.wire_item = mutated  # type: ignore[attr-defined]


def forget_token() -> None:
    """An attempt is begun whoever has the lease by now."""
    from mailproxy.store import queue
    from mailproxy.store.transaction import Transaction

    begin = queue.BEGIN.run

    def mutated(tx: Transaction, calls: Any) -> Any:
        pairs = [(token, pk) for call in calls for pk, token in call.pairs]
        tx.cursor.executemany("UPDATE messages SET lease_token=? WHERE pk=? AND intent=0", pairs)
        return begin(tx, calls)

    object.__setattr__(queue.BEGIN, "run", mutated)


def forget_report_lease() -> None:
    """A node calls a tenant whether or not another one does."""
    from mailproxy.store.face_reports import ReportsFace
    from mailproxy.store.postgres import PostgresStore

    PostgresStore.hold_reports = ReportsFace.hold_reports  # type: ignore[method-assign]
    PostgresStore.release_reports = ReportsFace.release_reports  # type: ignore[method-assign]


def one_receiver() -> None:
    """What became of any tenant's mail is told to the default one."""
    from mailproxy.model import DEFAULT_TENANT
    from mailproxy.report.reporter import Reporter

    begin = Reporter.__init__

    def mutated(self: Reporter, store: Any, sinks: Any, *more: Any, **named: Any) -> None:
        begin(self, store, lambda tenant_id: sinks(DEFAULT_TENANT), *more, **named)

    Reporter.__init__ = mutated  # type: ignore[method-assign]


MUTATIONS: dict[str, Callable[[], None]] = {
    "answer-before-commit": answer_before_commit,
    "no-sync": no_sync,
    "intent-after-body": intent_after_body,
    "acknowledge-before-post": acknowledge_before_post,
    "new-event-id": new_event_id,
    "forget-token": forget_token,
    "forget-report-lease": forget_report_lease,
    "one-receiver": one_receiver,
}

#: How a scenario runs one: in the place of ``python -m mailproxy``.
ROOT = Path(__file__).parents[2]


def run(arguments: list[str]) -> Any:
    name, *rest = arguments
    MUTATIONS[name]()
    sys.argv = ["mailproxy", *rest]
    return main()


if __name__ == "__main__":
    run(sys.argv[1:])
