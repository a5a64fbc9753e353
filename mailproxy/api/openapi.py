"""
The description of the API in OpenAPI 3.1, made from the routes and the types they use.

Nothing is written twice: paths and verbs, who may call, and the fields come from the routes and
from the types that the endpoints decode and encode. The same routes give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from mailproxy.api.call import Need, Route
from mailproxy.api.doc import JSON_TYPE, Param
from mailproxy.api.shapes import Done, Invalid, Refusal

_REF = "#/components/schemas/{name}"
_VARIABLE = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>")

#: Shapes of refusals whose statuses every endpoint shares, by status.
REFUSALS: Mapping[int, tuple[str, Any]] = {
    400: ("The request cannot be done as it is; `error` says why.", Refusal),
    401: ("The token is missing, wrong, or of another tenant.", Refusal),
    403: ("The token is good, but not for this.", Refusal),
    404: ("There is no such thing.", Refusal),
    405: ("The path does not know this verb; `Allow` names those it knows.", Refusal),
    408: ("The request took too long to come in.", Refusal),
    413: ("The body is too large; nothing of it was done.", Refusal),
    422: ("Something in the request is wrong; `detail` lists everything, by its place.", Invalid),
    503: ("Cannot be done now, and nothing was stored; worth another try.", Refusal),
}

_HEADERS: Mapping[int, tuple[str, str, Any]] = {
    405: ("Allow", "The verbs the path knows.", {"type": "string"}),
    503: ("Retry-After", "Seconds to wait before.", {"type": "integer", "minimum": 0}),
}

_NEEDS = {
    Need.OPEN: "Open to anyone.",
    Need.TOKEN: "Needs the admin token, or any key of a tenant.",
    Need.SEND: "Needs the admin token, or a key of a tenant with the scope `send`.",
    Need.READ: "Needs the admin token, or a key of a tenant with the scope `read`.",
    Need.CONTROL: "Needs the admin token, or a key of a tenant with the scope `control`.",
    Need.ADMIN: "Needs the admin token.",
}

#: What endpoints are about whose path does not say it in so many words.
_TAGS = {
    "account": "accounts",
    "tenant": "tenants",
    "explain": "messages",
    "files": "messages",
    "reports": "events",
    "command-log": "commands",
    **dict.fromkeys(
        (
            *("status", "health", "livez", "readyz", "metrics"),
            *("instance", "nodes", "openapi.json", "docs"),
        ),
        "service",
    ),
}

#: What may be called with a tenant's key: there ``tenant_id`` chooses among the admin's tenants.
_TENANTS_TOO = (Need.TOKEN, Need.SEND, Need.READ, Need.CONTROL)

TENANT_PARAM = Param(
    "tenant_id",
    str,
    "The tenant that is meant. A tenant's key may name its own only; the admin, without it, reads "
    "of all tenants and writes for the tenant `default`.",
)

ABOUT = """\
Takes mail in over HTTP, keeps it until it is delivered, and reports what became of it.

Every answer is one JSON object: `ok`, and where that is false `error` with the reason and `detail`
with the reason again, or with the list of all that is wrong. No answer repeats what was sent, save
the ids of messages. Query parameters and fields of a body that are not described here are ignored,
except in an attachment. Where it matters, JSON `null` is the same as an absent field.
"""


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """
    The description, as JSON values.

    :param version: of the program.
    """
    ordered = sorted(routes, key=lambda route: (_path(route), route.method))
    schemas = _Schemas(ordered)
    paths: dict[str, dict[str, Any]] = {}
    for route in ordered:
        operation = _Operation(route, schemas).written()
        paths.setdefault(_path(route), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailproxy",
            "version": version,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "./"}],
        "tags": [{"name": tag} for tag in sorted({_tag(route) for route in ordered})],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-API-Token"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "parameters": {"tenant_id": _parameter(TENANT_PARAM, "query", {"type": "string"})},
            "responses": {
                _component(status): _response(about, status, _ref(shape))
                for status, (about, shape) in REFUSALS.items()
            },
            "schemas": schemas.components,
        },
    }


class _Schemas:
    """
    The schemas of every type the routes name.

    A type that is both taken and given has two: what is taken is then called ``...Given``.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        given: list[Any] = [Refusal, Invalid, Done]
        taken: list[Any] = []
        for route in routes:
            doc = route.doc
            given += [each for each in (doc.gives, *doc.refuses.values()) if each is not None]
            taken += [each.type for each in (*doc.query, *doc.headers)]
            taken += [] if doc.takes is None else [doc.takes]
        self._given, answers = _described(given, _REF)
        for schema in answers.values():
            _as_answer(schema)
        self._taken, requests = _described(taken, _REF)
        twice = {name for name in requests if answers.get(name, requests[name]) != requests[name]}
        names = {name: f"{name}Given" if name in twice else name for name in requests}
        self._taken = {key: _renamed(schema, names) for key, schema in self._taken.items()}
        renamed = {names[name]: _renamed(schema, names) for name, schema in requests.items()}
        self.components = dict(sorted((answers | renamed).items()))

    def given(self, type: Any) -> dict[str, Any]:
        """The schema of something in an answer."""
        return self._given[repr(type)]

    def taken(self, type: Any) -> dict[str, Any]:
        """The schema of something in a request."""
        return self._taken[repr(type)]


