"""Fragments: the JSON of datums, within the limits of a request."""

from __future__ import annotations

import orjson
import pytest
from metrics_fakes import entry, plain

from agent.metrics.distribution import Distribution
from agent.metrics.encode import encode, fits, halve, name_of, request
from agent.metrics.series import make_series


def test_a_datum_has_exactly_what_cloudwatch_knows() -> None:
    distribution = Distribution()
    distribution.add([2.0, 4.5], [3.0, 1.0])
    series = make_series("disk_used_percent", {"path": "/", "InstanceId": "i-1"}, "Percent")
    (fragment,) = encode([(series, 1_700_000_040, distribution)], high_resolution=True)
    assert (fragment.oldest, fragment.datums) == (1_700_000_040, 1)
    assert orjson.loads(fragment.body) == {
        "MetricName": "disk_used_percent",
        "Dimensions": [{"Name": "InstanceId", "Value": "i-1"}, {"Name": "path", "Value": "/"}],
        "Timestamp": 1_700_000_040,
        "Values": [2.0, 4.5],
        "Counts": [3.0, 1.0],
        "Unit": "Percent",
        "StorageResolution": 1,
    }


def test_a_single_observation_is_a_value_and_resolution_and_unit_are_left_out_where_they_are_the_default() -> None:
    (fragment,) = encode([entry("m", 1.5)], high_resolution=False)
    datum = orjson.loads(fragment.body)
    assert datum["Value"] == 1.5
    assert not {"Values", "Counts", "Unit", "StorageResolution"} & set(datum)


def test_no_fragment_has_more_than_1000_datums() -> None:
    fragments = encode([entry(f"m{number}") for number in range(2500)], high_resolution=False)
    assert [fragment.datums for fragment in fragments] == [1000, 1000, 500]


def test_no_request_is_larger_than_a_million_bytes() -> None:
    wide = {f"d{number}": "v" * 1000 for number in range(29)}
    fragments = encode([entry(f"m{number}", **wide) for number in range(100)], high_resolution=False)
    assert sum(fragment.datums for fragment in fragments) == 100
    assert len(fragments) > 1
    assert all(len(request("n" * 255, [fragment.body])) <= 1_000_000 for fragment in fragments)


def test_datums_more_than_an_hour_apart_do_not_share_a_fragment() -> None:
    entries = [entry("a", timestamp=7200), entry("b", timestamp=0), entry("c", timestamp=3600)]
    fragments = encode(entries, high_resolution=False)
    assert [(fragment.oldest, fragment.datums) for fragment in fragments] == [(0, 2), (7200, 1)]


def test_a_request_joins_fragments() -> None:
    fragments = [*encode([entry("a")], high_resolution=False), *encode([entry("b")], high_resolution=False)]
    document = orjson.loads(request('odd "name"', [fragment.body for fragment in fragments]))
    assert document["Namespace"] == 'odd "name"'
    assert [datum["MetricName"] for datum in document["MetricData"]] == ["a", "b"]


def test_halves_hold_the_same_datums() -> None:
    distribution = Distribution()
    distribution.add([0.1, 1e-9, 2.0**360], [1 / 0.3] * 3)
    entries = [entry("a", timestamp=50), (plain("b"), 60, distribution), entry("c", timestamp=70)]
    (whole,) = encode(entries, high_resolution=True)
    one, other = halve([whole.body])
    assert (one.oldest, one.datums, other.oldest, other.datums) == (50, 1, 60, 2)
    assert one.body + b"," + other.body == whole.body


def test_a_single_datum_is_named_with_its_dimensions() -> None:
    (fragment,) = encode([entry("m", path="/")], high_resolution=False)
    assert name_of(fragment.body) == "m{path=/}"


@pytest.mark.parametrize(("datums", "size", "does"), [(1000, 10, True), (1001, 10, False), (1, 1_000_000, False)])
def test_a_request_has_room_for_so_much(datums: int, size: int, does: bool) -> None:
    assert fits(datums, size) is does
