"""When the senders wake the finder: at once for trouble, for files sent only in crowds."""

from __future__ import annotations

from typing import Any

from agent.aws.s3 import Stored
from agent.engine.clock import FakeClock
from agent.uploads.outcome import Failed, Outcome, Sent
from agent.uploads.sender import Pool
from agent.uploads.settle import Candidate


class Told:
    """A pool without senders, and how often it has woken the finder."""

    def __init__(self) -> None:
        nothing: Any = None
        self.times = 0
        self.pool = Pool(0, nothing, nothing, nothing, nothing, FakeClock(), nothing)
        self.pool.start(nothing, self._tell)

    def _tell(self) -> None:
        self.times += 1


def candidate() -> Candidate:
    directory: Any = None
    return Candidate(directory, "a", (1, 2, 3, 4), 0.0, 0.0)


def sent() -> Outcome:
    return Sent(candidate(), "a", Stored("etag", "checksum"), 0.0)


def test_the_finder_is_woken_for_files_sent_only_when_many_wait() -> None:
    told = Told()
    for _ in range(127):
        told.pool.report(sent())
    assert told.times == 0
    for _ in range(3):
        told.pool.report(sent())
    assert told.times == 1
    assert len(told.pool.collect()) == 130


def test_the_finder_is_woken_at_once_for_trouble_and_once_only() -> None:
    told = Told()
    told.pool.report(sent())
    told.pool.report(Failed(candidate(), "no"))
    told.pool.report(Failed(candidate(), "no"))
    assert told.times == 1
    assert len(told.pool.collect()) == 3
    told.pool.report(Failed(candidate(), "again"))
    assert told.times == 2
