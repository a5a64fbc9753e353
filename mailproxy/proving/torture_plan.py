"""
What a torture run does: everything that is submitted, and how each life of the service ends.

A plan follows from its seed alone. Where it can, it counts (answers, passings of a crash point) and
does not measure time; what cannot be planned is how much of the work a life gets done.
"""

from __future__ import annotations

import collections
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence

import attrs

from mailproxy.interfaces import CRASHPOINTS
from mailproxy.model import DEFAULT_TENANT
from mailproxy.proving.torture_tenants import TENANTS, domain

#: The accounts, and how many sessions each has: with one only, mail that is claimed has to wait.
ACCOUNTS = {"main": 4, "narrow": 1}

#: How often, of the posts, the client does not wait for the answer.
HANG_UPS = 0.04

#: Messages of one post: many that are small, some that are a batch.
SIZES = (1, 1, 2, 4, 4, 8)

#: Posts, and letters, of which one may be submitted once more.
REMEMBERED = 500

#: How many passings of a crash point a life may have at most.
PASSINGS = {
    "enqueue-commit": 5,
    "claim": 6,
    "intent": 8,
    "body-written": 12,
    "reply-read": 12,
    "outcome-commit": 8,
    "report-post": 4,
    "ack-commit": 3,
}

#: Seconds after which a life is killed that has not come to its crash point.
PATIENCE = 3.0

#: Every so many posts the first one comes again, which was sent long ago.
LONG_AGO = 12

#: Seconds after its birth in which a life that is not to reach its prime ends.
CHILDHOOD = 0.8


@attrs.frozen
class Mail:
    """A message: *version* is that of its content, which is in its recipients' addresses too."""

    id: str
    recipients: tuple[str, ...]
    account: str = "main"
    version: int = 1
    priority: int = 2
    tenant: str = DEFAULT_TENANT


@attrs.frozen
class Post:
    """
    One request of REST.

    :param bad: ids of elements besides, which have no sender and have to be refused.
    :param hang_up: whether it is made once before without waiting for the answer.
    """

    mails: tuple[Mail, ...]
    bad: tuple[str, ...] = ()
    hang_up: bool = False


@attrs.frozen
class Letter:
    """One message by SMTP."""

    mail: Mail


@attrs.frozen
class TakeBack:
    """Have messages removed."""

    ids: tuple[str, ...]


@attrs.frozen
class Await:
    """Wait until a copy of the message has arrived."""

    id: str


Step = Post | Letter | TakeBack | Await


@attrs.frozen
class Killed:
    """After so many *seconds* of service; *young*: of life, it may not serve yet."""

    seconds: float
    young: bool = False


@attrs.frozen
class Answered:
    """As soon as so many positive answers have been given."""

    count: int


@attrs.frozen
class Passed:
    """By itself, at that passing of a crash point."""

    point: str
    count: int = 1


End = Killed | Answered | Passed


@attrs.frozen
class Plan:
    """
    :param steps: what each submitter does, one after the other; submitters work side by side.
    :param tenants: the tenant of each of them; without any, all are of the default one.
    :param endless: whether they go on only as long as somebody kills; else each does all.
    :param ends: how the lives of the service end; after these, or when the time is over, it is
        left alone.
    :param others: the same for each further node.
    :param rate: messages that all submitters together submit in a second, when nothing stops them.
    :param patience: seconds after which a life is killed that does not come to its end by itself.
    """

    seed: int
    steps: tuple[Iterable[Step], ...]
    ends: Iterable[End] = ()
    others: tuple[Iterable[End], ...] = ()
    endless: bool = False
    rate: float = 30.0
    patience: float = PATIENCE
    tenants: tuple[str, ...] = ()


def make_plan(
    seed: int,
    every: tuple[float, float],
    rate: float,
    lives: int | None = None,
    patience: float = PATIENCE,
    nodes: int = 1,
) -> Plan:
    """
    The plan of a whole run, which goes on until its time is over.

    :param every: least and most seconds of service between two kills.
    :param lives: after which it ends as well.
    :param patience: see :class:`Plan`.
    :param nodes: processes of the service.
    """
    work = [
        (steps, tenant)
        for n in range(nodes)
        for t, tenant in enumerate(TENANTS)
        for which, many in (("rest", _posts), ("smtp", _letters))
        for steps in [many(_rng(seed, which, n, t), f"{n}." if n else "", tenant)]
    ]
    steps, tenants = zip(*work, strict=True)
    ends, *others = (
        itertools.islice(_ends(random.Random(f"{seed} lives{n or ''}"), every), lives)
        for n in range(nodes)
    )
    return Plan(
        seed,
        steps,
        ends,
        tuple(others),
        endless=True,
        rate=rate,
        patience=patience,
        tenants=tenants,
    )


