"""What collectors share: the machine as they see it, what they give, and how they fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol


class CollectError(Exception):
    """A file of the kernel does not read as expected: report it, with the kernel's version and the file."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a collector looks; tests hand in a tree of their own."""

    proc: str = "/proc"
    sys: str = "/sys"
    dev: str = "/dev"
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs

    def read(self, *path: str) -> str:
        """The text of a file below /proc. Raises OSError."""
        with open(os.path.join(self.proc, *path), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()


@dataclass(frozen=True, slots=True)
class Measure:
    """One reading: published name, unit (None: CloudWatch's "None"), dimensions beside those of every metric."""

    name: str
    value: float
    unit: str | None
    dimensions: Mapping[str, str] = field(default_factory=dict)


Report = Callable[[str, Exception], None]
"""Takes what could not be measured (a mount point, a device) and why, while the rest goes on."""


class Collector(Protocol):
    """One family of measurements. It keeps what the next reading is compared with."""

    def collect(self, report: Report) -> Iterable[Measure]:
        """Read the machine now. Rates and shares need a reading before: the first one gives none.

        Raises OSError and CollectError when nothing of the family can be read.
        """


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Text that does not parse is a CollectError that names its file."""
    try:
        yield
    except (ValueError, LookupError) as error:
        raise CollectError(f"{what}: {type(error).__name__}: {error}") from error
