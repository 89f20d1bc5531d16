"""All collectors by the key of their section in `metrics.os`, and their work side by side: one's failure is its own.

A new collector is a file in this folder and a line in COLLECTORS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from agent.engine.events import Events
from agent.metrics.collect.base import CollectError, Collector, Machine, Measure
from agent.metrics.collect.cpu import Cpu
from agent.metrics.collect.disk import Disk
from agent.metrics.collect.memory import Memory
from agent.metrics.collect.swap import Swap

COLLECTORS: Mapping[str, Callable[[Any, Machine], Collector]] = {
    "cpu": Cpu,
    "memory": Memory,
    "swap": Swap,
    "disk": Disk,
}
_FAILED = "outlive_collect_failures"  # a metric of our own, sent only by an instance where a collector failed


def make_collectors(section: Any, machine: Machine) -> dict[str, Collector]:
    """The collectors that the section `metrics.os` (or None) turns on."""
    options = {name: getattr(section, name, None) for name in COLLECTORS}
    return {name: COLLECTORS[name](given, machine) for name, given in options.items() if given is not None}


class Collection:
    """Runs collectors one after the other."""

    def __init__(self, collectors: Mapping[str, Collector], events: Events) -> None:
        self._collectors = collectors
        self._events = events
        self._failing: set[tuple[str, str]] = set()

    def collect(self) -> Iterator[Measure]:
        """All readings of now. What fails is said, counted, and a reading itself."""
        failing: set[tuple[str, str]] = set()
        for name, collector in self._collectors.items():
            failures = _Failures(name, self._events)
            yield from self._readings(collector, failures)
            failing |= failures.items
            if failures.items:
                yield Measure(_FAILED, len(failures.items), "Count", {"collector": name})
        self._say_recovered(self._failing - failing)
        self._failing = failing

    def _readings(self, collector: Collector, failures: _Failures) -> Iterable[Measure]:
        try:
            return list(collector.collect(failures.add))
        except (OSError, CollectError) as error:
            failures.add("", error)
            return []

    def _say_recovered(self, items: Iterable[tuple[str, str]]) -> None:
        for name, item in items:
            key = f"{name} {item}"
            self._events.over("collect_failed", key, said="collect_works_again", collector=name, item=item)


class _Failures:
    """What one collector could not read this time."""

    def __init__(self, collector: str, events: Events) -> None:
        self._collector = collector
        self._events = events
        self.items: set[tuple[str, str]] = set()

    def add(self, item: str, error: Exception) -> None:
        self.items.add((self._collector, item))
        self._events.trouble(
            "warning",
            "collect_failed",
            f"{self._collector} {item}",
            "collect_failures",
            collector=self._collector,
            item=item,
            error=f"{type(error).__name__}: {error}",
        )
