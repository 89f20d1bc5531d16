"""The end: everything scanned from the top until nothing is owed, and shown: manifest, gaps, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from agent.engine.clock import Clock
from agent.engine.database import DatabaseError
from agent.engine.events import Events
from agent.engine.job import Gap, Proofs, Refusal
from agent.uploads.finder import Finder
from agent.uploads.ledger import Ledger
from agent.uploads.manifest import ManifestWriter, Written
from agent.uploads.names import to_text
from agent.uploads.read_back import ReadBack
from agent.uploads.search import Search
from agent.uploads.settle import Candidate

_AGAIN = 5.0  # seconds between two whole scans while something can't be read or sent
_BEFORE_DEADLINE = 10.0  # seconds before the deadline at which a manifest is written of what there is
_LOOK = 0.05  # seconds between two looks at how far things are
_LISTED = 1_000  # gaps, and refusals, that are listed one by one; the others are summed up


class Drainage:
    """A worker on the finder's thread; shares its lock."""

    name = "uploads-drain"

    def __init__(
        self, finder: Finder, ledger: Ledger, read_back: ReadBack, path: str, clock: Clock, events: Events
    ) -> None:
        """`path` is where the manifest goes."""
        self._finder = finder
        self._ledger = ledger
        self._read_back = read_back
        self._asked = -1  # what the ledger held when S3 was last asked for all of it
        self._path = path
        self._clock = clock
        self._events = events
        self._deadline = 0.0
        self._began_writing = 0.0
        self._writer: ManifestWriter | None = None
        self._written: Written | None = None
        self._recorded = -1  # what the ledger held when the manifest was begun, or could not be written

    def ask(self, deadline: float, now: float) -> Proofs:
        """Begin, or go on; what can be shown now."""
        with self._finder.lock:
            if not self._finder.draining:
                self._finder.hurry(now)
                self._recorded, self._written = -1, None
                self._began_writing = 0.0
                self._asked = -1
                self._read_back.begin()
            self._deadline = deadline
            return self._proofs()

    def end(self, now: float) -> None:
        """Back to normal work."""
        with self._finder.lock:
            self._give_up_writing()
            self._finder.relax(now)

    def step(self, now: float) -> float | None:
        """Scan again where that may help; write the manifest when nothing is owed, or the deadline is near."""
        with self._finder.lock:
            if not self._finder.draining:
                return None
            for search in self._finder.searches:
                self._scan_again(search, now)
            if self._writer is None and (self._is_clean() or self._is_late(now)):
                self._begin_writing(now)
            if self._writer is not None:
                self._write(self._writer)
                return now
            if self._is_shown() and self._asked != self._recorded and self._ask_back(now):
                self._asked = self._recorded
            return now + _LOOK

    def _scan_again(self, search: Search, now: float) -> None:
        """After a whole scan that found something: once that is sent, or else after a while."""
        if search.finished == 0 or search.complete or not search.resting:
            return
        candidates = self._finder.candidates
        errors = search.last is not None and bool(search.last.errors)
        at_once = not len(candidates) and not errors
        stuck = candidates.failing == len(candidates) and now >= search.finished_at + _AGAIN
        if at_once or stuck:
            search.restart(now)

    def _is_clean(self) -> bool:
        """Whether nothing is owed, as far as can be seen."""
        finder = self._finder
        return not len(finder.candidates) and all(each.complete and each.resting for each in finder.searches)

    def _is_shown(self) -> bool:
        """Whether nothing is owed, and the manifest says all that S3 has."""
        return self._is_clean() and self._writer is None and self._recorded == self._finder.recorded

    def _ask_back(self, now: float) -> bool:
        """Whether S3 was asked for what it got since the drain began, as far as that goes."""
        try:
            return self._read_back.finished(now, self._deadline, self._recorded)
        except DatabaseError as error:
            self._events.trouble("warning", "uploads_not_read_back", "", error=str(error))
            return True

    def _is_late(self, now: float) -> bool:
        """Whether a manifest is due although something is still owed."""
        return now >= max(self._deadline - _BEFORE_DEADLINE, self._began_writing + _BEFORE_DEADLINE)

    def _begin_writing(self, now: float) -> None:
        """A manifest of what the ledger holds, unless there is one."""
        if self._recorded == self._finder.recorded:
            return
        self._recorded = self._finder.recorded
        self._began_writing = now
        directories = [search.directory for search in self._finder.searches]
        self._writer = ManifestWriter(self._path, directories, self._ledger)

    def _write(self, writer: ManifestWriter) -> None:
        try:
            written = writer.advance()
        except DatabaseError as error:
            self._give_up_writing()
            self._written = None
            self._say_unwritten(error)
            return
        if written is not None:
            self._writer, self._written = None, written
            if written.error is not None:
                self._say_unwritten(written.error)

    def _give_up_writing(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _say_unwritten(self, error: Exception) -> None:
        self._events.say(
            "error",
            "upload_manifest_not_written",
            counter="state_failures",
            error=str(error),
            hint="make the state directory writable and free space in it; the objects are in S3 all the same",
        )

    def _proofs(self) -> Proofs:
        clean = self._is_shown() and self._asked == self._recorded
        written = self._written
        listed = {
            "objects": written.objects if written else 0,
            "bytes": written.bytes if written else 0,
            "manifest": written.name if written else None,
            "read_back": self._read_back.document(),
        }
        return Proofs(
            settled=clean,
            gaps=() if clean else tuple(self._gaps()),
            refused=tuple(self._refusals()),
            receipt={"uploads": listed},
            attachments={"manifest": written.path} if written and written.path else {},
        )

    def _gaps(self) -> Iterator[Gap]:
        candidates = self._finder.candidates
        for candidate in islice(candidates, _LISTED):
            yield Gap("upload", _text(candidate), candidate.size, _why(candidate))
        if len(candidates) > _LISTED:
            size = sum(candidate.size for candidate in islice(candidates, _LISTED, None))
            yield Gap("upload", f"{len(candidates) - _LISTED} more files", size, "not sent yet")
        for search in self._finder.searches:
            yield from _unread(search)

    def _refusals(self) -> Iterator[Refusal]:
        for search in self._finder.searches:
            tally = search.tally
            for relative, reason in tally.refused.items():
                yield Refusal("upload", to_text(f"{search.directory.path}/{relative}"), 1, reason)
            if tally.more_refused:
                yield Refusal("upload", search.directory.path, tally.more_refused, "more files that S3 will not take")


def _unread(search: Search) -> Iterator[Gap]:
    """What of a directory was not read to its end."""
    path = search.directory.path
    if search.let_go:
        yield Gap("upload", path, 0, f"{search.let_go} more files could not be sent, and are to be found again")
    if search.error is not None:
        if not search.complete:
            yield Gap("directory", path, 0, search.error.strerror or str(search.error))
        return
    if search.finished == 0:
        yield Gap("directory", path, 0, "the scan has not come to its end")
    tally = search.tally
    for relative, why in tally.errors.items():
        yield Gap("directory", to_text(f"{path}/{relative}"), 0, why)
    if tally.more_errors:
        yield Gap("directory", path, 0, f"{tally.more_errors} more places in it could not be read")


def _text(candidate: Candidate) -> str:
    return to_text(candidate.path)


def _why(candidate: Candidate) -> str:
    if candidate.error is not None:
        return candidate.error
    return "it keeps changing" if candidate.restless else "not sent yet"
