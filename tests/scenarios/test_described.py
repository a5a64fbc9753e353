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

#: Requests of each kind that are drawn for each endpoint.
EXAMPLES = 5

#: Nobody is to be called by what is drawn here; these lead to a port where nobody listens.
NOWHERE = "http://127.0.0.1:1/"
_ADDRESSES = re.compile(r"(_url|storage_path)$")

#: What is there, by the word in a path that stands before its name.
KNOWN = {"tenant": "acme", "tenants": "acme", "account": "main", "accounts": "main",
         "messages": "m1", "batches": "b", "dkim": "example.test", "credentials": "erp",
         "destinations": "example.test", "suppressions": "gone@example.test"}  # fmt: skip

#: The answers that may have ``rejected``: clients read from it that a submission was dealt with.
SUBMISSIONS = ("/commands/add-messages", "/v1/messages/raw")

#: What cannot succeed by chance: it takes a signed link.
SIGNED = "GET /v1/files/{pk}/{name}"

#: What sets mail going comes last.
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


def rank(operation: Any) -> tuple[int, int, str]:
    """The order of the endpoints: first those that only look; what is within a thing before it."""
    group = {"get": 0, "delete": 2}.get(operation.method, 1)
    if operation.path.endswith("/api-key"):
        group = 2  # revokes all keys before it
    if operation.path in _LAST:
        group = 3
    return group, -operation.path.count("/"), operation.label


def known(path: str, key: str) -> dict[str, str]:
    """Values for the variables of a path that lead to something that is there."""
    there = KNOWN | {"keys": key[:8]}
    found = re.findall(r"/([\w-]+)/\{(\w+)\}", path)
    values = {name: there[word] for word, name in found if word in there}
    return values | ({"selector": "s1"} if "{selector}" in path else {})


@schemathesis.serializer("message/rfc822")
def as_mail(context: Any, value: Any) -> bytes:
    """Whatever is drawn for a message that comes as it is."""
    return str(value).encode("utf-8", "replace")


