"""The judge of answers, judged."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.api.described import Described
from tests.api.door import Door


class DescribedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.document = self.door.call("GET", "/openapi.json").json
        self.status = self.door.call("GET", "/status").json

    def problems(self, method: str = "GET", status: int = 200) -> list[str]:
        return Described(self.document).problems(method, "/status", status, self.status)

    def test_as_it_is(self) -> None:
        """An answer that is as described has no problem."""
        self.assertEqual([], self.problems())

    def test_a_field_too_few(self) -> None:
        """A field that is described and not there is a problem."""
        del self.status["version"]
        self.assertEqual(1, len(self.problems()))

    def test_a_field_too_many(self) -> None:
        """So is one that is there and not described."""
        del self.document["components"]["schemas"]["ServiceStatus"]["properties"]["version"]
        self.assertEqual(1, len(self.problems()))

    def test_a_field_of_another_type(self) -> None:
        """So is one of another type."""
        self.status["in_flight"] = "0"
        self.assertEqual(1, len(self.problems()))

    def test_another_status(self) -> None:
        """So is a status nobody told of, and success of a verb there is not."""
        self.assertEqual(["GET /status: 404 is not described"], self.problems(status=404))
        self.assertEqual(["PUT /status: 200 is not described"], self.problems("PUT"))
