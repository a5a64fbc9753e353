"""The rules that keep the map of the package true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mailproxy"

#: The only modules outside a stage that know stages: they put the program together.
COMPOSERS = {
    "mailproxy.service",
    "mailproxy.service_parts",
    "mailproxy.service_attachments",
    "mailproxy.service_copy",
    "mailproxy.service_machine",
    "mailproxy.service_store",
    "mailproxy.service_migrate",
    "mailproxy.service_backup",
    "mailproxy.service_submission",
    "mailproxy.tap",
    "mailproxy.__main__",
}

#: What is not part of the service but made for its users, and who of ours is one.
FOR_USERS = {"client": {"cli", "contrib"}}

#: The most lines a module may have.
LONGEST = 400

#: What a module marked *Pure* does without.
IMPURE = {"twisted", "time", "random", "os", "socket", "threading", "secrets"}


class Module:
    """One module of the package."""

    def __init__(self, path: Path) -> None:
        self.path = path
        names = path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(names[:-1] if names[-1] == "__init__" else names)
        self.text = path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Parsed when first asked for: many import this module for its paths alone."""
        return ast.parse(self.text, str(self.path))

    @property
    def stage(self) -> str | None:
        """The folder it is in; None for the shared vocabulary."""
        parts = self.path.relative_to(PACKAGE).parts
        return parts[0] if len(parts) > 1 else None

    @property
    def pure(self) -> bool:
        return re.search(r"\bPure\b", ast.get_docstring(self.tree) or "") is not None

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every module it imports, anywhere in its text, with the line."""
        for node in ast.walk(self.tree):
            yield from imported(node)


def imported(node: ast.AST) -> Iterator[tuple[str, int]]:
    """What one import statement imports, by absolute name."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, node.lineno
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        yield module, node.lineno
        for alias in node.names:
            yield f"{module}.{alias.name}", node.lineno


MODULES = {module.name: module for module in map(Module, sorted(PACKAGE.rglob("*.py")))}
STAGES = {module.stage for module in MODULES.values()} - {None}


def executed_on_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: all but the bodies of functions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


class StageTests(SynchronousTestCase):
    def breaches(self, module: Module) -> list[str]:
        """The imports of *module* that the map forbids."""
        found = []
        for name, line in module.imports():
            if name.startswith("."):
                found.append(f"{module.name}:{line} imports by a relative name")
            target = name.split(".")
            if target[0] != "mailproxy" or module.name in COMPOSERS or len(target) == 1:
                continue
            stage = target[1] if target[1] in STAGES else None
            composer = ".".join(target[:2]) in COMPOSERS
            own_command = module.stage == "cli" and target[1] == "__main__"
            uses = module.stage in FOR_USERS.get(str(stage), ())
            if (stage not in (None, module.stage) and not uses) or (composer and not own_command):
                found.append(f"{module.name}:{line} imports {name}")
        return found

    def test_stages_know_the_vocabulary_and_themselves(self) -> None:
        """No stage imports another stage, nor the vocabulary any; only the composers know all."""
        breaches = [line for module in MODULES.values() for line in self.breaches(module)]
        self.assertEqual([], breaches)

    def test_a_breach_would_be_found(self) -> None:
        """An import of another stage is found also within a function, and a relative one too."""
        module = Module(PACKAGE / "errors.py")
        for text in (
            "def f():\n    from mailproxy.store import embedded",
            "import mailproxy.api.wire",
            "from mailproxy import delivery",
            "from . import model",
            "from mailproxy.service import assemble",
        ):
            module.tree = ast.parse(text)
            self.assertNotEqual([], self.breaches(module), text)
        module.tree = ast.parse("from mailproxy import model, __version__\nimport twisted.web")
        self.assertEqual([], self.breaches(module))
        for name, there in (("api/root.py", "client"), ("client/mail.py", "api")):
            module = Module(PACKAGE / name)
            module.tree = ast.parse(f"import mailproxy.{there}")
            self.assertNotEqual([], self.breaches(module), name)

    def test_the_map_is_complete(self) -> None:
        """Every folder of the package is one of the stages the map names."""
        planned = {"api", "cli", "console", "delivery", "dispatch", "proving", "report", "store"}
        self.assertEqual(set(), STAGES - planned - {"submission", "client", "contrib"})
        self.assertLessEqual({"api", "delivery", "dispatch", "report", "store"}, STAGES)


