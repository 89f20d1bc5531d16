"""Cursors whose files are not open: a file that is met is held against them, for it may be one of theirs."""

from __future__ import annotations

import os
from collections.abc import Iterable

from agent.logs.cursors import Cursor
from agent.logs.identity import guard, locate, prefix

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
        """Remember a cursor; one that was overwritten can't be met again."""
        if cursor.overwritten:
            return
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

    def missing(self) -> list[Cursor]:
        """Those that have not ended: somewhere their file may be."""
        return list(self._missing.values())

    def misses(self, cursor: Cursor) -> bool:
        """Whether it is one of those."""
        return cursor.id in self._missing

    def recognise(self, descriptor: int) -> Cursor | None:
        """The cursor of this very file, the one last seen if several fit. Raises OSError."""
        inode = os.fstat(descriptor).st_ino
        return next((each for each in reversed(self._by_inode.get(inode, ())) if _is_of(descriptor, each)), None)


def _is_of(descriptor: int, cursor: Cursor) -> bool:
    """Whether an open file is the cursor's: same place, same head, same bytes before the cursor. Raises OSError."""
    return (
        cursor.locator.same_place(locate(descriptor))
        and os.fstat(descriptor).st_size >= cursor.offset
        and prefix(descriptor, cursor.prefix[0]) == cursor.prefix
        and guard(descriptor, cursor.offset) == cursor.guard
    )
