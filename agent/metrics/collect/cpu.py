"""Processor time, from /proc/stat: shares of the time since the last reading, and seconds since boot.

Names and units are the CloudWatch agent's. Source of the file: proc(5), Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from agent.metrics.collect.base import Machine, Measure, Report, parsing

_COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
_TICKS = float(os.sysconf("SC_CLK_TCK"))  # of /proc/stat, in a second
_TOTAL = "cpu-total"

Times = Mapping[str, int]
"""Ticks by column of /proc/stat; columns that an old kernel lacks are 0."""


class Options(Protocol):
    """The section `metrics.os.cpu`."""

    @property
    def measurements(self) -> Iterable[str]: ...

    @property
    def per_cpu(self) -> bool: ...


class Cpu:
    """All processors together, and each one where `per_cpu` says so."""

    def __init__(self, options: Options, machine: Machine) -> None:
        self._measurements = tuple(options.measurements)
        self._per_cpu = options.per_cpu
        self._machine = machine
        self._last: Mapping[str, Times] = {}

    def collect(self, report: Report) -> Iterator[Measure]:  # noqa: ARG002 - all of /proc/stat is read, or nothing
        with parsing("stat"):
            times = parse(self._machine.read("stat"))
        last, self._last = self._last, times
        for name in times if self._per_cpu else [_TOTAL]:
            values = {**_seconds(times[name]), **_shares(last.get(name), times[name])}
            for measurement in self._measurements:
                if measurement in values:
                    unit = "Percent" if measurement.startswith("usage_") else None
                    yield Measure(f"cpu_{measurement}", values[measurement], unit, {"cpu": name})


def parse(text: str) -> dict[str, Times]:
    """Times by processor: cpu-total, cpu0, cpu1 ...  Raises ValueError, LookupError."""
    found: dict[str, Times] = {}
    for line in text.splitlines():
        name, *ticks = line.split()
        if not name.startswith("cpu"):
            break
        filled = [int(tick) for tick in ticks] + [0] * len(_COLUMNS)
        found[_TOTAL if name == "cpu" else name] = dict(zip(_COLUMNS, filled, strict=False))
    if _TOTAL not in found:
        raise LookupError("no line for all processors")
    return found


def _seconds(times: Times) -> dict[str, float]:
    ticks = {**times, "active": _total(times) - times["idle"]}
    return {f"time_{state}": count / _TICKS for state, count in ticks.items()}


def _shares(last: Times | None, times: Times) -> dict[str, float]:
    """Percentages of the time since the last reading; none at first, after a reset, or if no time has passed.

    A processor that was taken away and came back counts from 0 again; single columns (idle, iowait, steal) step
    back by a little now and then, which counts as no time.
    """
    if last is None or _total(times) < _total(last):
        return {}
    spent = {column: max(0, times[column] - last[column]) for column in _COLUMNS}
    shares = _without_guests(spent)
    total = sum(shares.values())
    if total <= 0:
        return {}
    shares["user"] = max(0, spent["user"] - spent["guest"])
    shares["nice"] = max(0, spent["nice"] - spent["guest_nice"])
    shares |= {"guest": spent["guest"], "guest_nice": spent["guest_nice"], "active": total - spent["idle"]}
    return {f"usage_{state}": 100.0 * value / total for state, value in shares.items()}


def _total(times: Times) -> int:
    return sum(_without_guests(times).values())


def _without_guests(times: Times) -> dict[str, int]:
    """The kernel counts a guest's time as user's (or nice's) too."""
    return {column: value for column, value in times.items() if not column.startswith("guest")}
