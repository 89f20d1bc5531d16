"""The real agent as a child process against the stand-ins: what the system tests stand on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.standin.standin import Standin

PATIENCE = 60.0  # seconds until a condition that a test waits for counts as broken
_LOOK = 0.02


def eventually(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """The first true value of the condition; an AssertionError if none comes in time."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(_LOOK)
    raise AssertionError(f"not within {patience} s: {condition}")


class RealAgent:
    """`outlive` with one configuration in one folder."""

    def __init__(self, folder: Path, standin: Standin, configuration: str, **environment: str) -> None:
        self.folder = folder
        self.file = folder / "outlive.yaml"
        own = f"agent: {{state_dir: {folder}/state, run_dir: {folder}/run, stop_timeout: 3s}}\n"
        self.file.write_text(own + configuration)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment = {**plain, **standin.environment(), **environment}
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command("run"), env=self.environment, stdout=log, stderr=log)

    def running(self) -> RealAgent:
        """Start it and wait until it answers."""
        self.start()
        eventually(lambda: self.ended() is not None or self.status())
        return self

    def command(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agent.cli", name, "-c", str(self.file), *arguments]

    def call(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of the command line, run to its end."""
        command = self.command(name, *arguments)
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def status(self) -> dict[str, Any] | None:
        from agent.engine.control import SOCKET_NAME, ControlError, ask

        try:
            return ask(str(self.folder / "run" / SOCKET_NAME), "status")
        except ControlError:
            return None

    def ended(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        assert self.process is not None
        return self.process.wait(timeout=patience)

    def terminate(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self.wait()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The agent's own log: all events of that name."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