def _rng(seed: int, which: str, node: int, tenant: int) -> random.Random:
    return random.Random(f"{seed} {which}{node or ''}" + f" {tenant}" * bool(tenant))


def _ends(rng: random.Random, every: tuple[float, float]) -> Iterator[End]:
    """Every crash point in turn, each time in another order; between two of them other ends."""
    while True:
        for point in rng.sample(CRASHPOINTS, len(CRASHPOINTS)):
            # The first reports of a life are the empty ones of the start, one for each tenant.
            least = 1 + len(TENANTS) if point == "report-post" else 1
            yield Passed(point, rng.randint(least, PASSINGS[point]))
            draw = rng.random()
            if draw < 0.15:
                yield Killed(rng.uniform(0.05, CHILDHOOD), young=True)
            elif draw < 0.4:
                yield Answered(rng.randint(1, 10))
            else:
                yield Killed(rng.uniform(*every))


def _posts(rng: random.Random, name: str = "", tenant: str = DEFAULT_TENANT) -> Iterator[Step]:
    """
    Posts, without end, and what is done about some of them later.

    :param name: makes their ids others than those of other posts of the tenant.
    """
    earlier: collections.deque[Post] = collections.deque(maxlen=REMEMBERED)
    for number in itertools.count(1):
        draw = rng.random()
        if draw < 0.04:
            yield from _second_thoughts(rng, f"{name}{number}", tenant)
        elif number % LONG_AGO == 0 and earlier:
            yield earlier[0]
        elif draw < 0.12 and earlier:
            yield rng.choice(earlier)
        else:
            post = _post(rng, f"{name}{number}", tenant)
            yield post
            earlier.append(post)


def _post(rng: random.Random, number: str, tenant: str) -> Post:
    mails = []
    for n in range(rng.choice(SIZES)):
        id = f"r{number}-{n}"
        draw = rng.random()
        words = [""]
        if draw < 0.03:
            words = ["reject"]
        elif draw < 0.06:
            words = ["", "reject"]
        elif draw < 0.10:
            words = ["later"]
        elif draw < 0.13:
            words = ["grey"]
        elif draw < 0.25:
            words = ["", "second"]
        priority = rng.choice((0, 1, 2, 2, 3))
        mails.append(mail(id, words=words, priority=priority, tenant=tenant))
    bad = (f"bad{number}",) if rng.random() < 0.03 else ()
    return Post(tuple(mails), bad, rng.random() < HANG_UPS)


def _second_thoughts(rng: random.Random, number: str, tenant: str) -> Iterator[Step]:
    """Mail that waits for the only session of its account; some of it is changed or taken back."""
    mails = [mail(f"n{number}-{n}", "narrow", tenant=tenant) for n in range(6)]
    slow = mail(f"n{number}-s", "narrow", words=["slow"], tenant=tenant)
    changed = rng.sample(mails[2:], 2)
    gone = next(each for each in reversed(mails) if each not in changed)
    yield Post((slow, *mails))
    yield Post(tuple(revised(each) for each in changed))
    yield TakeBack((gone.id,))


def _letters(rng: random.Random, name: str = "", tenant: str = DEFAULT_TENANT) -> Iterator[Step]:
    earlier: collections.deque[Letter] = collections.deque(maxlen=REMEMBERED)
    for number in itertools.count(1):
        if earlier and rng.random() < 0.15:
            yield rng.choice(earlier)
        letter = Letter(mail(f"s{name}{number}", tenant=tenant))
        earlier.append(letter)
        yield letter


def mail(
    id: str,
    account: str = "main",
    words: Sequence[str] = ("",),
    version: int = 1,
    priority: int = 2,
    tenant: str = DEFAULT_TENANT,
) -> Mail:
    """A message to one recipient for each of *words*, which the sink understands where it can."""
    where = f"{id}.v{version}@{domain(tenant)}"
    recipients = tuple(f"{word or 'to'}+{where}" for word in words)
    return Mail(id, recipients, account, version, priority, tenant)


def revised(before: Mail) -> Mail:
    """The same message with another content."""
    version, priority, tenant = before.version + 1, before.priority, before.tenant
    return mail(before.id, before.account, version=version, priority=priority, tenant=tenant)
