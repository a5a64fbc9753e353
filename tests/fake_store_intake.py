"""The fake store's intake: accounts, and one submitted message against what is stored of its id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from mailproxy import payload as payloads
from mailproxy.clock import Names
from mailproxy.logins import auth_of, may_keep, same_secret
from mailproxy.model import Account, Enqueued, NewMessage
from mailproxy.records import AccountSpec, PasswordRequired
from mailproxy.states import EventKind, MessageState, RecipientState, Verdict
from mailproxy.tenancy import Answered, Declared, KeyReused, Once
from tests import fake_store_limits as limits
from tests.fake_store_rows import AccountRow, Disk, EventRow, MessageRow, RecipientRow, Tombstone

#: Default age limit in seconds.
MAX_AGE = 86_400.0

#: Seconds for which the answer to a request with an idempotency key is given again.
ANSWER_KEPT = 86_400.0


@attrs.define
class Change:
    """One transaction on *disk*; *due* and *reportable* are told to observers after its commit."""

    disk: Disk
    names: Names
    node_id: str
    now: float
    due: set[int] = attrs.Factory(set)
    reportable: set[str] = attrs.Factory(set)
    limited: list[tuple[int, float]] = attrs.Factory(list)


def enqueue(change: Change, messages: Sequence[NewMessage], once: Once | None) -> list[Enqueued]:
    """
    Take *messages*, unless the key says that they were taken before.

    :raises Answered: with the answer that was kept.
    :raises KeyReused: the key was used for something else.
    """
    if once is None:
        return [take(change, message) for message in messages]
    key = (once.tenant_id, once.key)
    kept = change.disk.answers.get(key)
    if kept is not None and kept[2] + ANSWER_KEPT > change.now:
        if kept[0] == once.digest:
            raise Answered(kept[1])
        raise KeyReused("used for another request")
    verdicts = [take(change, message) for message in messages]
    change.disk.answers[key] = (once.digest, once.answer(verdicts), change.now)
    return verdicts


def put_account(change: Change, spec: AccountSpec) -> Account:
    old = next(
        (
            row
            for row in change.disk.live_accounts()
            if (row.tenant_id, row.id) == (spec.tenant_id, spec.id)
        ),
        None,
    )
    if old is not None and old.declared and not spec.declared:
        raise Declared(f"account {spec.id} is declared in the configuration")
    password = _secret(spec, old)
    fields = {**attrs.asdict(spec, recurse=False), "password": password}
    account = Account(
        pk=old.pk if old else change.names.pk(change.now),
        version=old.version + 1 if old else 1,
        created_at=old.created_at if old else change.now,
        updated_at=change.now,
        held_since=old.held_since if old else None,
        held_reason=old.held_reason if old else "",
        **fields,
    )
    change.disk.accounts[account.pk] = AccountRow(account)
    limits.forget(change.disk)
    change.due.add(account.pk)
    return account


def _secret(spec: AccountSpec, old: Account | None) -> str | None:
    if not spec.user:
        return None
    stored = None
    if old is not None and may_keep(
        (old.host, old.user, old.options), (spec.host, spec.user, spec.options)
    ):
        stored = old.password
    if spec.password is not None and not (
        auth_of(spec.options).by_token and same_secret(spec.password, stored, spec.options)
    ):
        return spec.password
    if stored is None:
        raise PasswordRequired(f"account {spec.id} has a user but no password")
    return stored


def default_account(disk: Disk, tenant_id: str) -> Account | None:
    """The tenant's account with ``is_default``, the last one declared so; else its only one."""
    mine = [account for account in disk.live_accounts() if account.tenant_id == tenant_id]
    declared = [account for account in mine if account.is_default]
    if declared:
        return max(declared, key=lambda account: account.updated_at)
    return mine[0] if len(mine) == 1 else None


def take(change: Change, message: NewMessage) -> Enqueued:
    """Store *message*, or not, by the same-id table of the wire contract."""
    disk = change.disk
    tenant = disk.tenant(message.tenant_id)
    if tenant is None:
        return Enqueued(Verdict.REJECTED, "tenant not found")
    if not tenant.active:
        return Enqueued(Verdict.REJECTED, "tenant inactive")
    account = default_account(disk, message.tenant_id)
    if message.account_id is not None:
        account = next(
            (
                row
                for row in disk.live_accounts()
                if (row.tenant_id, row.id) == (message.tenant_id, message.account_id)
            ),
            None,
        )
    if account is None:
        return Enqueued(Verdict.REJECTED, "account not found")
    row = disk.find(message.tenant_id, message.id)
    if row is not None and row.quiet:
        return Enqueued(Verdict.REJECTED, "the id is that of a bounce")
    if row is not None:
        return _again(change, row, message, account)
    if (message.tenant_id, message.id) in disk.tombstones:
        return _risen(change, message, account)
    _insert(change, message, account)
    return Enqueued(Verdict.QUEUED)


