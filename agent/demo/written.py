"""What the applications of the demo have written: the measure of everything that is later found at AWS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Generation:
    """One log file from its first line to its last, whatever it is called meanwhile."""

    path: str
    destination: tuple[str, str]  # log group, log stream
    device: int
    inode: int
    lines: list[str] = field(default_factory=list)  # all different
    size: int = 0  # bytes

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


@dataclass
class Total:
    """A metric summed up: how many values there were, and their sum."""

    count: float = 0.0
    sum: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.sum += value


@dataclass
class Written:
    """Everything, as it was written last."""

    generations: list[Generation] = field(default_factory=list)  # oldest first
    counters: dict[str, Total] = field(default_factory=dict)
    timers: dict[str, Total] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # path below the upload folder -> content

    @property
    def lines(self) -> int:
        return sum(len(generation.lines) for generation in self.generations)

    @property
    def log_bytes(self) -> int:
        return sum(generation.size for generation in self.generations)

    @property
    def samples(self) -> int:
        """Values sent by StatsD."""
        return int(sum(total.count for kind in (self.counters, self.timers) for total in kind.values()))

    @property
    def file_bytes(self) -> int:
        return sum(map(len, self.files.values()))


def arrived_samples(written: Written, held: Mapping[str, Total]) -> int:
    """What timers counted, and what counters summed up: each of their values is 1."""
    counted = sum(held[name].sum for name in written.counters if name in held)
    return int(counted + sum(held[name].count for name in written.timers if name in held))
