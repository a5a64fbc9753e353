"""Further acts of the state machine: what an operator decides over one message."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from mailproxy.acts import Act, Operation
from mailproxy.states import MessageState, RecipientState
from tests.fakes import result
from tests.store.ledger import Ledger, Mail
from tests.store.machine_more import FullMachine


def acted(ledger: Ledger, mail: Mail, act: Act, now: float) -> bool:
    """*act* is done to *mail*; whether that changes anything."""
    if act is Act.HOLD:
        return _hold(mail)
    if act is Act.RELEASE:
        changed = mail.held or mail.wish == "hold"
        mail.held = False
        mail.wish = "" if mail.wish == "hold" else mail.wish
        return changed
    if act is Act.CANCEL:
        return _cancel(ledger, mail)
    if act is Act.REQUEUE or (act is Act.RETRY and mail.state.final):
        return _requeue(ledger, mail, now)
    if act is Act.RETRY:
        return _retry(mail, now)
    if act is Act.RESEND:
        return _resend(ledger, mail, now)
    return _close(ledger, mail, as_sent=act is Act.CLOSE_AS_SENT)


def _hold(mail: Mail) -> bool:
    if mail.held or mail.wish or not mail.open:
        return False
    if mail.begun:
        mail.wish = "hold"
    else:
        mail.held, mail.claim = True, None
    return True


def _cancel(ledger: Ledger, mail: Mail) -> bool:
    if mail.wish == "cancel" or not mail.open:
        return False
    if mail.begun:
        mail.wish = "cancel"
        return True
    opened = [address for address, state in mail.states.items() if state.open]
    mail.states.update(dict.fromkeys(opened, RecipientState.CANCELLED))
    mail.held, mail.claim, mail.fetched = False, None, False
    if mail.state.final:
        ledger.tell(mail, final=True)
    return True


def _retry(mail: Mail, now: float) -> bool:
    scheduled = (mail.schedule[2] or 0.0) > now
    if mail.held or mail.begun or not mail.open or scheduled or mail.claim or mail.due <= now:
        return False
    mail.due = now
    return True


def _requeue(ledger: Ledger, mail: Mail, now: float) -> bool:
    if mail.state not in (MessageState.FAILED, MessageState.EXPIRED):
        return False
    left = {a for a, state in mail.states.items() if state is not RecipientState.SENT}
    return _again(ledger, mail, left - mail.doubted, now)


def _again(ledger: Ledger, mail: Mail, wanted: set[str], now: float) -> bool:
    if not wanted:
        return False
    mail.generation += 1
    mail.attempts, mail.reason, mail.fetched, mail.claim = 0, "", False, None
    mail.orphan = False
    for address in wanted:
        no = address in ledger.suppressed
        mail.states[address] = RecipientState.FAILED if no else RecipientState.WAITING
    mail.due = max(now, mail.schedule[2] or 0.0)
    if mail.state.final:
        ledger.tell(mail, final=True)
    return True


def _resend(ledger: Ledger, mail: Mail, now: float) -> bool:
    if mail.state.final:
        wanted = mail.doubted & set(mail.states)
        mail.doubted -= wanted
        return _again(ledger, mail, wanted, now)
    unsure = [a for a, state in mail.states.items() if state is RecipientState.UNCERTAIN]
    if not unsure or mail.begun or mail.held or mail.orphan:
        return False
    mail.states.update(dict.fromkeys(unsure, RecipientState.DEFERRED))
    mail.claim, mail.due = None, now
    return True


def _close(ledger: Ledger, mail: Mail, *, as_sent: bool) -> bool:
    unsure = [a for a, state in mail.states.items() if state is RecipientState.UNCERTAIN]
    if not unsure or mail.begun:
        return False
    state = RecipientState.SENT if as_sent else RecipientState.FAILED
    mail.states.update(dict.fromkeys(unsure, state))
    mail.accepted |= set(unsure) if as_sent else set()
    mail.claim = None
    if not mail.open:
        mail.held = False
    if mail.state.final:
        ledger.tell(mail, final=True)
    return True


class ActsMachine(FullMachine):
    """With an operator who decides over single messages."""

    def there(self) -> list[Mail]:
        return [mail for mail in self.ledger.mails.values() if not mail.removed]

    @precondition(lambda self: self.there())
    @rule(data=st.data(), act=st.sampled_from(Act))
    def act(self, data: st.DataObject, act: Act) -> None:
        """An operator decides; the answer is the truth, and repeated it changes nothing more."""
        self.decide(data.draw(st.sampled_from(self.there())), act)

    def decide(self, mail: Mail, act: Act) -> None:
        begun = mail.begun is not None
        changed = acted(self.ledger, mail, act, self.now)
        answer = result(self.store.act("default", mail.id, Operation(act, self.now)))
        assert answer is not None
        told = (answer.changed, answer.begun, answer.state)
        assert told == (changed, begun, mail.state.value), (answer, mail)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            for mail in self.there():
                self.decide(mail, Act.RELEASE)
        super().teardown()
