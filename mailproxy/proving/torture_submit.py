"""Those who submit: each does its steps, one after the other, until each has a positive answer."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import attrs

from mailproxy.proving.children import Pause, Stopped
from mailproxy.proving.torture_client import (
    Api,
    Door,
    NoAnswer,
    Unexpected,
    bad_elements,
    element,
    submit,
)
from mailproxy.proving.torture_enrol import Key, Keys
from mailproxy.proving.torture_ledger import Accepted, Claims, TakenBack
from mailproxy.proving.torture_plan import Await, Letter, Mail, Post, Step, TakeBack
from mailproxy.proving.torture_tenants import named

ADD = "/commands/add-messages?verbose=1"
DELETE = "/commands/delete-messages"

#: Seconds after an answer that did not come.
AGAIN = 0.05


@attrs.define
class Desk:
    """
    What the submitters share: where the service is, and what it has answered.

    :param arrived: whether a copy of what the ledgers call so has arrived.
    :ivar keys: of those who are asked who they are.
    :ivar lost: requests whose answer did not come.
    """

    doors: Sequence[Door]
    arrived: Callable[[str], bool]
    pause: Pause
    claims: Claims = attrs.Factory(Claims)
    lost: int = 0
    hung_up: int = 0
    keys: Keys = attrs.Factory(lambda desk: Keys(desk.doors, desk.pause), takes_self=True)
    _lock: threading.Lock = attrs.Factory(threading.Lock)

    def accept(self, door: Door, mails: Sequence[tuple[Mail, str]], via: str, sure: bool) -> None:
        """Write down that these were accepted there, with their verdicts."""
        with self._lock:
            for mail, verdict in mails:
                id = named(mail.tenant, mail.id)
                new = Accepted(id, mail.version, mail.recipients, verdict, via, sure)
                self.claims.accepted.append(new)
        door.answered()

    def accepted_ids(self) -> Collection[str]:
        with self._lock:
            return {each.id for each in self.claims.accepted} - {
                each.id for each in self.claims.taken_back
            }

    def lose(self) -> None:
        with self._lock:
            self.lost += 1


class Submitter(threading.Thread):
    """
    :param rate: messages a second, as long as the service keeps up.
    :param enough: asked before each step whether the rest is left out.
    :param tenant: whose key it gets first; None: it has the token that all doors open to.
    :ivar failure: why it ended before its time, if it did.
    """

    def __init__(
        self,
        name: str,
        desk: Desk,
        steps: Iterable[Step],
        rate: float,
        enough: Callable[[], bool] = lambda: False,
        tenant: str | None = None,
    ) -> None:
        super().__init__(daemon=True, name=name)
        self._desk = desk
        self._steps = steps
        self._rate = rate
        self._enough = enough
        self._tenant = tenant
        self._key: Key | None = None
        self._rng = random.Random(name)
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            if self._tenant is not None:
                self._key = self._desk.keys.of(self._tenant, self._ask)
            start, done = time.monotonic(), 0
            for step in self._steps:
                if self._enough():
                    break
                done += self._do(step)
                self._desk.pause.pause(start + done / self._rate - time.monotonic())
        except Stopped:
            pass
        except Exception as error:
            self.failure = error

    def _do(self, step: Step) -> int:
        """Do one step. :return: how many messages that were."""
        match step:
            case Post():
                self._post(step)
                return len(step.mails)
            case Letter():
                login = self._key.login if self._key is not None else None
                self._until_answered(
                    lambda door: submit(door.smtp_port, step.mail, login), self._letter(step)
                )
                return 1
            case TakeBack():
                self._until_answered(
                    lambda door: self._api(door).call("POST", DELETE, {"ids": list(step.ids)}),
                    lambda door, answer, sure: self._taken(step, answer, sure),
                )
            case Await():
                while not self._desk.arrived(self._named(step.id)):
                    self._desk.pause.pause(AGAIN / 5)
        return 0

    def _door(self) -> Door:
        """Any."""
        return self._rng.choice(self._desk.doors)

    def _api(self, door: Door) -> Api:
        return door.api if self._key is None else self._key.at(door.api)

    def _named(self, id: str) -> str:
        return id if self._tenant is None else named(self._tenant, id)

    def _ask(self, ask: Callable[[Door], Any]) -> Any:
        """The answer, when there is one."""
        answers: list[Any] = []
        self._until_answered(ask, lambda door, answer, sure: answers.append(answer))
        return answers[0]

    def _until_answered(
        self,
        ask: Callable[[Door], Any],
        then: Callable[[Door, Any, bool], None],
        sure: bool = True,
    ) -> None:
        """
        Ask until an answer comes, each time at any door.

        :param then: is told where it came from, the answer, and whether no earlier one was lost.
        """
        while True:
            door = self._door()
            try:
                answer = ask(door)
            except NoAnswer as error:
                if not error.refused:
                    sure = False
                    self._desk.lose()
                self._desk.pause.pause(AGAIN)
            else:
                then(door, answer, sure)
                return

    def _post(self, step: Post) -> None:
        body = {"messages": [*map(element, step.mails), *bad_elements(step.bad)]}
        if step.hang_up:
            self._desk.hung_up += 1
            self._api(self._door()).hang_up(ADD, body)
        self._until_answered(
            lambda door: self._api(door).call("POST", ADD, body),
            lambda door, answer, sure: self._posted(door, step, answer, sure),
            not step.hang_up,
        )

    def _posted(self, door: Door, step: Post, answer: Any, sure: bool) -> None:
        states = {each["id"]: each["state"] for each in answer["items"]}
        if set(states) != {each.id for each in step.mails} | set(step.bad):
            raise Unexpected(f"not one verdict for each message: {answer}")
        for id in step.bad:
            if states[id] != "rejected":
                raise Unexpected(f"{id} has no sender, and was {states[id]}")
        wrong = {each.id for each in step.mails if states[each.id] == "rejected"}
        if wrong:
            raise Unexpected(f"refused though right: {answer}")
        self._desk.claims.refused.update(map(self._named, step.bad))
        self._desk.accept(door, [(each, states[each.id]) for each in step.mails], "rest", sure)

    def _letter(self, step: Letter) -> Callable[[Door, Any, bool], None]:
        return lambda door, _, sure: self._desk.accept(
            door, [(step.mail, "accepted")], "smtp", sure
        )

    def _taken(self, step: TakeBack, answer: Any, sure: bool) -> None:
        now = time.time()
        stay = {each["id"] for each in answer.get("detail", ())}
        gone = set(step.ids) - stay
        if sure and gone & set(answer["not_found"]):
            raise Unexpected(f"accepted, and not found when it was to be removed: {answer}")
        for id in sorted(gone):
            # Where nobody knows it any more, the answer that told of its removal was lost.
            self._desk.claims.taken_back.append(
                TakenBack(self._named(id), sure=id not in answer["not_found"], at=now)
            )
