"""A file that is read, acknowledged and closed: known by its times, it costs one look and no descriptor."""

from __future__ import annotations

import os
from dataclasses import dataclass

from agent.logs.cursors import Cursor

_Times = tuple[int, int, int, int, int]


@dataclass(slots=True)
class Resting:
    """`seen` are device, inode, size, and the times of its last change and of its inode's, in ns."""

    cursor: Cursor
    seen: _Times

    @property
    def place(self) -> tuple[int, int]:
        return self.seen[1], self.seen[0]

    def is_as_it_was(self, path: str) -> bool:
        """Whether the file is unchanged; an error other than absence says nothing."""
        try:
            return times(os.stat(path)) == self.seen
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True


def times(found: os.stat_result) -> _Times:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
