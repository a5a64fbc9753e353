"""
Whether a directory outlasts the container it is seen from, by Linux's table of mounts.

Pure: the caller brings the text of ``/proc/self/mountinfo``, whose form proc(5) describes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

import attrs

#: File systems that are memory.
_MEMORY = frozenset(("tmpfs", "ramfs"))

#: Where Docker and Podman keep a volume without a name: it has 64 hexadecimal digits for one.
_ANONYMOUS = re.compile(r"/volumes/[0-9a-f]{64}/_data(/|$)")

#: Where Kubernetes keeps what goes with the pod.
_EMPTY_DIR = "/volumes/kubernetes.io~empty-dir/"


class Keeping(Enum):
    """What becomes of a directory."""

    KEPT = "kept"
    #: Kept until somebody tidies up: nothing but a number tells it from others.
    ANONYMOUS = "anonymous"
    LOST = "lost"
    UNKNOWN = "unknown"


@attrs.frozen
class Place:
    """
    What is known of a directory.

    :param what: it is, in words; "" if it is kept.
    """

    keeping: Keeping
    what: str = ""


@attrs.frozen
class Mount:
    """
    One mount.

    :param point: where it is seen.
    :param root: which directory of its file system is seen there.
    :param kind: of file system.
    """

    point: str
    root: str
    kind: str


def judge(path: str, table: str) -> Place:
    """
    What becomes of *path* when the container is removed.

    :param path: absolute and resolved.
    :param table: the text of ``/proc/self/mountinfo``; lines of another form are passed over.
    """
    mount = mount_of(path, mounts(table))
    if mount is None:
        return Place(Keeping.UNKNOWN, "in no file system that the table of mounts knows")
    if mount.kind in _MEMORY:
        return Place(Keeping.LOST, f"in memory ({mount.kind})")
    if mount.point == "/":
        return Place(Keeping.LOST, "in the container's own layer, which is removed with it")
    if _EMPTY_DIR in f"{mount.root}/":
        return Place(Keeping.LOST, "in an emptyDir, which is removed with the pod")
    if _ANONYMOUS.search(mount.root):
        return Place(Keeping.ANONYMOUS, "on a volume without a name")
    return Place(Keeping.KEPT)


def mounts(table: str) -> list[Mount]:
    """The mounts of the table, in its order."""
    found = []
    for line in table.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if separator and len(fields) >= 6 and kinds[0]:
            found.append(Mount(_plain(fields[4]), _plain(fields[3]), kinds[0]))
    return found


def mount_of(path: str, table: Sequence[Mount]) -> Mount | None:
    """The mount that *path* is seen in: the deepest; of several at one point the last."""
    best: Mount | None = None
    for mount in table:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _plain(text: str) -> str:
    r"""Blanks, tabs, line ends and backslashes stand in the table as ``\040`` and the like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
