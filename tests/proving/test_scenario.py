"""Scenario files: what they may say, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.acts import STAGES, Act, HttpAct
from mailproxy.proving.answers import WORDS
from mailproxy.proving.rules import Rule, Span, When
from mailproxy.proving.scenario import Scenario, Server, find, shipped_names
from mailproxy.proving.scenario_fields import BadScenario
from tests.scratch import scratch
from tests.test_architecture import ROOT

WHOLE = r"""
title = "everything"
faults = ["F1", "F2"]
seed = 7

[server]
user = "anna"
password = "geheim"
starttls = false
max_size = 1000
auth = ["PLAIN", "XOAUTH2"]
tls = "1.1"
refuse_for = 0.5

[names]
"mx.example" = ["192.0.2.1", "192.0.2.2"]
"gone.example" = "nxdomain"

[[rule]]
at = ["mail", "rcpt"]
recipient = "Grey*"
attempt = 1
connection = "2-"
within = 5
tls = true
reply = ["450-4.7.1 not", "450 4.7.1 now"]
delay = 0.1

[[rule]]
at = "connect"
choose = [
  { weight = 3, reply = "421 busy" },
  { raw = "25O ok\r\n\u00ff", repeat = 2, then = "reset" },
]

[[report]]
path = "/sync*"
times = 2
status = 429
headers = { Retry-After = "1" }

