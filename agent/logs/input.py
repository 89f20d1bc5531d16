"""The files of one entry of the configuration: found, opened, recognised, followed through rotations, let go."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.engine.backoff import Backoff
from agent.engine.events import Events
from agent.engine.files import OWNED_LINKS, open_regular
from agent.logs.cursors import Cursor, Cursors
from agent.logs.deliver import Dispatcher
from agent.logs.discover import Found, Patterns, Scan
from agent.logs.identity import PREFIX_BYTES, guard, locate, prefix
from agent.logs.known import Known
from agent.logs.tail import Route, TailedFile

_RETRY_CAP = 30.0  # seconds between tries to open a file that can't be read
_MISSING_NAMES = 10_000  # names of a directory that are searched for a file rotated while nobody looked
_FULL = (errno.EMFILE, errno.ENFILE)


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
        self.unreadable: dict[str, Unreadable] = {}  # by path
        self.scan_errors: dict[str, str] = {}
        self._patterns = patterns
        self._route = route
        self._limits = limits
        self._cursors = cursors
        self._dispatcher = dispatcher
        self._events = events
        self._opened = opened
        self._skip_existing = cursors.begin(f"{route.scope} {patterns.written}") and from_end
        self._known = Known(cursors.claim(route.scope, self._is_ours))
        self._places: dict[tuple[int, int], TailedFile] = {}

    def __iter__(self) -> Iterator[TailedFile]:
        """All open files, those rotated away first: what they have is older. Safe from any thread."""
        return iter([*self.rotated, *self.files.values()])

    def scan(self, now: float) -> None:
        """Look which files there are; open what is new."""
        scan = self._patterns.scan()
        self._report(scan)
        for file in self:
            self._follow(file, now)
            file.remember(now)
        self._places = {_place(file): file for file in self if not file.sealed}
        for found in scan.found:
            if found.path not in self.files:
                self._meet(found, now)
        self._skip_existing = False
        for path in [path for path in self.unreadable if _is_gone(path)]:
            self._readable(path, said=None)
        self._find_rotated(now)

    def visit(self, file: TailedFile, now: float, epoch: float, *, hurry: bool, final: bool) -> bool:
        """A file's turn: take in what became of it, then what is in it. True if there is more to do at once.

        A file's own troubles are said and remembered; they are no one else's.
        """
        try:
            more = self._turn(file, now, epoch, hurry=hurry, final=final)
        except OSError as error:
            file.error = error.strerror or str(error)
            self._events.trouble("warning", "log_read_failed", file.path, counter="log_read_failures",
                                 path=file.path, error=file.error)  # fmt: skip
            return False
        if file.error is not None:
            file.error = None
            self._events.over("log_read_failed", file.path, said="log_readable_again", path=file.path)
        return more

    def close_finished(self, now: float) -> None:
        """Let go of rotated files that are read, acknowledged and quiet."""
        for file in [file for file in self.rotated if self._is_finished(file, now)]:
            self.rotated.remove(file)
            file.finish(ended=True)
            self._known.add(file.cursor)
            self._events.say("info", "log_finished", path=file.path, bytes=file.acknowledged)

    def close(self) -> None:
        """Let go of everything, cursors kept."""
        for file in list(self):
            file.finish(ended=False)
        self.files.clear()
        self.rotated.clear()

    def _is_finished(self, file: TailedFile, now: float) -> bool:
        """Whether nothing more is to come, as far as the last look and one more can tell."""
        if file.sealed:
            return file.idle
        quiet, seen = now - max(file.grown_at, file.detached_at), file.size
        if not file.idle or quiet < self._limits.rotated_linger:
            return False
        try:
            file.look(now)
        except OSError:
            return False
        return file.size == seen and not file.overwritten

    def _is_ours(self, cursor: Cursor) -> bool:
        """Entries with the same group and stream share a scope: their files tell them apart."""
        return self._patterns.means(cursor.origin) or self._patterns.means(cursor.path)

    def _turn(self, file: TailedFile, now: float, epoch: float, *, hurry: bool, final: bool) -> bool:
        self._follow(file, now)
        file.look(now)
        if file.overwritten:
            self._restart(file, now, epoch)
            return True
        more = file.advance(now, epoch, hurry=hurry, final=final)
        self._count(file)
        return more or file.overwritten

    def _restart(self, file: TailedFile, now: float, epoch: float) -> None:
        """The file was overwritten in place (copytruncate): begin anew with what is in it."""
        cursor = self._new_cursor(file.path, file.descriptor, 0)
        cursor.origin = file.cursor.origin
        descriptor, gone, detached = file.abandon(now, epoch), file.take_gone(), file.detached
        self._events.say("error" if gone else "warning", "log_overwritten", counter="logs_overwritten",
                         path=file.path, lost_bytes=gone)  # fmt: skip
        self._events.count("log_bytes_lost", gone)
        if not detached:
            self._detach(file, now)
        self._open(cursor, descriptor, now, detached=detached)

    def _count(self, file: TailedFile) -> None:
        """Move the counters by what reading changed, skipped, or could not do any more."""
        gone = file.take_gone()
        if gone:
            self._events.say("error", "log_cut_off", counter="log_bytes_lost", by=gone, path=file.path, bytes=gone)
        counts = file.counts
        for counter, number in (("log_empty_lines", counts.empty), ("log_blocks_with_invalid_text", counts.invalid),
                                ("log_events_split", counts.split), ("log_events_dropped", counts.dropped),
                                ("log_events_untimed", counts.untimed)):  # fmt: skip
            if number:
                self._events.count(counter, number)
        file.cursor.dropped += counts.dropped
        counts.empty = counts.invalid = counts.split = counts.dropped = counts.untimed = 0

    def _follow(self, file: TailedFile, now: float) -> None:
        """Notice that a file's path leads elsewhere."""
        if not file.detached and not self._still_there(file):
            self._detach(file, now)

    def _still_there(self, file: TailedFile) -> bool:
        """Whether the file's path still leads to it. An error other than absence says nothing."""
        try:
            found = os.stat(file.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return (found.st_ino, found.st_dev) == _place(file)

    def _detach(self, file: TailedFile, now: float) -> None:
        file.detached, file.detached_at = True, now
        self.rotated.append(file)
        self._drop(file)
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
            self._readable(found.path)
            return
        try:
            descriptor = self._open_file(found.root, found.relative)
        except FileNotFoundError:
            return
        except OSError as error:
            self._cannot_open(found.path, error, now)
            return
        try:
            self._adopt(found.path, descriptor, now)
        except OSError as error:
            os.close(descriptor)
            self._cannot_open(found.path, error, now)

    def _open_file(self, directory: str, name: str) -> int:
        """A descriptor of a regular file. Raises OSError."""
        if self._opened() >= self._limits.max_open_files:
            raise OSError(errno.EMFILE, f"logs.max_open_files ({self._limits.max_open_files}) are open")
        return open_regular(directory, name, OWNED_LINKS)

    def _is_alias(self, path: str) -> bool:
        """Whether the file at `path` is open already; if it was renamed to it, it is followed there from now on."""
        try:
            found = os.stat(path)
        except OSError:
            return False
        file = self._places.get((found.st_ino, found.st_dev))
        if file is None:
            return False
        if file.detached or not self._still_there(file):
            self._rename(file, path)
        return True

    def _rename(self, file: TailedFile, path: str) -> None:
        self._drop(file)
        file.path = file.cursor.path = path
        self.files[path] = file
        if file.detached:
            file.detached = False
            self.rotated.remove(file)

    def _cannot_open(self, path: str, error: OSError, now: float) -> None:
        known = self.unreadable.setdefault(path, Unreadable("", 0, 0.0, Backoff(base=1.0, cap=_RETRY_CAP)))
        known.error = error.strerror or str(error)
        known.next_try = now + known.backoff.next()
        try:
            known.size = os.stat(path).st_size
        except OSError:
            known.size = 0
        hint = ("raise logs.max_open_files and LimitNOFILE of the service" if error.errno in _FULL
                else "give the agent's user read permission (a group, or setfacl)")  # fmt: skip
        self._events.trouble("warning", "log_unreadable", path, counter="log_open_failures", path=path,
                             error=known.error, hint=hint)  # fmt: skip

    def _readable(self, path: str, said: str | None = "log_readable_again") -> None:
        if self.unreadable.pop(path, None) is not None:
            self._events.over("log_unreadable", path, said=said, path=path)

    def _adopt(self, path: str, descriptor: int, now: float) -> None:
        """Recognise an open file, or take it as new. Raises OSError."""
        cursor = self._known.recognise(descriptor)
        if cursor is None:
            size = os.fstat(descriptor).st_size
            self._open(self._new_cursor(path, descriptor, size if self._skip_existing else 0), descriptor, now)
        else:
            self._reopen(cursor, path, descriptor, now, detached=False)

    def _new_cursor(self, path: str, descriptor: int, offset: int) -> Cursor:
        return Cursor(path, locate(descriptor), path, prefix=prefix(descriptor, PREFIX_BYTES), offset=offset,
                      guard=guard(descriptor, offset))  # fmt: skip

    def _reopen(self, cursor: Cursor, path: str, descriptor: int, now: float, *, detached: bool) -> None:
        """Go on with a file that was known. Raises OSError."""
        cursor.locator, cursor.prefix = locate(descriptor), prefix(descriptor, PREFIX_BYTES)
        cursor.path, cursor.ended = path, False
        self._open(cursor, descriptor, now, detached=detached)
        self._known.remove(cursor)

    def _open(self, cursor: Cursor, descriptor: int, now: float, *, detached: bool = False) -> None:
        self._cursors.save(self._route.scope, [cursor])
        file = TailedFile(self._route, cursor, descriptor, self._dispatcher, self._cursors, now)
        self._places[_place(file)] = file
        file.detached = detached
        if detached:
            self.rotated.append(file)
        else:
            self.files[cursor.path] = file
        self._readable(cursor.path)
        self._events.say("info", "log_opened", path=cursor.path, offset=cursor.offset, inode=cursor.locator.inode)

    def _find_rotated(self, now: float) -> None:
        """Files that were renamed while nobody looked: same directory, same inode, same content."""
        for cursor in self._known.missing():
            if self._known.misses(cursor) and not self._is_hidden(cursor):
                self._find(cursor, now)

    def _is_hidden(self, cursor: Cursor) -> bool:
        """Whether nobody can tell that its file is not where it was: an error is not absence."""
        above = (path for path in self.scan_errors if cursor.path.startswith(f"{path}/") or path == cursor.path)
        return cursor.path in self.unreadable or next(above, None) is not None

    def _find(self, cursor: Cursor, now: float) -> None:
        directory = os.path.dirname(cursor.path)
        path = directory
        try:
            names = _names_of_inode(directory, cursor.locator.inode)
            self._readable(directory)
            for name in names:
                path = os.path.join(directory, name)
                if self._take_up(cursor, path, now):
                    return
        except OSError as error:
            self._cannot_open(path, error, now)
            return
        self._give_up(cursor)

    def _take_up(self, cursor: Cursor, path: str, now: float) -> bool:
        """Follow the file at `path` if it is the cursor's and nobody follows it. Raises OSError."""
        descriptor = self._open_file(*os.path.split(path))
        self._readable(path)
        try:
            if self._is_open(descriptor) or not self._resume(cursor, path, descriptor, now):
                os.close(descriptor)
                return False
        except OSError:
            os.close(descriptor)
            raise
        return True

    def _resume(self, cursor: Cursor, path: str, descriptor: int, now: float) -> bool:
        """Go on with what a known file became: where it was, or at the beginning if it was overwritten, too."""
        found = self._known.recognise(descriptor)
        if found is not None:
            self._reopen(found, path, descriptor, now, detached=True)
        elif cursor.locator.born and cursor.locator.same_place(locate(descriptor)):
            anew = self._new_cursor(path, descriptor, 0)
            anew.origin = cursor.origin
            self._open(anew, descriptor, now, detached=True)
        else:
            return False
        if found is not cursor:
            self._give_up(cursor)
        return True

    def _is_open(self, descriptor: int) -> bool:
        found = os.fstat(descriptor)
        return (found.st_ino, found.st_dev) in self._places

    def _give_up(self, cursor: Cursor) -> None:
        """A generation that can't be found: what is known to be missing is said. Should it come back, it is known."""
        lost = max(0, cursor.size - cursor.offset)
        if lost:
            self._events.say("error", "log_lost", counter="log_bytes_lost", by=lost, path=cursor.path, bytes=lost,
                             hint="it was deleted or overwritten while the agent did not run")  # fmt: skip
        self._known.remove(cursor)
        cursor.ended = True
        self._known.add(cursor)
        self._cursors.save(self._route.scope, [cursor])


def _place(file: TailedFile) -> tuple[int, int]:
    return file.cursor.locator.inode, file.cursor.locator.device


def _names_of_inode(directory: str, inode: int) -> list[str]:
    """Regular files of that inode; none where there is no such directory. Raises OSError."""
    try:
        with os.scandir(directory) as entries:
            some = zip(range(_MISSING_NAMES), entries, strict=False)
            return [each.name for _, each in some if each.inode() == inode and each.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_gone(path: str) -> bool:
    """Whether nothing is at `path`; an error is not absence."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
