"""An application that writes a log, as a process of its own: `run seq crc payload`, until SIGTERM.

    python soak_writer.py LOG RUN BYTES_PER_SECOND SEED [whole]

It appends to LOG, and opens it anew some time after SIGUSR1, as daemons do that are told of a rotation; until then it
goes on writing to the file it has. Beside LOG's directory it keeps RUN.pid, RUN.lock (held while it writes: who holds
it pauses it) and RUN.journal: for each burst `kind seq offset inode seconds`, where kind is G for the first burst of
a generation, B for any other, and E for the end; seq is the first number that the burst writes, or the next one.
With `whole` no burst ends in the middle of a line: copytruncate would tear it.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import time
import zlib
from pathlib import Path
from typing import Any

_TICK_SECONDS = 0.02
_SLOW_TO_REOPEN = 0.5  # chance, and the most seconds
_HALF_A_LINE = 0.1  # chance that a burst ends in the middle of a line
_LONG_LINE = 0.002  # chance of a line of some KB
_LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789 äß€"\\\t'


def line(run: str, seq: int, payload: str) -> str:
    """One line without its end; the checksum covers all else."""
    return f"{run} {seq:09d} {checksum(run, seq, payload):08x} {payload}"


def checksum(run: str, seq: int, payload: str) -> int:
    return zlib.crc32(f"{run} {seq:09d} {payload}".encode())


class Writer:
    def __init__(self, log: Path, run: str, rate: float, seed: int, *, whole: bool) -> None:
        self._log = log
        self._run = run
        self._rate = rate
        self._half_a_line = 0.0 if whole else _HALF_A_LINE
        self._random = random.Random(seed)
        home = log.parent.parent
        self._lock = os.open(home / f"{run}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._journal = (home / f"{run}.journal").open("a", buffering=1)
        self._payloads = ["".join(self._random.choices(_LETTERS, k=4000)) for _ in range(8)]
        self._seq = 0
        self._held_back = b""  # the other half of a line
        self._generation_begins = True
        self._file = self._open()
        self._reopen_at = float("inf")
        self.ended = False

    def reopen_soon(self, *_signal: Any) -> None:
        slow = self._random.random() < _SLOW_TO_REOPEN
        self._reopen_at = time.monotonic() + (self._random.random() * _SLOW_TO_REOPEN if slow else 0.0)

    def end(self, *_signal: Any) -> None:
        self.ended = True

    def write_for_ever(self) -> None:
        last = time.monotonic()
        while not self.ended:
            time.sleep(_TICK_SECONDS)
            now = time.monotonic()
            size = int(min(now - last, 1.0) * self._rate * self._random.uniform(0.2, 1.8))
            last = now
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if now >= self._reopen_at:
                self._reopen()
            self._burst(size)
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._write(self._held_back)
        self._note("E", self._seq)

    def _open(self) -> int:
        return os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _reopen(self) -> None:
        self._write(self._held_back)  # a line ends where it began
        self._held_back = b""
        os.close(self._file)
        self._reopen_at = float("inf")
        self._file = self._open()
        self._generation_begins = True

    def _burst(self, size: int) -> None:
        first, data = self._seq, b""
        while len(data) < size:
            data += self._line()
        if os.fstat(self._file).st_size == 0:
            self._generation_begins = True
        self._note("G" if self._generation_begins else "B", first)
        self._generation_begins = False
        data = self._held_back + data
        cut = len(data)
        if self._random.random() < self._half_a_line:
            cut = max(0, cut - self._random.randrange(1, 40))
        self._held_back = data[cut:]
        self._write(data[:cut])

    def _line(self) -> bytes:
        chance = self._random.random()
        length = self._random.randrange(1000, 4000) if chance < _LONG_LINE else self._random.randrange(1, 240)
        payload = self._random.choice(self._payloads)[-length:]
        text = line(self._run, self._seq, payload)
        self._seq += 1
        return f"{text}\n".encode()

    def _note(self, kind: str, seq: int) -> None:
        found = os.fstat(self._file)
        self._journal.write(f"{kind} {seq} {found.st_size} {found.st_ino} {time.time():.3f}\n")

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]


def main() -> None:
    log, run, rate, seed, *how = sys.argv[1:]
    writer = Writer(Path(log), run, float(rate), int(seed), whole="whole" in how)
    signal.signal(signal.SIGUSR1, writer.reopen_soon)
    signal.signal(signal.SIGTERM, writer.end)
    Path(log).parent.parent.joinpath(f"{run}.pid").write_text(f"{os.getpid()}\n")
    writer.write_for_ever()


if __name__ == "__main__":
    main()
