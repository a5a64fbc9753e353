"""``/v1/batches/{code}/hold``, ``/v1/accounts/{id}/hold`` and their like."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, json

from mailproxy.acts import Act, Group
from mailproxy.api.acts import End, Why, operation
from mailproxy.api.answers import Answer, Problem, Refused, answer, error, invalid
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Unix, Yes
from mailproxy.api.typed import read_typed
from mailproxy.interfaces import IClock
from mailproxy.interfaces_acts import IActs

NOT_FOUND = error(404, "account not found")

#: The last second of the year 9999.
LATEST = 253_402_300_799

_control = re.compile(r"[\x00-\x1f\x7f]").search


class Releasing(Why, kw_only=True):
    """What is to be let go."""

    singly: Annotated[
        bool,
        Meta(description="Also the messages that are held one by one, whatever held them."),
    ] = False


class Requeueing(Why, kw_only=True):
    """What is to be sent once more."""

    since: Annotated[
        Annotated[float, Meta(ge=0, le=LATEST)] | None,
        Meta(description="Only what ended at or after this Unix time."),
    ] = None


class ClosingAll(Why, kw_only=True):
    """What the uncertain messages turned out to be."""

    end: Annotated[End, Meta(description="`sent` or `failed`.")]


class GroupAnswer(Struct, kw_only=True):
    """How it stands with the batch or the account now."""

    ok: Yes = True
    tenant_id: str
    batch_code: str | UnsetType = UNSET
    account_id: str | UnsetType = UNSET
    act: Act
    changed: Annotated[bool, Meta(description="Whether this call changed anything, or began to.")]
    held: Annotated[bool, Meta(description="Whether it is held now; new mail waits as well then.")]
    waiting: Annotated[
        int, Meta(description="Messages that are not final and not under way, as far as known.")
    ]
    in_flight: Annotated[
        int, Meta(description="Messages whose body had begun: these come to their own outcome.")
    ]
    reason: Annotated[str, Meta(description="Why nothing was changed; empty if something was.")]


class ShownHold(Struct, kw_only=True):
    """A batch or an account that is held."""

    tenant_id: str
    batch_code: str | UnsetType = UNSET
    account_id: str | UnsetType = UNSET
    since: Unix
    reason: str


class Holds(Struct, kw_only=True):
    """What is held as a whole."""

    ok: Yes = True
    holds: list[ShownHold]


_why = json.Decoder(Why)
_releasing = json.Decoder(Releasing)
_requeueing = json.Decoder(Requeueing)
_closing = json.Decoder(ClosingAll)

_ABOUT = {
    Act.HOLD: "Begin nothing of {a}. After the answer no further body is begun; what is new "
    "waits as well. Survives a restart; the age limit does not run.",
    Act.RELEASE: "Let {a} that is held go. Messages that are held one by one stay so, unless "
    "`singly` says otherwise.",
    Act.RETRY: "Try what is deferred of {a} now, in the background.",
    Act.CANCEL: "End what is open of {a}. After the answer none of it is begun; what is new is "
    "sent. It ends, and is reported, in the background.",
    Act.REQUEUE: "Send what failed or expired of {a} once more, in the background.",
    Act.RESEND: "Send the uncertain messages of {a} once more, in the background. Recipients may "
    "get a second copy.",
}
_TAKES: dict[Act, type[Why]] = {Act.RELEASE: Releasing, Act.REQUEUE: Requeueing}
_HOLDS = "The batches and accounts that are held as a whole."
_CLOSE = "End the uncertain messages of {a} as sent or as failed, in the background."


class GroupActs:
    """Does what is asked to a batch or an account."""

    def __init__(self, store: IActs, clock: IClock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/v1/holds", self.holds, Need.READ, Doc(_HOLDS, gives=Holds))
        for path, a, group_of in (
            ("/v1/batches/<path:code>", "a batch", _batch),
            ("/v1/accounts/<path:id>", "the mail of an account", _account),
        ):
            for act, about in _ABOUT.items():
                takes = _TAKES.get(act, Why)
                text = about.format(a=a)
                doc = Doc(text, takes=takes, bodiless=True, gives=GroupAnswer)
                endpoint = self._endpoint(act, group_of)
                yield Route("POST", f"{path}/{act}", endpoint, Need.CONTROL, doc)
            text = _CLOSE.format(a=a)
            doc = Doc(text, takes=ClosingAll, gives=GroupAnswer, example={"end": "failed"})
            yield Route("POST", f"{path}/close", self._close(group_of), Need.CONTROL, doc)

    def _endpoint(
        self, act: Act, group_of: Callable[[Call], Group]
    ) -> Callable[[Call], Awaitable[Answer]]:
        async def endpoint(call: Call) -> Answer:
            if act is Act.RELEASE:
                releasing = read_typed(call, _releasing, absent=Releasing())
                return await self._act(call, act, group_of, releasing, singly=releasing.singly)
            if act is Act.REQUEUE:
                requeueing = read_typed(call, _requeueing, absent=Requeueing())
                return await self._act(call, act, group_of, requeueing, since=requeueing.since)
            return await self._act(call, act, group_of, read_typed(call, _why, absent=Why()))

        return endpoint

    def _close(self, group_of: Callable[[Call], Group]) -> Callable[[Call], Awaitable[Answer]]:
        async def endpoint(call: Call) -> Answer:
            closing = read_typed(call, _closing)
            act = Act.CLOSE_AS_SENT if closing.end is End.SENT else Act.CLOSE_AS_FAILED
            return await self._act(call, act, group_of, closing)

        return endpoint

    async def _act(
        self,
        call: Call,
        act: Act,
        group_of: Callable[[Call], Group],
        why: Why,
        *,
        since: float | None = None,
        singly: bool = False,
    ) -> Answer:
        group = group_of(call)
        asked = operation(call, act, self._clock.now(), why)
        found = await self._store.act_on_all(group, asked, since=since, singly=singly)
        if found is None:
            raise Refused(NOT_FOUND)
        return answer(
            GroupAnswer(
                tenant_id=group.tenant_id,
                batch_code=UNSET if group.batch is None else group.batch,
                account_id=UNSET if group.account_id is None else group.account_id,
                act=act,
                changed=found.changed,
                held=found.held,
                waiting=found.waiting,
                in_flight=found.in_flight,
                reason=found.reason,
            )
        )

    async def holds(self, call: Call) -> Answer:
        return answer(
            Holds(
                holds=[
                    ShownHold(
                        tenant_id=each.group.tenant_id,
                        batch_code=UNSET if each.group.batch is None else each.group.batch,
                        account_id=UNSET
                        if each.group.account_id is None
                        else each.group.account_id,
                        since=int(each.since),
                        reason=each.reason,
                    )
                    for each in await self._store.holds(call.scope())
                ]
            )
        )


def _batch(call: Call) -> Group:
    code = call.path["code"]
    if len(code) > 64 or _control(code) or code == "*":
        problem = "expected at most 64 characters of text"
        raise invalid([Problem(("path", "code"), problem)])
    return Group(call.home(), batch=code)


def _account(call: Call) -> Group:
    return Group(call.home(), account_id=call.path["id"])
