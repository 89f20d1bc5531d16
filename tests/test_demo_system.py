"""The demo itself, shortened: real processes, real files, real UDP; and its end by Ctrl-C."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

PROGRAM = """
import sys
from rich.console import Console
from agent.demo.show import Settings, perform
sys.exit(perform(Settings(pace=0.1), Console(width=100)))
"""


@pytest.fixture
def place():
    """Where the demo makes its folder: a short path, for the agent's socket."""
    with tempfile.TemporaryDirectory(prefix="od-") as path:
        yield path


def begin(place):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": place},
    )


def processes_with(text):
    """Command lines of running processes that mention `text`."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_the_demo_proves_everything_and_leaves_nothing(place):
    with begin(place) as demo:
        said = demo.communicate(timeout=60)[0]
    lines = said.strip().split("\n")
    assert demo.returncode == 0, said
    assert lines[-1].startswith("PROVEN: ")
    for title in ("AWS outage", "kill -9", "Termination", "The check"):
        assert sum(f"s  {title}: " in line for line in lines) == 1
    assert "access.log.2" in said
    assert "10 of 10 in shop-uploads" in said
    assert os.listdir(place) == []
    assert processes_with(place) == []


def test_ctrl_c_ends_the_children_and_says_so(place):
    with begin(place) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "A busy shop" in line:
                break
        assert len(processes_with(place)) == 2
        demo.send_signal(signal.SIGINT)
        said = demo.communicate(timeout=20)[0]
    assert demo.returncode == 130
    assert said.strip().split("\n")[-1].startswith("interrupted; ended: the agent (process ")
    assert "the stand-ins (process " in said
    assert "Traceback" not in said
    assert os.listdir(place) == []
    assert processes_with(place) == []
