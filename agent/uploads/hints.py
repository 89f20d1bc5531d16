"""Where something may have changed, as the file system says: bounded, without data, and never the truth."""

from __future__ import annotations

import threading
from collections.abc import Callable

MOST = 4_096  # paths remembered; with more the whole tree is looked at


class Hints:
    """Paths of one directory's tree. Safe to use from any thread."""

    def __init__(self, tell: Callable[[], None]) -> None:
        """`tell` wakes whoever takes the hints."""
        self.watched = False  # whether the file system's events can be trusted to come
        self._tell = tell
        self._lock = threading.Lock()
        self._paths: dict[str, None] = {}
        self._everywhere = False

    def add(self, relative: str) -> None:
        """Something happened at this path."""
        with self._lock:
            first = not self._paths and not self._everywhere
            if len(self._paths) < MOST:
                self._paths[relative] = None
            else:
                self._paths.clear()
                self._everywhere = True
        if first:
            self._tell()

    def everywhere(self) -> None:
        """Something may have happened anywhere."""
        with self._lock:
            self._everywhere = True
            self._paths.clear()
        self._tell()

    def take(self, most: int) -> list[str]:
        """Up to so many paths, in the order in which they came."""
        with self._lock:
            taken = list(self._paths)[:most] if self._paths else []
            for path in taken:
                del self._paths[path]
            return taken

    def take_everywhere(self) -> bool:
        """Whether the whole tree is to be looked at; asked once."""
        with self._lock:
            found, self._everywhere = self._everywhere, False
            return found

    def __len__(self) -> int:
        return len(self._paths) + self._everywhere
