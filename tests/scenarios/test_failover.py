"""The service with two providers, of which one dies: in each phase of the session, and for good."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.dying import PHASES, DyingServer
from tests.scenarios.processes import (
    Service,
    SinkProcess,
    account,
    free_port,
    message,
    wait_until,
)
from tests.scenarios.upstream import PASSWORD, USER, Certificate

#: More than the buffers of both sides hold: when it dies in the body, the end has not been written.
LARGE = "A line of the body of a message that is long.\n" * 180_000

#: Seconds in which a message has left through the other account. The service needs none of them;
#: two cores that run other tests do.
SOON = 10.0


class FailoverTests(SynchronousTestCase):
    """The account ``main`` at a server that dies, with the fallback ``second``, which does not."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-scenario-"))
        self.certificate = Certificate(self.directory)
        self.dying = DyingServer(free_port(), self.certificate.context()).start()
        self.addCleanup(self.dying.stop)
        self.sink = SinkProcess(self.directory).start()
        self.addCleanup(self.sink.end)
        self.service = Service(self.directory, GMP_CLIENT_SYNC_URL=self.sink.sync_url).start()
        self.addCleanup(self.service.end)
        second = {**account(self.sink.smtp_port), "id": "second"}
        self.assertEqual(200, self.service.call("POST", "/account", second).status)
        self.declare()

    def declare(self) -> None:
        """Declare the first account anew, which also ends its being parked."""
        first = account(
            self.dying.port,
            user=USER,
            password=PASSWORD,
            tls_mode="starttls",
            ca_pem=self.certificate.pem,
            fallback=["second"],
            retry_delays=[1, 2, 2, 2, 2, 2],
            timeout=5,
        )
        self.assertEqual(200, self.service.call("POST", "/account", first).status)

    def copies(self) -> dict[str, int]:
        """Copies that the second provider has, by id."""
        return dict(self.sink.get("/copies")["copies"])

    def send(self, *ids: str, patience: float = SOON) -> None:
        """Submit messages, and wait until they are sent."""
        body = LARGE if self.dying.phase == "body" else "Short.\n"
        self.service.add(*[message(each, body=body) for each in ids])
        wait_until(
            lambda: {self.service.states().get(each) for each in ids} == {"sent"},
            patience,
            f"{ids}; the server dies in {self.dying.phase or 'no phase'}",
        )

    def test_in_each_phase(self) -> None:
        """Wherever it dies before the end of a message: one copy, soon, through the other."""
        phases = [phase for phase in PHASES if phase != "dot"]
        for phase in phases:
            if phase == "refuse":
                self.dying.stop()
            elif phase == "accept":
                self.dying.start()
            self.dying.phase = phase
            self.declare()
            self.send(phase)
        self.assertEqual(dict.fromkeys(phases, 1), self.copies())
        self.assertEqual([], self.dying.kept)
        self.assertGreaterEqual(self.dying.deaths, len(phases) - 1)

    def test_after_the_end_of_the_message(self) -> None:
        """It dies when it has all of a message: that one is repeated there, and only there."""
        self.dying.phase = "dot"
        self.service.add(message("doubt"))
        wait_until(lambda: self.dying.deaths == 1, what="the end of the message")
        self.dying.phase = ""
        wait_until(lambda: self.service.states() == {"doubt": "sent"}, what="the repetition")
        self.assertEqual(({}, 1), (self.copies(), len(self.dying.kept)))

    def test_there_and_back(self) -> None:
        """While it is away the other has its mail; when it is back, the mail is its own again."""
        self.send("before")
        self.dying.stop()
        self.dying.phase = "mail"  # for the session that is still open
        self.send(*[f"away{n}" for n in range(20)])
        self.dying.phase = ""
        self.dying.start()
        (shown,) = [a for a in self.service.call("GET", "/accounts").body["accounts"]
                    if a["id"] == "main"]  # fmt: skip
        self.assertIn("refuses connections", shown["parked_reason"])
        wait_until(self._parked_no_more, what="the account to work again")
        self.send(*[f"back{n}" for n in range(20)])
        copies, kept = self.copies(), len(self.dying.kept)
        self.assertEqual({1}, set(copies.values()))
        self.assertEqual(41 + self.probes, len(copies) + kept)
        self.assertTrue({f"away{n}" for n in range(20)} <= set(copies))
        self.assertTrue({f"back{n}" for n in range(20)}.isdisjoint(copies))
        wait_until(lambda: len(self.reported()) == 41 + self.probes, what="the reports")
        told = {item["id"]: (item["account_id"], item.get("through")) for item in self.reported()}
        self.assertEqual(("main", "second"), told["away7"])
        self.assertEqual(("main", None), told["back7"])

    probes = 0

    def _parked_no_more(self) -> bool:
        """Send a message for a probe to be made with, and see what it came to."""
        self.probes += 1
        self.send(f"probe{self.probes}")
        accounts = self.service.call("GET", "/accounts").body["accounts"]
        return all(each["parked_reason"] is None for each in accounts)

    def reported(self) -> list[dict[str, Any]]:
        """What was reported of messages that ended."""
        reports = self.sink.get("/reports")["reports"]
        items = [item for report in reports for item in report["items"]]
        return [item for item in items if item["sent_ts"]]
