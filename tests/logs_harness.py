"""What the tests of logs stand on: real parts driven by hand, a CloudWatch Logs in memory, and time that is told.

`Rig` builds the parts as `agent.logs.job` does, on a real database, and steps them in simulated time; nothing sleeps.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import random
import resource
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from conftest import Said
from hypothesis import settings

from agent.aws.errors import AnswerLost, AwsError, NotFound, Refused
from agent.aws.limits import LOG_BATCH_BYTES, LOG_BATCH_EVENTS, LOG_BATCH_SPAN_MS, LOG_EVENT_BYTES, LOG_EVENT_OVERHEAD
from agent.aws.logs import Accepted, Logs
from agent.engine.clock import FakeClock
from agent.engine.database import Database
from agent.engine.events import Events
from agent.logs.compose import EventRules
from agent.logs.cursors import Cursors
from agent.logs.deliver import Dispatcher, Sender
from agent.logs.destination import Destinations, GroupWish
from agent.logs.discover import Patterns
from agent.logs.input import Input
from agent.logs.reader import Reader
from agent.logs.room import Limits, Room
from agent.logs.tail import Route, TailedFile

NOBODY = 65534  # a user without rights
STEPS = int(os.environ.get("OUTLIVE_STEPS", "500"))  # of the random machine; more of them look further everywhere
_TOO_OLD_MS = 14 * 86_400_000
_TOO_NEW_MS = 2 * 3_600_000
_STEPS = 100_000  # of one run: more means that the parts turn without end


def examples(count: int) -> settings:
    """So many random examples, the same ones each time; with more STEPS more of them, and others each time."""
    return settings(max_examples=max(1, count * STEPS // 500), deadline=None, derandomize=STEPS <= 500)


# -- CloudWatch Logs


@dataclass
class Call:
    """One PutLogEvents as it arrived."""

    group: str
    stream: str
    events: list[tuple[int, str]]
    outcome: str  # "ok", or the code of the error

    @property
    def messages(self) -> list[str]:
        return [message for _, message in self.events]

    @property
    def size(self) -> int:
        """Bytes as PutLogEvents counts."""
        return sum(len(message.encode()) + LOG_EVENT_OVERHEAD for _, message in self.events)


class FakeLogs(Logs):
    """In memory, with the limits of PutLogEvents.

    Source: docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html. Errors are planned in
    `down` (each call, until it is None), `next` (one a call, None for a call that works) and `denied` (by group);
    a batch with a message of which `poison` is true is refused whole. An AnswerLost among `next` comes after the
    events were accepted. `meanwhile` are called one after another, each inside one call, after it was accepted: what
    happens while an answer is on its way. Each call takes `seconds`.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.streams: dict[str, dict[str, list[tuple[int, str]]]] = {}
        self.retention: dict[str, int] = {}
        self.calls: list[Call] = []
        self.made: list[str] = []  # groups and "group stream", in order
        self.down: AwsError | None = None
        self.next: deque[AwsError | None] = deque()
        self.next_made: deque[AwsError | None] = deque()
        self.denied: dict[str, AwsError] = {}
        self.poison: Callable[[str], bool] = lambda _message: False
        self.meanwhile: deque[Callable[[], None]] = deque()
        self.seconds = 0.0

    # what the agent calls

    def put_log_events(self, body: bytes, events: int) -> Accepted:
        document = orjson.loads(body)
        found = [(event["timestamp"], event["message"]) for event in document["logEvents"]]
        assert len(found) == events
        call = Call(document["logGroupName"], document["logStreamName"], found, "ok")
        self.calls.append(call)
        self.clock.advance(self.seconds)
        try:
            accepted = self._put(call, body)
        except AwsError as error:
            call.outcome = error.code
            raise
        if self.meanwhile:
            self.meanwhile.popleft()()
        return accepted

    def create_group(self, name: str, log_class: str | None, kms_key: str | None, tags: Mapping[str, str]) -> bool:
        self._may_make(name)
        if name in self.streams:
            return False
        self.streams[name] = {}
        self.made.append(name)
        return True

    def create_stream(self, group: str, stream: str) -> bool:
        self._may_make(group)
        if group not in self.streams:
            raise NotFound("CreateLogStream", "ResourceNotFoundException", "The specified log group does not exist.")
        if stream in self.streams[group]:
            return False
        self.streams[group][stream] = []
        self.made.append(f"{group} {stream}")
        return True

    def describe_group(self, name: str) -> dict[str, Any] | None:
        if name not in self.streams:
            return None
        kept = {"retentionInDays": self.retention[name]} if name in self.retention else {}
        return {"logGroupName": name, "logGroupClass": "STANDARD", **kept}

    def put_retention(self, group: str, days: int) -> None:
        self.retention[group] = days

    # what a test asks

    def messages(self, group: str = "/g", stream: str = "s") -> list[str]:
        return [message for _, message in self.streams.get(group, {}).get(stream, [])]

    def accepted(self) -> list[Call]:
        return [call for call in self.calls if call.outcome == "ok"]

    def forget(self, group: str) -> None:
        """Somebody deletes the group."""
        del self.streams[group]

    def _may_make(self, group: str) -> None:
        planned = self.down or self.denied.get(group) or (self.next_made.popleft() if self.next_made else None)
        if planned is not None:
            raise planned

    def _put(self, call: Call, body: bytes) -> Accepted:
        planned = self.next.popleft() if self.next else None
        error = self.down or self.denied.get(call.group) or planned
        if error is not None and not isinstance(error, AnswerLost):
            raise error
        _check_limits(call)
        stream = self.streams.get(call.group, {}).get(call.stream)
        if stream is None:
            raise NotFound(
                "PutLogEvents", "ResourceNotFoundException", "The specified log stream does not exist.", 400
            )
        if any(map(self.poison, call.messages)):
            raise _refused("poison")
        accepted = self._keep(call, stream, hashlib.sha256(body).digest())
        if error is not None:
            raise error
        return accepted

    def _keep(self, call: Call, stream: list[tuple[int, str]], digest: bytes) -> Accepted:
        now = int(self.clock.time() * 1000)
        oldest = now - min(_TOO_OLD_MS, self.retention.get(call.group, 10_000) * 86_400_000)
        valid = [event for event in call.events if oldest <= event[0] <= now + _TOO_NEW_MS]
        if valid and valid[-1][0] - valid[0][0] > LOG_BATCH_SPAN_MS:
            raise _refused("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
        stream.extend(valid)
        too_old = sum(1 for event in call.events if event[0] < oldest)
        return Accepted(too_old, len(call.events) - too_old - len(valid), digest)


def _check_limits(call: Call) -> None:
    if not 1 <= len(call.events) <= LOG_BATCH_EVENTS:
        raise _refused(f"1 validation error detected: {len(call.events)} events")
    if not all(call.messages):
        raise _refused("1 validation error detected: a message must have length greater than or equal to 1")
    if max(len(message.encode()) for message in call.messages) > LOG_EVENT_BYTES:
        raise _refused("Log event too large")
    if call.size > LOG_BATCH_BYTES:
        raise _refused(f"Upload too large: {call.size} bytes exceeds limit of {LOG_BATCH_BYTES}")
    times = [time for time, _ in call.events]
    if times != sorted(times):
        raise _refused("Log events in a single PutLogEvents request must be in chronological order.")


def _refused(message: str) -> Refused:
    return Refused("PutLogEvents", "InvalidParameterException", message, 400)


class FakeSamples:
    """A SampleSink that remembers: (name, value, count, unit)."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float, int, str]] = []

    def sample(self, name: str, value: float, count: int, unit: str, dimensions: Mapping[str, str]) -> None:
        assert dimensions == {}
        self.taken.append((name, value, count, unit))


# -- the parts


@dataclass
class Entry:
    """What a test says of one entry of `logs.files`; `stream` may be made from the path."""

    path: str | Sequence[str]
    exclude: Sequence[str] = ()
    group: str = "/g"
    stream: str | Callable[[str], str] = "s"
    max_event: int = LOG_EVENT_BYTES
    flush: float = 5.0
    quiet: float = 5.0
    from_end: bool = False
    delete: bool = False
    rules: EventRules | None = None
    wish: GroupWish = field(default_factory=GroupWish)

    def route(self) -> Route:
        stream = self.stream
        name = (lambda _path: stream) if isinstance(stream, str) else stream
        label = stream if isinstance(stream, str) else "{file}"
        return Route(
            scope=f"{self.group} {label}",
            destination=lambda path, _epoch: (self.group, name(path)),
            wish=self.wish,
            max_event=self.max_event,
            rules=self.rules,
            flush_interval=self.flush,
            quiet=self.quiet,
        )

    def patterns(self, folder: Path) -> Patterns:
        """Paths that are not absolute lie in `folder`."""
        paths = [self.path] if isinstance(self.path, str) else self.path
        return Patterns([os.path.join(folder, path) for path in paths], self.exclude)


class Rig:
    """The parts of the job `logs`, stepped by hand. Log files lie in the folder `logs` of `home`, state beside it."""

    def __init__(
        self,
        home: Path,
        *entries: Entry,
        senders: int = 1,
        linger: float = 60.0,
        max_open: int = 1024,
        max_deleted: int = 1 << 30,
        tick: float = 0.0,
        clock: FakeClock | None = None,
        logs: FakeLogs | None = None,
        seed: int = 0,
    ) -> None:
        """`tick`: seconds that each step takes."""
        self.clock = clock or FakeClock()
        self.logs = logs or FakeLogs(self.clock)
        self.entries = entries
        self.said = Said()
        self.folder = home / "logs"
        self.folder.mkdir(exist_ok=True)
        self._state = home / "state.db"
        self._senders = senders
        self._tick = tick
        self._limits = Limits(linger, max_open, max_deleted)
        self._random = random.Random(seed)
        self._due: dict[str, float | None] = {}
        self._busy: set[str] = set()  # in a step that lets time pass
        self.start()

    def start(self) -> None:
        """Make all parts anew, from what the database says."""
        self.events = Events(self.said, self.clock)
        self.database = Database(str(self._state))
        self.cursors = Cursors(self.database, self.clock, self.events)
        self.dispatcher = Dispatcher(self.clock, self._random)
        self.room = Room(self._limits)
        self.inputs = [self._input(entry) for entry in self.entries]
        self.reader = Reader(self.inputs, self.clock, self.room)
        destinations = Destinations(self.logs, self.clock, self.events)
        self.senders = [self._sender(number, destinations) for number in range(self._senders)]
        self._busy.clear()
        self._due = {"reader": 0.0, **{sender.name: 0.0 for sender in self.senders}}

    def crash(self) -> None:
        """End as kill -9 does: nothing is said, nothing is saved."""
        for file in self.files:
            if file.descriptor >= 0:
                os.close(file.descriptor)
                file.descriptor = -1
        self.database.close()

    def stop(self) -> None:
        """End in order, as after SIGTERM, without a flush."""
        for input_ in self.inputs:
            input_.close()
        self.database.close()

    def restart(self, *entries: Entry) -> None:
        """Stop and start, with other entries if some are given."""
        self.stop()
        self.entries = entries or self.entries
        self.start()

    def run(self, seconds: float) -> None:
        """Let simulated time pass, each part stepped when it is due."""
        until = self.clock.monotonic() + seconds
        for _ in range(_STEPS):
            name, due = self._first()
            if due > until:
                self.clock.advance(max(0.0, until - self.clock.monotonic()))
                return
            self.clock.advance(max(0.0, due - self.clock.monotonic()))
            self._step(name)
        raise AssertionError("the parts turn without end")

    def hurry(self, on: bool = True) -> None:
        """As a drain does."""
        self.dispatcher.hurry(on)
        self.reader.set_hurry(on)
        self.wake()

    def wake(self) -> None:
        for name in self._due:
            self._due[name] = 0.0

    def path(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, messages: Sequence[str]) -> None:
        """Append lines to a file of the folder; it is made if it is not there."""
        append(self.path(name), messages)

    def rotate(self, name: str, *older: str) -> None:
        """Rename each file to the next name, from the oldest on, so that `name` is free."""
        names = [name, *older]
        for source, target in reversed(list(pairwise(names))):
            if self.path(source).exists():
                self.path(source).rename(self.path(target))

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change what the database says of each cursor, while nothing runs."""
        database = Database(str(self._state))
        with database.transaction() as connection:
            for id_, document in connection.execute("SELECT id, cursor FROM log_cursors").fetchall():
                cursor = orjson.loads(document)
                change(cursor)
                connection.execute("UPDATE log_cursors SET cursor = ? WHERE id = ?", (orjson.dumps(cursor), id_))
        database.close()

    @property
    def input(self) -> Input:
        return self.inputs[0]

    @property
    def files(self) -> list[TailedFile]:
        return [file for input_ in self.inputs for file in input_]

    def counter(self, name: str) -> int:
        return self.events.counters().get(name, 0)

    def rows(self) -> list[dict[str, Any]]:
        """What the database knows of cursors."""
        return [orjson.loads(row[0]) for row in self.database.read("SELECT cursor FROM log_cursors ORDER BY id")]  # type: ignore[arg-type]

    def _first(self) -> tuple[str, float]:
        waiting = {name: due for name, due in self._due.items() if due is not None and name not in self._busy}
        name = min(waiting, key=lambda each: waiting[each])
        return name, waiting[name]

    def _step(self, name: str) -> None:
        now = self.clock.monotonic()
        worker = self.reader if name == "reader" else next(each for each in self.senders if each.name == name)
        self._due[name] = now + 1.0  # if it fails
        self._busy.add(name)
        try:
            next_time = worker.step(now)
        finally:
            self._busy.remove(name)
        if self._due[name] == now + 1.0:  # nobody woke it
            self._due[name] = next_time
        self.clock.advance(self._tick)

    def _input(self, entry: Entry) -> Input:
        return Input(
            entry.patterns(self.folder),
            entry.route(),
            self.room,
            self.cursors,
            self.dispatcher,
            self.events,
            folder=str(self._state.parent),
            from_end=entry.from_end,
            delete=entry.delete,
        )

    def _sender(self, number: int, destinations: Destinations) -> Sender:
        name = f"sender-{number}"
        settled = partial(self._wake, "reader")
        sender = Sender(name, self.dispatcher, self.logs, destinations, self.clock, self.events, settled)
        sender.wake = partial(self._wake, name)
        return sender

    def _wake(self, name: str) -> None:
        self._due[name] = 0.0


# -- what tests write and how they judge


def lines(count: int, start: int = 0, word: str = "line") -> list[str]:
    return [f"{word} {number:06d}" for number in range(start, start + count)]


@contextmanager
def rigs(home: Path) -> Iterator[Callable[..., Rig]]:
    """Makes a Rig in `home`, and lets go of all of them at the end."""
    made: list[Rig] = []

    def make(*entries: Entry, **options: Any) -> Rig:
        made.append(Rig(home, *entries, **options))
        return made[-1]

    try:
        yield make
    finally:
        for rig in made:
            rig.crash()


def append(path: Path, messages: Iterable[str]) -> None:
    with path.open("ab") as file:
        file.write("".join(f"{message}\n" for message in messages).encode())


def copytruncate(path: Path, copy: Path) -> None:
    """As logrotate does it: copy, then truncate in place."""
    copy.write_bytes(path.read_bytes())
    os.truncate(path, 0)


def check(written: Sequence[str], arrived: Sequence[str], *, duplicates: int = 0) -> None:
    """Everything written has arrived, nothing else has, and at most so many times more than once."""
    assert written, "a test that writes nothing shows nothing"
    wanted, found = Counter(written), Counter(arrived)
    assert not wanted - found, f"lost: {list((wanted - found).elements())[:5]}"
    assert found.keys() <= wanted.keys(), f"made up: {sorted(found.keys() - wanted.keys())[:5]}"
    surplus = len(arrived) - len(written)
    assert surplus <= duplicates, f"{surplus} duplicates, {duplicates} allowed"


def check_order(written: Sequence[str], arrived: Sequence[str]) -> None:
    """The first arrivals are in the order of writing."""
    assert written, "a test that writes nothing shows nothing"
    wanted = set(written)
    assert list(dict.fromkeys(message for message in arrived if message in wanted)) == list(dict.fromkeys(written))


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder, and for root the rights of nobody, so that file modes count."""
    root = os.geteuid() == 0
    if root:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process may open no file more (EMFILE)."""
    codecs.lookup("ascii")  # one that is not found now would be missing to the end of the process
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
