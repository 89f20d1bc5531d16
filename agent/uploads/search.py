"""Looking through one directory: the whole tree from time to time, and early where hints point."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from agent.engine.clock import Clock
from agent.engine.events import Events
from agent.engine.files import LinkRefused
from agent.uploads.directory import Directory
from agent.uploads.hints import Hints
from agent.uploads.ledger import Ledger
from agent.uploads.names import to_text
from agent.uploads.scan import Scan, Tally
from agent.uploads.tree import Stamp, Walk, stamp_of

SLICE = 900  # entries looked at in one step: about 5 ms
_HINTS = 128  # taken in one step: about 5 ms
_SUBTREES = 1_024  # new directories that wait for their scan; with more the whole tree is scanned
_LONGEST_INTERVAL = 900.0  # seconds between whole scans while nothing changes
_SHARE = 10.0  # a scan that lost events call for begins no sooner than so many durations after the last one began
_RETRY = 10.0  # seconds until a directory that can't be opened is tried again
_GONE = (errno.ENOENT, errno.ENOTDIR)

Found = tuple[str, Stamp]
"""A file that is not in S3 as it is: its relative path and its stamp."""


class Search:
    """The scans of one directory. Used by one thread at a time."""

    def __init__(self, directory: Directory, ledger: Ledger, hints: Hints, clock: Clock, events: Events) -> None:
        self.directory = directory
        self.hints = hints
        self.last: Tally | None = None  # of the last whole scan that came to its end
        self.finished = 0  # whole scans that came to their end since `restart`
        self.finished_at = 0.0
        self.let_go = 0  # files found since the last whole scan began and not kept in mind
        self.error: OSError | None = None  # why the directory can't be opened
        self._ledger = ledger
        self._clock = clock
        self._events = events
        self._known = partial(ledger.known, directory.place)
        self._whole: Scan | None = None
        self._part: Scan | None = None
        self._subtrees: deque[str] = deque()
        self._interval = directory.rescan
        self._due = 0.0
        self._began = 0.0

    @property
    def tally(self) -> Tally:
        """What the whole scan under way, or else the last one, has seen."""
        if self._whole is not None:
            return self._whole.tally
        return self.last or Tally()

    @property
    def due(self) -> float:
        """When the next step has something to do; 0: now."""
        busy = self._whole or self._part or self._subtrees or len(self.hints)
        return 0.0 if busy else self._due

    @property
    def resting(self) -> bool:
        """Whether nothing points to a change that was not looked at."""
        return not (self._whole or self._part or self._subtrees or len(self.hints))

    @property
    def complete(self) -> bool:
        """Whether a whole scan since `restart` has shown that nothing is owed.

        A directory that is not there, and from which nothing was ever sent, holds nothing.
        """
        if self.error is not None:
            return self.error.errno in _GONE and not self._ledger.has_any(self.directory.place)
        last = self.last
        return self.finished > 0 and last is not None and not (last.owed or last.errors)

    def restart(self, now: float) -> None:
        """Begin a whole scan from the top, whatever is under way."""
        self.close()
        self.finished = 0
        self.error = None
        self._due = now

    def close(self) -> None:
        for scan in (self._whole, self._part):
            if scan is not None:
                scan.close()
        self._whole = self._part = None

    def step(self, now: float) -> list[Found]:
        """One bounded look: at what hints point to, at a new subtree, or at a slice of the whole tree."""
        if self.hints.take_everywhere():
            self._hasten(now)
        if paths := self.hints.take(_HINTS):
            return self._look(paths)
        if self._part is not None or self._subtrees:
            return self._scan_part()
        if self._whole is None and now >= self._due:
            self._begin(now)
        return self._scan_whole(now) if self._whole is not None else []

    def _hasten(self, now: float) -> None:
        """Events were lost: scan the whole tree, but not all the time."""
        spent = max(0.0, self.finished_at - self._began)
        self._due = min(self._due, max(now, self._began + max(1.0, _SHARE * spent)))

    def _begin(self, now: float) -> None:
        directory = self.directory
        try:
            self._whole = Scan(directory.path, directory.filter, self._known, follow=directory.follow)
        except OSError as error:
            self._due = now + min(_RETRY, directory.rescan)
            self.error = error
            self._events.trouble(
                "warning",
                "uploads_directory_unreadable",
                directory.path,
                counter="uploads_unreadable",
                directory=directory.path,
                error=str(error),
                hint="make it, mount it, or let the agent's user read it; it is tried again",
            )
            return
        self._began = now
        self.let_go = 0
        self.error = None
        self._events.over("uploads_directory_unreadable", directory.path, said="uploads_directory_readable")

    def _scan_whole(self, now: float) -> list[Found]:
        scan = self._whole
        assert scan is not None
        found = self._takeable(scan.advance(SLICE), scan.tally)
        scan.tally.owed += len(found)
        if scan.done:
            self._whole = None
            self._end(scan.tally, now)
        return found

    def _takeable(self, found: list[Found], tally: Tally | None = None) -> list[Found]:
        """Those of the files that S3 can take, as far as is known; the others are tallied."""
        taken: list[Found] = []
        now = self._clock.time()
        for relative, stamp in found:
            text = to_text(relative)
            reason = self.directory.refuses(text, stamp[0], now) or self._ledger.refusal(
                self.directory.place, text, stamp
            )
            if reason is None:
                taken.append((relative, stamp))
            elif tally is not None:
                tally.refuse(relative, reason)
        return taken

    def _end(self, tally: Tally, now: float) -> None:
        self.last = tally
        self.finished += 1
        self.finished_at = now
        quiet = tally.owed == 0 and self.hints.watched
        longest = max(_LONGEST_INTERVAL, self.directory.rescan)
        self._interval = min(self._interval * 2, longest) if quiet else self.directory.rescan
        self._due = now + self._interval
        self._say_errors(tally)

    def _say_errors(self, tally: Tally) -> None:
        path = self.directory.path
        if not tally.errors:
            self._events.over("uploads_part_unreadable", path, said="uploads_part_readable")
            return
        first, why = next(iter(tally.errors.items()))
        self._events.trouble(
            "warning",
            "uploads_part_unreadable",
            path,
            counter="uploads_unreadable",
            directory=path,
            unreadable=len(tally.errors) + tally.more_errors,
            first=f"{path}/{first}",
            error=why,
            hint="let the agent's user read it, or exclude it",
        )

    def _scan_part(self) -> list[Found]:
        """A slice of a subtree that a hint has pointed to."""
        scan = self._part or self._begin_part(self._subtrees.popleft())
        found = scan.advance(SLICE) if scan is not None else []
        self._part = scan if scan is not None and not scan.done else None
        return self._takeable(found)

    def _begin_part(self, start: str) -> Scan | None:
        directory = self.directory
        try:
            return Scan(directory.path, directory.filter, self._known, follow=directory.follow, start=start)
        except OSError:
            return None  # the whole scan says why

    def _look(self, paths: list[str]) -> list[Found]:
        """What the file system has pointed to: files are compared, directories put in line."""
        found: list[Found] = []
        with _absence_is_fine():
            walk = Walk(self.directory.path, follow=self.directory.follow)
            try:
                for path in paths:
                    found += self._look_at(walk, path)
            finally:
                walk.close()
        return self._takeable(found)

    def _look_at(self, walk: Walk, relative: str) -> list[Found]:
        filter_ = self.directory.filter
        parent, _, name = relative.rpartition("/")
        seen: os.stat_result | None = None
        if filter_.reaches(relative):
            with _absence_is_fine():
                walk.enter(parent)
                seen = walk.stat(name)
        if seen is None:
            return []
        if stat.S_ISDIR(seen.st_mode) and filter_.enters(relative):
            self._line_up(relative)
        if not stat.S_ISREG(seen.st_mode) or not filter_.takes_file(relative):
            return []
        stamp = stamp_of(seen)
        row = (to_text(name), *stamp)
        return [] if row in self._known(to_text(parent), [row]) else [(relative, stamp)]

    def _line_up(self, relative: str) -> None:
        if relative in self._subtrees:
            return
        if len(self._subtrees) < _SUBTREES:
            self._subtrees.append(relative)
        else:
            self._subtrees.clear()
            self.hints.everywhere()


@contextmanager
def _absence_is_fine() -> Iterator[None]:
    """What a hint pointed to may be gone, or not to be followed; what can't be read, the whole scan says."""
    try:
        yield
    except LinkRefused:
        return
    except OSError as error:
        if error.errno not in (*_GONE, errno.EACCES, errno.EPERM, errno.ELOOP):
            raise
