"""Further acts of the state machine: over whole batches and accounts, and accounts that fail."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from mailproxy.acts import Act, Group, Operation
from mailproxy.states import MessageState
from tests.fakes import result
from tests.store.ledger import Mail
from tests.store.machine import RETRY
from tests.store.machine_acts import ActsMachine, acted

BATCH, ACCOUNT = Group("default", batch="x"), Group("default", account_id="acct")
GROUPS = st.sampled_from([BATCH, ACCOUNT])

#: What is done to a group message by message, in the background; and to messages of which state.
WALKS = {
    Act.RETRY: {MessageState.QUEUED, MessageState.DEFERRED},
    Act.REQUEUE: {MessageState.FAILED, MessageState.EXPIRED},
    Act.RESEND: {MessageState.UNCERTAIN},
    Act.CLOSE_AS_SENT: {MessageState.UNCERTAIN, MessageState.HELD},
    Act.CLOSE_AS_FAILED: {MessageState.UNCERTAIN, MessageState.HELD},
}


class GroupsMachine(ActsMachine):
    """
    With an operator who decides over groups, and an upstream that is down now and then.

    :ivar aged: generations that are past their age. They end once their account has been tried in
        vain, which is no matter of this machine: where there are any the upstream does not fail.
    """

    @initialize()
    def start(self) -> None:
        super().start()
        self.aged: set[tuple[str, int]] = set()

    def of(self, group: Group) -> list[Mail]:
        """The mail of a group; what a deleted account left is no longer any account's."""
        return [
            mail
            for mail in self.there()
            if (mail.schedule[1] == "x" if group is BATCH else not mail.orphan)
        ]

    @rule(group=GROUPS, release=st.booleans(), singly=st.booleans())
    def hold_or_release_all(self, group: Group, release: bool, singly: bool) -> None:
        """A hold lies on the group, not on its mail; once taken off, all may go on."""
        held = self.ledger.held_groups
        if not release:
            changed = group not in held
            held.add(group)
            assert self.done(Act.HOLD, group) == (changed, True)
            return
        changed = group in held
        held.discard(group)
        if singly:
            for mail in self.of(group):
                acted(self.ledger, mail, Act.RELEASE, self.now)
            self.done(Act.RELEASE, group, singly=True)
            self.upkeep()
        else:
            assert self.done(Act.RELEASE, group) == (changed, False)

    def done(self, act: Act, group: Group, *, singly: bool = False) -> tuple[bool, bool]:
        """Whether *act* changed anything, and whether the group is held now."""
        operation = Operation(act, self.now)
        answer = result(self.store.act_on_all(group, operation, singly=singly))
        assert answer is not None
        return answer.changed, answer.held

    @rule(group=GROUPS)
    def cancel_all(self, group: Group) -> None:
        """What is open of a group ends; what has begun ends as cancelled if it is left open."""
        waiting = [mail for mail in self.of(group) if mail.open and not mail.begun]
        for mail in self.of(group):
            acted(self.ledger, mail, Act.CANCEL, self.now)
        changed, held = self.done(Act.CANCEL, group)
        assert changed or not waiting
        assert held == (group in self.ledger.held_groups)
        self.upkeep()

    @rule(group=GROUPS, act=st.sampled_from(sorted(WALKS)))
    def walk(self, group: Group, act: Act) -> None:
        """Everything else is done in the background, as one by one, to what it is about."""
        for mail in self.of(group):
            if mail.state in WALKS[act]:
                acted(self.ledger, mail, act, self.now)
        self.done(act, group)
        self.upkeep()

    @rule(works=st.booleans(), seconds=st.sampled_from([RETRY, 3 * RETRY]))
    def park_or_not(self, works: bool, seconds: float) -> None:
        """The account fails, and nothing of it goes until its next try; or it works again."""
        if works or any((mail.id, mail.generation) in self.aged for mail in self.there()):
            result(self.store.unpark_account(self.account.pk))
            self.ledger.parked_until = 0.0
            return
        until = self.now + seconds
        version = self.account.version
        result(self.store.park_account(self.account.pk, version, "down", until, self.now))
        self.ledger.parked_until = until

    def wait_long(self) -> None:
        self.park_or_not(True, RETRY)
        super().wait_long()
        self.aged |= {(mail.id, mail.generation) for mail in self.there() if mail.open}

    def delete_account(self) -> None:
        super().delete_account()
        self.ledger.parked_until = 0.0
        self.ledger.held_groups.discard(ACCOUNT)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.park_or_not(True, RETRY)
            for group in (BATCH, ACCOUNT):
                self.hold_or_release_all(group, True, False)
        super().teardown()
