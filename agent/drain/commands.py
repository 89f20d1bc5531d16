"""The configured commands: started, looked after and ended without ever waiting in a step.

argv, never a shell; own process group; TERM, then KILL; output kept up to a bound.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from typing import IO

from agent.config.sections.drain import Step
from agent.engine.clock import Clock

_KILL_AFTER = 5.0  # seconds between SIGTERM and SIGKILL
_KEPT_OUTPUT_BYTES = 4096  # the end of a command's output that is logged
_PASSED_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME")


class RunningCommand:
    """One run of one command. `poll` until it gives an exit code."""

    def __init__(self, step: Step, environment: Mapping[str, str], deadline: float, clock: Clock) -> None:
        """`deadline` in monotonic seconds. Raises OSError if it can't be started."""
        self.step = step
        self._clock = clock
        self._started = clock.monotonic()
        self._term_at = min(self._started + step.timeout, deadline)
        self._kill_at: float | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        passed = {name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ}
        try:
            self._process = subprocess.Popen(
                list(step.run),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env={**passed, **environment},
                start_new_session=True,
            )
        except BaseException:
            self._output.close()
            raise

    @property
    def seconds(self) -> float:
        return self._clock.monotonic() - self._started

    @property
    def timed_out(self) -> bool:
        return self._kill_at is not None

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        code = self._process.poll()
        if code is None:
            self._enforce()
        return code

    def output(self) -> str:
        """The end of what it printed."""
        size = os.fstat(self._output.fileno()).st_size
        tail = os.pread(self._output.fileno(), _KEPT_OUTPUT_BYTES, max(0, size - _KEPT_OUTPUT_BYTES))
        return tail.decode("utf-8", "replace")

    def close(self) -> None:
        """Let go of it; what it left running in its group is ended."""
        self._signal(signal.SIGKILL)
        if self._process.poll() is None:
            self._process.wait()
        self._output.close()

    def _enforce(self) -> None:
        now = self._clock.monotonic()
        if self._kill_at is None and now >= self._term_at:
            self._signal(signal.SIGTERM)
            self._kill_at = now + _KILL_AFTER
        elif self._kill_at is not None and now >= self._kill_at:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return
