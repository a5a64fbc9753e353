"""Holds answers against the description of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator


def judge(schema: Any) -> Draft202012Validator:
    """What tells whether a value is as *schema* says."""
    from jsonschema import Draft202012Validator  # which takes more than a second to import

    return Draft202012Validator(schema)


def check_document(document: Mapping[str, Any]) -> None:
    """Hold a description against the rules of OpenAPI. :raises Exception: it breaks one."""
    from openapi_spec_validator import validate  # as long as that

    validate(document)


def resolved(document: Mapping[str, Any], schema: Any) -> Any:
    """*schema* with everything it refers to put in its place."""
    if isinstance(schema, list):
        return [resolved(document, each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(target := schema.get("$ref"), str):
        found: Any = document
        for name in target.removeprefix("#/").split("/"):
            found = found[name]
        return resolved(document, found)
    return {key: resolved(document, value) for key, value in schema.items()}


def closed(schema: Any) -> Any:
    """*schema* refusing every field it does not name: so that nothing goes undescribed."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    written = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        written["additionalProperties"] = False
    return written


class Described:
    """
    The description as a judge of answers.

    :param document: what ``/openapi.json`` says.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._judges: dict[tuple[str, str, int], Draft202012Validator] = {}

    def _above(self, path: str) -> list[str]:
        """Paths that end in a variable, which takes slashes, and so may mean *path* as well."""
        return [
            other
            for other in self._document["paths"]
            if other.endswith("}") and path.startswith(other + "/")
        ]

    def problems(self, method: str, path: str, status: int, value: Any) -> list[str]:
        """
        What of an answer is not as described, or not described at all.

        :param path: as the description spells it, with ``{id}``.
        :param value: the decoded body.
        """
        key = (method, path, status)
        if key not in self._judges:
            verbs = self._document["paths"][path]
            if method.lower() not in verbs:
                usual = self._document["components"]["responses"]
                told = {"405": usual["MethodNotAllowed"], "401": usual["Unauthorized"]}
                for other in self._above(path):
                    told |= (
                        self._document["paths"][other].get(method.lower(), {}).get("responses", {})
                    )
            else:
                told = verbs[method.lower()]["responses"]
            if str(status) not in told:
                return [f"{method} {path}: {status} is not described"]
            response = resolved(self._document, told[str(status)])
            schema = response["content"]["application/json"]["schema"]
            self._judges[key] = judge(closed(schema))
        return [
            f"{method} {path} {status}: {error.json_path}: {error.message}"
            for error in self._judges[key].iter_errors(value)
        ]
