"""Workers: each is stepped when it is due or woken; whatever one of them does, the thread goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest
from conftest import Said

from agent.engine.clock import FakeClock, SystemClock
from agent.engine.events import Events
from agent.engine.workers import WorkerThread

PATIENCE = 5.0  # seconds that a test waits for a thread before it fails


class Steps:
    """A worker whose step is a function."""

    def __init__(self, step: Callable[[float], float | None], name: str = "steps") -> None:
        self.name = name
        self.step = step


class Time:
    """A worker that lets a second pass with each step, `until` so much time has passed."""

    name = "time"

    def __init__(self, clock: FakeClock, until: float) -> None:
        self.clock = clock
        self.end = clock.monotonic() + until
        self.over = threading.Event()

    def step(self, now: float) -> float | None:
        if now >= self.end:
            self.over.set()
            return None
        self.clock.advance(1.0)
        return self.clock.monotonic()


def run(clock: FakeClock, events: Events, *workers: Steps, seconds: float) -> None:
    """Run the workers in one thread until so many seconds of the fake clock have passed."""
    time = Time(clock, seconds)
    thread = WorkerThread("test", [*workers, time], clock, events)
    thread.start()
    assert time.over.wait(PATIENCE)
    thread.stop()
    assert thread.join(PATIENCE)


@pytest.fixture
def started() -> Iterator[Callable[[WorkerThread], WorkerThread]]:
    """Starts threads; they are gone after the test."""
    threads: list[WorkerThread] = []

    def start(thread: WorkerThread) -> WorkerThread:
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.stop()
    for thread in threads:
        assert thread.join(PATIENCE)


Start = Callable[[WorkerThread], WorkerThread]


def every(seconds: float, at: list[float], start: float) -> Steps:
    def step(now: float) -> float:
        at.append(now - start)
        return now + seconds

    return Steps(step)


# when a worker is stepped


def test_each_worker_is_stepped_when_it_is_due(clock: FakeClock, events: Events) -> None:
    threes: list[float] = []
    fives: list[float] = []
    start = clock.monotonic()
    run(clock, events, every(3, threes, start), every(5, fives, start), seconds=15)
    assert threes == [0, 3, 6, 9, 12, 15]
    assert fives == [0, 5, 10, 15]


def test_a_worker_without_a_next_time_waits_until_it_is_woken(events: Events, started: Start) -> None:
    steps: queue.Queue[float] = queue.Queue()
    thread = started(WorkerThread("test", [Steps(steps.put)], SystemClock(), events))
    steps.get(timeout=PATIENCE)
    assert steps.empty()
    thread.wake()
    steps.get(timeout=PATIENCE)
    assert steps.empty()


def test_a_worker_that_waits_for_long_is_woken_at_once(events: Events, started: Start) -> None:
    steps: queue.Queue[float] = queue.Queue()

    def step(now: float) -> float:
        steps.put(now)
        return now + 3600

    thread = started(WorkerThread("test", [Steps(step)], SystemClock(), events))
    first = steps.get(timeout=PATIENCE)
    thread.wake()
    assert steps.get(timeout=PATIENCE) - first < PATIENCE


def test_a_worker_with_a_time_is_stepped_again_without_being_woken(events: Events, started: Start) -> None:
    steps: queue.Queue[float] = queue.Queue()

    def step(now: float) -> float:
        steps.put(now)
        return now + 0.01

    started(WorkerThread("test", [Steps(step)], SystemClock(), events))
    first, second = steps.get(timeout=PATIENCE), steps.get(timeout=PATIENCE)
    assert second - first >= 0.01


def test_a_wake_during_a_step_is_not_lost(events: Events, started: Start) -> None:
    steps: queue.Queue[int] = queue.Queue()
    inside, go_on = threading.Event(), threading.Event()

    def step(_now: float) -> None:
        inside.set()
        assert go_on.wait(PATIENCE)
        steps.put(1)

    thread = started(WorkerThread("test", [Steps(step)], SystemClock(), events))
    assert inside.wait(PATIENCE)
    thread.wake()
    go_on.set()
    assert [steps.get(timeout=PATIENCE), steps.get(timeout=PATIENCE)] == [1, 1]


def test_a_worker_that_is_woken_all_the_time_does_not_starve_its_neighbours(clock: FakeClock, events: Events) -> None:
    order: list[str] = []
    done = threading.Event()

    def step_of(name: str) -> Callable[[float], None]:
        def step(_now: float) -> None:
            order.append(name)
            clock.advance(0.001)
            if len(order) < 8:
                thread.wake()
            else:
                done.set()

        return step

    thread = WorkerThread("test", [Steps(step_of("a")), Steps(step_of("b"))], clock, events)
    thread.start()
    assert done.wait(PATIENCE)
    thread.stop()
    assert thread.join(PATIENCE)
    assert "".join(order[:8]) == "abababab"


# failures


def test_an_exception_in_a_step_is_an_event_and_a_counter(clock: FakeClock, events: Events, said: Said) -> None:
    def step(now: float) -> float | None:
        raise ValueError("of all things")

    run(clock, events, Steps(step, "tailer"), seconds=0)
    (line,) = said.lines
    assert line[:2] == ("error", "worker_failed")
    assert line[2]["worker"] == "tailer"
    assert line[2]["error"] == "ValueError: of all things"
    assert isinstance(line[2]["exc_info"], ValueError)
    assert events.counters() == {"worker_failures": 1}


def test_a_failed_worker_is_stepped_again_after_its_backoff_and_the_others_go_on(
    clock: FakeClock, events: Events, said: Said
) -> None:
    tries: list[float] = []
    others: list[float] = []
    start = clock.monotonic()

    def step(now: float) -> float | None:
        tries.append(now - start)
        raise ValueError

    run(clock, events, Steps(step), every(1, others, start), seconds=40)
    waits = [line[2]["retry_in"] for line in said.lines]
    assert len(tries) >= 3
    for wait, before, after in zip(waits, tries, tries[1:], strict=False):
        assert before + wait - 0.01 <= after < before + wait + 1.01  # the clock ticks in seconds
    assert others == list(range(41))


def test_waking_a_failed_worker_does_not_shorten_its_backoff(
    clock: FakeClock, events: Events, said: Said, started: Start
) -> None:
    tried = threading.Event()
    tries: list[float] = []

    def fail(now: float) -> float | None:
        tries.append(now)
        tried.set()
        raise ValueError

    alive: queue.Queue[float] = queue.Queue()
    thread = started(WorkerThread("test", [Steps(fail), Steps(alive.put)], clock, events))
    assert tried.wait(PATIENCE)
    for _ in range(5):
        alive.get(timeout=PATIENCE)
        thread.wake()
    alive.get(timeout=PATIENCE)
    assert len(tries) == 1  # the clock stands still
    assert events.counters() == {"worker_failures": 1}


def test_a_wake_during_the_backoff_counts_after_it(clock: FakeClock, events: Events, said: Said) -> None:
    steps: list[float] = []
    start = clock.monotonic()

    def step(now: float) -> float | None:
        steps.append(now - start)
        if len(steps) == 1:
            raise ValueError
        return None

    run(clock, events, Steps(step), seconds=3)
    assert len(steps) == 2
    assert 0 < steps[1] <= 2


def test_after_a_success_the_backoff_begins_anew(clock: FakeClock, events: Events, said: Said) -> None:
    turns: list[float] = []

    def step(now: float) -> float:
        turns.append(now)
        if len(turns) % 2:
            raise ValueError
        return now

    run(clock, events, Steps(step), seconds=40)
    waits = [line[2]["retry_in"] for line in said.lines]
    assert len(waits) >= 20
    assert max(waits) <= 1.0


# its life


def test_stop_ends_the_thread_after_the_step_under_way(events: Events) -> None:
    inside, go_on = threading.Event(), threading.Event()
    ended: list[str] = []

    def step(_now: float) -> None:
        inside.set()
        assert go_on.wait(PATIENCE)
        ended.append("step")

    thread = WorkerThread("test", [Steps(step)], SystemClock(), events)
    thread.start()
    assert inside.wait(PATIENCE)
    thread.stop()
    assert not thread.join(0.01)
    assert ended == []
    go_on.set()
    assert thread.join(PATIENCE)
    assert ended == ["step"]


def test_stop_interrupts_a_long_wait(events: Events) -> None:
    waiting = threading.Event()

    def step(now: float) -> float:
        waiting.set()
        return now + 3600

    thread = WorkerThread("test", [Steps(step)], SystemClock(), events)
    thread.start()
    assert waiting.wait(PATIENCE)
    thread.stop()
    assert thread.join(PATIENCE)


def test_a_thread_that_was_never_started_has_ended(events: Events) -> None:
    thread = WorkerThread("test", [Steps(lambda _now: None)], SystemClock(), events)
    thread.stop()
    assert thread.join(0.0)


# the watchdog's view


def test_a_step_under_way_is_stuck_for_as_long_as_it_takes(clock: FakeClock, events: Events, started: Start) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def step(_now: float) -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    thread = started(WorkerThread("test", [Steps(step)], clock, events))
    assert inside.wait(PATIENCE)
    clock.advance(7)
    assert thread.stuck_for(clock.monotonic()) == 7.0
    go_on.set()


class WatchedClock(FakeClock):
    """Tells that it was looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_at = threading.Event()

    def monotonic(self) -> float:
        self.looked_at.set()
        return super().monotonic()