def _again(change: Change, row: MessageRow, message: NewMessage, account: Account) -> Enqueued:
    """(tenant, id) is stored: one row of the table each."""
    if not row.open_attempt and change.disk.live_account(row.account_pk) is None:
        fail_with_account(change, row)
    state = row.state
    if message.test and not row.test:
        return _told_again(change, row, message) if state.final else Enqueued(Verdict.KEPT)
    if row.test and not message.test:
        _new_generation(change, row, message, account)
        return Enqueued(Verdict.QUEUED)
    if state in (MessageState.UNCERTAIN, MessageState.HELD):
        return Enqueued(Verdict.KEPT)
    if state is MessageState.SENT:
        return _told_again(change, row, message)
    if state.final:
        has = row.accepted_by | row.doubted_before | row.doubted
        if all(rcpt.address in has for rcpt in message.recipients):
            return _told_again(change, row, message)
        _new_generation(change, row, message, account)
        return Enqueued(Verdict.QUEUED)
    if row.digest == message.digest:
        _reschedule(change, row, message)
        return Enqueued(Verdict.QUEUED)
    if row.attempts:
        return Enqueued(Verdict.KEPT)
    _replace(change, row, message, account)
    return Enqueued(Verdict.REPLACED)


def fail_with_account(change: Change, row: MessageRow) -> None:
    """What is open of a message whose account was deleted fails; nothing else of it changes."""
    if not row.open:
        return
    for rcpt in row.recipients:
        if rcpt.state.open:
            rcpt.state, rcpt.code, rcpt.reply = RecipientState.FAILED, None, ""
    row.lease, row.hold, row.reason, row.next_at = None, "", "account deleted", None
    final = row.state.final
    if final:
        row.finished_at = change.now
        change.reportable.add(row.tenant_id)
    row.tell(change.names, EventKind.FAILED, change.now, final=final)


def _told_again(change: Change, row: MessageRow, message: NewMessage) -> Enqueued:
    event = row.final_event
    assert event is not None, "a message that ended has its final event"
    offer_again(change, event, row.tenant_id)
    return Enqueued(Verdict.DUPLICATE, "" if row.digest == message.digest else "differs")


def offer_again(change: Change, event: EventRow, tenant_id: str) -> None:
    """The same event, under a new pk: an ack of the old offer does not cover the new one."""
    event.pk = change.names.pk(change.now)
    event.reported_at, event.parked = None, ""
    change.reportable.add(tenant_id)


def _reschedule(change: Change, row: MessageRow, message: NewMessage) -> None:
    """Same content: priority, deferred_ts and batch are the new element's."""
    new = (message.priority, message.batch, message.not_before, message.not_after)
    if new == (row.priority, row.batch, row.not_before, row.not_after):
        return
    row.priority, row.batch, row.not_before, row.not_after = new
    if row.lease is not None and not row.open_attempt:
        row.lease = None
    if row.attempts and row.next_at is not None:
        row.next_at = max(row.next_at, message.not_before or 0.0)
    else:
        row.next_at = max(change.now, message.not_before or 0.0)
    row.expires_at = max(
        row.expires_at, (message.not_before or 0.0) + max_age(change.disk, row.account_pk)
    )
    row.updated_at = change.now
    change.due.add(row.account_pk)


def _fill(change: Change, row: MessageRow, message: NewMessage, account: Account) -> None:
    """Make *row* carry what *message* says."""
    row.before = None
    row.account_pk, row.account_id = account.pk, account.id
    row.priority, row.batch, row.not_before = message.priority, message.batch, message.not_before
    row.next_at = max(change.now, message.not_before or 0.0)
    began = max(row.accepted_at, message.not_before or 0.0)
    row.expires_at = began + max_age(change.disk, account.pk)
    row.not_after = message.not_after
    row.envelope_from, row.digest, row.size = message.envelope_from, message.digest, message.size
    row.payload, row.parts = message.payload, dict(enumerate(message.parts, 1))
    row.test, row.fetches, row.left_out = message.test, 0, set()
    row.lease = None
    row.recipients = list(_recipients(message, row))
    change.due.add(account.pk)


def _recipients(message: NewMessage, row: MessageRow) -> Iterable[RecipientRow]:
    """The message's recipients; who has it, or may have it, already keeps that, with the reply."""
    known = {rcpt.address: rcpt for rcpt in row.recipients}
    doubted = row.doubted
    for address in sorted(doubted - {new.address for new in message.recipients}):
        yield known[address]
    for new in message.recipients:
        rcpt = RecipientRow(new.address, new.kind)
        if new.address in row.accepted_by:
            old = known.get(new.address)
            rcpt.state = RecipientState.SENT
            rcpt.code, rcpt.reply = (old.code, old.reply) if old else (None, "")
        elif new.address in doubted:
            rcpt = known[new.address]
        elif new.address in row.doubted_before and new.address not in known:
            rcpt.state = RecipientState.FAILED
            rcpt.reply = "uncertain: not known when it was removed"
        yield rcpt


