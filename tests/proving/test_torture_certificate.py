"""The certificate, as a page and as JSON; and what it says of the machine."""

from __future__ import annotations

import json
from typing import Any

import attrs
import msgspec
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.torture_certificate import LISTED, WIDTH, Certificate
from mailproxy.proving.torture_place import Place, file_system, look
from mailproxy.proving.torture_reconcile import Breach, Findings
from tests.scratch import scratch

FINDINGS = Findings(
    breaches=(),
    accepted={"rest": 1200, "smtp": 300},
    ends={"failed": 20, "sent": 1480},
    again=31,
    replaced=7,
    taken_back=4,
    refused=9,
    copies=1530,
    second=50,
    uncertain=60,
    resent=2,
    finals=1540,
    repeats=40,
    calls=77,
    tenants=("default", "other"),
    shared=400,
)

MOUNTS = (
    "22 28 0:20 / /proc rw,nosuid - proc proc rw",
    "28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard",
    r"31 28 0:30 / /srv/my\040mail rw - xfs /dev/vdb rw",
    "35 28 0:33 / /srv rw - btrfs /dev/vdc rw",
    "nonsense",
)


def certificate(**more: Any) -> Certificate:
    given: dict[str, Any] = {
        "seed": 42,
        "command": "mailproxy torture --seed 42",
        "place": {"version": "mailproxy 1", "file_system": "ext4 on /dev/vda1"},
        "seconds": 90.0,
        "quiet": 7.6,
        "kills": {"at random": 12, "intent": 3, "at the start": 2, "claim": 4},
        "on_work": 20,
        "lost": 33,
        "findings": FINDINGS,
    }
    return Certificate(**given | more)


class CertificateTests(SynchronousTestCase):
    def line(self, made: Certificate, name: str) -> str:
        """What the page says of *name*, on one line."""
        lines = made.text().splitlines()
        start = next(n for n, each in enumerate(lines) if each.startswith(name))
        told = [lines[start][len(name) :]]
        for each in lines[start + 1 :]:
            if not each.startswith(" " * 20):
                break
            told.append(each)
        return " ".join(" ".join(told).split())

    def test_passed(self) -> None:
        """Without a breach it says what was kept, and counts what it is founded on."""
        made = certificate()
        self.assertTrue(made.passed)
        self.assertTrue(self.line(made, "verdict").startswith("passed: nothing is lost, "))
        self.assertEqual("none", self.line(made, "breaches"))
        self.assertEqual(
            "21 (kill -9), 20 of them while mail was under way", self.line(made, "kills")
        )
        self.assertEqual("12 at random, 2 at the start", self.line(made, "  from outside"))
        self.assertEqual("3 intent, 4 claim", self.line(made, "  at crash points"))
        self.assertEqual("1500 ids: 1200 rest, 300 smtp", self.line(made, "accepted"))
        self.assertEqual("default, other: 400 ids are of more than one", self.line(made, "tenants"))
        self.assertIn("2 went again by an operator", self.line(made, "second copies"))

    def test_failed(self) -> None:
        """With breaches it says which promises are broken, and by which ids."""
        breaches = (Breach("I1", "m1", "accepted, and lost"), Breach("I2", "m2", "2 copies"))
        made = certificate(findings=attrs.evolve(FINDINGS, breaches=breaches))
        self.assertFalse(made.passed)
        self.assertEqual(
            "FAILED: not true is that nothing is lost, nothing comes twice in silence",
            self.line(made, "verdict"),
        )
        self.assertEqual("m1: accepted, and lost", self.line(made, "  I1"))
        self.assertEqual("m2: 2 copies", self.line(made, "  I2"))

    def test_one_page(self) -> None:
        """However many breaches there are, it stays one page; the JSON has them all."""
        breaches = tuple(Breach("I1", f"m{n}", "lost " * 30) for n in range(1000))
        made = certificate(findings=attrs.evolve(FINDINGS, breaches=breaches))
        lines = made.text().splitlines()
        self.assertLess(len(lines), 40 + 3 * LISTED)
        self.assertLessEqual(max(map(len, lines)), WIDTH)
        self.assertIn("and 980 more", made.text())
        self.assertEqual(1000, len(made.data()["breaches"]))

    def test_json(self) -> None:
        """The JSON has the same figures, by name."""
        told = json.loads(msgspec.json.encode(certificate().data()))
        self.assertEqual((True, 42, 90.0), (told["passed"], told["seed"], told["seconds"]))
        self.assertEqual("ext4 on /dev/vda1", told["file_system"])
        self.assertEqual(1530, told["copies"])
        self.assertEqual([], told["breaches"])


class PlaceTests(SynchronousTestCase):
    def test_file_system(self) -> None:
        """The mount that is nearest to the directory counts."""
        home = scratch(self)
        for path, found in (
            (home, "ext4 on /dev/vda1, mounted at /"),
            (home.joinpath("/srv/my mail/db"), "xfs on /dev/vdb, mounted at /srv/my mail"),
            (home.joinpath("/srv/my"), "btrfs on /dev/vdc, mounted at /srv"),
            (home.joinpath("/srvx"), "ext4 on /dev/vda1, mounted at /"),
        ):
            self.assertEqual(found, file_system(path, MOUNTS), path)
        self.assertEqual("unknown", file_system(home, ()))

    def test_look(self) -> None:
        """It names versions, machine and database, and times syncs; nothing is left behind."""
        directory = scratch(self)
        lines = look(directory, "SQLite, synchronous=FULL").lines()
        self.assertIn("mailproxy", lines["version"])
        self.assertIn("SQLite", lines["version"])
        self.assertIn("processors", lines["platform"])
        self.assertIn("synchronous=FULL", lines["database"])
        self.assertIn("octets", lines["fsync"])
        self.assertEqual([], list(directory.iterdir()))
        self.assertEqual({"version", "platform", "database"}, set(look(None, "x").lines()))

    def test_quick_syncs(self) -> None:
        """A sync that takes no time is doubted."""
        quick, slow = (Place("", "", "", "", seconds).sync() for seconds in (0.00001, 0.002))
        self.assertIn("may not reach", quick)
        self.assertEqual("2.000 ms for 4096 octets (median of 20)", slow)
