"""Thousands of SMTP connections that say nothing: the API and everybody else go on as before."""

from __future__ import annotations

import re
import time

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.descriptors import make_room
from tests.scenarios.crowd import Crowd
from tests.scenarios.door import OpenDoor
from tests.scenarios.processes import http, wait_until

#: Connections, unless the system allows fewer open files; ``benchmarks/idle.py`` times them.
COUNT = 10_000

PEERS = 20


class IdleTests(SynchronousTestCase):
    def test_f52_a_crowd_that_says_nothing(self) -> None:
        """
        F52: as many as there may be are greeted and counted, one more hears 421; the API answers
        and mail is taken meanwhile, and who leaves makes room.
        """
        count = make_room(COUNT)
        door = OpenDoor(
            GMP_SMTP_MAX_CONNECTIONS=str(count + 1),
            GMP_SMTP_MAX_PER_PEER=str(count // PEERS + 1),
            GMP_LOG_LEVEL="INFO",
        )
        self.addCleanup(door.close)
        crowd = Crowd(door.port, PEERS)
        self.addCleanup(crowd.close)

        def counted() -> int:
            text = http("GET", f"{door.service.url}/metrics").raw.decode()
            found = re.search(r"^\w*submission_connections (\d+)", text, re.MULTILINE)
            assert found is not None
            return int(found[1])

        opened = crowd.join(count)
        self.assertEqual((count, []), (len(crowd.greeted), crowd.refused))
        self.assertEqual(count, counted())

        start = time.perf_counter()
        answers = [door.service.call("GET", "/status").status for _ in range(20)]
        elapsed = (time.perf_counter() - start) / 20
        self.assertEqual([200] * 20, answers)
        with door.client("127.0.0.1") as client:
            client.sendmail("erp@example.test", ["anna@example.test"], "From: erp@example.test\n\n")
            crowd.join(1)
            self.assertEqual(
                [b"421 4.3.2 Too many connections, try again later\r\n"], crowd.refused
            )
        door.arrived("anna@example.test")
        self.assertEqual(count, crowd.silent())

        crowd.leave(count // 2)
        wait_until(lambda: counted() == count - count // 2, what="their leaving")
        crowd.join(1)
        self.assertEqual(count - count // 2 + 1, len(crowd.greeted))
        print(f"{count} idle: opened in {opened:.1f} s, /status in {elapsed * 1000:.1f} ms")
