"""What outlasts a container, from tables of mounts as containers see them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.mounts import Keeping, Mount, Place, judge, mount_of, mounts

VOLUME = "8a1c" * 16


def table(*lines: str) -> str:
    """A table of mounts; what stands before and after the part that matters is filled in."""
    made = []
    for number, line in enumerate(lines, 1250):
        seen, _, source = line.partition(" - ")
        made.append(
            f"{number} 1049 254:{number} {seen} rw,relatime master:4 - {source} rw,inode64\n"
        )
    return "".join(made)


#: Docker: an overlay, and what it brings into every container.
DOCKER = table(
    "/ / - overlay overlay",
    "/ /proc - proc proc",
    "/ /dev - tmpfs tmpfs",
    "/ /dev/shm - tmpfs shm",
    "/var/lib/docker/containers/1f/hosts /etc/hosts - ext4 /dev/vda1",
)
ANONYMOUS = table(f"/var/lib/docker/volumes/{VOLUME}/_data /data - ext4 /dev/vda1")
NAMED = table("/var/lib/docker/volumes/mailproxy/_data /data - ext4 /dev/vda1")
OWN_DISK = table(f"/volumes/{VOLUME}/_data /data - xfs /dev/vdb")
BIND = table("/srv/mail\\040proxy /data - ext4 /dev/vda1")
TMPFS = table("/ /data - tmpfs tmpfs")

#: Podman without root, its layer in FUSE.
STORAGE = "/home/u/.local/share/containers/storage"
PODMAN = table(
    "/ / - fuse.fuse-overlayfs fuse-overlayfs",
    f"{STORAGE}/volumes/{VOLUME}/_data /data - btrfs /dev/dm-0",
)

#: Kubernetes: an emptyDir, and a claim that is a disk of its own.
POD = table("/ / - overlay overlay")
EMPTY_DIR = table(
    "/var/lib/kubelet/pods/0b9d/volumes/kubernetes.io~empty-dir/data /data - xfs /dev/nvme0n1p1"
)
CLAIM = table("/ /data - ext4 /dev/nvme1n1")

#: A container whose layer is a subvolume, not an overlay.
SUBVOLUME = table("/var/lib/docker/btrfs/subvolumes/77 / - btrfs /dev/sda2")

#: Lines as they are, with optional fields and without.
VERBATIM = """\
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue
22 27 0:21 / /proc rw,relatime - proc proc rw
"""


class JudgeTests(SynchronousTestCase):
    def judged(self, text: str, path: str = "/data") -> Keeping:
        return judge(path, text).keeping

    def test_volumes(self) -> None:
        """A volume with a name, a directory of the host and a claim are kept."""
        for mount in (NAMED, BIND):
            self.assertEqual(Place(Keeping.KEPT), judge("/data", DOCKER + mount))
        self.assertEqual(Place(Keeping.KEPT), judge("/data/deep", POD + CLAIM))

    def test_anonymous(self) -> None:
        """A volume without a name is known by its 64 digits, wherever the volumes are kept."""
        for text in (DOCKER + ANONYMOUS, DOCKER + OWN_DISK, PODMAN):
            self.assertIs(Keeping.ANONYMOUS, self.judged(text))

    def test_lost(self) -> None:
        """Memory, the layer of the container and what goes with the pod are lost."""
        for text, word in (
            (DOCKER, "layer"),
            (DOCKER + TMPFS, "memory (tmpfs)"),
            (POD + EMPTY_DIR, "emptyDir"),
            (SUBVOLUME, "layer"),
        ):
            place = judge("/data", text)
            self.assertIs(Keeping.LOST, place.keeping)
            self.assertIn(word, place.what)

    def test_the_deepest_mount_counts(self) -> None:
        """A directory beside the volume is not on it, one below is; the last mount hides others."""
        text = DOCKER + NAMED
        self.assertIs(Keeping.LOST, self.judged(text, "/database"))
        self.assertIs(Keeping.LOST, self.judged(text, "/dev/shm/x"))
        self.assertIs(Keeping.KEPT, self.judged(text, "/data/x"))
        self.assertIs(Keeping.LOST, self.judged(text + TMPFS, "/data/x"))
        self.assertIs(Keeping.KEPT, self.judged(DOCKER + TMPFS + NAMED, "/data/x"))

    def test_escapes(self) -> None:
        """Blanks and backslashes in paths are written as octal numbers."""
        (mount,) = mounts("1 0 8:1 /a\\040b /c\\134d\\040e rw - ext4 /dev/sda1 rw\n")
        self.assertEqual(("/a b", "/c\\d e"), (mount.root, mount.point))
        self.assertEqual(mount, mount_of("/c\\d e/f", [mount]))

    def test_lines(self) -> None:
        """Lines are read with optional fields and without."""
        self.assertEqual(
            [Mount("/mnt2", "/mnt1", "ext3"), Mount("/proc", "/", "proc")], mounts(VERBATIM)
        )

    def test_unknown(self) -> None:
        """Without a line that could be read nothing is claimed."""
        for text in ("", "nonsense\n", "1 2 3\n - \n", "1 0 8:1 / /data rw -ext4\n"):
            self.assertIs(Keeping.UNKNOWN, self.judged(text))

    @given(st.text(max_size=200), st.text(max_size=20))
    def test_any_text(self, text: str, path: str) -> None:
        """No text is an error."""
        judge("/" + path, text)

    def test_this_machine(self) -> None:
        """Of the table of this machine every line is read, and it says where this process is."""
        text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        found = mounts(text)
        self.assertEqual(len(text.splitlines()), len(found))
        self.assertIsNotNone(mount_of("/proc/self", found))
        self.assertEqual("proc", getattr(mount_of("/proc/self", found), "kind", None))
