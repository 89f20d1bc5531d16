"""The real agent as a process, what it is measured against, and what the kernel says of it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.engine.control import SOCKET_NAME, ControlError, ask

_HERE = Path(__file__).parent
_LOOK_SECONDS = 0.05  # between two questions to the sink; the agent is not asked while it is measured


class Sink:
    """The sink of `sink.py` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, str(_HERE / "sink.py"), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/stats", timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def wait_for(self, events: int, timeout: float, meanwhile: Callable[[dict[str, Any]], object] = bool) -> bool:
        """Whether so many events arrived in time; `meanwhile` is called with each look at the figures."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            stats = self.stats()
            meanwhile(stats)
            if stats["events"] >= events:
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class StandinProcess:
    """The stand-ins of AWS in a process of their own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "agent.standin", "--directory", str(folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        about = json.loads(self._process.stdout.readline())
        self.url: str = about["url"]
        self.keys = {name: value for name, value in about["environment"].items() if "KEY" in name}

    def make_bucket(self, name: str) -> None:
        urllib.request.urlopen(
            f"{self.url}/_standin/buckets", json.dumps({"name": name}).encode(), timeout=10
        ).close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Agent:
    """`outlive run` with a configuration, against an endpoint; the same folder again is the same agent restarted."""

    def __init__(
        self, folder: Path, url: str, configuration: str, *, descriptors: int | None = None, **keys: str
    ) -> None:
        """`descriptors`: the soft limit of open files, where it is not to be this process's."""
        folder.mkdir(parents=True, exist_ok=True)
        self.run_dir = folder / "run"
        path = folder / "outlive.yaml"
        own = f"state_dir: '{folder}/state', run_dir: '{self.run_dir}', instance_id: i-bench, log_level: error"
        path.write_text(f"agent: {{{own}}}\naws: {{region: eu-west-1}}\n{configuration}")
        environment = {
            **os.environ, "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_EC2_METADATA_DISABLED": "true", **keys,
        }  # fmt: skip
        command = [sys.executable, "-m", "agent.cli", "run", "-c", str(path)]
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -Sn {descriptors}; exec "$@"', "sh", *command]
        self.started = time.time()
        self._process = subprocess.Popen(command, env=environment)
        self._clock = _cpu_clock(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def status(self) -> dict[str, Any] | None:
        try:
            return ask(str(self.run_dir / SOCKET_NAME), "status")
        except ControlError:
            return None

    def cpu(self) -> float:
        """CPU seconds, user and system, of all its threads so far. Raises AssertionError if it has ended."""
        assert self._process.poll() is None, "the agent has ended by itself"
        return time.clock_gettime(self._clock)

    def memory(self) -> tuple[float, float]:
        """RSS now and at its peak, in MB."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(lines["VmRSS"].split()[0]) / 1000, int(lines["VmHWM"].split()[0]) / 1000

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def wait_until_shipped(self, timeout: float) -> None:
        """Until every byte of every log file is acknowledged, as the agent itself says."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            status = self.status()
            if status and status["logs"] and all(file["acknowledged"] >= file["size"] > 0 for file in status["logs"]):
                return
            time.sleep(0.05)
        raise TimeoutError(f"not shipped in {timeout} s: {self.status()}")

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _cpu_clock(pid: int) -> int:
    """The clock that runs while the process does: clock_getcpuclockid(3), exact where /proc counts in ticks."""
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise OSError(error, os.strerror(error))
    return clock.value
