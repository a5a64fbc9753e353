"""The submitters, against answers that are made up: what they believe, and what they do again."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.children import NotProven, Pause
from mailproxy.proving.torture_client import Api, Door, NoAnswer
from mailproxy.proving.torture_ledger import Accepted, TakenBack
from mailproxy.proving.torture_plan import Await, Post, Step, TakeBack, mail
from mailproxy.proving.torture_submit import ADD, DELETE, Desk, Submitter
from mailproxy.proving.torture_tenants import TENANTS

M1, M2 = mail("m1"), mail("m2")


class ScriptedApi(Api):
    """Gives *answers* one after the other, and writes down what was asked."""

    def __init__(self, answers: Iterable[Any]) -> None:
        super().__init__(1, "token")
        object.__setattr__(self, "answers", iter(answers))
        object.__setattr__(self, "asked", [])

    def shown(self, token: str) -> Api:
        self.asked.append(("shown", token))  # type: ignore[attr-defined]
        return self

    def call(self, method: str, path: str, body: Any = None, patience: float = 1.0) -> Any:
        self.asked.append((path, body))  # type: ignore[attr-defined]
        answer = next(self.answers)  # type: ignore[attr-defined]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def hang_up(self, path: str, body: Any) -> None:
        self.asked.append(("hung up", body))  # type: ignore[attr-defined]


class Hurried(Pause):
    """Does not wait."""

    def pause(self, seconds: float) -> None:
        super().pause(0.0)


def verdicts(**states: str) -> dict[str, Any]:
    return {"items": [{"id": id, "state": state} for id, state in states.items()]}


class SubmitterTests(SynchronousTestCase):
    def submit(self, steps: Iterable[Step], answers: Iterable[Any], **more: Any) -> Submitter:
        """A submitter that has done *steps*, or has failed."""
        self.counts: list[int] = []
        self.stopped = threading.Event()
        api = ScriptedApi(answers)
        arrived = more.pop("arrived", lambda id: True)
        door = Door(api, 1, lambda: self.counts.append(1))
        self.desk = Desk((door,), arrived, Hurried(self.stopped))
        self.desk.keys.tenants = TENANTS
        self.asked: list[tuple[str, Any]] = api.asked  # type: ignore[attr-defined]
        made = Submitter("it", self.desk, tuple(steps), 1000.0, **more)
        made.run()
        return made

    def accepted(self) -> list[Accepted]:
        return self.desk.claims.accepted

    def test_a_batch(self) -> None:
        """What was answered is accepted, each with its verdict; one answer is counted."""
        made = self.submit([Post((M1, M2))], [verdicts(m1="queued", m2="kept")])
        self.assertIsNone(made.failure)
        self.assertEqual([("m1", "queued", True), ("m2", "kept", True)],
                         [(a.id, a.verdict, a.sure) for a in self.accepted()])  # fmt: skip
        self.assertEqual([1], self.counts)
        self.assertEqual([ADD], [path for path, _ in self.asked])

    def test_a_lost_answer(self) -> None:
        """What got no answer is submitted again, and its verdict is not sure any more."""
        self.submit([Post((M1,))], [NoAnswer("reset"), verdicts(m1="duplicate")])
        self.assertEqual([False], [each.sure for each in self.accepted()])
        self.assertEqual(1, self.desk.lost)
        first, second = self.asked
        self.assertEqual(first, second)

    def test_a_refusal(self) -> None:
        """What was refused for now is submitted again, and the verdict stays sure."""
        self.submit([Post((M1,))], [NoAnswer("503", refused=True), verdicts(m1="queued")])
        self.assertEqual([True], [each.sure for each in self.accepted()])
        self.assertEqual(0, self.desk.lost)

    def test_hung_up(self) -> None:
        """An answer that was not waited for may have been any."""
        self.submit([Post((M1,), hang_up=True)], [verdicts(m1="queued")])
        self.assertEqual(["hung up", ADD], [path for path, _ in self.asked])
        self.assertEqual([False], [each.sure for each in self.accepted()])

    def test_bad_elements(self) -> None:
        """An element that is refused as it has to be is written down as refused."""
        step = Post((M1,), bad=("b1",))
        self.submit([step], [verdicts(m1="queued", b1="rejected")])
        self.assertEqual({"b1"}, self.desk.claims.refused)
        self.assertEqual(["m1"], [each.id for each in self.accepted()])

    def test_wrong_answers(self) -> None:
        """A verdict that no right program gives ends the run, and nothing counts as accepted."""
        step = Post((M1,), bad=("b1",))
        for answer in (
            verdicts(m1="queued", b1="queued"),
            verdicts(m1="rejected", b1="rejected"),
            verdicts(m1="queued"),
            verdicts(m1="queued", b1="rejected", m3="queued"),
        ):
            made = self.submit([step, Post((M2,))], [answer])
            self.assertIsInstance(made.failure, NotProven, answer)
            self.assertEqual([], self.accepted(), answer)

    def test_taken_back(self) -> None:
        """What an answer says is removed is; what stays, stays."""
        answer = {"removed": 1, "not_found": ["m2"], "detail": [{"id": "m2", "state": "sent"}]}
        self.submit([TakeBack(("m1", "m2"))], [answer])
        (taken,) = self.desk.claims.taken_back
        self.assertEqual(TakenBack("m1", True, taken.at), taken)
        self.assertEqual([(DELETE, {"ids": ["m1", "m2"]})], self.asked)

    def test_perhaps_taken_back(self) -> None:
        """What nobody knows after a lost answer has been removed at some time before."""
        gone = {"removed": 0, "not_found": ["m1"]}
        self.submit([TakeBack(("m1",))], [NoAnswer("reset"), gone])
        self.assertEqual([False], [each.sure for each in self.desk.claims.taken_back])

    def test_lost_when_taken_back(self) -> None:
        """What is not found, where every answer came, was accepted and lost."""
        gone = {"removed": 0, "not_found": ["m1"]}
        self.assertIsInstance(self.submit([TakeBack(("m1",))], [gone]).failure, NotProven)

    def test_whose_key(self) -> None:
        """Each tenant has what is its own before any mail; in the ledgers its ids are its own."""
        told = [
            {"api_key": "k1"}, NoAnswer("reset"), {"api_key": "k2"}, {}, {}, {},
        ]  # fmt: skip
        answers = [*told, verdicts(m1="queued", b1="rejected"), {"not_found": []}]
        step = Post((mail("m1", tenant="other"),), bad=("b1",))
        made = self.submit([step, TakeBack(("m1",))], answers, tenant="other")
        self.assertIsNone(made.failure)
        wanted = ["/v1/tenants/default/keys", "/tenant", "/tenant", "/account", "/account"]
        self.assertEqual(
            [*wanted, "/v1/credentials", "shown", ADD, "shown", DELETE],
            [path for path, _ in self.asked],
        )
        self.assertIn(("shown", "k2"), self.asked)
        self.assertEqual(["other/m1"], [each.id for each in self.accepted()])
        self.assertEqual({"other/b1"}, self.desk.claims.refused)
        self.assertEqual(["other/m1"], [each.id for each in self.desk.claims.taken_back])
        self.assertEqual("torture@other.example.test", self.asked[-3][1]["messages"][0]["from"])

    def test_awaits(self) -> None:
        """It goes on when the copy it waits for is there."""
        looks = iter([False, False, True])
        step: list[Step] = [Await("m1"), Post((M1,))]
        self.submit(step, [verdicts(m1="queued")], arrived=lambda id: next(looks))
        self.assertEqual(["m1"], [each.id for each in self.accepted()])

    def test_enough(self) -> None:
        """It stops before a step when there is enough; what was begun is done."""
        left = iter([False, True])
        steps = [Post((M1,)), Post((M2,))]
        self.submit(steps, [verdicts(m1="queued")], enough=lambda: next(left))
        self.assertEqual(["m1"], [each.id for each in self.accepted()])

    def test_stopped(self) -> None:
        """Called off, it ends at once, and that is no failure."""

        def stop(id: str) -> bool:
            self.stopped.set()
            return False

        made = self.submit([Await("m1"), Post((M1,))], [], arrived=stop)
        self.assertIsNone(made.failure)
        self.assertEqual([], self.accepted())
