"""The client in front of the API, both in memory: requests' adapter on one side, a door behind."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from mailproxy.client import Client
from tests.api.door import TOKEN, Door, Reply

URL = "http://proxy.example:8000"

#: What an attempt comes to: an answer, an error that is raised, or the API's own.
Outcome = Reply | BaseException | None


class AnswerLost(requests.ConnectionError):
    """What was asked was done, and its answer did not arrive."""


class DoorAdapter(BaseAdapter):
    """
    Takes requests to a door.

    :ivar outcomes: what happens to the next requests in place of what the door says.
    :ivar made: the verb and the target of every request; *headers*: those of the last.
    """

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door
        self.outcomes: list[Outcome] = []
        self.made: list[tuple[str, str]] = []
        self.headers: Mapping[str, str] = {}
        self.timeout: Any = None

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
        parts = urlsplit(str(request.url))
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        self.made.append((str(request.method), target))
        self.headers, self.timeout = request.headers, options.get("timeout")
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, AnswerLost):
            self._ask(request, target)
        if isinstance(outcome, BaseException):
            raise outcome
        return _response(request, outcome or self._ask(request, target))

    def _ask(self, request: requests.PreparedRequest, target: str) -> Reply:
        fields = {
            name: value for name, value in request.headers.items() if name != "Content-Length"
        }
        token = fields.pop("X-API-Token", None)
        body = request.body if request.body else None
        return self._door.call(str(request.method), target, body, token, fields)

    def close(self) -> None:
        """There is nothing to close."""


def _response(request: requests.PreparedRequest, reply: Reply) -> requests.Response:
    response = requests.Response()
    response.status_code = reply.status
    response.headers = CaseInsensitiveDict(reply.headers)
    response.raw = BytesIO(reply.body)
    response.request = request
    response.url = str(request.url)
    return response


class DoorClient:
    """
    A client, and all that is behind it.

    :ivar slept: the seconds it waited, one entry for each time.
    """

    def __init__(self, token: str | None = TOKEN, **options: Any) -> None:
        self.door: Door = options.pop("door", None) or Door()
        self.adapter = DoorAdapter(self.door)
        self.slept: list[float] = []
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", self.adapter)
        self.client = Client(URL, token, session=session, sleep=self.slept.append, **options)

    def with_token(self, token: str | None, **options: Any) -> DoorClient:
        """Another client of the same service."""
        return DoorClient(token, door=self.door, **options)
