"""File systems, by statvfs(2). Names, units and dimensions are the CloudWatch agent's.

Pseudo, overlay and image file systems are never measured. A network file system is measured only where a pattern
without wildcards names it: its size is its server's business, and a call to a server that is gone hangs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Protocol

from agent.metrics.collect.base import Machine, Measure, Report, parsing
from agent.metrics.collect.mounts import Mount, device_name, one_each, read_mounts, virtual_types, volume_id
from agent.metrics.collect.patience import Patience

_REMOTE_SECONDS = 2.0  # that a network file system has to answer
_WILDCARDS = frozenset("*?[")


class Options(Protocol):
    """The section `metrics.os.disk`."""

    @property
    def measurements(self) -> Iterable[str]: ...

    @property
    def mounts(self) -> Sequence[str]: ...

    @property
    def drop_device(self) -> bool: ...

    @property
    def volume_id(self) -> bool: ...


class Disk:
    """Space and inodes of each file system."""

    def __init__(self, options: Options, machine: Machine) -> None:
        self._options = options
        self._measurements = tuple(options.measurements)
        self._machine = machine
        self._patience: Patience[os.statvfs_result] = Patience(_REMOTE_SECONDS)

    def collect(self, report: Report) -> Iterator[Measure]:
        for mount in self._mounts():
            try:
                found = self._statvfs(mount)
            except OSError as error:
                report(mount.path, error)
                continue
            if found.f_blocks:  # a file system of no size holds nothing
                yield from self._measures(mount, found)

    def _mounts(self) -> list[Mount]:
        with parsing("mountinfo, filesystems"):
            never = virtual_types(self._machine)
            return one_each(
                mount
                for mount in read_mounts(self._machine)
                if mount.fstype.partition(".")[0] not in never and mount.fstype not in never and self._wanted(mount)
            )

    def _wanted(self, mount: Mount) -> bool:
        patterns = self._options.mounts
        if mount.remote:
            patterns = [pattern for pattern in patterns if not _WILDCARDS & set(pattern)]
        return any(fnmatchcase(mount.path, pattern) for pattern in patterns)

    def _statvfs(self, mount: Mount) -> os.statvfs_result:
        """Raises OSError."""
        call = partial(self._machine.statvfs, mount.path)
        return self._patience.call(mount.path, call) if mount.remote else call()

    def _measures(self, mount: Mount, found: os.statvfs_result) -> Iterator[Measure]:
        values = _values(found)
        dimensions = self._dimensions(mount)
        for name in self._measurements:
            yield Measure(f"disk_{name}", values[name], _unit(name), dimensions)

    def _dimensions(self, mount: Mount) -> dict[str, str]:
        device = device_name(mount, self._machine)
        volume = volume_id(device, self._machine) if self._options.volume_id else None
        return {
            "path": mount.path,
            "fstype": mount.fstype,
            **({} if self._options.drop_device else {"device": device}),
            **({} if volume is None else {"VolumeId": volume}),
        }


def _values(found: os.statvfs_result) -> dict[str, float]:
    """As in df(1): free is what is left to ordinary users, and percentages leave root's reserve out."""
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    free = found.f_bavail * found.f_frsize
    return {
        "free": free,
        "total": found.f_blocks * found.f_frsize,
        "used": used,
        "used_percent": 100.0 * used / (used + free) if used + free else 0.0,
        "inodes_free": found.f_ffree,
        "inodes_total": found.f_files,
        "inodes_used": found.f_files - found.f_ffree,
    }


def _unit(name: str) -> str:
    if name.startswith("inodes_"):
        return "Count"
    return "Percent" if name == "used_percent" else "Bytes"
