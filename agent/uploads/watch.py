"""The file system's events (inotify, by watchdog), as hints where to look. Losing one costs one rescan interval.

What is known of watchdog, and met here: an exception in a handler ends its thread; the kernel's overflow is only
logged; below the root ENOSPC is ignored; by default opening a file makes events; a new directory's first files are
missed. So: a filter of events, a handler that only leaves a hint, a look at the log and at the number of watches, and
a scan of every new directory. Source: inotify(7).
"""

from __future__ import annotations

import errno
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from agent.engine.events import Events
from agent.uploads.hints import Hints

_CHECK_SECONDS = 60.0  # between two looks at whether the watches are still good
_LOGGER = "watchdog.observers"
_STOP_SECONDS = 2.0  # for an observer's thread to end


class Observer(Protocol):
    """What is used of watchdog's observer."""

    def schedule(self, event_handler: Any, path: str, *, recursive: bool, event_filter: Any) -> Any: ...
    def unschedule(self, watch: Any) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...


class Watched:
    """One directory to be watched: its hints, and how many directories the last scan found in it."""

    def __init__(self, path: str, hints: Hints, directories: Callable[[], int]) -> None:
        self.path = path
        self.hints = hints
        self.directories = directories
        self.watch: Any = None
        self.identity: tuple[int, int] | None = None

    def dispatch(self, event: Any) -> None:
        """Watchdog's call for each event: leave a hint where it happened, and where it moved something to."""
        for place in (event.src_path, event.dest_path):
            if place and os.fsdecode(place).startswith(self.path + "/"):
                self.hints.add(os.fsdecode(place)[len(self.path) + 1 :])


class Watcher:
    """Sets up the watches and looks after them. A worker for a thread of its own: setting up walks the tree."""

    name = "uploads-watch"

    def __init__(
        self,
        watched: Sequence[Watched],
        events: Events,
        make_observer: Callable[[], Observer] | None = None,
        count_watches: Callable[[], int | None] | None = None,
    ) -> None:
        self._watched = watched
        self._events = events
        self._make_observer = make_observer or _inotify_observer
        self._count_watches = count_watches or _count_watches
        self._observer: Observer | None = None
        self._log: _Log | None = None

    def step(self, now: float) -> float:
        """Watch what is not watched, and see whether the watches cover what there is."""
        if self._observer is None:
            self._start()
        if self._observer is not None:
            for each in self._watched:
                self._look_after(each, self._observer)
            self._compare()
        return now + _CHECK_SECONDS

    def stop(self) -> None:
        """End watching. Call it when no step is under way."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(_STOP_SECONDS)
        if self._log is not None:
            logger = logging.getLogger(_LOGGER)
            logger.removeHandler(self._log)
            logger.propagate = True
            self._log = None

    def _start(self) -> None:
        try:
            observer = self._make_observer()
        except OSError as error:  # inotify instances are few, and others' too
            for each in self._watched:
                self._fail(each, error)
            return
        self._log = _Log(self._lost)
        logger = logging.getLogger(_LOGGER)
        logger.addHandler(self._log)
        logger.propagate = False
        observer.start()
        self._observer = observer

    def _look_after(self, each: Watched, observer: Observer) -> None:
        """Watch a directory; again, if its path has come to mean another one."""
        identity = _identity(each.path)
        if identity == each.identity:
            return
        if each.watch is not None:
            observer.unschedule(each.watch)
            each.watch, each.hints.watched = None, False
        each.identity = None
        if identity is None:
            return
        try:
            each.watch = observer.schedule(each, each.path, recursive=True, event_filter=_event_filter())
        except OSError as error:
            self._fail(each, error)
            return
        each.identity = identity
        each.hints.watched = True
        each.hints.everywhere()  # for what has changed before the watches were there

    def _fail(self, each: Watched, error: OSError) -> None:
        hint = (
            "raise fs.inotify.max_user_watches (sysctl)"
            if error.errno == errno.ENOSPC
            else "see the error; for `too many open files` raise fs.inotify.max_user_instances (sysctl)"
        )
        self._events.trouble(
            "warning",
            "uploads_not_watched",
            each.path,
            counter="uploads_watch_failures",
            directory=each.path,
            error=str(error),
            hint=f"{hint}; until then changes are found by rescans",
        )

    def _compare(self) -> None:
        """Below a directory watchdog ignores that watches run out: the kernel knows how many there are."""
        wanted = sum(each.directories() for each in self._watched if each.watch is not None)
        watches = self._count_watches()
        covered = watches is None or watches >= wanted
        for each in self._watched:
            if each.watch is None:
                continue
            each.hints.watched = covered
            if covered:
                self._events.over("uploads_not_watched", each.path, said="uploads_watched")
            else:
                self._fail(each, OSError(errno.ENOSPC, f"{watches} watches for {wanted} directories", each.path))

    def _lost(self, message: str) -> None:
        """Watchdog complained: most likely the kernel's queue ran over."""
        if self._observer is None:
            return
        self._events.say("warning", "uploads_events_lost", counter="uploads_events_lost", message=message)
        for each in self._watched:
            each.hints.everywhere()


class _Log(logging.Handler):
    """Watchdog's own log: it says there, and only there, that events were lost."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        self._lost(record.getMessage())


def _event_filter() -> list[Any]:
    """The events that may mean a new or changed file; without opening and reading, which are everywhere."""
    from watchdog import events

    return [
        events.FileClosedEvent,
        events.FileCreatedEvent,  # moved in from outside, hard links
        events.FileMovedEvent,
        events.DirCreatedEvent,
        events.DirMovedEvent,
    ]


def _inotify_observer() -> Observer:
    from watchdog.observers.inotify import InotifyObserver

    # the warning prints the whole table of watches, megabytes of it
    warnings.filterwarnings("ignore", category=RuntimeWarning, message="Callback with id")
    observer: Observer = InotifyObserver()
    return observer


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a directory; None where there is none to be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _count_watches() -> int | None:
    """How many inotify watches this process holds, by proc(5); None where it does not say."""
    count = 0
    try:
        for name in os.listdir("/proc/self/fd"):
            if _is_inotify(name):
                with open(f"/proc/self/fdinfo/{name}", "rb") as info:
                    count += info.read().count(b"inotify wd:")
    except OSError:
        return None
    return count


def _is_inotify(name: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}") == "anon_inode:inotify"
    except OSError:
        return False  # closed meanwhile
