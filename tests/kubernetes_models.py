"""
Checks resources against the models of Kubernetes' own client.

The models are read, not imported: the client is installed without what it depends on.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs

#: Model of each apiVersion and kind.
KINDS = {
    ("apps/v1", "Deployment"): "V1Deployment",
    ("v1", "Service"): "V1Service",
    ("v1", "ConfigMap"): "V1ConfigMap",
    ("v1", "PersistentVolumeClaim"): "V1PersistentVolumeClaim",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "V2HorizontalPodAutoscaler",
    ("policy/v1", "PodDisruptionBudget"): "V1PodDisruptionBudget",
}

_PLAIN: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "bool": bool,
    "int": int,
    "float": (int, float),
    "datetime": str,
}

_NEEDED = re.compile(r"client_side_validation and (\w+) is None")


@attrs.frozen
class Model:
    """
    :param types: of each field, by its name in a manifest.
    :param needed: fields that have to be there.
    """

    types: dict[str, str]
    needed: frozenset[str]


@cache
def model(name: str) -> Model:
    """:raises FileNotFoundError: there is no model of that name."""
    spec = find_spec("kubernetes")
    assert spec is not None
    assert spec.origin is not None
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    text = (Path(spec.origin).parent / "client" / "models" / f"{snake}.py").read_text()
    found: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Assign([ast.Name("openapi_types" | "attribute_map" as field)], value):
                found[field] = ast.literal_eval(value)
    written = found["attribute_map"]
    types = {written[field]: kind for field, kind in found["openapi_types"].items()}
    return Model(types, frozenset(written[field] for field in _NEEDED.findall(text)))


def problems(resource: dict[str, Any]) -> list[str]:
    """What Kubernetes would say of a resource: unknown and missing fields, wrong types."""
    return list(_wrong(resource, KINDS[resource["apiVersion"], resource["kind"]], ""))


def _wrong(value: Any, kind: str, at: str) -> list[str]:
    if each := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(value, list):
            return [f"{at}: no list"]
        return [w for i, one in enumerate(value) for w in _wrong(one, each[1], f"{at}[{i}]")]
    if each := re.fullmatch(r"dict\(str, (.*)\)", kind):
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            return [f"{at}: no map"]
        return [w for name, one in value.items() for w in _wrong(one, each[1], f"{at}.{name}")]
    if kind == "object":
        # A number or a name of a port, a quantity.
        return [] if isinstance(value, str | int) else [f"{at}: neither number nor text"]
    if kind in _PLAIN:
        right = isinstance(value, _PLAIN[kind]) and (kind == "bool") == isinstance(value, bool)
        return [] if right else [f"{at}: not of type {kind}"]
    if not isinstance(value, dict):
        return [f"{at}: no object"]
    known = model(kind)
    found = [f"{at}.{name}: unknown" for name in value if name not in known.types]
    found += [f"{at}.{name}: missing" for name in known.needed if name not in value]
    for name, one in value.items():
        if name in known.types:
            found += _wrong(one, known.types[name], f"{at}.{name}")
    return found
