"""Reading a ledger while it grows."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving.tail import Tail
from tests.scratch import scratch


class TailTests(SynchronousTestCase):
    def test_grows(self) -> None:
        """Nothing before there is a file; then every whole line once, in order."""
        path = scratch(self) / "ledger.jsonl"
        tail = Tail(path, lambda line: line["n"])
        self.assertEqual([], tail.look())
        with path.open("ab", buffering=0) as file:
            for piece, seen in (
                (b"", []),
                (b'{"n": 1}', []),
                (b"\n", [1]),
                (b'{"n": 2}\n{"n": 3}\n{"n"', [1, 2, 3]),
                (b": 4}\n", [1, 2, 3, 4]),
            ):
                file.write(piece)
                self.assertEqual(seen, tail.look())
                self.assertEqual(seen, tail.look())
