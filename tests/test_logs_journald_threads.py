"""The journal's own thread: it comes back when it is woken, and at a stop nothing of it is left."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Said, eventually
from journald_kit import FakeJournal, entry
from logs_harness import FakeLogs

from agent.aws.errors import Transient
from agent.config.sections.logs import Journal
from agent.engine.clock import FakeClock, SystemClock
from agent.engine.database import Database
from agent.engine.events import Events
from agent.engine.workers import WorkerThread
from agent.logs.deliver import Dispatcher, Sender
from agent.logs.destination import Destinations
from agent.logs.journald.journals import Journals


class Threads:
    """As the job `logs` runs them: a sender's thread and the journal's."""

    def __init__(self, home: Path) -> None:
        clock = SystemClock()
        self.journal = FakeJournal(home / "journal")
        self.logs = FakeLogs(FakeClock())
        self.database = Database(str(home / "state.db"))
        events = Events(Said(), clock)
        dispatcher = Dispatcher(clock, random.Random(1))
        self.journals = Journals(
            [Journal(group="/g", stream="s")], 0.02, dispatcher, self.database, clock, events, random.Random(1),
            program=self.journal.program,
        )  # fmt: skip
        destinations = Destinations(self.logs, clock, events)
        sender = Sender("sender", dispatcher, self.logs, destinations, clock, events, self.journals.wake)
        self.sender = WorkerThread("sender", [sender], clock, events)
        sender.wake = self.sender.wake
        for thread in (self.sender, *self.journals.threads):
            thread.start()

    def close(self) -> None:
        assert self.journals.stop(5.0)
        self.sender.stop()
        assert self.sender.join(5.0)
        self.database.close()
        assert self.journal.alive() == []

    def has_arrived(self, count: int) -> bool:
        return len(self.logs.messages()) == count


@pytest.fixture
def threads(tmp_path: Path) -> Iterator[Threads]:
    with closing(Threads(tmp_path)) as threads:
        yield threads


def now_entry(number: int) -> dict[str, object]:
    """Young enough for the wall clock; what CloudWatch takes is measured by the harness's own."""
    return {**entry(number), "__REALTIME_TIMESTAMP": str(int(time.time() * 1e6))}


def test_an_entry_arrives_though_nobody_asks(threads: Threads) -> None:
    threads.logs.clock.set_time(time.time())
    threads.journal.write(now_entry(1))
    assert eventually(lambda: threads.has_arrived(1))
    threads.journal.write(now_entry(2))
    assert eventually(lambda: threads.has_arrived(2))


def test_a_drain_wakes_it_and_comes_to_its_end(threads: Threads) -> None:
    threads.logs.clock.set_time(time.time())
    threads.journal.plan(deaf=True)
    assert eventually(lambda: any("--follow" in argv for argv in threads.journal.calls()))
    threads.journal.write(now_entry(1))
    threads.journals.hurry(True)
    assert eventually(lambda: threads.journals.is_quiet)
    assert threads.has_arrived(1)


def test_a_flush_ends_when_all_is_settled_and_says_when_it_is_not(threads: Threads) -> None:
    threads.logs.clock.set_time(time.time())
    threads.journal.write(now_entry(1))
    assert eventually(lambda: threads.has_arrived(1))
    assert threads.journals.flush(time.monotonic() + 5.0)
    threads.journals.hurry(False)
    threads.logs.down = Transient("PutLogEvents", "ServiceUnavailableException", "later", 503)
    threads.journal.write(now_entry(2))
    assert eventually(lambda: threads.journals.owed > 0)
    assert not threads.journals.flush(time.monotonic() + 0.05)


def test_a_stop_comes_back_at_once_though_the_journal_is_silent(threads: Threads) -> None:
    assert eventually(lambda: any("--follow" in argv for argv in threads.journal.calls()))
    began = time.monotonic()
    assert threads.journals.stop(5.0)
    assert time.monotonic() - began < 2.0
    assert threads.journal.alive() == []
