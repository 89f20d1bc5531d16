"""The drain: proof before goodbye, also through crashes and outages."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from drain_fakes import Stage

from agent.aws.errors import Throttled, Unreachable
from agent.config.sections.drain import Drain
from agent.drain.journal import Phase
from agent.drain.notice import Notice
from agent.drain.receipt import digest, latest
from agent.engine.job import Refusal


def config(**fields: Any) -> Drain:
    return Drain.model_validate(fields)


def python(code: str, **fields: Any) -> dict[str, Any]:
    return {"name": "command", "run": [sys.executable, "-c", code], **fields}


@pytest.fixture
def stages(tmp_path):
    made = []

    def make(**fields):
        made.append(Stage(tmp_path, config(**fields)))
        return made[-1]

    yield make
    for stage in made:
        stage.database.close()


def notice(stage: Stage, reason: str = "auto-scaling", deadline: float | None = None) -> None:
    stage.machine.notice(Notice(reason, stage.clock.time(), deadline))  # type: ignore[arg-type]


def test_when_nothing_is_owed_the_hook_is_answered_continue_after_the_receipt_is_stored(stages):
    stage = stages()
    notice(stage)
    stage.run()
    assert stage.scaling.results == ["CONTINUE"]
    assert stage.machine.record.outcome == "proven"
    assert stage.store.documents[0]["hook"]["result"] == "CONTINUE"
    assert latest(stage.receipts) == stage.store.documents[0]


def test_the_receipts_digest_covers_everything_else(stages):
    stage = stages()
    notice(stage)
    stage.run()
    receipt = latest(stage.receipts)
    assert receipt["digest"] == digest(receipt)
    assert digest({**receipt, "outcome": "incomplete"}) != receipt["digest"]


def test_the_jobs_look_again_from_the_start_once_the_producers_have_stopped(stages):
    stage = stages(before=[python("pass")])
    notice(stage)
    run_commands(stage)
    assert stage.job.seals == 1
    assert stage.scaling.results == ["CONTINUE"]


def test_while_something_is_owed_the_hook_is_kept_waiting_and_not_answered(stages):
    stage = stages()
    stage.job.owed = 10
    notice(stage)
    stage.run(seconds=400)
    assert stage.scaling.results == []
    assert 3 <= stage.scaling.heartbeats <= 6  # a third of 300 s, jittered
    stage.job.owed = 0
    stage.run()
    assert stage.scaling.results == ["CONTINUE"]


@pytest.mark.parametrize(
    ("policy", "retain", "answer"),
    [
        ("hold", True, "ABANDON"),
        ("hold", False, "CONTINUE"),
        ("abandon", False, "ABANDON"),
        ("continue", True, "CONTINUE"),
    ],
)
def test_with_a_gap_at_the_deadline_the_answer_is_as_configured(stages, policy, retain, answer):
    stage = stages(on_incomplete=policy, timeout="60s")
    stage.job.owed, stage.scaling.retain = 10, retain
    notice(stage)
    stage.run(seconds=200)
    assert stage.scaling.results == [answer]
    assert stage.machine.record.outcome == "incomplete"
    assert stage.store.documents[0]["gaps"] == [
        {"kind": "log", "item": "/a.log", "bytes": 10, "reason": "not yet acknowledged"}
    ]


def test_a_job_that_names_no_gap_and_is_not_settled_is_a_gap_itself(stages):
    stage = stages(timeout="60s")
    stage.job.silent = True
    notice(stage)
    stage.run(seconds=200)
    assert stage.machine.record.outcome == "incomplete"
    assert stage.store.documents[0]["gaps"][0]["kind"] == "fake"


@pytest.mark.parametrize(("strict", "outcome"), [(False, "proven"), (True, "incomplete")])
def test_what_aws_refused_for_good_is_settled_unless_strict(stages, strict, outcome):
    stage = stages(strict=strict)
    stage.job.refused = (Refusal("log", "/a.log", 3, "too old"),)
    notice(stage)
    stage.run()
    assert stage.machine.record.outcome == outcome
    assert stage.store.documents[0]["refused"][0]["count"] == 3


def test_a_receipt_that_s3_does_not_take_is_tried_again_before_the_hook_is_answered(stages):
    stage = stages()
    stage.store.failures = 3
    notice(stage)
    stage.run(until=lambda: stage.store.failures == 1)
    assert stage.scaling.results == []
    stage.run()
    assert stage.scaling.results == ["CONTINUE"]


def test_an_instance_is_not_held_for_ever_by_a_bucket_that_is_gone(stages):
    stage = stages(timeout="60s")
    stage.store.failures = 10**6
    notice(stage)
    stage.run(seconds=300)
    assert stage.scaling.results == ["CONTINUE"]
    assert latest(stage.receipts)["outcome"] == "proven"
    assert stage.events.counters()["receipts_failed"] == 1


def test_an_action_that_is_not_active_yet_is_answered_when_it_is(stages):
    stage = stages()
    stage.scaling.active = False
    stage.scaling.state = "Terminating"
    notice(stage)
    stage.run(seconds=30)
    assert stage.machine.record.phase is Phase.COMPLETING
    stage.scaling.active = True
    stage.run()
    assert stage.scaling.results == ["CONTINUE"]


def test_an_action_that_timed_out_meanwhile_ends_the_drain(stages):
    stage = stages()
    stage.scaling.active, stage.scaling.state = False, "Terminating:Proceed"
    notice(stage)
    stage.run()
    assert stage.machine.finished.is_set()
    assert stage.machine.record.hook["answer"] == "no action waits"


def test_an_outage_of_auto_scaling_delays_the_answer_and_never_loses_it(stages):
    stage = stages()
    stage.scaling.failures = [Unreachable("x"), Throttled("y", "Throttling", "Rate exceeded")] * 5
    notice(stage)
    stage.run(seconds=300)
    assert stage.scaling.results == ["CONTINUE"]


def test_without_a_hook_the_drain_ends_after_the_receipt(stages):
    stage = stages()
    stage.scaling.hooks_there = []
    notice(stage)
    stage.run()
    assert stage.machine.record.outcome == "proven"
    assert stage.scaling.results == []


def test_of_several_hooks_none_is_answered_unless_ours_is_named(stages):
    stage = stages()
    stage.scaling.hooks_there = ["theirs", "ours"]
    notice(stage)
    stage.run()
    assert stage.scaling.results == []
    named = stages(hook="ours")
    named.machine._tools.journal.forget()
    named.scaling.hooks_there = ["theirs", "ours"]
    notice(named)
    named.run()
    assert named.scaling.results == ["CONTINUE"]


def test_a_second_notice_only_shortens(stages):
    stage = stages()
    stage.job.owed = 1
    notice(stage)
    before = stage.machine.record.deadline
    notice(stage, "spot", deadline=stage.clock.time() + 110)
    assert stage.machine.record.deadline == pytest.approx(stage.clock.time() + 110)
    notice(stage, "operator", deadline=stage.clock.time() + 5000)
    assert stage.machine.record.deadline < before
    assert stage.machine.record.reason == "auto-scaling"


def test_a_notice_that_comes_again_begins_nothing_anew(stages):
    stage = stages()
    notice(stage)
    first = stage.machine.record.drain_id
    stage.run()
    notice(stage)
    assert stage.machine.record.drain_id == first
    assert stage.machine.finished.is_set()
    assert stage.scaling.results == ["CONTINUE"]


def test_drained_by_an_operator_the_later_hook_is_answered_after_a_new_look(stages):
    stage = stages()
    notice(stage, "operator")
    stage.run()
    assert stage.scaling.results == []
    drains = stage.job.drains
    notice(stage)
    stage.run()
    assert stage.scaling.results == ["CONTINUE"]
    assert stage.job.drains > drains
    assert [document["revision"] for document in stage.store.documents] == [1, 2]


@pytest.mark.parametrize("phase", list(Phase))
def test_killed_in_any_phase_the_same_drain_goes_on_and_is_answered_once(stages, phase):
    stage = stages()
    notice(stage)
    drain_id = stage.machine.record.drain_id
    stage.run(until=lambda: stage.machine.record.phase is phase)
    stage.crash()
    stage.run()
    assert stage.machine.record.drain_id == drain_id
    assert stage.machine.record.outcome == "proven"
    assert stage.scaling.results == ["CONTINUE"]


def test_done_stays_done_after_a_restart(stages):
    stage = stages()
    notice(stage)
    stage.run()
    stage.crash()
    assert stage.machine.finished.is_set()
    assert stage.machine.step(stage.clock.monotonic()) is None


def test_after_a_reboot_an_operators_drain_is_over_but_that_of_auto_scaling_is_not(stages):
    stage = stages()
    notice(stage, "operator")
    stage.boot_id = "boot-2"
    stage.crash()
    assert stage.machine.record is None
    notice(stage)
    stage.boot_id = "boot-3"
    stage.crash()
    assert stage.machine.record.reason == "auto-scaling"


# -- commands


def run_commands(stage: Stage) -> None:
    """Let real processes end: the clock moves only a little for each look."""
    for _ in range(4000):
        again = stage.machine.step(stage.clock.monotonic())
        if again is None:
            return
        if stage.machine._steps.command is not None:
            stage.machine._steps.command._process.wait(timeout=10)
        stage.clock.advance(max(0.0, again - stage.clock.monotonic()))


def test_commands_know_why_and_until_when(stages, tmp_path):
    out = tmp_path / "out"
    names = "('DRAIN_ID', 'DRAIN_REASON', 'DRAIN_DEADLINE')"
    code = f"import os; open({str(out)!r}, 'w').write(' '.join(os.environ[name] for name in {names}))"
    stage = stages(before=[python(code)])
    notice(stage)
    run_commands(stage)
    record = stage.machine.record
    assert out.read_text().split() == [record.drain_id, "auto-scaling", str(int(record.deadline))]


def test_before_runs_in_order_and_after_follows_the_proof(stages, tmp_path):
    out = tmp_path / "out"
    steps = [
        {**python(f"open({str(out)!r}, 'a').write('{name} ')"), "name": name} for name in ("one", "two", "three")
    ]
    stage = stages(before=steps[:2], after=steps[2:])
    notice(stage)
    run_commands(stage)
    assert out.read_text().split() == ["one", "two", "three"]
    assert [run["exit_code"] for run in latest(stage.receipts)["commands"]] == [0, 0, 0]


@pytest.mark.parametrize(("policy", "outcome"), [("continue", "proven"), ("incomplete", "incomplete")])
def test_a_failing_command_counts_as_configured(stages, policy, outcome):
    stage = stages(before=[python("raise SystemExit(7)", on_failure=policy)], on_incomplete="continue")
    notice(stage)
    run_commands(stage)
    assert stage.machine.record.outcome == outcome
    assert latest(stage.receipts)["commands"][0]["exit_code"] == 7


def test_a_command_that_can_not_be_started_is_said_and_does_not_stop_the_drain(stages):
    stage = stages(before=[{"name": "gone", "run": ["/nonexistent/command"]}])
    notice(stage)
    run_commands(stage)
    assert stage.scaling.results == ["CONTINUE"]
    assert "not started" in latest(stage.receipts)["commands"][0]["note"]


def test_a_command_over_its_time_is_ended_with_all_that_it_started(stages, tmp_path):
    pid = tmp_path / "pid"
    code = (
        "import os, signal, time, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid)!r} + '.part', 'w').write(str(child.pid)); os.rename({str(pid)!r} + '.part', {str(pid)!r})\n"
        "time.sleep(60)"
    )
    stage = stages(before=[python(code, timeout="5s")])
    notice(stage)
    while not pid.exists():
        stage.machine.step(stage.clock.monotonic())
    stage.clock.advance(6)
    stage.machine.step(stage.clock.monotonic())
    stage.clock.advance(6)
    stage.machine.step(stage.clock.monotonic())
    stage.machine._steps.command._process.wait(timeout=10)
    stage.run()
    run = latest(stage.receipts)["commands"][0]
    assert (run["exit_code"], run["note"]) == (-9, "timed out")
    with pytest.raises(ProcessLookupError):
        _alive(int(pid.read_text()))


def _alive(pid: int) -> None:
    """Raises ProcessLookupError once the process is gone, or only waits to be reaped by init."""
    for _ in range(200):
        with open(f"/proc/{pid}/stat") if os.path.exists(f"/proc/{pid}/stat") else open(os.devnull) as file:
            text = file.read()
        if not text or text.rsplit(")", 1)[1].split()[0] in "ZX":
            raise ProcessLookupError
        os.sched_yield()


@pytest.mark.parametrize(
    ("policy", "runs", "note"),
    [("rerun", 2, ""), ("skip", 1, "interrupted: whether"), ("fail", 1, "interrupted, and counted as failed")],
)
def test_a_command_interrupted_by_a_crash_is_treated_as_configured(stages, tmp_path, policy, runs, note):
    out = tmp_path / "out"
    stage = stages(before=[python(f"open({str(out)!r}, 'a').write('x')", on_resume=policy)])
    notice(stage)
    stage.run(until=lambda: stage.machine._steps.command is not None)
    stage.machine._steps.command._process.wait(timeout=10)
    stage.machine._steps.command.close()
    stage.crash()
    run_commands(stage)
    assert out.read_text() == "x" * runs
    assert latest(stage.receipts)["commands"][0]["note"].startswith(note)


def test_at_shutdown_only_commands_that_say_so_are_run(stages, tmp_path):
    out = tmp_path / "out"
    steps = [
        {**python(f"open({str(out)!r}, 'a').write('{name} ')"), "name": name, "at_shutdown": name == "quick"}
        for name in ("slow", "quick")
    ]
    stage = stages(before=steps)
    notice(stage, "shutdown")
    run_commands(stage)
    assert out.read_text().split() == ["quick"]
    assert stage.scaling.results == []
