"""What :mod:`tests.conftest` names is there."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.conftest import LONGEST, pytest_collection_modifyitems


class OrderTests(SynchronousTestCase):
    def test_each_is_there(self) -> None:
        """Each of the longest tests is a test."""
        for name in LONGEST:
            path, case, test = name.split("::")
            module = import_module(path.removesuffix(".py").replace("/", "."))
            self.assertTrue(callable(getattr(getattr(module, case), test)), name)

    def test_the_longest_begin(self) -> None:
        """They come first, the longest of all before them; the others stay as they were."""
        names = ["b", LONGEST[1], "a", LONGEST[0], "c"]
        items: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
        pytest_collection_modifyitems(items)
        self.assertEqual([*LONGEST[:2], "b", "a", "c"], [item.nodeid for item in items])
