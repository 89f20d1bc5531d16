"""Swap space, from /proc/meminfo. Names and units are the CloudWatch agent's."""

from __future__ import annotations

from collections.abc import Iterator

from agent.metrics.collect.base import Machine, Measure, Report, parsing
from agent.metrics.collect.memory import Options, parse


class Swap:
    """Bytes free and used, and the share that is used: 0 where there is no swap space."""

    def __init__(self, options: Options, machine: Machine) -> None:
        self._measurements = tuple(options.measurements)
        self._machine = machine

    def collect(self, report: Report) -> Iterator[Measure]:  # noqa: ARG002 - all of the file is read, or nothing
        with parsing("meminfo"):
            amounts = parse(self._machine.read("meminfo"))
            total, free = amounts["SwapTotal"], amounts["SwapFree"]
        used = total - free
        values = {"free": free, "used": used, "used_percent": 100.0 * used / total if total else 0.0}
        for name in self._measurements:
            yield Measure(f"swap_{name}", values[name], "Percent" if name == "used_percent" else "Bytes")
