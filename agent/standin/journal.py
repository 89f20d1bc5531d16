"""What was asked and what was answered: a bounded list of calls, and counters over all of them."""

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

MAX_CALLS = 20_000  # calls remembered one by one; the counters go on


class Outcome(NamedTuple):
    """What is counted: `result` is "ok", the error code, or the fault that ended the connection."""

    service: str
    operation: str
    result: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request: when (seconds since the epoch), on which connection, what came of it, bytes of its body.

    `status` is 0 where the client got no answer.
    """

    number: int
    at: float
    connection: int
    service: str
    operation: str
    status: int
    result: str
    fault: str | None
    received: int


class Journal:
    """Records every call before its answer is sent, and wakes who waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._calls: deque[Call] = deque(maxlen=MAX_CALLS)
        self._counters: Counter[Outcome] = Counter()

    def record(
        self,
        at: float,
        connection: int,
        outcome: Outcome,
        *,
        status: int,
        fault: str | None,
        received: int,
    ) -> None:
        with self._changed:
            self._number += 1
            self._calls.append(Call(self._number, at, connection, *outcome[:2], status, outcome[2], fault, received))
            self._counters[outcome] += 1
            self._changed.notify_all()

    def calls(self, service: str = "*", operation: str = "*") -> list[Call]:
        """The remembered calls, oldest first; names are globs."""
        with self._changed:
            calls = list(self._calls)
        return [c for c in calls if fnmatchcase(c.service, service) and fnmatchcase(c.operation, operation)]

    def counters(self) -> dict[Outcome, int]:
        with self._changed:
            return dict(self._counters)

    def count(self, service: str = "*", operation: str = "*", result: str = "*") -> int:
        """How many calls there were; all three are globs, `result` for example "ok" or "Throttling*"."""
        wanted = (service, operation, result)
        return sum(count for outcome, count in self.counters().items() if all(map(fnmatchcase, outcome, wanted)))

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait until `predicate` holds, asked again after each call; its last answer."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout)

    def clear(self) -> None:
        with self._changed:
            self._calls.clear()
            self._counters.clear()
