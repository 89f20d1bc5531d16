"""A call that may hang for ever, such as statvfs(2) on a network mount whose server is gone, with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class Patience(Generic[_Result]):
    """Makes calls in threads of their own and waits for each `seconds` at most.

    A call that hangs keeps its thread; there is one for each key at most, and it ends when the call does.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[str, threading.Thread] = {}

    def call(self, key: str, function: Callable[[], _Result]) -> _Result:
        """What the function returns or raises (an OSError). Raises TimeoutError, which is an OSError too."""
        before = self._running.get(key)
        if before is not None and before.is_alive():
            raise TimeoutError(f"{key}: does not answer, and has not since the last time")
        outcome: list[_Result | OSError] = []
        thread = threading.Thread(target=_run, args=(function, outcome), name=f"patience {key}", daemon=True)
        self._running[key] = thread
        thread.start()
        thread.join(self._seconds)
        if not outcome:
            raise TimeoutError(f"{key}: does not answer within {self._seconds:g} s")
        del self._running[key]
        if isinstance(outcome[0], OSError):
            raise outcome[0]
        return outcome[0]


def _run(function: Callable[[], _Result], outcome: list[_Result | OSError]) -> None:
    try:
        outcome.append(function())
    except OSError as error:
        outcome.append(error)
