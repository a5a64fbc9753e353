"""
Writes what the image is made of, as a CycloneDX bill of materials.

``python tools/sbom.py FILE``: every package of ``requirements-image.lock`` with version, hashes and
licence, the same each time. The licences are those of the packages that are installed.
"""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mailproxy import __version__

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements-image.lock"


def bill(lock: Path = LOCK) -> dict[str, Any]:
    """
    The bill of the service with the packages of *lock*.

    :raises subprocess.CalledProcessError: the lock cannot be read.
    """
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    own = setup["metadata"]
    with tempfile.TemporaryDirectory() as folder:
        # The tool knows the newer form of metadata only.
        project = Path(folder) / "pyproject.toml"
        lines = {"name": own["name"], "version": __version__, "description": own["description"]}
        lines["license"] = own["license"]
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
        project.write_text(f"[project]\n{text}")
        made = subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements"),
                *("--pyproject", project, "--mc-type", "application", "--output-reproducible"),
                lock,
            ],
            stdout=subprocess.PIPE, check=True, timeout=120,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(made.stdout)
    _license(found["components"])
    _depend(found, setup["options"]["install_requires"].split())
    return found


def _license(components: list[dict[str, Any]]) -> None:
    """Add to each component what its package says of its licence."""
    for component in components:
        try:
            about = metadata(component["name"])
        except PackageNotFoundError:  # for another system or Python
            continue
        if "License-Expression" in about:
            given = {"acknowledgement": "declared", "expression": about["License-Expression"]}
            component["licenses"] = [given]
        elif "License" in about and (text := about["License"].strip().partition("\n")[0]):
            component["licenses"] = [{"license": {"acknowledgement": "declared", "name": text}}]


def _depend(found: dict[str, Any], required: list[str]) -> None:
    """Say which components the service itself asks for."""
    names = {canonicalize_name(Requirement(text).name) for text in required}
    refs = [c["bom-ref"] for c in found["components"] if canonicalize_name(c["name"]) in names]
    root = found["metadata"]["component"]["bom-ref"]
    for each in found["dependencies"]:
        if each["ref"] == root:
            each["dependsOn"] = sorted(refs, key=lambda ref: [*map(int, re.findall(r"\d+", ref))])


def main() -> None:
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(bill(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
