"""What the tests of journald stand on: a journalctl over a file of entries, and the parts, stepped by hand.

The real journalctl is tried in tests/test_logs_journald_real.py. The clock stands still unless a test moves it;
processes and pipes are real, so that `Rig.run` steps until something is true.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from conftest import Said
from logs_harness import FakeLogs

from agent.config.sections.logs import Journal
from agent.engine.clock import FakeClock
from agent.engine.database import Database
from agent.engine.events import Events
from agent.logs.deliver import Dispatcher, Sender
from agent.logs.destination import Destinations
from agent.logs.journald.input import Memory
from agent.logs.journald.journals import Journals

BOOT = "b" * 32
SEQUENCE = "5" * 32
NOW = 1_700_000_000.0  # where FakeClock begins
_RUN_SECONDS = 10.0  # of real time until something must have become true

# Plans, read from a file beside the journal: `errors` (stderr), `code`, `check_*` (of the call without JSON), `hang`
# (stay silent for ever), `deaf` (follow nothing), `stubborn` (ignore SIGTERM), `closes` (close the output and stay),
# `half` (stop in the middle of a line).
_JOURNALCTL = r"""
import json, os, signal, sys, time
home = HOME
args, options = [], {}
for arg in sys.argv[1:]:
    name, _, value = arg.partition("=")
    if name.startswith("--"):
        options.setdefault(name, []).append(value)
    else:
        args.append((name, value))
with open(home + "/calls", "a") as file:
    file.write(json.dumps([os.getpid(), *sys.argv[1:]]) + "\n")
try:
    plan = json.load(open(home + "/plan"))
except FileNotFoundError:
    plan = {}
