"""Parts around the drain's machine that tests move by hand."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from structlog.testing import CapturingLogger

from agent.aws.autoscaling import Hook
from agent.aws.errors import AwsError, Refused, Unreachable
from agent.config.sections.drain import Drain
from agent.drain.hook import Answer, Heartbeat, HookFinder
from agent.drain.journal import DrainRecord, Journal
from agent.drain.machine import Machine, Tools
from agent.engine.clock import FakeClock
from agent.engine.database import Database
from agent.engine.events import Events
from agent.engine.job import Debt, Gap, Proofs, Refusal

NO_ACTION = Refused(
    "CompleteLifecycleAction", "ValidationError", "No active Lifecycle Action found with instance ID i-1"
)


class FakeJob:
    """A job that owes what a test says."""

    name = "fake"
    threads = ()

    def __init__(self) -> None:
        self.owed = 0
        self.silent = False  # not settled, and nothing to say why
        self.refused: tuple[Refusal, ...] = ()
        self.drains = 0
        self.seals = 0

    def start(self) -> None: ...

    def debt(self) -> Debt:
        return Debt(self.owed, 1 if self.owed else 0)

    def status(self) -> Mapping[str, Any]:
        return {}

    def drain(self, deadline: float) -> Proofs:
        self.drains += 1
        gaps = (Gap("log", "/a.log", self.owed, "not yet acknowledged"),) if self.owed else ()
        return Proofs(not self.owed and not self.silent, gaps, self.refused, {"samples": {"sent": 5, "left": 0}})

    def resume(self) -> None:
        self.seals += 1

    def stop(self, deadline: float) -> bool:
        return not self.owed


class FakeAutoScaling:
    """One instance in one group, as Auto Scaling would show it."""

    def __init__(self) -> None:
        self.state = "Terminating:Wait"
        self.active = True
        self.retain = False
        self.hooks_there = ["drain"]
        self.failures: list[AwsError] = []
        self.heartbeats = 0
        self.results: list[str] = []

    def membership(self) -> tuple[str, str] | None:
        self._fail()
        return ("web", self.state) if self.state else None

    def hooks(self, group: str) -> list[Hook]:
        self._fail()
        return [Hook(group, name, 300.0) for name in self.hooks_there]

    def retains_abandoned(self, group: str) -> bool:
        self._fail()
        return self.retain

    def heartbeat(self, hook: Hook) -> None:
        self._fail()
        if not self.active:
            raise NO_ACTION
        self.heartbeats += 1

    def complete(self, hook: Hook, result: str) -> None:
        self._fail()
        if not self.active:
            raise NO_ACTION
        self.active = False
        self.state = "Terminating:Proceed"
        self.results.append(result)

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class MemoryStore:
    """Receipts in memory; refuses as often as it is told."""

    def __init__(self) -> None:
        self.documents: list[Mapping[str, Any]] = []
        self.failures = 0

    def put(self, record: DrainRecord, document: Mapping[str, Any], attachments: Mapping[str, str]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unreachable("PutObject", "ConnectTimeout", "no route")
        self.documents.append(document)


class Stage:
    """A machine with everything around it; `crash` drops the machine and makes it anew from the journal."""

    def __init__(self, tmp_path: Any, config: Drain | None = None) -> None:
        self.clock = FakeClock()
        self.log = CapturingLogger()
        self.events = Events(self.log, self.clock)
        self.config = config or Drain()
        self.database = Database(str(tmp_path / "state.db"))
        self.receipts = str(tmp_path / "receipts")
        self.job = FakeJob()
        self.scaling = FakeAutoScaling()
        self.store = MemoryStore()
        self.boot_id = "boot-1"
        self.machine = self._make()

    def crash(self) -> None:
        self.machine = self._make()
        self.machine.restore()

    def run(self, seconds: float = 60.0, *, until: Any = None) -> None:
        """Step, letting the clock jump to each next time, until done or so many seconds have passed."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() <= end and not self.machine.finished.is_set():
            if until is not None and until():
                return
            again = self.machine.step(self.clock.monotonic())
            if again is None:
                return
            self.clock.advance(max(0.0, again - self.clock.monotonic()))
            self._beat()

    def _beat(self) -> None:
        """Step the heartbeat when it is due, or was woken."""
        if self.clock.monotonic() >= self.beat_at:
            self.beat_at = self.heartbeat.step(self.clock.monotonic()) or float("inf")

    def _wake(self) -> None:
        self.beat_at = 0.0

    def _make(self) -> Machine:
        self.beat_at = float("inf")
        rng = random.Random(7)
        client: Any = self.scaling
        self.heartbeat = Heartbeat(client, self.clock, self.events, rng)
        tools = Tools(
            journal=Journal(self.database, self.events),
            jobs=[self.job],
            finder=HookFinder(client, self.config.auto_scaling_group, self.config.hook, self.events),
            heartbeat=self.heartbeat,
            answer=Answer(client, self.events, rng),
            retains_abandoned=client.retains_abandoned,
            store=self.store,
            receipts=self.receipts,
            instance_id="i-1",
            boot_id=self.boot_id,
            clock=self.clock,
            events=self.events,
            rng=rng,
            wake_heartbeat=self._wake,
        )
        return Machine(self.config, tools)
