"""What keeps the process small: it runs on every instance that someone pays for."""

from __future__ import annotations

import ctypes
import gc
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # mallopt(3)
_KEPT_BYTES = 64 << 20  # free memory that is kept for the next batches; `settle` gives it back
_PAD_BYTES = 4 << 20  # asked of the kernel at once
_TURN_SECONDS = (
    0.002  # for which one thread may keep the others waiting: an answer of AWS waits several times a batch
)
_MAPPED_BYTES = 32 << 20  # blocks from this size on have pages of their own, made and given back each time


def shrink() -> None:
    """To be called once, before threads and heavy imports.

    One arena of malloc: each thread would get its own, and they never give memory back; the interpreter's lock
    leaves nothing to contend for. Bodies of a megabyte are made again and again: their pages are kept, which saves
    half of the time spent in the kernel. No rich: structlog imports it where it is installed (5 MB, 0.1 s), for
    tracebacks that a daemon never prints.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TOP_PAD, _PAD_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    sys.setswitchinterval(_TURN_SECONDS)


def settle() -> None:
    """Give back memory that only the start, or a backlog, needed; takes some milliseconds."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
