"""How the parts speak to one another: what a job owes, how it is drained, where it hands things over.

A job is logs, metrics or uploads. The drain knows jobs through `Job` alone; jobs know each other through sinks
alone, which `agent.daemon` connects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.engine.workers import WorkerThread

DROPPED = "dropped"
"""The kind of a refusal that is a rule of the configuration: not AWS's, and no shortcoming even of a strict drain."""


@dataclass(frozen=True, slots=True)
class Debt:
    """What is not yet safe in AWS."""

    bytes: int = 0
    items: int = 0
    seconds: float | None = None  # to pay it off at the throughput measured so far; None: not known

    def __add__(self, other: Debt) -> Debt:
        known = [part.seconds for part in (self, other) if part.seconds is not None]
        return Debt(self.bytes + other.bytes, self.items + other.items, sum(known) if known else None)


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that could still be closed by trying, or was never read: with one a drain is incomplete."""

    kind: str
    item: str
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that AWS will never take, or that a rule of the configuration drops: settled, and listed."""

    kind: str
    item: str
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Proofs:
    """What a job can show, at this moment of a drain.

    `settled` says that nothing is left to try. `receipt` is the job's part of the receipt: top-level keys as the
    receipt has them. `attachments` are files to be kept beside the receipt: name -> local path.
    """

    settled: bool
    gaps: Sequence[Gap] = ()
    refused: Sequence[Refusal] = ()
    receipt: Mapping[str, Any] = field(default_factory=dict)
    attachments: Mapping[str, str] = field(default_factory=dict)


class Job(Protocol):
    """One of logs, metrics, uploads, as the daemon and the drain see it."""

    name: str

    @property
    def threads(self) -> Sequence[WorkerThread]:
        """The threads that must come back from every step; the watchdog looks at them."""

    def start(self) -> None:
        """Begin to work, in threads of its own; returns at once."""

    def debt(self) -> Debt:
        """What is not yet safe; cheap enough for every second."""

    def status(self) -> Mapping[str, Any]:
        """The job's part of `status --json`: top-level keys as the status has them."""

    def drain(self, deadline: float) -> Proofs:
        """Hurry: seal the intake at its present end, send everything; `deadline` is monotonic seconds.

        Never waits. Called again and again until the proofs are settled or time is up; what arrived since the
        last call is included.
        """

    def resume(self) -> None:
        """Back to normal work after a drain that was cancelled or rehearsed."""

    def stop(self, deadline: float) -> bool:
        """Flush what can be flushed until `deadline` (monotonic seconds), end the threads.

        True when nothing was left behind.
        """


class SampleSink(Protocol):
    """Takes samples that another job has found, such as counts from log lines."""

    def sample(self, name: str, value: float, count: int, unit: str, dimensions: Mapping[str, str]) -> None:
        """`count` observations of `value`, now."""


class EventSink(Protocol):
    """Takes log events that another job has received, such as documents of the embedded metric format."""

    def event(self, group: str, stream: str, message: str, timestamp_ms: int) -> bool:
        """False when the sink is full: the sender decides what to do."""
