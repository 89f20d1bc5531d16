"""Watching: hints from the real inotify, and what happens when it does not give any."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uploads_kit import Recorder

from agent.engine.clock import FakeClock
from agent.engine.events import Events
from agent.uploads.hints import MOST, Hints
from agent.uploads.watch import Watched, Watcher


class Room:
    """A directory, its hints, and a watcher."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.log = Recorder()
        self.told = threading.Semaphore(0)
        self.hints = Hints(self.told.release)
        self.directories = 1
        self.watched = Watched(str(path), self.hints, lambda: self.directories)
        self.watcher = Watcher([self.watched], Events(self.log, FakeClock()), **options)

    def expect(self, *names: str) -> None:
        """Wait for hints to these paths, at most some seconds."""
        missing = set(names)
        while missing:
            self.hints.take_everywhere()
            missing -= set(self.hints.take(1_000))
            if missing:
                assert self.told.acquire(timeout=10), f"no hint to {missing}"


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Callable[..., Room]]:
    made: list[Room] = []

    def make(**options: Any) -> Room:
        made.append(Room(tmp_path, **options))
        return made[-1]

    yield make
    for room in made:
        room.watcher.stop()


class FakeObserver:
    """An observer that refuses as it is told."""

    def __init__(self, *errors: OSError | None) -> None:
        self.errors = list(errors)
        self.scheduled: list[str] = []
        self.unscheduled = 0

    def schedule(self, event_handler: Any, path: str, *, recursive: bool, event_filter: Any) -> object:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.scheduled.append(path)
        return object()

    def unschedule(self, watch: Any) -> None:
        self.unscheduled += 1

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...


# the real thing


def test_writing_moving_and_linking_leave_hints(rooms: Callable[..., Room], tmp_path: Path) -> None:
    room = rooms()
    (tmp_path / "sub").mkdir()
    room.watcher.step(0.0)
    assert room.hints.watched
    assert room.hints.take_everywhere()  # for what changed before
    (tmp_path / "sub" / "written").write_text("x")
    room.expect("sub/written")
    (tmp_path / "sub" / "written").rename(tmp_path / "moved")
    room.expect("moved")
    os.link(tmp_path / "moved", tmp_path / "linked")
    room.expect("linked")
    (tmp_path / "new").mkdir()
    room.expect("new")
    with open(os.fsencode(tmp_path) + b"/\xff", "wb"):
        pass
    room.expect("\udcff")


def test_reading_leaves_no_hint(rooms: Callable[..., Room], tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    room = rooms()
    room.watcher.step(0.0)
    assert room.hints.take_everywhere()
    for _ in range(20):
        (tmp_path / "a").read_text()
        os.listdir(tmp_path)
    (tmp_path / "end").write_text("x")
    seen: set[str] = set()
    while "end" not in seen:
        assert room.told.acquire(timeout=10)
        seen |= set(room.hints.take(1_000))
    assert seen == {"end"}


def test_a_directory_that_was_replaced_is_watched_anew(rooms: Callable[..., Room], tmp_path: Path) -> None:
    room = rooms()
    room.path = root = tmp_path / "root"
    room.watched.path = str(root)
    room.watcher.step(0.0)
    assert not room.hints.watched
    root.mkdir()
    room.watcher.step(60.0)
    assert room.hints.watched
    root.rename(tmp_path / "old")
    root.mkdir()
    room.watcher.step(120.0)
    (root / "a").write_text("x")
    room.expect("a")


# when the kernel gives none


def test_without_watches_the_agent_lives_by_scans_and_says_so(rooms: Callable[..., Room]) -> None:
    full = OSError(errno.ENOSPC, "inotify watch limit reached")
    observer = FakeObserver(full, full)
    room = rooms(make_observer=lambda: observer, count_watches=lambda: None)
    for now in (0.0, 60.0):
        room.watcher.step(now)
        assert not room.hints.watched
    (said,) = room.log.of("uploads_not_watched")
    assert "max_user_watches" in said["hint"]
    room.watcher.step(120.0)
    assert room.hints.watched
    assert room.hints.take_everywhere()
    assert "uploads_watched" in room.log.names()


def test_without_an_inotify_instance_too(rooms: Callable[..., Room]) -> None:
    def none_left() -> FakeObserver:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    room = rooms(make_observer=none_left)
    room.watcher.step(0.0)
    assert not room.hints.watched
    assert "max_user_instances" in room.log.of("uploads_not_watched")[0]["hint"]


def test_watches_that_ran_out_below_the_root_are_noticed(rooms: Callable[..., Room]) -> None:
    watches = [199]
    room = rooms(make_observer=FakeObserver, count_watches=lambda: watches[0])
    room.directories = 1_000
    room.watcher.step(0.0)
    assert not room.hints.watched
    assert "199 watches for 1000 directories" in room.log.of("uploads_not_watched")[0]["error"]
    watches[0] = 1_001
    room.watcher.step(60.0)
    assert room.hints.watched


def test_the_kernel_s_count_of_watches_is_read(rooms: Callable[..., Room], tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"d{number}").mkdir()
    room = rooms()
    room.directories = 8
    room.watcher.step(0.0)
    assert room.hints.watched
    room.directories = 1_000_000
    room.watcher.step(60.0)
    assert not room.hints.watched


def test_an_overflow_that_watchdog_only_logs_ends_in_a_scan_of_everything(rooms: Callable[..., Room]) -> None:
    room = rooms(make_observer=FakeObserver, count_watches=lambda: None)
    room.watcher.step(0.0)
    room.hints.take_everywhere()
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; filesystem events were lost")
    assert room.hints.take_everywhere()
    assert room.log.of("uploads_events_lost")[0]["message"].startswith("Inotify queue overflowed")


# hints


def test_more_hints_than_are_remembered_are_one_hint_to_everything() -> None:
    told: list[int] = []
    hints = Hints(lambda: told.append(1))
    for number in range(MOST + 10):
        hints.add(f"f{number}")
    assert hints.take_everywhere()
    assert len(hints) <= 10
    assert len(told) == 1  # it is woken once, not for each


def test_hints_are_taken_in_order_and_once() -> None:
    hints = Hints(lambda: None)
    for name in ("b", "a", "b", "c"):
        hints.add(name)
    assert hints.take(2) == ["b", "a"]
    assert hints.take(2) == ["c"]
    assert hints.take(2) == []
