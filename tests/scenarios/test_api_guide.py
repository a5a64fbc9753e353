"""The examples of the guide to the API, typed as they stand."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.need import need_program
from tests.scenarios.processes import TOKEN, Service, SinkProcess
from tests.scratch import scratch
from tests.test_architecture import ROOT

GUIDE = ROOT / "docs" / "usage.md"

#: Written behind what an example prints, to tell it from the next.
MARK = "-- end of example --"


def examples() -> Iterator[tuple[str, Any]]:
    """Every example of the guide, with the answer it shows."""
    text = GUIDE.read_text(encoding="utf-8")
    for commands, shown in re.findall(r"(?s)```sh\n(.*?)```\n\n```json\n(.*?)```", text):
        yield commands, json.loads(shown)


def differences(shown: Any, got: Any, where: str = "answer") -> Iterator[str]:
    """
    What is shown and not there.

    ``"..."`` stands for any end of a text, a number for any number.
    """
    if isinstance(shown, dict):
        if not isinstance(got, dict):
            yield f"{where} is no object"
            return
        for name, value in shown.items():
            if name not in got:
                yield f"{where}.{name} is missing"
            else:
                yield from differences(value, got[name], f"{where}.{name}")
    elif isinstance(shown, list):
        if not isinstance(got, list) or len(got) < len(shown):
            yield f"{where} is shorter"
            return
        for n, value in enumerate(shown):
            yield from differences(value, got[n], f"{where}[{n}]")
    elif isinstance(shown, str) and shown.endswith("..."):
        if not str(got).startswith(shown[:-3]):
            yield f"{where} begins otherwise"
    elif isinstance(shown, str | bool) and shown != "0.1.0":
        if shown != got:
            yield f"{where} is another"
    elif type(shown) is not type(got):
        yield f"{where} is of another type"


class GuideTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bash = need_program("bash")
        need_program("curl")
        self.directory = scratch(self)
        self.sink = SinkProcess(self.directory, "--quiet").start()
        self.addCleanup(self.sink.end)
        self.service = Service(self.directory).start()
        self.addCleanup(self.service.end)

    def script(self) -> str:
        """All examples, one after the other, in one shell."""
        lines = [f"set -eu -o pipefail; mailproxy() {{ echo {TOKEN}; }}"]
        for commands, _ in examples():
            lines += [commands, f"echo; echo '{MARK}'"]
        text = "\n".join(lines)
        for shown, real in (
            ("http://localhost:8000", self.service.url),
            ("http://127.0.0.1:8025", self.sink.url),
            ('"port": 2525', f'"port": {self.sink.smtp_port}'),
        ):
            self.assertIn(shown, text)
            text = text.replace(shown, real)
        return text

    def test_typed_as_they_stand(self) -> None:
        """Every example of the guide works, and prints what the guide shows."""
        done = subprocess.run(
            [self.bash, "-c", self.script()],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        printed = done.stdout.split(MARK)
        found = list(examples())
        self.assertGreaterEqual(len(found), 9)
        for (commands, shown), text in zip(found, printed, strict=False):
            got = json.loads(text)
            self.assertEqual([], list(differences(shown, got)), f"{commands}\n{text}")


class ExampleTests(SynchronousTestCase):
    def test_none_is_left_out(self) -> None:
        """Every command in the guide has its answer behind it."""
        text = GUIDE.read_text(encoding="utf-8")
        self.assertEqual(text.count("```sh\n"), len(list(examples())))

    def test_a_difference_is_found(self) -> None:
        """An answer that has less than is shown, or other values, is not what is shown."""
        shown = {"ok": True, "list": [{"id": "a", "n": 1, "x": "..."}]}
        self.assertEqual([], list(differences(shown, {"ok": True, "list": [
            {"id": "a", "n": 5, "x": "y", "more": 1}, 2]})))  # fmt: skip
        others: tuple[Any, ...] = (
            [],
            {"ok": False, "list": [{"id": "a", "n": 1, "x": ""}]},
            {"ok": True, "list": []},
            {"ok": True, "list": [{"id": "b", "n": 1, "x": ""}]},
            {"ok": True, "list": [{"id": "a", "n": None, "x": ""}]},
            {"ok": True, "list": [{"id": "a", "n": 1}]},
        )
        for got in others:
            self.assertNotEqual([], list(differences(shown, got)), got)