check = options["--output"] != ["json"]
prefix = "check_" if check else ""
if plan.get("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stderr.write(plan.get(prefix + "errors", ""))
sys.stderr.flush()
if plan.get(prefix + "hang"):
    while True:
        time.sleep(60)
if plan.get(prefix + "code") is not None:
    sys.exit(plan[prefix + "code"])
if check:
    sys.exit(0)
follow = "--follow" in options
cursor = options.get("--cursor", [None])[0]
since = options.get("--since", [None])[0]
if cursor is not None and ";" not in cursor:
    sys.stderr.write("Failed to seek to cursor: Invalid argument\n")
    sys.exit(1)
units = options.get("--unit", [])
NAMES = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
priority = NAMES.index(options["--priority"][0]) if "--priority" in options else None
fields = set(options["--output-fields"][0].split(","))

def parts(text):
    return dict(part.split("=", 1) for part in text.split(";"))

def before(entry):
    if since is not None:
        return int(entry["__REALTIME_TIMESTAMP"]) < round(float(since[1:]) * 1e6)
    own, wanted = parts(entry["__CURSOR"]), parts(cursor)
    if own["s"] == wanted["s"]:
        return int(own["i"], 16) < int(wanted["i"], 16)
    if own["b"] == wanted["b"]:
        return int(own["m"], 16) < int(wanted["m"], 16)
    return int(own["t"], 16) < int(wanted["t"], 16)

def meant(entry):
    if follow and entry["_BOOT_ID"] != "BOOT":
        return False
    about = entry.get("UNIT") if entry.get("_PID") == "1" else None
    if units and entry.get("_SYSTEMD_UNIT") not in units and about not in units:
        return False
    if priority is not None and int(entry.get("PRIORITY", 9)) > priority:
        return False
    return all(entry.get(name) == value for name, value in args)

def show(line, started):
    if not line.startswith('{"__CURSOR"'):  # garbage comes as it is
        os.write(1, line.encode())
        return started
    entry = json.loads(line)
    if not started and before(entry):
        return False
    if meant(entry):
        shown = {k: v for k, v in entry.items() if k in fields or k.startswith("__") or k == "_BOOT_ID"}
        data = (json.dumps(shown, ensure_ascii=False) + "\n").encode()
        while data:
            data = data[os.write(1, data):]
    return True

started, rest = False, ""
journal = open(home + "/journal", encoding="utf-8")
while True:
    line = journal.readline()
    if line.endswith("\n"):
        started = show(rest + line, started)
        rest = ""
        continue
    rest += line
    if not follow:
        break
    if plan.get("half"):
        os.write(1, b'{"MESSAGE": "ha')
        time.sleep(600)
    if plan.get("closes"):
        os.close(1)
        time.sleep(600)
    if plan.get("deaf"):
        time.sleep(600)
    time.sleep(0.005)
if plan.get("late_code"):
    sys.exit(plan["late_code"])
"""


def entry(number: int, message: Any = None, *, boot: str = BOOT, age: float = 0.0, **fields: str) -> dict[str, Any]:
    """The entry of that number, `age` seconds old."""
    realtime = int((NOW - age) * 1e6) + number
    monotonic = int(1000.0 * 1e6) - 900_000_000 + number
    cursor = f"s={SEQUENCE};i={number:x};b={boot};m={monotonic:x};t={realtime:x};x={number:x}"
    return {
        "__CURSOR": cursor,
        "__REALTIME_TIMESTAMP": str(realtime),
        "__MONOTONIC_TIMESTAMP": str(monotonic),
        "_BOOT_ID": boot,
        "MESSAGE": f"line {number}" if message is None else message,
        "PRIORITY": "6",
        "_SYSTEMD_UNIT": "a.service",
        "_PID": "77",
        "SYSLOG_IDENTIFIER": "a",
        **fields,
    }


class FakeJournal:
    """A journal and a journalctl in a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        self.program = str(home / "journalctl")
        script = _JOURNALCTL.replace("HOME", repr(str(home))).replace('"BOOT"', repr(BOOT))
        Path(self.program).write_text(f"#!{sys.executable} -IS\n{script}")
        Path(self.program).chmod(0o755)
        self.file = home / "journal"
        self.file.write_text("")

    def write(self, *entries: Mapping[str, Any] | str) -> None:
        """Append entries, or lines as they are."""
        with self.file.open("a") as file:
            for each in entries:
                file.write(each if isinstance(each, str) else json.dumps(each) + "\n")

    def vacuum(self, *kept: Mapping[str, Any]) -> None:
        """Only these are left."""
        self.file.unlink()
        self.write(*kept)

    def plan(self, **plan: Any) -> None:
        """How journalctl behaves from its next start on."""
        (self.home / "new").write_text(json.dumps(plan))
        os.replace(self.home / "new", self.home / "plan")

    def calls(self) -> list[list[Any]]:
        """Process ids and arguments."""
        with suppress(FileNotFoundError):
            return [json.loads(line) for line in (self.home / "calls").read_text().splitlines()]
        return []

    def alive(self) -> list[int]:
        """Those of its processes that run."""
        return [pid for pid, *_ in self.calls() if _is_alive(pid)]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Rig:
    """The parts as the job `logs` has them, on a real database; one sender, everything stepped by hand."""

    def __init__(self, home: Path, *entries: Mapping[str, Any], journal: FakeJournal | None = None) -> None:
        self.clock = FakeClock()
        self.logs = FakeLogs(self.clock)
        self.said = Said()
        self.journal = journal or FakeJournal(home / "journal")
        self.program = self.journal.program
        self.home = home
        self.entries = entries or ({},)
        self.sending = True
        self.memory: Memory | None = None
        self.start()

    def start(self) -> None:
        self.events = Events(self.said, self.clock)
        self.database = Database(str(self.home / "state.db"))
        self.dispatcher = Dispatcher(self.clock, random.Random(1))
        configured = [Journal(**{"group": "/g", "stream": "s", **each}) for each in self.entries]
        self.journals = Journals(configured, 5.0, self.dispatcher, self.database, self.clock, self.events,
                                 random.Random(1), program=self.program, boot=BOOT,
                                 memory=self.memory)  # fmt: skip
        destinations = Destinations(self.logs, self.clock, self.events)
        self.sender = Sender("sender", self.dispatcher, self.logs, destinations, self.clock, self.events,
                             lambda: None)  # fmt: skip

    def crash(self) -> None:
        """End as kill -9 does, as far as one process can: nothing is said or saved."""
        self.journals.close()
        self.database.close()

    def restart(self, *entries: Mapping[str, Any]) -> None:
        self.crash()
        self.entries = entries or self.entries
        self.start()

    def step(self) -> None:
        now = self.clock.monotonic()
        due = self.journals.step(now)
        if self.sending:
            self.sender.step(now)
        if due > now:
            self.journals.listen(0.005)

    def run(self, until: Callable[[], bool]) -> None:
        """Step until it is so."""
        end = time.monotonic() + _RUN_SECONDS
        while not until():
            assert time.monotonic() < end, "it never became true"
            self.step()

    def settle(self) -> None:
        """Step until the journal's present end is read and settled."""
        self.journals.hurry(True)
        self.run(lambda: self.journals.is_quiet)
        self.journals.hurry(False)
        self.step()

    def events_in(self, stream: str = "s") -> list[dict[str, Any]]:
        return [orjson.loads(message) for message in self.logs.messages("/g", stream)]

    def messages(self, stream: str = "s") -> list[str]:
        return [each["message"] for each in self.events_in(stream)]

    def counter(self, name: str) -> int:
        return self.events.counters().get(name, 0)

    def saved(self) -> list[dict[str, Any]]:
        return [orjson.loads(row[0]) for row in self.database.read("SELECT cursor FROM journal_cursors")]  # type: ignore[arg-type]

    @property
    def argv(self) -> list[list[str]]:
        """Of each call so far."""
        return [argv for _pid, *argv in self.journal.calls()]


def numbers(*wanted: int) -> list[str]:
    return [f"line {number}" for number in wanted]


@contextmanager
def rigs(home: Path) -> Iterator[Callable[..., Rig]]:
    """Makes rigs, and lets go of them at the end: no process is left."""
    made: list[Rig] = []

    def make(*entries: Mapping[str, Any]) -> Rig:
        made.append(Rig(home, *entries))
        return made[-1]

    try:
        yield make
    finally:
        for rig in made:
            rig.crash()
            assert rig.journal.alive() == []


def following(rig: Rig) -> Callable[[], bool]:
    """Whether some journalctl follows now."""
    return lambda: any("--follow" in argv and _is_alive(pid) for pid, *argv in rig.journal.calls())


def pid_of(rig: Rig, words: Sequence[str]) -> int:
    """The latest live process whose arguments have all of these."""
    calls = reversed(rig.journal.calls())
    return next(int(pid) for pid, *argv in calls if all(word in argv for word in words) and _is_alive(pid))
