"""Asks each source of notices in turn, and tells the machine."""

from __future__ import annotations

from collections.abc import Sequence

from agent.drain.machine import Machine
from agent.drain.notice import NoticeSource
from agent.engine.clock import Clock


class Watcher:
    """A worker."""

    name = "notices"

    def __init__(self, sources: Sequence[NoticeSource], machine: Machine, clock: Clock) -> None:
        self._machine = machine
        self._clock = clock
        self.watch(sources)

    def watch(self, sources: Sequence[NoticeSource]) -> None:
        """Ask these from the next step on. Safe from any thread."""
        self._due: list[tuple[NoticeSource, float]] = [(source, 0.0) for source in sources]

    def step(self, now: float) -> float | None:
        watched = self._due  # another list may take its place meanwhile
        for index, (source, due) in enumerate(watched):
            if now >= due:
                notice = source.look(self._clock.time())
                if notice is not None:
                    self._machine.notice(notice)
                watched[index] = (source, self._clock.monotonic() + source.interval)
        return min((due for _source, due in watched), default=None)
