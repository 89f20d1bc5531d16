"""The files of one entry that are followed: opened, renamed, rotated away, closed for a rest, let go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from agent.engine.events import Events
from agent.logs.cursors import Cursor, Cursors
from agent.logs.deliver import Dispatcher
from agent.logs.identity import ALIKE_BYTES, PREFIX_BYTES, Locator, begins, guard, locate, prefix
from agent.logs.known import Known
from agent.logs.resting import Resting, times
from agent.logs.siblings import Sibling
from agent.logs.tail import Memory, Route, TailedFile


class Following:
    """Every generation has one cursor, and is in one of `files`, `rotated`, `resting` and `known`.

    For the reading thread alone, but for the iteration.
    """

    def __init__(
        self,
        route: Route,
        cursors: Cursors,
        dispatcher: Dispatcher,
        memory: Memory,
        events: Events,
        known: Iterable[Cursor],
    ) -> None:
        self.files: dict[str, TailedFile] = {}  # by path
        self.rotated: list[TailedFile] = []  # their paths lead elsewhere
        self.resting: dict[str, Resting] = {}  # by path
        self.known = Known(known)  # not open: ended, or not found
        self._route = route
        self._cursors = cursors
        self._dispatcher = dispatcher
        self._memory = memory
        self._events = events
        self._places: dict[tuple[int, int], TailedFile] = {}
        self._resting_places: dict[tuple[int, int], str] = {}
        self._originals: list[TailedFile] | None = None

    def __iter__(self) -> Iterator[TailedFile]:
        """All open files, those rotated away first: what they have is older. Safe from any thread."""
        return iter([*self.rotated, *self.files.values()])

    def __len__(self) -> int:
        """Descriptors in use."""
        return len(self.files) + len(self.rotated)

    def not_followed(self, paths: Iterable[str]) -> list[str]:
        """Those of which the file is not followed under that path."""
        files, resting = self.files, self.resting
        return [path for path in paths if path not in files and path not in resting]

    def look_around(self) -> None:
        """Before a scan: where each file is; of those that rest, what has changed is known and will be met."""
        self._places = {_place(file): file for file in self if not file.sealed}
        self._originals = None
        for path in [path for path, resting in self.resting.items() if not resting.is_as_it_was(path)]:
            resting = self.resting.pop(path)
            self._resting_places.pop(resting.place, None)
            self.known.add(resting.cursor)

    # -- which file is which

    def still_there(self, file: TailedFile) -> bool:
        """Whether the file's path still leads to it. An error other than absence says nothing."""
        try:
            found = os.stat(file.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return (found.st_ino, found.st_dev) == _place(file)

    def is_alias(self, path: str, found: os.stat_result, now: float) -> bool:
        """Whether the file at `path` is followed already; if it was renamed to it, it has that path from now on."""
        place = (found.st_ino, found.st_dev)
        if place in self._resting_places:
            return True
        file = self._places.get(place)
        if file is None:
            return False
        if file.detached or not self.still_there(file):
            self._unlist(file)
            self._list(file, path, now)
        return True

    def has(self, descriptor: int) -> bool:
        """Whether an open file is followed already."""
        found = os.fstat(descriptor)
        place = (found.st_ino, found.st_dev)
        return place in self._places or place in self._resting_places

    def original_of(self, descriptor: int, least: int = ALIKE_BYTES) -> TailedFile | None:
        """A file of which another one has all that was read, `least` bytes at least."""
        if self._originals is None:
            self._originals = [file for file in self if not file.sealed and file.read]
        alive = (file for file in self._originals if not file.sealed and file.descriptor >= 0)
        return next((file for file in alive if file.is_copied_to(descriptor, least)), None)

    def read_as(self, descriptor: int) -> bool:
        """Whether a file of exactly this content is read, or was."""
        return any(file.is_same_as(descriptor) for file in self) or self.known.has_ended_as(descriptor)

    def read_of(self, descriptor: int) -> int:
        """Bytes of an open file that were read of a generation that was overwritten then."""
        gone = [file.read for file in self if file.sealed and file.is_copied_to(descriptor, 1)]
        return max(gone, default=self.known.read_of(descriptor))

    # -- taken up

    def new_cursor(self, path: str, descriptor: int, offset: int = 0, origin: str | None = None) -> Cursor:
        """For a generation that was never seen. Raises OSError."""
        return Cursor(
            path,
            locate(descriptor),
            origin or path,
            prefix=prefix(descriptor, PREFIX_BYTES),
            offset=offset,
            guard=guard(descriptor, offset),
            written=os.fstat(descriptor).st_mtime_ns,
        )

    def open(self, cursor: Cursor, descriptor: int, now: float, *, detached: bool = False) -> None:
        self._cursors.save(self._route.scope, [cursor])
        file = TailedFile(self._route, cursor, descriptor, self._dispatcher, self._cursors, self._memory, now)
        self._places[_place(file)] = file
        if detached:
            self._put_aside(file, now)
        else:
            self._list(file, cursor.path, now)
        self._events.say("info", "log_opened", path=cursor.path, offset=cursor.offset, inode=cursor.locator.inode)

    def reopen(self, cursor: Cursor, path: str, descriptor: int, now: float, *, detached: bool = False) -> None:
        """Go on with a file that was known. Raises OSError."""
        locator, head = locate(descriptor), prefix(descriptor, PREFIX_BYTES)
        self.known.remove(cursor)
        cursor.locator, cursor.prefix = locator, head
        cursor.path, cursor.ended, cursor.overwritten = path, False, False
        self.open(cursor, descriptor, now, detached=detached)

    def go_on_in(self, file: TailedFile, path: str, descriptor: int, now: float, *, within: bool) -> int:
        """A generation goes on in its copy, `within` the pattern or beside it; its old descriptor is the caller's.

        Raises OSError.
        """
        if self._places.get(_place(file)) is file:
            del self._places[_place(file)]
        before = file.continue_in(descriptor, now)
        self._places[_place(file)] = file
        self._unlist(file)
        if within:
            self._list(file, path, now)
        else:
            file.path = file.cursor.path = path
            self._put_aside(file, now)
        self._events.say("info", "log_continues_in_copy", counter="logs_continued_in_copies", path=path,
                         origin=file.cursor.origin, offset=file.acknowledged)  # fmt: skip
        return before

    def take_over(self, file: TailedFile, now: float) -> bool:
        """Go on with a file that an entry before this one has open, by its descriptor; False if it is open here, too.

        Its name may lead elsewhere by now, or nowhere. Another content than was known is read from its beginning.
        """
        if self.has(file.descriptor):
            return False
        descriptor, detached = file.part_with(), file.detached
        try:
            cursor = self.known.recognise(descriptor)
            if cursor is None:
                anew = self.new_cursor(file.path, descriptor, origin=file.cursor.origin)
                self.open(anew, descriptor, now, detached=detached)
            else:
                self.reopen(cursor, file.path, descriptor, now, detached=detached)
        except OSError:
            os.close(descriptor)  # the next scan looks for it
        return True

    # -- let go

    def hand_over(self, takes: Callable[[TailedFile], bool]) -> None:
        """Let go of everything: what another one takes goes on there, the rest is closed, cursors kept."""
        for file in [each for each in self if each.descriptor >= 0]:
            if takes(file):
                self._drop(file)
        self.close()

    def save(self) -> None:
        """Let the state know all that is known of what is open."""
        self._cursors.save(self._route.scope, [file.cursor for file in self])

    def cursors(self) -> Iterator[Cursor]:
        """All that there are."""
        yield from (file.cursor for file in self)
        yield from (resting.cursor for resting in self.resting.values())
        yield from self.known

    def detach(self, file: TailedFile, now: float) -> None:
        """Its path leads elsewhere."""
        self._unlist(file)
        self._put_aside(file, now)
        if not file.sealed:
            self._events.say("info", "log_rotated", counter="logs_rotated", path=file.path)

    def end(self, file: TailedFile) -> None:
        """All of it is acknowledged, and nothing more will come."""
        self._drop(file)
        file.finish(ended=True)
        self.known.add(file.cursor)
        self._events.say("info", "log_finished", path=file.path, bytes=file.acknowledged)

    def let_go(self, file: TailedFile) -> None:
        """Close it; it may be met again."""
        self._drop(file)
        file.finish(ended=False)
        self.known.add(file.cursor)

    def rest(self, file: TailedFile) -> None:
        """Close a file that is read and acknowledged; a change will be seen by its times."""
        found = os.fstat(file.descriptor)
        if not (file.is_as_seen(found) and self.still_there(file)):
            return
        self._drop(file)
        file.finish(ended=False)
        self.set_resting(file.path, file.cursor, found)

    def set_resting(self, path: str, cursor: Cursor, found: os.stat_result) -> None:
        cursor.path = path
        self.resting[path] = Resting(cursor, times(found))
        self._resting_places[found.st_ino, found.st_dev] = path

    def give_up(self, cursor: Cursor) -> None:
        """A generation that can't be found: what is known to be missing is said. Should it come back, it is known."""
        lost = max(0, cursor.size - cursor.offset)
        if lost and not self._is_read_elsewhere(cursor):
            why = "deleted or overwritten while the agent did not run"
            self._events.say("error", "log_lost", path=cursor.path, bytes=lost, reason=why)
            self.lose(cursor, lost, why)
        self.known.remove(cursor)
        cursor.ended = True
        self.known.add(cursor)
        self._cursors.save(self._route.scope, [cursor])

    def _is_read_elsewhere(self, cursor: Cursor) -> bool:
        """Whether another file has all that was seen of it, as far as its head tells: a short one that was copied."""
        whole = cursor.prefix[0] >= cursor.size
        return whole and any(begins(file.descriptor, cursor.prefix) for file in self if file.descriptor >= 0)

    def lose(self, cursor: Cursor, number: int, why: str) -> None:
        """So many bytes of a generation can never be read."""
        if number:
            cursor.lose(number, why)
            self._events.count("log_bytes_lost", number)
            self._cursors.save(self._route.scope, [cursor])

    def miss(self, sibling: Sibling, origin: str, why: str) -> None:
        """A generation that nobody saw and that can't be read."""
        path, size = sibling.path, sibling.seen.size
        self._events.say("error", "log_generation_missed", counter="log_generations_missed", path=path, bytes=size,
                         reason=why)  # fmt: skip
        cursor = Cursor(path, Locator(0, sibling.seen.inode, sibling.seen.born), origin, size=size, ended=True)
        cursor.lose(size, why)
        self._cursors.save(self._route.scope, [cursor])
        self.known.add(cursor)

    def close(self) -> None:
        """Let go of everything, cursors kept."""
        files = list(self)
        for file in files:
            file.release()
        self._cursors.save(self._route.scope, [file.cursor for file in files])
        self.files.clear()
        self.rotated.clear()
        self.resting.clear()

    def _list(self, file: TailedFile, path: str, now: float) -> None:
        """It has this path from now on; a file that had it before is somewhere else."""
        before = self.files.get(path)
        if before is not None and before is not file:
            self.detach(before, now)
        file.path = file.cursor.path = path
        file.detached = False
        self.files[path] = file

    def _put_aside(self, file: TailedFile, now: float) -> None:
        file.detached, file.detached_at = True, now
        self.rotated.append(file)

    def _unlist(self, file: TailedFile) -> None:
        if self.files.get(file.path) is file:
            del self.files[file.path]
        if file in self.rotated:
            self.rotated.remove(file)

    def _drop(self, file: TailedFile) -> None:
        self._unlist(file)
        if self._places.get(_place(file)) is file:
            del self._places[_place(file)]


def _place(file: TailedFile) -> tuple[int, int]:
    return file.cursor.locator.inode, file.cursor.locator.device
