"""
Words that are searched for afterwards: no value of a request gets into a log or a refusal.

One word for every place there is in a request, by the service's own description: every field of
every body, every parameter of path and query, and header fields. Ids are no secrets: they may be
logged and told, everything else may not.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any

import requests
from twisted.trial.unittest import SynchronousTestCase

from tests.api.described import resolved
from tests.scenarios.processes import TOKEN, Service, account, http, message
from tests.scratch import scratch

#: What names things, and so may be logged: ids, and the path that was asked for.
NAMES = re.compile(r"(\bid|_id|ids|prefix|batch_code|domain|\(path\))$")

#: Levels of a body that are filled.
DEPTH = 4


class Canaries:
    """Makes words, and knows where each was put."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def word(self, place: str) -> str:
        word = f"canary{len(self.places):05d}x"
        self.places[word] = place
        return word

    def found(self, text: str) -> list[str]:
        """The places whose words stand in *text*."""
        return sorted({self.places[word] for word in re.findall(r"canary\d{5}x", text)})


class CanaryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.service = Service(
            scratch(self),
            GMP_SCHEDULER_ACTIVE="false",
            GMP_LOG_LEVEL="DEBUG",
            GMP_LOG_DELIVERY_ACTIVITY="true",
        ).start()
        self.addCleanup(self.service.end)
        self.session = requests.Session()
        self.addCleanup(self.session.close)
        self.document = http("GET", f"{self.service.url}/openapi.json").body
        self.canaries = Canaries()
        self.told: list[str] = []
        self.sent = 0
        self.service.call("POST", "/account", account(1))
        self.service.call("POST", "/tenant", {"id": "acme"})
        self.service.add(message("m1"))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        query: str = "",
    ) -> None:
        """One request; refusals are kept for the search, without the ids they are allowed."""
        fields = {"X-API-Token": TOKEN, **(headers or {})}
        answer = self.session.request(
            method, f"{self.service.url}{path}?{query}", data=body, headers=fields, timeout=30
        )
        self.sent += 1
        self.assertLess(answer.status_code, 500, (method, path, answer.text))
        if answer.status_code >= 400:
            value = answer.json()
            for item in (*value.get("rejected", ()), *value.get("items", ())):
                item.pop("id")
            if isinstance(value["detail"], dict):
                value["detail"] = value["detail"]["error"]
            self.told.append(f"{answer.headers} {json.dumps(value)}")

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Verb, path and description of every endpoint; those that end things come last."""
        found = [
            (verb.upper(), path, operation)
            for path, verbs in self.document["paths"].items()
            for verb, operation in verbs.items()
        ]
        return iter(sorted(found, key=lambda each: each[0] == "DELETE"))

    def target(self, path: str) -> str:
        """*path* with something that is there for each variable, as far as is known."""
        return re.sub(r"\{\w+\}", lambda match: "acme" if "tenant" in match[0] else "m1", path)

    def filled(self, schema: dict[str, Any], place: str, depth: int = DEPTH) -> Any:
        """A value of the form *schema* wants, every text in it a word that is searched for."""
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                kinds = [each for each in schema[choice] if each.get("type") != "null"]
                return self.filled(kinds[-1], place, depth)
        kind = schema.get("type")
        if kind == "object" and depth and "properties" in schema:
            return {
                name: self.filled(each, f"{place}.{name}", depth - 1)
                for name, each in schema["properties"].items()
            }
        if kind == "object" and depth:
            return {self.canaries.word(f"{place} (key)"): self.canaries.word(place)}
        if kind == "array" and depth:
            return [self.filled(schema.get("items", {}), place, depth - 1)]
        return self.canaries.word(place)

    def bodies(self, schema: dict[str, Any], place: str) -> Iterator[bytes]:
        """Bodies that carry words: well formed, torn, of the wrong types, one field at a time."""
        whole = self.filled(schema, place)
        yield json.dumps(whole).encode()
        yield json.dumps(whole).encode()[:-1]
        yield json.dumps([self.filled(schema, place)]).encode()
        yield self.canaries.word(place).encode() + b"\xff"
        yield json.dumps({self.canaries.word(f"{place} (key)"): 1}).encode()
        for name in schema.get("properties", {}):
            word = self.canaries.word
            for value in (
                word(f"{place}.{name}"),
                [word(f"{place}.{name}")],
                {word(f"{place}.{name} (key)"): word(f"{place}.{name}")},
                word(f"{place}.{name}") + "\r\n\x00",
                word(f"{place}.{name}") + "\ud800",
            ):
                good = self.filled(schema, place)
                yield json.dumps({**good, name: value}).encode()

    def try_all(self) -> None:
        word = self.canaries.word
        for method, path, operation in self.operations():
            target, place = self.target(path), f"{method} {path}"
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schema = resolved(self.document, content.get("schema", {}))
                for body in self.bodies(schema, place):
                    self.ask(method, target, body)
            for parameter in operation.get("parameters", ()):
                name = resolved(self.document, parameter)["name"]
                for after in ("", "%00", "%ff", "%0d%0a"):
                    query = f"{name}={word(f'{place}?{name}')}{after}"
                    self.ask(method, target, b"{}", query=query)
            if "{" in path:
                odd = re.sub(r"\{\w+\}", word(f"{place} (path)"), path)
                self.ask(method, odd, b"{}")
            query = f"{word(f'{place}?')}={word(f'{place}?')}"
            self.ask(method, target, b"{}", query=query)
            self.ask(method, target, b"{}", self.headers(place))

    def headers(self, place: str) -> dict[str, str]:
        """Header fields with words in them, the token too."""
        names = ("Authorization", "Cookie", "User-Agent", "Referer", "X-Forwarded-For",
                 "Idempotency-Key", "Accept", "Content-Type", "X-Api-Token", "Host")  # fmt: skip
        return {name: self.canaries.word(f"{place} {name}") for name in names}

    def raw(self) -> None:
        """What is not even HTTP."""
        for text in ("GET /x?{} HTTP/1.1\r\n{}\r\n\r\n", "{} / HTTP/9.9\r\n\r\n", "{}\r\n\r\n",
                     "POST /account HTTP/1.1\r\nContent-Length: {}\r\n\r\n"):  # fmt: skip
            parts = urllib.parse.urlsplit(self.service.url)
            words = [self.canaries.word(f"{text} {n}") for n in range(text.count("{}"))]
            self.told.append(exchange(str(parts.hostname), parts.port or 0, text.format(*words)))

    def test_s16_canaries(self) -> None:
        """S16: no value of a request, wherever it stands, is in the log or in a refusal."""
        self.try_all()
        self.raw()
        self.service.terminate()
        self.assertGreater(self.sent, 100)
        self.assertEqual([], self.canaries.found("\n".join(self.told)))
        log = self.service.output()
        self.assertIn("POST /account 422", log)
        leaked = [place for place in self.canaries.found(log) if not NAMES.search(place)]
        self.assertEqual([], leaked)


def exchange(host: str, port: int, text: str) -> str:
    """Send *text* as it is; all that comes back until the connection ends or is silent."""
    came = b""
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                came += piece
    return came.decode("utf-8", "replace")
