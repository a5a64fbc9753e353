"""Builds a kustomization: the part of kustomize that ``deploy/kubernetes`` uses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

#: What a kustomization may have here; another entry would be passed over in silence.
ENTRIES = frozenset(("apiVersion", "kind", "resources", "patches", "images", "configMapGenerator"))

#: By what the elements of a list are told apart when it is patched (the API's patchMergeKey).
MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "topologySpreadConstraints": "topologyKey",
}

Resource = dict[str, Any]


class Wrong(Exception):
    """The kustomization cannot be built."""


def key(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def documents(path: Path) -> Iterator[Any]:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if document is not None:
            yield document


def build(folder: Path) -> dict[tuple[str, str], Resource]:
    """
    Every resource, by kind and name.

    :raises Wrong: a patch is for nothing, a resource is there twice, a file is missing.
    """
    (plan,) = documents(folder / "kustomization.yaml")
    if strange := set(plan) - ENTRIES:
        raise Wrong(f"{folder.name}: {strange} is not known here")
    found: dict[tuple[str, str], Resource] = {}
    for name in plan["resources"]:
        place = folder / name
        if not place.exists():
            raise Wrong(f"{folder.name}: there is no {name}")
        made = build(place).values() if place.is_dir() else list(documents(place))
        for resource in made:
            _add(found, resource)
    for generator in plan.get("configMapGenerator", ()):
        data = dict(literal.split("=", 1) for literal in generator["literals"])
        metadata = {"name": generator["name"]}
        _add(found, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for each in plan.get("patches", ()):
        for patch in documents(folder / each["path"]):
            if key(patch) not in found:
                raise Wrong(f"{each['path']}: there is no {key(patch)}")
            if patch.pop("$patch", None) == "delete":
                del found[key(patch)]
            else:
                found[key(patch)] = merged(found[key(patch)], patch)
    return found


def _add(found: dict[tuple[str, str], Resource], resource: Resource) -> None:
    if key(resource) in found:
        raise Wrong(f"{key(resource)} is there twice")
    found[key(resource)] = resource


def merged(old: Any, new: Any, name: str = "") -> Any:
    """A strategic merge: objects by field, null takes away, lists as their merge key says."""
    if isinstance(old, dict) and isinstance(new, dict):
        result = copy.deepcopy(old)
        for field, value in new.items():
            if value is None:
                result.pop(field, None)
            else:
                result[field] = merged(result.get(field), value, field)
        return result
    if isinstance(old, list) and isinstance(new, list) and name in MERGE_KEYS:
        by = MERGE_KEYS[name]
        several = copy.deepcopy(old)
        for element in new:
            at = [i for i, each in enumerate(several) if each[by] == element[by]]
            if at:
                several[at[0]] = merged(several[at[0]], element)
            else:
                several.append(merged({}, element))
        return several
    if isinstance(new, dict):
        return merged({}, new)
    return copy.deepcopy(new)
