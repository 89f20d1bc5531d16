"""Delivery: only an acknowledgement moves a cursor, order holds, faults delay and never drop, none waits in vain."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_harness import Entry, FakeLogs, Rig, check, examples, lines, rigs

from agent.aws.errors import (
    AnswerLost,
    AwsError,
    Conflict,
    Denied,
    NotFound,
    Refused,
    ServerFault,
    Throttled,
    Transient,
    Unreachable,
    from_answer,
)
from agent.aws.limits import LOG_BATCH_BYTES
from agent.engine.clock import FakeClock
from agent.logs.batch import BatchBuilder
from agent.logs.deliver import Batch, Dispatcher
from agent.logs.destination import GroupWish
from agent.logs.frame import Framer

Make = Callable[..., Rig]
LINE = "x" * 200


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def rig(make: Make) -> Rig:
    return make(Entry("app.log"))


def offset(rig: Rig) -> int:
    """How far the state says that the file is safe."""
    (row,) = rig.rows()
    return int(row["offset"])


def backlog(megabytes: float) -> list[str]:
    return [f"{number:08d} {LINE}" for number in range(int(megabytes * 1e6 / 210))]


# only an acknowledgement moves the cursor

FAULTS: list[AwsError] = [
    Throttled("PutLogEvents", "ThrottlingException", "Rate exceeded", 400),
    ServerFault("PutLogEvents", "InternalFailure", "", 500),
    Unreachable("PutLogEvents", "ConnectionRefusedError"),
    Denied("PutLogEvents", "AccessDeniedException", "", 400),
    Denied("PutLogEvents", "NoCredentials"),
    Denied("GetCredentials", "CredentialRetrievalError"),
    Transient("GetCredentials", "MetadataRetrievalError"),
    Conflict("PutLogEvents", "OperationAbortedException", "", 400),
    from_answer("PutLogEvents", 400, "SomethingNewException", "nobody has heard of it"),
    from_answer("PutLogEvents", 400, "", "<html>a proxy says no</html>"),
    from_answer("PutLogEvents", 418, "", ""),
    from_answer("PutLogEvents", 302, "", ""),
    from_answer("PutLogEvents", 400, "InvalidParameterException", "Value at 'logStreamName' failed to satisfy"),
]


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: f"{type(error).__name__} {error.code or error.status}")
def test_a_fault_delays_everything_and_drops_nothing(rig: Rig, error: AwsError) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.logs.down = error
    rig.write("app.log", lines(10, 10))
    rig.run(600)
    assert offset(rig) == 120
    assert rig.counter("log_batches_retried") > 5
    assert rig.counter("log_events_refused") == 0
    (said,) = [each for each in rig.said.fields("logs_not_accepted") if "times" not in each]
    assert said["error"] == str(error)
    rig.logs.down = None
    rig.run(100)
    check(lines(20), rig.logs.messages())
    assert offset(rig) == 240
    assert len(rig.said.fields("logs_accepted_again")) == 1


def test_nothing_that_happens_before_the_answer_moves_the_cursor(rig: Rig) -> None:
    seen = []

    def look() -> None:
        rig.run(0)
        seen.append(offset(rig))

    rig.write("app.log", lines(10))
    rig.logs.meanwhile.append(look)
    rig.run(1)
    seen.append(offset(rig))  # read
    rig.run(10)
    seen.append(offset(rig))
    assert seen == [0, 0, 120]


def test_empty_lines_move_the_cursor_without_a_call(rig: Rig) -> None:
    rig.path("app.log").write_text("\n" * 1000)
    rig.run(10)
    assert offset(rig) == 1000
    assert rig.logs.calls == []
    assert rig.counter("log_empty_lines") == 1000


def test_the_cursor_waits_at_the_first_batch_that_is_not_answered(make: Make) -> None:
    rig = make(Entry("app.log"), senders=4, tick=0.002)
    seen: list[tuple[int, int]] = []

    def wait() -> None:
        """While the first of several calls hangs, the others are answered."""
        for _ in range(2):
            rig.run(1)
            seen.append((rig.counter("log_batches_accepted"), offset(rig)))

    rig.write("app.log", lines(1))
    rig.run(10)
    rig.write("app.log", backlog(30))
    rig.logs.meanwhile.extend([lambda: rig.run(0.02)] * 8 + [wait])
    rig.run(60)
    first, second = seen
    assert first == second  # others do not go on for ever: what a crash would send again has a bound
    settled, safe = first
    assert 3 <= settled - safe // LOG_BATCH_BYTES <= 9
    check([*lines(1), *backlog(30)], rig.logs.messages())
    assert offset(rig) == rig.path("app.log").stat().st_size


def test_the_digest_of_a_file_is_the_chain_over_its_accepted_payloads(rig: Rig) -> None:
    import hashlib

    rig.write("app.log", lines(3))
    rig.run(10)
    digest = ""
    for call in rig.logs.accepted():
        events = ",".join(f'{{"timestamp":{time},"message":"{message}"}}' for time, message in call.events)
        body = f'{{"logGroupName":"/g","logStreamName":"s","logEvents":[{events}]}}'
        digest = hashlib.sha256(bytes.fromhex(digest) + hashlib.sha256(body.encode()).digest()).hexdigest()
    (row,) = rig.rows()
    assert row["digest"] == digest != ""
    assert row["events"] == 3


# order, fullness, fairness


def test_a_backlog_leaves_in_full_batches_in_order(make: Make) -> None:
    rig, written = make(Entry("app.log"), senders=4), backlog(20)
    rig.write("app.log", written)
    rig.run(60)
    check(written, rig.logs.messages())
    assert rig.logs.messages() == written
    sizes = [call.size for call in rig.logs.accepted()]
    assert min(sizes[:-1]) >= 0.95 * LOG_BATCH_BYTES


def test_little_that_comes_slowly_leaves_once_in_a_flush_interval(make: Make) -> None:
    rig = make(Entry("app.log", flush=5))
    for number in range(100):
        rig.write("app.log", lines(1, number))
        rig.run(0.5)
    rig.run(10)
    check(lines(100), rig.logs.messages())
    assert 9 <= len(rig.logs.accepted()) <= 13


@pytest.mark.parametrize("names", [["a.log"], ["a.log", "b.log"]], ids=len)
def test_batches_of_one_stream_fly_together_only_if_each_is_later_than_the_last(make: Make, names: list[str]) -> None:
    rig = make(Entry("*.log"), senders=4, tick=0.001)
    flying: list[list[tuple[int, int]]] = []

    def look() -> None:
        batches = [batch for lane in rig.dispatcher._lanes.values() for batch in lane.flying]
        flying.append([(batch.first, batch.last) for batch in batches])
        rig.run(0.02)

    rig.logs.meanwhile.extend([look] * 200)
    for name in names:
        rig.write(name, backlog(20))
    rig.run(60)
    check(backlog(20) * len(names), rig.logs.messages())
    assert max(map(len, flying)) == 4
    for spans in flying:
        assert all(before[1] < after[0] for before, after in zip(sorted(spans), sorted(spans)[1:], strict=False))


def test_a_batch_that_comes_back_takes_its_place_again() -> None:
    clock = FakeClock()
    dispatcher = Dispatcher(clock, random.Random(0))
    batches = [one_batch(number) for number in range(4)]
    assert dispatcher.wants("/g", "s", 4)
    for batch in batches:
        dispatcher.submit(batch)
        dispatcher.wants("/g", "s", 4)
    flying = [dispatcher.take(clock.monotonic(), lambda: None) for _ in range(4)]
    assert flying == batches
    for number in (0, 2, 1, 3):
        dispatcher.postpone(batches[number], everywhere=False)
    order: list[Batch] = []
    while len(order) < 4:
        clock.advance(60)
        taken = dispatcher.take(clock.monotonic(), lambda: None)
        assert taken is not None
        order.append(taken)
        dispatcher.settle(taken)
    assert order == batches


class Owner:
    path = "app.log"

    def settled(self, batch: Batch) -> None:
        """Nobody asks."""


def one_batch(number: int, stream: str = "s") -> Batch:
    framer, builder = Framer(), BatchBuilder(0, 0.0)
    framer.feed(b"line\n")
    block = framer.take(builder.room, builder.events_left)
    assert block is not None
    builder.add(1000 + number, block)
    return Batch(Owner(), ("/g", stream), GroupWish(), (0, 5), b"line\n", builder.pieces())


@given(st.lists(st.sampled_from(["submit", "take", "settle", "postpone", "everywhere", "later"]), max_size=60))
@examples(60)
def test_whatever_happens_to_batches_no_batch_is_lost_or_doubled(what: list[str]) -> None:
    clock = FakeClock()
    dispatcher = Dispatcher(clock, random.Random(0))
    flying: list[Batch] = []
    waiting: list[Batch] = []
    settled: list[Batch] = []
    for number, act in enumerate(what):
        if act == "submit":
            waiting.append(one_batch(number, f"s{number % 3}"))
            dispatcher.wants("/g", f"s{number % 3}", 4)
            dispatcher.submit(waiting[-1])
        elif act == "take":
            taken = dispatcher.take(clock.monotonic(), lambda: None)
            flying += [taken] if taken else []
        elif act in ("postpone", "everywhere") and flying:
            dispatcher.postpone(flying.pop(0), everywhere=act == "everywhere")
        elif act == "settle" and flying:
            settled.append(flying.pop())
            dispatcher.settle(settled[-1])
        clock.advance(0.5 if act == "later" else 0.001)
    for batch in flying:
        dispatcher.settle(batch)
    settled += flying
    for _ in range(len(what)):
        clock.advance(100)
        batch_or_none = dispatcher.take(clock.monotonic(), lambda: None)
        if batch_or_none is not None:
            settled.append(batch_or_none)
            dispatcher.settle(batch_or_none)
    assert len(settled) == len(set(settled)) == len(waiting)
    assert set(settled) == set(waiting)
    assert dispatcher._lanes == {}


def test_idle_files_are_not_behind_a_file_with_a_backlog(make: Make) -> None:
    rig = make(Entry("*.log", stream=lambda path: path.rpartition("/")[2]), senders=1)
    quiet = [f"q{number}.log" for number in range(20)]
    for name in ("hot.log", *quiet):
        rig.write(name, lines(1))
    rig.run(10)
    rig.logs.seconds = 0.3
    rig.write("hot.log", backlog(30))
    for name in quiet:
        rig.write(name, ["urgent"])
    called = len(rig.logs.calls)
    rig.run(30)
    urgent = [number for number, call in enumerate(rig.logs.calls[called:]) if call.messages == ["urgent"]]
    hot = [number for number, call in enumerate(rig.logs.calls[called:]) if call.stream == "hot.log"]
    assert len(urgent) == 20
    assert len(hot) > 20
    assert urgent[-1] < hot[-1]
    check([*lines(1), *backlog(30)], rig.logs.messages("/g", "hot.log"))


# streams do not wait for each other


@pytest.mark.parametrize("senders", [1, 4])
def test_a_group_that_may_not_be_written_stops_no_other(make: Make, senders: int) -> None:
    rig = make(Entry("bad.log", group="/bad"), Entry("good.log", group="/good", flush=1), senders=senders)
    rig.logs.denied["/bad"] = Denied("PutLogEvents", "AccessDeniedException", "", 400)
    rig.write("bad.log", lines(10))
    rig.run(60)
    for number in range(60):
        rig.write("good.log", lines(1, number))
        rig.run(1)
        behind = number - len(rig.logs.messages("/good"))
        assert behind <= 3, "it waits for the other"
    rig.logs.denied.clear()
    rig.run(100)
    check(lines(10), rig.logs.messages("/bad"))


def test_a_group_that_can_not_be_made_stops_no_other(make: Make) -> None:
    rig = make(Entry("bad.log", group="/bad"), Entry("good.log", group="/good", flush=1))
    rig.logs.denied["/bad"] = NotFound("PutLogEvents", "ResourceNotFoundException", "", 400)
    rig.write("bad.log", lines(10))
    rig.write("good.log", lines(1))
    rig.run(10)
    rig.logs.denied["/bad"] = Throttled("CreateLogGroup", "LimitExceededException", "too many groups", 400)
    rig.run(60)
    for number in range(1, 30):
        rig.write("good.log", lines(1, number))
        rig.run(1)
        assert len(rig.logs.messages("/good")) >= number - 3
    rig.logs.denied.clear()
    rig.run(100)
    check(lines(10), rig.logs.messages("/bad"))
    check(lines(30), rig.logs.messages("/good"))


def test_throttling_slows_all_down_together(make: Make) -> None:
    rig = make(Entry("*.log", stream=lambda path: path.rpartition("/")[2]), senders=4)
    for number in range(50):
        rig.write(f"{number}.log", lines(1))
    rig.logs.down = Throttled("PutLogEvents", "ThrottlingException", "Rate exceeded", 400)
    rig.run(300)
    assert len(rig.logs.calls) < 300 / 5 + 20  # 50 streams that wait each for itself would make 750
    rig.logs.down = None
    rig.run(60)
    assert all(rig.logs.messages("/g", f"{number}.log") == lines(1) for number in range(50))


def test_hurry_shortens_the_waits_of_all_and_of_each(make: Make) -> None:
    rig = make(Entry("a.log", group="/a"), Entry("b.log", group="/b"), seed=3)
    rig.logs.denied["/a"] = Denied("PutLogEvents", "AccessDeniedException", "", 400)
    rig.logs.denied["/b"] = Unreachable("PutLogEvents", "OSError")
    for name in ("a.log", "b.log"):
        rig.write(name, lines(1))
    rig.run(1000)
    calls = len(rig.logs.calls)
    rig.hurry()
    rig.run(60)
    by_group = [call.group for call in rig.logs.calls[calls:]]
    assert by_group.count("/a") >= 25
    assert by_group.count("/b") >= 25
    rig.logs.denied.clear()
    rig.run(2.5)
    check(lines(1) * 2, rig.logs.messages("/a") + rig.logs.messages("/b"))


def test_after_hurry_the_waits_are_long_again(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(1))
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    rig.hurry()
    rig.run(60)
    rig.hurry(on=False)
    calls = len(rig.logs.calls)
    rig.run(200)
    assert len(rig.logs.calls) - calls < 60


# groups and streams


def test_group_and_stream_are_made_once_when_they_are_missing(make: Make) -> None:
    rig = make(Entry("*.log", stream=lambda path: path.rpartition("/")[2]), senders=4)
    for _ in range(3):
        for name in ("a.log", "b.log"):
            rig.write(name, lines(1))
        rig.run(10)
    assert rig.logs.made == ["/g", "/g a.log", "/g b.log"]


def test_a_role_that_may_not_make_groups_can_still_make_streams(rig: Rig) -> None:
    class Strict(FakeLogs):
        def create_group(self, *_: Any) -> bool:
            raise Denied("CreateLogGroup", "AccessDeniedException")

    rig.logs.__class__ = Strict
    rig.logs.streams["/g"] = {}
    rig.write("app.log", lines(3))
    rig.run(10)
    check(lines(3), rig.logs.messages())


@pytest.mark.parametrize("gone", ["group", "stream"])
def test_what_is_deleted_behind_our_back_is_made_again(rig: Rig, gone: str) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    if gone == "group":
        rig.logs.forget("/g")
    else:
        del rig.logs.streams["/g"]["s"]
    rig.write("app.log", lines(10, 10))
    rig.run(10)
    check(lines(10, 10), rig.logs.messages())


def test_retention_is_set_where_it_differs_and_again_when_the_group_was_made_anew(make: Make) -> None:
    rig = make(Entry("app.log", wish=GroupWish(retention=7)))
    for number in range(3):
        rig.write("app.log", lines(1, number))
        rig.run(10)
    assert rig.logs.retention == {"/g": 7}
    assert len(rig.said.fields("log_retention_set")) == 1
    rig.logs.forget("/g")
    rig.logs.retention.clear()
    rig.write("app.log", lines(1, 3))
    rig.run(10)
    assert rig.logs.retention == {"/g": 7}


def test_a_retention_that_can_not_be_set_is_said_and_tried_again_and_holds_nothing_up(make: Make) -> None:
    class Forbidding(FakeLogs):
        asked = 0

        def put_retention(self, group: str, days: int) -> None:
            self.asked += 1
            raise Denied("PutRetentionPolicy", "AccessDeniedException")

    clock = FakeClock()
    logs = Forbidding(clock)
    rig = make(Entry("app.log", wish=GroupWish(retention=7)), clock=clock, logs=logs)
    for number in range(200):
        rig.write("app.log", lines(1, number))
        rig.run(10)
    check(lines(200), rig.logs.messages())
    assert logs.asked == 4  # in 2000 seconds, every ten minutes
    assert rig.said.fields("log_group_not_adjusted")


# poison, and what AWS rejects event by event


@pytest.mark.parametrize("poisoned", [[0], [99], [50], [0, 1, 2, 97], list(range(100))], ids=len)
def test_a_poison_batch_is_halved_until_the_bad_events_stand_alone(rig: Rig, poisoned: list[int]) -> None:
    bad = {lines(1, number)[0] for number in poisoned}
    rig.logs.poison = bad.__contains__
    rig.write("app.log", lines(100))
    rig.run(10)
    good = [line for line in lines(100) if line not in bad]
    assert rig.logs.messages() == good
    assert offset(rig) == 1200
    (row,) = rig.rows()
    assert (row["events"], row["refused"]) == (len(good), len(bad))
    assert rig.counter("log_events_refused") == len(bad)
    assert len(rig.logs.calls) <= 2 + 2 * 8 * len(bad)


def test_a_fault_in_the_middle_of_halving_sends_nothing_twice(rig: Rig) -> None:
    rig.logs.poison = {lines(1, 7)[0]}.__contains__
    fault = ServerFault("PutLogEvents", "InternalFailure", "", 500)
    rig.write("app.log", lines(100))
    rig.logs.next.extend([None, None, None, fault, None, None, fault, None, fault])
    rig.run(60)
    check([line for line in lines(100) if line != lines(1, 7)[0]], rig.logs.messages())


@pytest.mark.parametrize(
    "error",
    [
        Refused("PutLogEvents", "InvalidParameterException", "Log event too large", 400),
        Refused("PutLogEvents", "SerializationException", "", 400),
        Refused("PutLogEvents", "", "Request Entity Too Large", 413),
    ],
    ids=lambda error: error.code or error.status,
)
def test_a_request_that_is_too_much_at_once_is_halved(rig: Rig, error: AwsError) -> None:
    rig.write("app.log", lines(64))
    rig.logs.next.extend([None, error, error])
    rig.run(10)
    check(lines(64), rig.logs.messages())
    assert [len(call.events) for call in rig.logs.accepted()] == [16, 16, 32]
    assert rig.counter("log_events_refused") == 0


def test_what_is_too_old_is_counted_as_refused_and_settled(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(3)  # read, not sent
    rig.logs.down = Unreachable("PutLogEvents", "OSError")
    rig.run(10)
    rig.clock.advance(15 * 86_400)
    rig.write("app.log", lines(10, 10))
    rig.logs.down = None
    rig.run(60)
    assert rig.logs.messages() == lines(10, 10)
    (row,) = rig.rows()
    assert (row["offset"], row["events"], row["refused"]) == (240, 10, 10)
    assert rig.counter("log_events_refused") == 10
    (said,) = rig.said.fields("log_events_refused")
    assert (said["too_old"], said["too_new"]) == (10, 0)


def test_a_clock_that_is_set_back_breaks_no_limit(rig: Rig) -> None:
    for number in range(4):
        rig.write("app.log", lines(5, 5 * number))
        rig.run(1)
        rig.clock.set_time(rig.clock.time() - 3600)
    rig.run(10)
    check(lines(20), rig.logs.messages())
    assert rig.logs.messages() == lines(20)
    assert rig.counter("log_batches_halved") == 0


# lost answers, defects


def test_a_lost_answer_is_sent_again_and_counted(make: Make) -> None:
    rig = make(Entry("app.log"), senders=2)
    rig.write("app.log", lines(1))
    rig.run(10)
    rig.write("app.log", lines(99, 1))
    rig.logs.next.append(AnswerLost("PutLogEvents", "TimeoutError"))
    rig.run(30)
    check(lines(100), rig.logs.messages(), duplicates=99)
    assert len(rig.logs.messages()) == 199
    assert rig.counter("log_events_possibly_duplicated") == 99


def test_an_answer_that_was_lost_while_a_stream_was_made_doubles_nothing(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.logs.next_made.append(AnswerLost("CreateLogStream", "TimeoutError"))
    rig.run(30)
    check(lines(10), rig.logs.messages())
    assert rig.counter("log_events_possibly_duplicated") == 0


def test_a_defect_in_a_call_keeps_the_batch(rig: Rig) -> None:
    def defect() -> None:
        raise ZeroDivisionError

    rig.write("app.log", lines(10))
    rig.logs.meanwhile.append(defect)
    with pytest.raises(ZeroDivisionError):
        rig.run(10)
    assert offset(rig) == 0
    rig.run(60)
    check(lines(10), rig.logs.messages(), duplicates=10)
    assert offset(rig) == 120


def test_a_defect_in_acknowledging_does_not_stop_the_stream(rig: Rig) -> None:
    rig.write("app.log", lines(10))
    rig.run(10)
    (file,) = rig.files
    file.cursor.digest = "not hexadecimal"
    rig.write("app.log", lines(10, 10))
    with pytest.raises(ValueError, match="hex"):
        rig.run(10)
    file.cursor.digest = ""
    rig.write("app.log", lines(10, 20))
    rig.run(10)
    check(lines(30), rig.logs.messages())
    assert offset(rig) == 360
