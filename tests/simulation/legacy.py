"""
A program of a tenant that knows only SMTP: it hands mail in at the front door, keeps what was not
taken, and tries again.

Some of its messages say their id, and are the same message each time; the others get one from the
service each time they are taken, and what was taken without an answer may come twice.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import attrs

from tests.simulation.smtp import Answer, Habits, Letter, Login, Session, letter
from tests.simulation.story import Story
from tests.simulation.tenant import AFTERMATH, PATIENCE, Tenant
from tests.simulation.upstream import UNNAMED

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Where the first node listens for it; the others behind that.
SMTP_PORT = 2525

#: Networks of the programs.
PROGRAMS = "10.0.0.0/8"

#: How an answer begins that says that a message was taken, and under which id.
_TAKEN = "2.0.0 queued as "

#: Logins with a wrong password at most: after some more the door makes it wait for minutes.
_SLIPS = 2


@attrs.define
class Sheet:
    """A message of the program. :param taken: whether it knows that the service has it."""

    story: Story
    letter: Letter
    taken: bool = False

    @property
    def open(self) -> bool:
        """Whether it is to be handed in once more."""
        return not self.taken or self.story.unknown

    @property
    def given(self) -> bool:
        """Whether it says its id."""
        return not self.story.id.startswith(UNNAMED.decode())


class Legacy:
    """
    :param trusted: whether it needs no login.

    :ivar sheets: by the name that their text says.
    """

    def __init__(self, world: World, tenant: Tenant, rng: random.Random, trusted: bool) -> None:
        self._world = world
        self._tenant = tenant
        self.rng = rng
        self.trusted = trusted
        self.sheets: dict[str, Sheet] = {}
        self._slips = 0
        self._changes = 0

    @property
    def credential(self) -> dict[str, object]:
        return {
            "user": f"erp-{self._tenant.id}",
            "password": f"s3cret of the erp of {self._tenant.id}",
            "senders": [f"@{self._tenant.id}.sim"],
            "label": f"change {self._changes}",
        }

    async def register(self) -> None:
        """Get a credential, or have it changed: who is logged in has to log in again."""
        self._changes += 1
        if not self.trusted:
            reply = await self._tenant.insist("POST", "/v1/credentials", self.credential)
            assert reply.status == 200, reply

    def told(self, id: str, name: str) -> None:
        """The service has a message under *id* whose text says *name*."""
        sheet = self.sheets.get(name)
        if sheet is not None and not sheet.given and id not in self._tenant.stories:
            self._tenant.stories[id] = Story(id, sheet.story.versions, of=name)

    # -- its life -----------------------------------------------------------------------------

    async def act(self) -> None:
        """Do one thing."""
        rng, what = self.rng, self.rng.random()
        known = list(self.sheets.values())[-6:]
        given = [each for each in known if each.given]
        if what < 0.5 or not given:
            left = [each for each in known if each.open]
            new = [self._new() for _ in range(rng.choice((1, 1, 2)))]
            await self.hand_in([*left, *new])
        elif what < 0.65:
            await self.hand_in([rng.choice(given)])
        elif what < 0.75:
            await self.hand_in([self._changed(rng.choice(given))])
        elif what < 0.85:
            await self._tenant.take_back(rng.choice(given).story)
        elif what < 0.95:
            verb = rng.choice(("hold", "release", "retry", "cancel", "requeue", "resend", "close"))
            await self._tenant.act(rng.choice(given).story, verb)
        else:
            await self.register()

    async def settle(self) -> None:
        """Nothing goes wrong any more: hand in what was not taken, or may have been taken back."""
        while left := [each for each in self.sheets.values() if each.open]:
            if not await self.hand_in(left, calm=True):
                await self._world.sleep(self.rng.uniform(0.5, 2.0))

    def _new(self) -> Sheet:
        prefix = self.rng.choice(("s", UNNAMED.decode()))
        story = self._tenant.new_story(prefix)
        sheet = self.sheets[story.id] = Sheet(story, Letter("", (), b""))
        self._write(sheet)
        return sheet

    def _changed(self, sheet: Sheet) -> Sheet:
        sheet.story.versions.append(self._tenant.addresses(self.rng))
        self._write(sheet)
        return sheet

    def _write(self, sheet: Sheet) -> None:
        story = sheet.story
        recipients = story.versions[-1]
        sheet.letter = letter(
            self.rng, story.id, len(story.versions), self._tenant.id, recipients, sheet.given
        )
        story.letters.append(sheet.letter.data)
        sheet.taken = False

    # -- handing in ---------------------------------------------------------------------------

    def _login(self, calm: bool) -> Login | None:
        if self.trusted:
            return None
        rng, said = self.rng, self.credential
        password = str(said["password"])
        if not calm and self._slips < _SLIPS and rng.random() < 0.1:
            self._slips += 1
            password += "?"
        return Login(str(said["user"]), password, rng.random() < 0.5)

    async def hand_in(self, sheets: list[Sheet], *, calm: bool = False) -> int:
        """Hand them in on one connection. :return: how many were taken."""
        world, rng = self._world, self.rng
        for sheet in sheets:
            for span in sheet.story.taken_back:
                span[1] = min(span[1], world.line.now)
        habits = Habits(
            pipelining=rng.random() < 0.5,
            chunks=rng.random() < 0.3,
            leaves=not calm and rng.random() < 0.1,
            rude=rng.random() < 0.3,
        )
        before = [each.letter.written for each in sheets]
        session = Session(world.net, world.outside, SMTP_PORT + world.some_node(), PATIENCE)
        answers = await session.hand_in([each.letter for each in sheets], self._login(calm), habits)
        codes = [None if each is None else each.code for each in answers]
        world.line.note(f"{self._tenant.id} SMTP {[each.story.id for each in sheets]} {codes}")
        lost = False
        for sheet, answer, wrote in zip(sheets, answers, before, strict=False):
            if answer is not None:
                self._answered(sheet, answer)
            elif sheet.letter.written > wrote:
                lost = sheet.story.unknown = sheet.story.muddled = True
        if lost:
            await world.sleep(AFTERMATH)
        return sum(not each.open for each in sheets)

    def _answered(self, sheet: Sheet, answer: Answer) -> None:
        story, world = sheet.story, self._world
        if answer.code // 100 == 5:
            world.blame(f"{story.id} was refused by SMTP: {answer}")
        if answer.code != 250:
            return
        id = answer.text.removeprefix(_TAKEN)
        if id == answer.text or (sheet.given and id != story.id):
            world.blame(f"{story.id} was taken with {answer}")
        sheet.taken, story.unknown = True, False
        told = self._tenant.stories.setdefault(id, Story(id, story.versions, of=story.id))
        told.promised = True
