"""StatsD lines: what they mean, however they are packed, and whatever junk is among them."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from metrics_fakes import Told, calm, make_aggregate, values

from agent.engine.clock import FakeClock
from agent.metrics.statsd.fold import Fold
from agent.metrics.statsd.grammar import BadLine, parse_metric, parse_numbers
from agent.metrics.statsd.intake import Intake


class Bench:
    """An intake, its fold, and the aggregate behind."""

    def __init__(self, **naming: Any) -> None:
        self.clock = FakeClock()
        self.told = Told(self.clock)
        self.aggregate = make_aggregate(self.clock, self.told, dimensions={"InstanceId": "i-1"})
        self.intake = Intake()
        plain = {"prefix": "", "separator": None, "metric_type": False, "dimensions": {}}
        self.fold = Fold(self.intake, self.aggregate, SimpleNamespace(**{**plain, **naming}), self.told)

    def entries(self, *packets: bytes):
        self.intake.add(packets)
        self.fold.fold()
        return self.aggregate.seal(int(self.clock.time()), early=False)

    def values(self, *packets: bytes):
        return values(self.entries(*packets))

    def dimensions(self, packet: bytes) -> dict[str, str]:
        ((series, _, _),) = self.entries(packet)
        return dict(series.dimensions)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("packet", "told"),
    [
        (b"hits:1|c", {1.0: 1.0}),
        (b"hits:1.5|c", {1.5: 1.0}),
        (b"hits:-2|c", {-2.0: 1.0}),
        (b"hits:3|c|@0.1", {30.0: 1.0}),
        (b"hits:1:2:3|c", {6.0: 1.0}),
        (b"hits:1|c\nhits:2|c\n", {3.0: 1.0}),
        (b"hits:1|c\r\nhits:2|c\r\n", {3.0: 1.0}),
        (b"hits:1e3|c", {1000.0: 1.0}),
        (b"hits:.5|c", {0.5: 1.0}),
        (b"hits:320|ms", {320.0: 1.0}),
        (b"hits:320|ms|@0.25", {320.0: 4.0}),
        (b"hits:1:2:2|h", {1.0: 1.0, 2.0: 2.0}),
        (b"hits:-0.5|d", {-0.5: 1.0}),
        (b"hits:7|g", {7.0: 1.0}),
        (b"hits:7|g\nhits:3|g", {3.0: 1.0}),
        (b"hits:7|g\nhits:+3|g\nhits:-1|g", {9.0: 1.0}),
        (b"hits:10:+3|g", {13.0: 1.0}),
        (b"hits:a|s\nhits:b|s\nhits:a|s", {2.0: 1.0}),
        (b"hits:1:2|s", {1.0: 1.0}),
        (b"hits:|s", {1.0: 1.0}),
        (b"hits:1|c|c:ci-4711|e:it-false|card:low", {1.0: 1.0}),
        (b"hits:" + b"1:" * 5000 + b"1|c", {5001.0: 1.0}),
    ],
)
def test_a_line_means(bench: Bench, packet: bytes, told: dict[float, float]) -> None:
    assert bench.values(packet) == {"hits": told}
    assert "statsd_bad_lines" not in bench.told.counters()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hits", "NAME:VALUE|TYPE"),
        (b"hits|c", "NAME:VALUE|TYPE"),
        (b"hits:1", "NAME:VALUE|TYPE"),
        (b"hits:1|", "NAME:VALUE|TYPE"),
        (b":1|c", "name is empty"),
        (b"\xff:1|c", "name is not UTF-8"),
        (b"hits:1|x", "type is none of"),
        (b"hits:|c", "no number"),
        (b"hits:one|c", "no number"),
        (b"hits:nan|c", "no number"),
        (b"hits:inf|ms", "no number"),
        (b"hits:-Infinity|g", "no number"),
        (b"hits:1_000|c", "no number"),
        (b"hits: 1|c", "no number"),
        (b"hits:0x10|c", "no number"),
        (b"hits:1::2|c", "no number"),
        ("hits:\u0661|c".encode(), "no number"),
        (b"hits:1|c|@0", "sample rate"),
        (b"hits:1|c|@2", "sample rate"),
        (b"hits:1|c|@", "no number"),
        (b"hits:1|c|#:v", "tag's name is empty"),
        (b"hits:1|c|#k:\xc3", "tag's value is not UTF-8"),
        (b"hits:1|ms|T1700000000", "only counters and gauges"),
        (b"hits:1|c|T12.5", "timestamp"),
        (b"hits:1|c|T" + b"9" * 30, "timestamp"),
    ],
)
def test_junk_is_counted_and_its_first_example_said(bench: Bench, line: bytes, reason: str) -> None:
    assert bench.values(b"good:1|c\n" + line + b"\nbetter:2|c") == {"good": {1.0: 1.0}, "better": {2.0: 1.0}}
    assert bench.told.counters()["statsd_bad_lines"] == 1
    (said,) = bench.told.log.fields("statsd_bad_line")
    assert reason in said["reason"]


def test_junk_of_one_kind_is_said_once_and_counted_each_time(bench: Bench) -> None:
    bench.entries(b"\n".join(b"junk%d" % number for number in range(50)), b"junk7")
    assert bench.told.counters()["statsd_bad_lines"] == 51
    assert len(bench.told.log.fields("statsd_bad_line")) == 1


def test_control_characters_of_junk_are_escaped_and_its_length_is_bounded(bench: Bench) -> None:
    bench.entries(b"\x1b[31mred\x00\xff" + b"x" * 60_000)
    (said,) = bench.told.log.fields("statsd_bad_line")
    assert said["line"].startswith("\\x1b[31mred\\x00\\xffx")
    assert len(said["line"]) < 500


@pytest.mark.parametrize("digits", [400, 60_000])
def test_a_giant_number_is_refused_and_named(bench: Bench, digits: int) -> None:
    assert bench.values(b"big:" + b"9" * digits + b"|c", b"large:1e400|ms", b"huge:1e400|g") == {}
    assert bench.told.counters()["samples_refused"] == 3
    assert bench.told.log.fields("sample_refused")[0]["series"].endswith("{InstanceId=i-1}")


def test_tags_become_dimensions(bench: Bench) -> None:
    assert bench.dimensions(b"hits:1|c|#env:prod,url:http://x/,flag,empty:") == {
        "InstanceId": "i-1",
        "env": "prod",
        "url": "http://x/",
        "flag": "<empty>",
        "empty": "<empty>",
    }


def test_of_a_tag_given_twice_the_last_counts(bench: Bench) -> None:
    assert bench.dimensions(b"hits:1|c|#env:a,env:b")["env"] == "b"


def test_lines_that_differ_in_their_tags_only_are_different_series(bench: Bench) -> None:
    assert len(bench.entries(b"hits:1|c|#env:a\nhits:1|c|#env:b\nhits:1|c")) == 3


def test_prefix_separator_type_and_dimensions_shape_the_series() -> None:
    bench = Bench(prefix="shop.", separator="_", metric_type=True, dimensions={"Team": "web", "env": "none"})
    ((series, _, _),) = bench.entries(b"page.load.time:12|ms|#env:prod")
    assert series.name == "shop_page_load_time"
    assert dict(series.dimensions) == {"InstanceId": "i-1", "Team": "web", "env": "prod", "metric_type": "timing"}


@pytest.mark.parametrize(
    ("sign", "kind"),
    [
        (b"c", "counter"),
        (b"g", "gauge"),
        (b"ms", "timing"),
        (b"h", "histogram"),
        (b"d", "distribution"),
        (b"s", "set"),
    ],
)
def test_the_metric_type_is_named_as_the_cloudwatch_agent_does(sign: bytes, kind: str) -> None:
    assert Bench(metric_type=True).dimensions(b"m:1|" + sign)["metric_type"] == kind


def test_a_line_with_a_time_keeps_it_and_moves_no_gauge(bench: Bench) -> None:
    at = int(bench.clock.time()) - 600
    entries = bench.entries(b"depth:5|g\ndepth:9|g|T%d\nhits:2|c|T%d\nhits:2|c|T%d" % (at, at, at))
    told = {(series.name, timestamp): held.minimum for series, timestamp, held in entries}
    assert told == {("depth", at): 9.0, ("depth", int(bench.clock.time())): 5.0, ("hits", at): 4.0}
    assert len(bench.fold._routes) == 1  # each moment would be a route of its own


def test_events_and_service_checks_are_counted_and_passed_over(bench: Bench) -> None:
    packet = b"_e{5,4}:title|text|#a:b\n_sc|db.up|0|#a:b\n_sc|db.up|0|#a:b\nhits:1|c"
    assert bench.values(packet) == {"hits": {1.0: 1.0}}
    counters = bench.told.counters()
    assert counters["statsd_events_skipped"] == 1
    assert counters["statsd_service_checks_skipped"] == 2
    assert "statsd_bad_lines" not in counters


def test_packets_and_lines_are_counted(bench: Bench) -> None:
    bench.entries(b"a:1|c\nb:1|g\n", b"a:1|c", b"")
    assert (bench.told.counters()["statsd_packets"], bench.told.counters()["statsd_lines"]) == (3, 3)


def test_many_distinct_lines_ask_for_a_fold(bench: Bench) -> None:
    asked = [bench.intake.add([b"\n".join(b"m%d:1|c" % number for number in range(start, start + 1000))])
             for start in range(0, 11_000, 1000)]  # fmt: skip
    assert asked == [False] * 10 + [True]


def test_many_gauges_or_bytes_ask_for_a_fold(bench: Bench) -> None:
    assert bench.intake.add([b"\n".join([b"depth:1|g"] * 10_001)])
    bench.intake.take()
    same = b"\n".join([b"hits:1|c"] * 7000)
    assert [bench.intake.add([same]) for _ in range(267)] == [False] * 266 + [True]


def test_routes_are_forgotten_before_they_take_too_much_memory(bench: Bench) -> None:
    for start in range(0, 15_000, 5_000):
        bench.intake.add([b"\n".join(b"m%d:1|c" % number for number in range(start, start + 5_000))])
        bench.fold.fold()
    assert len(bench.fold._routes) <= 10_000


@calm
@given(st.binary(max_size=300))
@example(b"|" * 300)
@example(b":" * 300)
@example(b"a:1|g|" + b"|" * 250)
def test_no_bytes_whatever_raise(packet: bytes) -> None:
    Bench().entries(packet)


PIECES = "hits : | c g ms s @ 0.5 # k:v , T 1700000000 + - 1 1e999 \xff _e{ _sc| nan"
pieces = st.sampled_from([b"\n", b"\r", *(piece.encode("latin-1") for piece in PIECES.split())])


@calm
@given(st.lists(pieces, max_size=30))
def test_no_near_miss_raises(parts: list[bytes]) -> None:
    Bench().entries(b"".join(parts))


@calm
@given(st.text(max_size=20), st.text(max_size=20))
def test_the_grammar_raises_nothing_but_bad_line(name: str, suffix: str) -> None:
    raw_name, raw_suffix = (text.encode("utf-8", "surrogatepass") for text in (name, suffix))
    for call in (lambda: parse_numbers([raw_name]), lambda: parse_metric(raw_name, raw_suffix)):
        with contextlib.suppress(BadLine):
            call()


@st.composite
def lines(draw: st.DrawFn) -> tuple[bytes, str, float, float]:
    """A valid line of a counter or timer, its name, and the count and sum that it stands for."""
    name = draw(st.sampled_from(["a", "b.c", "t"]))
    rate = draw(st.sampled_from([1.0, 0.5, 0.125]))
    numbers = draw(st.lists(st.integers(-1000, 1000).map(lambda number: number / 4), min_size=1, max_size=3))
    packed = ":".join(f"{number:g}" for number in numbers)
    suffix = "" if rate == 1.0 else f"|@{rate}"
    kind = "ms" if name == "t" else "c"
    return f"{name}:{packed}|{kind}{suffix}".encode(), name, len(numbers) / rate, sum(numbers) / rate


@calm
@given(st.lists(lines(), min_size=1, max_size=40), st.data())
def test_sums_are_exact_however_the_lines_are_packed(drawn: list[tuple[bytes, str, float, float]], data: Any) -> None:
    bench = Bench()
    rest = [line for line, _, _, _ in drawn]
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        bench.intake.add([b"\n".join(rest[:size])])
        rest = rest[size:]
        if data.draw(st.booleans()):
            bench.fold.fold()
    told = bench.values()
    for name in {name for _, name, _, _ in drawn}:
        count = sum(count for _, each, count, _ in drawn if each == name)
        total = sum(total for _, each, _, total in drawn if each == name)
        if name == "t":
            assert sum(told[name].values()) == count
            assert sum(value * times for value, times in told[name].items()) == total
        else:
            assert told[name] == {total: 1.0}


steps = st.one_of(
    st.tuples(st.just(""), st.integers(0, 50)),
    st.tuples(st.sampled_from("+-"), st.integers(0, 50)),
)


@calm
@given(st.lists(steps, min_size=1, max_size=30), st.data())
def test_gauges_follow_the_order_of_their_lines_among_others(given_steps: list[tuple[str, int]], data: Any) -> None:
    bench = Bench()
    level = 0
    packet: list[bytes] = []
    for sign, number in given_steps:
        level = number if not sign else level + number * (1 if sign == "+" else -1)
        packet += [b"depth:%b%d|g" % (sign.encode(), number), b"hits:1|c"]
        if data.draw(st.booleans()):
            bench.intake.add([b"\n".join(packet)])
            packet.clear()
        if data.draw(st.booleans()):
            bench.fold.fold()
    assert bench.values(b"\n".join(packet)) == {"depth": {float(level): 1.0}, "hits": {float(len(given_steps)): 1.0}}
