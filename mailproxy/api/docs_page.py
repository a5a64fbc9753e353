"""
The description of the API as one page of HTML for people.

It needs nothing but itself: no script, no other file, its style is named in its own policy by a
digest. It shows what ``/openapi.json`` says, and nothing that says not.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, cast

import msgspec

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --link: light-dark(#06c, #7bf); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1rem; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; }
a { color: var(--link); }
code, pre { font: 0.9em/1.4 ui-monospace, monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--soft); padding: 0.75rem; overflow-x: auto; }
nav { columns: 18rem; }
nav ul { list-style: none; padding: 0; margin: 0 0 1rem; break-inside: avoid; }
details { border: 1px solid var(--line); border-radius: 6px; margin: 0.5rem 0; }
details[open] { padding-bottom: 0.5rem; }
summary { cursor: pointer; padding: 0.5rem 0.75rem; }
summary code { font-weight: 600; }
details > :not(summary) { margin-left: 0.75rem; margin-right: 0.75rem; }
table { border-collapse: collapse; width: calc(100% - 1.5rem); }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.75rem 0.3rem 0;
  border-top: 1px solid var(--line); }
td p, td ul { margin: 0; }
"""

_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

#: What the page may do: be shown, in its own style.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} {version}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header><h1>{title} {version}</h1>
{about}
<p>The same for programs: <a href="openapi.json">openapi.json</a> (OpenAPI {openapi}).
Tokens go into {tokens}.</p></header>
<nav aria-label="Endpoints">{contents}</nav>
<main>{body}
<h2 id="types">Types</h2>
{types}
</main>
</body>
</html>
"""

#: An operation with its path and verb.
_Operation = tuple[str, str, Mapping[str, Any]]


def page(document: Mapping[str, Any]) -> str:
    """*document*, as :func:`mailproxy.api.openapi.document` makes it, as HTML."""
    info = document["info"]
    groups = {tag["name"]: list(_tagged(document, tag["name"])) for tag in document["tags"]}
    schemes = document["components"]["securitySchemes"].values()
    return _PAGE.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        style=STYLE,
        about=_prose(info["description"]),
        openapi=escape(document["openapi"]),
        tokens=" or ".join(map(_scheme, schemes)),
        contents="".join(_contents(tag, group) for tag, group in groups.items()),
        body="".join(_group(document, tag, group) for tag, group in groups.items()),
        types="".join(
            _type(name, schema) for name, schema in document["components"]["schemas"].items()
        ),
    )


def _tagged(document: Mapping[str, Any], tag: str) -> Iterator[_Operation]:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            if tag in operation["tags"]:
                yield path, verb.upper(), operation


def _scheme(scheme: Mapping[str, Any]) -> str:
    header = scheme.get("name", "Authorization: Bearer")
    return f"<code>{escape(header)}</code>"


def _contents(tag: str, group: list[_Operation]) -> str:
    items = "".join(
        f'<li><a href="#{escape(operation["operationId"])}"><code>{verb} {escape(path)}</code></a>'
        for path, verb, operation in group
    )
    return f'<ul><li><a href="#{escape(tag)}"><strong>{escape(tag)}</strong></a>{items}</ul>'


def _group(document: Mapping[str, Any], tag: str, group: list[_Operation]) -> str:
    operations = "".join(_operation(document, *each) for each in group)
    return f'<section><h2 id="{escape(tag)}">{escape(tag)}</h2>{operations}</section>'


def _operation(
    document: Mapping[str, Any], path: str, verb: str, operation: Mapping[str, Any]
) -> str:
    parts = [
        f"<summary><code>{verb} {escape(path)}</code> {_inline(operation['summary'])}</summary>",
        _prose(operation["description"]),
    ]
    if parameters := operation.get("parameters"):
        rows = [_parameter(_found(document, each)) for each in parameters]
        parts.append(f"<h3>Parameters</h3>{_table(rows)}")
    if (body := operation.get("requestBody")) is not None:
        parts.append(f"<h3>Body</h3>{_body(body)}")
    answers = [
        _answer(status, _found(document, each)) for status, each in operation["responses"].items()
    ]
    parts.append(f"<h3>Answers</h3>{_table(answers)}")
    return f'<details id="{escape(operation["operationId"])}">{"".join(parts)}</details>'


def _found(document: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """*value*, or the component it refers to."""
    if "$ref" not in value:
        return value
    found: Any = document
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return cast(Mapping[str, Any], found)


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    name = f"<code>{escape(parameter['name'])}</code>"
    place = parameter["in"] + (", required" if parameter["required"] else "")
    about = _inline(parameter.get("description", ""))
    return name, _kind(parameter["schema"]), escape(place), about


def _body(body: Mapping[str, Any]) -> str:
    parts = [] if body["required"] else ["<p>May be left out.</p>"]
    for media, content in body["content"].items():
        parts.append(f"<p>{_media(media, content)}</p>")
        if "example" in content:
            example = msgspec.json.format(msgspec.json.encode(content["example"]), indent=2)
            parts.append(f"<pre>{escape(example.decode())}</pre>")
    return "".join(parts)


def _answer(status: str, response: Mapping[str, Any]) -> tuple[str, ...]:
    content = " ".join(_media(*each) for each in response.get("content", {}).items())
    headers = "".join(
        f" <code>{escape(name)}</code>: {_inline(header['description'])}"
        for name, header in response.get("headers", {}).items()
    )
    return f"<code>{escape(status)}</code>", content, _inline(response["description"]) + headers


def _media(media: str, content: Mapping[str, Any]) -> str:
    kind = _kind(content["schema"]) if "schema" in content else "bytes"
    return kind if media == "application/json" else f"{kind} (<code>{escape(media)}</code>)"


def _type(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _kind(each) + (", required" if field in required else ""),
            _inline(each.get("description", "")),
        )
        for field, each in schema.get("properties", {}).items()
    ]
    about = _prose(schema.get("description", ""))
    body = _table(rows) if rows else f"<p>{_kind(schema)}</p>"
    summary = f"<summary><code>{escape(name)}</code></summary>"
    return f'<details id="type-{escape(name)}" open>{summary}{about}{body}</details>'


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}">{name}</a>'
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[word]))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"<code>{escape(_json(value))}</code>" for value in values)
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind or "any value"))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{body}</table>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in re.split(r"\n\s*\n", text.strip()) if part)


def _inline(text: str) -> str:
    """Text with ```code``` in it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
