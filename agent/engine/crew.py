"""The jobs that run: started and stopped together, and one at a time where a reload changes them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from agent.engine.clock import Clock
from agent.engine.events import Events
from agent.engine.job import Debt, Job, SampleSink
from agent.engine.workers import WorkerThread

_ORDER = ("logs", "metrics", "uploads")
_SINK = "metrics"  # takes samples from the others, so it is stopped last
_SINK_SECONDS = 1.0  # that it has at least
_LAST_CALL_SECONDS = 35.0  # after its deadline, for a dismissed job's last call to AWS: longer than one may take


class Crew:
    """Of each name at most one. Looking at them is safe from any thread; one thread at a time changes them.

    Also the SampleSink of the engine: what one job counts goes to the one that sends metrics, whichever it is now.
    """

    def __init__(self, clock: Clock, events: Events) -> None:
        self._jobs: tuple[Job, ...] = ()
        self._leaving: tuple[Job, ...] = ()  # told to stop, and still owing
        self._clock = clock
        self._events = events

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def find(self, name: str) -> Job | None:
        return next((job for job in self._jobs if job.name == name), None)

    def enlist(self, jobs: Iterable[Job]) -> None:
        """Those that the agent starts with; they are not running yet."""
        self._jobs = tuple(jobs)

    def start(self) -> None:
        for job in self._jobs:
            job.start()

    def debt(self) -> Debt:
        """What is not yet safe, of all jobs."""
        return sum((job.debt() for job in (*self._jobs, *self._leaving)), start=Debt(seconds=0.0))

    def status(self) -> dict[str, Any]:
        """Of all jobs, as `status --json` has it."""
        found: dict[str, Any] = {}
        for job in (*self._jobs, *self._leaving):
            found.update(job.status())
        return found

    def threads(self) -> list[WorkerThread]:
        """Those that must come back from every step."""
        return [thread for job in self._jobs for thread in job.threads]

    def stop(self, deadline: float) -> bool:
        """Stop all, each beside the others and until `deadline` (monotonic seconds). True when nothing is left."""
        return self._stop(self._jobs, deadline)

    def dismiss(self, names: Collection[str], deadline: float) -> bool:
        """Stop some and let them go, as `stop` does; what works after them must not meet their last calls."""
        leaving = tuple(job for job in self._jobs if job.name in names)
        self._leaving = leaving
        self._jobs = tuple(job for job in self._jobs if job.name not in names)
        try:
            clean = self._stop(leaving, deadline)
            until = max(deadline, self._clock.monotonic()) + _LAST_CALL_SECONDS
            for thread in [thread for job in leaving for thread in job.threads]:
                thread.join(max(0.0, until - self._clock.monotonic()))
        finally:
            self._leaving = ()
        return clean

    def take_on(self, job: Job) -> None:
        """Start another one."""
        job.start()
        self._jobs = tuple(sorted((*self._jobs, job), key=_rank))

    def sample(self, name: str, value: float, count: int, unit: str, dimensions: Mapping[str, str]) -> None:
        """SampleSink: `count` observations of `value`, now; lost, and counted, while there is nobody to send them."""
        sink = self.find(_SINK)
        if sink is None:
            self._events.say(
                "debug", "sample_without_metrics", counter="samples_without_metrics", by=count, name=name
            )
        else:
            cast("SampleSink", sink).sample(name, value, count, unit, dimensions)

    def _stop(self, jobs: Sequence[Job], deadline: float) -> bool:
        clean = self._stop_together([job for job in jobs if job.name != _SINK], deadline)
        latest = max(deadline, self._clock.monotonic() + _SINK_SECONDS)
        return self._stop_together([job for job in jobs if job.name == _SINK], latest) and clean

    def _stop_together(self, jobs: Sequence[Job], deadline: float) -> bool:
        stoppers = [_Stopper(job, deadline) for job in jobs]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join(max(0.1, deadline - self._clock.monotonic() + 1.0))
        return all(stopper.clean for stopper in stoppers)


def _rank(job: Job) -> tuple[int, str]:
    return _ORDER.index(job.name) if job.name in _ORDER else len(_ORDER), job.name


class _Stopper(threading.Thread):
    """Stops one job, beside the others: each has the whole time."""

    def __init__(self, job: Job, deadline: float) -> None:
        super().__init__(name=f"stop-{job.name}", daemon=True)
        self._job = job
        self._deadline = deadline
        self.clean = False

    def run(self) -> None:
        self.clean = self._job.stop(self._deadline)
