"""What holds for every file that the service is deployed with."""

from __future__ import annotations

import re
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import VARIABLES
from tests.test_architecture import ROOT

FILES = [
    ROOT / "Dockerfile",
    *sorted(
        path
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and "secrets" not in path.relative_to(ROOT).parts
    ),
]

#: What a secret looks like: long, with letters and digits, in no words.
_SECRET = re.compile(r"\b(?=\w*\d)(?=\w*[a-zA-Z])[A-Za-z0-9_-]{24,}\b")


class DeployTests(SynchronousTestCase):
    def test_variables_exist(self) -> None:
        """Every GMP_ name is a setting; with _FILE one that may come in a file."""
        known = {"GMP_CONFIG"}
        for variable in VARIABLES:
            known |= (
                {variable.name, f"{variable.name}_FILE"} if variable.in_file else {variable.name}
            )
        found = set()
        for path in FILES:
            names = set(re.findall(r"\bGMP_[A-Z_]+", path.read_text(encoding="utf-8"))) - {"GMP_"}
            self.assertEqual(set(), names - known, path)
            found |= names
        self.assertLessEqual({"GMP_API_TOKEN_FILE", "GMP_HTTP_LISTEN", "GMP_PORT"}, found)

    def test_no_secret(self) -> None:
        """No file holds a token, a key or a password."""
        for path in FILES:
            self.assertEqual([], _SECRET.findall(path.read_text(encoding="utf-8")), path)

    def test_all_are_kept(self) -> None:
        """No file is left out by git, and none of the secrets is taken in."""
        done = subprocess.run(
            ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "deploy"],
            cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        ignored = [name for name in done.stdout.split() if not name.startswith("deploy/secrets/")]
        self.assertEqual([], ignored)