class PurityTests(SynchronousTestCase):
    def test_pure_modules(self) -> None:
        """What is marked Pure imports no Twisted, time, random or os, and no module that does."""
        for module in MODULES.values():
            if not module.pure:
                continue
            for name, line in module.imports():
                where = f"{module.name}:{line} imports {name}"
                self.assertNotIn(name.split(".")[0], IMPURE, where)
                if name in MODULES and name != "mailproxy":
                    self.assertTrue(MODULES[name].pure, where)

    def test_what_must_be_pure(self) -> None:
        """The values, the errors, the addresses and the composing are Pure."""
        for name in ("model", "states", "records", "errors", "payload", "address", "lines",
                     "compose"):  # fmt: skip
            self.assertTrue(MODULES[f"mailproxy.{name}"].pure, name)

    def test_no_reactor_at_import(self) -> None:
        """No module imports the reactor when it is itself imported."""
        for module in MODULES.values():
            for node in executed_on_import(module.tree):
                for name, line in imported(node):
                    self.assertNotEqual("twisted.internet.reactor", name, f"{module.name}:{line}")

    def test_nobody_sleeps(self) -> None:
        """No module waits by stopping its thread; the client's threads are its users' own."""
        for module in MODULES.values():
            if module.stage == "client":
                continue
            for name, line in module.imports():
                self.assertNotEqual("time.sleep", name, f"{module.name}:{line}")
            self.assertNotIn("time.sleep(", module.text, module.name)


class FormTests(SynchronousTestCase):
    def test_length(self) -> None:
        """No module passes 400 lines."""
        for module in MODULES.values():
            self.assertLessEqual(len(module.text.splitlines()), LONGEST, module.name)

    def test_docstrings(self) -> None:
        """Every module says what it is for, and so does every test."""
        for module in MODULES.values():
            if module.text.strip():
                self.assertTrue(ast.get_docstring(module.tree), module.name)
        silent = []
        for path in sorted((ROOT / "tests").rglob("test_*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
            for node in ast.walk(tree):
                if (
                    isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                    and node.name.startswith("test_")
                    and not ast.get_docstring(node)
                ):
                    silent.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
        self.assertEqual([], silent)

    def test_our_own_modules_are_not_patched(self) -> None:
        """Tests pass fakes in; they replace nothing."""
        for path in sorted((ROOT / "tests").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
                for name, line in imported(node):
                    self.assertNotEqual("unittest.mock", name, f"{path}:{line}")

    def test_plugin(self) -> None:
        """The plugin imports nothing of ours, and Twisted's namespaces stay Twisted's."""
        tree = ast.parse((ROOT / "twisted/plugins/mailproxy_plugin.py").read_text("utf-8"))
        names = {name for node in ast.walk(tree) for name, _ in imported(node)}
        self.assertEqual(set(), {name for name in names if not name.startswith("twisted.")})
        self.assertEqual([], list((ROOT / "twisted").rglob("__init__.py")))

    def test_text_is_self_contained(self) -> None:
        """Nothing that is delivered names a place of somebody's machine or a package host."""
        # In two parts each, so that this file does not name them.
        words = "|".join(
            "".join(parts)
            for parts in (
                ("(?<![\\w.])/wo", "rk\\b"),
                ("\\bsha", "red/(?=[A-Za-z_]+\\.(?:md|rst))"),
                ("\\.\\./sha", "red\\b"),
                ("/ro", "ot/"),
                ("py", "pi\\.org"),
                ("python", "hosted\\.org"),
            )
        )
        forbidden = re.compile(words)
        for path in self.delivered():
            found = forbidden.search(path.read_text(encoding="utf-8", errors="replace"))
            self.assertIsNone(found, f"{path.relative_to(ROOT)}: {found and found[0]}")

    def delivered(self) -> Iterator[Path]:
        """Every file a reader gets, as far as it is text."""
        folders = ("mailproxy", "tests", "twisted", "docs", "benchmarks", "examples", "deploy",
                   "newsfragments", ".ci")  # fmt: skip
        for folder in folders:
            yield from (p for p in (ROOT / folder).rglob("*") if p.suffix != ".pyc" and p.is_file())
        for name in ("README.md", "CONTRIBUTING.md", "Makefile", "setup.cfg", "pyproject.toml",
                     "requirements.in", "requirements.lock", "requirements-peers.in",
                     "requirements-peers.lock"):  # fmt: skip
            yield ROOT / name
