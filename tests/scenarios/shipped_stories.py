"""
The shipped scenarios in which somebody acts: changes a password, calls again, submits more.

Each takes its play, says what it is called by in :data:`STORIES`, and raises AssertionError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.scenarios.shipped import Play

#: Of an account whose login the sinks decide about.
OLD, NEW = ({"user": "relay", "password": word} for word in ("old-password", "new-password"))


def holds(fact: bool, what: object = "") -> None:
    """:raises AssertionError: *fact* is none."""
    if not fact:
        raise AssertionError(what)


async def mixed(play: Play) -> None:
    """One is delivered to, one later, one never; nobody twice."""
    to = [f"{word}@y.test" for word in ("now", "notnow", "never")]
    await play.send(to=to)
    await play.come_to("failed")
    await play.world.until(
        lambda: all(
            each["state"] in ("sent", "failed")
            for record in play.records().values()
            for each in record["recipients"]
        ),
        lambda: str(play.records()),
    )
    holds(play.copies() == {f"{play.name}-1": {to[0]: 1, to[1]: 1}}, play.copies())


async def login_refused(play: Play) -> None:
    """With the old password all waits, asked for a few times only; with the new one it leaves."""
    await play.send(3)
    await play.wait_with("53[45]")
    holds(play.sink.ledger.accepted == 0)
    await play.declare(**NEW)
    await play.come_to("sent", 3)
    holds(play.sink.house.counts.refused.get(535, 0) <= 6, play.sink.house.counts)


async def behind_tls(play: Play) -> None:
    """Have the account insist on TLS, and trust the sink."""
    await play.declare(ca_pem=play.sink.identity.certificate, tls_mode="starttls", host="localhost")


async def certificates(play: Play) -> None:
    """Each fault is named, the mail waits, and leaves behind TLS."""
    await behind_tls(play)
    await play.send()
    await play.come_to("sent")
    (copy,) = play.sink.ledger.facts(f"{play.name}-1")
    holds(bool(copy.tls) and play.sink.house.counts.connections >= 5, play.sink.house.counts)


async def injected(play: Play) -> None:
    """The connection with the injected words is given up, and nothing of them is believed."""
    await behind_tls(play)
    await play.send()
    await play.come_to("sent")
    (copy,) = play.sink.ledger.facts(f"{play.name}-1")
    holds(copy.connection >= 2 and bool(copy.tls), copy)


async def closed_when_idle(play: Play) -> None:
    """Each message after the pause goes over a new connection, in its first attempt."""
    for n in (1, 2, 3):
        await play.send(first=n)
        await play.come_to("sent", n)
        await play.world.sleep(0.4)
    holds([each["attempts"] for each in play.records().values()] == [1, 1, 1], play.records())
    holds(play.sink.house.counts.connections >= 3, play.sink.house.counts)


async def changed_password(play: Play) -> None:
    """What is sent after the change goes over a connection with the new password."""
    await play.send()
    await play.come_to("sent")
    await play.declare(**NEW)
    await play.send(first=2)
    await play.come_to("sent", 2)
    before, after = (play.sink.ledger.facts(f"{play.name}-{n}")[0] for n in (1, 2))
    holds(before.connection != after.connection, (before, after))
    holds(play.sink.house.counts.logins >= 2)


async def tokens(play: Play) -> None:
    """The mail waits while there is no token that is accepted, then leaves with one that is."""
    url = f"https://localhost:{play.sink.https_port}/token"
    auth = {"method": "xoauth2", "grant": "client_credentials", "token_url": url}
    fields = {"user": "relay", "auth": {**auth, "client_id": "me", "client_secret": "geheim"}}
    await play.declare(**fields)
    await play.send(3)
    await play.come_to("sent", 3)
    holds(play.sink.house.counts.refused.get(535) == 1, play.sink.house.counts)


async def told(play: Play, *, nudged: bool = False) -> None:
    """Wait until the application was told of the end of all of the play's mail."""
    receiver = play.sink.receiver

    def all_told() -> bool:
        return all(
            any(item.get("sent_ts") for call in receiver.kept(id) for item in call.items)
            for id in play.records()
        )

    while nudged and not all_told():
        await play.world.call("POST", "/commands/run-now", {}, play.tenant)
        await play.world.sleep(0.3)
    await play.world.until(all_told, lambda: str(receiver.counts()))


async def reports_come_late(play: Play) -> None:
    """No report is lost, however long there is nobody to tell."""
    await play.send(5)
    await play.come_to("sent", 5)
    await told(play)
    holds(play.sink.receiver.answered["reset"] >= 1, play.sink.receiver.counts())


