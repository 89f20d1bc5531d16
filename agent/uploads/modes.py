"""What becomes of files once S3 has them, by the mode of their directory; a whole scan, or a file sent, wakes it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice

from agent.engine.clock import Clock
from agent.engine.database import Database, DatabaseError
from agent.engine.events import Events
from agent.engine.workers import Worker
from agent.uploads import rows
from agent.uploads.finder import Finder
from agent.uploads.forget import Forget
from agent.uploads.journal import Intent, Journal
from agent.uploads.mirror import Mirror
from agent.uploads.mounts import Mounts
from agent.uploads.move import Move
from agent.uploads.names import to_text
from agent.uploads.outcome import Sent
from agent.uploads.search import Search
from agent.uploads.settle import Candidate

_NAMED = 100  # files of a directory that the status lists


class Modes:
    """The workers of all directories, for one thread. `wake` wakes that."""

    def __init__(
        self,
        searches: Sequence[Search],
        finder: Finder,
        journal: Journal,
        database: Database,
        clock: Clock,
        events: Events,
        random_: random.Random,
    ) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._journal = journal
        self._clock = clock
        self._mirrors: dict[int, Mirror] = {}
        self._moves: dict[int, Move] = {}
        self._forgets: dict[int, Forget] = {}
        for search in searches:
            directory = search.directory
            if directory.mode == "mirror":
                mounts = Mounts(database, directory.place, directory.path)
                self._mirrors[directory.place] = Mirror(search, finder, journal, database, mounts, events, random_)
                continue
            self._forgets[directory.place] = Forget(search, finder, database, events)
            if directory.mode == "move":
                self._moves[directory.place] = Move(search, finder, journal, database, events)
        rows.tidy(database)
        self._give_up_deletions(journal, database)
        finder.on_scan = self._scanned
        finder.on_sent = self._sent
        finder.on_due = self._due

    @property
    def workers(self) -> list[Worker]:
        return [*self._mirrors.values(), *self._moves.values(), *self._forgets.values()]

    def troubles(self, search: Search) -> Iterable[tuple[str, str]]:
        """Files, and why what the mode wants of them is not done. Called with the finder's lock held."""
        place = search.directory.place
        if (mirror := self._mirrors.get(place)) is not None and mirror.refusal is not None:
            yield "", f"nothing is deleted in S3: {mirror.refusal}"
        if (move := self._moves.get(place)) is not None:
            for path, why in islice(dict(move.staying).items(), _NAMED):
                yield path, f"in S3, and can't be deleted here: {why}"

    def _give_up_deletions(self, journal: Journal, database: Database) -> None:
        """Deletions of a directory that is no mirror any more: the object may be gone, so its file is sent again."""
        for place in journal.deleting_places():
            if place not in self._mirrors:
                paths = [each.path for each in journal.deletions(place)]
                rows.forget(database, place, paths)
                journal.end_deletions(place, paths)

    def _scanned(self, search: Search) -> None:
        place = search.directory.place
        for worker in (self._mirrors.get(place), self._moves.get(place), self._forgets.get(place)):
            if worker is not None:
                worker.scanned()
        self.wake()

    def _due(self, due: Sequence[Candidate]) -> None:
        """Files of mirrors are written down before they are sent."""
        for place in self._mirrors:
            now = self._clock.time()
            intents = [_intent(each, now) for each in due if each.directory.place == place]
            if intents:
                with suppress(DatabaseError):  # the ledger will say it; what may be left is an object
                    self._journal.intend(place, intents)

    def _sent(self, sent: Sequence[Sent]) -> None:
        for place in self._mirrors:
            paths = [to_text(each.candidate.relative) for each in sent if each.candidate.directory.place == place]
            if paths:
                with suppress(DatabaseError):
                    self._journal.end_intents(place, paths)
        for place, move in self._moves.items():
            move.sent(each for each in sent if each.candidate.directory.place == place)
        if self._moves:
            self.wake()


def _intent(candidate: Candidate, now: float) -> Intent:
    path = to_text(candidate.relative)
    return Intent(path, candidate.directory.key(path, now), candidate.size, now)
