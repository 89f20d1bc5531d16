"""The control API, and the stand-in as a process of its own."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import orjson
import pytest

from agent.standin.control import Control as ControlApi
from agent.standin.message import Body, Request
from agent.standin.standin import Standin

NOW_MS = int(time.time() * 1000)


class Control:
    """A client of the control API."""

    def __init__(self, url: str) -> None:
        self._url = url

    def request(self, method: str, path: str, /, document: object = None, **query: str) -> bytes:
        url = f"{self._url}/_standin/{path}?{urllib.parse.urlencode(query)}"
        data = None if document is None else orjson.dumps(document)
        request = urllib.request.Request(url, data, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bytes(answer.read())

    def get(self, path: str, /, **query: str) -> Any:
        return orjson.loads(self.request("GET", path, **query))

    def lines(self, path: str, /, **query: str) -> list[Any]:
        return [orjson.loads(line) for line in self.request("GET", path, **query).splitlines()]

    def post(self, path: str, document: object = None) -> Any:
        return orjson.loads(self.request("POST", path, {} if document is None else document))

    def delete(self, path: str, /, **query: str) -> Any:
        return orjson.loads(self.request("DELETE", path, **query))

    def refusal(self, method: str, path: str, document: object = None) -> tuple[int, str]:
        with pytest.raises(urllib.error.HTTPError) as raised:
            self.request(method, path, document)
        with raised.value as error:
            return error.code, orjson.loads(error.read())["error"]


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    with Standin.start() as standin:
        yield standin


@pytest.fixture
def standin(running: Standin) -> Iterator[Standin]:
    yield running
    running.reset()


@pytest.fixture
def control(standin: Standin) -> Control:
    return Control(standin.url)


@pytest.fixture(scope="module")
def clients(running: Standin) -> dict[str, Any]:
    return _clients(running.environment())


def _clients(environment: dict[str, str]) -> dict[str, Any]:
    session = boto3.Session(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )
    names = ("logs", "cloudwatch", "s3", "autoscaling")
    return {name: session.client(name, endpoint_url=environment["AWS_ENDPOINT_URL"]) for name in names}


def fill(clients: dict[str, Any]) -> None:
    """Something of everything arrives."""
    logs, names = clients["logs"], {"logGroupName": "/g", "logStreamName": "s"}
    logs.create_log_group(logGroupName="/g", tags={"team": "shop"})
    logs.create_log_stream(**names)
    logs.put_log_events(**names, logEvents=[{"timestamp": NOW_MS, "message": m} for m in ("a", "b")])
    datum = {"MetricName": "m", "Value": 2.5, "Dimensions": [{"Name": "d", "Value": "v"}]}
    clients["cloudwatch"].put_metric_data(Namespace="App", MetricData=[datum])
    clients["s3"].put_object(Bucket="bucket", Key="a/b", Body=b"content", Metadata={"k": "v"})


def test_it_says_what_arrived(control: Control, clients: dict[str, Any]) -> None:
    control.post("buckets", {"name": "bucket"})
    fill(clients)
    assert control.get("logs")["/g"]["streams"]["s"] == {
        "batches": 1,
        "events": 2,
        "bytes": 2 * 27,
        "first": NOW_MS,
        "last": NOW_MS,
    }
    events = control.lines("logs/events", group="/g", stream="s")
    assert [(event["timestamp"], event["message"]) for event in events] == [(NOW_MS, "a"), (NOW_MS, "b")]
    (series,) = control.get("metrics")
    assert (series["namespace"], series["dimensions"], series["sum"]) == ("App", {"d": "v"}, 2.5)
    (datum,) = control.lines("metrics/datums", namespace="App", name="m")
    assert (datum["Value"], datum["Dimensions"]) == (2.5, {"d": "v"})
    assert control.get("buckets")["bucket"] == {
        "region": "eu-west-1",
        "owner": "123456789012",
        "objects": 1,
        "bytes": 7,
        "uploads": [],
    }
    (stored,) = control.lines("objects", bucket="bucket")
    assert (stored["key"], stored["size"], stored["metadata"]) == ("a/b", 7, {"k": "v"})
    assert stored["checksum"]["algorithm"] == "CRC32"
    assert control.request("GET", "object", bucket="bucket", key="a/b") == b"content"


def test_a_large_answer_is_streamed_whole(control: Control, clients: dict[str, Any], standin: Standin) -> None:
    clients["logs"].create_log_group(logGroupName="/g")
    clients["logs"].create_log_stream(logGroupName="/g", logStreamName="s")
    events = [{"timestamp": NOW_MS, "message": f"{n:05d} {'x' * 60}"} for n in range(10_000)]
    clients["logs"].put_log_events(logGroupName="/g", logStreamName="s", logEvents=events)
    lines = control.lines("logs/events", group="/g", stream="s")
    assert [line["message"] for line in lines] == [event["message"] for event in events]
    target = "/_standin/logs/events?group=/g&stream=s"
    blocks = ControlApi(standin)(
        Request("GET", target, {}, Body(io.BufferedReader(io.BytesIO()), {}, lambda: None))
    ).body
    assert max(map(len, blocks)) < 70_000


def test_it_says_what_was_asked(control: Control, clients: dict[str, Any]) -> None:
    clients["logs"].describe_log_groups()
    clients["autoscaling"].describe_auto_scaling_groups()
    assert control.get("counters") == [
        {"service": "autoscaling", "operation": "DescribeAutoScalingGroups", "result": "ok", "count": 1},
        {"service": "logs", "operation": "DescribeLogGroups", "result": "ok", "count": 1},
    ]
    (call,) = control.lines("calls", service="logs")
    assert (call["operation"], call["status"], call["received"], call["fault"]) == ("DescribeLogGroups", 200, 2, None)


def test_faults_are_set_listed_and_cleared(control: Control) -> None:
    numbers = control.post(
        "faults", [{"kind": "throttle", "service": "s3"}, {"kind": "hang", "seconds": 5, "times": 1}]
    )
    assert [(rule["number"], rule["kind"]) for rule in control.get("faults")] == [
        (numbers[0], "throttle"),
        (numbers[1], "hang"),
    ]
    control.delete("faults", number=str(numbers[0]))
    assert [rule["kind"] for rule in control.get("faults")] == ["hang"]
    control.delete("faults")
    control.post("outage", {"seconds": 30})
    (rule,) = control.get("faults")
    assert (rule["kind"], rule["service"], rule["for_seconds"]) == ("refuse", "*", 30)


def test_the_clock_is_moved(control: Control, standin: Standin) -> None:
    before = standin.clock()
    assert control.post("clock", {"advance": 3600})["now"] >= before + 3600
    control.post("clock", {"signing_offset": -400})
    assert standin.signing_clock.offset == -400


def test_a_lifecycle_is_played(control: Control, standin: Standin) -> None:
    hook = {"name": "drain", "heartbeat_timeout": 60}
    control.post(
        "lifecycle/groups", {"name": "web", "instances": [standin.instance_id], "hooks": [hook], "retain": True}
    )
    assert control.post("lifecycle/notice")["actions"][0]["hook"] == "drain"
    control.post("clock", {"advance": 61})
    state = control.get("lifecycle")
    assert [(i["state"], i["target"]) for i in state["instances"]] == [("Terminating:Retained", "Terminated")]
    assert 60 <= state["passages"][0]["seconds"] < 61
    control.post("lifecycle/launch")
    assert control.get("lifecycle")["instances"][0]["state"] == "InService"


def test_metadata_is_set_and_unset(control: Control, standin: Standin) -> None:
    control.post("metadata", {"meta-data/instance-id": "i-other", "user-data": 503, "meta-data/spot/x": None})
    control.post("metadata/tags", {"Name": "web"})
    control.post("metadata/spot", {"action": "stop", "at": 0})
    control.delete("metadata", path="user-data")
    assert control.get("metadata") == {
        "meta-data/instance-id": "i-other",
        "meta-data/spot/x": None,
        "meta-data/tags/instance/Name": "web",
        "meta-data/instance-life-cycle": "spot",
        "meta-data/spot/instance-action": '{"action":"stop","time":"1970-01-01T00:00:00Z"}',
    }
    control.post("metadata/state", {"enabled": False, "credentials_lifetime": 900, "expire_credentials": True})
    assert (standin.metadata.enabled, standin.metadata.credentials_lifetime) == (False, 900)


def test_reset_forgets_everything_that_arrived_or_was_set(control: Control, clients: dict[str, Any]) -> None:
    control.post("buckets", {"name": "bucket"})
    fill(clients)
    control.post("faults", {"kind": "lost", "times": 1})
    control.post("metadata", {"user-data": "x"})
    control.post("lifecycle/groups", {"name": "web"})
    control.post("reset")
    assert [control.get(name) for name in ("logs", "metrics", "buckets", "faults", "counters", "metadata")] == (
        [{}, [], {}, [], [], {}]
    )
    assert control.get("lifecycle") == {"instances": [], "passages": []}


@pytest.mark.parametrize(
    ("method", "path", "document", "status", "complaint"),
    [
        ("GET", "nonsense", None, 404, "no GET /_standin/nonsense"),
        ("POST", "faults", {"kind": "explode"}, 400, "kind must be one of"),
        ("POST", "buckets", {}, 400, "name is missing"),
        ("POST", "buckets", [], 400, "an object is expected"),
        ("POST", "lifecycle/notice", {"instance_id": "i-x"}, 400, "No managed instance"),
        ("POST", "lifecycle/groups", {"name": "a", "colour": "red"}, 400, "colour"),
        ("POST", "metadata", {"user-data": [1]}, 400, "a text, a status or null"),
        ("GET", "object?bucket=none&key=k", None, 400, "bucket does not exist"),
        ("GET", "logs/events", None, 400, "parameter group is missing"),
    ],
)
def test_a_mistake_is_named(
    control: Control, method: str, path: str, document: object, status: int, complaint: str
) -> None:
    code, message = control.refusal(method, path, document)
    assert code == status
    assert complaint in message


def test_waiting_for_a_call_needs_no_sleep(standin: Standin, clients: dict[str, Any]) -> None:
    caller = threading.Thread(target=clients["logs"].describe_log_groups)
    caller.start()
    started = time.monotonic()
    assert standin.journal.wait_for(lambda: standin.journal.count("logs") == 1, timeout=30)
    assert time.monotonic() - started < 10
    caller.join()
    assert not standin.journal.wait_for(lambda: standin.journal.count("logs") == 2, timeout=0.01)


# as a process


def test_the_process_says_where_it_is_serves_and_ends_cleanly(tmp_path: Any) -> None:
    port_file = tmp_path / "port"
    command = [sys.executable, "-W", "error", "-m", "agent.standin", "--port", "0", "--port-file", str(port_file)]
    command += ["--region", "us-west-2", "--instance-id", "i-1", "--directory", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        about = orjson.loads(process.stdout.readline())
        assert about["url"] == f"http://127.0.0.1:{port_file.read_text().strip()}"
        control = Control(about["url"])
        assert control.get("")["instance_id"] == "i-1"
        control.post("buckets", {"name": "bucket"})
        fill(_clients(about["environment"]))
        assert len(control.lines("logs/events", group="/g", stream="s")) == 2
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, b"")
        assert os.listdir(tmp_path) == ["port"]
    finally:
        process.kill()
        process.communicate()
