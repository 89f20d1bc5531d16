"""What was written and what arrived, line by line: the oracle of the soak."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from soak_writer import checksum

from agent.standin.standin import Standin

OVERHEAD = 26  # bytes that PutLogEvents counts for each event beside its message
_ABSENT = -1
_DIGITS = 9  # of a line's number
_ARRIVALS = 1 << 32  # a position is milliseconds * _ARRIVALS + number of the arrival
_SHOWN = 10  # of each kind of trouble in a message


@dataclass(frozen=True)
class Burst:
    """Lines that were written at once: from where in which file, when."""

    first: int
    offset: int
    inode: int
    at: float  # seconds since the epoch
    begins: bool  # a generation


@dataclass(frozen=True)
class Journal:
    """What a writer noted."""

    bursts: Sequence[Burst]
    written: int  # lines

    @classmethod
    def read(cls, path: Path) -> Journal:
        rows = [row.split() for row in path.read_text().splitlines()]
        assert rows, f"{path}: nothing was written"
        assert rows[-1][0] == "E", f"{path}: the writer did not end by itself"
        bursts = [
            Burst(int(seq), int(offset), int(inode), float(at), kind == "G") for kind, seq, offset, inode, at in rows
        ]
        return cls(bursts[:-1], bursts[-1].first)

    def generations(self) -> list[tuple[int, int]]:
        """The first number of each, and the first behind it."""
        starts = [burst.first for burst in self.bursts if burst.begins]
        return [pair for pair in pairwise([*starts, self.written]) if pair[0] < pair[1]]

    def where(self, seq: int) -> str:
        """Where a line was written, for who has to find out what became of it."""
        burst = self.bursts[bisect_right(self.bursts, seq, key=lambda each: each.first) - 1]
        generation = sum(each.begins and each.first <= burst.first for each in self.bursts)
        at = datetime.fromtimestamp(burst.at, UTC).isoformat(timespec="milliseconds")
        return f"line {seq}: generation {generation}, inode {burst.inode}, from {burst.offset} on, at {at}"


@dataclass
class Ledger:
    """What arrived of one writer's lines."""

    run: str
    positions: array[int] = field(default_factory=lambda: array("q"))  # by number: where CloudWatch shows it first
    events: int = 0
    duplicates: int = 0
    duplicate_bytes: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, message: str, position: int) -> None:
        seq = self._number(message)
        if seq is None:
            self.broken.append(message[:200])
            return
        self.events += 1
        while len(self.positions) <= seq:
            self.positions.append(_ABSENT)
        first = self.positions[seq]
        if first == _ABSENT:
            self.positions[seq] = position
            return
        self.positions[seq] = min(first, position)
        self.duplicates += 1
        self.duplicate_bytes += len(message.encode()) + OVERHEAD

    def has(self, first: int, last: int) -> bool:
        return last < len(self.positions) and min(self.positions[first : last + 1]) != _ABSENT

    def halves(self) -> int:
        """Torn lines of which the whole has arrived, too; they count as broken no more.

        What was read of a line when its file was truncated is all that the reader has, so it is sent; where the copy
        is read as well, the whole follows.
        """
        torn = [message for message in self.broken if self._is_torn(message)]
        self.broken = [message for message in self.broken if message not in torn]
        return len(torn)

    def lost(self, written: int) -> list[int]:
        some = [seq for seq, position in enumerate(self.positions[:written]) if position == _ABSENT]
        return some + list(range(len(self.positions), written))

    def out_of_order(self, generations: Sequence[tuple[int, int]], lives: Sequence[int]) -> Iterator[int]:
        """Numbers of lines that are shown before the line that was written before them into the same file.

        Where that line came only in a later life of the agent, nobody can help it: with a backlog several batches are
        in flight, and a kill may fall when the second was taken and the first was not. `lives`: the last arrival of
        each.
        """
        for start, end in generations:
            shown = [(seq, self.positions[seq]) for seq in range(start, min(end, len(self.positions)))]
            for (_, before), (later, after) in pairwise([each for each in shown if each[1] != _ABSENT]):
                same_life = bisect_left(lives, after % _ARRIVALS) == bisect_left(lives, before % _ARRIVALS)
                if after < before and same_life:
                    yield later

    def _is_torn(self, message: str) -> bool:
        run, _, rest = message.partition(" ")
        seq = rest.partition(" ")[0]
        if len(seq) < _DIGITS:
            return self.run.startswith(run) and not seq.strip("0123456789")
        return run == self.run and seq.isdecimal() and self.has(int(seq), int(seq))

    def _number(self, message: str) -> int | None:
        """A line's number; None if it is not as it was written."""
        run, seq, crc, payload = (*message.split(" ", 3), "", "", "")[:4]
        if run != self.run or not seq.isdecimal() or f"{checksum(run, int(seq), payload):08x}" != crc:
            return None
        return int(seq)


