"""What is seen during the show: by the stand-ins how much has arrived, by the agent's status what it owes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.demo.cloud import Arrivals, Cloud
from agent.demo.folder import UPLOAD_BUCKET
from agent.demo.written import Total, Written, arrived_samples
from agent.engine.clock import Clock

_LOOK_SECONDS = 0.5  # between two looks
_MARKS = 10_000  # moments remembered, of which each step makes one: minutes
LOG_GROUPS = "/shop/"


@dataclass(frozen=True)
class Progress:
    """One moment of the show."""

    lines: tuple[int, int] = (0, 0)  # written, at AWS
    log_bytes: tuple[int, int] = (0, 0)
    samples: tuple[int, int] = (0, 0)
    files: tuple[int, int] = (0, 0)
    file_bytes: tuple[int, int] = (0, 0)
    lag: float = 0.0  # seconds since the oldest line that is not at AWS was written
    debt: tuple[int, int] | None = None  # bytes and items, as the agent says; None: it says nothing
    phase: str = ""  # of the drain


class Observer:
    """Looks from time to time, cheaply. Raises StandinsSilent."""

    def __init__(
        self, cloud: Cloud, written: Written, ask_agent: Callable[[], dict[str, Any] | None], clock: Clock
    ) -> None:
        """`ask_agent` gives the agent's status, or None."""
        self._cloud = cloud
        self._written = written
        self._ask_agent = ask_agent
        self._clock = clock
        self._next = 0.0
        self._marks: deque[tuple[int, float]] = deque(maxlen=_MARKS)  # lines written, and when they were that many
        self._arrivals = Arrivals()
        self._totals: Mapping[str, Total] = {}
        self.status: Mapping[str, Any] | None = None

    def step(self) -> None:
        now = self._clock.monotonic()
        self._mark(now)
        if now >= self._next:
            self._next = now + _LOOK_SECONDS
            self._arrivals = self._cloud.arrivals(LOG_GROUPS, UPLOAD_BUCKET)
            self._totals = self._cloud.metrics()
            self.status = self._ask_agent()  # last: what it has settled by then had arrived before

    def lag(self) -> float:
        """Seconds since the oldest line that has not arrived was written; 0 if all have."""
        while self._marks and self._marks[0][0] <= self._arrivals.lines:
            self._marks.popleft()
        return self._clock.monotonic() - self._marks[0][1] if self._marks else 0.0

    def all_files_seen(self) -> bool:
        """Whether lines of the newest file of each stream have arrived, as long as nothing came twice."""
        lines: dict[tuple[str, str], list[int]] = {}
        for generation in self._written.generations:
            lines.setdefault(generation.destination, []).append(len(generation.lines))
        return all(self._arrivals.streams.get(each, 0) > sum(sizes[:-1]) for each, sizes in lines.items())

    def samples_arrived(self) -> int:
        """Values that StatsD sent and CloudWatch holds."""
        return arrived_samples(self._written, self._totals)

    def progress(self) -> Progress:
        written, arrived, status = self._written, self._arrivals, self.status
        return Progress(
            lines=(written.lines, arrived.lines),
            log_bytes=(written.log_bytes, min(arrived.log_bytes, written.log_bytes)),  # the last line has no end
            samples=(written.samples, self.samples_arrived()),
            files=(len(written.files), arrived.objects),
            file_bytes=(written.file_bytes, arrived.object_bytes),
            lag=self.lag(),
            debt=(status["debt"]["bytes"], status["debt"]["items"]) if status else None,
            phase=(status["drain"] or {}).get("phase", "") if status else "",
        )

    def _mark(self, now: float) -> None:
        lines = self._written.lines
        if not self._marks or self._marks[-1][0] < lines:
            self._marks.append((lines, now))
