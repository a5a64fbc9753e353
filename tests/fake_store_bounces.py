"""The fake store's notes of senders who may have to be told."""

from __future__ import annotations

import attrs

from mailproxy import payload as payloads
from mailproxy.model import Enqueued, NewMessage
from mailproxy.states import EventKind, MessageState, Verdict
from mailproxy.undelivered import INACTIVE, MOST_RETURNED, Undelivered, Unreached
from tests import fake_store_intake as intake
from tests.fake_store_base import FakePart
from tests.fake_store_intake import Change
from tests.fake_store_rows import Disk, MessageRow

_UNDELIVERED = (MessageState.FAILED, MessageState.EXPIRED)


def ends(disk: Disk) -> dict[str, set[str]]:
    """The ends, so far, of messages of the tenants that want bounces."""
    found: dict[str, set[str]] = {
        each.id: set() for each in disk.tenants.values() if each.bounces.enabled
    }
    for row in disk.messages.values() if found else ():
        if row.tenant_id in found:
            found[row.tenant_id].update(event.event_id for event in row.events if event.final)
    return found


def note(change: Change, before: dict[str, set[str]]) -> None:
    """What has ended since is noted."""
    for row in change.disk.messages.values() if before else ():
        event, known = row.final_event, before.get(row.tenant_id)
        if event is None or known is None or event.event_id in known:
            continue
        if row.state in _UNDELIVERED and not row.quiet:
            told = (event.event_id, row.pk, row.generation, row.tenant_id)
            change.disk.notes[event.pk] = told


class FakeBounces(FakePart):
    """The part of the fake that is ``IBounces``."""

    async def undelivered(self, limit: int) -> list[Undelivered]:
        self._check_alive()
        found = []
        for pk, said in sorted(self.disk.notes.items()):
            tenant = self.disk.tenant(said[3])
            if tenant is None or tenant.active:
                found.append(_told(self.disk, pk, *said))
        return found[:limit]

    async def bounce(self, pk: int, message: NewMessage | None, now: float) -> Enqueued | None:
        return await self._write("bounce", now, lambda change: _settle(change, pk, message))


def _told(disk: Disk, pk: int, event: str, message: int, generation: int, of: str) -> Undelivered:
    tenant = disk.tenants.get(of)
    found = Undelivered(pk, event.replace("-", ""), of)
    if tenant is not None:
        found = attrs.evolve(found, bounces=tenant.bounces)
    row = disk.messages.get(message)
    ended = row is not None and row.generation == generation and row.finished_at is not None
    if row is None or not ended or row.payload is None:
        return found
    try:
        content = payloads.load(row.payload)
    except ValueError:
        return found
    data = row.parts.get(1, (content.plain or "").encode("latin-1")) if content.by_smtp else b""
    account = disk.live_account(row.account_pk)
    return attrs.evolve(
        found,
        id=row.id,
        account_id="" if account is None else account.id,
        message_id=row.message_id,
        envelope_from=row.envelope_from,
        accepted_at=row.accepted_at,
        ended_at=row.finished_at or 0.0,
        content=attrs.evolve(content, plain=None, html=None),
        data=data[:MOST_RETURNED],
        whole=len(data) <= MOST_RETURNED,
        recipients=tuple(
            Unreached(each.address, each.state, each.code, each.enhanced, each.reply)
            for each in row.recipients
        ),
        peer=_peer(row),
    )


def _peer(row: MessageRow) -> str:
    said = [each.attempt for each in row.events if each.attempt is not None]
    peers = {str(each.get("peer", "")) for each in said if "seconds" in each}
    return peers.pop() if len(peers) == 1 else ""


def _settle(change: Change, pk: int, message: NewMessage | None) -> Enqueued | None:
    if pk not in change.disk.notes:
        return None
    _, failed, generation, tenant_id = change.disk.notes[pk]
    tenant = change.disk.tenant(tenant_id)
    if message is not None and tenant is not None and not tenant.active:
        return Enqueued(Verdict.REJECTED, INACTIVE)
    del change.disk.notes[pk]
    if message is None:
        return None
    verdict = _take(change, message)
    row = change.disk.messages.get(failed)
    if row is not None:
        refused = verdict.verdict is Verdict.REJECTED
        said = f"no bounce: {verdict.reason}" if refused else f"bounce: {message.id}"
        updated_at = row.updated_at
        row.tell(
            change.names, EventKind.NOTE, change.now, {"notes": [said]}
        ).generation = generation
        row.updated_at = updated_at
    return verdict


def _take(change: Change, message: NewMessage) -> Enqueued:
    if any((message.tenant_id, to.address) in change.disk.suppressed for to in message.recipients):
        return Enqueued(Verdict.REJECTED, "suppressed")
    live = {(each.tenant_id, each.id) for each in change.disk.live_accounts()}
    if (message.tenant_id, message.account_id) not in live:
        message = attrs.evolve(message, account_id=None)
    verdict = intake.take(change, message)
    row = change.disk.find(message.tenant_id, message.id)
    if verdict.verdict is Verdict.QUEUED and row is not None:
        row.quiet = True
    return verdict
