"""
See worlds again: ``python -m tests.simulation SEED...`` tells what each came to, with its trace; as
in ``127`` or ``127+smtp``.

``--hashes`` gives nothing but the hashes of the traces, as JSON.
"""

from __future__ import annotations

import json
import sys

from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from zope.interface import provider

from tests.simulation.world import simulate


@provider(ILogObserver)
def _quiet(event: LogEvent) -> None:
    """The problems of a world tell what matters of its log."""


def main(arguments: list[str]) -> int:
    globalLogBeginner.beginLoggingTo([_quiet], redirectStandardIO=False)
    only_hashes = "--hashes" in arguments
    results = [simulate(each) for each in arguments if each != "--hashes"]
    if only_hashes:
        print(json.dumps({result.seed: result.hash for result in results}))
        return 0
    for result in results:
        print("\n".join(result.trace))
        print(result)
    return int(any(result.problems for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
