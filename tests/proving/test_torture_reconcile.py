"""Three ledgers, made up: every way in which they can disagree is a breach of its promise."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.torture_ledger import (
    Accepted,
    Arrival,
    Call,
    Claims,
    Known,
    Ledgers,
    Said,
    TakenBack,
    Told,
    arrival,
    call,
    known,
)
from mailproxy.proving.torture_reconcile import CLOCKS, Breach, expected_end, plain, reconcile


def to(id: str, version: int = 1, word: str = "to") -> str:
    return f"{word}+{id}.v{version}@example.test"


def accepted(
    id: str = "m", version: int = 1, verdict: str = "queued", sure: bool = True
) -> Accepted:
    return Accepted(id, version, (to(id, version),), verdict, sure=sure)


def copy(n: int = 1, id: str = "m", version: int = 1, at: float = 100.0) -> Arrival:
    return Arrival(n, id, (to(id, version),), at)


def has(n: int = 1, id: str = "m", version: int = 1) -> Said:
    return Said(to(id, version), "sent", 250, f"2.6.0 Message kept as {n}")


def report(said: Said, id: str = "m", event: str = "e1", end: str = "sent") -> Told:
    return Told(id, event, 1, end, (said,))


def ledgers(
    answers: Iterable[Accepted] = (accepted(),),
    arrivals: Iterable[Arrival] = (copy(),),
    reports: Iterable[Told] = (report(has()),),
    state: str | None = "sent",
    uncertain: int = 0,
    taken: Iterable[TakenBack] = (),
    refused: Iterable[str] = (),
    reported: bool = True,
    beside: int = 0,
    at: float = 101.0,
) -> Ledgers:
    """The ledgers of one message ``m``, sent and reported unless something else is said."""
    claims = Claims(list(answers), list(taken), set(refused))
    shown = {} if state is None else {"m": Known("m", state, reported, uncertain)}
    return Ledgers(claims, tuple(arrivals), (Call(7, beside, tuple(reports), at),), shown)


def two_tenants() -> Ledgers:
    """The ledgers of a message ``m`` of the default tenant, and of another's of that id."""
    mine = ledgers()
    address = "to+m.v1@other.example.test"
    said = Said(address, "sent", 250, "2.6.0 Message kept as 2")
    told = Told("other/m", "e2", 1, "sent", (said,))
    claims = Claims([*mine.claims.accepted, Accepted("other/m", 1, (address,), "queued")])
    return Ledgers(
        claims,
        (*mine.arrivals, Arrival(2, "other/m", (address,), 100.0, "other")),
        (*mine.calls, Call(8, 0, (told,), 101.0, "other")),
        {**mine.known, "other/m": Known("other/m", "sent", True, tenant="other")},
    )


