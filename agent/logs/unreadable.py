"""Files that are meant and can't be opened: tried again with backoff, said once, told to the drain."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from agent.engine.backoff import Backoff
from agent.engine.events import Events

_RETRY_CAP = 30.0  # seconds between tries to open a file
_FULL = (errno.EMFILE, errno.ENFILE)


@dataclass
class Trouble:
    """What keeps a file from being opened."""

    error: str
    size: int  # bytes, 0 where that can't be seen
    next_try: float  # monotonic seconds
    backoff: Backoff


class Unreadable:
    """Those of one entry, by path."""

    def __init__(self, events: Events) -> None:
        self.troubles: dict[str, Trouble] = {}
        self._events = events

    def __contains__(self, path: str) -> bool:
        return path in self.troubles

    def may_try(self, path: str, now: float) -> bool:
        trouble = self.troubles.get(path)
        return trouble is None or now >= trouble.next_try

    def note(self, path: str, error: OSError, now: float) -> None:
        """It could not be opened."""
        trouble = self.troubles.get(path) or Trouble("", 0, 0.0, Backoff(base=1.0, cap=_RETRY_CAP))
        self.troubles[path] = trouble
        trouble.error = error.strerror or str(error)
        trouble.next_try = now + trouble.backoff.next()
        trouble.size = _size(path)
        hint = ("raise LimitNOFILE of the service, or lower logs.max_open_files" if error.errno in _FULL
                else "give the agent's user read permission (a group, or setfacl)")  # fmt: skip
        self._events.trouble("warning", "log_unreadable", path, counter="log_open_failures", path=path,
                             error=trouble.error, hint=hint)  # fmt: skip

    def over(self, path: str, said: str | None = "log_readable_again") -> None:
        """It was opened, or is not meant any more."""
        if self.troubles.pop(path, None) is not None:
            self._events.over("log_unreadable", path, said=said, path=path)

    def forget_gone(self) -> None:
        """What is not there can't be opened, and is no trouble."""
        for path in [path for path in self.troubles if _is_gone(path)]:
            self.over(path, said=None)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _is_gone(path: str) -> bool:
    """Whether nothing is at `path`; an error is not absence."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
