"""Waiting and taking turns: candidates, gate, pace, throughput, parts, sources."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.aws.limits import OBJECT_BYTES_MAX, PART_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX
from agent.aws.s3 import Part
from agent.engine.clock import FakeClock
from agent.engine.database import Database
from agent.engine.files import ManyLinks
from agent.uploads.gate import POLL, Gate
from agent.uploads.journal import Begun, Journal
from agent.uploads.multipart import PartRules
from agent.uploads.pace import BLOCK, Pace, Stopped
from agent.uploads.settle import Candidate, Candidates, State
from agent.uploads.source import Source, SourceChanged
from agent.uploads.throughput import Throughput
from agent.uploads.tree import stamp_of

PLACE = SimpleNamespace(place=1, path="/d", follow=False)


def candidate(name: str, due: float = 0.0, size: int = 10) -> Candidate:
    return Candidate(PLACE, name, (size, 0, 0, 0), due, 0.0)  # type: ignore[arg-type]


# candidates


def test_candidates_are_due_in_order_and_once() -> None:
    candidates = Candidates(random.Random(1))
    for name, due in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        candidates.add(candidate(name, due))
    assert candidates.next_due() == 1.0
    assert [each.relative for each in candidates.due(2.0, 9)] == ["a", "b"]
    assert candidates.due(2.0, 9) == []
    assert candidates.busy == 2
    assert (len(candidates), candidates.bytes) == (3, 30)


def test_a_later_due_time_moves_a_candidate_back_and_an_earlier_one_forward() -> None:
    candidates = Candidates(random.Random(1))
    one = candidate("a", 1.0)
    candidates.add(one)
    candidates.wait(one, 5.0)
    assert candidates.due(4.9, 9) == []
    candidates.hurry(2.0)
    assert candidates.due(2.0, 9) == [one]
    assert candidates.due(9.0, 9) == []


def test_a_candidate_that_is_removed_is_not_due_any_more() -> None:
    candidates = Candidates(random.Random(1))
    one = candidate("a", 1.0)
    candidates.add(one)
    candidates.remove(one)
    assert candidates.due(9.0, 9) == []
    assert (len(candidates), candidates.bytes, candidates.busy) == (0, 0, 0)
    again = candidate("a", 2.0)
    candidates.add(again)
    assert candidates.due(9.0, 9) == [again]


def test_failures_are_tried_again_ever_later_up_to_a_bound() -> None:
    candidates = Candidates(random.Random(1))
    one = candidate("a")
    candidates.add(one)
    waits, now = [], 0.0
    for _ in range(40):
        assert candidates.due(now, 1) == [one]
        candidates.fail(one, "no", now, cap=300.0)
        waits.append(one.due - now)
        now = one.due
    assert max(waits[:2]) <= 2.0
    assert 60.0 < max(waits) <= 300.0
    assert candidates.failing == 1
    candidates.remove(one)
    assert candidates.failing == 0


@given(st.lists(st.tuples(st.sampled_from("adfhrw"), st.integers(0, 3), st.integers(0, 9)), max_size=60))
def test_the_sums_agree_with_the_candidates_whatever_happens(acts: list[tuple[str, int, int]]) -> None:
    candidates = Candidates(random.Random(1), most_failing=2)
    now = 0.0
    for act, number, value in acts:
        now += value
        found = candidates.find(1, str(number))
        if act == "a" and found is None:
            candidates.add(candidate(str(number), now + value, value))
        elif act == "d":
            candidates.due(now, value)
        elif act == "h":
            candidates.hurry(now)
        elif found is not None and act == "r":
            candidates.remove(found)
        elif found is not None and act == "f":
            candidates.fail(found, "no", now, 60.0)
        elif found is not None and act == "w":
            candidates.change(found, (value, 1, 1, 1), now + value)
        everyone = list(candidates)
        assert candidates.bytes == sum(each.size for each in everyone)
        assert candidates.busy == sum(each.state is State.READY for each in everyone)
        assert candidates.failing == sum(each.error is not None for each in everyone) <= 2
    waiting = {each.relative for each in candidates if each.state is State.WAITING}
    assert {each.relative for each in candidates.due(1e9, 1_000)} == waiting


# the gate


def test_trouble_halves_what_may_be_under_way_and_success_raises_it_again() -> None:
    gate = Gate(8, random.Random(1))
    for _ in range(8):
        assert gate.wait(0.0) == 0.0
        gate.enter()
    assert gate.wait(0.0) == POLL
    gate.leave(0.0, well=False)
    pause = gate.wait(0.0)
    assert 0.0 < pause <= 0.5
    for _ in range(7):
        gate.leave(0.0, well=False)  # they were under way: this is the same trouble
    assert gate.wait(0.0) == pause
    inside = 0
    while gate.wait(pause) == 0.0:
        gate.enter()
        inside += 1
    assert inside == 4
    for _ in range(60):
        gate.leave(pause, well=True)
        gate.enter()
    while gate.wait(pause) == 0.0:
        gate.enter()
        inside += 1
    assert inside == 8


def test_a_bucket_in_trouble_is_probed_by_one_and_ever_less_often() -> None:
    gate, now, probes = Gate(8, random.Random(1)), 0.0, 0
    while now < 3_600.0:
        wait = gate.wait(now)
        if wait > 0.0:
            now += wait
            continue
        gate.enter()
        assert gate.wait(now) >= (POLL if probes > 3 else 0.0)
        gate.leave(now, well=False)
        probes += 1
    assert probes < 200


def test_trouble_with_a_file_is_none_of_the_gate() -> None:
    gate = Gate(1, random.Random(1))
    gate.enter()
    gate.leave(0.0, well=None)
    assert gate.wait(0.0) == 0.0


# the pace


def test_bytes_pass_no_faster_than_allowed() -> None:
    clock = FakeClock()
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        clock.advance(seconds)
        return False

    pace = Pace(1_000_000, clock, wait)
    began = clock.monotonic()
    for _ in range(50):
        pace.take(pace.block)
    assert clock.monotonic() - began == pytest.approx(49 * pace.block / 1_000_000)
    assert max(waited) <= 1.0


def test_a_slow_line_is_shared_in_small_blocks() -> None:
    clock = FakeClock()
    assert Pace(None, clock, lambda _: False).block == BLOCK
    assert Pace(100_000, clock, lambda _: False).block == 10_000
    assert Pace(1_000, clock, lambda _: False).block == 4_096


@pytest.mark.parametrize("rate", [None, 10])
def test_a_stop_ends_the_waiting(rate: int | None) -> None:
    pace = Pace(rate, FakeClock(), lambda _: True)
    pace.spend(1_000)
    with pytest.raises(Stopped):
        pace.take(1)


# parts


@given(st.integers(1, OBJECT_BYTES_MAX), st.integers(PART_BYTES_MIN, PART_BYTES_MAX))
def test_parts_keep_to_s3s_bounds_for_every_size(length: int, wanted: int) -> None:
    size = PartRules().size(wanted, length)
    assert PART_BYTES_MIN <= size <= PART_BYTES_MAX
    assert size >= wanted
    assert -(-length // size) <= PARTS_MAX
    if length <= wanted * PARTS_MAX:
        assert size == wanted


# throughput


def test_the_time_a_debt_takes_follows_from_what_was_sent() -> None:
    throughput = Throughput()
    assert throughput.seconds(0, 0) == 0.0
    assert throughput.seconds(10, 1) is None
    for second in range(30):
        throughput.add(float(second), 1_000, 10)
    assert throughput.seconds(10_000, 1) == pytest.approx(10.0, rel=0.1)
    assert throughput.seconds(0, 500) == pytest.approx(50.0, rel=0.1)
    throughput.add(10_000.0, 1_000, 10)  # idleness is no slowness
    assert throughput.seconds(10_000, 1) == pytest.approx(10.0, rel=0.1)


# the source


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"0123456789")
    return tmp_path


def source(tree: Path, name: str = "a", **options: Any) -> Source:
    place = SimpleNamespace(place=1, path=str(tree), follow=False)
    found = Candidate(place, name, stamp_of(os.stat(tree / name)), 0.0, 0.0)  # type: ignore[arg-type]
    return Source(found, **{"privileged": False, **options})


def test_a_source_reads_by_offset(tree: Path) -> None:
    opened = source(tree)
    assert opened.read() == b"0123456789"
    assert b"".join(opened.blocks(3, 4)) == b"3456"
    opened.require_unchanged()
    opened.close()


def test_a_stretch_beyond_the_end_is_a_change_and_no_endless_wait(tree: Path) -> None:
    opened = source(tree)
    os.truncate(tree / "a", 5)
    with pytest.raises(SourceChanged):
        list(opened.blocks(0, 10))
    with pytest.raises(SourceChanged):
        opened.read()
    opened.close()


def test_a_file_changed_a_moment_ago_is_too_fresh_to_be_told_from_its_next_change(tree: Path) -> None:
    opened = source(tree)
    changed = os.stat(tree / "a").st_ctime
    assert opened.is_fresh(changed + 0.005)
    assert not opened.is_fresh(changed + 0.05)
    assert not opened.is_fresh(changed - 5.0)  # a clock that was set back tells nothing
    opened.close()


def test_several_names_are_refused_to_the_privileged_only(tree: Path) -> None:
    os.link(tree / "a", tree / "b")
    source(tree).close()
    with pytest.raises(ManyLinks):
        source(tree, privileged=True)


def test_a_file_whose_directory_was_swapped_is_a_change(tree: Path) -> None:
    (tree / "d").mkdir()
    (tree / "d" / "a").write_bytes(b"one")
    opened = source(tree, "d/a")
    opened.require_unchanged()
    (tree / "d").rename(tree / "old")
    (tree / "d").mkdir()
    (tree / "d" / "a").write_bytes(b"two")
    with pytest.raises(SourceChanged):
        opened.require_unchanged()
    opened.close()


# the journal


def test_an_upload_that_took_another_s_place_is_not_forgotten_with_it() -> None:
    database = Database(":memory:")
    journal = Journal(database)
    old = Begun(1, "a", "b", "k", "old", (1, 2, 3, 4), 5, "terms", 0.0)
    new = replace(old, upload_id="new")
    journal.write(old)
    journal.write(new)
    journal.keep_part(1, "a", Part(1, 5, b"digest", "e"))
    journal.forget(old)
    assert journal.find(1, "a") == new
    assert journal.parts(1, "a") == [Part(1, 5, b"digest", "e")]
    journal.forget(new)
    assert (journal.all(), journal.parts(1, "a")) == ([], [])
    database.close()
