"""Where generations went while nobody looked: renamed, copied and cut off, or made and rotated away unseen.

A generation that is known is looked for by its inode and by its content. What was never seen is looked for beside the
log, by its name and its time of birth: rotations give names like app.log.1, and it was born after the log last
changed under our eyes. What was compressed meanwhile is unpacked first (`agent.logs.packed`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from agent.engine.events import Events
from agent.engine.files import OWNED_LINKS, open_regular
from agent.logs.cursors import Cursor
from agent.logs.discover import Patterns
from agent.logs.following import Following
from agent.logs.identity import ALIKE_BYTES, locate
from agent.logs.known import has_all_of
from agent.logs.packed import Packed
from agent.logs.siblings import Listings, Sibling
from agent.logs.tail import TailedFile
from agent.logs.unreadable import Unreadable

_ABSENT_SECONDS = 3600.0  # for which a log that is gone may come and go again between two looks


@dataclass(frozen=True)
class _Left:
    """A path that does not lead to the same generation any more."""

    path: str
    origin: str
    names: frozenset[str]
    written: int  # time of the last change that was seen while it did, in ns


class Rotations:
    """Those of one entry. For the reading thread alone."""

    def __init__(
        self,
        patterns: Patterns,
        following: Following,
        unreadable: Unreadable,
        events: Events,
        packed: Packed,
        may_open: Callable[[], bool],
    ) -> None:
        """`may_open`: whether a descriptor is free."""
        self._patterns = patterns
        self._following = following
        self._unreadable = unreadable
        self._events = events
        self._packed = packed
        self._may_open = may_open
        self._left: dict[str, _Left] = {}  # by path
        self._absent: dict[str, tuple[_Left, float]] = {}  # paths where nothing is now, and how long to mind them
        self._changed: dict[str, int] = {}  # of those: when their directory was changed last, in ns
        self._listings = Listings()

    @property
    def searching(self) -> Collection[str]:
        """Paths of which it is not yet known whether all of their generations are found."""
        return list(self._left)

    def go_on_from(self, before: Rotations) -> None:
        """Look for what the same entry was looking for when it was another."""
        for path, left in before._left.items():
            if self._patterns.means(path) or self._patterns.means(left.origin):
                self._left.setdefault(path, left)

    # -- while the agent looks on

    def follow(self, file: TailedFile, now: float) -> None:
        """Notice that a file's path leads elsewhere."""
        if not file.detached and not self._following.still_there(file):
            self.leave(file.cursor)
            self._following.detach(file, now)

    def part(self, file: TailedFile, now: float, copy: tuple[str, int] | None, epoch: float) -> None:
        """The file was overwritten in place: what is in it now is a new generation. The old one goes on in its copy
        (path and descriptor) if there is one. Raises OSError.
        """
        anew = self._following.new_cursor(file.path, file.descriptor, origin=file.cursor.origin)
        detached = file.detached
        self.leave(file.cursor)
        descriptor = self._abandon(file, now, epoch) if copy is None else self.go_on(file, *copy, now)
        self._following.open(anew, descriptor, now, detached=detached)

    def go_on(self, file: TailedFile, path: str, descriptor: int, now: float) -> int:
        """A generation goes on in its copy; its old descriptor is the caller's. Raises OSError."""
        within = self._patterns.means(path)
        return self._following.go_on_in(file, path, descriptor, now, within=within)

    def find_copy(self, file: TailedFile) -> tuple[str, int] | None:
        """Path and descriptor of what has all that was read of a file, made since that last changed.

        Raises OSError.
        """
        self._listings = Listings()
        return self._find_beside(file.cursor, lambda found: file.is_copied_to(found, least=0))

    def _abandon(self, file: TailedFile, now: float, epoch: float) -> int:
        """What was read is handed over, what was not is lost. The descriptor is the caller's."""
        descriptor, gone = file.abandon(now, epoch), file.take_gone()
        self._events.say("error" if gone else "warning", "log_overwritten", counter="logs_overwritten",
                         path=file.path, lost_bytes=gone)  # fmt: skip
        self._following.lose(file.cursor, gone, "overwritten before it was read")
        if not file.detached:
            self._following.detach(file, now)
        return descriptor

    # -- known files that are not where they were

    def find_missing(self, now: float, is_hidden: Callable[[Cursor], bool]) -> None:
        """Take up what is known and was not met. `is_hidden`: nobody can tell that its file is not there."""
        self._listings = Listings()
        known = self._following.known
        for cursor in known.missing():
            if known.misses(cursor) and not is_hidden(cursor):
                self._find(cursor, now)

    def moved_to(self, descriptor: int, now: float, is_hidden: Callable[[Cursor], bool]) -> Cursor | None:
        """The cursor of a file that is gone, and all of which that was acknowledged is in another one."""
        for cursor in self._following.known.copied_to(descriptor):
            if is_hidden(cursor):
                continue
            self.leave(cursor)
            if not self._take_up_renamed(cursor, now):
                return cursor
        return None

    def _find(self, cursor: Cursor, now: float) -> None:
        self.leave(cursor)
        try:
            found = self._take_up_renamed(cursor, now) or self._take_up_copy(cursor, now)
        except OSError as error:
            self._unreadable.note(error.filename or os.path.dirname(cursor.path), error, now)
            return
        if not found and not self._may_be_packed(cursor):
            self._following.give_up(cursor)

    def _may_be_packed(self, cursor: Cursor) -> bool:
        beside = self._listings.of(cursor.path).rotated(cursor.names, cursor.written)
        return any(sibling.compressed and not self._packed.is_judged(sibling) for sibling in beside)

    def _take_up_renamed(self, cursor: Cursor, now: float) -> bool:
        """Follow the cursor's file under the name that it has now, in the same directory. Raises OSError."""
        paths = self._listings.of(cursor.path).of_inode(cursor.locator.inode)
        self._unreadable.over(os.path.dirname(cursor.path))
        return any(self._take_up(cursor, path, now) for path in paths)

    def _take_up(self, cursor: Cursor, path: str, now: float) -> bool:
        """Follow the file at `path` if it is the cursor's and nobody follows it. Raises OSError."""
        descriptor = self._open(path)
        return self._use(descriptor, lambda: self._resume(cursor, path, descriptor, now))

    def _resume(self, cursor: Cursor, path: str, descriptor: int, now: float) -> bool:
        """Go on with what a known file became: where it was, or at the beginning if it was overwritten, too."""
        following = self._following
        if following.has(descriptor):
            return False
        found = following.known.recognise(descriptor)
        if found is not None:
            following.reopen(found, path, descriptor, now, detached=True)
        elif cursor.locator.born and cursor.locator.same_place(locate(descriptor)):
            copy = self._find_beside(cursor, lambda other: has_all_of(other, cursor))
            if copy is not None:
                following.reopen(cursor, *copy, now, detached=True)
            anew = following.new_cursor(path, descriptor, origin=cursor.origin)
            following.open(anew, descriptor, now, detached=True)
        else:
            return False
        if following.known.misses(cursor):
            following.give_up(cursor)
        return True

    def _take_up_copy(self, cursor: Cursor, now: float) -> bool:
        """Follow a file beside it that has all that was acknowledged, made since it was last seen to change."""
        copy = self._find_beside(cursor, lambda found: has_all_of(found, cursor))
        if copy is None:
            return False
        self._following.reopen(cursor, *copy, now, detached=True)
        return True

    def _find_beside(self, cursor: Cursor, is_it: Callable[[int], bool]) -> tuple[str, int] | None:
        """Path and descriptor of a rotated log that nobody follows, and of which `is_it` is true."""
        for sibling in self._listings.of(cursor.path).rotated(cursor.names, cursor.written):
            descriptor = None if sibling.compressed else self._try_open(sibling.path)
            if descriptor is None:
                continue
            if self._use(descriptor, partial(self._is_free_and, is_it, descriptor)):
                return sibling.path, descriptor
        return None

    def _is_free_and(self, is_it: Callable[[int], bool], descriptor: int) -> bool:
        return not self._following.has(descriptor) and is_it(descriptor)

    # -- generations that nobody saw

    def find_unseen(self, now: float) -> None:
        """Take up what was made and rotated away between two looks."""
        self._listings = Listings()
        for left in list(self._left.values()):
            if self._search(left, now):
                del self._left[left.path]
                if left.path not in self._following.files:
                    self._absent[left.path] = (left, now + _ABSENT_SECONDS)
        self._mind_absent(now)

    def _mind_absent(self, now: float) -> None:
        """Where nothing is now a log may come and go again, unseen: until one is there, or for so long."""
        for path, (left, until) in list(self._absent.items()):
            over = path in self._following.files or now >= until
            if (over or self._has_changed(left)) and self._search(left, now) and over:
                del self._absent[path]
                self._changed.pop(path, None)

    def _search(self, left: _Left, now: float) -> bool:
        """True if everything could be looked at."""
        try:
            return self._adopt_unseen(left, now)
        except OSError as error:
            self._unreadable.note(error.filename or os.path.dirname(left.path), error, now)
            return False

    def _has_changed(self, left: _Left) -> bool:
        """Whether something came or went in its directory since this was last asked."""
        try:
            changed = os.stat(os.path.dirname(left.path)).st_mtime_ns
        except OSError:
            return False
        before, self._changed[left.path] = self._changed.get(left.path), changed
        return before != changed

    def leave(self, cursor: Cursor) -> None:
        """Something may have come and gone at the path of this generation since it was last seen to change there."""
        if cursor.written:
            self._left.setdefault(cursor.path, _Left(cursor.path, cursor.origin, cursor.names, cursor.written))

    def _adopt_unseen(self, left: _Left, now: float) -> bool:
        """True if everything could be looked at. Raises OSError."""
        done = True
        for sibling in self._listings.of(left.path).rotated(left.names, left.written):
            if self._patterns.means(sibling.path) or self._patterns.excludes(sibling.path):
                continue
            if sibling.compressed:
                done &= self._unpack(sibling, left, now)
            else:
                done &= self._adopt(sibling, left, now)
        return done

    def _unpack(self, sibling: Sibling, left: _Left, now: float) -> bool:
        """Unpack a piece more; at the end read what nobody has read. True when it is decided. Raises OSError."""
        if self._packed.is_judged(sibling):
            return True
        if not self._packed.is_open(sibling):
            if not self._unreadable.may_try(sibling.path, now) or not self._may_open():
                return False
            self._packed.begin(sibling, self._open(sibling.path))
        descriptor = self._packed.step(sibling, self._following)
        if descriptor is not None:
            self._use(descriptor, lambda: self._take_packed(sibling, descriptor, left, now))
        for missed, why in self._packed.take_missed():
            self._following.miss(missed, left.origin, why)
        return self._packed.is_judged(sibling)

    def _take_packed(self, sibling: Sibling, descriptor: int, left: _Left, now: float) -> bool:
        """Whether the descriptor, of what was unpacked, is used. Raises OSError."""
        following = self._following
        if following.original_of(descriptor) is not None or following.read_as(descriptor):
            return False
        cursor = next(following.known.copied_to(descriptor, least=0), None)
        if cursor is not None:
            following.reopen(cursor, cursor.path, descriptor, now, detached=True)
        else:
            self._take_new(left.path, sibling, descriptor, left, now, following.read_of(descriptor))
        return True

    def _adopt(self, sibling: Sibling, left: _Left, now: float) -> bool:
        """Follow it if nobody does or did; False if that can't be told now. Raises OSError."""
        if not self._unreadable.may_try(sibling.path, now) or not self._may_open():
            return False
        descriptor = self._open(sibling.path)
        self._use(descriptor, lambda: self._take_unseen(sibling, descriptor, left, now))
        return True

    def _take_unseen(self, sibling: Sibling, descriptor: int, left: _Left, now: float) -> bool:
        """Whether the descriptor is used. Raises OSError."""
        following = self._following
        if following.has(descriptor) or self._is_copy(sibling, descriptor, left):
            return False
        known = following.known.recognise(descriptor)
        if known is not None:
            if known.ended and sibling.seen.size <= known.offset:
                return False
            following.reopen(known, sibling.path, descriptor, now, detached=True)
            return True
        self._take_new(sibling.path, sibling, descriptor, left, now)
        return True

    def _is_copy(self, sibling: Sibling, descriptor: int, left: _Left) -> bool:
        """Whether it is a copy of what is read; what was born after the present log may be a short one of it."""
        present = self._following.files.get(left.path)
        younger = present is not None and 0 < present.cursor.locator.born < sibling.seen.born
        return self._following.original_of(descriptor, 1 if younger else ALIKE_BYTES) is not None

    def _take_new(
        self, path: str, sibling: Sibling, descriptor: int, left: _Left, now: float, offset: int = 0
    ) -> None:
        """Read it from `offset` on. Raises OSError."""
        self._events.say("info", "log_generation_found", counter="log_generations_found", path=sibling.path,
                         origin=left.origin, bytes=os.fstat(descriptor).st_size)  # fmt: skip
        cursor = self._following.new_cursor(path, descriptor, offset, left.origin)
        cursor.written = left.written  # so that after a crash it is looked for again
        self._following.open(cursor, descriptor, now, detached=True)

    def close(self) -> None:
        """Let go of what is being unpacked."""
        self._packed.close()

    # -- descriptors

    def _open(self, path: str) -> int:
        """By the safe walk; what comes before the pattern's first magic character is the administrator's."""
        descriptor = open_regular(*self._patterns.place(path), OWNED_LINKS)
        self._unreadable.over(path)
        return descriptor

    def _try_open(self, path: str) -> int | None:
        """A descriptor, if there is one to be had."""
        try:
            return self._open(path) if self._may_open() else None
        except OSError:
            return None

    def _use(self, descriptor: int, attempt: Callable[[], bool]) -> bool:
        """Close the descriptor unless the attempt says that it is used. Raises OSError."""
        used = False
        try:
            used = attempt()
        finally:
            if not used:
                os.close(descriptor)
        return used
