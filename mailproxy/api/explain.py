"""
``POST /v1/explain``: what would become of an element of add-messages, without taking it.

It is judged by the very code that judges submissions; what the store would add to that - tenant,
account, suppression, the same id again - is looked up, and nothing is stored or sent.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence, Set

import attrs
import msgspec
from twisted.internet.defer import DeferredSemaphore

from mailproxy import payload
from mailproxy.acts import in_doubt
from mailproxy.api import shapes_explain as shapes
from mailproxy.api.answers import Answer, Problem, answer, invalid
from mailproxy.api.call import SMALL_BYTES, Call, Need, Route
from mailproxy.api.elements import Judge
from mailproxy.api.message import NOT_FETCHED
from mailproxy.api.messages import Intake, IntakeRules, judged
from mailproxy.api.verdicts import Refusal
from mailproxy.api.wire import check_single
from mailproxy.book import TenantBook
from mailproxy.compose import compose
from mailproxy.interfaces import IClock, InThread, IStore
from mailproxy.limits import Use, waiting
from mailproxy.model import Account, NewMessage
from mailproxy.records import MessageRecord, RecipientReport
from mailproxy.routes import routes_of
from mailproxy.states import MessageState, RecipientState, Verdict
from mailproxy.tenancy import Remembered, Tenant

#: Large elements that are judged at the same time.
AT_ONCE = 2

#: What becomes of an id that is stored, by its state: with the same content, and with other.
EFFECTS = {
    MessageState.QUEUED: (Verdict.QUEUED, Verdict.REPLACED),
    MessageState.DEFERRED: (Verdict.QUEUED, Verdict.KEPT),
    MessageState.IN_FLIGHT: (Verdict.QUEUED, Verdict.KEPT),
    MessageState.UNCERTAIN: (Verdict.KEPT, Verdict.KEPT),
    MessageState.HELD: (Verdict.KEPT, Verdict.KEPT),
    MessageState.SENT: (Verdict.DUPLICATE, Verdict.DUPLICATE),
}

#: What stands in place of a reply where a test was not sent.
TESTED = "test: not sent"


class Explain:
    """Explains elements. :param in_thread: where large ones are judged."""

    def __init__(
        self,
        store: IStore,
        intake: Intake,
        clock: IClock,
        in_thread: InThread,
        rules: IntakeRules,
        book: TenantBook,
    ) -> None:
        self._store = store
        self._intake = intake
        self._clock = clock
        self._in_thread = in_thread
        self._rules = rules
        self._book = book
        self._large = DeferredSemaphore(AT_ONCE)

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/v1/explain", self.explain, Need.READ, shapes.EXPLAIN)

    async def explain(self, call: Call) -> Answer:
        judge = self._intake.judge(call)
        content, size = call.take_body()
        with content:
            if size <= SMALL_BYTES:
                return await self._explain(self._judged(judge, content.read()), inline=True)
            await self._large.acquire()
            try:
                body = await self._in_thread(content.read)
                verdict = await self._in_thread(self._judged, judge, body)
                return await self._explain(verdict, inline=False)
            finally:
                self._large.release()

    def _judged(self, judge: Judge, body: bytes) -> NewMessage | Refusal:
        """:raises Refused: 422, the body is not one JSON value."""
        check_single(body)
        submission = self._intake.read(b'{"messages":[' + body + b"]}")
        if len(submission.elements) != 1:
            raise invalid([Problem(("body",), "expected one message")])
        return judged(judge, submission.elements[0])

    async def _explain(self, verdict: NewMessage | Refusal, *, inline: bool) -> Answer:
        if isinstance(verdict, Refusal):
            told = shapes.Explanation(
                accepted=False, reason=verdict.reason, id=verdict.id, limits=self._limits(None)
            )
            return answer(told)
        known = await self._look_up(verdict)
        if inline:
            return answer(self._told(verdict, known))
        return await self._in_thread(lambda: answer(self._told(verdict, known)))

    async def _look_up(self, message: NewMessage) -> _Known:
        store, tenant_id = self._store, message.tenant_id
        tenant = self._book.tenant(tenant_id)
        addresses = [recipient.address for recipient in message.recipients]
        accounts = await store.accounts(tenant_id)
        return _Known(
            tenant=tenant,
            account=route(accounts, message.account_id),
            accounts={each.id: each for each in accounts},
            suppressed={each.address for each in await store.suppressed(tenant_id, addresses)},
            paused={each.domain for each in await store.destinations(tenant_id)},
            stored=await store.message(tenant_id, message.id),
            remembered=await store.remembered(tenant_id, message.id, addresses),
            uses=await store.limits(tenant_id, self._clock.now()),
        )

    def _told(self, message: NewMessage, known: _Known) -> shapes.Explanation:
        reason = known.objection()
        mime, mime_reason = _mime(message, known.message_id, self._clock.now())
        return shapes.Explanation(
            accepted=not reason,
            reason=reason or None,
            id=message.id,
            tenant_id=message.tenant_id,
            envelope=shapes.ExplainedEnvelope(
                sender=message.envelope_from,
                recipients=[
                    shapes.ExplainedRecipient(
                        address=each.address,
                        kind=each.kind,
                        suppressed=each.address in known.suppressed,
                        paused=each.address.rpartition("@")[2] in known.paused,
                    )
                    for each in message.recipients
                ],
            ),
            account=None if known.account is None else _account(known.account),
            routes=known.routes(message.id),
            limits=self._limits(known),
            size=message.size,
            priority=message.priority,
            batch_code=message.batch or None,
            deferred_ts=None if message.not_before is None else int(message.not_before),
            test=message.test,
            notes=list(message.notes),
            stored=_stored(message, known),
            mime=mime,
            mime_reason=mime_reason,
        )

    def _limits(self, known: _Known | None) -> shapes.Limits:
        limits = shapes.Limits(
            max_message_bytes=self._rules.max_message_bytes,
            max_recipients=self._rules.max_recipients,
        )
        if known is not None and known.account is not None:
            options = msgspec.json.decode(known.account.options or "{}")
            limits.per_minute = options.get("limit_per_minute")
            limits.per_hour = options.get("limit_per_hour")
            limits.per_day = options.get("limit_per_day")
        if known is not None and known.tenant is not None:
            limits.tenant_hourly = known.tenant.rate_limits.hourly
            limits.tenant_daily = known.tenant.rate_limits.daily
        if known is not None and (full := known.limited()) is not None:
            limits.limited_until, limits.limited_reason = full.until, full.reason
        return limits


@attrs.frozen
class _Known:
    """What the store knows about a message that is not there yet."""

    tenant: Tenant | None
    account: Account | None
    accounts: Mapping[str, Account]
    suppressed: set[str]
    paused: set[str]
    stored: MessageRecord | None
    remembered: Remembered | None
    uses: Sequence[Use]

    def limited(self) -> Use | None:
        """The limit that its account would wait for now."""
        its = ("", "" if self.account is None else self.account.id)
        return waiting([use for use in self.uses if use.account_id in its])

    @property
    def message_id(self) -> str | None:
        """What the id is called on the wire, if it was there before."""
        known = self.stored or self.remembered
        return None if known is None else known.message_id

    def objection(self) -> str:
        """Why the store would not take it, in its words and order; "" if it would."""
        if self.tenant is None:
            return "tenant not found"
        if not self.tenant.active:
            return "tenant inactive"
        return "" if self.account is not None else "account not found"

    def routes(self, message_id: str) -> list[shapes.ExplainedRoute]:
        """The accounts that would be tried, in order, as far as they are there."""
        if self.account is None:
            return []
        order = routes_of(self.account).order(message_id)
        there = [self.accounts[name] for name in order if name in self.accounts]
        return [
            shapes.ExplainedRoute(id=each.id, parked_reason=each.parked_reason or None)
            for each in there
        ]


def route(accounts: Sequence[Account], account_id: str | None) -> Account | None:
    """
    The account that a message goes through.

    The one it names; else the tenant's default, the last that was declared so; else its only one.
    """
    if account_id is not None:
        return next((each for each in accounts if each.id == account_id), None)
    declared = [each for each in accounts if each.is_default]
    if declared:
        return max(declared, key=lambda each: each.updated_at)
    return accounts[0] if len(accounts) == 1 else None


def _account(account: Account) -> shapes.ExplainedAccount:
    return shapes.ExplainedAccount(
        id=account.id,
        host=account.host,
        port=account.port,
        tls_mode=account.tls_mode,
        login=account.user is not None,
        parked_reason=account.parked_reason or None,
    )


def _stored(message: NewMessage, known: _Known) -> shapes.ExplainedStored | None:
    """What the same-id table says."""
    stored, remembered = known.stored, known.remembered
    before = frozenset[str]() if remembered is None else remembered.accepted
    if stored is None:
        return None if remembered is None else _removed(message, remembered)
    state = MessageState(stored.state)
    tested = any(each.reply == TESTED for each in stored.recipients)
    if tested is not message.test:
        same = other = _other_kind(message, state)
    elif state in EFFECTS:
        same, other = EFFECTS[state]
    else:
        has = {each.address for each in stored.recipients if _reached(each)}
        same = other = _new_generation(message, has | before)
    return shapes.ExplainedStored(
        state=state, attempts=stored.attempts, same_content=same, other_content=other
    )


def _reached(recipient: RecipientReport) -> bool:
    """Whether it has the message, or may have it."""
    state = RecipientState(recipient.state)
    return state is RecipientState.SENT or in_doubt(state, recipient.code, recipient.reply)


def _removed(message: NewMessage, remembered: Remembered) -> shapes.ExplainedStored:
    """Only a tombstone is left of it."""
    verdict = _new_generation(message, remembered.accepted)
    if message.test and not remembered.test:
        verdict = Verdict.DUPLICATE
    return shapes.ExplainedStored(
        state=MessageState(remembered.state),
        attempts=0,
        removed=True,
        same_content=verdict,
        other_content=verdict,
    )


def _other_kind(message: NewMessage, state: MessageState) -> Verdict:
    """A test leaves real mail alone; real mail comes in the place of a test."""
    if not message.test:
        return Verdict.QUEUED
    return Verdict.DUPLICATE if state.final else Verdict.KEPT


def _new_generation(message: NewMessage, reached: Set[str]) -> Verdict:
    """For those who do not have it. :param reached: who has, or may have."""
    everybody = all(each.address in reached for each in message.recipients)
    return Verdict.DUPLICATE if everybody else Verdict.QUEUED


def _mime(message: NewMessage, message_id: str | None, now: float) -> tuple[str | None, str | None]:
    """
    The message as it would be sent, in base64, or why that cannot be said.

    :param message_id: of what is known by its id already.
    """
    content = payload.load(message.payload)
    if any(not attachment.part for attachment in content.attachments):
        return None, NOT_FETCHED
    composed = compose(
        content,
        mail_id=message.id,
        message_id=message_id or message.message_id or "",
        date=now,
        parts=dict(enumerate(message.parts, 1)),
    )
    return b64encode(composed).decode(), None
