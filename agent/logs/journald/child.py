"""A journalctl process: argv, never a shell; a group of its own; read without waiting; ended by TERM, then KILL.

It needs no signal for the case that the agent dies: journalctl watches its output and ends when nobody is left to
read it, and so does any program that writes to such a pipe (SIGPIPE). PR_SET_PDEATHSIG would follow the thread that
started it, not the agent.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from agent.engine.clock import Clock

_KILL_AFTER = 2.0  # seconds between SIGTERM and SIGKILL
_KEPT_ERRORS = 4096  # bytes of what it says on stderr: the end
_ERRORS_AT_ONCE = 64 << 10  # bytes of it that are read in one turn
_REAP_SECONDS = 5.0  # for the kernel to end a process after SIGKILL
_ENVIRONMENT = {
    "LC_ALL": "C",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_LOG_TARGET": "console",
    "SYSTEMD_PAGER": "",
}


class Child:
    """One run. `read` until it gives b"", then `poll` until it gives the exit code; `close` at any time."""

    def __init__(self, argv: Sequence[str], clock: Clock) -> None:
        """Raises OSError if it can't be started."""
        self._clock = clock
        self._errors = b""
        self._end_at: float | None = None  # monotonic seconds when it is killed, once it was told to end
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdout, self._stderr = self._process.stdout, self._process.stderr
        for pipe in (self._stdout, self._stderr):
            os.set_blocking(pipe.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> int | None:
        """The descriptor of its output, until that has ended."""
        return None if self._stdout.closed else self._stdout.fileno()

    @property
    def errors(self) -> int | None:
        """The descriptor of what it says on stderr, until that has ended."""
        return None if self._stderr.closed else self._stderr.fileno()

    def read(self, most: int) -> bytes | None:
        """Up to `most` bytes of output; None: nothing now; b"": its output has ended. Never waits."""
        return _read(self._stdout, most)

    def said(self) -> str:
        """The end of what it has said on stderr so far."""
        data = _read(self._stderr, _ERRORS_AT_ONCE)
        if data:
            self._errors = (self._errors + data)[-_KEPT_ERRORS:]
        return self._errors.decode("utf-8", "replace").strip()

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        code = self._process.poll()
        if code is None and self._end_at is not None and self._clock.monotonic() >= self._end_at:
            self._signal(signal.SIGKILL)
        return code

    def end(self) -> None:
        """Tell it to end; `poll` sees to it that it does."""
        if self._end_at is None:
            self._end_at = self._clock.monotonic() + _KILL_AFTER
            self._signal(signal.SIGTERM)

    def close(self, grace: float = 0.0) -> None:
        """End it now, after up to `grace` seconds of its own; nothing of it is left."""
        self.end()
        if grace > 0:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self._signal(signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # not even that ends what hangs in the kernel
            self._process.wait(_REAP_SECONDS)
        self._stdout.close()
        self._stderr.close()

    def _signal(self, number: int) -> None:
        """To the whole group, as long as the process is not reaped: the number is another's afterwards."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _read(pipe: IO[bytes], most: int) -> bytes | None:
    """What is there; None: nothing now; b"": it has ended, and is closed."""
    if pipe.closed:
        return b""
    try:
        data = os.read(pipe.fileno(), most)
    except BlockingIOError:
        return None
    if not data:
        pipe.close()
    return data
