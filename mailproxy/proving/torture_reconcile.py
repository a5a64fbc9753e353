"""
Whether three ledgers agree: what was accepted, what arrived, what was reported.

Pure: a function of the ledgers. Each disagreement is a breach of one of the promises:

* **I1** Every accepted id comes to its end, and the receiver is told.
* **I2** A recipient gets a second copy only where the timeline shows an attempt whose outcome
  nobody knows; and a report that is told again has the same ``event_id``.
* **I3** Nothing arrives that was not accepted, was replaced, or was taken back before.
* **I4** Who is said to have it has it: by a reply that names a copy which is there.
* **I5** What is one tenant's is never told, shown or sent as another's.
* **C1** A tenant is called with a report by one node at a time.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from mailproxy.proving.answers import word_of
from mailproxy.proving.torture_ledger import (
    STORED,
    Accepted,
    Arrival,
    Call,
    Known,
    Ledgers,
    Said,
    TakenBack,
    Told,
)
from mailproxy.proving.torture_tenants import named, of_address

T = TypeVar("T", Accepted, Arrival, Told)

#: What each breach is a breach of.
PROMISES = {
    "I1": "nothing is lost",
    "I2": "nothing comes twice in silence",
    "I3": "nothing is sent that was not wanted",
    "I4": "what is said is true",
    "I5": "tenants are kept apart",
    "C1": "calls do not overlap",
}

#: States that a message does not leave by itself.
ENDS = frozenset({"sent", "failed", "expired", "cancelled"})

#: Seconds by which the clocks of two processes on one machine may differ.
CLOCKS = 0.05

#: Words of recipients whom the sink always refuses.
REFUSED = frozenset({"reject"})


@attrs.frozen(order=True)
class Breach:
    """A promise that was not kept, with what shows it."""

    promise: str
    id: str
    what: str


@attrs.frozen
class Findings:
    """
    What the ledgers say together.

    :param ends: accepted messages by how they ended.
    :param accepted: ids, by the way they came in.
    :param again: answers to submissions of ids that were stored already.
    :param second: copies that a recipient got besides the first.
    :param uncertain: attempts whose outcome nobody knows.
    :param resent: times an operator had an uncertain one sent once more.
    :param finals: items that told of an end; *repeats* of them were told before.
    :param calls: in which all was told.
    :param tenants: who submitted; *shared*: ids that more than one of them did.
    """

    breaches: tuple[Breach, ...]
    accepted: Mapping[str, int]
    ends: Mapping[str, int]
    again: int
    replaced: int
    taken_back: int
    refused: int
    copies: int
    second: int
    uncertain: int
    resent: int
    finals: int
    repeats: int
    calls: int
    tenants: tuple[str, ...] = ()
    shared: int = 0


def plain(record: Mapping[str, Any], copies: int) -> bool:
    """
    Whether the timeline of a message can tell no more than its record.

    :param copies: that arrived. Attempts count anew when an id is posted again, so that a record
        of one attempt may follow an earlier generation's uncertain ones.
    """
    return record["attempts"] <= 1 and record["state"] in ENDS and copies <= 1


def reconcile(ledgers: Ledgers) -> Findings:
    """Compare the ledgers."""
    accepted = _by_id(ledgers.claims.accepted)
    taken = {each.id: each for each in ledgers.claims.taken_back}
    arrivals = _by_id(ledgers.arrivals)
    all_told = ledgers.told
    told = _by_id(all_told)
    last_told = ledgers.last_told
    breaches = set[Breach]()
    for id, answers in accepted.items():
        case = _Case(
            id, answers, taken.get(id), arrivals.get(id, ()), told.get(id, ()),
            last_told.get(id), ledgers.known.get(id),
        )  # fmt: skip
        breaches.update(case.breaches())
    breaches.update(_strangers(ledgers, accepted))
    breaches.update(_untrue(ledgers))
    repeats = _repeats(told)
    finals = [item for item in all_told if item.end]
    breaches.update(_renamed(told))
    breaches.update(_at_once(ledgers.calls))
    breaches.update(_mixed(ledgers))
    submitted = _submitted(accepted)
    states = (ledgers.known[id].state for id in accepted if id in ledgers.known)
    return Findings(
        breaches=tuple(sorted(breaches)),
        accepted=_counts(answers[0].via for answers in accepted.values()),
        ends=_counts(states),
        again=sum(
            each.verdict in STORED and each.verdict != "replaced"
            for each in ledgers.claims.accepted
        ),
        replaced=sum(each.verdict == "replaced" for each in ledgers.claims.accepted),
        taken_back=len(taken),
        refused=len(ledgers.claims.refused),
        copies=len(ledgers.arrivals),
        second=sum(
            count - 1 for each in arrivals.values() for count in _per_recipient(each).values()
        ),
        uncertain=sum(each.uncertain for each in ledgers.known.values()),
        resent=sum(each.resent for each in ledgers.known.values()),
        finals=len(finals),
        repeats=repeats,
        calls=len(ledgers.calls),
        tenants=tuple(sorted({tenant for tenants in submitted.values() for tenant in tenants})),
        shared=sum(len(tenants) > 1 for tenants in submitted.values()),
    )


def expected_end(recipients: Iterable[str]) -> str:
    """How a message to *recipients* ends, where the sink is the upstream."""
    return "failed" if any(word_of(each) in REFUSED for each in recipients) else "sent"


@attrs.frozen
class _Case:
    """One accepted id, and all that is known of it; *last_told*: its end, if ever."""

    id: str
    answers: Sequence[Accepted]
    taken: TakenBack | None
    arrivals: Sequence[Arrival]
    told: Sequence[Told]
    last_told: float | None
    known: Known | None

    def breaches(self) -> Iterator[Breach]:
        yield from self._unwanted()
        if self.taken is not None:
            yield from self._taken_back()
            return
        yield from self._twice()
        if self.known is None:
            yield self._breach("I1", "accepted, and the service does not know it")
            return
        if self.known.state not in ENDS:
            yield self._breach("I1", f"has not come to an end: it is {self.known.state}")
        elif not any(item.end for item in self.told):
            counts = ", though it counts as reported" if self.known.reported else ""
            yield self._breach("I1", f"its end ({self.known.state}) was never reported{counts}")
        yield from self._ended(self.known)

    def _breach(self, promise: str, what: str) -> Breach:
        return Breach(promise, self.id, what)

    def contents(self) -> list[Accepted]:
        """The contents of which one has to arrive: by version, what the answers leave possible."""
        versions: dict[int, Accepted] = {}
        for each in self.answers:
            versions.setdefault(each.version, each)  # the first answer says what it did
        newest = versions[max(versions)]
        if len(versions) > 1 and newest.verdict == "replaced":
            return [newest]
        if len(versions) > 1 and newest.verdict == "kept" and newest.sure:
            return [each for each in versions.values() if each is not newest]
        return list(versions.values())

    def _unwanted(self) -> Iterator[Breach]:
        """Copies to somebody who is in none of the contents that may have been sent."""
        wanted = {to for each in self.contents() for to in each.recipients}
        once = {to for each in self.answers for to in each.recipients}
        for copy in self.arrivals:
            for to in copy.recipients:
                if to not in wanted:
                    why = "of a content that was replaced" if to in once else "for nobody's wish"
                    yield self._breach("I3", f"copy {copy.n} to {to} is {why}")

    def _taken_back(self) -> Iterator[Breach]:
        assert self.taken is not None
        if not self.taken.sure:
            return
        for copy in self.arrivals:
            if copy.at > self.taken.at + CLOCKS:
                after = copy.at - self.taken.at
                yield self._breach("I3", f"copy {copy.n} came {after:.3f} s after it was removed")
        if self.last_told is not None and self.last_told > self.taken.at + CLOCKS:
            after = self.last_told - self.taken.at
            yield self._breach("I3", f"its end was reported {after:.3f} s after it was removed")

    def _twice(self) -> Iterator[Breach]:
        uncertain = self.known.uncertain if self.known is not None else 0
        for to, count in _per_recipient(self.arrivals).items():
            if count > 1 + uncertain:
                yield self._breach(
                    "I2", f"{count} copies to {to}, and {uncertain} uncertain attempts"
                )

    def _ended(self, known: Known) -> Iterator[Breach]:
        """It ended as the upstream answered, and who is to have it has it."""
        contents = self.contents()
        if known.state in ENDS and known.state not in {
            expected_end(each.recipients) for each in contents
        }:
            yield self._breach(
                "I4", f"ended as {known.state}, which no reply of the upstream meant"
            )
        if known.state not in ("sent", "failed"):
            return
        has = {to for copy in self.arrivals for to in copy.recipients}
        missing = [
            [to for to in each.recipients if word_of(to) not in REFUSED and to not in has]
            for each in contents
        ]
        if all(missing):
            yield self._breach("I4", f"is {known.state}, and {missing[-1][0]} has no copy")


def _strangers(ledgers: Ledgers, accepted: Mapping[str, object]) -> Iterator[Breach]:
    """What arrived, or was reported, of an id that nobody was told was accepted."""
    refused = ledgers.claims.refused
    for copy in ledgers.arrivals:
        if copy.id not in accepted:
            why = "that was refused" if copy.id in refused else "that nobody accepted"
            yield Breach("I3", copy.id, f"copy {copy.n} is of an id {why}")
    for item in ledgers.told:
        if item.id not in accepted:
            yield Breach("I3", item.id, "reported, and never accepted")


def _untrue(ledgers: Ledgers) -> Iterator[Breach]:
    """Reports that say more than happened."""
    by_number = {copy.n: copy for copy in ledgers.arrivals}
    for item in ledgers.told:
        if item.end == "sent" and any(said.state != "sent" for said in item.recipients):
            yield Breach("I4", item.id, "told as sent, and not to everybody")
        if item.end == "sent" and not item.recipients:
            yield Breach("I4", item.id, "told as sent, and to nobody")
        for said in item.recipients:
            if said.state == "sent" and (problem := _unproven(item.id, said, by_number)):
                yield Breach("I4", item.id, f"{said.address} is said to have it: {problem}")


def _unproven(id: str, said: Said, by_number: Mapping[int, Arrival]) -> str:
    """Why the reply that is told does not prove it; empty if it does."""
    if said.code is None or not 200 <= said.code < 300:
        return f"by the reply {said.code}"
    copy = None if said.copy is None else by_number.get(said.copy)
    if copy is None:
        return f"by {said.reply!r}, which is no copy"
    if copy.id != id or said.address not in copy.recipients:
        return f"by copy {copy.n}, which is of {copy.id} for {', '.join(copy.recipients)}"
    return ""


def _renamed(told: Mapping[str, Sequence[Told]]) -> Iterator[Breach]:
    """Ends that were told again as if they were others."""
    for id, items in told.items():
        names = collections.defaultdict[int, set[str]](set)
        ends = collections.defaultdict[str, set[str]](set)
        for item in items:
            if item.end:
                names[item.generation].add(item.event_id)
                ends[item.event_id].add(item.end)
        for generation, events in names.items():
            if len(events) > 1:
                yield Breach(
                    "I2", id, f"its end was told as {len(events)} events (generation {generation})"
                )
        for event, said in ends.items():
            if len(said) > 1:
                yield Breach("I4", id, f"event {event} was told as {' and '.join(sorted(said))}")


def _at_once(calls: Iterable[Call]) -> Iterator[Breach]:
    for call in calls:
        if call.beside:
            yield Breach(
                "C1", f"call {call.n}", f"came while {call.beside} before it had no answer yet"
            )


def _mixed(ledgers: Ledgers) -> Iterator[Breach]:
    """What one tenant was told, or shown, of another; and mail that is of two."""
    whose: dict[str, str] = {}
    for call in ledgers.calls:
        for item in call.items:
            for said in item.recipients:
                if of_address(said.address) != call.tenant:
                    what = f"{call.tenant} was told of {said.address} (call {call.n})"
                    yield Breach("I5", item.id, what)
            first = whose.setdefault(item.event_id, call.tenant)
            if first != call.tenant:
                what = f"event {item.event_id} was told to {first} and to {call.tenant}"
                yield Breach("I5", item.id, what)
    for copy in ledgers.arrivals:
        for to in copy.recipients:
            if of_address(to) != copy.tenant:
                yield Breach("I5", copy.id, f"copy {copy.n} went from {copy.tenant} to {to}")
    for id, tenant in ledgers.overheard:
        yield Breach("I5", id, f"{tenant} was shown it")


def _submitted(accepted: Mapping[str, Sequence[Accepted]]) -> Mapping[str, set[str]]:
    """The tenants that submitted each id, as they call it."""
    found = collections.defaultdict[str, set[str]](set)
    for id, answers in accepted.items():
        tenant = of_address(answers[0].recipients[0])
        found[id.removeprefix(named(tenant, ""))].add(tenant)
    return found


def _repeats(told: Mapping[str, Sequence[Told]]) -> int:
    """Items of an end that had been told before, with the same ``event_id``."""
    events = (item.event_id for items in told.values() for item in items if item.end)
    return sum(count - 1 for count in collections.Counter(events).values())


def _per_recipient(arrivals: Iterable[Arrival]) -> Mapping[str, int]:
    return collections.Counter(to for copy in arrivals for to in set(copy.recipients))


def _by_id(items: Iterable[T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(item.id, []).append(item)
    return found


def _counts(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(collections.Counter(words).items()))
