"""A directory for one test."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase


def scratch(case: SynchronousTestCase) -> Path:
    """A new directory outside of the working tree; it goes when *case* ends."""
    path = Path(tempfile.mkdtemp(prefix="mailproxy-test-"))
    case.addCleanup(shutil.rmtree, path, ignore_errors=True)
    return path