async def reports_odd(play: Play) -> None:
    """Nothing but a clear yes is taken for one. What was in the call whose yes was torn is told
    twice, with the same ids; nothing else is."""
    await play.send(5)
    await play.come_to("sent", 5)
    await told(play, nudged=True)
    answers = play.sink.receiver.answered
    holds(all(answers[each] for each in ("301", "401", "429", "413")), answers)
    holds(set(play.sink.receiver.repeats().values()) <= {2}, play.sink.receiver.repeats())


async def reports_unanswered(play: Play) -> None:
    """Mail goes on while the application does not answer."""
    await play.send()
    await play.come_to("sent")
    await play.send(first=2)
    await play.come_to("sent", 2)
    await play.world.until(
        lambda: play.sink.receiver.answered["silence"] >= 1, lambda: "there is no call"
    )


async def reports_lost(play: Play) -> None:
    """What was lost can be told again, with the id it had."""
    await play.send()
    await play.come_to("sent")
    id = f"{play.name}-1"
    await play.world.until(lambda: bool(play.records()[id]["reported_ts"]), lambda: "not told")
    holds(not play.sink.receiver.kept(id), "it was kept")
    await play.world.call("POST", "/v1/reports/replay", {"ids": [id]}, play.tenant)
    await told(play)
    ends = [each for each in play.records()[id]["history"] if each["final"]]
    (call,) = play.sink.receiver.kept(id)
    holds(call.items[0]["event_id"] == ends[-1]["event_id"], (call, ends))


async def reports_slow(play: Play) -> None:
    """Mail is taken, and sent, while the answer to a report is open."""
    await play.send()
    await play.come_to("sent")
    await play.world.until(
        lambda: sum(play.sink.receiver.answered.values()) >= 1, lambda: "there is no call"
    )
    await play.send(50, first=2)
    await play.come_to("sent", 51)
    await told(play)


def attached(*names: str) -> list[dict[str, Any]]:
    return [{"filename": f"{name}.txt", "storage_path": f"{name}.txt"} for name in names]


async def attachments(play: Play) -> None:
    """What is gone fails, naming it; what gets better is sent; nobody is followed inward."""
    ends = {
        "plain": "sent", "gone": "failed", "busy": "sent", "short": "sent", "error": "sent",
        "endless": "failed", "inward": "",
    }  # fmt: skip
    for n, name in enumerate(ends, 1):
        await play.send(first=n, attachments=attached(name))

    def states() -> dict[str, str]:
        found = play.states()
        return {name: found.get(f"{play.name}-{n}", "") for n, name in enumerate(ends, 1)}

    for _ in range(60):
        if all(states()[name] == end for name, end in ends.items() if end):
            break
        await play.register()
        await play.world.sleep(0.5)
    holds(
        all(states()[name] == end for name, end in ends.items() if end),
        (states(), play.reason()),
    )
    holds("gone.txt" in play.reason() and "endless.txt" in play.reason(), play.reason())
    holds(states()["inward"] != "sent" and not play.copies()[f"{play.name}-7"], play.reason())


async def attachments_hang(play: Play) -> None:
    """Mail without attachments goes on; the one that waits for its attachment is not sent."""
    await play.send(attachments=attached("a"))
    await play.send(first=2)
    await play.world.until(
        lambda: play.states().get(f"{play.name}-2") == "sent", lambda: str(play.states())
    )
    holds(not play.sink.ledger.facts(f"{play.name}-1"))
    holds(play.states()[f"{play.name}-1"] != "sent")


#: By the scenario: what is done, the fields of the account, and whether the tenant is its own.
STORIES: dict[str, tuple[Callable[[Play], Awaitable[None]], dict[str, Any], bool]] = {
    "mixed-recipients": (mixed, {}, False),
    "login-refused": (login_refused, OLD, False),
    "bad-certificates": (certificates, {}, False),
    "injected-before-tls": (injected, {}, False),
    "closed-when-idle": (closed_when_idle, {}, False),
    "changed-password": (changed_password, OLD, False),
    "tokens-that-fail": (tokens, {}, False),
    "reports-refused-for-long": (reports_come_late, {}, True),
    "reports-odd-answers": (reports_odd, {}, True),
    "reports-unanswered": (reports_unanswered, {}, True),
    "reports-lost": (reports_lost, {}, True),
    "reports-answered-slowly": (reports_slow, {}, True),
    "attachments-that-fail": (attachments, {}, True),
    "attachments-that-hang": (attachments_hang, {}, True),
}
