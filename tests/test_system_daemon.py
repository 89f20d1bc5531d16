"""The real process: notices, signals, exit codes, and what it says to people who get something wrong."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_agent import RealAgent, eventually

from agent.standin.faults import Fault, Kind
from agent.standin.lifecycle import Hook
from agent.standin.standin import INSTANCE_ID, Standin

RECEIPTS = "drain: {receipt: {bucket: receipts}}\n"
Make = Callable[..., RealAgent]


@pytest.fixture
def standin() -> Iterator[Standin]:
    with Standin.start() as running:
        running.s3.add_bucket("receipts")
        running.lifecycle.add_group("web", instances=[INSTANCE_ID], hooks=[Hook("drain", heartbeat_timeout=300)])
        yield running


@pytest.fixture
def make(tmp_path: Path, standin: Standin) -> Iterator[Make]:
    made: list[RealAgent] = []

    def make(configuration: str = "", **environment: str) -> RealAgent:
        logs = f"logs: {{flush_interval: 100ms, files: [{{path: {tmp_path}/*.txt, group: /app}}]}}\n"
        made.append(RealAgent(tmp_path, standin, configuration or logs + RECEIPTS, **environment))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


def messages(standin: Standin) -> list[str]:
    return [
        message
        for group in standin.logs.groups().values()
        for stream in group.streams
        for message in standin.logs.messages(group.name, stream)
    ]


def test_a_termination_is_answered_continue_after_everything_has_arrived(
    make: Make, standin: Standin, tmp_path: Path
) -> None:
    (tmp_path / "app.txt").write_text("one\ntwo\nthree, without an end")
    agent = make().running()
    passage = standin.lifecycle.notice(INSTANCE_ID)
    eventually(lambda: passage.actions and passage.actions[0].result)
    assert passage.actions[0].result == "CONTINUE"
    assert messages(standin) == ["one", "two", "three, without an end"]
    [stored] = standin.s3.objects("receipts")
    receipt = json.loads(standin.s3.read("receipts", stored.key))
    assert receipt["outcome"] == "proven"
    assert stored.key == f"receipts/web/{INSTANCE_ID}/{receipt['drain_id']}.1.json"
    assert agent.call("receipt").returncode == 0
    status = eventually(lambda: (found := agent.status()) and found["state"] == "done" and found)
    assert status["debt"]["bytes"] == 0
    assert agent.terminate() == 0


def test_a_file_whose_name_is_no_text_is_proven_like_any_other(make: Make, standin: Standin, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("one\n")
    agent = make().running()
    assert agent.call("drain", "--wait").returncode == 0
    assert messages(standin) == ["one"]
    assert json.loads(agent.call("receipt", "--json").stdout)["logs"][0]["path"] == f"{tmp_path}/\\xff.txt"


def test_an_operators_drain_waits_for_the_proof_and_stays_done_over_a_restart(
    make: Make, standin: Standin, tmp_path: Path
) -> None:
    (tmp_path / "app.txt").write_text("one\n")
    agent = make().running()
    drained = agent.call("drain", "--reason", "blue/green", "--wait")
    assert drained.returncode == 0, drained.stderr
    assert json.loads(agent.call("receipt", "--json").stdout)["note"] == "blue/green"
    assert agent.terminate() == 0
    (tmp_path / "app.txt").write_text("one\nafter the drain\n")
    agent.running()
    assert agent.status()["state"] == "done"
    assert agent.terminate() == 0
    assert messages(standin) == ["one"]


def test_a_gap_at_the_deadline_makes_drain_and_agent_exit_3(make: Make, standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "app.txt").write_text("one\n")
    standin.faults.add(Fault(Kind.THROTTLE, service="logs"))
    agent = make().running()
    drained = agent.call("drain", "--deadline", "1s", "--wait")
    assert drained.returncode == 3, drained.stdout
    receipt = agent.call("receipt", "--json")
    assert receipt.returncode == 3
    assert json.loads(receipt.stdout)["gaps"][0]["bytes"] == 4
    assert agent.terminate() == 3


def fake_systemctl(folder: Path, answer: str) -> str:
    """A PATH on which the system manager answers so."""
    tool = folder / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho {answer}\n")
    tool.chmod(0o755)
    return f"{tool.parent}:/usr/bin:/bin"


def test_sigterm_while_the_system_goes_down_is_a_drain(make: Make, standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "app.txt").write_text("one\n")
    agent = make(PATH=fake_systemctl(tmp_path, "stopping")).running()
    assert agent.terminate() == 0
    receipt = json.loads(agent.call("receipt", "--json").stdout)
    assert (receipt["reason"], receipt["outcome"]) == ("shutdown", "proven")
    assert standin.lifecycle.passages() == []


def test_sigterm_otherwise_flushes_whole_lines_and_writes_no_receipt(
    make: Make, standin: Standin, tmp_path: Path
) -> None:
    agent = make(PATH=fake_systemctl(tmp_path, "running")).running()
    (tmp_path / "app.txt").write_text("just before the end\nin the mid")
    assert agent.terminate() == 0
    assert messages(standin) == ["just before the end"]
    assert agent.call("receipt").returncode == 1
    with (tmp_path / "app.txt").open("a") as file:
        file.write("dle of a line\n")
    agent.running()
    eventually(lambda: messages(standin) == ["just before the end", "in the middle of a line"])


def test_a_second_sigterm_ends_it_at_once(make: Make, standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "app.txt").write_text("one\n")
    standin.faults.add(Fault(Kind.HANG, service="logs", seconds=60))
    agent = make().running()
    eventually(
        lambda: (
            any(call.operation == "PutLogEvents" for call in standin.journal.calls())
            or standin.faults.as_json()[0]["acted"]
        )
    )
    agent.signal(signal.SIGTERM)
    eventually(lambda: agent.events("stopped") or agent.status() is None or agent.status()["state"] == "stopping")
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 130


def test_killed_in_the_middle_of_a_drain_it_goes_on_after_the_restart(
    make: Make, standin: Standin, tmp_path: Path
) -> None:
    (tmp_path / "app.txt").write_text("one\ntwo\n")
    agent = make().running()
    outage = standin.faults.outage()
    passage = standin.lifecycle.notice(INSTANCE_ID)
    first = eventually(lambda: (found := agent.status()) and found["drain"])
    agent.kill()
    agent.running()
    standin.faults.remove(outage)
    eventually(lambda: passage.actions[0].result)
    assert passage.actions[0].result == "CONTINUE"
    assert agent.status()["drain"]["drain_id"] == first["drain_id"]
    assert set(messages(standin)) == {"one", "two"}


def test_an_unreachable_aws_is_said_once_kept_and_recovered_from(
    make: Make, standin: Standin, tmp_path: Path
) -> None:
    (tmp_path / "app.txt").write_text("one\n")
    outage = standin.faults.outage()
    agent = make().running()
    eventually(lambda: agent.events("logs_not_accepted"))
    eventually(lambda: agent.status()["counters"].get("log_batches_retried", 0) >= 3)
    assert len(agent.events("logs_not_accepted")) == 1
    assert agent.status()["debt"]["bytes"] == 4
    standin.faults.remove(outage)
    eventually(lambda: messages(standin) == ["one"])
    assert agent.events("logs_accepted_again")


def test_a_denied_group_is_said_with_what_to_do_and_recovered_from(
    make: Make, standin: Standin, tmp_path: Path
) -> None:
    (tmp_path / "app.txt").write_text("one\n")
    number = standin.faults.add(Fault(Kind.ERROR, service="logs", status=400, code="AccessDeniedException"))
    agent = make().running()
    [said] = eventually(lambda: agent.events("logs_not_accepted"))
    assert "policy" in said["hint"]
    standin.faults.remove(number)
    eventually(lambda: messages(standin) == ["one"])


def test_a_wrong_configuration_exits_2_with_every_mistake_and_no_traceback(make: Make) -> None:
    agent = make("logs: {files: [{pth: /x}]}\nmetrics: {interval: soon}\n")
    result = agent.call("run")
    assert result.returncode == 2
    assert "path" in result.stderr
    assert "interval" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_can_not_be_served_yet_is_refused_plainly(make: Make) -> None:
    agent = make("drain: {triggers: {rebalance: true}}\n")
    result = agent.call("run")
    assert result.returncode == 2
    assert "drain.triggers.rebalance" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_region_it_says_what_was_tried(make: Make) -> None:
    agent = make(
        "logs: {files: [{path: /x/y, group: /g}]}\n",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_REGION="",
        AWS_DEFAULT_REGION="",
    )
    result = agent.call("run")
    assert result.returncode == 2
    for tried in ("aws.region", "AWS_REGION", "profile", "metadata"):
        assert tried in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_agent_with_the_same_state_exits_1(make: Make) -> None:
    agent = make().running()
    second = agent.call("run")
    assert second.returncode == 1
    assert "state_dir" in second.stderr
    assert agent.ended() is None


def test_status_of_no_agent_exits_1_and_says_so(make: Make) -> None:
    result = make().call("status")
    assert result.returncode == 1
    assert "running" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_placeholder_without_a_value_exits_2_and_says_which(make: Make) -> None:
    agent = make('logs: {files: [{path: /x/y, group: "/g/{tag:Team}"}]}\n')
    result = agent.call("run")
    assert result.returncode == 2
    assert "{tag:Team}" in result.stderr


def test_state_of_another_instance_is_set_aside(make: Make, standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "app.txt").write_text("one\n")
    agent = make().running()
    eventually(lambda: messages(standin) == ["one"])
    assert agent.terminate() == 0
    standin.metadata.set("meta-data/instance-id", "i-0fedcba9876543210")
    identity = {"instanceId": "i-0fedcba9876543210", "region": standin.region, "accountId": standin.account_id}
    standin.metadata.set("dynamic/instance-identity/document", json.dumps(identity))
    agent.running()
    eventually(lambda: messages(standin) == ["one", "one"])
    assert agent.events("foreign_state_set_aside")
