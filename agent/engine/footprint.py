"""What keeps the process small: it runs on every instance that someone pays for."""

from __future__ import annotations

import ctypes
import gc
import sys

_M_ARENA_MAX = -8  # mallopt(3)


def shrink() -> None:
    """To be called once, before threads and heavy imports.

    One arena of malloc: each thread would get its own, and they never give memory back; the interpreter's lock
    leaves nothing to contend for. No rich: structlog imports it where it is installed (5 MB, 0.1 s), for tracebacks
    that a daemon never prints.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


def settle() -> None:
    """To be called once, after everything is made: give back what only the start needed."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
