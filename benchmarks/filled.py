"""Fills a store's file with many messages by bulk SQL, so that depth can be tested and measured."""

from __future__ import annotations

import sqlite3

from mailproxy.clock import Names
from mailproxy.store.schema import NEVER

_MESSAGE = """
INSERT INTO messages (pk, tenant_id, id, generation, account_pk, lane, priority, batch, next_at,
    claim_at, accepted_at, updated_at, expires_at, attempts, uncertain, intent, state, hold,
    message_id, digest, envelope_from, size, parts, body_pk)
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :last)
SELECT :base + n.i, 'default', 'bulk-' || (:base + n.i), 1, l.account_pk, l.pk, l.priority, l.batch,
    :due, :due, :now, :now, :now + 86400, 0, 0, 0, 'queued', '',
    '<' || n.i || '@bulk>', zeroblob(32), 'a@example.com', 300, 0, :base + n.i
FROM n JOIN wanted ON wanted.i = n.i % :lanes JOIN lanes l ON l.pk = wanted.lane
"""
_RECIPIENT = """
INSERT INTO recipients (message_pk, n, address, kind, state)
SELECT pk, 0, 'u' || pk || '@example.com', 'to', 'waiting' FROM messages
WHERE pk >= :base + :first AND pk < :base + :last
"""
_PAYLOAD = """
INSERT INTO payloads (body_pk, json)
SELECT pk, coalesce(:head, zeroblob(64)) FROM messages
WHERE pk >= :base + :first AND pk < :base + :last
"""
_TEXT = """
INSERT INTO texts (body_pk, text)
SELECT pk, coalesce(:text, zeroblob(64)) FROM messages
WHERE pk >= :base + :first AND pk < :base + :last
"""
_EVENT = """
INSERT INTO events (pk, event_id, message_pk, generation, kind, at, final)
SELECT pk + :shift, zeroblob(16), pk, 1, 'accepted', :now, 0 FROM messages
WHERE pk >= :base + :first AND pk < :base + :last
"""
_LANES = """
UPDATE lanes SET queued = queued + c.n, due_at = min(due_at, c.due) FROM (
    SELECT lane, count(*) AS n, min(claim_at) AS due FROM messages
    WHERE pk >= :base + :first AND pk < :base + :last GROUP BY lane
) c WHERE c.lane = lanes.pk
"""

#: Rows in one transaction.
STEP = 50_000


def lane(
    connection: sqlite3.Connection,
    pk: int,
    account_pk: int,
    *,
    priority: int = 2,
    batch: str = "",
    blocked: int = 0,
) -> int:
    """Make a lane, empty as yet. :return: its pk."""
    connection.execute(
        "INSERT INTO lanes (pk, tenant_id, account_pk, priority, batch, blocked, due_at)"
        " VALUES (?, 'default', ?, ?, ?, ?, ?)",
        (pk, account_pk, priority, batch, blocked, NEVER),
    )
    return pk


def fill(
    connection: sqlite3.Connection,
    lanes: list[int],
    count: int,
    *,
    now: float,
    due: float,
    payload: tuple[bytes | None, bytes | None] = (None, None),
) -> None:
    """
    Put *count* queued messages into *lanes*, in turn.

    :param due: when they are due, in Unix seconds.
    :param payload: what each of them says, as the store keeps it in ``payloads`` and ``texts``;
        without it, something that can be claimed but not sent.
    """
    head, text = payload
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (i INTEGER PRIMARY KEY, lane)")
    connection.execute("DELETE FROM wanted")
    connection.executemany("INSERT INTO wanted VALUES (?, ?)", list(enumerate(lanes)))
    (base,) = connection.execute("SELECT coalesce(max(pk), 0) + 1 FROM messages").fetchone()
    (last_event,) = connection.execute("SELECT coalesce(max(pk), 0) FROM events").fetchone()
    for first in range(0, count, STEP):
        values = {
            "base": base,
            "shift": max(0, last_event + 1 - base),
            "first": first,
            "last": min(count, first + STEP),
            "now": now,
            "due": due,
            "lanes": len(lanes),
            "head": head,
            "text": text,
        }
        connection.execute("BEGIN")
        for statement in (_MESSAGE, _RECIPIENT, _PAYLOAD, _TEXT, _EVENT, _LANES):
            connection.execute(statement, values)
        connection.execute("COMMIT")


_ENDED = """
INSERT INTO messages (pk, tenant_id, id, generation, account_pk, lane, priority, batch, accepted_at,
    updated_at, expires_at, attempts, uncertain, intent, state, hold, message_id, digest,
    envelope_from, size, parts, body_pk, finished_at, sent_ts, final_event)
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :last)
SELECT :base + n.i, :tenant, 'ended-' || n.i, 1, :account, l.pk, 2, '', :now, :now, :now + 86400,
    1, 0, 0, 'sent', '', '<' || n.i || '@ended>', zeroblob(32), 'a@example.com', 300, 0,
    :base + n.i, :now, :now, :base + n.i
FROM n JOIN lanes l ON l.account_pk = :account
"""
_ACCEPTED = """
INSERT INTO recipients (message_pk, n, address, kind, state, code, enhanced, reply, attempts,
    done_at)
SELECT pk, 0, 'u' || pk || '@example.com', 'to', 'sent', 250, '2.0.0', '2.0.0 taken', 1, :now
FROM messages WHERE pk >= :base + :first AND pk < :base + :last
"""
_OFFERED = """
INSERT INTO events (pk, event_id, message_pk, generation, kind, at, final, stream)
SELECT pk, randomblob(16), pk, 1, 'outcome', :now, 1, :tenant FROM messages
WHERE pk >= :base + :first AND pk < :base + :last
"""


def fill_ended(
    connection: sqlite3.Connection, tenant_id: str, account_pk: int, count: int, *, now: float
) -> None:
    """
    Put *count* messages of one recipient there that were sent and are not reported.

    :param account_pk: has one lane.
    :param now: when they ended, in Unix seconds; before the service is started.
    """
    for first in range(0, count, STEP):
        values = {
            "base": Names.floor(now),
            "first": first,
            "last": min(count, first + STEP),
            "now": now,
            "tenant": tenant_id,
            "account": account_pk,
        }
        connection.execute("BEGIN")
        for statement in (_ENDED, _ACCEPTED, _OFFERED):
            connection.execute(statement, values)
        connection.execute("COMMIT")
