"""Ctrl-C, SIGTERM and the end of the terminal: they break the demo off, but never between two halves of a thing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Takes the signals while it is entered. For the main thread.

    Only inside `raising` do they become a KeyboardInterrupt, and only one; elsewhere they are kept in mind.
    """

    def __init__(self) -> None:
        self._raising = False
        self._pending = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._take) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Where the demo may be broken off."""
        self._raising = True
        try:
            self._raise_if_pending()
            yield
        finally:
            self._raising = False

    @contextmanager
    def later(self) -> Iterator[None]:
        """What must not be broken off in its middle: a signal that comes meanwhile counts at its end."""
        raising, self._raising = self._raising, False
        try:
            yield
        finally:
            self._raising = raising
        self._raise_if_pending()

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self._pending = True
        self._raise_if_pending()

    def _raise_if_pending(self) -> None:
        if self._raising and self._pending:
            self._raising = False
            raise KeyboardInterrupt
