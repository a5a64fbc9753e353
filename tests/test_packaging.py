"""What is built, and whether it works where it is installed."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from mailproxy import __version__
from tests.scratch import scratch
from tests.test_architecture import MODULES

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent

#: What a build needs; the rest of the working tree stays where it is.
SOURCES = ("mailproxy", "twisted", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def run(*argv: object, cwd: Path) -> str:
    """The standard output of a program that must succeed."""
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        raise AssertionError(f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def build_wheel(into: Path) -> Path:
    """The wheel of this working tree, built in a copy of it."""
    tree = into / "tree"
    tree.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "dropin.cache")
            shutil.copytree(source, tree / name, ignore=ignore)
        else:
            shutil.copy(source, tree / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", into, cwd=tree)
    (wheel,) = into.glob("*.whl")
    return wheel


def install(wheel: Path, into: Path) -> Path:
    """
    A virtual environment with the wheel in it; what it depends on is borrowed from this one.

    :return: its ``bin``.
    """
    run(sys.executable, "-m", "venv", "--without-pip", into, cwd=into.parent)
    python = into / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps",
        "--no-index", "--disable-pip-version-check", wheel, cwd=into.parent,
    )  # fmt: skip
    (here,) = {path for path in map(Path, sys.path) if (path / "zope" / "interface").is_dir()}
    (site,) = (into / "lib").glob("python*/site-packages")
    # A .pth is not followed further, so an editable install beside those packages is not seen.
    (site / "borrowed.pth").write_text(f"{here}\n")
    return python.parent


class WheelTests(SynchronousTestCase):
    folder: ClassVar[Path]
    wheel: ClassVar[Path]
    bin: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="mailproxy-wheel-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.wheel = build_wheel(cls.folder)
        cls.bin = install(cls.wheel, cls.folder / "venv")

    def names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def test_everything_is_in_it(self) -> None:
        """The wheel has every module of the package, its data files and the plugin."""
        expected = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "mailproxy").rglob("*")
            if path.is_file() and path.suffix not in (".pyc", ".md")
        }
        expected.add("twisted/plugins/mailproxy_plugin.py")
        self.assertEqual(set(), expected - self.names())
        self.assertIn("mailproxy/py.typed", self.names())
        self.assertTrue([n for n in self.names() if "/migrations/versions/0001" in n])

    def test_nothing_else_is_in_it(self) -> None:
        """The wheel brings no tests, nothing that overwrites Twisted, and the licence."""
        tops = {name.split("/")[0] for name in self.names()}
        self.assertEqual({"mailproxy", "twisted", f"mailproxy-{__version__}.dist-info"}, tops)
        of_twisted = {name for name in self.names() if name.startswith("twisted/")}
        self.assertEqual({"twisted/plugins/mailproxy_plugin.py"}, of_twisted)
        self.assertTrue([name for name in self.names() if name.endswith("LICENSE")])

    def test_installed_is_what_runs(self) -> None:
        """The installed program is the wheel's, not this working tree."""
        code = "import mailproxy; print(mailproxy.__file__, mailproxy.__version__)"
        said = run(self.bin / "python", "-c", code, cwd=self.folder)
        self.assertTrue(said.startswith(str(self.folder / "venv")), said)
        self.assertIn(__version__, said)

    def test_twisted_lists_it(self) -> None:
        """twist and twistd offer the service, wherever they are called."""
        twistd = "from twisted.scripts.twistd import run; run()"
        elsewhere = scratch(self)
        for argv in (("-m", "twisted", "--help"), ("-c", twistd, "--help")):
            said = run(self.bin / "python", *argv, cwd=elsewhere)
            self.assertRegex(said, r"(?m)^\s+mailproxy\s+Mail relay")

    def test_command(self) -> None:
        """The command is installed; it and ``python -m mailproxy`` know the version."""
        for argv in ((self.bin / "mailproxy",), (self.bin / "python", "-m", "mailproxy")):
            self.assertIn(__version__, run(*argv, "--version", cwd=self.folder))


