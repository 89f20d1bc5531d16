"""Generations renamed out of the pattern before anybody looked: found beside the log, or said to be missed.

That is by their names and times of birth.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, check, check_order, lines, rigs

Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def rig(make: Make) -> Rig:
    """The pattern means app.log and no other name."""
    return make(Entry("app.log", stream=os.path.basename))


def cascade(rig: Rig, _number: int) -> None:
    """app.log becomes app.log.1, that app.log.2, and so on; 40 are kept."""
    names = ["app.log", *(f"app.log.{number}" for number in range(1, 41))]
    rig.path(names[-1]).unlink(missing_ok=True)
    rig.rotate(*names)


def dated(rig: Rig, number: int) -> None:
    """Each generation is given a name for good."""
    rig.rotate("app.log", f"app.log-202611{number:02d}")


def dated_to_the_second(rig: Rig, number: int) -> None:
    rig.rotate("app.log", f"app.log.2026-11-24T00:00:{number:02d}")


def dated_before_the_ending(rig: Rig, number: int) -> None:
    rig.rotate("app.log", f"app-202611{number:02d}.log")


Rotate = Callable[[Rig, int], None]
ROTATIONS = [cascade, dated, dated_to_the_second, dated_before_the_ending]


@pytest.fixture(params=ROTATIONS, ids=lambda each: each.__name__)
def rotate(request: pytest.FixtureRequest) -> Rotate:
    rotate: Rotate = request.param
    return rotate


def arrived(rig: Rig) -> list[str]:
    """What arrived in the stream of app.log; there is no other."""
    assert set(rig.logs.streams.get("/g", {})) <= {"app.log"}
    return rig.logs.messages("/g", "app.log")


@pytest.mark.parametrize("count", [2, 3, 8])
def test_rotations_between_two_looks_are_found_beside_the_log_and_read_oldest_first(
    rig: Rig, rotate: Rotate, count: int
) -> None:
    rig.write("app.log", lines(10))
    rig.run(5)
    rig.write("app.log", lines(5, 10))
    for number in range(1, count + 1):
        rotate(rig, number)
        rig.write("app.log", lines(15, 15 * number))
    rig.run(20)
    check(lines(15 * (count + 1)), arrived(rig))
    check_order(lines(15 * (count + 1)), arrived(rig))
    assert rig.counter("log_bytes_lost") == 0
    assert rig.said.fields("log_generation_missed") == []


def test_rotation_twenty_times_a_second_loses_nothing_that_is_kept_for_longer_than_a_look(
    rig: Rig, rotate: Rotate
) -> None:
    rig.write("app.log", lines(1))
    rig.run(1)
    written = lines(1)
    for number in range(1, 60):
        rotate(rig, number)
        written += lines(20, 20 * number)
        rig.write("app.log", lines(20, 20 * number))
        rig.run(0.05)
    rig.run(100)
    check(written, arrived(rig))
    check_order(written, arrived(rig))
    assert len(rig.files) == 1


@pytest.mark.parametrize("end", [Rig.stop, Rig.crash], ids=["stopped", "killed"])
def test_three_rotations_while_down_are_found_beside_the_log_and_read_oldest_first(
    rig: Rig, rotate: Rotate, end: Callable[[Rig], None]
) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    end(rig)
    rig.write("app.log", lines(10, 10))
    for number in range(1, 4):
        rotate(rig, number)
        rig.write("app.log", lines(10, 10 + 10 * number))
    rig.start()
    rig.run(100)
    check(lines(50), arrived(rig))
    check_order(lines(50), arrived(rig))
    assert len(rig.files) == 1


def test_a_generation_that_was_found_beside_the_log_is_read_once_over_restarts(rig: Rig, rotate: Rotate) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    for number in range(1, 5):
        rotate(rig, number)
        rig.write("app.log", lines(10, 10 * number))
    for end in (Rig.stop, Rig.crash, Rig.stop):
        rig.run(10)
        end(rig)
        rig.start()
    rig.run(200)
    check(lines(50), arrived(rig))


def test_a_writer_may_go_on_writing_to_a_generation_that_was_found_beside_the_log(rig: Rig, rotate: Rotate) -> None:
    rig.write("app.log", lines(10))
    rig.run(5)
    rotate(rig, 1)
    rig.write("app.log", lines(10, 10))
    with rig.path("app.log").open("a") as late:
        rotate(rig, 2)
        rig.write("app.log", lines(10, 20))
        rig.run(20)
        late.write("late\n")
        late.flush()
        rig.run(20)
    check([*lines(30), "late"], arrived(rig))


def test_a_generation_that_came_unseen_and_can_not_be_read_is_said_to_be_missed_and_those_around_it_arrive(
    rig: Rig,
) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.stop()
    for number in range(1, 3):
        cascade(rig, number)
        rig.write("app.log", lines(10, 10 * number))
    rig.path("app.log.1.gz").write_bytes(b"\x1f\x8bdamaged")
    rig.path("app.log.1").unlink()
    rig.start()
    rig.run(100)
    check(lines(10) + lines(10, 20), arrived(rig))
    (said,) = rig.said.fields("log_generation_missed")
    assert said["path"] == str(rig.path("app.log.1.gz"))
    assert rig.counter("log_generations_missed") == 1


# what lies beside a log and is none of its generations


def test_what_was_rotated_before_the_log_was_known_is_not_read(rig: Rig, rotate: Rotate) -> None:
    for number in range(1, 4):
        rig.write("app.log", lines(10, 10 * number, "before"))
        rotate(rig, number)
    rig.write("app.log", lines(10))
    rig.run(10)
    rotate(rig, 4)
    rig.write("app.log", lines(10, 10))
    rig.run(10)
    rig.restart()
    rig.run(10)
    check(lines(20), arrived(rig))


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
@pytest.mark.parametrize(
    "name",
    ["app.log.audit", "app.logger.log", "app.log.swp", "app.log~", "app.log.lock", "app-worker.log", "app.log2"],
)
def test_a_neighbour_with_a_similar_name_is_no_generation(rig: Rig, name: str, down: bool) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    if down:
        rig.stop()
    rig.write(name, lines(10, word="another's"))
    rig.rotate("app.log", "app.log.1")
    rig.write("app.log", lines(10, 10))
    if down:
        rig.start()
    rig.run(100)
    check(lines(20), arrived(rig))


def test_a_generation_of_a_log_that_is_excluded_by_its_name_is_not_read(make: Make) -> None:
    rig = make(Entry("app.log", exclude=["*.1"], stream=os.path.basename))
    rig.write("app.log", lines(10))
    rig.run(5)
    cascade(rig, 1)
    rig.write("app.log", lines(10, 10))
    cascade(rig, 2)
    rig.write("app.log", lines(10, 20))
    rig.run(20)
    check(lines(10) + lines(10, 20), arrived(rig))


def test_a_log_that_comes_and_goes_between_looks_where_none_is_left_arrives_each_time(make: Make) -> None:
    """As with nocreate: whenever somebody looks, nothing is at the path."""
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(30))
    rig.run(10)
    for number in range(1, 6):
        rig.path("app.log").rename(rig.path(f"app.log-2026112{number}"))
        rig.run(10)
        rig.write("app.log", lines(30, 30 * number))
    rig.path("app.log").rename(rig.path("app.log-20261129"))
    rig.run(10)
    for name in ("app.log-20261130", "app.log-20261201"):
        rig.write("app.log", [f"{name} {number}" for number in range(30)])
        rig.path("app.log").rename(rig.path(name))
        rig.run(10)
    rig.run(60)
    written = lines(180) + [f"{name} {n}" for name in ("app.log-20261130", "app.log-20261201") for n in range(30)]
    check(written, rig.logs.messages())
