"""Sending a file: whole, in one request.

Whatever goes wrong with one file is the outcome of that file, and of nothing else.
"""

from __future__ import annotations

from agent.aws.errors import AwsError, Denied, NotFound, Refused, Transient
from agent.aws.s3 import KeyTaken, Payload
from agent.engine.clock import Clock
from agent.engine.database import DatabaseError
from agent.engine.files import LinkRefused, NotRegular
from agent.uploads.names import to_text
from agent.uploads.outcome import Changed, Failed, Gone, Interrupted, NotTaken, Outcome, Sent
from agent.uploads.pace import BLOCK, Pace, Stopped
from agent.uploads.settle import Candidate
from agent.uploads.source import Source, SourceChanged

Trouble = SourceChanged | Stopped | OSError | AwsError | DatabaseError
"""What may go wrong with one file, and is its outcome."""

TROUBLE = (SourceChanged, Stopped, OSError, AwsError, DatabaseError)
_NEVER = frozenset(["KeyTooLongError", "KeyTooLong", "InvalidURI", "EntityTooLarge"])


class Transfer:
    """Sends whole files. Safe to use from several threads."""

    def __init__(self, pace: Pace, clock: Clock, *, privileged: bool) -> None:
        """`privileged`: whether this process may read every file, which makes files of several names suspect."""
        self.pace = pace
        self._clock = clock
        self._privileged = privileged

    def send(self, candidate: Candidate) -> Outcome:
        """Send a file in one PutObject."""
        try:
            source = self.open(candidate)
            try:
                return self._put(candidate, source)
            finally:
                source.close()
        except TROUBLE as trouble:
            return judge(candidate, trouble)

    def open(self, candidate: Candidate) -> Source:
        """The candidate's file, as it was found. Raises SourceChanged, OSError."""
        source = Source(candidate, privileged=self._privileged)
        if source.is_fresh(self._clock.time()):
            source.close()
            raise SourceChanged(candidate.stamp)
        return source

    def _put(self, candidate: Candidate, source: Source) -> Outcome:
        directory = candidate.directory
        now = self._clock.time()
        text = to_text(candidate.relative)
        key = directory.key(text, now)
        payload = self._payload(candidate, source)
        source.require_consistent()
        stored = directory.bucket.put_object(
            key, payload, directory.headers(text, now), if_absent=directory.if_absent
        )
        source.require_unchanged()
        return Sent(candidate, key, stored, now)

    def _payload(self, candidate: Candidate, source: Source) -> Payload:
        """A small file is read once; a larger one is hashed first and read again while it is sent.

        If it changes in between, S3 finds that the bytes are not those of the checksum.
        """
        bucket, size = candidate.directory.bucket, candidate.size
        if size <= BLOCK:
            self.pace.spend(size)
            return bucket.payload(source.read())
        return bucket.measure(lambda: source.blocks(0, size), size, lambda: source.blocks(0, size, self.pace))


def judge(candidate: Candidate, trouble: Trouble) -> Outcome:
    """The candidate's outcome, where something went wrong."""
    match trouble:
        case SourceChanged(stamp=stamp):
            return Changed(candidate, stamp)
        case Stopped():
            return Interrupted(candidate)
        case OSError():
            return _local(candidate, trouble)
        case AwsError():
            return _remote(candidate, trouble)
        case DatabaseError():
            return Failed(candidate, str(trouble), "free space in the state directory, or mend its disk")


def _local(candidate: Candidate, error: OSError) -> Outcome:
    """A link or a FIFO in the place of the file means that the file is gone."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | LinkRefused | NotRegular):
        return Gone(candidate)
    return Failed(candidate, error.strerror or str(error), "make it readable for the agent's user, or exclude it")


def _remote(candidate: Candidate, error: AwsError) -> Outcome:
    if isinstance(error, KeyTaken) or (isinstance(error, Refused) and error.code in _NEVER):
        return NotTaken(candidate, str(error))
    return Failed(candidate, str(error), error.hint, service=isinstance(error, Transient | Denied | NotFound))
