"""The demo's check from outside: whatever is missing, doubled, swapped, strange or altered is found and said."""

from dataclasses import replace

import orjson
import pytest

from agent.demo.check import Arrived, judge
from agent.demo.receipt import Evidence, newest
from agent.demo.written import Generation, Total, Written
from agent.drain.receipt import digest

ACCESS, APP = ("/shop/access", "i-1/access.log"), ("/shop/app", "i-1/app.log")
OLD = [f"GET /{number}" for number in range(5)]
NEW = [f"GET /{number}" for number in range(5, 8)]
TRACE = ["ERROR 1", "    at Shop.pay (1)", "    at Shop.run (1)"]
FILE = bytes(range(100))


def written():
    return Written(
        generations=[
            Generation("/log/access.log.1", ACCESS, 1, 11, OLD, 50),
            Generation("/log/app.log", APP, 1, 12, TRACE, 60),
            Generation("/log/access.log", ACCESS, 1, 13, NEW, 30),
        ],
        counters={"requests": Total(4, 4.0)},
        timers={"took": Total(3, 60.0)},
        files={"a/b.bin": FILE, "empty": b""},
    )


def arrived(**changed):
    everything = Arrived(
        streams={ACCESS: OLD + NEW, APP: TRACE},
        objects={"a/b.bin": FILE, "empty": b""},
        metrics={"requests": Total(2, 4.0), "took": Total(3, 60.0), "cpu_usage_idle": Total(7, 600.0)},
    )
    return replace(everything, **changed)


def receipt(**changed):
    document = {
        "outcome": "proven",
        "logs": [
            {"path": "access.log", "device": 1, "inode": inode, "acknowledged": size}
            for inode, size in ((11, 50), (12, 60), (13, 30))
        ],
        "uploads": {"objects": 2, "bytes": 100},
        "gaps": [],
        "refused": [],
        **changed,
    }
    return orjson.dumps({**document, "digest": digest(document)})


def evidence(content=None, **changed):
    content = receipt() if content is None else content
    fine = Evidence(here=content, stored=content, answer="CONTINUE", seconds=1.5, before_ran=True, exit_code=0)
    return replace(fine, **changed)


def failures(arrived_=None, evidence_=None):
    verdict = judge(written(), arrived_ or arrived(), evidence_ or evidence())
    assert verdict.proven == (not verdict.failures)
    return list(verdict.failures)


def test_what_arrived_whole_is_proven():
    verdict = judge(written(), arrived(), evidence())
    assert verdict.failures == []
    assert verdict.proven
    assert verdict.objects == (2, 2)
    assert verdict.samples == (7, 7)
    assert verdict.other_metrics == 1


def test_the_table_has_a_row_for_each_file_with_what_the_receipt_says_of_it():
    rows = judge(written(), arrived(), evidence()).logs
    assert [(row.name, row.written, row.acknowledged, row.lines, row.arrived) for row in rows] == [
        ("access.log.1", 50, 50, 5, 5),
        ("access.log", 30, 30, 3, 3),
        ("app.log", 60, 60, 3, 3),
    ]


def test_a_missing_line_is_named():
    (failure,) = failures(arrived(streams={ACCESS: [*OLD[:2], *OLD[3:], *NEW], APP: TRACE}))
    assert failure == "access.log.1: 1 of 5 lines are not at AWS, the first is no. 3: GET /2"


def test_a_stream_that_never_came_is_missing_with_all_its_lines():
    (failure,) = failures(arrived(streams={ACCESS: OLD + NEW}))
    assert failure.startswith("app.log: 3 of 3 lines are not at AWS")


def test_swapped_lines_are_told():
    swapped = [OLD[0], OLD[2], OLD[1], *OLD[3:], *NEW]
    assert failures(arrived(streams={ACCESS: swapped, APP: TRACE})) == ["access.log.1: line 3 came before line 2"]


def test_lines_that_came_again_are_counted_and_are_no_failure():
    again = [*OLD, *OLD[3:], *NEW]
    verdict = judge(written(), arrived(streams={ACCESS: again, APP: TRACE}), evidence())
    assert verdict.proven
    assert verdict.twice == 2
    assert [row.twice for row in verdict.logs] == [2, 0, 0]


def test_a_line_that_nobody_wrote_is_told():
    (failure,) = failures(arrived(streams={ACCESS: [*OLD, "GET /1GET /2", *NEW], APP: TRACE}))
    assert failure == "/shop/access i-1/access.log: 1 lines that nobody wrote, the first: GET /1GET /2"


def test_several_lines_in_one_event_are_lines():
    assert failures(arrived(streams={ACCESS: OLD + NEW, APP: ["\n".join(TRACE)]})) == []


