"""``/v1/destinations``: recipient domains that get no mail for now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from mailproxy.address import parse_mailbox
from mailproxy.api.answers import Answer, Problem, answer, invalid
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Unix, Yes
from mailproxy.errors import BadAddress
from mailproxy.interfaces import IClock
from mailproxy.interfaces_tenants import IRemoval


class Paused(Struct, kw_only=True):
    """A domain that a tenant's mail does not go to."""

    tenant_id: str
    domain: Annotated[str, Meta(description="In lower case, as A-labels.")]
    since: Unix


class Destinations(Struct, kw_only=True):
    """What is paused."""

    ok: Yes = True
    destinations: list[Paused]


class Changed(Struct, kw_only=True):
    """How it stands with a domain now."""

    ok: Yes = True
    tenant_id: str
    domain: Annotated[str, Meta(description="In lower case, as A-labels.")]
    paused: bool
    changed: Annotated[bool, Meta(description="Whether that is new.")]


_LIST = Doc("The recipient domains that are paused.", gives=Destinations)
_PAUSE = Doc(
    about="Send nothing to recipients in a domain. After the answer no further body is begun for "
    "them; other recipients of the same message are served. The age limit does not run meanwhile.",
    gives=Changed,
)
_RESUME = Doc("Send again to recipients in a domain.", gives=Changed)


class DestinationCommands:
    """Pauses and resumes domains of recipients."""

    def __init__(self, store: IRemoval, clock: IClock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> Iterable[Route]:
        one = "/v1/destinations/<domain>"
        yield Route("GET", "/v1/destinations", self.all, Need.READ, _LIST)
        yield Route("POST", f"{one}/pause", self.pause, Need.CONTROL, _PAUSE)
        yield Route("POST", f"{one}/resume", self.resume, Need.CONTROL, _RESUME)

    async def all(self, call: Call) -> Answer:
        found = await self._store.destinations(call.scope())
        return answer(
            Destinations(
                destinations=[
                    Paused(tenant_id=each.tenant_id, domain=each.domain, since=int(each.since))
                    for each in found
                ]
            )
        )

    async def pause(self, call: Call) -> Answer:
        tenant_id, domain = call.home(), _domain(call)
        new = await self._store.pause_destination(tenant_id, domain, self._clock.now())
        return answer(Changed(tenant_id=tenant_id, domain=domain, paused=True, changed=new))

    async def resume(self, call: Call) -> Answer:
        tenant_id, domain = call.home(), _domain(call)
        new = await self._store.resume_destination(tenant_id, domain, self._clock.now())
        return answer(Changed(tenant_id=tenant_id, domain=domain, paused=False, changed=new))


def _domain(call: Call) -> str:
    """The domain in the path, as recipients' domains are stored."""
    text = call.path["domain"]
    try:
        if any(character in text for character in " ()<>,@"):
            raise BadAddress("not a domain")
        return parse_mailbox(f"x@{text}").domain
    except BadAddress:
        problem = "expected a host name, or an address literal in brackets"
        raise invalid([Problem(("path", "domain"), problem)]) from None
