"""
A client that times out, resubmits, edits, deletes, cleans up and re-posts what failed, also inside
report calls and on several connections at once; an upstream and an application with bad days.

After each act the answers and the list are what the contract says. At the end everybody is well
for some hours: then everything that was accepted has come to its end, the application knows it, and
nobody has a second copy that nothing excuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mailproxy.records import ReportItem
from tests.api.door import Connection, request
from tests.same_id.model import CONTENTS, SENT, UNSURE
from tests.same_id.world import Answer, World

IDS = ["m1", "m2", "m3"]
ELEMENTS = st.lists(
    st.tuples(st.sampled_from(IDS), st.sampled_from([*CONTENTS, "invalid"])),
    min_size=1,
    max_size=3,
)
ANSWERS = st.builds(
    Answer,
    st.frozensets(st.integers(0, 1), max_size=2),
    st.sampled_from(["ok", "ok", "later", "kept", "lost"]),
)
Elements = list[tuple[str, str]]

TARGET = "/commands/add-messages?verbose=1"


def element(id: str, text: str, n: int) -> dict[str, Any]:
    """The element as a client writes it; *n* varies what is not content."""
    if text == "invalid":
        return {"id": id, "from": None, "to": ["a@example.org"], "body": "no"}
    return {
        "id": id,
        "from": "sender@example.com",
        "to": list(CONTENTS[text]),
        "subject": "",
        "body": text,
        "priority": n % 4,
        "batch_code": "odd" if n % 2 else None,
    }


class SameIdMachine(RuleBasedStateMachine):
    """:ivar patient: whether the store can be made to wait, and to keep its answer back."""

    patient = False

    def open_store(self) -> Callable[..., Any]:
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.world = World(self.open_store())
        self.model = self.world.model
        self.last: Elements = []
        self.serial = 0
        self.suspended = self.stalled = False

    # Posting.

    def body(self, elements: Elements) -> dict[str, Any]:
        self.serial += 1
        self.last = elements
        return {"messages": [element(id, text, self.serial) for id, text in elements]}

    def expect(self, elements: Elements) -> list[set[str]]:
        """The model takes the elements; what each may count as."""
        return [
            {"rejected"} if text == "invalid" else self.model.post(id, text, self.world.now)
            for id, text in elements
        ]

    def check(self, connection: Connection, elements: Elements, expected: list[set[str]]) -> None:
        (reply,) = connection.replies
        rejected = sum(text == "invalid" for _, text in elements)
        if rejected == len(elements):
            assert reply.status == 400, reply
            assert len(reply.json["rejected"]) == rejected
            return
        assert reply.status == 200, reply
        assert reply.json["queued"] == len(elements) - rejected
        found = [(item["id"], item["state"]) for item in reply.json["items"]]
        for (id, state), (posted, _), right in zip(found, elements, expected, strict=True):
            assert id == posted
            assert state in right, (id, state, right)

    def submit(self, elements: Elements) -> None:
        """
        One request, answered at once.

        The model is told first: what is accepted may leave before the answer is read.
        """
        data = request("POST", TARGET, self.body(elements))
        expected = self.expect(elements)
        connection = self.world.door.connect()
        connection.send(data)
        self.check(connection, elements, expected)

    @rule(elements=ELEMENTS, answers=st.lists(ANSWERS, max_size=3))
    def post(self, elements: Elements, answers: list[Answer]) -> None:
        """One request; what it lets go meets an upstream in some mood."""
        self.world.upstream.answers = answers
        self.submit(elements)

    @precondition(lambda self: self.last)
    @rule()
    def resubmit(self) -> None:
        """The answer was lost, so the client says it again."""
        self.submit(self.last)

    @rule()
    def repost_failed(self) -> None:
        """What the application was told has failed is posted again as it was."""
        failed = [id for id, item in sorted(self.world.app.heard.items()) if item.error]
        if failed:
            self.submit([(id, self.model.letters[id].text) for id in failed])

    @rule(first=ELEMENTS, second=ELEMENTS, hang_up=st.booleans())
    def post_in_halves(self, first: Elements, second: Elements, hang_up: bool) -> None:
        """Two requests arrive in pieces; the one begun last is there first."""
        open_ones = [(self.world.door.connect(), elements) for elements in (first, second)]
        rests = []
        for connection, elements in open_ones:
            data = request("POST", TARGET, self.body(elements))
            connection.send(data[: len(data) // 2])
            rests.append(data[len(data) // 2 :])
        if hang_up:
            open_ones[0][0].transport.loseConnection()
        for (connection, elements), rest in reversed(list(zip(open_ones, rests, strict=True))):
            if connection.open:
                expected = self.expect(elements)
                connection.send(rest)
                self.check(connection, elements, expected)

    @precondition(lambda self: self.patient)
    @rule(requests=st.lists(ELEMENTS, min_size=2, max_size=3))
    def post_at_once(self, requests: list[Elements]) -> None:
        """Several connections wait for the store at the same time: it takes them in order."""
        store: Any = self.world.store
        store.stall("enqueue")
        self.stalled = True
        connections = []
        expected: dict[int, list[set[str]]] = {}
        for n, elements in enumerate(requests):
            connections.append(self.world.door.connect())
            connections[-1].send(request("POST", TARGET, self.body(elements)))
            if all(text == "invalid" for _, text in elements):
                expected[n] = [{"rejected"}] * len(elements)
            else:
                store.taken.append(partial(self.commit, n, elements, expected))
        store.resume()
        self.stalled = False
        for n, (connection, elements) in enumerate(zip(connections, requests, strict=True)):
            self.check(connection, elements, expected[n])

    def commit(self, n: int, elements: Elements, expected: dict[int, list[set[str]]]) -> None:
        """The n-th of several requests is committed now."""
        expected[n] = self.expect(elements)

    @precondition(lambda self: self.patient)
    @rule(elements=ELEMENTS, stored=st.booleans())
    def time_out(self, elements: Elements, stored: bool) -> None:
        """
        The store takes its time. Either it is done and the client has hung up; or the work is
        withdrawn, and 503 means that nothing of it was stored.
        """
        store: Any = self.world.store
        store.stall("enqueue", stored=stored)
        self.stalled = True
        connection = self.world.door.connect()
        data = request("POST", TARGET, self.body(elements))
        if stored:
            self.expect(elements)
            connection.send(data)
            connection.transport.loseConnection()
        else:
            connection.send(data)
            self.world.clock.advance(6.0)
            (reply,) = connection.replies
            some = any(text != "invalid" for _, text in elements)
            assert reply.status == (503 if some else 400), reply
        store.resume()
        self.stalled = False

    # Taking back.

    @rule(ids=st.lists(st.sampled_from([*IDS, "unknown"]), min_size=1, max_size=3, unique=True))
    def delete(self, ids: list[str]) -> None:
        """The answer says what is removed; that is not begun any more, and not reported."""
        expected = {id: self.model.removable(id) for id in ids}
        reply = self.world.door.call("POST", "/commands/delete-messages", {"ids": ids})
        assert reply.status == 200, reply
        said = reply.json
        removed = set(ids) - set(said["not_found"])
        assert said["removed"] == len(removed), said
        assert said.get("unauthorized", []) == [], said
        for id, right in expected.items():
            assert right is None or right == (id in removed), (id, said, self.model.letters)
        for id in removed:
            self.model.remove(id)

    @rule(age=st.sampled_from([0, 50, 100]))
    def clean_up(self, age: int) -> None:
        must, may = self.model.stale(self.world.now - age)
        reply = self.world.door.call(
            "POST", "/commands/cleanup-messages", {"older_than_seconds": age}
        )
        assert reply.status == 200, reply
        gone = {letter.id for letter in self.model.letters.values() if not letter.gone} - set(
            self.world.states()
        )
        assert must <= gone <= must | may, (must, may, gone)
        assert reply.json["removed"] == len(gone)
        for id in gone:
            self.model.bury(id)

    # The others' days.

    @rule(answers=st.lists(ANSWERS, min_size=1, max_size=3), hold=st.booleans())
    def upstream_mood(self, answers: list[Answer], hold: bool) -> None:
        self.world.upstream.answers = answers
        self.world.upstream.holding = hold

    @precondition(lambda self: self.world.upstream.held)
    @rule(data=st.data())
    def upstream_answers(self, data: st.DataObject) -> None:
        held = self.world.upstream.held
        self.world.upstream.go_on(data.draw(st.integers(0, len(held) - 1)))

    @rule(hold=st.booleans(), repost=st.booleans())
    def application_mood(self, hold: bool, repost: bool) -> None:
        """Whether it keeps calls open, and whether it posts what failed again inside them."""
        self.world.app.holding = hold
        self.world.app.inside = self.repost_inside if repost else None

    def repost_inside(self, items: Sequence[ReportItem]) -> None:
        again = [(item.id, self.model.letters[item.id].text) for item in items if item.error]
        if again and not self.stalled:
            self.submit(again)

    @precondition(lambda self: self.world.app.open)
    @rule(how=st.sampled_from(["taken", "taken", "error", "lost"]))
    def application_answers(self, how: str) -> None:
        self.world.app.answer(how)

    @rule(seconds=st.sampled_from([0.05, 1.0, 30.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule()
    def run_now(self) -> None:
        self.world.run_now()

    @rule()
    def suspend_or_activate(self) -> None:
        command = "activate" if self.suspended else "suspend"
        reply = self.world.door.call("POST", f"/commands/{command}?tenant_id=default")
        assert reply.status == 200, reply
        self.suspended = not self.suspended

    # What must be so after every act.

    @invariant()
    def nobody_complains(self) -> None:
        if hasattr(self, "world"):
            assert not self.model.problems, self.model.problems
            assert self.world.app.overlaps == 0, "two report calls at once"

    @invariant()
    def the_list_is_right(self) -> None:
        """Every id is listed once, in its state, until it is removed."""
        if hasattr(self, "world"):
            letters = self.model.letters.values()
            right = {each.id: each.state for each in letters if not each.gone}
            found = {id: state for id, state in self.world.states().items() if id in right}
            assert found == right, (found, right)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.drain()
            self.nobody_complains()
            self.the_list_is_right()
            self.everything_ended()
            self.everything_was_told()
        finally:
            self.world.stop()

    def drain(self) -> None:
        """Everybody is well from now on."""
        world = self.world
        world.upstream.answers, world.upstream.holding = [], False
        world.app.holding, world.app.inside = False, None
        if self.suspended:
            self.suspend_or_activate()
        while world.upstream.held:
            world.upstream.go_on()
        if world.app.open:
            world.app.answer("taken")
        world.settle()

    def everything_ended(self) -> None:
        for letter in self.model.letters.values():
            assert letter.gone or letter.ended or letter.state == "uncertain", letter
            for address, state in letter.states.items():
                copies = self.model.copies[letter.id, address]
                assert copies or letter.gone or state != SENT, (letter, copies)

    def everything_was_told(self) -> None:
        """I1: of each id that was accepted, the application knows how it ended."""
        app = self.world.app
        for letter in self.model.letters.values():
            if letter.state == "uncertain" and not letter.gone:
                assert letter.id in app.uncertain, letter
            elif letter.final and (letter.ended or not letter.gone):
                item = app.heard[letter.id]
                assert (item.sent_ts is not None) == (letter.state == "sent"), (item, letter)
                assert item.generation == letter.generation, (item, letter)
                assert letter.told, letter
            assert UNSURE not in letter.states.values() or letter.unsure
        for (id, generation), events in app.events.items():
            assert len(events) == 1, f"{id} generation {generation} ended as {events}"