class ReconcileTests(SynchronousTestCase):
    def breaches(self, *given: object, **more: object) -> list[tuple[str, str]]:
        """The promises that are broken, with the ids."""
        return [(b.promise, b.id) for b in reconcile(ledgers(*given, **more)).breaches]  # type: ignore[arg-type]

    def test_agreement(self) -> None:
        """What was accepted, arrived and was reported once is no breach, and is counted."""
        found = reconcile(ledgers())
        self.assertEqual((), found.breaches)
        self.assertEqual(({"rest": 1}, {"sent": 1}), (found.accepted, found.ends))
        self.assertEqual((1, 0, 1, 0), (found.copies, found.second, found.finals, found.repeats))

    def test_nothing_at_all(self) -> None:
        """Empty ledgers agree."""
        self.assertEqual([], self.breaches((), (), (), None))

    def test_forgotten(self) -> None:
        """I1: an accepted id that the service does not know is lost."""
        self.assertEqual([("I1", "m")], self.breaches(arrivals=(), reports=(), state=None))

    def test_unended(self) -> None:
        """I1: one that has not come to an end is lost as well."""
        for state in ("queued", "deferred", "in_flight", "held", "uncertain"):
            found = self.breaches(arrivals=(), reports=(), state=state)
            self.assertEqual([("I1", "m")], found, state)

    def test_unreported(self) -> None:
        """I1: an end that the receiver was not told is a breach, whatever the service believes."""
        for reported in (True, False):
            self.assertEqual([("I1", "m")], self.breaches(reports=(), reported=reported))

    def test_a_deferral_is_no_end(self) -> None:
        """I1: an item that tells of no end does not report one."""
        waits = Told("m", "e0", 1, "", (Said(to("m"), "deferred", 451, "later"),))
        self.assertEqual([("I1", "m")], self.breaches(reports=(waits,)))
        self.assertEqual([], self.breaches(reports=(waits, report(has()))))

    def test_second_copy(self) -> None:
        """I2: each copy after the first needs an uncertain attempt of its own."""
        two, three = (copy(1), copy(2)), (copy(1), copy(2), copy(3))
        self.assertEqual([("I2", "m")], self.breaches(arrivals=two))
        self.assertEqual([], self.breaches(arrivals=two, uncertain=1))
        self.assertEqual([("I2", "m")], self.breaches(arrivals=three, uncertain=1))
        self.assertEqual(1, reconcile(ledgers(arrivals=two, uncertain=1)).second)

    def test_recipients_apart(self) -> None:
        """I2: copies for different recipients are no second ones."""
        other = to("m", word="second")
        answers = (Accepted("m", 1, (to("m"), other), "queued"),)
        arrivals = (copy(1), Arrival(2, "m", (other,), 101.0))
        said = (has(1), Said(other, "sent", 250, "2.6.0 Message kept as 2"))
        reports = (Told("m", "e1", 1, "sent", said),)
        self.assertEqual([], self.breaches(answers, arrivals, reports))
        self.assertEqual([("I4", "m"), ("I4", "m")], self.breaches(answers, arrivals[:1], reports))

    def test_repeat(self) -> None:
        """I2: an end may be told again, with the same event_id only."""
        again = (report(has()), report(has()))
        self.assertEqual([], self.breaches(reports=again))
        self.assertEqual(1, reconcile(ledgers(reports=again)).repeats)
        renamed = (report(has()), report(has(), event="e2"))
        self.assertEqual([("I2", "m")], self.breaches(reports=renamed))

    def test_generations(self) -> None:
        """Another generation has an end, and an event, of its own."""
        second = attrs.evolve(report(has(), event="e2"), generation=2)
        self.assertEqual([], self.breaches(reports=(report(has()), second)))

    def test_phantom(self) -> None:
        """I3: a copy or a report of an id that was never accepted is a breach."""
        self.assertEqual([("I3", "x")], self.breaches(arrivals=(copy(), copy(2, "x"))))
        failed = Told("x", "e2", 1, "failed", ())
        self.assertEqual([("I3", "x")], self.breaches(reports=(report(has()), failed)))

    def test_refused(self) -> None:
        """I3: so is a copy of what was refused."""
        found = reconcile(ledgers(arrivals=(copy(), copy(2, "bad")), refused=("bad",)))
        self.assertEqual([Breach("I3", "bad", "copy 2 is of an id that was refused")],
                         list(found.breaches))  # fmt: skip

    def test_nobody_asked_for(self) -> None:
        """I3: a copy to somebody who was never among the recipients is a breach."""
        strange = Arrival(2, "m", ("eve@example.test",), 100.0)
        self.assertEqual([("I3", "m")], self.breaches(arrivals=(copy(), strange)))

    def test_replaced(self) -> None:
        """I3: after `replaced` only the new content may arrive."""
        answers = (accepted(), accepted(version=2, verdict="replaced"))
        new = {"arrivals": (copy(version=2),), "reports": (report(has(version=2)),)}
        self.assertEqual([], self.breaches(answers, **new))
        self.assertEqual([("I3", "m"), ("I4", "m")], self.breaches(answers))

    def test_kept(self) -> None:
        """I3: after `kept` only the old one, if no answer before was lost."""
        new = {"arrivals": (copy(version=2),), "reports": (report(has(version=2)),)}
        kept = (accepted(), accepted(version=2, verdict="kept"))
        self.assertEqual([], self.breaches(kept))
        self.assertEqual([("I3", "m"), ("I4", "m")], self.breaches(kept, **new))
        unsure = (accepted(), accepted(version=2, verdict="kept", sure=False))
        self.assertEqual([], self.breaches(unsure))
        self.assertEqual([], self.breaches(unsure, **new))

    def test_repeated_later(self) -> None:
        """What the first answer said of a content stays true when it is submitted again."""
        answers = (
            accepted(),
            accepted(version=2, verdict="replaced"),
            accepted(version=2, verdict="duplicate"),
        )
        self.assertEqual([("I3", "m"), ("I4", "m")], self.breaches(answers))

    def test_taken_back(self) -> None:
        """I3: after the answer to its removal nothing arrives; and nothing has to be reported."""
        gone = (TakenBack("m", True, 100.0),)
        self.assertEqual([], self.breaches(arrivals=(), reports=(), state=None, taken=gone))
        for late, found in ((-1.0, []), (CLOCKS / 2, []), (1.0, [("I3", "m")])):
            arrivals = (copy(at=100.0 + late),)
            given = self.breaches(arrivals=arrivals, reports=(), state=None, taken=gone)
            self.assertEqual(found, given, late)

    def test_taken_back_and_reported(self) -> None:
        """I3: what was removed has no end to be reported, unless that was told before."""
        gone = (TakenBack("m", True, 200.0),)
        for at, found in ((150.0, []), (200.0 + CLOCKS / 2, []), (201.0, [("I3", "m")])):
            self.assertEqual(found, self.breaches(state=None, taken=gone, at=at), at)

    def test_told_again_when_taken_back(self) -> None:
        """I3: that it was told before is no reason to tell it after the removal."""
        gone = (TakenBack("m", True, 200.0),)
        made = ledgers(state=None, taken=gone)
        again = attrs.evolve(made.calls[0], n=8, at=300.0)
        found = reconcile(attrs.evolve(made, calls=(again, *made.calls))).breaches
        self.assertEqual([("I3", "m")], [(each.promise, each.id) for each in found])

    def test_perhaps_taken_back(self) -> None:
        """Where the answer to a removal was lost, it may have come first or last."""
        perhaps = (TakenBack("m", False, 50.0),)
        self.assertEqual([], self.breaches(taken=perhaps))
        self.assertEqual([], self.breaches(arrivals=(), reports=(), state=None, taken=perhaps))

    def test_sent_without_a_copy(self) -> None:
        """I4: `sent` without a copy is a lie; the report's reply names none either."""
        self.assertEqual([("I4", "m")] * 2, self.breaches(arrivals=()))

    def test_replies(self) -> None:
        """I4: who is said to have it has a positive reply that names its own copy."""
        for said in (
            Said(to("m"), "sent", None, ""),
            Said(to("m"), "sent", 451, "4.3.0 Message kept as 1"),
            Said(to("m"), "sent", 250, "2.6.0 ok"),
            has(2),
            has(3),
        ):
            arrivals = (copy(), copy(2, "other"))
            answers = (accepted(), accepted("other"))
            made = ledgers(answers, arrivals, (report(said),))
            found = [each for each in reconcile(made).breaches if each.id == "m"]
            self.assertEqual(["I4"], [each.promise for each in found], said)

    def test_told_as_sent(self) -> None:
        """I4: a message is told as sent only if everybody has it."""
        failed = Said(to("m"), "failed", 550, "5.1.1 No such user here")
        self.assertEqual([("I4", "m")], self.breaches(reports=(report(failed),)))
        self.assertEqual([("I4", "m")], self.breaches(reports=(Told("m", "e1", 1, "sent", ()),)))

    def test_two_ends_of_one_event(self) -> None:
        """I4: one event does not tell of two ends."""
        reports = (report(has()), report(has(), end="failed"))
        self.assertEqual([("I4", "m")], self.breaches(reports=reports))

    def test_an_end_that_no_reply_meant(self) -> None:
        """I4: it fails if, and only if, the upstream has refused somebody."""
        failed = (report(has(), end="failed"),)
        self.assertEqual([("I4", "m")], self.breaches(state="failed", reports=failed))
        refused = to("m", word="reject")
        self.assertEqual("failed", expected_end((to("m"), refused)))
        answers = (Accepted("m", 1, (refused,), "queued"),)
        said = Said(refused, "failed", 550, "5.1.1 No such user here")
        given = {"arrivals": (), "reports": (report(said, end="failed"),)}
        self.assertEqual([], self.breaches(answers, state="failed", **given))
        self.assertEqual([("I4", "m")], self.breaches(answers, state="expired", **given))

    def test_at_once(self) -> None:
        """C1: a call that comes while another is open is a breach, whatever it tells."""
        self.assertEqual([("C1", "call 7")], self.breaches(beside=1))

    def test_two_tenants(self) -> None:
        """I5: the same id of two tenants is two messages, and nothing of one is the other's."""
        made = two_tenants()
        found = reconcile(made)
        self.assertEqual((), found.breaches)
        self.assertEqual((("default", "other"), 1), (found.tenants, found.shared))
        first, second = made.calls
        told = attrs.evolve(first, items=(*first.items, *second.items))
        sent = attrs.evolve(made.arrivals[1], recipients=(to("m"),))
        for broken, promise, id in (
            ({"calls": (told, second)}, "I5", "other/m"),
            ({"calls": (told,), "overheard": ()}, "I5", "other/m"),
            ({"calls": (first,)}, "I1", "other/m"),
            ({"arrivals": (made.arrivals[0], sent)}, "I5", "other/m"),
            ({"arrivals": made.arrivals[:1]}, "I4", "other/m"),
            ({"known": {"m": made.known["m"]}}, "I1", "other/m"),
            ({"overheard": (("other/m", "default"),)}, "I5", "other/m"),
        ):
            breaches = reconcile(attrs.evolve(made, **broken)).breaches
            self.assertIn((promise, id), {(each.promise, each.id) for each in breaches}, broken)

    def test_an_event_of_two(self) -> None:
        """I5: what names no recipient is known by its event."""
        made = two_tenants()
        nobody = Told("m", "e1", 1, "failed", ())
        calls = (*made.calls, attrs.evolve(made.calls[1], n=9, items=(nobody,)))
        breaches = reconcile(attrs.evolve(made, calls=calls)).breaches
        self.assertIn(("I5", "m"), {(each.promise, each.id) for each in breaches})

    def test_lines(self) -> None:
        """Lines of the sink's ledgers, and what the API shows, are read as they are."""
        line = {"n": 3, "mail_id": "m", "recipients": [to("m")], "time": 5.0,
                "sender": "torture@example.test"}  # fmt: skip
        self.assertEqual(Arrival(3, "m", (to("m"),), 5.0), arrival(line))
        item = {
            "id": "m", "event_id": "e", "generation": 1, "sent_ts": None, "error_ts": 7,
            "recipients": [{"address": to("m"), "state": "failed", "code": 550, "reply": "no"}],
        }  # fmt: skip
        said = Said(to("m"), "failed", 550, "no")
        calls = call({"n": 4, "beside": 1, "items": [item], "time": 6.0, "path": "/sync"})
        self.assertEqual(Call(4, 1, (Told("m", "e", 1, "failed", (said,)),), 6.0), calls)
        steps = [{"kind": kind} for kind in ("intent", "uncertain", "resent", "uncertain")]
        record = {"id": "m", "state": "sent", "reported_ts": None, "tenant_id": "default"}
        self.assertEqual(Known("m", "sent", False, 2, 1), known(record, steps))


