"""What many tests stand on: a clock moved by hand, a log that remembers, the stand-in and the way there."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from agent.aws.session import Aws
from agent.engine.clock import FakeClock, SystemClock
from agent.engine.events import Events
from agent.standin.standin import Standin

_OURS = ("AWS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

Environment = Callable[[Mapping[str, str]], AbstractContextManager[None]]


class Said:
    """A logger that remembers: what was said is in `lines`, as (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        self.lines.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append(("error", event, fields))

    def names(self) -> list[str]:
        return [event for _, event, _ in self.lines]

    def fields(self, event: str) -> list[dict[str, Any]]:
        """The fields of each time that `event` was said."""
        return [fields for _, name, fields in self.lines if name == event]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def events(said: Said, clock: FakeClock) -> Events:
    return Events(said, clock)


@pytest.fixture
def standin() -> Iterator[Standin]:
    """AWS on 127.0.0.1, at the wall clock's time."""
    with Standin.start() as standin:
        yield standin


@pytest.fixture
def environment() -> Environment:
    """`with environment({...}):` the process has these variables, and none that AWS's SDKs heed beside them."""
    return environment_of


@pytest.fixture
def aws(standin: Standin, environment: Environment) -> Iterator[Aws]:
    """The way into AWS, led to the stand-in by the environment."""
    with environment(standin.environment()), closing(Aws(standin.region, SystemClock())) as aws:
        yield aws


@contextmanager
def environment_of(wanted: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.upper().startswith(_OURS):
            del os.environ[name]
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def eventually(predicate: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether `predicate` holds before the time is up: for what another thread or process is about to do."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not predicate():
        if time.monotonic() >= until:
            return False
        pause.wait(0.001)
    return True


def as_user(uid: int, work: Callable[[], object]) -> str:
    """What `work` returns, as text, in a child process that runs as another user; an exception is its name.

    Modules that `work` needs must be imported already: the user may not be able to read them.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _work_as(uid, work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


def _work_as(uid: int, work: Callable[[], object], writer: int) -> NoReturn:
    try:
        os.setgroups([])
        os.setegid(uid)
        os.seteuid(uid)
        answer = str(work())
    except BaseException as error:  # noqa: BLE001 - it is handed to the parent
        answer = type(error).__name__
    os.write(writer, answer.encode())
    os._exit(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """An empty directory of root's that every user may enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can be several users")
    with tempfile.TemporaryDirectory(prefix="outlive-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@contextmanager
def tiny_disk(*, kilobytes: int, read_only: bool = False, at: Path | None = None) -> Iterator[Path]:
    """A file system of its own, so small that it can be filled; mounted on the folder `at`, or on a new one."""
    with tempfile.TemporaryDirectory(prefix="outlive-disk-") as spare:
        folder = str(at or spare)
        options = f"size={kilobytes}k,mode=0755{',ro' if read_only else ''}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            if subprocess.run(["umount", folder], capture_output=True, check=False).returncode != 0:
                subprocess.run(["umount", "--lazy", folder], check=True)
                pytest.fail("something on the tiny disk is still open")
