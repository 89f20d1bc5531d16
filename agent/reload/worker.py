"""A reload: asked for by SIGHUP or `outlive reload`, decided whole, and only then applied.

    read and check -> compare -> hold the drain back -> make ready what can be refused -> apply -> let the drain go on

What did not change is not touched. Until the first thing is applied, any trouble leaves the agent as it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from agent.aws.errors import AwsError
from agent.config.errors import ConfigError
from agent.config.schema import Config
from agent.drain.machine import DrainUnderWay, Machine
from agent.engine.clock import Clock
from agent.engine.crew import Crew
from agent.engine.database import DatabaseError
from agent.engine.doors import Doors, Reservation
from agent.engine.events import Events
from agent.engine.footprint import settle
from agent.engine.job import Job
from agent.engine.notify import ServiceNotifier
from agent.reload.errors import NeedsRestart, NotMade, PlaceTaken, ReloadRefused, Stopping
from agent.reload.plan import Plan, compare

_LONGEST_STOP = 30.0  # seconds that jobs which are replaced may flush, where agent.stop_timeout is longer

State = Literal["asked", "applied", "unchanged", "invalid", "refused", "failed"]
Make = Callable[[], Job | None]


class Maker(Protocol):
    """Makes the parts that a reload replaces."""

    def prepare(self, name: str, config: Config) -> Make:
        """What makes the job of a section; None where the section asks for none. Raises AwsError."""

    def rearm(self, config: Config) -> None:
        """Let the machine and the notices go by the section `drain`."""

    def set_level(self, level: str) -> None:
        """Of the agent's own log."""


@runtime_checkable
class Adaptable(Protocol):
    """A job that takes a changed section in while it works."""

    def can_adapt(self, section: Any) -> bool:
        """Whether it need not be made anew; None is a section that is gone."""

    def adapt(self, section: Any) -> None:
        """Go by `section` from here on: what is the same goes on undisturbed."""


