"""START HERE. The agent from its parts: made, run, drained, ended with an exit code.

`Daemon.assemble` makes the real parts from a configuration; `Daemon(parts)` takes given ones. `run` starts the jobs,
minds signals and the watchdog, and returns the exit code: 0 fine, 3 drained but incomplete. SIGHUP is a reload:
`agent/reload` reads the configuration anew and changes what is other in it.

    log files ──> logs ───┐
    /proc, StatsD ──> metrics ──┼──> AWS          notices ──> drain ──> receipt ──> the hook's answer
    directories ──> uploads ──┘                            (asks each job: debt(), drain())
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from agent import __version__
from agent.aws.session import Aws
from agent.config.schema import Config
from agent.drain.machine import Machine
from agent.drain.notice import Notice
from agent.drain.notices.shutdown import system_is_stopping
from agent.drain.receipt import rfc3339
from agent.engine.clock import Clock
from agent.engine.control import SOCKET_NAME, BadRequest
from agent.engine.crew import Crew
from agent.engine.doors import Doors
from agent.engine.events import Events
from agent.engine.footprint import settle
from agent.engine.job import Debt
from agent.engine.notify import ServiceNotifier
from agent.engine.state import StateDirectory
from agent.engine.workers import LINGER, WorkerThread
from agent.reload.worker import Maker, Reload, Running

STATUS_SCHEMA = 1
EXIT_FINE, EXIT_FAILED, EXIT_INCOMPLETE, EXIT_IMPATIENT = 0, 1, 3, 130
_TICK_SECONDS = 5.0  # between two lines of STATUS; the watchdog may want it shorter
_CALM_BYTES = 1 << 20  # of debt; less is everyday
_STUCK_SECONDS = 120.0  # for one step of one worker; longer than any call to AWS may take
_EMPTY_STATUS: dict[str, Any] = {
    "logs": [],
    "metrics": {"series": 0, "spooled": 0, "oldest": None},
    "uploads": {"pending": 0, "failing": []},
}


@dataclass(frozen=True)
class Parts:
    """Everything that the daemon is made of."""

    config: Config
    instance_id: str
    clock: Clock
    events: Events
    state: StateDirectory
    aws: Aws
    crew: Crew  # the jobs
    machine: Machine
    threads: Sequence[WorkerThread]  # of the drain: machine, notices, heartbeat
    notifier: ServiceNotifier
    maker: Maker  # of what a reload replaces
    reread: Callable[[], Config]  # the configuration as its files say now
    is_shutdown: Callable[[], bool] = field(default=system_is_stopping)


class Daemon:
    """One agent. Not to be run twice."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = "starting"
        self._stop_asked = False
        self._signals: SimpleQueue[int] = SimpleQueue()  # its `put` may interrupt its `get`, as a handler does
        self._doors = self._make_doors(parts.config)
        running = Running(parts.reread, parts.maker, parts.machine, parts.crew, self._doors, parts.notifier)
        self._reload = Reload(parts.config, running, parts.clock, parts.events)
        thread = WorkerThread(self._reload.name, [self._reload], parts.clock, parts.events, linger=LINGER)
        self._reload.wake = thread.wake
        self._threads = [*parts.threads, thread]
        self._intake_open = False
        self._busy = False

    @classmethod
    def assemble(cls, config: Config, **given: Any) -> Daemon:
        """The agent with real parts, made from a configuration without placeholders of the instance.

        Raises StateBusy, OSError (the control socket's place can't be written).
        """
        from agent.assembly import assemble

        return cls(assemble(config, **given))

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; the exit code."""
        self._install_signals()
        try:
            self._start()
            while not self._stop_asked:
                if self._next_signal(self._tick()) == signal.SIGHUP:
                    self._reload.ask()
            return self._end()
        finally:
            self._doors.shut()
            self._parts.aws.close()
            self._parts.state.close()

    def status(self) -> dict[str, Any]:
        """What `outlive status --json` prints."""
        parts = self._parts
        debt = self.debt()
        stuck = self._stuck()
        return {
            "schema": STATUS_SCHEMA,
            "version": __version__,
            "instance_id": parts.instance_id,
            "state": self._present_state(),
            "healthy": not stuck,
            "stuck": stuck,
            "time": rfc3339(parts.clock.time()),
            "debt": {"bytes": debt.bytes, "items": debt.items, "seconds": debt.seconds},
            **_EMPTY_STATUS,
            **parts.crew.status(),
            "counters": parts.events.counters(),
            "drain": parts.machine.status(),
            "reload": self._reload.status(),
        }

    def debt(self) -> Debt:
        """What is not yet safe, of all jobs."""
        return self._parts.crew.debt()

    # -- its life

    def _start(self) -> None:
        parts = self._parts
        resumed = parts.machine.restore()
        self._intake_open = not (resumed and parts.machine.finished.is_set())
        if self._intake_open:
            parts.crew.start()
        for thread in self._threads:
            thread.start()
        self._doors.open()
        self._state = "running"
        parts.events.say(
            "info",
            "started",
            version=__version__,
            instance_id=parts.instance_id,
            region=parts.aws.region,
            jobs=[job.name for job in parts.crew],
        )
        settle()
        parts.notifier.ready()

    def _tick(self) -> float:
        """Look whether all threads live, tell systemd; seconds until the next look."""
        notifier = self._parts.notifier
        stuck = self._stuck()
        if stuck:
            self._parts.events.trouble("error", "worker_stuck", "", workers=stuck)
        else:
            notifier.alive()
        debt = self.debt()
        self._mind_memory(debt)
        notifier.status(f"{self._present_state()}: {debt.bytes} bytes in {debt.items} items not yet in AWS")
        return min(_TICK_SECONDS, (notifier.watchdog_interval or _TICK_SECONDS * 3) / 3)

    def _mind_memory(self, debt: Debt) -> None:
        """After a backlog, give its memory back."""
        if self._busy and debt.bytes < _CALM_BYTES:
            settle()
        self._busy = debt.bytes >= _CALM_BYTES

    def _end(self) -> int:
        """After SIGTERM: drain if the system goes down, else flush a little; the exit code."""
        parts = self._parts
        self._end_reload()
        drain = self._reload.config.drain
        if drain is not None and drain.triggers.shutdown and parts.is_shutdown():
            self._drain_for_shutdown(drain.shutdown_timeout)
        parts.notifier.stopping()
        self._state = "stopping"
        record = parts.machine.record
        clean = self._stop_jobs()
        self._doors.end()
        for thread in self._threads:
            thread.stop()
        for thread in self._threads:
            thread.join(1.0)
        parts.events.say("info", "stopped", clean=clean)
        incomplete = record is not None and parts.machine.finished.is_set() and record.outcome == "incomplete"
        return EXIT_INCOMPLETE if incomplete else EXIT_FINE

    def _drain_for_shutdown(self, timeout: float) -> None:
        parts = self._parts
        parts.events.say("info", "system_is_stopping")
        parts.notifier.extend_timeout(timeout + 30.0)
        parts.machine.notice(Notice("shutdown", parts.clock.time()))
        until = parts.clock.monotonic() + timeout + 20.0
        while not parts.machine.finished.is_set() and parts.clock.monotonic() < until:
            parts.machine.finished.wait(self._tick())

    def _stop_jobs(self) -> bool:
        if not self._intake_open:
            return True
        deadline = self._parts.clock.monotonic() + self._reload.config.agent.stop_timeout
        return self._parts.crew.stop(deadline)

    def _end_reload(self) -> None:
        """Let the one that is being applied come to its end: what it replaces is stopped half way else."""
        self._reload.close()
        while not self._reload.wait(1.0):
            self._tick()

    def _make_doors(self, config: Config) -> Doors:
        handlers = {"status": lambda _: self.status(), "drain": self._on_drain, "reload": self._on_reload}
        path = os.path.join(config.agent.run_dir, SOCKET_NAME)
        parts = self._parts
        return Doors(path, handlers, config.agent.status_address, self.status, parts.clock, parts.events)

    def _install_signals(self) -> None:
        """SIGHUP may have come before: `outlive run` keeps it waiting from its first moment on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGHUP, lambda number, _frame: self._signals.put(number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _next_signal(self, seconds: float) -> int | None:
        """The signal that comes within so many seconds."""
        try:
            return self._signals.get(timeout=seconds)
        except Empty:
            return None

    def _on_stop_signal(self, number: int, _frame: FrameType | None) -> None:
        """The first asks to stop; a second one ends everything at once."""
        if self._stop_asked:
            os._exit(EXIT_IMPATIENT)
        self._stop_asked = True
        self._signals.put(number)

    # -- what it is asked

    def _on_drain(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The control command `drain`: reason (an operator's words) and seconds, both optional."""
        seconds = request.get("seconds")
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise BadRequest("seconds must be a positive number")
        if not self._intake_open:
            return {"drain": self._parts.machine.status()}
        now = self._parts.clock.time()
        deadline = None if seconds is None else now + seconds
        self._parts.machine.notice(Notice("operator", now, deadline, str(request.get("reason", ""))[:500]))
        return {"drain": self._parts.machine.status()}

    def _on_reload(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The control command `reload`: begins one; with the number of one, says what became of it."""
        number = request.get("number")
        if number is None:
            number = self._reload.ask()
        if not isinstance(number, int):
            raise BadRequest("number must be that of a reload")
        return {"reload": self._reload.outcome(number).document()}

    def _present_state(self) -> str:
        record = self._parts.machine.record
        if record is None:
            return self._state
        return "done" if self._parts.machine.finished.is_set() else "draining"

    def _stuck(self) -> list[str]:
        """Names of threads that do not come back from a step."""
        if self._state in ("starting", "stopping"):
            return []
        now = self._parts.clock.monotonic()
        threads = [*self._parts.threads]
        if self._intake_open:
            threads += self._parts.crew.threads()
        return [thread.name for thread in threads if thread.stuck_for(now) > _STUCK_SECONDS]


def seeded() -> random.Random:
    """Randomness for jitter and ids, from the system."""
    return random.Random(int.from_bytes(os.urandom(16)))
