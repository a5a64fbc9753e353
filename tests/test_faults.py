"""Every fault this program has to survive is named by a test that brings it about."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.test_architecture import ROOT

#: The rows of the fault table, by number, and what each is.
ROWS = {
    "F1": "killed before the commit of a submission",
    "F2": "killed after that commit, before the answer",
    "F3": "killed between claim and connection",
    "F4": "killed during the envelope",
    "F5": "killed in the middle of a body",
    "F6": "killed after the final dot",
    "F7": "killed after the last reply, before the commit of the outcome",
    "F8": "killed after that commit, before the report",
    "F9": "killed after the report, before the commit of its acknowledgement",
    "F10": "killed again and again under load",
    "F11": "a loss of power: what was not synced is gone, or torn",
    "F12": "a disk that is full when mail comes in",
    "F13": "a disk that is full when an outcome is to be stored",
    "F14": "a disk that fails, or cannot be written to",
    "F15": "a database that another process has locked",
    "F16": "a database server that goes away in a transaction",
    "F17": "a damaged page, a damaged row",
    "F18": "a schema newer than the program, a migration that fails",
    "F19": "two processes on one store",
    "F20": "an encryption key that is missing or wrong",
    "F21": "no more open files",
    "F23": "a connection that is refused, has no route, or is reset",
    "F24": "a server that never greets",
    "F25": "a server that falls silent in the middle of a session",
    "F26": "replies that trickle in",
    "F27": "replies and lines without end",
    "F28": "replies that are none",
    "F29": "421 in the greeting, in the middle of a session, after DATA",
    "F30": "421 from one provider for hours",
    "F31": "recipients of one message that are answered differently",
    "F32": "recipients that are all refused, and a 354 all the same",
    "F33": "a message that is too large for the server",
    "F34": "a login that is refused",
    "F35": "a login that is not offered",
    "F36": "TLS that is required and not offered",
    "F37": "TLS that fails, a certificate that does not verify",
    "F38": "words injected into the stream before TLS",
    "F39": "a connection that breaks in the middle of a body",
    "F40": "a last reply that is late or lost",
    "F41": "an acceptance without a queue id, or of many lines",
    "F42": "a session the server closed while it was idle",
    "F43": "sessions of an account that has changed",
    "F44": "a server that accepts mail and loses it",
    "F45": "a host name that does not resolve",
    "F46": "a host name with many addresses of which most are dead",
    "F47": "IPv6 that does not work",
    "F48": "a network that is away in the middle of a body",
    "F49": "a clock that is set",
    "F50": "an authorization server that is down, refuses, or whose tokens expire early",
    "F51": "a server that says when to come back",
    "F52": "clients that say nothing, or everything a byte at a time",
    "F53": "lines without an end, bare CR and LF, ends of data that are none",
    "F54": "commands that come before their time",
    "F55": "bombs of recipients, of header fields and of nested parts",
    "F56": "JSON that is too large, too deep, torn, or of other types than it should be",
    "F57": "line breaks and NUL in any text field",
    "F58": "addresses of every odd form",
    "F59": "the same batch from many clients at once",
    "F60": "other content for an id that waits, is under way, or was sent",
    "F61": "a report endpoint that is down for half a day",
    "F62": "a report endpoint that answers anything but yes",
    "F63": "a report endpoint that said yes and lost it",
    "F64": "an endpoint that submits mail inside our call",
    "F65": "an attachment's source that is gone, busy, mute, wrong, endless or leads astray",
    "F66": "an attachment's file that is a link, no file, outside, replaced or growing",
    "F67": "stopped with many bodies under way, stopped twice, a bad configuration on SIGHUP",
    "F68": "mail taken back while it is being sent",
    "S1": "mail smuggled by another reading of where a message ends",
    "S2": "the same, by every known variant",
    "S3": "commands injected before TLS",
    "S4": "replies injected before TLS",
    "S5": "TLS stripped, or not verified",
    "S6": "commands injected through addresses",
    "S7": "commands injected through other parameters",
    "S8": "headers injected through names, values, media types and file names",
    "S9": "a body that ends its own data",
    "S10": "addresses that are judged as one thing and sent to as another",
    "S11": "requests smuggled or answered out of order; an HTTP library with known holes",
    "S12": "a resolver that can be made to hang",
    "S13": "a URL that leads into private networks, or credentials to strangers",
    "S14": "a path that leads to any file of the machine",
    "S15": "a file of another tenant had by its digest",
    "S16": "values of a request in a log or in an answer",
    "S17": "tokens that are guessed, kept in clear, or nearly right",
    "S18": "relaying for strangers",
    "S19": "passwords that are guessed, logins that are malformed",
    "S20": "parts nested without end",
    "S22": "sessions shared between accounts",
    "S23": "reports forged or told again",
    "S27": "bodies kept for longer than they are needed",
}

_ROW = re.compile(r"(?<![A-Za-z0-9])([FSfs]\d{1,2})(?![A-Za-z0-9])")


def found_in(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The tests of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if node.name.startswith("test_"):
            yield node


def rows_of(test: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The rows that a test names, in its own name or in what it says of itself."""
    text = test.name.replace("_", " ") + " " + (ast.get_docstring(test) or "")
    return {row.upper() for row in _ROW.findall(text)}


class FaultTests(SynchronousTestCase):
    def test_each_has_its_test(self) -> None:
        """Each fault is named by at least one test."""
        found = defaultdict(list)
        tests = ROOT / "tests"
        for path in sorted((*tests.rglob("test_*.py"), *tests.rglob("contracts*.py"))):
            for test in found_in(path):
                for row in rows_of(test):
                    found[row].append(f"{path.relative_to(ROOT)}:{test.lineno}")
        missing = {row: what for row, what in ROWS.items() if not found[row]}
        self.assertEqual({}, missing)

    def test_names_are_found(self) -> None:
        """A row is found in a name and in a docstring, and nowhere else."""
        source = (
            "def test_f3_claim(): '''S4, S5: it is.'''; row = 'F9'\n"
            "async def test_of10(): '''F18 without xF1, S71x and (F6).'''\n"
        )
        first, second = ast.parse(source).body
        assert isinstance(first, ast.FunctionDef)
        assert isinstance(second, ast.AsyncFunctionDef)
        self.assertEqual({"F3", "S4", "S5"}, rows_of(first))
        self.assertEqual({"F18", "F6"}, rows_of(second))
