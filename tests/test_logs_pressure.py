"""What many senders, slow answers and odd names must not do."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, check, rigs
from test_logs_deliver import one_batch

from agent.engine.clock import FakeClock
from agent.logs.deliver import Dispatcher


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    with rigs(tmp_path) as make:
        yield make


def test_senders_that_meet_the_same_outage_at_once_lengthen_the_pause_once() -> None:
    clock = FakeClock()
    alone, crowd = (Dispatcher(clock, random.Random(1)) for _ in range(2))
    batches = [one_batch(number, f"s{number}") for number in range(4)]
    for dispatcher, some in ((alone, batches[:1]), (crowd, batches)):
        for batch in some:
            dispatcher.submit(batch)
            assert dispatcher.take(clock.monotonic(), lambda: None) is batch
    wait = alone.postpone(batches[0], everywhere=True)
    assert [crowd.postpone(batch, everywhere=True) for batch in batches] == pytest.approx([wait] * 4)


def test_a_stream_has_more_batches_in_flight_only_where_answers_take_long() -> None:
    dispatcher = Dispatcher(FakeClock(), random.Random(1))
    assert dispatcher.busy_window == 2
    for _ in range(20):
        dispatcher.note_answer(0.05)
    assert dispatcher.busy_window == 4
    for _ in range(40):
        dispatcher.note_answer(0.002)
    assert dispatcher.busy_window == 2


def test_a_file_whose_name_is_no_text_is_shipped_and_remembered_like_any_other(make: Callable[..., Rig]) -> None:
    rig = make(Entry("*.log"))
    path = os.path.join(os.fsencode(rig.folder), b"\xff.log")
    Path(os.fsdecode(path)).write_text("one\n")
    rig.run(20)
    rig.restart()
    with open(path, "a") as file:
        file.write("two\n")
    rig.run(20)
    check(["one", "two"], rig.logs.messages())
