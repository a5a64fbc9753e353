"""Open files: what the process allows itself, in processes whose limits a test may change."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.descriptors import RESERVE

SCRIPT = """
import resource, sys
from mailproxy.descriptors import make_room
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(make_room(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


class RoomTests(SynchronousTestCase):
    def room(self, soft: int, hard: int, wanted: int) -> tuple[int, int, int]:
        """In a process with these limits: the room there is, and the limits afterwards."""
        said = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(wanted)],
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout.split()
        room, soft, hard = map(int, said)
        return room, soft, hard

    def test_raised_as_far_as_needed(self) -> None:
        """The limit is raised for what is asked for and the reserve, and not beyond."""
        self.assertEqual((100, 100 + RESERVE, 4096), self.room(256, 4096, 100))

    def test_left_where_it_is_enough(self) -> None:
        """A limit that is enough stays."""
        self.assertEqual((100, 4000, 4096), self.room(4000, 4096, 100))

    def test_fewer_than_asked_for(self) -> None:
        """Where the system allows less, SMTP gets what is beyond the reserve, at least half."""
        self.assertEqual((4096 - RESERVE, 4096, 4096), self.room(256, 4096, 5000))
        self.assertEqual((1500, 3000, 3000), self.room(256, 3000, 5000))