class Arrivals:
    """Takes from the stand-in what arrived, in the order of arrival within each stream."""

    def __init__(self, standin: Standin, runs: Sequence[str]) -> None:
        self.ledgers = {run: Ledger(run) for run in runs}
        self._standin = standin
        self._lock = threading.Lock()
        self._taken: dict[tuple[str, str], int] = {}  # batches of each stream
        self._since = int(standin.clock() * 1000)
        self.lives: list[int] = []  # the number of the last arrival of each life of the agent
        self._arrival = 0

    def take(self) -> None:
        """Note what is new; the group /soak/RUN holds the lines of RUN."""
        with self._lock:
            for run, ledger in self.ledgers.items():
                group = self._standin.logs.groups().get(f"/soak/{run}")
                for stream in list(group.streams) if group else []:
                    self._take_stream(ledger, f"/soak/{run}", stream)

    def note_death(self) -> None:
        """The agent was killed; what it sent last has been taken."""
        with self._lock:
            self.lives.append(self._arrival)

    def has(self, run: str, first: int, last: int) -> bool:
        """Whether all these lines have arrived."""
        with self._lock:
            return self.ledgers[run].has(first, last)

    def duplicates(self) -> dict[str, int]:
        """So far, in bytes as CloudWatch counts them, by run."""
        with self._lock:
            return {run: ledger.duplicate_bytes for run, ledger in self.ledgers.items()}

    def _take_stream(self, ledger: Ledger, group: str, stream: str) -> None:
        logs = self._standin.logs
        batches = logs._batches(group, stream)
        for batch in batches[self._taken.get((group, stream), 0) :]:
            record = logs._tape.read(batch.extent)
            for timestamp, message in zip(record["t"], record["m"], strict=True):
                self._arrival += 1
                ledger.add(message, (timestamp - self._since) * _ARRIVALS + self._arrival)
        self._taken[group, stream] = len(batches)


def troubles_of(ledger: Ledger, journal: Journal, lives: Sequence[int]) -> Iterator[str]:
    """Everything that is not as it should be with one writer's lines."""
    run = ledger.run
    if ledger.events == 0:
        yield f"{run}: nothing arrived"
    lost = ledger.lost(journal.written)
    if lost:
        yield f"{run}: {len(lost)} lines lost of {journal.written}"
        yield from (f"{run}: lost {journal.where(first)}, to line {last}" for first, last in _ranges(lost)[:_SHOWN])
    if len(ledger.positions) > journal.written:
        yield f"{run}: line {len(ledger.positions) - 1} was never written"
    if ledger.broken:
        yield f"{run}: {len(ledger.broken)} lines are not as they were written: {ledger.broken[:_SHOWN]}"
    confused = list(ledger.out_of_order(journal.generations(), lives))
    if confused:
        yield f"{run}: {len(confused)} lines are shown before the line before them"
        yield from (f"{run}: out of order: {journal.where(seq)}" for seq in confused[:_SHOWN])


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as (first, last)."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
