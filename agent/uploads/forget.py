"""The ledger's rows of files that are no longer here: the newest are kept, for receipts and `verify-uploads`.

Without a bound a directory through which files only pass would make a ledger without end. What is forgotten is in S3
all the same.
"""

from __future__ import annotations

from collections import Counter

from agent.engine.database import Database, DatabaseError
from agent.engine.events import Events
from agent.uploads import rows
from agent.uploads.finder import Finder
from agent.uploads.rows import Kept
from agent.uploads.search import Search
from agent.uploads.sweep import Sweep

MOST = 100_000  # rows of files that are gone, of one directory: about 10 MB
_MINUTE = 60
_SLACK = 1.1  # so many times as many are let come together before a pass begins


class Forget:
    """A worker for one directory.

    A pass over the ledger forgets what was sent before a certain minute and is gone, and counts by minutes what is
    gone and stays: from that the next pass has its minute.
    """

    def __init__(self, search: Search, finder: Finder, database: Database, events: Events, most: int = MOST) -> None:
        self.name = f"uploads-forget {search.directory.path}"
        self._search = search
        self._directory = search.directory
        self._finder = finder
        self._database = database
        self._events = events
        self._most = most
        self._wanted = False
        self._sweep: Sweep | None = None
        self._before = 0  # rows of files confirmed in earlier minutes of the epoch are forgotten
        self._minutes: Counter[int] = Counter()

    def scanned(self) -> None:
        """A whole scan has come to its end. Called with the finder's lock held."""
        last = self._search.last
        self._wanted = self._search.error is None and last is not None and not last.errors

    def step(self, now: float) -> float | None:
        """One page of the ledger."""
        if self._finder.draining or self._finder.closing:
            self._sweep = None
            return None
        try:
            return now if self._go_on() else None
        except (OSError, DatabaseError):
            self._sweep = None  # the scan says it, too; the next one begins anew
            return None

    def _go_on(self) -> bool:
        if self._sweep is None:
            if not self._wanted:
                return False
            self._wanted = False
            if not self._is_due():
                return False
            self._minutes.clear()
            self._sweep = Sweep(self._directory, self._database.read)
        page = self._sweep.advance()
        if page is None:
            return self._end()
        self._sort(page.gone)
        return True

    def _is_due(self) -> bool:
        """Whether the ledger knows so many more files than there are."""
        here = self._search.last.files if self._search.last is not None else 0
        return rows.count(self._database.read, self._directory.place) - here > self._most * _SLACK

    def _sort(self, gone: list[Kept]) -> None:
        old = [row.path for row in gone if row.time // _MINUTE < self._before]
        if old:
            rows.forget(self._database, self._directory.place, old)
            self._events.count("upload_rows_forgotten", len(old))
        self._minutes.update(minute for row in gone if (minute := row.time // _MINUTE) >= self._before)

    def _end(self) -> bool:
        """From which minute on the newest rows are; another pass at once where this one has found it out."""
        self._sweep = None
        total, before = 0, self._before
        for minute in sorted(self._minutes, reverse=True):
            total += self._minutes[minute]
            if total >= self._most:
                before = minute  # no earlier than the last one: those minutes were not counted
                break
        again = before > self._before
        self._before = before
        self._wanted = self._wanted or again
        return again
