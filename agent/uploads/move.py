"""`mode: move`: what S3 has confirmed is deleted here, if it is still what was sent.

The ledger says what that was. It is asked again after each whole scan, so that what a kill, a read-only moment or a
missing permission has left here goes later.
Sources: unlink(2), fcntl(2) (leases).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from agent.engine.database import Database, DatabaseError
from agent.engine.events import Events
from agent.engine.files import LinkRefused
from agent.uploads import rows
from agent.uploads.finder import Finder
from agent.uploads.journal import Journal
from agent.uploads.names import from_text, to_text
from agent.uploads.outcome import Sent
from agent.uploads.rows import Kept
from agent.uploads.search import Search
from agent.uploads.sweep import Sweep
from agent.uploads.tree import Walk, stamp_of

_BATCH = 200  # files deleted in one step, after one write to the disk
_MOST_WAITING = 20_000  # files remembered between two steps; what is over is found by the ledger
_MOST_NAMED = 100  # files that stay, by name

IsWritten = Callable[[int, str], bool]
"""Whether somebody has the file of that name, in the directory of that descriptor, open for writing."""


class Move:
    """A worker for one directory."""

    def __init__(
        self,
        search: Search,
        finder: Finder,
        journal: Journal,
        database: Database,
        events: Events,
        is_written: IsWritten | None = None,
    ) -> None:
        self.name = f"uploads-move {search.directory.path}"
        self.staying: dict[str, str] = {}  # file that could not be deleted -> why
        self._search = search
        self._directory = search.directory
        self._finder = finder
        self._journal = journal
        self._database = database
        self._events = events
        self._is_written = is_written or is_open_for_writing
        self._sent: deque[str] = deque(maxlen=_MOST_WAITING)
        self._wanted = False
        self._sweep: Sweep | None = None

    def scanned(self) -> None:
        """A whole scan has come to its end. Called with the finder's lock held."""
        last = self._search.last
        self._wanted = last is not None and last.files > last.owed + len(last.refused) + last.more_refused

    def sent(self, sent: Iterable[Sent]) -> None:
        """Files of this directory were written into the ledger. Called with the finder's lock held."""
        self._sent.extend(to_text(each.candidate.relative) for each in sent)

    def step(self, now: float) -> float | None:
        """A batch of files, or a page of the ledger."""
        if self._finder.draining or self._finder.closing:
            self._sweep = None
            self._wanted = True  # what is skipped now, the ledger knows
            return None
        try:
            return now if self._go_on() else None
        except (OSError, DatabaseError) as error:
            self._sweep = None
            self._say("", error)
            return None

    def _go_on(self) -> bool:
        if self._sent:
            self._remove(self._take())
            return True
        if self._sweep is None and self._wanted:
            self._wanted = False
            self.staying.clear()
            self._sweep = Sweep(self._directory, self._database.read)
        page = self._sweep.advance() if self._sweep is not None else None
        if page is None:
            self._sweep = None
            return False
        for start in range(0, len(page.here), _BATCH):
            self._remove(page.here[start : start + _BATCH])
        return True

    def _take(self) -> list[Kept]:
        """The rows of files that were just sent."""
        place, prefix = self._directory.place, self._directory.prefix
        paths = [self._sent.popleft() for _ in range(min(_BATCH, len(self._sent)))]
        found = (rows.find(self._database.read, place, prefix, path) for path in paths)
        return [row for row in found if row is not None]

    def _remove(self, batch: Sequence[Kept]) -> None:
        """Delete files; what the ledger says of them is on the disk before. Raises OSError, DatabaseError."""
        proven = [row for row in batch if row.checksum.partition(":")[2]]
        if not proven:
            return
        self._journal.harden()
        removed = 0
        with closing(Walk(self._directory.path, follow=self._directory.follow)) as walk:
            for row in proven:
                removed += self._remove_one(walk, row)
        self._events.count("uploads_moved", removed)

    def _remove_one(self, walk: Walk, row: Kept) -> bool:
        relative = from_text(row.path)
        folder, _, name = relative.rpartition("/")
        try:
            descriptor = walk.enter(folder)
            if not self._is_as_sent(descriptor, name, row):
                return False
            if self._is_written(descriptor, name):
                self._keep(row.path, "somebody has it open for writing")
                return False
            if not self._is_as_sent(descriptor, name, row):
                return False
            os.unlink(name, dir_fd=descriptor)
        except (FileNotFoundError, NotADirectoryError, LinkRefused):
            return False
        except OSError as error:
            self._say(row.path, error)
            return False
        self.staying.pop(row.path, None)
        return True

    def _is_as_sent(self, descriptor: int, name: str, row: Kept) -> bool:
        """Whether this is the very file, unchanged: on the file system of its directory, size, times and inode."""
        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        same_device = found.st_dev == os.fstat(descriptor).st_dev
        return stat.S_ISREG(found.st_mode) and same_device and stamp_of(found) == row.stamp

    def _say(self, path: str, error: Exception) -> None:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        self._keep(path, why)
        self._events.trouble(
            "warning",
            "upload_not_moved",
            self._directory.path,
            counter="uploads_not_moved",
            path=f"{self._directory.path}/{path}",
            error=why,
            hint="S3 has it; let the agent's user write to the directory that holds it, or set mode: copy",
        )

    def _keep(self, path: str, why: str) -> None:
        if len(self.staying) < _MOST_NAMED:
            self.staying[path] = why


def is_open_for_writing(descriptor: int, name: str) -> bool:
    """Whether somebody has the file open for writing, where the kernel tells us: its owner, or with CAP_LEASE.

    A read lease is granted only if nobody has. It is given back at once; a writer that comes in between waits for us,
    and the signal that says so is one that is ignored by default.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(name, flags, dir_fd=descriptor)
    except PermissionError:
        return False
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(file)
    return False
