"""The parts that a reload changes while they work: crew, doors, the log's level, what the drain goes by."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from drain_fakes import FakeJob, Stage

from agent.config.sections.drain import Drain
from agent.drain.hook import HookFinder
from agent.drain.machine import DrainUnderWay
from agent.drain.notice import Notice
from agent.drain.watcher import Watcher
from agent.engine.clock import FakeClock, SystemClock
from agent.engine.control import NotRunning, ask
from agent.engine.crew import Crew
from agent.engine.doors import Doors
from agent.engine.events import Events
from agent.engine.voice import Voice
from agent.engine.workers import WorkerThread


class Caller:
    """A worker in the middle of a call that lasts until it is ended."""

    name = "caller"

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()
        self.ended = False

    def step(self, now: float) -> None:
        self.begun.set()
        self.over.wait(10.0)
        self.ended = True


class CallingJob(FakeJob):
    """A job that is told to stop while a call of its is under way, and does not wait for that."""

    def __init__(self, caller: Caller, thread: WorkerThread) -> None:
        super().__init__()
        self.threads = (thread,)
        self._caller = caller

    def stop(self, deadline: float) -> bool:
        self.threads[0].stop()
        threading.Timer(0.05, self._caller.over.set).start()
        return False


def test_a_dismissed_job_has_ended_its_last_call_before_another_takes_its_place(events: Events) -> None:
    clock, caller = SystemClock(), Caller()
    thread = WorkerThread("caller", [caller], clock, events)
    thread.start()
    caller.begun.wait(10.0)
    crew = Crew(clock, events)
    crew.enlist([CallingJob(caller, thread)])
    assert not crew.dismiss(["fake"], clock.monotonic() + 0.01)
    assert caller.ended
    assert list(crew) == []


def test_the_crew_keeps_its_order_whoever_comes_last(clock: FakeClock, events: Events) -> None:
    jobs = {name: FakeJob() for name in ("uploads", "logs", "metrics")}
    for name, job in jobs.items():
        job.name = name
    crew = Crew(clock, events)
    crew.enlist([jobs["uploads"]])
    crew.take_on(jobs["metrics"])
    crew.take_on(jobs["logs"])
    assert [job.name for job in crew] == ["logs", "metrics", "uploads"]


def test_a_place_that_was_reserved_and_not_moved_to_is_free_again(tmp_path: Path, events: Events) -> None:
    doors = Doors(str(tmp_path / "sock"), {}, None, dict, SystemClock(), events)
    there = doors.reserve(("127.0.0.1", 0))
    port = there.served.server.port
    there.cancel()
    doors.reserve(("127.0.0.1", port)).cancel()
    doors.end()


def test_a_control_socket_is_not_left_behind_by_a_status_address_that_is_taken(
    tmp_path: Path, events: Events
) -> None:
    first = Doors(str(tmp_path / "first"), {}, ("127.0.0.1", 0), dict, SystemClock(), events)
    port = first._http.server.port
    with pytest.raises(OSError, match="in use"):
        Doors(str(tmp_path / "second"), {}, ("127.0.0.1", port), dict, SystemClock(), events)
    assert not (tmp_path / "second").exists()
    first.end()
    with pytest.raises(NotRunning):
        ask(str(tmp_path / "first"), "status")


@pytest.fixture
def root_handlers() -> Iterator[None]:
    """The handlers of Python's own log, as they were."""
    before = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = before


@pytest.mark.usefixtures("root_handlers")
def test_another_level_counts_from_the_next_line_on_and_leaves_no_handler_behind(clock: FakeClock) -> None:
    with redirect_stderr(StringIO()) as out:
        voice = Voice("error")
        handlers = len(logging.getLogger().handlers)
        events = Events(voice, clock)
        events.say("info", "hidden")
        voice.set_level("debug")
        events.say("debug", "shown")
        voice.set_level("warning")
        events.say("info", "hidden_again")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["shown"]
    assert len(logging.getLogger().handlers) == handlers


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.database.close()


def finder(stage: Stage, hook: str) -> HookFinder:
    client: Any = stage.scaling
    return HookFinder(client, None, hook, stage.events)


def test_the_next_drain_goes_by_what_it_was_rearmed_with(stage: Stage) -> None:
    stage.scaling.hooks_there = ["one", "two"]
    with stage.machine.held():
        stage.machine.rearm(Drain(timeout=60.0), finder(stage, "two"), None)
    record = stage.machine.notice(Notice("auto-scaling", stage.clock.time()))
    assert record.deadline == stage.clock.time() + 60.0
    stage.run()
    assert record.hook["name"] == "two"
    assert stage.store.documents == []


def test_a_machine_with_a_drain_can_not_be_held(stage: Stage) -> None:
    record = stage.machine.notice(Notice("operator", stage.clock.time()))
    with pytest.raises(DrainUnderWay, match=record.drain_id), stage.machine.held():
        raise AssertionError("it is held")


def test_a_machine_is_woken_when_it_is_held_no_longer(stage: Stage) -> None:
    woken: list[bool] = []
    with stage.machine.held():
        stage.machine.wake = lambda: woken.append(stage.machine._held)
    assert woken == [False]


class Source:
    """A source of notices that counts how often it was looked at."""

    interval = 2.0

    def __init__(self, name: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.looks = 0
        self._meanwhile = meanwhile

    def look(self, epoch: float) -> None:
        self.looks += 1
        self._meanwhile()


def test_other_sources_are_watched_from_the_next_step_on_also_if_they_come_in_the_middle_of_one(stage: Stage) -> None:
    new = Source("new")
    old = [Source("first", lambda: watcher.watch([new])), Source("second")]
    watcher = Watcher(old, stage.machine, stage.clock)
    watcher.step(stage.clock.monotonic())
    assert watcher.step(stage.clock.monotonic()) == stage.clock.monotonic() + 2.0
    assert ([source.looks for source in old], new.looks) == ([1, 1], 1)
    watcher.watch([])
    assert watcher.step(stage.clock.monotonic()) is None
