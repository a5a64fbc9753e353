"""
The certificate of a torture run: one page, and the same as JSON.

Pure.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import attrs

from mailproxy.proving.torture_reconcile import PROMISES, Findings

#: The order in which ways to be killed are named, before the crash points.
FROM_OUTSIDE = ("at random", "after an answer", "at the start")

#: Breaches that are listed on the page; all are in the JSON.
LISTED = 20

WIDTH = 96
_INDENT = 20

SCOPE = (
    "kill -9 ends the process and leaves what the system has taken in: this run says nothing of a "
    "loss of power. The upstream and the receiver were on this machine, and honest."
)


@attrs.frozen
class Certificate:
    """
    :param command: what makes this run again.
    :param place: where it was made: a line of text by its name.
    :param seconds: under kills; *quiet*: until then everything had come to its end.
    :param kills: how often, by what ended a life; *on_work*: of these, with unfinished work.
    :param lost: requests whose answer did not come.
    :param restarts: of the database's server, by the way it was stopped.
    """

    seed: int
    command: str
    place: Mapping[str, str]
    seconds: float
    quiet: float
    kills: Mapping[str, int]
    on_work: int
    lost: int
    findings: Findings
    restarts: Mapping[str, int] = attrs.Factory(dict)

    @property
    def passed(self) -> bool:
        return not self.findings.breaches

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        found = attrs.asdict(self.findings)
        return {
            "passed": self.passed,
            "seed": self.seed,
            "command": self.command,
            **self.place,
            "seconds": round(self.seconds, 3),
            "quiet_seconds": round(self.quiet, 3),
            "kills": dict(self.kills),
            "kills_on_work": self.on_work,
            "restarts": dict(self.restarts),
            "answers_lost": self.lost,
            **found,
            "breaches": [attrs.asdict(each) for each in self.findings.breaches],
            "scope": SCOPE,
        }

    def text(self) -> str:
        """The page."""
        title = "mailproxy torture: certificate"
        lines = [title, "=" * len(title), ""]
        for name, says in self._lines():
            first = f"{name:<{_INDENT}}"
            lines += textwrap.wrap(
                says, WIDTH, initial_indent=first, subsequent_indent=" " * _INDENT
            ) or [first.rstrip()]
        return "\n".join(lines) + "\n"

    def _lines(self) -> list[tuple[str, str]]:
        found = self.findings
        total = sum(self.kills.values())
        return [
            ("verdict", self._verdict()),
            ("run again with", self.command),
            *((name.replace("_", " "), says) for name, says in self.place.items()),
            ("time", f"{self.seconds / 60:.1f} minutes under kills, {self.quiet:.0f} s to the end"),
            ("kills", f"{total} (kill -9), {self.on_work} of them while mail was under way"),
            ("  from outside", _listed(self.kills, FROM_OUTSIDE)),
            (
                "  at crash points",
                _listed(self.kills, [each for each in self.kills if each not in FROM_OUTSIDE]),
            ),
            *self._restarted(),
            ("accepted", f"{sum(found.accepted.values())} ids: {_listed(found.accepted)}"),
            ("tenants", f"{', '.join(found.tenants)}: {found.shared} ids are of more than one"),
            ("ended", _listed(found.ends)),
            (
                "submitted again",
                f"{found.again} times though stored; {self.lost} answers had been lost",
            ),
            (
                "changed",
                f"{found.replaced} replaced, {found.taken_back} removed; {found.refused} refused",
            ),
            ("copies", f"{found.copies} at the upstream"),
            ("second copies", self._second()),
            (
                "reports",
                f"{found.finals} of an end, in {found.calls} calls; {self._repeats()}",
            ),
            *self._breaches(),
            ("scope", SCOPE),
        ]

    def _restarted(self) -> list[tuple[str, str]]:
        if not self.restarts:
            return []
        total = sum(self.restarts.values())
        return [("restarts", f"{total} of the database's server: {_listed(self.restarts)}")]

    def _verdict(self) -> str:
        if self.passed:
            return "passed: " + ", ".join(PROMISES.values())
        broken = sorted({each.promise for each in self.findings.breaches})
        return "FAILED: not true is that " + ", ".join(PROMISES[each] for each in broken)

    def _second(self) -> str:
        found = self.findings
        told = f"{found.second}, of {found.uncertain} attempts that timelines show as uncertain"
        if found.resent:
            told += f"; {found.resent} went again by an operator's decision"
        return told

    def _repeats(self) -> str:
        return f"{self.findings.repeats} repeats of events that had been told"

    def _breaches(self) -> list[tuple[str, str]]:
        breaches = self.findings.breaches
        if not breaches:
            return [("breaches", "none")]
        lines = [("breaches", str(len(breaches)))]
        lines += [(f"  {each.promise}", f"{each.id}: {each.what}") for each in breaches[:LISTED]]
        if len(breaches) > LISTED:
            lines.append(("", f"and {len(breaches) - LISTED} more"))
        return lines


def _listed(counts: Mapping[str, int], names: Any = None) -> str:
    """``3 sent, 1 failed``; in the order of *names*, if they are given."""
    chosen = counts if names is None else names
    return ", ".join(f"{counts[name]} {name}" for name in chosen if counts.get(name)) or "none"
