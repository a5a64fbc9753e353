"""``/v1/messages/{id}/hold`` and its like: what an operator decides over one message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, json

from mailproxy.acts import Act, Operation
from mailproxy.api.answers import Answer, Refused, answer, error
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Yes
from mailproxy.api.typed import read_typed
from mailproxy.interfaces import IClock
from mailproxy.interfaces_acts import IActs
from mailproxy.states import MessageState

NOT_FOUND = error(404, "message not found")


class Why(Struct, kw_only=True):
    """Why it is done; may be left out."""

    reason: Annotated[
        Annotated[str, Meta(max_length=200)] | None,
        Meta(description="For the timeline: up to 200 characters."),
    ] = None


class End(StrEnum):
    SENT = "sent"
    FAILED = "failed"


class Closing(Why, kw_only=True):
    """What an uncertain message turned out to be."""

    end: Annotated[End, Meta(description="`sent` or `failed`.")]


class ActAnswer(Struct, kw_only=True):
    """How it stands with the message now."""

    ok: Yes = True
    tenant_id: str
    id: str
    act: Act
    changed: Annotated[bool, Meta(description="Whether this call changed anything.")]
    begun: Annotated[
        bool,
        Meta(
            description="A body had begun: its attempt comes to its own outcome, and the act is "
            "about what that leaves open."
        ),
    ]
    state: MessageState
    reason: Annotated[str, Meta(description="Why nothing was changed; empty if something was.")]


_ABOUT = {
    Act.HOLD: "Begin nothing of a message until it is released. Its age does not run meanwhile.",
    Act.RELEASE: "Let a held message go, whoever or whatever held it.",
    Act.RETRY: "Try a deferred message now. One that failed or expired is requeued.",
    Act.CANCEL: "End what has not been sent of a message. It is reported as cancelled.",
    Act.REQUEUE: "Send a message that failed or expired once more, under its Message-ID, to those "
    "who have not accepted it; those who may have are left out.",
    Act.RESEND: "Send a message once more to those of whom nobody knows whether they accepted it. "
    "They may get a second copy.",
}
_CLOSE = (
    "End the uncertain recipients of a message as sent or as failed. What is found out is reported."
)

_why = json.Decoder(Why)
_closing = json.Decoder(Closing)


def operation(call: Call, act: Act, now: float, why: Why) -> Operation:
    return Operation(act, now, call.caller.who, why.reason or "")


class MessageActs:
    """Does what is asked to one message."""

    def __init__(self, store: IActs, clock: IClock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> Iterable[Route]:
        one = "/v1/messages/<path:id>"
        for act, about in _ABOUT.items():
            doc = Doc(about, takes=Why, bodiless=True, gives=ActAnswer)
            yield Route("POST", f"{one}/{act}", self._endpoint(act), Need.CONTROL, doc)
        doc = Doc(_CLOSE, takes=Closing, gives=ActAnswer, example={"end": "sent"})
        yield Route("POST", f"{one}/close", self.close, Need.CONTROL, doc)

    def _endpoint(self, act: Act) -> Callable[[Call], Awaitable[Answer]]:
        async def endpoint(call: Call) -> Answer:
            return await self._act(call, act, read_typed(call, _why, absent=Why()))

        return endpoint

    async def close(self, call: Call) -> Answer:
        closing = read_typed(call, _closing)
        act = Act.CLOSE_AS_SENT if closing.end is End.SENT else Act.CLOSE_AS_FAILED
        return await self._act(call, act, closing)

    async def _act(self, call: Call, act: Act, why: Why) -> Answer:
        asked = operation(call, act, self._clock.now(), why)
        found = await self._store.act(call.home(), call.path["id"], asked)
        if found is None:
            raise Refused(NOT_FOUND)
        return answer(
            ActAnswer(
                tenant_id=found.tenant_id,
                id=found.id,
                act=act,
                changed=found.changed,
                begun=found.begun,
                state=MessageState(found.state),
                reason=found.reason,
            )
        )
