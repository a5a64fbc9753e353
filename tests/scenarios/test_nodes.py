"""Several processes on one PostgreSQL server are one service."""

from __future__ import annotations

from tests.postgres import server
from tests.scenarios.nodes_case import NodesCase
from tests.scenarios.processes import message, wait_until


class NodesTests(NodesCase):
    def test_one(self) -> None:
        """One node: mail goes all the way, and the next process goes on where it ended."""
        node = self.node("a").start()
        self.put_account(node)
        ids = {f"m{n}" for n in range(20)}
        self.assertEqual(20, node.add(*map(message, sorted(ids))).body["queued"])
        wait_until(lambda: self.reported() == ids, what="the reports")
        self.assertEqual(dict.fromkeys(ids, 1), self.arrived())
        node.terminate()

        node.start()
        self.assertEqual({"sent"}, set(node.states().values()))
        self.assertEqual(1, node.add(message("late")).body["queued"])
        wait_until(lambda: "late" in self.arrived(), what="the last message")
        self.assertNotIn("secret@", node.output())

    def test_two(self) -> None:
        """Two nodes: either takes mail, both send it, and nobody gets it twice."""
        first, second = self.node("a").start(), self.node("b").start()
        self.put_account(first)
        ids = {f"m{n}" for n in range(200)}
        for n in range(0, 200, 10):
            node = (first, second)[n // 10 % 2]
            answer = node.add(*(message(f"m{each}") for each in range(n, n + 10)))
            self.assertEqual(10, answer.body["queued"], answer.raw)

        wait_until(lambda: self.reported() == ids, what="the reports")
        self.assertEqual(dict.fromkeys(ids, 1), self.arrived())
        self.assertEqual(200, len(first.states()))
        self.assertEqual(first.states(), second.states())
        nodes = first.call("GET", "/v1/nodes").body["nodes"]
        self.assertEqual([(True, 0), (True, 0)], [(n["alive"], n["claims"]) for n in nodes])
        carried = server().sql(self.database, "SELECT DISTINCT node FROM attempts")
        self.assertEqual(2, len(carried), "one of them did all the work")

    def test_killed(self) -> None:
        """What a killed node had claimed goes on with another, once the server calls it dead."""
        first = self.node("a").start()
        self.put_account(first)
        first.kill()
        # As if it had been killed between a claim and its intent.
        (found,) = server().sql(self.database, "SELECT id FROM nodes")
        second = self.node("b", GMP_SCHEDULER_ACTIVE="false").start()
        self.assertEqual(1, second.add(message("m")).body["queued"])
        server().sql(
            self.database,
            f"UPDATE messages SET claim_at = NULL, lease_owner = '{found[0]}', lease_token = 7",
        )
        second.terminate()
        server().sql(self.database, f"UPDATE nodes SET alive_until = 0 WHERE id = '{found[0]}'")

        third = self.node("c").start()
        self.assertTrue(third.call("POST", "/commands/activate").body["ok"])
        wait_until(lambda: "m" in self.arrived(), what="the message")
