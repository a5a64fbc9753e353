"""An answer comes after the disk was asked to keep it: counted in the system calls of a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.store.opened import fresh

PROGRAM = """
import os, random, sys
from pathlib import Path
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.store.opened import Opened

clock = FakeClock()
store = Opened(Path(sys.argv[1]), clock, random.Random(1)).store
account = result(store.put_account(account_spec(), clock.now()))
os.write(1, b"began")
for n in range(5):
    result(store.enqueue([new_message(id=f"m{n}")], clock.now(), 5.0))
    os.write(1, b"answered")
(claimed, *_) = result(store.claim(account.pk, 5, clock.now()))
os.write(1, b"began")
result(store.begin([(claimed.pk, claimed.token)], "acct", clock.now()))
os.write(1, b"answered")
"""

#: Seconds for a few system calls, traced.
PATIENCE = 60.0


@skipUnless(shutil.which("strace"), "needs strace to see system calls")
class SyncTests(SynchronousTestCase):
    def test_a_sync_before_each_answer(self) -> None:
        """Before each answer to a submission or an intent the log of the database was synced."""
        trace = fresh(self)
        command = ["strace", "-f", "-y", "-e", "trace=fdatasync,fsync,write", "-o", str(trace)]
        program = [sys.executable, "-c", PROGRAM, f"{trace}-d"]
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [*command, *program],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode and b"ptrace" in done.stderr:
            self.skipTest("this place does not let strace look")
        self.assertEqual(0, done.returncode, done.stderr.decode())

        synced, answers = False, []
        for line in trace.read_text(errors="replace").splitlines():
            if "sync(" in line and "-wal>" in line:
                synced = True
            elif '"began"' in line or '"answered"' in line:
                answers += [synced] if '"answered"' in line else []
                synced = False
        self.assertEqual([True] * 6, answers)