class EditableTests(SynchronousTestCase):
    def test_works_from_another_directory(self) -> None:
        """The editable install of this environment offers the service from anywhere."""
        elsewhere = scratch(self)
        for program in ("twist", "twistd"):
            said = run(BIN / program, "--help", cwd=elsewhere)
            self.assertRegex(said, r"(?m)^\s+mailproxy\s+Mail relay")
        self.assertIn(__version__, run(BIN / "mailproxy", "--version", cwd=elsewhere))


class MetadataTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.setup = configparser.ConfigParser()
        self.setup.read(ROOT / "setup.cfg")

    def test_every_package_is_listed(self) -> None:
        """setup.cfg lists every package; none is forgotten, none is gone."""
        found = {
            ".".join(path.parent.relative_to(ROOT).parts)
            for path in (ROOT / "mailproxy").rglob("__init__.py")
        }
        listed = set(self.setup["options"]["packages"].split())
        self.assertEqual(found | {"twisted.plugins"}, listed)

    def test_every_import_is_required(self) -> None:
        """
        What the package imports from outside the standard library is in its requirements.

        A module that is of use only with an extra also has what that brings.
        """
        other_names = {"OpenSSL": "pyopenssl", "attr": "attrs", "zope": "zope-interface"}
        required = self.names("options", "install_requires")
        extras = {
            name: self.names("options.extras_require", extra)
            for name, extra in (
                ("mailproxy.store.postgres", "postgresql"),
                ("mailproxy.store.moving_server", "postgresql"),
                ("mailproxy.proving.cluster", "postgresql"),
                ("mailproxy.contrib.django", "django"),
            )
        }
        missing = set()
        for module in MODULES.values():
            for name, line in module.imports():
                top = name.split(".")[0]
                if top in sys.stdlib_module_names or top in ("mailproxy", ""):
                    continue
                more = [extras[name] for name in extras if module.name.startswith(name)]
                allowed = required.union(*more)
                if other_names.get(top, normal(top)) not in allowed:
                    missing.add(f"{module.name}:{line} {top}")
        self.assertEqual(set(), missing)

    def names(self, section: str, option: str) -> set[str]:
        """The names of the requirements there."""
        return {
            normal(re.split(r"[\[<>=]", line, maxsplit=1)[0])
            for line in self.setup[section][option].split()
        }

    def test_twisted_is_new_enough(self) -> None:
        """S11, S12: no Twisted from before 26.4 is taken, by whichever way it is installed."""
        (required,) = [
            line
            for line in self.setup["options"]["install_requires"].split()
            if line.startswith("twisted")
        ]
        self.assertEqual("twisted[tls]>=26.4", required)
        lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
        (locked,) = re.findall(r"^twisted(?:\[.*\])?==(\d+)\.(\d+)", lock, re.MULTILINE)
        self.assertGreaterEqual(tuple(map(int, locked)), (26, 4))

    def test_the_lock_is_whole(self) -> None:
        """Every requirement is locked to one version, and every locked file has a hash."""
        wanted = self.setup["options"]["install_requires"].split() + listed("requirements.in")
        self.assert_locked(wanted, "requirements.lock")
        self.assert_locked(listed("requirements-peers.in"), "requirements-peers.lock")

    def assert_locked(self, wanted: list[str], name: str) -> None:
        text = (ROOT / name).read_text(encoding="utf-8")
        entries = re.sub(r"\\\n\s*", " ", text).strip().splitlines()
        locked = set()
        for entry in entries:
            self.assertRegex(entry, r"^[A-Za-z0-9._\[\],-]+==[^ ]+ .*--hash=sha256:[0-9a-f]{64}")
            locked.add(normal(re.split(r"==|\[", entry, maxsplit=1)[0]))
        for requirement in wanted:
            self.assertIn(normal(re.split(r"[\[<>=~!; ]", requirement, maxsplit=1)[0]), locked)


def listed(name: str) -> list[str]:
    """The requirements of a file, one a line."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def normal(name: str) -> str:
    """A project's name as names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()
