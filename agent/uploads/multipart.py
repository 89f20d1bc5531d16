"""Sending a large file in parts: by several senders, from one descriptor, written down so that it can be resumed.

Source: docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html and qfacts.html (sizes and numbers of parts).
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace

from agent.aws.errors import AnswerLost, AwsError, Conflict, Denied, NotFound, Refused
from agent.aws.limits import PART_BYTES_MIN, PARTS_MAX
from agent.aws.s3 import Bucket, ChecksumMismatch, Part
from agent.engine.clock import Clock
from agent.engine.database import DatabaseError
from agent.engine.events import Events
from agent.uploads.directory import Directory
from agent.uploads.journal import Begun, Journal
from agent.uploads.names import to_text
from agent.uploads.outcome import Changed, Gone, NotTaken, Outcome, Sent
from agent.uploads.settle import Candidate
from agent.uploads.source import Source
from agent.uploads.transfer import TROUBLE, Transfer, judge

_ROUND = 1 << 20  # part sizes that grow with the file are whole MiB
_BEFORE = 60.0  # seconds by which S3's clock may be behind ours, in looking for an upload whose id we never learnt


@dataclass(frozen=True, slots=True)
class PartRules:
    """S3's bounds of parts; tests hand in smaller ones."""

    smallest: int = PART_BYTES_MIN
    most: int = PARTS_MAX
    round_to: int = _ROUND

    def size(self, wanted: int, length: int) -> int:
        """The size of the parts of an object of `length` bytes, at least `wanted`, so that they are not too many."""
        needed = -(-length // self.most)
        grown = -(-needed // self.round_to) * self.round_to
        return max(wanted, self.smallest, grown if needed > wanted else 0)


class Multipart:
    """One large file on its way. Senders take its parts; the one that ends the last finishes it."""

    def __init__(self, candidate: Candidate, source: Source, begun: Begun, done: list[Part]) -> None:
        self.candidate = candidate
        self.source = source
        self.begun = begun
        self.failure: Outcome | None = None
        self._lock = threading.Lock()
        self._done = {part.number: part for part in done}
        count = -(-candidate.size // begun.part_size)
        self._todo = deque(number for number in range(1, count + 1) if number not in self._done)
        self._underway = 0

    @property
    def waiting(self) -> bool:
        """Whether there is a part to take."""
        return bool(self._todo) and self.failure is None

    @property
    def ended(self) -> bool:
        """Whether nothing is left to take, and nothing under way."""
        return self._underway == 0 and not self.waiting

    def take(self) -> int | None:
        """The number of a part that is now under way."""
        with self._lock:
            if not self.waiting:
                return None
            self._underway += 1
            return self._todo.popleft()

    def done(self, part: Part) -> bool:
        """A part is there; whether it was the last one under way."""
        with self._lock:
            self._done[part.number] = part
            self._underway -= 1
            return self.ended

    def fail(self, outcome: Outcome) -> bool:
        """A part is not: no other one is taken. Whether it was the last one under way."""
        with self._lock:
            self.failure = self.failure or outcome
            self._underway -= 1
            return self.ended

    def extent(self, number: int) -> tuple[int, int]:
        """Where a part begins, and its length in bytes."""
        offset = (number - 1) * self.begun.part_size
        return offset, min(self.begun.part_size, self.candidate.size - offset)

    def parts(self) -> list[Part]:
        """All parts, in order."""
        return [self._done[number] for number in sorted(self._done)]


class Multiparts:
    """Begins uploads in parts, sends parts, and ends what was begun. Safe to use from several threads."""

    def __init__(
        self,
        transfer: Transfer,
        journal: Journal,
        clock: Clock,
        events: Events,
        part_size: int,
        rules: PartRules,
    ) -> None:
        self._transfer = transfer
        self._events = events
        self._journal = journal
        self._clock = clock
        self._part_size = part_size
        self._rules = rules

    def is_large(self, size: int) -> bool:
        """Whether a file of this size is sent in parts."""
        return size > max(self._part_size, self._rules.smallest)

    def begin(self, candidate: Candidate) -> Multipart | Outcome:
        """Open the file and begin its upload, or go on with one that was begun under the same terms."""
        try:
            source = self._transfer.open(candidate)
            try:
                return self._begin(candidate, source)
            except BaseException:
                source.close()
                raise
        except TROUBLE as trouble:
            return judge(candidate, trouble)

    def send_part(self, multipart: Multipart, number: int) -> Part | Outcome:
        """Send one part; the part as S3 confirmed it, or what went wrong."""
        try:
            return self._send_part(multipart, number)
        except TROUBLE as trouble:
            return judge(multipart.candidate, trouble)

    def finish(self, multipart: Multipart) -> Outcome:
        """Make the object of its parts, or give up what can't become one."""
        try:
            outcome = multipart.failure or self._complete(multipart)
        except TROUBLE as trouble:
            outcome = judge(multipart.candidate, trouble)
        finally:
            multipart.source.close()
        if isinstance(outcome, Changed | Gone | NotTaken):
            self._give_up(multipart.begun, multipart.candidate.directory.bucket)
        return outcome

    def abandon(self, begun: Begun, bucket: Bucket) -> None:
        """Abort an upload at S3 and forget it. Raises AwsError, DatabaseError."""
        if begun.upload_id is not None:
            bucket.abort_multipart_upload(begun.key, begun.upload_id)
        else:
            self._abort_unknown(begun, bucket)
        self._journal.forget(begun)

    def _abort_unknown(self, begun: Begun, bucket: Bucket) -> None:
        """S3 was asked for an upload, and its answer was lost: look for what it may have made."""
        try:
            found = bucket.list_multipart_uploads(begun.key)
        except Denied as error:
            self._events.say(
                "warning",
                "upload_in_parts_left",
                counter="uploads_parts_left",
                bucket=begun.bucket,
                key=begun.key,
                error=str(error),
                hint="allow s3:ListBucketMultipartUploads, or have a lifecycle rule abort incomplete uploads",
            )
            return
        for upload in found:
            if upload.key == begun.key and upload.initiated >= begun.time - _BEFORE:
                bucket.abort_multipart_upload(upload.key, upload.upload_id)

    def _begin(self, candidate: Candidate, source: Source) -> Multipart:
        directory = candidate.directory
        path = to_text(candidate.relative)
        earlier = self._journal.find(directory.place, path)
        if earlier is not None:
            if self._fits(earlier, candidate):
                return Multipart(candidate, source, earlier, self._journal.parts(directory.place, path))
            self.abandon(earlier, directory.bucket)
        now = self._clock.time()
        begun = Begun(
            place=directory.place,
            path=path,
            bucket=directory.bucket.name,
            key=directory.key(path, now),
            upload_id=None,
            stamp=candidate.stamp,
            part_size=self._rules.size(self._part_size, candidate.size),
            terms=directory.terms,
            time=now,
        )
        begun = self._create(begun, directory)
        return Multipart(candidate, source, begun, [])

    def _create(self, begun: Begun, directory: Directory) -> Begun:
        """Write down what is to be begun, begin it, write down its id."""
        self._journal.write(begun)
        try:
            upload_id = directory.bucket.create_multipart_upload(begun.key, directory.headers(begun.path, begun.time))
        except AnswerLost:
            raise  # it may be there: the journal keeps that
        except AwsError:
            self._journal.forget(begun)
            raise
        begun = replace(begun, upload_id=upload_id)
        self._journal.write(begun)
        return begun

    def _fits(self, begun: Begun, candidate: Candidate) -> bool:
        """Whether an upload that was begun can go on: the same file, the same terms."""
        return begun.upload_id is not None and (begun.stamp, begun.terms) == (
            candidate.stamp,
            candidate.directory.terms,
        )

    def _send_part(self, multipart: Multipart, number: int) -> Part:
        begun, source = multipart.begun, multipart.source
        bucket = multipart.candidate.directory.bucket
        offset, length = multipart.extent(number)
        payload = bucket.measure(
            lambda: source.blocks(offset, length),
            length,
            lambda: source.blocks(offset, length, self._transfer.pace),
        )
        try:
            part = bucket.upload_part(begun.key, str(begun.upload_id), number, payload)
        except NotFound as error:
            if error.code == "NoSuchUpload":
                self._journal.forget(begun)
            raise
        source.require_unchanged()
        self._journal.keep_part(begun.place, begun.path, part)
        return part

    def _complete(self, multipart: Multipart) -> Outcome:
        candidate, begun = multipart.candidate, multipart.begun
        directory = candidate.directory
        multipart.source.require_unchanged()
        try:
            stored = directory.bucket.complete_multipart_upload(
                begun.key, str(begun.upload_id), multipart.parts(), if_absent=directory.if_absent
            )
        except AwsError as error:
            if error.code == "NoSuchUpload" or isinstance(error, Conflict | Refused | ChecksumMismatch):
                self._give_up(begun, directory.bucket)
            raise
        multipart.source.require_unchanged()
        self._journal.forget(begun)
        return Sent(candidate, begun.key, stored, self._clock.time())

    def _give_up(self, begun: Begun, bucket: Bucket) -> None:
        """Its parts will never make the object. If S3 can't be told now, the journal says that it must be."""
        with suppress(AwsError, DatabaseError):
            self._journal.write(replace(begun, terms=""))
            self.abandon(begun, bucket)
