"""What came of sending one file, as a sender tells the finder."""

from __future__ import annotations

from dataclasses import dataclass

from agent.aws.s3 import Stored
from agent.uploads.settle import Candidate
from agent.uploads.tree import Stamp


@dataclass(frozen=True, slots=True)
class Sent:
    """S3 has it: one consistent file, under the candidate's stamp. `time` in seconds of the epoch."""

    candidate: Candidate
    key: str
    stored: Stored
    time: float


@dataclass(frozen=True, slots=True)
class Changed:
    """It is not what it was when it was to be sent, or was changed while it was: nothing of it counts."""

    candidate: Candidate
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Gone:
    """It is not there any more, or no regular file."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Failed:
    """It is tried again. `service` says that the bucket or the way to it is in trouble, not the file."""

    candidate: Candidate
    error: str
    hint: str = ""
    service: bool = False


@dataclass(frozen=True, slots=True)
class NotTaken:
    """S3 will never take it as it is."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The agent stops."""

    candidate: Candidate


Outcome = Sent | Changed | Gone | Failed | NotTaken | Interrupted