def test_between_steps_nothing_is_stuck(events: Events, started: Start) -> None:
    clock = WatchedClock()
    ended = threading.Event()

    def step(_now: float) -> None:
        clock.looked_at.clear()
        ended.set()

    thread = started(WorkerThread("test", [Steps(step)], clock, events))
    assert ended.wait(PATIENCE)
    assert clock.looked_at.wait(PATIENCE)  # it looks for what is due next
    clock.advance(1000)
    assert thread.stuck_for(clock.monotonic()) == 0.0


def test_a_thread_that_has_ended_is_stuck_for_ever(clock: FakeClock, events: Events) -> None:
    thread = WorkerThread("test", [Steps(lambda _now: None)], clock, events)
    assert thread.stuck_for(clock.monotonic()) == float("inf")
    thread.start()
    thread.stop()
    assert thread.join(PATIENCE)
    assert thread.stuck_for(clock.monotonic()) == float("inf")


def test_a_thread_with_nothing_to_do_rests_and_is_there_again_when_woken(events: Events) -> None:
    steps: queue.SimpleQueue[str] = queue.SimpleQueue()

    def step(_now: float) -> None:
        steps.put(threading.current_thread().name + str(threading.get_ident()))

    thread = WorkerThread("seldom", [Steps(step)], SystemClock(), events, linger=0.01)
    thread.start()
    steps.get(timeout=PATIENCE)
    assert thread.join(PATIENCE), "it did not rest"
    assert thread.stuck_for(SystemClock().monotonic()) == 0.0
    thread.wake()
    steps.get(timeout=PATIENCE)
    thread.stop()
    assert thread.join(PATIENCE)


def test_a_thread_that_waits_for_a_time_does_not_rest(events: Events, clock: FakeClock) -> None:
    stepped = threading.Event()

    def step(now: float) -> float:
        stepped.set()
        return now + 1000.0

    thread = WorkerThread("timed", [Steps(step)], clock, events, linger=0.001)
    thread.start()
    assert stepped.wait(PATIENCE)
    assert not thread.join(0.05)
    thread.stop()
    assert thread.join(PATIENCE)


def test_a_resting_thread_that_was_stopped_is_not_woken(events: Events) -> None:
    stepped: list[float] = []
    thread = WorkerThread("seldom", [Steps(stepped.append)], SystemClock(), events, linger=0.001)
    thread.start()
    assert thread.join(PATIENCE)
    thread.stop()
    thread.wake()
    assert thread.join(PATIENCE)
    assert len(stepped) == 1
