"""Work in steps: a worker does a bounded piece and says when it wants to go on; a thread only calls steps.

Tests call the same steps with a fake clock. Waking a worker carries no data: it looks for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from agent.engine.backoff import Backoff
from agent.engine.clock import Clock
from agent.engine.events import Events

LINGER = 30.0  # seconds; of threads that are needed in bursts or hardly ever
_LONGEST_WAIT = 3600.0  # seconds; bounds a wait for a worker that only wants to be woken
_NEVER = float("inf")


class Worker(Protocol):
    """One line of work."""

    name: str

    def step(self, now: float) -> float | None:
        """Do one bounded piece of work; `now` is monotonic seconds.

        Returns the monotonic time of the next step, or None to wait until woken.
        """


class WorkerThread:
    """One thread for one or more workers: calls each when it is due or was woken.

    An exception in a step is an event, and that worker's next step comes after a backoff, woken or not; it never
    ends the thread. Of several workers the one that has waited longest is first.

    With `linger`, a thread whose workers have only been waiting to be woken for so many seconds ends; `wake` starts
    another one. What is seldom needed then costs nothing in between.
    """

    def __init__(
        self, name: str, workers: Sequence[Worker], clock: Clock, events: Events, linger: float | None = None
    ) -> None:
        self.name = name
        self._linger = linger
        self._clock = clock
        self._events = events
        self._condition = threading.Condition()
        self._slots = [_Slot(worker) for worker in workers]
        self._stopping = False
        self._beat = clock.monotonic()
        self._busy = False
        self._resting = False
        self._thread = self._new_thread()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Let every worker of this thread look for work now."""
        with self._condition:
            now = self._clock.monotonic()
            for slot in self._slots:
                slot.woken = min(slot.woken, now)
            self._condition.notify()
            if self._resting and not self._stopping:
                self._resting = False
                self._thread = self._new_thread()
                self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after the step under way; returns at once."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the end; True when it has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def stuck_for(self, now: float) -> float:
        """Seconds that the step under way has taken; 0 between steps. A dead thread is stuck for ever."""
        if self._resting:
            return 0.0
        if not self._thread.is_alive():
            return float("inf")
        return now - self._beat if self._busy else 0.0

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name=self.name, daemon=True)

    def _run(self) -> None:
        while True:
            slot = self._next()
            if slot is None:
                return
            self._beat = self._clock.monotonic()
            self._busy = True
            slot.run(self._beat, self._clock, self._events)
            self._busy = False

    def _next(self) -> _Slot | None:
        """The worker to step now, waiting for it; None at the end, and when it is time to rest."""
        with self._condition:
            tired = False
            while not self._stopping:
                now = self._clock.monotonic()
                first = min(self._slots, key=_Slot.due_time)
                due = first.due_time()
                if due <= now:
                    first.woken = _NEVER
                    return first
                if tired and due == _NEVER:
                    self._resting = True
                    return None
                longest = self._linger if self._linger is not None and due == _NEVER else _LONGEST_WAIT
                tired = not self._condition.wait(min(due - now, longest)) and self._linger is not None
            return None


class _Slot:
    """A worker and when it is due."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.due: float | None = 0.0
        self.woken = _NEVER  # since when
        self._held = 0.0  # until when, after a failure
        self._backoff = Backoff(base=1.0, cap=60.0)

    def due_time(self) -> float:
        return max(self._held, min(self.woken, _NEVER if self.due is None else self.due))

    def run(self, now: float, clock: Clock, events: Events) -> None:
        try:
            self.due = self.worker.step(now)
        except Exception as error:  # noqa: BLE001 - the one place that keeps a defect from ending a thread
            wait = self._backoff.next()
            self.due = self._held = clock.monotonic() + wait
            events.say(
                "error",
                "worker_failed",
                counter="worker_failures",
                worker=self.worker.name,
                error=f"{type(error).__name__}: {error}",
                retry_in=round(wait, 2),
                exc_info=error,
            )
        else:
            self._backoff.reset()
