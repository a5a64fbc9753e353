"""
Reads what strace saw of the service: what was synced to disk before what left by the network.

``kill -9`` keeps the page cache and so proves nothing about the disk; the order of system calls
does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

#: The options that make the traces read here.
STRACE = ("-f", "-y", "-s", "100000", "-e", "trace=fdatasync,fsync,sendto,recvfrom,write,writev")

_CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)$", re.DOTALL)
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$", re.DOTALL)


@attrs.frozen
class Call:
    """One system call, at the place in the trace where it ended (sends: where it began)."""

    name: str
    text: str

    @property
    def sync(self) -> bool:
        return self.name in ("fdatasync", "fsync") and "= 0" in self.text


def calls(trace: Path) -> Iterator[Call]:
    """The calls of a trace in order."""
    open_calls: dict[tuple[str, str], str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        if (found := _RESUMED.match(line)) is not None:
            begun = open_calls.pop((found["pid"], found["name"]), "")
            if found["name"] not in ("sendto", "write", "writev"):
                yield Call(found["name"], begun + found["rest"])
        elif (found := _CALL.match(line)) is not None:
            if "<unfinished ...>" in found["rest"]:
                open_calls[found["pid"], found["name"]] = found["rest"]
                if found["name"] in ("sendto", "write", "writev"):
                    yield Call(found["name"], found["rest"])
            else:
                yield Call(found["name"], found["rest"])


#: What is read of a submission, and what is answered to it: by HTTP, and by SMTP where the message
#: has the field ``X-Traced``.
BY_HTTP = ("POST /commands/add-messages", "HTTP/1.1 200 ")
BY_SMTP = ("X-Traced:", "250 2.0.0 queued as")


def unsynced_answers(trace: Path, by: tuple[str, str] = BY_HTTP) -> tuple[int, int]:
    """
    Of the answers to submissions: how many there were, and before how many nothing was synced
    since the submission was read.
    """
    asked, answered = by
    answers = bad = 0
    synced_since: bool | None = None
    for call in calls(trace):
        if call.name == "recvfrom" and asked in call.text:
            synced_since = False
        elif call.sync and synced_since is not None:
            synced_since = True
        elif synced_since is not None and answered in call.text and _sends(call):
            answers += 1
            bad += not synced_since
            synced_since = None
    return answers, bad


#: Commits, each with a sync of its own, that lie between a submission and its body's first byte:
#: the message, the claim, the intent. Each begins only after the one before it has ended.
BEFORE_BODY = 3


def unsynced_bodies(trace: Path) -> tuple[int, int]:
    """
    Of the bodies that left by SMTP: how many there were, and before how many there were fewer
    syncs since the submission than must be. For messages sent one after the other.
    """
    bodies = bad = syncs = 0
    for call in calls(trace):
        if call.name == "recvfrom" and (BY_HTTP[0] in call.text or BY_SMTP[0] in call.text):
            syncs = 0
        elif call.sync:
            syncs += 1
        elif _sends(call) and "X-Genro-Mail-ID" in call.text:
            bodies += 1
            bad += syncs < BEFORE_BODY
    return bodies, bad


def _sends(call: Call) -> bool:
    return call.name in ("sendto", "write", "writev")
