"""Reads a Dockerfile: its stages, and the instructions of each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs

#: What the Dockerfile reference knows.
INSTRUCTIONS = frozenset(
    (
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK"),
        *("LABEL", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    )
)


@attrs.define
class Stage:
    """
    :param base: the image or stage it begins with.
    :param steps: (instruction, argument), in their order.
    """

    base: str
    name: str
    steps: list[tuple[str, str]] = attrs.Factory(list)

    def all(self, instruction: str) -> list[str]:
        return [text for word, text in self.steps if word == instruction]

    def one(self, instruction: str) -> str:
        (text,) = self.all(instruction)
        return text

    def form(self, instruction: str) -> list[str]:
        """The exec form of an instruction. :raises ValueError: it is in shell form."""
        text = self.one(instruction)
        found: list[str] = json.loads(text[text.index("[") :])
        return found


def read(path: Path) -> list[Stage]:
    """
    The stages of a Dockerfile.

    :raises ValueError: a line is no instruction.
    """
    lines = [
        line.rstrip()
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    stages: list[Stage] = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, _, text = line.partition(" ")
        if word not in INSTRUCTIONS or not text.strip():
            raise ValueError(f"no instruction: {line!r}")
        if word == "FROM":
            base, _, name = text.partition(" AS ")
            stages.append(Stage(base.strip(), name.strip()))
        elif stages:
            stages[-1].steps.append((word, text.strip()))
        elif word != "ARG":
            raise ValueError(f"before the first FROM: {line!r}")
    return stages
