"""
Looks whether anything that is locked has a known vulnerability.

``python tools/audit.py [LOCK ...]`` fails if something is found, and only then: that no database
of vulnerabilities could be asked is no fault of a change. It is said in a way that is not
overlooked, and so is each package that was not found there: both would pass for good news.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-peers.lock")

#: What is known and does no harm here: the reason, by the vulnerability's id.
ACCEPTED: dict[str, str] = {}

#: The databases, in the order in which they are asked until one answers.
DATABASES = (("--vulnerability-service", "pypi"), ("--vulnerability-service", "osv"))

#: Seconds that one of them has for everything.
PATIENCE = 300


@attrs.frozen
class Verdict:
    """
    :param audited: how many packages the database knows.
    :param unknown: those that it does not.
    :param found: vulnerabilities, one line each.
    """

    audited: int = 0
    unknown: tuple[str, ...] = ()
    found: tuple[str, ...] = ()


def judge(report: dict[str, Any], accepted: dict[str, str]) -> Verdict:
    """What the report of ``pip-audit --format json`` comes to."""
    known = [each for each in report["dependencies"] if "skip_reason" not in each]
    found = [
        f"{each['name']} {each['version']}: {hole['id']}"
        + (f" ({', '.join(hole['aliases'])})" if hole.get("aliases") else "")
        + f", fixed in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for each in known
        for hole in each["vulns"]
        if not {hole["id"], *hole.get("aliases", ())} & set(accepted)
    ]
    unknown = [each["name"] for each in report["dependencies"] if "skip_reason" in each]
    return Verdict(len(known), tuple(unknown), tuple(found))


def ask(locks: Sequence[str], database: Sequence[str]) -> Verdict | str:
    """What *database* (options of pip-audit) knows of *locks*; else why it could not be asked."""
    argv = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    argv += ["--progress-spinner=off", "--format=json", "--timeout=10", *database]
    argv += [word for lock in locks for word in ("--requirement", lock)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"no answer in {PATIENCE} s"
    try:
        verdict = judge(json.loads(done.stdout), ACCEPTED)
    except ValueError:
        last = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return last[-1][:300]
    return verdict if verdict.audited else "it knows none of the packages"


def main(arguments: Sequence[str], databases: Sequence[Sequence[str]] = DATABASES) -> int:
    """The exit status: 1 if there is a vulnerability."""
    locks = list(arguments) or [str(ROOT / name) for name in LOCKS]
    for database in databases:
        verdict = ask(locks, database)
        if isinstance(verdict, str):
            print(f"audit: {' '.join(database)} could not be asked: {verdict}", file=sys.stderr)
            continue
        for line in verdict.found:
            print(f"audit: VULNERABLE: {line}", file=sys.stderr)
        if verdict.unknown:
            print(f"audit: NOT AUDITED: {' '.join(verdict.unknown)}", file=sys.stderr)
        print(f"audit: {verdict.audited} packages audited, {len(verdict.found)} vulnerabilities")
        return 1 if verdict.found else 0
    print("audit: NOTHING WAS AUDITED: no database of vulnerabilities answered", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
