"""Cursors whose files are not open: a file that is met is held against them, for it may be one of theirs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from agent.logs.cursors import Cursor
from agent.logs.identity import ALIKE_BYTES, begins, guard, locate, prefix, tells

_MOST = 4096  # cursors remembered; of those that ended the oldest is forgotten first


class Known:
    """The cursors of one input, by the inode that their file had."""

    def __init__(self, cursors: Iterable[Cursor]) -> None:
        """`cursors`, the one last seen last."""
        self._by_inode: dict[int, list[Cursor]] = {}
        self._ended: dict[int | None, Cursor] = {}  # by row, oldest first
        self._missing: dict[int | None, Cursor] = {}
        for cursor in cursors:
            self.add(cursor)

    def add(self, cursor: Cursor) -> None:
        """Remember a cursor. One that was overwritten can't be met again, but perhaps a copy of it."""
        (self._ended if cursor.ended else self._missing)[cursor.id] = cursor
        self._by_inode.setdefault(cursor.locator.inode, []).append(cursor)
        while self._ended and len(self._ended) + len(self._missing) > _MOST:
            self.remove(next(iter(self._ended.values())))

    def remove(self, cursor: Cursor) -> None:
        self._ended.pop(cursor.id, None)
        self._missing.pop(cursor.id, None)
        same = self._by_inode[cursor.locator.inode]
        same[:] = [other for other in same if other is not cursor]
        if not same:
            del self._by_inode[cursor.locator.inode]

    def __iter__(self) -> Iterator[Cursor]:
        return iter([*self._missing.values(), *self._ended.values()])

    def missing(self) -> list[Cursor]:
        """Those that have not ended: somewhere their file may be."""
        return list(self._missing.values())

    def misses(self, cursor: Cursor) -> bool:
        """Whether it is one of those."""
        return cursor.id in self._missing

    def recognise(self, descriptor: int) -> Cursor | None:
        """The cursor of this very file, the one last seen if several fit. Raises OSError."""
        inode = os.fstat(descriptor).st_ino
        same = (cursor for cursor in reversed(self._by_inode.get(inode, ())) if not cursor.overwritten)
        return next((cursor for cursor in same if _is_of(descriptor, cursor)), None)

    def as_it_was(self, found: os.stat_result) -> Cursor | None:
        """The cursor of a file that was read and acknowledged to its end and was not touched since: its inode's time
        can't be set by anyone (ctime of inode(7)), so it need not be opened.
        """
        seen = (found.st_dev, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        for cursor in reversed(self._by_inode.get(found.st_ino, ())):
            if (
                not cursor.overwritten
                and (cursor.locator.device, cursor.offset, cursor.written, cursor.changed) == seen
            ):
                return cursor
        return None

    def has_ended_with(self, descriptor: int, size: int) -> bool:
        """Whether a generation of this beginning and that size, modulo 2**32, was read to its end. Raises OSError."""
        heads = _Heads(descriptor)
        return any(
            cursor.offset == cursor.size and cursor.size % (1 << 32) == size and heads.fit(cursor)
            for cursor in self._ended.values()
        )

    def has_ended_as(self, descriptor: int) -> bool:
        """Whether a generation of all this content was read to its end. Raises OSError."""
        size, heads = os.fstat(descriptor).st_size, _Heads(descriptor)
        alike = (cursor for cursor in self._ended.values() if cursor.offset == cursor.size == size)
        return any(heads.fit(cursor) and has_all_of(descriptor, cursor) for cursor in alike)

    def read_of(self, descriptor: int) -> int:
        """Bytes of an open file that were read of a generation that was overwritten then. Raises OSError."""
        heads = _Heads(descriptor)
        gone = (cursor for cursor in self._ended.values() if cursor.overwritten and cursor.offset)
        same = (cursor.offset for cursor in gone if heads.fit(cursor) and has_all_of(descriptor, cursor))
        return max(same, default=0)

    def copied_to(self, descriptor: int, least: int = ALIKE_BYTES) -> Iterator[Cursor]:
        """Cursors of files that were not met, of which this one has all that was acknowledged, `least` bytes of it.

        Content alone is taken as evidence only if it is no mere repetition. Raises OSError.
        """
        size, heads = os.fstat(descriptor).st_size, _Heads(descriptor)
        for cursor in self.missing():
            alike = max(cursor.offset, cursor.prefix[0])  # bytes that are known of it
            fits = self.misses(cursor) and least <= alike and cursor.offset <= size and heads.fit(cursor)
            if fits and has_all_of(descriptor, cursor) and (least < ALIKE_BYTES or tells(descriptor, alike)):
                yield cursor


class _Heads:
    """The hashes of one file's head, each length hashed once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._known: dict[int, tuple[int, str]] = {}

    def fit(self, cursor: Cursor) -> bool:
        """Whether the cursor's file begins in the same way."""
        length, _ = cursor.prefix
        if length not in self._known:
            self._known[length] = prefix(self._descriptor, length)
        return self._known[length] == cursor.prefix


def _is_of(descriptor: int, cursor: Cursor) -> bool:
    """Whether an open file is the cursor's: same place, same head, same bytes before the cursor. Raises OSError."""
    return cursor.locator.same_place(locate(descriptor)) and has_all_of(descriptor, cursor)


def has_all_of(descriptor: int, cursor: Cursor) -> bool:
    """Whether an open file has the cursor's head, and the same bytes before it. Raises OSError."""
    return (
        os.fstat(descriptor).st_size >= cursor.offset
        and begins(descriptor, cursor.prefix)
        and guard(descriptor, cursor.offset, cursor.guard[0]) == cursor.guard
    )
