"""After a drain has sent everything: S3 is asked for what it got since, as time and permission allow.

The proof of an object is S3's checksum in the answer to its upload; reading back only adds to it. What S3 does not
have any more is sent again, once, where its file is still here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.engine.clock import Clock
from agent.engine.database import Database, DatabaseError
from agent.engine.events import Events
from agent.uploads import rows
from agent.uploads.names import from_text
from agent.uploads.rows import Kept
from agent.uploads.search import Search
from agent.uploads.sweep import is_here
from agent.uploads.verify import Kind, compare

_LONGEST = 20.0  # seconds that a drain waits for it
_BEFORE_DEADLINE = 15.0  # seconds before the end of a drain at which it ends
_MOST = 10_000  # objects, of each directory
_BATCH = 10  # objects asked for in one step


class ReadBack:
    """A worker on a thread whose steps may take as long as requests do. Other methods: from any thread."""

    name = "uploads-read-back"

    def __init__(self, searches: Sequence[Search], database: Database, clock: Clock, events: Events) -> None:
        self.wake: Callable[[], None] = lambda: None  # wakes the thread of `step`
        self._searches = searches
        self._database = database
        self._clock = clock
        self._events = events
        self._lock = threading.Lock()
        self._rows: deque[tuple[Search, Kept]] = deque()
        self._running = False
        self._since = 0  # epoch: what S3 got before was read back, or is not to be
        self._until = 0.0
        self._recorded = -1
        self._again: set[tuple[int, str]] = set()
        self._checked = self._different = self._left = 0
        self._why: str | None = None

    def begin(self) -> None:
        """A drain has begun."""
        with self._lock:
            self._rows.clear()
            self._running = False
            self._again.clear()
            self._since, self._until, self._recorded = int(self._clock.time()), 0.0, -1
            self._checked = self._different = self._left = 0
            self._why = None

    def finished(self, now: float, deadline: float, recorded: int) -> bool:
        """Everything is sent: begin, or go on; whether it is done. Raises DatabaseError.

        `recorded` is another number when the ledger has more than at the last call.
        """
        with self._lock:
            if self._running or recorded == self._recorded:
                return not self._running
            self._recorded = recorded
            since, self._since = self._since, int(self._clock.time())
            found = self._find(since)
            self._until = self._until or min(now + _LONGEST, deadline - _BEFORE_DEADLINE)
            if self._why is not None or now >= self._until:
                self._left += len(found)
                return True
            self._rows.extend(found)
            self._running = bool(found)
        if found:
            self.wake()
        return not found

    def document(self) -> Mapping[str, Any]:
        """Objects that S3 was asked for, those that were not as sent, those left out, and why."""
        return {"checked": self._checked, "different": self._different, "left": self._left, "why": self._why}

    def step(self, now: float) -> float | None:
        """Ask for some objects."""
        with self._lock:
            if not self._running:
                return None
            batch = [self._rows.popleft() for _ in range(min(_BATCH, len(self._rows)))]
        late = now >= self._until
        for search, row in batch:
            if late or self._why is not None:
                self._left += 1
            else:
                self._check(search, row)
        with self._lock:
            self._running = bool(self._rows)
        return now

    def _find(self, since: int) -> list[tuple[Search, Kept]]:
        found: list[tuple[Search, Kept]] = []
        for search in self._searches:
            directory = search.directory
            kept = rows.since(self._database.read, directory.place, directory.prefix, since, _MOST)
            found += [(search, row) for row in kept]
        return found

    def _check(self, search: Search, row: Kept) -> None:
        kind, detail = compare(search.directory, row)
        if kind is Kind.UNCHECKED:
            self._left += 1
            self._why = detail
            return
        self._checked += 1
        if kind is None:
            return
        self._different += 1
        self._events.say(
            "error",
            "upload_not_as_sent",
            counter="uploads_not_as_sent",
            bucket=search.directory.bucket.name,
            key=row.key,
            error=f"{kind.value}: {detail}",
            hint="another writer or a lifecycle rule has it; the file is sent again if it is still here",
        )
        self._send_again(search, row)

    def _send_again(self, search: Search, row: Kept) -> None:
        place = search.directory.place
        if (place, row.path) in self._again or not is_here(search.directory, row.path):
            return
        self._again.add((place, row.path))
        try:
            rows.forget(self._database, place, [row.path])
        except DatabaseError as error:
            self._why = str(error)
        search.hints.add(from_text(row.path))
