"""Which file systems there are, from mountinfo, and which of them hold data worth watching.

Source of the files: proc(5) on /proc/pid/mountinfo and /proc/filesystems.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from agent.metrics.collect.base import Machine

_IMAGES = frozenset(["squashfs", "erofs", "cramfs", "romfs", "iso9660", "udf"])  # full by nature
_REMOTE = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "glusterfs", "afs", "gpfs", "beegfs", "9p", "virtiofs", "fuse"]
)  # what answers for them may be gone; a call then hangs
_LOCAL_WITHOUT_DEVICE = frozenset(["zfs", "ubifs", "jffs2"])  # the kernel lists them as nodev
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    device_id: str  # major:minor
    root: str  # of the mount within its file system
    path: str
    fstype: str
    source: str

    @property
    def remote(self) -> bool:
        return self.fstype.partition(".")[0] in _REMOTE


def read_mounts(machine: Machine) -> list[Mount]:
    """All mounts, as the first process sees them, or else as this one does. Raises OSError, ValueError."""
    try:
        text = machine.read("1", "mountinfo")
    except OSError:
        text = machine.read("self", "mountinfo")
    return [_mount(line) for line in text.splitlines()]


def virtual_types(machine: Machine) -> frozenset[str]:
    """Types of file systems that are never watched: pseudo, overlay and image file systems. Raises OSError."""
    listed = (line.split("\t") for line in machine.read("filesystems").splitlines())
    return frozenset(name for kind, name in listed if kind == "nodev") - _REMOTE - _LOCAL_WITHOUT_DEVICE | _IMAGES


def one_each(mounts: Iterable[Mount]) -> list[Mount]:
    """One mount for each file system, the whole of it rather than a part; of mounts on one path the uppermost."""
    uppermost = {mount.path: mount for mount in mounts}
    chosen: dict[str, Mount] = {}
    for mount in uppermost.values():
        known = chosen.get(mount.device_id)
        if known is None or (known.root != "/" and mount.root == "/"):
            chosen[mount.device_id] = mount
    return list(chosen.values())


def device_name(mount: Mount, machine: Machine) -> str:
    """The device without /dev/, as the CloudWatch agent names it: nvme0n1p1, dm-0, or a remote's own name."""
    if mount.source == "/dev/root":  # not a device: the kernel's word for what it booted from
        block = os.path.join(machine.sys, "dev", "block", mount.device_id)
        return os.path.basename(os.path.realpath(block)) if os.path.exists(block) else "root"
    if mount.source.startswith("/dev/mapper/"):
        node = os.path.realpath(os.path.join(machine.dev, mount.source.removeprefix("/dev/")))
        return os.path.relpath(node, os.path.realpath(machine.dev))
    return mount.source.removeprefix("/dev/")


def volume_id(device: str, machine: Machine) -> str | None:
    """The id of the EBS volume behind a disk or partition, by its NVMe serial number, or None.

    Source: docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html.
    """
    block = os.path.realpath(os.path.join(machine.sys, "class", "block", device))
    disk = os.path.dirname(block) if os.path.exists(os.path.join(block, "partition")) else block
    try:
        with open(os.path.join(disk, "device", "serial"), encoding="ascii") as file:
            serial = re.fullmatch(r"vol-?([0-9a-f]+)", file.read().strip())
    except (OSError, ValueError):
        return None
    return None if serial is None else f"vol-{serial[1]}"


def _mount(line: str) -> Mount:
    """36 35 98:0 /root /path options [optional fields] - fstype source options."""
    here, _, kind = line.partition(" - ")
    _, _, device_id, root, path, *_ = here.split(" ")
    fstype, source, *_ = kind.split(" ")
    return Mount(device_id, _unescaped(root), _unescaped(path), fstype, _unescaped(source))


def _unescaped(text: str) -> str:
    """Blanks and backslashes stand as octal numbers."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
