"""Main memory, from /proc/meminfo. Names and units are the CloudWatch agent's, its notion of "used" too.

Source of the file: Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from agent.metrics.collect.base import Machine, Measure, Report, parsing


class Options(Protocol):
    """The sections `metrics.os.memory` and `metrics.os.swap`."""

    @property
    def measurements(self) -> Iterable[str]: ...


class Memory:
    """Bytes by use, and two percentages."""

    def __init__(self, options: Options, machine: Machine) -> None:
        self._measurements = tuple(options.measurements)
        self._machine = machine

    def collect(self, report: Report) -> Iterator[Measure]:  # noqa: ARG002 - all of the file is read, or nothing
        with parsing("meminfo"):
            values = _values(parse(self._machine.read("meminfo")))
            measures = [(name, values[name]) for name in self._measurements]
        for name, value in measures:
            yield Measure(f"mem_{name}", value, "Percent" if name.endswith("_percent") else "Bytes")


def parse(text: str) -> dict[str, int]:
    """Bytes by name. Raises ValueError, LookupError."""
    amounts = {}
    for line in text.splitlines():
        name, _, amount = line.partition(":")
        number, *unit = amount.split()
        amounts[name] = int(number) * (1024 if unit == ["kB"] else 1)
    return amounts


def _values(amounts: Mapping[str, int]) -> dict[str, float]:
    total, free, buffered = amounts["MemTotal"], amounts["MemFree"], amounts["Buffers"]
    cached = amounts["Cached"] + amounts.get("SReclaimable", 0)
    available = amounts.get("MemAvailable", free + cached)  # the kernel's own estimate is there since 3.14
    used = total - free - buffered - cached
    return {
        "active": amounts["Active"],
        "available": available,
        "available_percent": 100.0 * available / total,
        "buffered": buffered,
        "cached": cached,
        "free": free,
        "inactive": amounts["Inactive"],
        "shared": amounts.get("Shmem", 0),
        "total": total,
        "used": used,
        "used_percent": 100.0 * used / total,
    }