class _Operation:
    """One endpoint."""

    def __init__(self, route: Route, schemas: _Schemas) -> None:
        self._route = route
        self._doc = route.doc
        self._schemas = schemas
        self._variables = _VARIABLE.findall(route.path)
        self._own = route.needs in _TENANTS_TOO

    def written(self) -> dict[str, Any]:
        about = self._doc.about or f"{self._route.method} {_path(self._route)}."
        title, _, rest = about.partition(". ")
        words = [rest, _NEEDS[self._route.needs]]
        operation: dict[str, Any] = {
            "operationId": _name(self._route),
            "tags": [_tag(self._route)],
            "summary": title.rstrip("."),
            "description": "\n\n".join(filter(None, words)),
            "security": self._security(),
        }
        if parameters := self._parameters():
            operation["parameters"] = parameters
        if self._doc.takes is not None:
            operation["requestBody"] = self._body()
        operation["responses"] = self._responses()
        return operation

    def _security(self) -> list[dict[str, list[str]]]:
        tokens: list[dict[str, list[str]]] = [{"token": []}, {"bearer": []}]
        if self._route.needs is not Need.OPEN:
            return tokens
        return [{}, *tokens] if 401 in self._doc.refuses else []

    def _parameters(self) -> list[dict[str, Any]]:
        text = {"type": "string", "minLength": 1}
        found = [_parameter(Param(name, required=True), "path", text) for name in self._variables]
        if self._own and all(param.name != "tenant_id" for param in self._doc.query):
            found.append({"$ref": "#/components/parameters/tenant_id"})
        for place, params in (("query", self._doc.query), ("header", self._doc.headers)):
            found += [_parameter(each, place, self._schemas.taken(each.type)) for each in params]
        return found

    def _body(self) -> dict[str, Any]:
        content = _content(self._doc.takes_type, self._doc.takes, self._schemas.taken)
        if self._doc.example is not None:
            content[self._doc.takes_type]["example"] = self._doc.example
        return {"required": not self._doc.bodiless, "content": content}

    def _statuses(self) -> list[int]:
        """What refuses a call of this endpoint before or beside its own reasons."""
        if self._route.needs is Need.OPEN:
            return [404] if self._variables else []
        found = [400, 401, 503]
        found += [] if self._route.needs is Need.TOKEN else [403]
        found += [404] if self._variables else []
        found += [] if self._doc.takes is None else [408, 413]
        asked = self._own or self._variables or self._doc.query or self._doc.headers
        return found + ([422] if asked or self._doc.takes is not None else [])

    def _responses(self) -> dict[str, Any]:
        doc = self._doc
        usual, own = self._statuses(), doc.refuses
        responses: dict[str, Any] = {
            "200": {
                "description": "Done.",
                "content": _content(doc.gives_type, doc.gives or Done, self._schemas.given),
            }
        }
        for status in sorted({*usual, *own}):
            if own.get(status) is None and status in REFUSALS:
                responses[str(status)] = {"$ref": f"#/components/responses/{_component(status)}"}
                continue
            schemas = [_ref(REFUSALS[status][1])] if status in usual else []
            schemas.append(self._schemas.given(own[status] or Refusal))
            about = REFUSALS[status][0] if status in usual else HTTPStatus(status).phrase + "."
            schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
            responses[str(status)] = _response(about, status if status in usual else 0, schema)
        return responses


def _path(route: Route) -> str:
    return _VARIABLE.sub(r"{\1}", route.path)


def _name(route: Route) -> str:
    """The operation's id: verb and path as one word."""
    return "_".join([route.method.lower(), *re.findall(r"[a-z0-9]+", route.path.lower())])


def _tag(route: Route) -> str:
    """What the endpoint is about: the first word of its path that says so."""
    words = [word for word in route.path.split("/") if word not in ("", "v1", "commands")]
    if "commands" in route.path.split("/"):
        return "messages" if words[0].endswith("-messages") else "commands"
    return _TAGS.get(words[0], words[0])


def _component(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "").replace("-", "")


def _ref(shape: Any) -> dict[str, Any]:
    return {"$ref": _REF.format(name=shape.__name__)}


def _parameter(param: Param, place: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    written = {"name": param.name, "in": place, "required": param.required}
    return {**written, **({"description": param.about} if param.about else {}), "schema": schema}


def _content(media: str, type: Any, schema: Any) -> dict[str, Any]:
    """What a body is; one that is not JSON is opaque."""
    if media == JSON_TYPE:
        return {media: {"schema": schema(type)}}
    return {media: {"schema": {"type": "string"}} if type is str else {}}


def _response(about: str, status: int, schema: Mapping[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": about}
    if status in _HEADERS:
        name, words, value = _HEADERS[status]
        response["headers"] = {name: {"description": words, "required": True, "schema": value}}
    return {**response, "content": {JSON_TYPE: {"schema": schema}}}


def _described(types: Sequence[Any], ref: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The schema of each type, by its ``repr``, and what they refer to, by name."""
    schemas, components = msgspec.json.schema_components(types, ref_template=ref)
    return dict(zip(map(repr, types), schemas, strict=True)), components


def _as_answer(schema: dict[str, Any]) -> None:
    """What an answer's type has a default for is in every answer all the same."""
    properties: dict[str, Any] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    for name, each in properties.items():
        if "default" in each:
            del each["default"]
            required.add(name)
    if required:
        schema["required"] = [name for name in properties if name in required]


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    """*schema* with its references to components under their new names."""
    if isinstance(schema, list):
        return [_renamed(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    written = {key: _renamed(value, names) for key, value in schema.items()}
    if isinstance(target := schema.get("$ref"), str):
        written["$ref"] = _REF.format(name=names[target.rpartition("/")[2]])
    return written