IDS = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def sound(draw: st.DrawFn) -> Ledgers:
    """What a service that keeps every promise may leave behind."""
    claims, shown = Claims(), {}
    arrivals: list[Arrival] = []
    reports: list[Told] = []
    for id in draw(st.sets(IDS, min_size=1)):
        version = draw(st.integers(1, 2))
        claims.accepted.append(accepted(id))
        if version == 2:
            claims.accepted.append(accepted(id, 2, "replaced"))
        uncertain = draw(st.integers(0, 2))
        for _ in range(draw(st.integers(1, 1 + uncertain))):
            arrivals.append(copy(len(arrivals) + 1, id, version))
        said = has(arrivals[-1].n, id, version)
        reports += [report(said, id, f"e-{id}")] * draw(st.integers(1, 3))
        shown[id] = Known(id, "sent", True, uncertain)
    order = draw(st.permutations(arrivals))
    calls = (Call(n, 0, (each,), 101.0) for n, each in enumerate(draw(st.permutations(reports)), 1))
    return Ledgers(claims, tuple(order), tuple(calls), shown)


class PlainTests(SynchronousTestCase):
    def test_whose_timeline_is_read(self) -> None:
        """All but what ended with its first attempt, and arrived once at most."""
        record = {"attempts": 1, "state": "sent"}
        self.assertTrue(plain(record, 1))
        self.assertTrue(plain(record | {"state": "failed"}, 0))
        self.assertFalse(plain(record, 2), "posted again, an id that failed counts anew")
        self.assertFalse(plain(record | {"attempts": 2}, 1))
        self.assertFalse(plain(record | {"state": "uncertain"}, 1))


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(sound())
    def test_sound(self, made: Ledgers) -> None:
        """Whatever the order, and whatever is repeated as it may be, is no breach."""
        self.assertEqual((), reconcile(made).breaches)

    @settings(max_examples=100, deadline=None)
    @given(sound(), st.data())
    def test_one_thing_wrong(self, made: Ledgers, data: st.DataObject) -> None:
        """From sound ledgers, one thing taken away or added is a breach, and of that message."""
        ways = ("forget", "unreport", "lose", "double", "rename", "phantom", "stale")
        way = data.draw(st.sampled_from(ways))
        id = data.draw(st.sampled_from(sorted(made.known)))
        arrivals, reports = list(made.arrivals), list(made.told)
        shown = dict(made.known)
        version = max(each.version for each in made.claims.accepted if each.id == id)
        new = len(arrivals) + 1
        if way == "forget":
            del shown[id]
        elif way == "unreport":
            reports = [each for each in reports if each.id != id]
        elif way == "lose":
            arrivals = [each for each in arrivals if each.id != id]
        elif way == "double":
            arrivals += (copy(new + n, id, version) for n in range(1 + shown[id].uncertain))
        elif way == "rename":
            first = next(each for each in reports if each.id == id)
            reports.append(attrs.evolve(first, event_id="another"))
        elif way == "phantom":
            id = "x"
            arrivals.append(copy(new, id))
        else:
            arrivals.append(copy(new, id, 3))
        broken = Ledgers(made.claims, tuple(arrivals), (Call(1, 0, tuple(reports), 101.0),), shown)
        found = reconcile(broken).breaches
        promise = {"forget": "I1", "unreport": "I1", "lose": "I4", "double": "I2", "rename": "I2",
                   "phantom": "I3", "stale": "I3"}[way]  # fmt: skip
        self.assertIn(promise, {each.promise for each in found}, way)
        self.assertEqual({id}, {each.id for each in found}, way)
