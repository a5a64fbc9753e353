"""``/openapi.json`` and ``/docs``: the API described, by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import msgspec

import mailproxy
from mailproxy.api.answers import Answer
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.docs_page import POLICY, page
from mailproxy.api.openapi import document

_HTML = "text/html; charset=utf-8"

_PAGE_HEADERS = (
    (b"Content-Security-Policy", POLICY.encode()),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
)


class Description:
    """
    Open to anyone: it tells what the program is like, nothing of what it holds.

    :param routes: all other endpoints.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    @cached_property
    def document(self) -> dict[str, Any]:
        """The description; made when first asked for, since a start need not wait for it."""
        return document([*self._routes, *self.routes()], mailproxy.__version__)

    @cached_property
    def _json(self) -> Answer:
        return Answer(200, msgspec.json.encode(self.document))

    @cached_property
    def _page(self) -> Answer:
        html = page(self.document).encode()
        return Answer(200, html, _HTML.encode(), _PAGE_HEADERS)

    def routes(self) -> Iterable[Route]:
        yield Route(
            "GET",
            "/openapi.json",
            self.describe,
            Need.OPEN,
            Doc(about="Describe the API to programs, in OpenAPI 3.1.", gives=dict[str, Any]),
        )
        yield Route(
            "GET",
            "/docs",
            self.show,
            Need.OPEN,
            Doc(about="Describe the API to people.", gives=str, gives_type=_HTML),
        )

    async def describe(self, call: Call) -> Answer:
        return self._json

    async def show(self, call: Call) -> Answer:
        return self._page
