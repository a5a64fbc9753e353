"""
Further acts of the state machine: mail is taken back, completed, and not sent to some.

In a module of their own; :class:`~tests.store.machine.StoreMachine` has the way of a message.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from mailproxy import payload
from mailproxy.model import Claimed
from mailproxy.states import EventKind
from mailproxy.tenancy import Removed, Suppression
from tests.build import content, record
from tests.fakes import result
from tests.store.ledger import A, B, C, Mail
from tests.store.machine import IDS, RETRY, StoreMachine

#: What a deferral says whose attachment could not be fetched.
IN_VAIN = "Attachment fetch failed for a.pdf: 503"


class FullMachine(StoreMachine):
    """Every act there is."""

    @rule(ids=st.lists(IDS, min_size=1, max_size=3), anybody=st.booleans())
    def remove(self, ids: list[str], anybody: bool) -> None:
        """Mail is taken back: what waits is gone, what may have left is kept."""
        kept, missing = [], []
        for name in dict.fromkeys(ids):
            mail = self.ledger.mails.get(name)
            if mail is None or (mail.removed and not mail.risen):
                missing.append(name)
            elif state := self.ledger.remove(mail):
                kept.append((name, state))
        answer = result(self.store.remove(None if anybody else "default", ids, self.now))
        removed = len(set(ids)) - len(kept) - len(missing)
        assert (answer.removed, answer.missing) == (removed, tuple(missing)), (answer, kept)
        assert sorted(answer.kept) == sorted(kept), Removed(removed, tuple(kept), tuple(missing))

    @rule(domain=st.sampled_from(["example.org", "example.net"]))
    def pause_or_resume(self, domain: str) -> None:
        """A domain is paused, or resumed if it is."""
        if domain in self.ledger.paused:
            assert result(self.store.resume_destination("default", domain, self.now))
            self.ledger.paused.discard(domain)
            self.upkeep()
        else:
            assert result(self.store.pause_destination("default", domain, self.now))
            self.ledger.paused.add(domain)

    @rule(address=st.sampled_from([A, B, C]))
    def suppress_or_not(self, address: str) -> None:
        """An address enters the suppression list, or leaves it."""
        if address in self.ledger.suppressed:
            assert result(self.store.unsuppress("default", [address])) == 1
            self.ledger.suppressed.discard(address)
        else:
            assert result(self.store.suppress([Suppression("default", address)], self.now)) == 1
            self.ledger.suppressed.add(address)

    def holds(self, claimed: Claimed) -> Mail | None:
        """The mail that *claimed* may still change, if it may."""
        mail = self.ledger.mails[claimed.id]
        return mail if mail.claim is claimed and not mail.begun else None

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """The content of a claimed message is completed; who has lost the claim changes nothing."""
        claimed = data.draw(st.sampled_from(self.claims))
        mail = self.holds(claimed)
        whole = payload.dump(content(plain="completed"))
        done = result(self.store.prepared(claimed.pk, claimed.token, whole, {}, 500))
        assert done == (mail is not None)
        if mail is not None:
            mail.body, mail.fetched = "completed", False

    @precondition(lambda self: any(self.holds(each) for each in self.claims))
    @rule(data=st.data())
    def fetch_in_vain(self, data: st.DataObject) -> None:
        """An attachment cannot be fetched: the message waits, and no attempt is counted."""
        claimed = data.draw(st.sampled_from([each for each in self.claims if self.holds(each)]))
        mail = self.ledger.mails[claimed.id]
        item = record(
            claimed,
            at=self.now,
            begun=False,
            kind=EventKind.DEFERRED,
            changes=(),
            next_at=self.now + RETRY,
            reason=IN_VAIN,
            fetched_in_vain=True,
        )
        assert result(self.store.record([item])) == [True]
        self.recorded.append(item)
        mail.claim, mail.due, mail.fetched = None, self.now + RETRY, True

    @rule()
    def refetch(self) -> None:
        """The tenant says where its attachments are: what waits for them is due."""
        waiting = [
            mail
            for mail in self.ledger.mails.values()
            if mail.fetched
            and mail.open
            and not mail.claim
            and not mail.removed
            and mail.due > self.now
        ]
        assert result(self.store.refetch("default", self.now)) == len(waiting)
        for mail in waiting:
            mail.due = self.now

    @rule()
    def replay(self) -> None:
        """All events are offered again; who takes reports sees each message's newest state."""
        kept = [mail for mail in self.ledger.mails.values() if not mail.removed]
        told = [mail for mail in kept if mail.final_news and mail.state.final]
        result(self.store.replay("default", None, [mail.id for mail in told], self.now))
        for mail in told:
            self.ledger.replay(mail)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            for domain in sorted(self.ledger.paused):
                self.pause_or_resume(domain)
        super().teardown()