class DescribedTests(SynchronousTestCase):
    #: All that is wrong is worth reading.
    maxDiff = None

    def setUp(self) -> None:
        self.service = Service(scratch(self), GMP_SCHEDULER_ACTIVE="false").start()
        self.addCleanup(self.service.end)
        self.session = requests.Session()
        self.session.trust_env = False  # or it looks for proxies before every request
        self.addCleanup(self.session.close)
        document = http("GET", f"{self.service.url}/openapi.json").body
        self.judge = Described(document)
        self.found: dict[tuple[str, str], str] = {}
        load_all_checks()
        self.checks = CHECKS.get_by_names(list(JUDGED_BY))
        schema: Any = schemathesis.openapi.from_dict(document)
        self.operations = sorted((one.ok() for one in schema.get_all_operations()), key=rank)
        self.sent: dict[str, set[int]] = {}

    def furnish(self) -> str:
        """
        Have something of every kind there: mail that waits, mail that has failed.

        :return: a tenant's key.
        """
        call = self.service.call
        for id in ("main", "gone"):
            call("POST", "/account", account(1, id=id, user="u", password="p"))
        attachment = {"filename": "a.txt", "storage_path": "base64:aGVsbG8="}
        both = {"body_plain": "a", "body_html": "<p>a</p>"}
        added = self.service.add(
            message("m1", attachments=[attachment], headers={"X-A": 1}),
            message("m2", cc="Ann <a@example.test>", **both, batch_code="b", deferred_ts=1),
            message("m3", account_id="gone", reply_to="r@example.test"),
        )
        self.assertEqual(200, added.status)
        call("DELETE", "/account/gone")
        key = call("POST", "/tenant", {"id": "acme", "client_base_url": NOWHERE}).body["api_key"]
        call("POST", "/account?tenant_id=acme", account(1))
        self.made("/v1/suppressions", {"address": KNOWN["suppressions"]})
        self.made("/v1/credentials", {"user": KNOWN["credentials"], "password": "p" * 8})
        self.made("/v1/dkim", {"domain": KNOWN["dkim"], "selector": "s1", "active": True})
        self.assertEqual(200, self.service.add(message("a1", tenant_id="acme")).status)
        self.hand_over_raw()
        return str(key)

    def made(self, path: str, payload: dict[str, Any]) -> None:
        """Something that drawn values hardly ever make."""
        answer = self.service.call("POST", path, payload)
        self.assertEqual([], self.judge.problems("POST", path, answer.status, answer.body))
        self.sent.setdefault(f"POST {path}", set()).add(answer.status)

    def hand_over_raw(self) -> None:
        """A finished message and a finished list, which are nothing that would be drawn."""
        of = "?id=r1&account_id=main&from=a@example.test&to=b@example.test"
        mail = b"From: a@example.test\r\nSubject: Raw\r\n\r\nHello.\r\n"
        self.hand_over("/v1/messages/raw", of, mail)
        self.hand_over("/v1/suppressions/import", "", b"address,reason\nb@example.test,left\n")

    def hand_over(self, path: str, query: str, data: bytes) -> None:
        answer = self.session.post(
            f"{self.service.url}{path}{query}", data=data, headers={"X-API-Token": TOKEN}
        )
        status, value = answer.status_code, answer.json()
        self.assertEqual([], self.judge.problems("POST", path, status, value))
        self.sent.setdefault(f"POST {path}", set()).add(status)

    def drawn(
        self,
        operation: Any,
        mode: GenerationMode,
        use: Callable[[Any], None],
        variables: dict[str, str] | None = None,
    ) -> None:
        """Have *use* called with requests of an endpoint."""

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode, path_parameters=variables))
        def each(case: Any) -> None:
            use(case)

        with contextlib.suppress(Unsatisfiable):  # some endpoints cannot be called wrongly
            each()

    def send(self, case: Any, token: str = TOKEN) -> None:
        """Make a request; what is wrong with its answer is kept in ``found``."""
        case.body = harmless(case.body)
        case.headers.pop("X-API-Token", None)
        case.headers.pop("Authorization", None)
        answer = case.call(
            base_url=self.service.url, session=self.session, headers={"X-API-Token": token}
        )
        self.sent.setdefault(case.operation.label, set()).add(answer.status_code)
        for name, text in self.problems(case, answer):
            self.found.setdefault((case.operation.label, name), text)

    def problems(self, case: Any, answer: Any) -> Iterator[tuple[str, str]]:
        def said() -> str:
            curl = case.as_curl_command()[:600]
            return f"{answer.status_code} {answer.content[:300]!r} to {curl}"

        try:
            case.validate_response(answer, checks=self.checks)
        except FailureGroup as group:
            for each in group.exceptions:
                yield type(each).__name__, f"{each} -- {said()}"
        if answer.headers["content-type"] != ["application/json"] or case.method == "HEAD":
            return
        value = answer.json()
        path = case.operation.path
        for problem in self.judge.problems(case.method, path, answer.status_code, value):
            yield "undescribed", f"{problem} -- {said()}"
        if answer.status_code < 300 and value.get("error"):
            yield "error", said()
        if "rejected" in value and path not in SUBMISSIONS:
            yield "rejected", said()

    def test_as_described(self) -> None:
        """F56: whatever fits the description, and whatever does not, is answered as it says."""
        self.furnish()
        for operation in self.operations:
            self.drawn(operation, GenerationMode.POSITIVE, self.send)
            self.drawn(operation, GenerationMode.NEGATIVE, self.send)
        key = self.furnish()
        for operation in self.operations:
            variables = known(operation.path, key)
            self.drawn(operation, GenerationMode.POSITIVE, lambda case: self.send(case, key))
            if variables:
                self.drawn(operation, GenerationMode.POSITIVE, self.send, variables)
        self.nothing_wrong()
        never = {label for label, statuses in self.sent.items() if 200 not in statuses}
        self.assertEqual(set(), never - {SIGNED}, "endpoints that never succeeded")
        self.assertEqual(len(self.operations), len(self.sent))

    def test_edges_as_described(self) -> None:
        """F56: so is what lies at the edges of each field, inside and outside."""
        self.furnish()
        for operation in self.operations:
            for case in operation.schema.iter_coverage_cases(
                operation,
                generation_modes=list(GenerationMode),
                generation_config=operation.schema.config.generation_for(operation=operation),
            ):
                self.send(case)
        self.nothing_wrong()

    def nothing_wrong(self) -> None:
        self.assertTrue(self.service.alive)
        told = "\n".join(f"{label}: {name}: {text}" for (label, name), text in self.found.items())
        self.assertEqual("", told)
