"""`mode: mirror`: what was deleted here is deleted in S3, if S3 still has what this instance sent.

A whole scan without an error comes first, then a count of what is gone, then (after `settle`) a second look at each
file just before its object is deleted. A drain deletes nothing: what disappears while an instance ends was not
deleted by anyone.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from agent.aws.errors import AwsError, Conflict, Denied
from agent.engine.backoff import Backoff
from agent.engine.database import Database, DatabaseError
from agent.engine.events import Events
from agent.uploads import rows
from agent.uploads.finder import Finder
from agent.uploads.journal import Deletion, Intent, Journal
from agent.uploads.mounts import Identity, Mounts
from agent.uploads.names import from_text
from agent.uploads.rows import Kept
from agent.uploads.search import Search
from agent.uploads.sweep import Sweep, enter, look
from agent.uploads.tree import Walk

_BATCH = 50  # deletions written down, and asked for, in one step: about a second
_CLOCKS = 60.0  # seconds by which S3's clock may be behind ours
_LONGEST_BACKOFF = 300.0  # seconds between two tries while S3 does not delete

Stage = Callable[[float], float | None]


class Mirror:
    """A worker for one directory, on a thread whose steps may take as long as requests do."""

    def __init__(
        self,
        search: Search,
        finder: Finder,
        journal: Journal,
        database: Database,
        mounts: Mounts,
        events: Events,
        random_: random.Random,
    ) -> None:
        self.name = f"uploads-mirror {search.directory.path}"
        self.refusal: str | None = None  # why deletions wait for a human
        self._search = search
        self._directory = search.directory
        self._finder = finder
        self._journal = journal
        self._database = database
        self._mounts = mounts
        self._events = events
        self._backoff = Backoff(base=1.0, cap=_LONGEST_BACKOFF, random=random_)
        self._wanted = False
        self._stage: Stage | None = None
        self._sweep: Sweep | None = None
        self._root: Identity = (0, 0)
        self._gone = self._here = 0  # rows of the count
        self._left = 0  # deletions that this pass may still begin
        self._rows: deque[Kept] = deque()
        self._underway: deque[Deletion] = deque()
        self._deleted = 0

    def scanned(self) -> None:
        """A whole scan has come to its end. Called with the finder's lock held."""
        last = self._search.last
        self._wanted = self._search.error is None and last is not None and not last.errors and not last.more_errors

    def step(self, now: float) -> float | None:
        """One page of the ledger, or one batch of deletions."""
        if self._finder.draining or self._finder.closing:
            self._stop()
            return None
        try:
            return self._go_on(now)
        except AwsError as error:
            return self._fail(error, now)
        except (OSError, DatabaseError) as error:
            self._stop()
            self._say_postponed(error)
            return None

    def _go_on(self, now: float) -> float | None:
        if self._stage is None and self._wanted:
            self._wanted = False
            self._stage = self._begin
        return self._stage(now) if self._stage is not None else None

    def _stop(self) -> None:
        """Until the next scan. What was begun stays in the journal."""
        self._stage = self._sweep = None
        self._rows.clear()
        self._underway.clear()

    def _begin(self, now: float) -> float:
        """Take up what an earlier run has begun; then count."""
        self._root = self._mounts.identity()
        self._say_mounts(self._mounts.look(forget=self._directory.max_deletes >= 1.0))
        self._gone = self._here = self._deleted = 0
        self._underway.clear()
        begun = self._journal.deletions(self._directory.place)
        back = [each.path for each in begun if self._is_here(each.path)]
        self._settle(back, now)
        self._underway.extend(each for each in begun if each.path not in back)
        self._underway.extend(self._orphans())
        self._sweep = None if self._is_whole() else self._new_sweep()
        self._stage = self._count
        return now

    def _orphans(self) -> list[Deletion]:
        """Objects of files that were gone before S3's answer was known. Raises AwsError, OSError."""
        place, found, none = self._directory.place, [], []
        for intent in self._journal.intents(place, _BATCH):
            with self._finder.lock:
                pending = self._finder.candidates.find(place, from_text(intent.path)) is not None
            if pending or self._is_here(intent.path):
                continue
            orphan = self._orphan(intent)
            if orphan is None:
                none.append(intent.path)
            else:
                found.append(orphan)
        self._journal.begin_deletions(place, found)
        self._journal.end_intents(place, none)
        return found

    def _orphan(self, intent: Intent) -> Deletion | None:
        """The object of this key, if it is of that size and was put since, and no file that is known has it."""
        if rows.has_other(self._database.read, self._directory.place, intent.path, intent.key):
            return None
        try:
            page = next(self._directory.bucket.list_objects(intent.key), [])
        except Denied as error:
            self._say_left(intent, error)
            return None
        for listed in page[:1]:
            since = listed.modified >= intent.time - _CLOCKS
            if (listed.key, listed.size) == (intent.key, intent.size) and since:
                return Deletion(intent.path, intent.key, listed.etag)
        return None

    def _say_left(self, intent: Intent, error: Denied) -> None:
        self._events.say(
            "warning",
            "upload_left_in_s3",
            counter="uploads_left_in_s3",
            bucket=self._directory.bucket.name,
            key=intent.key,
            error=str(error),
            hint="its file was gone before S3's answer was known: allow s3:ListBucket; delete it by hand",
        )

    def _is_whole(self) -> bool:
        """Whether the scan has shown that nothing is gone: it has seen as many files as S3 has, and no others."""
        last = self._search.last
        if last is None or last.owed or last.refused or last.more_refused:
            return False
        return last.files == rows.count(self._database.read, self._directory.place)

    def _new_sweep(self) -> Sweep:
        return Sweep(self._directory, self._database.read, self._mounts)

    def _count(self, now: float) -> float | None:
        page = self._sweep.advance() if self._sweep is not None else None
        if page is not None:
            self._gone += len(page.gone)
            self._here += len(page.here)
            return now
        known = rows.count(self._database.read, self._directory.place)
        allowed = self._allowed(known)
        why = self._why_not(known, allowed)
        if why is not None:
            self._refuse(why, known, allowed)
            return None
        self._mounts.accept(self._root)
        self._say_accepted()
        self._left = allowed
        self._sweep = self._new_sweep() if self._gone else None
        self._stage = self._delete
        return now + (self._directory.settle if self._gone else 0.0)

    def _allowed(self, known: int) -> int:
        """How many files one pass may delete: the share of all that S3 has, and at least one unless it is 0%."""
        share = self._directory.max_deletes
        return max(1, int(known * share)) if share > 0 else 0

    def _why_not(self, known: int, allowed: int) -> str | None:
        """Why what is gone is not deleted; None: it is."""
        if self._gone > allowed:
            return f"{self._gone} of {known} files are gone; max_deletes allows {allowed} at once"
        root = self._mounts.known()
        familiar = root == self._root or self._here > 0 or not self._gone
        if not familiar and self._directory.max_deletes < 1.0:
            return f"{self._directory.path} is another directory than it was, and {self._gone} files are gone"
        return None

    def _refuse(self, why: str, known: int, allowed: int) -> None:
        self._stop()
        self.refusal = why
        self._events.trouble(
            "error",
            "uploads_deletes_refused",
            self._directory.path,
            counter="uploads_deletes_refused",
            directory=self._directory.path,
            error=why,
            gone=self._gone,
            files=known,
            allowed=allowed,
            hint="bring the files back (is it mounted?), or raise max_deletes and reload: 100% allows all",
        )

    def _say_accepted(self) -> None:
        self.refusal = None
        self._events.over("uploads_deletes_refused", self._directory.path, said="uploads_deletes_accepted")
        self._events.over("uploads_deletes_postponed", self._directory.path)

    def _delete(self, now: float) -> float | None:
        """One batch, of what is gone at the second look, too."""
        if not self._underway and not self._rows:
            page = self._sweep.advance() if self._sweep is not None else None
            if page is None:
                self._end()
                return None
            self._rows.extend(page.gone)
        if not self._underway:
            self._write_down()
        self._ask(now)
        return now

    def _end(self) -> None:
        self._stop()
        if self._deleted:
            self._events.say("info", "uploads_deleted_in_s3", directory=self._directory.path, objects=self._deleted)

    def _write_down(self) -> None:
        """The next batch goes into the journal. What was renamed keeps its object until the new one is there."""
        batch = [self._rows.popleft() for _ in range(min(_BATCH, len(self._rows)))]
        place, read = self._directory.place, self._database.read
        with self._finder.lock:
            moving = {each.stamp[3] for each in self._finder.candidates}
            held = {row.path for row in batch if self._finder.candidates.find(place, from_text(row.path))}
        batch = [row for row in batch if row.path not in held and row.stamp[3] not in moving][: self._left]
        shared = [row.path for row in batch if rows.has_other(read, place, row.path, row.key)]
        if shared:
            rows.forget(self._database, place, shared)  # another file's object, too
        begun = [Deletion(row.path, row.key, row.etag) for row in batch if row.path not in shared]
        self._left -= len(begun)
        self._journal.begin_deletions(place, begun)
        self._underway.extend(begun)

    def _ask(self, now: float) -> None:
        """Let S3 delete what is under way. Raises AwsError, OSError; what is done by then is written down."""
        done: list[str] = []
        try:
            while self._underway and len(done) < _BATCH:
                if self._finder.draining or self._finder.closing:
                    return
                deletion = self._underway[0]
                if not self._is_here(deletion.path):
                    self._delete_object(deletion)
                self._underway.popleft()
                done.append(deletion.path)
        finally:
            self._settle(done, now)
        self._backoff.reset()
        self._events.over("upload_not_deleted", self._directory.path, said="uploads_deleted_again")

    def _delete_object(self, deletion: Deletion) -> None:
        try:
            self._directory.bucket.delete_object(deletion.key, deletion.etag)
        except Conflict as error:
            if error.code not in ("PreconditionFailed", "412"):
                raise
            if self._is_here(deletion.path):
                return  # made and sent again in this moment
            self._events.say(
                "warning",
                "upload_of_another_kept",
                counter="uploads_of_others_kept",
                bucket=self._directory.bucket.name,
                key=deletion.key,
                hint="another writer has replaced the object since: it is left alone",
            )
        else:
            self._deleted += 1
            self._events.count("uploads_deleted")

    def _is_here(self, path: str) -> bool:
        """Whether the file is there after all, by a walk from the very root that was counted. Raises OSError."""
        if self._mounts.identity() != self._root:
            raise FileNotFoundError(2, "the directory is another one by now", self._directory.path)
        relative = from_text(path)
        folder, _, name = relative.rpartition("/")
        walk = Walk(self._directory.path, follow=self._directory.follow)
        try:
            descriptor = enter(walk, folder)
            return descriptor is not None and look(descriptor, name) is not None
        finally:
            walk.close()

    def _settle(self, done: Sequence[str], now: float) -> None:
        """Forget the files: also one that was made and sent meanwhile, whose object may be the one deleted."""
        if not done:
            return
        place = self._directory.place
        with self._finder.lock:
            rows.forget(self._database, place, done)
            for path in done:
                self._finder.doubt(place, from_text(path), now)
        self._journal.end_deletions(place, done)
        self._journal.end_intents(place, done)
        for path in done:
            self._search.hints.add(from_text(path))

    def _fail(self, error: AwsError, now: float) -> float:
        hint = (
            "allow s3:DeleteObject and s3:GetObject on the bucket's objects"
            if isinstance(error, Denied)
            else error.hint
        )
        self._events.trouble(
            "warning",
            "upload_not_deleted",
            self._directory.path,
            counter="upload_delete_retries",
            bucket=self._directory.bucket.name,
            error=str(error),
            hint=hint,
        )
        return now + self._backoff.next()

    def _say_postponed(self, error: Exception) -> None:
        self._events.trouble(
            "warning",
            "uploads_deletes_postponed",
            self._directory.path,
            counter="uploads_deletes_postponed",
            directory=self._directory.path,
            error=str(error),
            hint="nothing is deleted in S3 until the whole directory can be looked at",
        )

    def _say_mounts(self, missing: Sequence[str]) -> None:
        if not missing:
            self._events.over("uploads_mount_gone", self._directory.path, said="uploads_mount_back")
            return
        self._events.trouble(
            "warning",
            "uploads_mount_gone",
            self._directory.path,
            counter="uploads_deletes_refused",
            directory=self._directory.path,
            first=missing[0],
            mounts=len(missing),
            hint="mount it again: what it held is not deleted in S3 (max_deletes: 100% gives it up)",
        )