def max_age(disk: Disk, account_pk: int) -> float:
    account = disk.live_account(account_pk)
    limit = account.max_age_seconds if account is not None else None
    return MAX_AGE if limit is None else limit


def _new_row(change: Change, message: NewMessage, account: Account) -> MessageRow:
    """A row that says nothing yet."""
    return MessageRow(
        pk=change.names.pk(change.now),
        tenant_id=message.tenant_id,
        id=message.id,
        account_pk=account.pk,
        account_id=account.id,
        priority=message.priority,
        batch=message.batch,
        not_before=None,
        next_at=None,
        accepted_at=change.now,
        expires_at=0.0,
        not_after=None,
        message_id=message.message_id or f"<{change.names.uuid()}@localhost>",
        envelope_from=message.envelope_from,
        digest=message.digest,
        size=message.size,
        payload=None,
        parts={},
        recipients=[],
    )


def _insert(change: Change, message: NewMessage, account: Account) -> None:
    row = _new_row(change, message, account)
    _fill(change, row, message, account)
    change.disk.messages[row.pk] = row
    row.tell(change.names, EventKind.ACCEPTED, change.now, {"notes": list(message.notes)})
    decide(change, row)


def decide(change: Change, row: MessageRow) -> None:
    """A test ends as sent at once; who is on the suppression list fails at once."""
    opened = [rcpt for rcpt in row.recipients if rcpt.state.open]
    for rcpt in opened:
        if row.test:
            rcpt.state, rcpt.reply = RecipientState.SENT, "test: not sent"
        elif (row.tenant_id, rcpt.address) in change.disk.suppressed:
            rcpt.state, rcpt.reply = RecipientState.FAILED, "suppressed"
    if row.state.final:
        row.reason = "" if row.test else "suppressed"
        row.next_at, row.finished_at = None, change.now
        if row.test:
            row.parts = {}
            content = payloads.load(row.payload or b"")
            row.payload = payloads.dump(attrs.evolve(content, plain=None, html=None))
        kind = EventKind.OUTCOME if row.test else EventKind.FAILED
        row.tell(change.names, kind, change.now, final=True)
        change.reportable.add(row.tenant_id)


def _replace(change: Change, row: MessageRow, message: NewMessage, account: Account) -> None:
    _fill(change, row, message, account)
    row.tell(change.names, EventKind.REPLACED, change.now, {"notes": list(message.notes)})
    decide(change, row)


def _new_generation(change: Change, row: MessageRow, message: NewMessage, account: Account) -> None:
    row.generation += 1
    row.attempts = row.uncertain = row.open_attempt = row.intent_token = 0
    row.reason = row.reason_key = ""
    row.accepted_at, row.finished_at = change.now, None
    _fill(change, row, message, account)
    row.tell(change.names, EventKind.GENERATION, change.now, {"notes": list(message.notes)})
    decide(change, row)


def _risen(change: Change, message: NewMessage, account: Account) -> Enqueued:
    """(tenant, id) was removed within the idempotency window."""
    key = (message.tenant_id, message.id)
    tombstone = change.disk.tombstones[key]
    ended = tombstone.final_event.item
    if message.test and not (ended is not None and ended.test):
        same = tombstone.digest == message.digest
        return Enqueued(Verdict.DUPLICATE, "" if same else "differs")
    row = _raised(change, tombstone, message, account)
    has = row.accepted_by | row.doubted_before
    if all(rcpt.address in has for rcpt in message.recipients):
        return _told_again(change, row, message)
    _new_generation(change, row, message, account)
    return Enqueued(Verdict.QUEUED)


def _raised(
    change: Change, tombstone: Tombstone, message: NewMessage, account: Account
) -> MessageRow:
    """The message as it ended, for those who have it: its text is gone."""
    row = _new_row(change, message, account)
    row.before = row.remembered = tombstone
    row.generation, row.message_id = tombstone.generation, tombstone.message_id
    row.digest, row.accepted_at = tombstone.digest, tombstone.accepted_at
    row.accepted_by = set(tombstone.accepted_by)
    row.doubted_before = set(tombstone.doubted)
    row.finished_at, row.updated_at = tombstone.final_event.at, change.now
    row.events.append(tombstone.final_event)
    row.recipients = [each for each in _recipients(message, row) if not each.state.open]
    change.disk.messages[row.pk] = row
    del change.disk.tombstones[tombstone.tenant_id, tombstone.id]
    return row
