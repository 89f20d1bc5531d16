"""Real logrotate(8) over logs that are being written, with the configurations that people use."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TIME_LIMIT = 60.0  # seconds for one run of logrotate
_PATIENCE = 15.0  # seconds that a writer is paused until its last line is acknowledged
_LOOK = 0.05
_TAIL_BYTES = 16 << 10  # hold the last line of a file


def find_logrotate() -> str | None:
    """The program: as OUTLIVE_LOGROTATE says, from PATH, or from where Debian and Red Hat put it."""
    told = os.environ.get("OUTLIVE_LOGROTATE")
    return told or shutil.which("logrotate", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Plan:
    """One log: how it is rotated, and what of it the agent is told to read.

    `plain` is the number of rotated files that are still there, uncompressed, after a rotation. A rotation waits
    while the agent has not acknowledged what it would take away: what is deleted before anybody could send it is not
    the agent's loss, and in earnest days lie in between.
    """

    name: str
    directives: str
    plain: int
    read: tuple[str, ...] = ("app.log*",)  # in the log's folder
    every: float = 2.0  # seconds between two runs of logrotate, about
    force: bool = True  # rotate at each run; else as the directives say
    copies: bool = False  # copytruncate: the writer pauses, for what it writes between copy and truncation is lost
    until_safe: bool = False  # paused until all that it wrote is acknowledged: the agent is not to see the copy
    until_opened: bool = False  # only what the agent has opened: it is not told of the new name

    @property
    def old(self) -> str:
        return "old" if "olddir" in self.directives else "."


PLANS = (
    Plan("create", "create 0644\nrotate 4", plain=4),
    Plan("outside", "create 0644\nrotate 4", plain=4, read=("app.log",), until_opened=True),
    Plan("nocreate", "nocreate\nrotate 3", plain=3),
    Plan("dateext", "create 0644\ndateext\ndateformat -%Y%m%d-%s\nrotate 3", plain=3),
    Plan("compress", "create 0644\ncompress\ndelaycompress\nrotate 5", plain=1),
    Plan("olddir", "create 0644\nolddir old\nrotate 3", plain=3, read=("app.log", "old/app.log*")),
    Plan("maxsize", "create 0644\nhourly\nmaxsize 100k\nrotate 8", plain=8, every=0.4, force=False),
    Plan("truncated", "copytruncate\nolddir old\nrotate 2", plain=2, read=("app.log",), copies=True, until_safe=True),
)
COPIES = (Plan("copies", "copytruncate\nrotate 3", plain=3, every=3.0, copies=True),)


class Rotator(threading.Thread):
    """Runs logrotate on one log again and again, until told to end."""

    def __init__(
        self,
        plan: Plan,
        home: Path,
        program: str,
        seed: int,
        *,
        is_safe: Callable[[str, Path], bool],
        is_opened: Callable[[int, float], bool],
    ) -> None:
        """`is_safe`: whether all of a plan's file is acknowledged. `is_opened`: whether it has opened that inode
        since that time, in seconds since the epoch."""
        super().__init__(name=f"rotator-{plan.name}")
        self.rotations = 0
        self.postponed = 0
        self.troubles: list[str] = []
        self.end = threading.Event()
        self._plan = plan
        self._random = random.Random(seed)
        self._log = home / plan.name / "app.log"
        self._old = self._log.parent / plan.old
        self._lock = home / f"{plan.name}.lock"
        self._journal = home / f"{plan.name}.journal"
        self._is_safe = is_safe
        self._is_opened = is_opened
        self._begun = 0  # generations that the writer has begun ...
        self._begun_before = 0  # ... and had before the last rotation
        self._journal_read = 0  # bytes
        self._rotated_at = 0.0  # seconds since the epoch
        self._command = self._configure(home, program)

    def run(self) -> None:
        while not self.end.wait(self._random.uniform(0.5, 1.5) * self._plan.every):
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - said by the verdict
                self.troubles.append(f"{type(error).__name__}: {error}")

    def _configure(self, home: Path, program: str) -> list[str]:
        name = self._plan.name
        told = "" if self._plan.copies else f"postrotate\nkill -USR1 $(cat {home}/{name}.pid)\nendscript\n"
        file = home / f"{name}.conf"
        file.write_text(f'"{self._log}" {{\n{self._plan.directives}\nmissingok\nnotifempty\n{told}}}\n')
        file.chmod(0o644)
        return [program, *(["-f"] if self._plan.force else []), "-s", f"{home}/{name}.state", str(file)]

    def _turn(self) -> None:
        if not self._may_rotate():
            self.postponed += 1
            return
        before, begun, now = self._look(), self._begun, time.time()
        with self._paused() if self._plan.copies else _unpaused():
            if self._plan.until_safe and not self._becomes_safe():
                self.postponed += 1
                return
            done = subprocess.run(self._command, capture_output=True, text=True, timeout=_TIME_LIMIT, check=False)
            after = self._look()
        if done.returncode != 0:
            self.troubles.append(done.stderr.strip())
        if after[0] != before[0] or after[1] < before[1]:
            self.rotations += 1
            self._begun_before, self._rotated_at = begun, now

    def _may_rotate(self) -> bool:
        """Whether the writer has noticed the last rotation, and nothing is taken away that is not safe."""
        self._read_journal()
        if self._begun <= self._begun_before:
            return False
        if self._plan.until_opened and not self._is_opened(self._look()[0], self._rotated_at):
            return False
        return all(self._is_safe(self._plan.name, path) for path in self._doomed())

    def _doomed(self) -> list[Path]:
        """What the next rotation deletes or compresses, of what the agent is to read."""
        if self._plan.until_safe:
            return []
        rotated = [path for path in self._old.glob("app.log?*") if path.suffix != ".gz"]
        rotated.sort(key=lambda path: path.stat().st_mtime_ns)
        return rotated[: max(0, len(rotated) + 1 - self._plan.plain)]

    def _becomes_safe(self) -> bool:
        for _ in range(int(_PATIENCE / _LOOK)):
            if self._is_safe(self._plan.name, self._log):
                return True
            if self.end.wait(_LOOK):
                break
        return False

    def _look(self) -> tuple[int, int]:
        """Inode and size of the log, zeros where there is none."""
        try:
            found = self._log.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size

    def _read_journal(self) -> None:
        with self._journal.open() as file:
            file.seek(self._journal_read)
            news = file.read()
        self._journal_read += len(news)
        self._begun += news.count("G")

    @contextmanager
    def _paused(self) -> Iterator[None]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def _unpaused() -> Iterator[None]:
    yield


def span_of(path: Path) -> tuple[int, int] | None:
    """The first and the last number in a file of the writer's lines; None where there is no whole line."""
    with path.open("rb") as file:
        first = file.readline()
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    if not first.endswith(b"\n"):
        return None
    return int(first.split(b" ", 2)[1]), int((last or first).split(b" ", 2)[1])
