"""Runs of zero bytes: the holes of sparse files, and what was set aside for a log that is still to be written."""

from __future__ import annotations

import errno
import os

_CHUNK_BYTES = 64 << 10  # read at once


def end_of_blank(descriptor: int, start: int, size: int, budget: int) -> tuple[int, bool]:
    """Up to where there are zero bytes from `start` on, at most `size`; and whether they are known to end there.

    Holes are jumped over (SEEK_DATA of lseek(2)); of zeros that are stored, `budget` bytes are read. Raises OSError.
    """
    position = start
    while position < size and budget > 0:
        position = _next_data(descriptor, position, size)
        chunk = os.pread(descriptor, min(_CHUNK_BYTES, size - position), position)
        text = chunk.lstrip(b"\0")
        position += len(chunk) - len(text)
        if text or not chunk:
            return position, True
        budget -= len(chunk)
    return position, position >= size


def _next_data(descriptor: int, position: int, size: int) -> int:
    """Where something is stored from there on; `size` if there is nothing."""
    try:
        return min(size, os.lseek(descriptor, position, os.SEEK_DATA))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        if error.errno == errno.EINVAL:  # the file system can't tell
            return position
        raise