def test_a_missing_byte_is_told_by_its_place():
    (failure,) = failures(arrived(objects={"a/b.bin": FILE[:-1], "empty": b""}))
    assert failure == "a/b.bin: 100 bytes written, 99 in S3, they differ from byte 99 on"


def test_an_altered_byte_is_told_by_its_place():
    altered = FILE[:40] + b"\xff" + FILE[41:]
    (failure,) = failures(arrived(objects={"a/b.bin": altered, "empty": b""}))
    assert failure == "a/b.bin: 100 bytes written, 100 in S3, they differ from byte 40 on"


def test_a_missing_file_and_a_strange_one_are_told():
    found = failures(arrived(objects={"a/b.bin": FILE, "a/b.bin.part": b""}))
    assert found == ["empty: not in S3", "a/b.bin.part: in S3, and nobody wrote it"]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"requests": Total(2, 3.0), "took": Total(3, 60.0)}, "requests: 4 in sum sent by StatsD, 3 at CloudWatch"),
        ({"requests": Total(2, 5.0), "took": Total(3, 60.0)}, "requests: 4 in sum sent by StatsD, 5 at CloudWatch"),
        ({"requests": Total(2, 4.0), "took": Total(2, 60.0)}, "took: 3 values sent by StatsD, 2 at CloudWatch"),
        ({"requests": Total(2, 4.0), "took": Total(3, 59.0)}, "took: 60 in sum sent by StatsD, 59 at CloudWatch"),
        ({"took": Total(3, 60.0)}, "requests: 4 in sum sent by StatsD, 0 at CloudWatch"),
    ],
)
def test_a_sample_too_few_or_too_many_is_told(metrics, said):
    assert failures(arrived(metrics=metrics)) == [said]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answer": "ABANDON"}, "the lifecycle hook was answered with ABANDON, not CONTINUE"),
        ({"answer": None}, "the lifecycle hook was answered with nothing, not CONTINUE"),
        ({"before_ran": False}, "the drain's command stop-shop did not run"),
        ({"exit_code": 3}, "the agent ended with exit code 3, not 0"),
        ({"exit_code": None}, "the agent ended with exit code None, not 0"),
        ({"stored": None}, "the receipt is not in S3"),
        ({"stored": receipt() + b"\n"}, "the receipt in S3 differs from the one on the instance"),
        ({"here": None}, "there is no receipt on the instance"),
        ({"here": b"{broken"}, "there is no receipt on the instance"),
    ],
)
def test_what_speaks_against_the_drain_is_told(changed, said):
    assert said in failures(evidence_=evidence(**changed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"outcome": "incomplete"}, "the receipt says incomplete"),
        (
            {"gaps": [{"kind": "log", "item": "/log/app.log", "bytes": 1234, "reason": "not read"}]},
            "the receipt has a gap: log /log/app.log, 1,234 bytes: not read",
        ),
        (
            {"refused": [{"kind": "log", "item": "/log/app.log", "count": 2, "reason": "too old"}]},
            "AWS refused: log /log/app.log, 2: too old",
        ),
        ({"uploads": {"objects": 1, "bytes": 100}}, "the receipt says 1 objects of 100 bytes, written were 2 of 100"),
    ],
)
def test_what_the_receipt_admits_is_told(changed, said):
    assert failures(evidence_=evidence(receipt(**changed))) == [said]


def test_a_receipt_that_acknowledges_less_than_was_written_is_told():
    logs = orjson.loads(receipt())["logs"]
    logs[1]["acknowledged"] -= 1
    assert failures(evidence_=evidence(receipt(logs=logs))) == [
        "app.log: 60 bytes written, 59 acknowledged by the receipt"
    ]


def test_a_file_that_the_receipt_does_not_know_is_told():
    logs = orjson.loads(receipt())["logs"][:2]
    assert failures(evidence_=evidence(receipt(logs=logs))) == ["access.log: not in the receipt"]


def test_a_receipt_that_was_altered_is_told_by_its_digest():
    altered = receipt().replace(b'"proven"', b'"proven" ').replace(b'"objects":2', b'"objects":2,"more":1')
    assert failures(evidence_=evidence(altered)) == ["the receipt's digest is not that of its content"]


def test_the_newest_receipt_counts(tmp_path):
    import os

    for name, moment in (("a.2.json", 20), ("a.1.json", 10), ("b.manifest.ndjson", 30)):
        (tmp_path / name).write_bytes(name.encode())
        os.utime(tmp_path / name, (moment, moment))
    assert newest(str(tmp_path)) == ("a.2.json", b"a.2.json")
    assert newest(str(tmp_path / "absent")) is None