[[attachment]]
json = { error = "no" }
"""


class ScenarioTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """Every kind of table is read."""
        made = Scenario.parse(WHOLE)
        self.assertEqual(
            ("everything", ("F1", "F2"), 7), (made.title, made.faults, made.seed)
        )  # fmt: skip
        self.assertEqual(
            ("anna", False, 1000, ("PLAIN", "XOAUTH2"), "1.1", 0.5),
            (
                *(made.server.user, made.server.starttls, made.server.max_size),
                *(made.server.auth, made.server.tls, made.server.refuse_for),
            ),
        )
        self.assertNotIn("geheim", repr(made))
        self.assertEqual(
            {"mx.example": ("192.0.2.1", "192.0.2.2"), "gone.example": ("nxdomain",)}, made.names
        )
        grey, banner = made.rules
        self.assertEqual(
            Rule(
                When(
                    frozenset({"mail", "rcpt"}),
                    {"recipient": ("grey*",), "tls": ("true",)},
                    {"connection": Span(2, None), "attempt": Span(1, 1)},
                    within=5.0,
                ),
                ((1.0, Act(b"450-4.7.1 not\r\n450 4.7.1 now\r\n", delay=0.1)),),
            ),
            grey,
        )
        self.assertEqual(
            (
                (3.0, Act(b"421 busy\r\n", then="close")),
                (1.0, Act(b"25O ok\r\n\xff" * 2, then="reset")),
            ),
            banner.acts,
        )
        self.assertEqual(
            HttpAct(429, (("Retry-After", "1"),)), made.reports[0].acts[0][1]
        )  # fmt: skip
        self.assertEqual(HttpAct(200, body=b'{"error":"no"}'), made.attachments[0].acts[0][1])

    def test_wrong(self) -> None:
        """What is wrong is told with file, line, table and key."""
        for text, said in (
            ("[[rule]]\n", "f.toml:1: title: missing"),
            ("title = 1", "f.toml:1: title: expected a text"),
            ("title = 'x'\nseed = 'y'", "f.toml:2: seed: expected a whole number"),
            ("title = 'x'\nrules = 1", "f.toml:2: rules: unknown; known here: attachment, faults"),
            ("title =", "f.toml: not TOML: "),
            ("title = 'x'\n[server]\nuser = 'a'", "f.toml:3: [server]: user: user and password"),
            ("title = 'x'\n[server]\n\ntls = '9'", "f.toml:4: [server]: tls: '9' is none of 1.0"),
            ("title = 'x'\n[names]\n'a' = 1", "f.toml:3: [names]: a: expected a text"),
            (
                "title = 'x'\n[[rule]]\nat = 'rcpt'\n# [[rule]]\n[[rule]]\n\nat = 'recipient'",
                "f.toml:7: [rule] 2: at: 'recipient' is none of connect, ehlo",
            ),
            ("title = 'x'\n[[rule]]\nreply = '2500 x'", "3: [rule] 1: reply: '2500 x' is no line"),
            ("title = 'x'\n[[rule]]\nreply = '250-x'", "reply: every line but the last"),
            ("title = 'x'\n[[rule]]\nreply = \"250 a\\nb\"", "is no line of a reply"),
            ("title = 'x'\n[[rule]]\nrepeat = 3", "repeat: repeats raw, and there is none"),
            ("title = 'x'\n[[rule]]\nraw = 'x'\nrepeat = 99999999", "repeat: more than 67108864"),
            ("title = 'x'\n[[rule]]\nraw = '\u0394'", "raw: a character above U+00FF"),
            ("title = 'x'\n[[rule]]\nraw = 'x'\nreply = '250 x'", "raw: stands in place of reply"),
            ("title = 'x'\n[[rule]]\nkeep = true", 'keep: makes sense with at = "end" only'),
            ("title = 'x'\n[[rule]]\nat = 'body'\nreply = '250 x'", "reply: a body has no reply"),
            ("title = 'x'\n[[rule]]\nattempt = 0", "attempt: 0 is no number from 1"),
            ("title = 'x'\n[[rule]]\nattempt = true", "attempt: expected a number, or a text"),
            ("title = 'x'\n[[rule]]\nchance = 2", "chance: expected 0 to 1, not 2"),
            ("title = 'x'\n[[rule]]\ndelay = true", "delay: expected a number"),
            ("title = 'x'\n[[rule]]\ntls = 1", "tls: expected true or false"),
            ("title = 'x'\n[[rule]]\nlinger = 1", "linger: comes before a then"),
            ("title = 'x'\n[[rule]]\nthen = 'stop'", "then: 'stop' is none of close, reset"),
            ("title = 'x'\n[[rule]]\nchoose = []", "choose: expected a list of tables"),
            ("title = 'x'\n[[rule]]\nchoose = [{weight = 0}]", "choose: every weight is 0"),
            (
                "title = 'x'\n[[rule]]\nchoose = [{repl = '250 x'}]",
                "f.toml:3: [rule] 1: repl: unknown; known here:",
            ),
            ("title = 'x'\n[[report]]\nreply = '250 x'", "3: [report] 1: reply: unknown"),
            ("title = 'x'\n[[report]]\nbody = 'x'\njson = 1", "json: stands in place of body"),
            ("title = 'x'\n[[report]]\nheaders = {a = 1}", "headers: expected a table of texts"),
            ("title = 'x'\n[[report]]\nheaders = {a = \"b\\r\\n\"}", "headers: 'a' is no header"),
            ("title = 'x'\nrule = 1", "rule: expected up to 1000 tables"),
            ("title = 'x'\nrule = [1]", "expected a table"),
            ("title = 'x'\nserver = 1", "expected a table"),
        ):
            with self.subTest(text):
                error = self.assertRaises(BadScenario, Scenario.parse, text, "f.toml")
                self.assertIn(said, str(error))

    def test_files(self) -> None:
        """A scenario comes from a file, or by its name from those that are shipped."""
        folder = scratch(self)
        (folder / "a.toml").write_text("title = 'mine'")
        (folder / "bad.toml").write_bytes(b"\xff")
        self.assertEqual("mine", find(str(folder / "a.toml")).title)
        for path in (folder / "none.toml", folder / "bad.toml"):
            error = self.assertRaises(BadScenario, find, str(path))
            self.assertIn(f"{path}: cannot be read: ", str(error))
        error = self.assertRaises(BadScenario, find, "no-such")
        self.assertIn("not the name of a shipped scenario", str(error))
        for name in shipped_names():
            self.assertTrue(find(name).title, name)

    def test_a_file_without_suffix(self) -> None:
        """A file in the current directory comes before a shipped one."""
        folder = scratch(self)
        path = folder / "plain"
        path.write_text("title = 'here'")
        self.assertEqual("here", find(str(path)).title)
        self.assertEqual("plain", Path(path).name)

    def test_the_page_names_all(self) -> None:
        """The page about the sink names every scenario that comes along, every word and key."""
        page = (ROOT / "docs" / "sink.md").read_text(encoding="utf-8")
        for name in shipped_names():
            self.assertIn(f"| `{name}` | {find(name).title} |", page)
        for word, does in WORDS.items():
            self.assertIn(f"| `{word}@` | {does} |", page)
        for field in (*attrs.fields(Act), *attrs.fields(Server), *attrs.fields(When)):
            if field.name not in ("lines", "words", "numbers"):
                self.assertIn(f"`{field.name}`", page)
        for stage in STAGES:
            self.assertIn(f"`{stage}`", page)
