"""The files of one entry of the configuration: found, opened, recognised, followed through rotations, let go."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.engine.backoff import Backoff
from agent.engine.events import Events
from agent.engine.files import OWNED_LINKS, open_regular
from agent.logs.cursors import Cursor, Cursors
from agent.logs.deliver import Dispatcher
from agent.logs.discover import Found, Patterns, Scan
from agent.logs.identity import PREFIX_BYTES, guard, locate, prefix
from agent.logs.tail import Route, TailedFile

_RETRY_CAP = 30.0  # seconds between tries to open a file that can't be read
_MISSING_NAMES = 10_000  # names of a directory that are searched for a file rotated while nobody looked


@dataclass(frozen=True)
class Limits:
    """How much of the machine the log files may take."""

    rotated_linger: float  # seconds of quiet before a rotated file is closed
    max_open_files: int


@dataclass
class Unreadable:
    """A file that is meant and can't be opened."""

    error: str
    size: int
    next_try: float
    backoff: Backoff


class Input:
    """One entry of `logs.files`."""

    def __init__(
        self,
        patterns: Patterns,
        route: Route,
        limits: Limits,
        cursors: Cursors,
        dispatcher: Dispatcher,
        events: Events,
        *,
        from_end: bool,
        opened: Callable[[], int],
    ) -> None:
        """`from_end`: skip what is in files that exist when this entry first runs. `opened`: files open in all."""
        self.files: dict[str, TailedFile] = {}  # by path
        self.rotated: list[TailedFile] = []  # their paths lead elsewhere
        self.unreadable: dict[str, Unreadable] = {}
        self.scan_errors: dict[str, str] = {}
        self.lost_bytes = 0  # of this run: known to have existed, gone before they were read
        self._patterns = patterns
        self._route = route
        self._limits = limits
        self._cursors = cursors
        self._dispatcher = dispatcher
        self._events = events
        self._opened = opened
        self._skip_existing = cursors.begin(route.scope) and from_end
        self._known = [cursor for cursor in cursors.load(route.scope) if not cursor.ended]
        self._places: dict[tuple[int, int], TailedFile] = {}
        self._first_scan = True

    def __iter__(self) -> Iterator[TailedFile]:
        """All open files, those rotated away first: what they have is older."""
        yield from self.rotated
        yield from self.files.values()

    def scan(self, now: float) -> None:
        """Look which files there are; open what is new."""
        scan = self._patterns.scan()
        self._report(scan)
        self._places = {_place(file): file for file in self if not file.sealed}
        for found in scan.found:
            if found.path not in self.files:
                self._meet(found, now)
        for path in [path for path in self.unreadable if not os.path.lexists(path)]:
            del self.unreadable[path]
            self._events.over("log_unreadable", path)
        if self._first_scan:
            self._first_scan = self._skip_existing = False
            self._find_rotated(now)

    def look(self, file: TailedFile, now: float) -> None:
        """Take in what became of a file: grown, rotated, overwritten. Never raises for the file's own troubles."""
        try:
            if not file.detached and not self._still_there(file):
                self._detach(file)
            file.look(now)
        except OSError as error:
            file.error = str(error)
            self._events.trouble("warning", "log_unreadable", file.path, counter="log_read_failures", path=file.path,
                                 error=str(error))  # fmt: skip
            return
        if file.error is not None:
            file.error = None
            self._events.over("log_unreadable", file.path, said="log_readable_again", path=file.path)

    def restart(self, file: TailedFile, now: float, epoch: float) -> None:
        """The file was overwritten in place (copytruncate): begin anew with what is in it."""
        lost = file.abandon(now, epoch)
        self.lost_bytes += lost
        self._events.say("warning" if lost == 0 else "error", "log_overwritten", counter="logs_overwritten",
                         path=file.path, lost_bytes=lost)  # fmt: skip
        if lost:
            self._events.count("log_bytes_lost", lost)
        descriptor, detached = os.dup(file.descriptor), file.detached
        if not detached:
            self._detach(file)
        self._open(Cursor(file.path, locate(descriptor), file.cursor.origin), descriptor, detached=detached)

    def close_finished(self, now: float) -> None:
        """Let go of rotated files that are read, acknowledged and quiet."""
        for file in [file for file in self.rotated if self._is_finished(file, now)]:
            self.rotated.remove(file)
            file.finish(ended=True)
            self._events.say("info", "log_finished", path=file.path, bytes=file.acknowledged)

    def close(self) -> None:
        """Let go of everything, cursors kept."""
        for file in list(self):
            file.finish(ended=False)
        self.files.clear()
        self.rotated.clear()

    def _is_finished(self, file: TailedFile, now: float) -> bool:
        return file.idle and (file.sealed or now - file.grown_at >= self._limits.rotated_linger)

    def _still_there(self, file: TailedFile) -> bool:
        """Whether the file's path still leads to it. An error other than absence says nothing."""
        try:
            found = os.stat(file.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return (found.st_ino, found.st_dev) == _place(file)

    def _detach(self, file: TailedFile) -> None:
        file.detached = True
        self._drop(file)
        self.rotated.append(file)
        if not file.sealed:
            self._events.say("info", "log_rotated", counter="logs_rotated", path=file.path)

    def _drop(self, file: TailedFile) -> None:
        if self.files.get(file.path) is file:
            del self.files[file.path]

    def _report(self, scan: Scan) -> None:
        for path in self.scan_errors.keys() - scan.errors.keys():
            self._events.over("log_directory_unreadable", path, said="log_directory_readable_again", path=path)
        self.scan_errors = {path: str(error) for path, error in scan.errors.items()}
        for path, error in self.scan_errors.items():
            self._events.trouble("warning", "log_directory_unreadable", path, counter="log_scan_failures", path=path,
                                 error=error, hint="give the agent's user read and search permission")  # fmt: skip

    def _meet(self, found: Found, now: float) -> None:
        """Open a path that is not followed yet, unless it is another name of a file that is."""
        trouble = self.unreadable.get(found.path)
        if trouble is not None and now < trouble.next_try:
            return
        if self._is_alias(found.path):
            return
        if self._opened() >= self._limits.max_open_files:
            self._events.trouble("error", "log_files_over_budget", "", counter="log_files_not_opened",
                                 path=found.path, limit=self._limits.max_open_files,
                                 hint="raise logs.max_open_files")  # fmt: skip
            return
        try:
            descriptor = open_regular(found.root, found.relative, OWNED_LINKS)
        except FileNotFoundError:
            return
        except OSError as error:
            self._cannot_open(found.path, error, now)
            return
        if self.unreadable.pop(found.path, None) is not None:
            self._events.over("log_unreadable", found.path, said="log_readable_again", path=found.path)
        self._adopt(found.path, descriptor)

    def _is_alias(self, path: str) -> bool:
        """Whether the file at `path` is open already; if it was renamed to it, it is followed there from now on."""
        try:
            found = os.stat(path)
        except OSError:
            return False
        file = self._places.get((found.st_ino, found.st_dev))
        if file is None:
            return False
        if not self._still_there(file):
            self._rename(file, path)
        return True

    def _rename(self, file: TailedFile, path: str) -> None:
        self._drop(file)
        if file in self.rotated:
            self.rotated.remove(file)
        file.detached = False
        file.path = file.cursor.path = path
        self.files[path] = file

    def _cannot_open(self, path: str, error: OSError, now: float) -> None:
        known = self.unreadable.setdefault(path, Unreadable("", 0, 0.0, Backoff(base=1.0, cap=_RETRY_CAP)))
        known.error = error.strerror or str(error)
        known.next_try = now + known.backoff.next()
        try:
            known.size = os.stat(path).st_size
        except OSError:
            known.size = 0
        self._events.trouble("warning", "log_unreadable", path, counter="log_open_failures", path=path,
                             error=known.error,
                             hint="give the agent's user read permission (a group, or setfacl)")  # fmt: skip

    def _adopt(self, path: str, descriptor: int) -> None:
        """Recognise an open file, or take it as new."""
        locator = locate(descriptor)
        cursor = self._recognise(descriptor)
        if cursor is None:
            size = os.fstat(descriptor).st_size
            cursor = Cursor(path, locator, offset=size if self._skip_existing else 0)
            cursor.guard = guard(descriptor, cursor.offset)
        cursor.path, cursor.locator = path, locator
        self._open(cursor, descriptor, detached=False)

    def _open(self, cursor: Cursor, descriptor: int, *, detached: bool) -> None:
        cursor.origin = cursor.origin or cursor.path
        cursor.prefix = prefix(descriptor, PREFIX_BYTES)
        cursor.ended = False
        self._cursors.save(self._route.scope, [cursor])
        file = TailedFile(self._route, cursor, descriptor, self._dispatcher, self._cursors)
        self._places[_place(file)] = file
        file.detached = detached
        if detached:
            self.rotated.append(file)
        else:
            self.files[cursor.path] = file
        self._events.say("info", "log_opened", path=cursor.path, offset=cursor.offset, inode=cursor.locator.inode)

    def _recognise(self, descriptor: int) -> Cursor | None:
        """The cursor of this very file: same place, same head, same bytes before the cursor."""
        locator, size = locate(descriptor), os.fstat(descriptor).st_size
        for cursor in reversed(self._known):
            if not cursor.locator.same_place(locator) or size < cursor.offset:
                continue
            if (
                prefix(descriptor, cursor.prefix[0]) == cursor.prefix
                and guard(descriptor, cursor.offset) == cursor.guard
            ):
                self._known.remove(cursor)
                return cursor
        return None

    def _find_rotated(self, now: float) -> None:
        """Files that were renamed while nobody looked: same directory, same inode, same content."""
        for cursor in list(self._known):
            found = self._search(cursor)
            if found is not None:
                self._open(found[0], found[1], detached=True)
                self.rotated[-1].grown_at = now
        for cursor in self._known:
            if os.path.dirname(cursor.path) not in self.scan_errors:
                self._give_up(cursor)

    def _search(self, cursor: Cursor) -> tuple[Cursor, int] | None:
        directory = os.path.dirname(cursor.path)
        for name in _names_of_inode(directory, cursor.locator.inode):
            try:
                descriptor = open_regular(directory, name, OWNED_LINKS)
            except OSError:
                continue
            if self._is_open(descriptor) or self._recognise(descriptor) is not cursor:
                os.close(descriptor)
                continue
            cursor.path = os.path.join(directory, name)
            return cursor, descriptor
        return None

    def _is_open(self, descriptor: int) -> bool:
        return any(os.path.samestat(os.fstat(descriptor), os.fstat(file.descriptor)) for file in self)

    def _give_up(self, cursor: Cursor) -> None:
        """A generation that can't be found: what is known to be missing is said. Should it come back, it is known."""
        lost = max(0, cursor.size - cursor.offset)
        if lost:
            self.lost_bytes += lost
            self._events.say("error", "log_lost", counter="log_bytes_lost", by=lost, path=cursor.path, bytes=lost,
                             hint="it was deleted or overwritten while the agent did not run")  # fmt: skip
        cursor.ended = True
        self._cursors.save(self._route.scope, [cursor])


def _place(file: TailedFile) -> tuple[int, int]:
    return file.cursor.locator.inode, file.cursor.locator.device


def _names_of_inode(directory: str, inode: int) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            names = [
                entry.name for _, entry in zip(range(_MISSING_NAMES), entries, strict=False) if entry.inode() == inode
            ]
    except OSError:
        return []
    return [name for name in names if stat.S_ISREG(_mode(os.path.join(directory, name)))]


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0