@dataclass(frozen=True)
class Outcome:
    """Of the reload `number`."""

    number: int
    state: State
    problems: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As the control socket answers it."""
        return {"number": self.number, "state": self.state, "problems": self.problems, "changes": self.changes}


@dataclass(frozen=True)
class Running:
    """What a reload works on, and with."""

    reread: Callable[[], Config]
    maker: Maker
    machine: Machine
    crew: Crew
    doors: Doors
    notifier: ServiceNotifier


class Reload:
    """A worker; its step lasts as long as the jobs that it replaces need to stop. Requests that wait become one."""

    name = "reload"

    def __init__(self, config: Config, running: Running, clock: Clock, events: Events) -> None:
        self.config = config  # that runs
        self.wake: Callable[[], None] = lambda: None
        self._running = running
        self._clock = clock
        self._events = events
        self._lock = threading.Lock()
        self._asked = 0  # the number of the last reload that was asked for
        self._begun = 0
        self._last: Outcome | None = None
        self._closed = False
        self._at_rest = threading.Event()  # nothing is being applied
        self._at_rest.set()

    def ask(self) -> int:
        """Reload soon: the number of the reload that will read what the files say now. Safe from any thread."""
        with self._lock:
            number = self._asked = self._begun + 1
        self.wake()
        return number

    def outcome(self, number: int) -> Outcome:
        """What became of it, or of one after it."""
        last = self._last
        return last if last is not None and last.number >= number else Outcome(number, "asked")

    def status(self) -> dict[str, Any] | None:
        """The last one, for `status --json`."""
        return None if self._last is None else self._last.document()

    def close(self) -> None:
        """Apply none any more but the one that is being applied."""
        with self._lock:
            self._closed = True

    def wait(self, seconds: float) -> bool:
        """Until nothing is being applied; False when the time was too short."""
        return self._at_rest.wait(seconds)

    def step(self, now: float) -> float | None:
        with self._lock:
            if self._asked == self._begun:
                return None
            self._begun = number = self._asked
        outcome = Outcome(number, "failed", ("a defect of the agent; see its log",))
        self._running.notifier.reloading(self._clock.monotonic())
        try:
            outcome = self._reload(number)
        finally:
            self._running.notifier.ready()
            self._last = outcome
        return now

    # -- decide

    def _reload(self, number: int) -> Outcome:
        try:
            return self._try(number)
        except ConfigError as error:
            return self._refused(Outcome(number, "invalid", tuple(map(str, error.problems))))
        except DrainUnderWay as error:
            return self._refused(Outcome(number, "refused", (str(error),)))
        except ReloadRefused as error:
            return self._refused(Outcome(number, error.state, error.problems))

    def _refused(self, outcome: Outcome) -> Outcome:
        self._events.say("error", "reload_refused", counter="reloads_refused", problems=outcome.problems,
                         hint="the agent goes on as it was; mend the configuration and reload again")  # fmt: skip
        return outcome

    def _try(self, number: int) -> Outcome:
        """Raises ConfigError, DrainUnderWay, ReloadRefused, with nothing changed."""
        self._running.machine.check_idle()
        new = self._running.reread()
        plan = compare(self.config, new)
        if plan.fixed:
            raise NeedsRestart(plan.fixed)
        if new == self.config:
            self._events.say("info", "reload_found_no_change", counter="reloads")
            return Outcome(number, "unchanged")
        with self._applying(), self._running.machine.held():
            problems = self._change(plan, new)
        settle()
        if problems:
            self._events.say("error", "reload_failed", counter="reloads_failed", problems=problems,
                             hint="mend what is named and reload again, or restart the agent")  # fmt: skip
            return Outcome(number, "failed", problems, plan.changes)
        self._events.say("info", "reloaded", counter="reloads", changes=plan.changes)
        return Outcome(number, "applied", changes=plan.changes)

    @contextmanager
    def _applying(self) -> Iterator[None]:
        """While the agent does not stop: it waits for the end of this. Raises Stopping."""
        with self._lock:
            if self._closed:
                raise Stopping
            self._at_rest.clear()
        try:
            yield
        finally:
            self._at_rest.set()

    def _change(self, plan: Plan, new: Config) -> tuple[str, ...]:
        """Make ready what can be refused, then apply. Raises ReloadRefused, with nothing changed."""
        jobs = {name: self._prepared(name, new) for name in plan.jobs if not self._adapts(name, new)}
        place = self._reserved(new) if plan.status_address else None  # the last that can be refused
        return self._apply(plan, new, jobs, place)

    def _adapts(self, name: str, new: Config) -> bool:
        job: object = self._running.crew.find(name)
        return isinstance(job, Adaptable) and job.can_adapt(getattr(new, name))

    def _prepared(self, name: str, new: Config) -> Make:
        try:
            return self._running.maker.prepare(name, new)
        except AwsError as error:
            raise NotMade(name, f"{error}; {error.hint}") from error

    def _reserved(self, new: Config) -> Reservation:
        address = new.agent.status_address
        try:
            return self._running.doors.reserve(address)
        except OSError as error:
            raise PlaceTaken(address, error.strerror or str(error)) from error

    # -- apply

    def _apply(self, plan: Plan, new: Config, jobs: Mapping[str, Make], place: Reservation | None) -> tuple[str, ...]:
        """What can't be done all the same is said, and tried again by the next reload."""
        running = self._running
        if plan.log_level:
            running.maker.set_level(new.agent.log_level)
        if place is not None:
            running.doors.move(place)
        if plan.drain:
            running.maker.rearm(new)
        for name in plan.jobs:
            job: object = running.crew.find(name)
            if name not in jobs and isinstance(job, Adaptable):
                job.adapt(getattr(new, name))
        problems = self._replace(jobs, new)
        self.config = new.model_copy(update=dict.fromkeys(problems))
        return tuple(f"{name}: does not run: {error}" for name, error in problems.items())

    def _replace(self, jobs: Mapping[str, Make], new: Config) -> dict[str, str]:
        """Stop jobs, all at once, and start those that come after them; what went wrong, by section."""
        crew, problems = self._running.crew, {}
        deadline = self._clock.monotonic() + min(new.agent.stop_timeout, _LONGEST_STOP)
        if not crew.dismiss(jobs.keys(), deadline):
            self._events.say("info", "jobs_stopped_unfinished", jobs=list(jobs))
        for name, make in jobs.items():
            try:
                job = make()
            except (DatabaseError, OSError) as error:
                problems[name] = str(error)
                continue
            if job is not None:
                crew.take_on(job)
        return problems
