"""
Loads modules of the installed ``genropy`` package without the rest of its framework.

The framework needs dozens of other packages. What the mail code takes from it is little: names to
inherit from, a container called Bag, a logger. Those are stood in for while a module is loaded;
modules of the framework that need nothing else are its own.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.need import missing

#: Where the package keeps the mail code.
EMAIL = "gnr/projects/gnrcore/packages/email"


class Bag(dict[str, Any]):
    """A container whose missing items are None."""

    def __init__(self, source: Any = None) -> None:
        super().__init__(source or {})

    def __missing__(self, key: str) -> None:
        return None

    def asDict(self, **_: Any) -> dict[str, Any]:
        return dict(self)


class GnrBaseService:
    """What a service class of a site is made from."""

    def __init__(self, parent: Any, **_: Any) -> None:
        self.parent = parent


class GnrException(Exception):
    """An error with a code, told as the framework tells it."""

    code = "GNR-001"

    def __init__(self, msg: str = "", **_: Any) -> None:
        super().__init__(f"{self.code}: {msg}")


class GnrUserNotAllowed(GnrException):
    code = "AUTH-001"


class GnrBasicAuthenticationError(GnrException):
    code = "AUTH-901"


class _Base:
    """Stands for a base class of which nothing is used."""


def _unused(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("no part of sending mail")


#: Modules of the framework, and of what it depends on, by what is taken from them.
_STAND_INS: dict[str, dict[str, Any]] = {
    "gnr": {},
    "gnr.app": {"logger": logging.getLogger("gnr.app")},
    "gnr.app.gnrdbo": {"GnrDboTable": _Base, "GnrDboPackage": _Base},
    "gnr.core": {},
    "gnr.core.gnrbag": {"Bag": Bag, "TraceBackResolver": _unused},
    "gnr.core.gnrlang": {"gnrImport": _unused},
    "gnr.core.gnrstring": {"slugify": _unused, "boolean": bool},
    "gnr.lib": {},
    "gnr.lib.services": {"GnrBaseService": GnrBaseService},
    "gnr.lib.services.mail": {"MailService": _unused},
    "gnr.web": {"logger": logging.getLogger("gnr.web")},
    "gnr.web.gnrbaseclasses": {"BaseComponent": _Base},
    "gnr.web.gnrwebpage": {
        "GnrUserNotAllowed": GnrUserNotAllowed,
        "GnrBasicAuthenticationError": GnrBasicAuthenticationError,
    },
    "mailparser": {"parse_from_bytes": _unused},
}


def root() -> Path:
    """
    Where ``gnr`` is installed.

    :raises SkipTest: it is not; in CI this is an AssertionError.
    """
    try:
        return Path(str(metadata.distribution("genropy").locate_file("")))
    except metadata.PackageNotFoundError:
        missing("the package genropy (make venv)")


@contextmanager
def _framework() -> Iterator[None]:
    """While this lasts, the stand-ins are what is imported; nothing of it is left afterwards."""
    where = root()
    for name, names in _STAND_INS.items():
        module = ModuleType(name)
        folder = where.joinpath(*name.split("."))
        if folder.is_dir():
            module.__path__ = [str(folder)]  # what is not stood in for is the package's own
        vars(module).update(names)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n == "mailparser" or n.split(".")[0] == "gnr"]:
            del sys.modules[name]


@cache
def load(path: str) -> Any:
    """The module of the package at *path*, relative to where it is installed."""
    name = "genropy_" + path.removesuffix(".py").replace("/", "_")
    spec = importlib.util.spec_from_file_location(name, root() / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _framework():
        spec.loader.exec_module(module)
    return module
