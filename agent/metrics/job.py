"""The job `metrics`: its parts put together, and what the daemon and the drain may ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

from agent.config.sections.metrics import Metrics, Statsd
from agent.engine.clock import Clock
from agent.engine.events import Events
from agent.engine.job import Debt, Gap, Proofs, Refusal
from agent.engine.state import StateDirectory
from agent.engine.workers import WorkerThread
from agent.metrics.aggregate import Aggregate, Rules
from agent.metrics.cadence import Cadence, Sources
from agent.metrics.collect.base import Machine
from agent.metrics.collect.registry import Collection, make_collectors
from agent.metrics.deliver import Delivery, Publisher
from agent.metrics.spool import Spool
from agent.metrics.statsd.fold import Fold
from agent.metrics.statsd.intake import Intake
from agent.metrics.statsd.server import Listener, Server
from agent.metrics.statsd.sockets import open_udp, open_unix

_DATABASE = "spool.db"
_JITTER = 5.0  # seconds; the instances of a fleet do not all send at the full minute
_REASONS = {
    "refused": "CloudWatch does not take them",
    "expired": "they are older than metrics.spool.max_age",
    "spool_full": "the spool was full (metrics.spool.max_size)",
    "memory_full": "the disk of agent.state_dir could not be written, and memory for them was full",
}


class MetricsJob:
    """Collects, receives, aggregates, spools and sends. It is a Job and a SampleSink of the engine."""

    name = "metrics"

    def __init__(
        self,
        section: Metrics,
        publisher: Publisher,
        state: StateDirectory,
        clock: Clock,
        events: Events,
        random: Random,
        machine: Machine | None = None,
    ) -> None:
        """`section` with its placeholders filled in; `publisher` is `agent.aws.cloudwatch.CloudWatch`."""
        self._section = section
        self._clock = clock
        self._random = random
        self._aggregate = Aggregate(_rules(section), clock, events)
        self._spool = Spool(state.database(_DATABASE), section.spool.max_size, events)
        self._delivery = Delivery(publisher, self._spool, section.spool.max_age, clock, events, random)
        self._sources = _sources(section, self._aggregate, machine or Machine(), events, random)
        self._cadence = Cadence(
            section.namespace, section.interval, self._sources, self._aggregate, self._spool, self._sealed, clock
        )
        self._gatherers = self._make_gatherers(events)
        self._sender = WorkerThread("metrics-deliver", [self._delivery], clock, events)
        self._flushed = -section.flush_interval  # monotonic time when the spool was last to be emptied
        self._goal: int | None = None  # of `_done`: what a drain under way found waiting at first, and all before
        self._handed_over = False  # by another job, since the last look of a drain

    @property
    def threads(self) -> Sequence[WorkerThread]:
        """All threads of the job, for a watchdog to look after."""
        return [*self._gatherers, self._sender]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def sample(self, name: str, value: float, count: int, unit: str, dimensions: Mapping[str, str]) -> None:
        """SampleSink: `count` observations of `value`, now."""
        if count > 0:
            self._handed_over = True
            self._aggregate.observe(self._aggregate.series(name, dimensions, unit), [value], [float(count)])

    def debt(self) -> Debt:
        items = self._spool.datums + self._aggregate.unsealed()
        speed = self._delivery.speed
        return Debt(self._spool.bytes, items, None if speed is None else items / speed)

    def status(self) -> Mapping[str, Any]:
        epoch = self._spool.oldest()
        oldest = None if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "metrics": {
                "series": self._aggregate.known_series(),
                "spooled": self._spool.datums,
                "oldest": oldest,
                "bytes": self._spool.bytes,
                "sent": self._delivery.sent,
                "error": self._delivery.error,
            }
        }

    def drain(self, deadline: float) -> Proofs:
        """Send everything, with a last reading of the machine when as much is sent as was there at first.

        What applications send after that is kept for `resume` or `stop`, and held against no drain: else one that
        goes on sending could keep it from its end. What other jobs hand over is sent whenever it comes.
        """
        if self._handed_over or not self._cadence.resting:
            self._handed_over = False
            last = self._goal is not None and self._done() >= self._goal
            self._cadence.close_early(read_machine=last and not self._cadence.resting)
            self._cadence.resting = last
        if self._goal is None:
            self._goal = self._done() + self._spool.datums
        self._delivery.hurry(deadline)
        self._sender.wake()
        return self._proofs()

    def resume(self) -> None:
        self._goal = None
        self._cadence.resting = False
        self._delivery.hurry(None)

    def stop(self, deadline: float) -> bool:
        """Stop taking in, send what can be sent until `deadline`; the rest stays on disk.

        The jobs that feed `sample` should have been stopped before.
        """
        for thread in self.threads:
            thread.stop()
        if self._sources.server is not None:
            self._sources.server.interrupt()
        gathered = all(self._join(thread, deadline) for thread in self._gatherers)
        if gathered:
            if self._sources.server is not None:
                self._sources.server.close()
            self._cadence.close_early()
        self._delivery.hurry(deadline)
        if not self._join(self._sender, deadline):
            return False
        self._flush(deadline)
        return gathered and not self._spool.datums

    def _sealed(self) -> None:
        """An interval has ended: have the spool emptied if that is due."""
        now = self._clock.monotonic()
        if now - self._flushed >= self._section.flush_interval - self._section.interval / 2:
            self._flushed = now
            self._delivery.want(now + self._random.uniform(0.0, min(_JITTER, self._section.flush_interval / 10)))
            self._sender.wake()

    def _done(self) -> int:
        """Datums that are settled, one way or the other."""
        return self._delivery.sent + self._spool.dropped.total()

    def _proofs(self) -> Proofs:
        left = self._spool.datums
        why = self._delivery.error or "not yet acknowledged by CloudWatch"
        return Proofs(
            settled=self._cadence.resting and not self._handed_over and not left,
            gaps=[Gap("samples", "metric spool", self._spool.bytes, why)] if left else [],
            refused=[
                Refusal("samples", "metric spool", count, _REASONS[key]) for key, count in self._spool.dropped.items()
            ],
            receipt={"samples": {"sent": self._delivery.sent, "left": left}},
        )

    def _flush(self, deadline: float) -> None:
        """Empty the spool in this thread; one failure ends it, for the spool keeps what is left."""
        due: float | None = 0.0
        while self._spool.datums and due is not None and due <= self._clock.monotonic() < deadline:
            due = self._delivery.step(self._clock.monotonic())

    def _join(self, thread: WorkerThread, deadline: float) -> bool:
        return thread.join(max(0.0, deadline - self._clock.monotonic()))

    def _make_gatherers(self, events: Events) -> list[WorkerThread]:
        threads = [WorkerThread("metrics-collect", [self._cadence], self._clock, events)]
        if self._sources.server is not None:
            threads.append(WorkerThread("statsd", [self._sources.server], self._clock, events))
        return threads


def _rules(section: Metrics) -> Rules:
    return Rules(
        dimensions=section.dimensions,
        rollups=[frozenset(names) for names in section.aggregate],
        max_series=section.max_series,
        zero_fill=section.counter_zero_fill,
        gauge_ttl=section.gauge_ttl,
    )


def _sources(section: Metrics, aggregate: Aggregate, machine: Machine, events: Events, random: Random) -> Sources:
    collection = Collection(make_collectors(section.os, machine), events)
    if section.statsd is None:
        return Sources(collection)
    intake = Intake()
    fold = Fold(intake, aggregate, section.statsd, events)
    return Sources(collection, Server(_listeners(section.statsd, events, random), intake, fold), fold)


def _listeners(statsd: Statsd, events: Events, random: Random) -> list[Listener]:
    listeners = []
    if statsd.address is not None:
        host, port = statsd.address.host, statsd.address.port
        udp = partial(open_udp, host, port, statsd.receive_buffer, events)
        listeners.append(Listener(f"{host}:{port}", udp, events, random, naps=True))
    if statsd.socket is not None:
        unix = partial(open_unix, statsd.socket, statsd.socket_mode, statsd.receive_buffer, events)
        listeners.append(Listener(statsd.socket, unix, events, random, naps=False))
    return listeners
