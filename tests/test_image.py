"""The image: what is put into it, as whom it runs, and what it is called with."""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib
from importlib.metadata import requires

from packaging.requirements import Requirement
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.__main__ import COMMANDS
from tests import dockerfile
from tests.scratch import scratch
from tests.test_packaging import ROOT, normal


def pins(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of everything that a lock names."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text(encoding="utf-8"))
    found = {}
    for entry in text.strip().splitlines():
        project, version = re.match(r"([A-Za-z0-9._-]+)(?:\[.*?\])?==(\S+)", entry).groups()  # type: ignore[union-attr]
        found[normal(project)] = (version, frozenset(re.findall(r"--hash=(\S+)", entry)))
    return found


class DockerfileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.build, self.final = dockerfile.read(ROOT / "Dockerfile")

    def test_stages(self) -> None:
        """What builds stays behind: the image begins anew, and takes the program only."""
        self.assertEqual("build", self.build.name)
        self.assertEqual(self.build.base, self.final.base)
        (base,) = re.findall(r"(?m)^ARG PYTHON=(.*)$", (ROOT / "Dockerfile").read_text())
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        self.assertTrue(base.startswith(f"{project['tool']['mypy']['python_version']}-slim"), base)
        self.assertEqual(["--from=build /opt/mailproxy /opt/mailproxy"], self.final.all("COPY"))
        self.assertEqual([], self.build.all("ADD") + self.final.all("ADD"))
        self.assertNotIn("pip", " ".join(self.final.all("RUN")))

    def test_only_what_is_locked(self) -> None:
        """Whatever is fetched for the program has a hash; the rest is built from what is there."""
        for line in self.build.all("RUN"):
            for command in re.split(r"\s*(?:&&|;|\|\|?)\s*", line):
                words = shlex.split(command)
                if "pip" in words:
                    self.assertTrue({"--require-hashes", "--no-index"} & set(words), command)
                    if "wheel" in words[3:4]:
                        self.assertIn("--no-build-isolation", words)

    def test_user(self) -> None:
        """It never runs as root: the user is a number, as Kubernetes wants it to prove that."""
        self.assertRegex(self.final.one("USER"), r"^[1-9]\d*:[1-9]\d*$")
        after = [word for word, _ in self.final.steps]
        self.assertNotIn("RUN", after[after.index("USER") :])
        self.assertIn(f"-o {self.final.one('USER').replace(':', ' -g ')} /data", self.runs())

    def runs(self) -> str:
        return " ".join(self.final.all("RUN"))

    def test_data(self) -> None:
        """The database lies on a volume that belongs to the user, and all files go there."""
        self.assertEqual("/data", self.final.one("VOLUME"))
        self.assertEqual("/data", self.final.one("WORKDIR"))
        words = [word for word, _ in self.final.steps]
        # A volume keeps what the image had there before it was declared, not after.
        self.assertLess(words.index("RUN"), words.index("VOLUME"))

    def test_start(self) -> None:
        """An init is the first process, no shell stands between, and the command exists."""
        entry, command = self.final.form("ENTRYPOINT"), self.final.form("CMD")
        self.assertEqual(["tini", "-e", "143", "--", "mailproxy"], entry)
        self.assertEqual(["container"], command)
        self.assertIn(command[0], COMMANDS)
        self.assertRegex(self.runs(), r"apt-get install .*\btini\b")
        self.assertEqual("SIGTERM", self.final.one("STOPSIGNAL"))
        self.assertEqual("8000", self.final.one("EXPOSE"))

    def test_health(self) -> None:
        """Its health is asked for without a shell, in less time than it may take."""
        program, command = self.final.form("HEALTHCHECK")
        self.assertEqual(("mailproxy", True), (program, command in COMMANDS))
        self.assertEqual("healthcheck", command)
        (limit,) = re.findall(r"--timeout=(\d+)s", self.final.one("HEALTHCHECK"))
        self.assertGreater(int(limit), 3)

    def test_labels(self) -> None:
        """It says what it is, in the words of the Open Container Initiative."""
        given = dict(part.split("=", 1) for part in shlex.split(self.final.one("LABEL")))
        for name in ("title", "description", "licenses", "version", "revision"):
            self.assertTrue(given[f"org.opencontainers.image.{name}"])

    def test_no_secret(self) -> None:
        """No setting of ours is made in the image: tokens and keys come when it is started."""
        for stage in (self.build, self.final):
            for text in stage.all("ENV") + stage.all("ARG"):
                self.assertNotIn("GMP_", text)
                self.assertNotRegex(text, r"(?i)token|password|secret|key")

    def test_context(self) -> None:
        """The build is given what it copies and nothing else."""
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        self.assertEqual("*", rules[0])
        wanted = {name for line in self.build.all("COPY") for name in line.split()[:-1]}
        self.assertEqual(wanted, {rule[1:] for rule in rules if rule.startswith("!")})
        for name in wanted:
            self.assertTrue((ROOT / name).exists(), name)
        # The last rule that fits decides.
        for name in ("mailproxy/x.pyc", "twisted/plugins/dropin.cache", "mailproxy/__pycache__"):
            fits = [r for r in rules if fnmatch.fnmatch(name, r.lstrip("!").replace("**/", "*"))]
            self.assertFalse(fits[-1].startswith("!"), name)

    def test_parser(self) -> None:
        """What is no instruction is an error."""
        path = scratch(self) / "Dockerfile"
        for text in ("FROM x\nRUNN y\n", "RUN x\n", "FROM x\nRUN\n"):
            path.write_text(text)
            with self.assertRaises(ValueError):
                dockerfile.read(path)


class LockTests(SynchronousTestCase):
    def test_what_was_tested(self) -> None:
        """The image has the versions, and the very files, that the tests ran with."""
        tested = pins("requirements.lock")
        for name in ("requirements-image.lock", "requirements-build.lock"):
            for project, (version, hashes) in pins(name).items():
                self.assertEqual(tested[project][0], version, project)
                self.assertTrue(hashes)
                self.assertEqual(tested[project][1], hashes, project)

    def test_whole(self) -> None:
        """What the service needs is in the image's lock, with what that needs in turn."""
        locked = pins("requirements-image.lock")
        extras = ("dkim", "large-files", "postgresql")
        todo = [("mailproxy", extra) for extra in ("", *extras)]
        seen = set(todo)
        while todo:
            project, extra = todo.pop()
            if project != "mailproxy":
                self.assertIn(project, locked)
            for text in requires(project) or ():
                need = Requirement(text)
                if need.marker is not None and not need.marker.evaluate({"extra": extra}):
                    continue
                for one in ("", *need.extras):
                    if (found := (normal(need.name), one)) not in seen:
                        seen.add(found)
                        todo.append(found)
        # What only builds and tests need is not.
        for project in ("pytest", "django", "sphinx", "hypothesis", "pip-audit", "setuptools"):
            self.assertNotIn(project, locked)
