"""
The live service held against its own description, by requests that are made from it.

Requests that fit the description and requests that do not are drawn from it, the same ones in
every run. None may be answered by a failure of ours, and every answer has to be as described.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup
from twisted.trial.unittest import SynchronousTestCase

from tests.api.described import Described
from tests.scenarios.processes import TOKEN, Service, account, http, message
from tests.scratch import scratch

#: What every answer has to stand.
JUDGED_BY = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

#: Requests of each kind for each endpoint.
EXAMPLES = 12

#: Nobody is to be called by what is drawn here; these lead to a port where nobody listens.
NOWHERE = "http://127.0.0.1:1/"
_ADDRESSES = re.compile(r"(_url|storage_path)$")

#: What sets mail going comes last, and what ends things before that.
_LAST = ("/commands/activate", "/commands/run-now")


def harmless(value: Any, name: str = "") -> Any:
    """A drawn body in which every address of somebody else leads nowhere."""
    if isinstance(value, dict):
        return {key: harmless(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [harmless(each, name) for each in value]
    if isinstance(value, str) and _ADDRESSES.search(name) and "/" in value:
        return NOWHERE
    if isinstance(value, str) and name == "host" and re.fullmatch(r"[\w.:-]+", value):
        return "127.0.0.1"
    return value


def rank(operation: Any) -> tuple[int, str]:
    """The order in which endpoints are tried: first those that only look."""
    if operation.path in _LAST:
        return 3, operation.label
    return {"get": 0, "delete": 2}.get(operation.method, 1), operation.label


class DescribedTests(SynchronousTestCase):
    service: Service

    def setUp(self) -> None:
        self.service = Service(scratch(self), GMP_SCHEDULER_ACTIVE="false").start()
        self.addCleanup(self.service.end)
        self.session = requests.Session()
        self.addCleanup(self.session.close)
        document = http("GET", f"{self.service.url}/openapi.json").body
        self.judge = Described(document)
        self.found: dict[tuple[str, str], str] = {}
        load_all_checks()
        self.checks = CHECKS.get_by_names(list(JUDGED_BY))
        schema: Any = schemathesis.openapi.from_dict(document)
        self.operations = sorted((one.ok() for one in schema.get_all_operations()), key=rank)
        self.sent = 0
        self.furnish()

    def furnish(self) -> None:
        """Have something of every kind there: mail that waits, mail that has failed."""
        for id in ("main", "gone"):
            self.service.call("POST", "/account", account(1, id=id, user="u", password="p"))
        attachment = {"filename": "a.txt", "storage_path": "base64:aGVsbG8="}
        both = {"body_plain": "a", "body_html": "<p>a</p>"}
        added = self.service.add(
            message("m1", attachments=[attachment], headers={"X-A": 1}),
            message("m2", cc="Ann <a@example.test>", **both, batch_code="b", deferred_ts=1),
            message("m3", account_id="gone", reply_to="r@example.test"),
        )
        self.assertEqual(3, added.body["queued"])
        self.service.call("DELETE", "/account/gone")

    def drawn(self, operation: Any, mode: GenerationMode, use: Callable[[Any], None]) -> None:
        """Have *use* called with requests of an endpoint."""

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def each(case: Any) -> None:
            use(case)

        with contextlib.suppress(Unsatisfiable):  # some endpoints cannot be called wrongly
            each()

    def send(self, case: Any, token: str) -> None:
        """Make a request; what is wrong with its answer is kept in ``found``."""
        case.body = harmless(case.body)
        case.headers.pop("X-API-Token", None)
        case.headers.pop("Authorization", None)
        answer = case.call(
            base_url=self.service.url, session=self.session, headers={"X-API-Token": token}
        )
        self.sent += 1
        for name, text in self.problems(case, answer):
            self.found.setdefault((case.operation.label, name), text)

    def problems(self, case: Any, answer: Any) -> Iterator[tuple[str, str]]:
        said = f"{answer.status_code} {answer.content[:300]!r} to {case.as_curl_command()[:600]}"
        try:
            case.validate_response(answer, checks=self.checks)
        except FailureGroup as group:
            for each in group.exceptions:
                yield type(each).__name__, f"{each} -- {said}"
        if answer.headers["content-type"] != ["application/json"] or case.method == "HEAD":
            return
        value = answer.json()
        path = case.operation.path
        for problem in self.judge.problems(case.method, path, answer.status_code, value):
            yield "undescribed", f"{problem} -- {said}"
        if answer.status_code < 300 and value.get("error"):
            yield "error", said
        if "rejected" in value and path != "/commands/add-messages":
            yield "rejected", said

    def assert_as_described(self) -> None:
        self.assertTrue(self.service.alive)
        self.assertGreater(self.sent, 3 * len(self.operations))
        told = "\n".join(f"{label}: {name}: {text}" for (label, name), text in self.found.items())
        self.assertEqual("", told)

    def test_what_fits(self) -> None:
        """Requests as the description wants them get answers as it says."""
        for operation in self.operations:
            self.drawn(operation, GenerationMode.POSITIVE, lambda case: self.send(case, TOKEN))
        self.assert_as_described()

    def test_what_does_not_fit(self) -> None:
        """Requests that go against the description are answered as it says, too."""
        for operation in self.operations:
            self.drawn(operation, GenerationMode.NEGATIVE, lambda case: self.send(case, TOKEN))
        self.assert_as_described()

    def test_every_edge(self) -> None:
        """Every field at the edge of its type, and missing, and every verb, is answered so."""
        for operation in self.operations:
            schema = operation.schema
            for case in schema.iter_coverage_cases(
                operation,
                generation_modes=list(GenerationMode),
                generation_config=schema.config.generation_for(operation=operation),
            ):
                self.send(case, TOKEN)
        self.assert_as_described()

    def test_a_deviation_is_found(self) -> None:
        """A field that is not described, and one that is missing, would be noticed."""
        told = http("GET", f"{self.service.url}/openapi.json").body
        schemas = told["components"]["schemas"]
        schemas["Alive"]["required"].append("age")
        del schemas["ServiceStatus"]["properties"]["version"]
        self.judge = Described(told)
        for operation in self.operations:
            if operation.path in ("/livez", "/status"):
                self.drawn(operation, GenerationMode.POSITIVE, lambda case: self.send(case, TOKEN))
        self.assertEqual(
            {("GET /livez", "undescribed"), ("GET /status", "undescribed")}, set(self.found)
        )
