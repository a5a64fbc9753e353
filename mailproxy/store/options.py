"""What can be set on a store. Pure."""

from __future__ import annotations

import attrs


@attrs.frozen
class StoreOptions:
    """
    :param max_age_seconds: how long a message is tried, where its account does not say.
    :param fault_max_age_seconds: how long it waits at least, where its account is at fault.
    :param retention_seconds: how long a finished and reported message is kept.
    :param idempotency_seconds: how long the tombstone of a removed message is kept.
    :param report_max_age_seconds: how long an event is offered to an application that does not
        take it, before it is parked.
    :param lease_seconds: how long after its last heartbeat a node's leases stay good.
    :param busy_seconds: how long works wait for a database that another process has locked.
    :param inline_payload_bytes: up to which size a claim brings the content of a message along;
        what is larger is read by itself, when its turn comes.
    :param claim_bytes: contents that one claim brings along, at most.
    :param chunk_bytes: the largest piece of a body in one row.
    :param large_body_bytes: above this size a body is written in works of its own.
    :param reader_threads: connections that read beside the writer.
    :param cache_bytes: page cache of the writer; a reader has a quarter of it.
    :param check_seconds: how long a database that was not closed is looked through when it is
        opened; 0: not at all.
    """

    max_age_seconds: float = 86_400.0
    fault_max_age_seconds: float = 432_000.0
    retention_seconds: float = 604_800.0
    idempotency_seconds: float = 2_592_000.0
    report_max_age_seconds: float = 2_592_000.0
    lease_seconds: float = 60.0
    busy_seconds: float = 5.0
    inline_payload_bytes: int = 256 * 1024
    claim_bytes: int = 4 * 1024 * 1024
    chunk_bytes: int = 256 * 1024
    large_body_bytes: int = 1024 * 1024
    reader_threads: int = 3
    cache_bytes: int = 16 * 1024 * 1024
    check_seconds: float = 10.0

    def most_inline(self, count: int) -> int:
        """Bytes of a message whose content a claim of *count* messages brings along."""
        return min(self.inline_payload_bytes, self.claim_bytes // max(1, count))
