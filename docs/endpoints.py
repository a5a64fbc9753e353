"""The page of the reference that follows from the service's own description of its API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mailproxy.api.description import Description
from mailproxy.api.root import Api, ApiOptions
from mailproxy.metrics import Metrics

_HEAD = """\
# Fields of the HTTP interface

<!-- Made by `python docs/generate.py`; do not edit. -->

Every endpoint with what it takes and gives, field by field, as `/openapi.json` and `/docs` of a
running service tell it. [The HTTP interface](api.md) explains it, [Using the API](../usage.md) has
examples. What is the same everywhere is told there, once: the statuses that any endpoint may answer
with, and `tenant_id` in the query.
"""

#: Answers that every endpoint may give.
_ANYWHERE = frozenset(("400", "401", "403", "405", "408", "413", "422", "503"))


class _Absent:
    """Stands for what endpoints work with: they are described here, and not called."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self


def page() -> str:
    """The page about the endpoints and their types."""
    document = _document()
    parts = [_HEAD]
    for tag in [each["name"] for each in document["tags"]]:
        parts.append(f"\n## {tag.capitalize()}\n")
        for path, verbs in document["paths"].items():
            for verb, operation in verbs.items():
                if tag in operation["tags"]:
                    parts += _endpoint(document, f"{verb.upper()} {path}", operation)
    parts.append("\n## Types\n")
    for name, schema in document["components"]["schemas"].items():
        parts += _type(name, schema)
    return "".join(parts)


def _document() -> Mapping[str, Any]:
    absent: Any = _Absent()
    options = ApiOptions(can_sign=lambda: True)
    api = Api(absent, absent, absent, absent, Metrics(), absent, options, absent, absent)
    own = ("/openapi.json", "/docs")
    return Description([route for route in api.routes if route.path not in own]).document


def _endpoint(
    document: Mapping[str, Any], name: str, operation: Mapping[str, Any]
) -> Iterator[str]:
    yield f"\n### `{name}`\n\n{operation['summary']}."
    yield f"\n\n{operation['description']}\n" if "description" in operation else "\n"
    found = [_found(document, each) for each in operation.get("parameters", ())]
    rows = [
        _parameter(each) for each in found if each["name"] != "tenant_id" or each["in"] == "path"
    ]
    if rows:
        yield "\n| parameter | in | kind | |\n|---|---|---|---|\n" + "".join(rows)
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"\nTakes {_kind(content.get('schema', {}))} (`{media}`).\n"
    for status, answer in operation["responses"].items():
        if status not in _ANYWHERE:
            kinds = [
                f" {_kind(content['schema'])}" if "json" in media else f" `{media}`"
                for media, content in _found(document, answer).get("content", {}).items()
                if "schema" in content
            ]
            said = _cell(answer.get("description", ""))
            about = f" {said}" if said not in ("", "Done.") else ""
            yield f"\n{status}:{' or'.join(kinds) or ' nothing'}.{about}\n"


def _parameter(parameter: Mapping[str, Any]) -> str:
    needed = ", required" if parameter.get("required") and parameter["in"] != "path" else ""
    return (
        f"| `{parameter['name']}` | {parameter['in']} | {_kind(parameter['schema'])}{needed} "
        f"| {_cell(parameter.get('description', ''))} |\n"
    )


def _type(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n### {name}\n"
    if "description" in schema:
        yield f"\n{schema['description']}\n"
    if "properties" not in schema:
        yield f"\n{_kind(schema)}\n"
        return
    required = schema.get("required", ())
    yield "\n| field | kind | |\n|---|---|---|\n"
    for field, each in schema["properties"].items():
        needed = ", required" if field in required else ""
        yield f"| `{field}` | {_kind(each)}{needed} | {_cell(each.get('description', ''))} |\n"


def _kind(schema: Mapping[str, Any]) -> str:
    """What a value is, in a word or a link."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(map(_kind, schema[choice])))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    kinds = schema.get("type", "anything")
    if kinds == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


def _found(document: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """*value*, or what it refers to."""
    reference = re.fullmatch(r"#/components/(\w+)/(\w+)", value.get("$ref", ""))
    if reference is None:
        return value
    found: Mapping[str, Any] = document["components"][reference[1]][reference[2]]
    return found


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
