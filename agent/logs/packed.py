"""Rotated logs that were compressed before anybody saw them, or before they were read: unpacked piece by piece."""

from __future__ import annotations

import os

from agent.logs.following import Following
from agent.logs.identity import PREFIX_BYTES, begins
from agent.logs.siblings import Sibling
from agent.logs.unpacking import NotReadable, UnpackError, Unpacking

_STEP_BYTES = 8 << 20  # unpacked at once: about 50 ms
_REMEMBERED = 4096  # files that were judged
_Identity = tuple[int, int]


class Packed:
    """Those of one entry. For the reading thread alone."""

    def __init__(self, folder: str, most: int) -> None:
        """What is unpacked lies in `folder`, without a name; at most `most` bytes of one file."""
        self._folder = folder
        self._most = most
        self._under_way: dict[_Identity, Unpacking] = {}
        self._judged: dict[_Identity, None] = {}
        self._damaged: dict[_Identity, int] = {}  # size at which it could not be read
        self._missed: list[tuple[Sibling, str]] = []

    def is_judged(self, sibling: Sibling) -> bool:
        """Whether there is nothing more to do about it."""
        return _identity(sibling) in self._judged

    def is_open(self, sibling: Sibling) -> bool:
        return _identity(sibling) in self._under_way

    def begin(self, sibling: Sibling, descriptor: int) -> None:
        """Raises OSError."""
        try:
            self._under_way[_identity(sibling)] = Unpacking(sibling.path, descriptor, self._folder, self._most)
        except NotReadable as error:
            os.close(descriptor)
            self._miss(sibling, str(error))
        except OSError:
            os.close(descriptor)
            raise

    def step(self, sibling: Sibling, following: Following) -> int | None:
        """A descriptor of what was unpacked, once, when it is complete and may be something that nobody has read."""
        work = self._under_way.get(_identity(sibling))
        if work is None:
            return None
        try:
            complete = work.step(_STEP_BYTES)
        except (UnpackError, OSError) as error:
            self._failed(sibling, error)
            return None
        if complete:
            self._judge(sibling)
            return work.finish()
        if work.size >= PREFIX_BYTES and _is_known(work, following):
            self._judge(sibling)
            work.close()
        return None

    def take_missed(self) -> list[tuple[Sibling, str]]:
        """What can't be read, and why, since this was last asked."""
        missed, self._missed = self._missed, []
        return missed

    def close(self) -> None:
        while self._under_way:
            self._under_way.popitem()[1].close()

    def _judge(self, sibling: Sibling) -> None:
        self._under_way.pop(_identity(sibling), None)
        self._judged[_identity(sibling)] = None
        if len(self._judged) > _REMEMBERED:
            del self._judged[next(iter(self._judged))]

    def _failed(self, sibling: Sibling, error: Exception) -> None:
        """What is still being compressed is tried again when it has grown."""
        identity = _identity(sibling)
        self._under_way.pop(identity).close()
        if isinstance(error, NotReadable) and self._damaged.get(identity) != sibling.seen.size:
            self._damaged[identity] = sibling.seen.size
            return
        self._damaged.pop(identity, None)
        self._miss(sibling, str(error))

    def _miss(self, sibling: Sibling, why: str) -> None:
        self._judge(sibling)
        self._missed.append((sibling, why))


def _is_known(work: Unpacking, following: Following) -> bool:
    """Whether a file of the same beginning and the same size was read already, as far as gzip tells the size."""
    size = work.size_told
    if size is None:
        return False
    return following.known.has_ended_with(work.target, size) or any(
        file.size_now % (1 << 32) == size and begins(work.target, file.cursor.prefix) for file in following
    )


def _identity(sibling: Sibling) -> _Identity:
    return sibling.seen.inode, sibling.seen.born
