"""
What a store must know after a series of acts, kept a second time and simpler: the model.

The machine in ``test_machine`` tells the ledger what it did and asks it what the store has to
answer. Messages have one of two contents, so that *same* and *other* content both occur.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from mailproxy.acts import Group
from mailproxy.model import Claimed, NewMessage
from mailproxy.states import MessageState, RecipientState, Verdict, message_state
from tests.build import new_message
from tests.contracts_base import RETENTION

A, B, C = "a@example.org", "b@example.org", "c@example.net"

#: The two contents: the text, and who it is for.
CONTENTS = {"one": (A, B), "two": (B, C)}


@attrs.define
class Mail:
    """
    One id.

    :param claim: the claim that may begin it; *begun* is the one that has.
    :param news: serial numbers of the events that are to be reported.
    :param doomed: its account was deleted, which ends what is open; *orphan*: is still that one's.
    :param body: its text, which may have been completed since it was posted.
    :param held: an operator holds it; *wish*: is to be held, or cancelled, after its attempt.
    :param doubted: addresses that failed because nobody knows whether they accepted.
    :param fetched: it waits because an attachment could not be fetched.
    :param tellings: how many events it had that are reported; *replayed*: the serial of the last
        replay, and how many there were that are offered again with it.
    :param ended: how it had ended when it was removed; *risen*: it was posted again since by those
        who have it, and is back as it ended, for the addresses named.
    """

    id: str
    text: str
    states: dict[str, RecipientState]
    schedule: tuple[int, str, float | None]
    due: float
    generation: int = 1
    attempts: int = 0
    claim: Claimed | None = None
    begun: Claimed | None = None
    accepted: set[str] = attrs.Factory(set)
    news: list[int] = attrs.Factory(list)
    final_news: int = 0
    final_event: str = ""
    reason: str = ""
    reported_at: float = 0.0
    doomed: bool = False
    orphan: bool = False
    removed: bool = False
    test: bool = False
    body: str = ""
    fetched: bool = False
    held: bool = False
    wish: str = ""
    doubted: set[str] = attrs.Factory(set)
    tellings: int = 0
    replayed: tuple[int, int] = (0, 0)
    ended: MessageState = MessageState.CANCELLED
    risen: tuple[str, ...] = ()

    @property
    def state(self) -> MessageState:
        return message_state(
            self.states.values(),
            in_flight=self.begun is not None,
            held=self.held,
            attempts=self.attempts,
        )

    @property
    def open(self) -> bool:
        return any(state.open for state in self.states.values())


@attrs.define
class Ledger:
    """
    :param suspended: the batches that are; ``*`` for the service.
    :param paused: domains nothing is sent to.
    :param suppressed: addresses that get nothing new.
    :param held_groups: the batches and accounts that are held as such.
    :param parked_until: Unix seconds until when nothing goes through the account.
    """

    mails: dict[str, Mail] = attrs.Factory(dict)
    suspended: set[str] = attrs.Factory(set)
    paused: set[str] = attrs.Factory(set)
    suppressed: set[str] = attrs.Factory(set)
    held_groups: set[Group] = attrs.Factory(set)
    parked_until: float = 0.0
    serial: int = 0

    def tell(self, mail: Mail, *, final: bool = False) -> None:
        """Something is to be reported of *mail*."""
        self.serial += 1
        mail.news.append(self.serial)
        mail.tellings += 1
        if final:
            mail.final_news, mail.final_event = self.serial, ""

    def replay(self, mail: Mail) -> None:
        """All its events are offered again; what is told is how it ended."""
        before = mail.tellings
        self.tell_again(mail)
        mail.replayed = (self.serial, before)

    # Posting.

    def post(self, message: NewMessage, text: str, now: float) -> set[Verdict]:
        """*message* is posted; the verdicts that would be right."""
        mail = self.mails.get(message.id)
        if mail is None:
            self.mails[message.id] = mail = Mail(message.id, text, {}, (0, "", None), now)
            self._refill(mail, message, text, now)
            return {Verdict.QUEUED}
        if message.test and not mail.test:
            return self._test_of_real(mail)
        if mail.test and not message.test:
            mail.accepted = set()
            return self._new_generation(mail, message, text, now)
        if mail.removed or mail.state.final:
            return self._post_ended(mail, message, text, now)
        if mail.state in (MessageState.UNCERTAIN, MessageState.HELD):
            return {Verdict.KEPT}
        if mail.text == text:
            self._reschedule(mail, message, now)
            return {Verdict.QUEUED}
        if mail.attempts:
            return {Verdict.KEPT}
        self._refill(mail, message, text, now)
        return {Verdict.REPLACED}

    def _test_of_real(self, mail: Mail) -> set[Verdict]:
        """A test leaves real mail alone: if it ended, that is told again."""
        if mail.removed:
            return {Verdict.DUPLICATE}
        if not mail.state.final:
            return {Verdict.KEPT}
        self.tell_again(mail)
        return {Verdict.DUPLICATE}

    def tell_again(self, mail: Mail) -> None:
        if mail.final_news in mail.news:
            mail.news.remove(mail.final_news)
        event = mail.final_event
        self.tell(mail, final=True)
        mail.final_event = event

    def _post_ended(self, mail: Mail, message: NewMessage, text: str, now: float) -> set[Verdict]:
        there = mail.risen or not mail.removed
        state = mail.ended if mail.removed else mail.state
        sent = there and state is MessageState.SENT
        if sent or (mail.accepted | mail.doubted).issuperset(CONTENTS[text]):
            self.tell_again(mail)
            if mail.removed and not mail.risen:
                mail.risen = CONTENTS[text]
            return {Verdict.DUPLICATE} if sent else {Verdict.DUPLICATE, Verdict.QUEUED}
        return self._new_generation(mail, message, text, now)

    def _new_generation(
        self, mail: Mail, message: NewMessage, text: str, now: float
    ) -> set[Verdict]:
        mail.generation += 1
        there = set(mail.risen) if mail.removed else mail.doubted
        kept = (mail.doubted & there) - set(CONTENTS[text])
        mail.risen = ()
        mail.attempts, mail.reason, mail.doomed, mail.removed = 0, "", False, False
        self._refill(mail, message, text, now, kept)
        return {Verdict.QUEUED}

    def _refill(
        self, mail: Mail, message: NewMessage, text: str, now: float, kept: Iterable[str] = ()
    ) -> None:
        mail.text = mail.body = text
        mail.test, mail.fetched, mail.orphan = message.test, False, False
        mail.states = {address: self._at_first(mail, address) for address in CONTENTS[text]}
        mail.states.update(dict.fromkeys(kept, RecipientState.FAILED))
        mail.schedule = (message.priority, message.batch, message.not_before)
        mail.due = max(now, message.not_before or 0.0)
        mail.claim = None
        if mail.state.final:
            self.tell(mail, final=True)

    def _at_first(self, mail: Mail, address: str) -> RecipientState:
        if mail.test or address in mail.accepted:
            return RecipientState.SENT
        no = self.suppressed | mail.doubted
        return RecipientState.FAILED if address in no else RecipientState.WAITING

    def _reschedule(self, mail: Mail, message: NewMessage, now: float) -> None:
        schedule = (message.priority, message.batch, message.not_before)
        if schedule == mail.schedule:
            return
        mail.schedule = schedule
        mail.claim = None
        wanted = message.not_before or 0.0
        mail.due = max(mail.due if mail.attempts else now, wanted)

    # Sending.

    def may_go(self, mail: Mail, now: float) -> bool:
        """Whether nothing stands against beginning *mail*, a claim granted."""
        stopped = "*" in self.suspended or mail.schedule[1] in self.suspended
        gone = mail.begun or mail.doomed or mail.removed or mail.held
        return mail.open and not gone and not stopped and not self._blocked(mail, now)

    def _blocked(self, mail: Mail, now: float) -> bool:
        """Whether its account does not work, or the group that it is of is held."""
        if now < self.parked_until:
            return True
        return any(group.batch in (None, mail.schedule[1]) for group in self.held_groups)

    def servable(self, mail: Mail) -> set[str]:
        """The open recipients whose domain is not paused."""
        return {a for a, s in mail.states.items() if s.open and not self._stopped(a)}

    def _stopped(self, address: str) -> bool:
        return address.partition("@")[2] in self.paused

    def claimable(self, now: float) -> dict[str, Mail]:
        return {
            mail.id: mail
            for mail in self.mails.values()
            if self.may_go(mail, now)
            and mail.claim is None
            and mail.due <= now
            and self.servable(mail)
        }

    def begin(self, claimed: Claimed, now: float) -> bool:
        """An intent is asked for; whether it has to be granted."""
        mail = self.mails[claimed.id]
        if mail.claim is not claimed or not self.may_go(mail, now):
            return False
        if any(self._stopped(rcpt.address) for rcpt in claimed.recipients):
            return False
        doubly = {rcpt.address for rcpt in claimed.recipients} & mail.accepted
        assert not doubly, f"a second copy of {mail.id} for {doubly}"
        mail.begun = claimed
        mail.attempts += 1
        return True

    def outcome(
        self,
        mail: Mail,
        states: dict[str, RecipientState],
        reason: str,
        due: float,
        now: float,
        *,
        unsure: bool = False,
    ) -> None:
        """
        The attempt begun came to *states*; *reason* is what a deferral is reported with.

        :param due: when those are tried again who were put off; who was left out is due *now*.
        """
        mail.begun = mail.claim = None
        mail.states.update(states)
        mail.accepted |= {a for a, s in mail.states.items() if s is RecipientState.SENT}
        mail.due = due if RecipientState.DEFERRED in states.values() else now
        mail.fetched = False
        news = bool(reason) and reason != mail.reason
        if mail.doomed and mail.open and news:  # told, before it is found to have no account
            self.tell(mail)
        self._as_wished(mail, unsure=unsure)
        if mail.state.final:
            self.tell(mail, final=True)
        elif news:
            mail.reason = reason
            self.tell(mail)

    def _as_wished(self, mail: Mail, *, unsure: bool) -> None:
        """What was decided while the attempt was under way is about what it left open."""
        wish, mail.wish = mail.wish, ""
        opened = {address for address, state in mail.states.items() if state.open}
        if not opened or not (wish or mail.doomed):
            return
        if mail.doomed or wish == "cancel":
            if unsure:
                mail.doubted |= opened
            ended = unsure or mail.doomed
            state = RecipientState.FAILED if ended else RecipientState.CANCELLED
            mail.states.update(dict.fromkeys(opened, state))
            mail.doomed = False
        else:
            mail.held = True

    def account_deleted(self) -> None:
        """What had not begun fails; what has must not be repeated."""
        for mail in self.mails.values():
            mail.orphan = True
            mail.doomed = mail.doomed or (mail.open and not mail.removed)
            self.fail_if_doomed(mail)

    def fail_if_doomed(self, mail: Mail) -> None:
        if not mail.doomed or mail.begun or mail.removed:
            return
        mail.doomed = False
        opened = [address for address, state in mail.states.items() if state.open]
        if opened:
            mail.claim, mail.held = None, False
            mail.states.update(dict.fromkeys(opened, RecipientState.FAILED))
            if mail.state.final:
                self.tell(mail, final=True)

    # Reporting, and being removed.

    def remove(self, mail: Mail) -> str:
        """It is to be taken back; the state in which it is kept, "" if it is not."""
        told = mail.final_news not in mail.news
        if mail.risen:
            mail.risen = mail.risen if not told else ()
            return "" if told else mail.ended.value
        if mail.begun or RecipientState.UNCERTAIN in mail.states.values():
            return mail.state.value
        if mail.state.final and not told:
            return mail.state.value
        if not mail.state.final:
            mail.final_event = ""
        mail.ended = mail.state if mail.state.final else MessageState.CANCELLED
        mail.removed, mail.doomed, mail.claim, mail.held = True, False, None, False
        mail.states, mail.news = {}, []
        return ""

    def acked(self, serials: dict[str, list[int]], now: float) -> None:
        for message_id, covered in serials.items():
            mail = self.mails[message_id]
            if mail.final_news in covered and mail.final_news in mail.news:
                mail.reported_at = now
            if mail.replayed[0] in covered:
                mail.replayed = (0, 0)
            mail.news = [serial for serial in mail.news if serial not in covered]

    def upkeep(self, now: float) -> None:
        for mail in self.mails.values():
            self.fail_if_doomed(mail)
            state = mail.ended if mail.removed else mail.state
            there = bool(mail.risen) if mail.removed else state.final
            if there and not mail.news and mail.reported_at + RETENTION <= now:
                mail.removed, mail.ended, mail.risen = True, state, ()
                mail.states = {}


def build(
    message_id: str,
    text: str,
    priority: int,
    batch: str,
    not_before: float | None,
    *,
    test: bool = False,
) -> NewMessage:
    """The message as it is posted."""
    return new_message(
        id=message_id,
        text=text,
        to=CONTENTS[text],
        priority=priority,
        batch=batch,
        not_before=not_before,
        test=test,
    )
