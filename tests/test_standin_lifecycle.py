"""The model of an instance's way out of service, and Auto Scaling's operations on it."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.lifecycle import (
    ABANDON,
    CONTINUE,
    LAUNCHING,
    Hook,
    Lifecycle,
    LifecycleError,
    NoActionError,
)
from agent.standin.standin import Standin

ME = "i-0123456789abcdef0"
START = 1_700_000_000.0


class FakeClock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float) -> None:
        """Set the clock to so many seconds after the start."""
        self.now = START + seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lifecycle(clock: FakeClock) -> Lifecycle:
    return Lifecycle(clock, "eu-west-1a")


def group(lifecycle: Lifecycle, *hooks: Hook, **options: Any) -> None:
    lifecycle.add_group("web", instances=[ME], hooks=hooks or [Hook("drain", heartbeat_timeout=100)], **options)


def state(lifecycle: Lifecycle) -> str:
    instance = lifecycle.instance(ME)
    assert instance is not None
    return instance.state


def complete(lifecycle: Lifecycle, result: str = CONTINUE, hook: str = "drain") -> None:
    lifecycle.complete("web", hook, result, instance_id=ME)


# the model


def test_a_notice_leads_through_the_wait_to_the_end(lifecycle: Lifecycle, clock: FakeClock) -> None:
    group(lifecycle, deregistration_delay=30, action_delay=2, proceed_delay=5)
    assert state(lifecycle) == "InService"
    lifecycle.notice(ME)
    assert state(lifecycle) == "Terminating"
    clock.after(29.9)
    assert state(lifecycle) == "Terminating"
    clock.after(30)
    assert state(lifecycle) == "Terminating:Wait"
    clock.after(60)
    complete(lifecycle)
    assert state(lifecycle) == "Terminating:Proceed"
    clock.after(64.9)
    assert state(lifecycle) == "Terminating:Proceed"
    clock.after(65)
    assert state(lifecycle) == "Terminated"
    assert lifecycle.instances() == []


def test_the_target_flips_at_once_long_before_the_action_exists(lifecycle: Lifecycle) -> None:
    group(lifecycle, deregistration_delay=300)
    lifecycle.notice(ME)
    instance = lifecycle.instance(ME)
    assert instance is not None
    assert (instance.target, instance.state) == ("Terminated", "Terminating")


def test_there_is_no_action_before_the_wait_nor_in_the_race_after_it_nor_when_it_is_over(
    lifecycle: Lifecycle, clock: FakeClock
) -> None:
    group(lifecycle, deregistration_delay=30, action_delay=2)
    for at in (None, 0, 29, 30, 31.9):
        if at is not None:
            lifecycle.notice(ME)
            clock.after(at)
        with pytest.raises(NoActionError, match=f"No active Lifecycle Action found with instance ID {ME}"):
            complete(lifecycle)
    clock.after(32)
    complete(lifecycle)
    with pytest.raises(NoActionError):
        complete(lifecycle)


def test_without_a_heartbeat_the_default_result_comes_at_the_timeout(lifecycle: Lifecycle, clock: FakeClock) -> None:
    group(lifecycle, Hook("drain", heartbeat_timeout=100, default_result=CONTINUE), deregistration_delay=10)
    lifecycle.notice(ME)
    clock.after(109.9)
    assert state(lifecycle) == "Terminating:Wait"
    clock.after(110)
    assert state(lifecycle) == "Terminated"
    (passage,) = lifecycle.passages()
    (action,) = passage.actions
    assert (action.result, action.ended_by, action.ended_at) == (CONTINUE, "timeout", START + 110)


def test_a_heartbeat_starts_the_timeout_again_but_not_the_global_one(lifecycle: Lifecycle, clock: FakeClock) -> None:
    group(lifecycle, Hook("drain", heartbeat_timeout=100))
    lifecycle.notice(ME)
    for at in range(90, 10_000, 90):
        clock.after(at)
        lifecycle.heartbeat("web", "drain", instance_id=ME)
    clock.after(9_999.9)
    assert state(lifecycle) == "Terminating:Wait"
    clock.after(10_000)
    with pytest.raises(NoActionError):
        lifecycle.heartbeat("web", "drain", instance_id=ME)
    (action,) = lifecycle.passages()[0].actions
    assert (action.result, action.ended_by, len(action.heartbeats)) == (ABANDON, "global timeout", 111)


def test_a_heartbeats_timeout_runs_from_the_heartbeat_on(lifecycle: Lifecycle, clock: FakeClock) -> None:
    group(lifecycle, Hook("drain", heartbeat_timeout=100))
    lifecycle.notice(ME)
    clock.after(60)
    lifecycle.heartbeat("web", "drain", instance_id=ME)
    clock.after(159.9)
    assert state(lifecycle) == "Terminating:Wait"
    clock.after(160)
    assert state(lifecycle) == "Terminated"


@pytest.mark.parametrize(("heartbeat", "expected"), [(30, 3_000), (1728, 172_800), (7200, 172_800)])
def test_the_global_timeout_is_100_heartbeats_and_at_most_two_days(heartbeat: float, expected: float) -> None:
    assert Hook("h", heartbeat_timeout=heartbeat).global_timeout == expected


@pytest.mark.parametrize(
    ("result", "retain", "end"),
    [
        (CONTINUE, True, "Terminated"),
        (ABANDON, True, "Terminating:Retained"),
        (ABANDON, False, "Terminated"),
        (ABANDON, None, "Terminated"),
    ],
)
def test_abandon_retains_where_the_group_says_so_and_continue_never(
    lifecycle: Lifecycle, result: str, retain: bool | None, end: str
) -> None:
    group(lifecycle, retain=retain)
    lifecycle.notice(ME)
    complete(lifecycle, result)
    assert state(lifecycle) == end


def test_a_timeout_with_abandon_retains_too(lifecycle: Lifecycle, clock: FakeClock) -> None:
    group(lifecycle, retain=True)
    lifecycle.notice(ME)
    clock.after(1000)
    assert state(lifecycle) == "Terminating:Retained"
    assert lifecycle.passages()[0].proceeded_at == START + 100


def test_a_retained_instance_ends_only_when_it_is_terminated(lifecycle: Lifecycle, clock: FakeClock) -> None:
    group(lifecycle, retain=True)
    lifecycle.notice(ME)
    complete(lifecycle, ABANDON)
    clock.after(1_000_000)
    assert state(lifecycle) == "Terminating:Retained"
    lifecycle.terminate(ME)
    assert state(lifecycle) == "Terminated"


def test_all_hooks_are_waited_for(lifecycle: Lifecycle) -> None:
    group(lifecycle, Hook("drain"), Hook("other"), Hook("launch", transition=LAUNCHING))
    lifecycle.notice(ME)
    complete(lifecycle)
    assert state(lifecycle) == "Terminating:Wait"
    complete(lifecycle, hook="other")
    assert state(lifecycle) == "Terminated"


def test_one_abandon_ends_the_wait_for_all_hooks(lifecycle: Lifecycle) -> None:
    group(lifecycle, Hook("drain"), Hook("other"), retain=True)
    lifecycle.notice(ME)
    complete(lifecycle, ABANDON)
    assert state(lifecycle) == "Terminating:Retained"
    assert [action.ended_by for action in lifecycle.passages()[0].actions] == ["call", "abandoned elsewhere"]


def test_without_a_termination_hook_nothing_waits(lifecycle: Lifecycle) -> None:
    group(lifecycle, Hook("launch", transition=LAUNCHING), retain=True)
    lifecycle.notice(ME)
    assert state(lifecycle) == "Terminated"


def test_deleting_a_hook_completes_its_actions_with_continue(lifecycle: Lifecycle) -> None:
    group(lifecycle)
    lifecycle.notice(ME)
    lifecycle.delete_hook("web", "drain")
    assert state(lifecycle) == "Terminated"
    with pytest.raises(LifecycleError):
        lifecycle.delete_hook("web", "drain")


def test_a_token_serves_instead_of_the_instance(lifecycle: Lifecycle) -> None:
    group(lifecycle)
    (action,) = lifecycle.notice(ME).actions
    with pytest.raises(NoActionError, match="with token other"):
        lifecycle.complete("web", "drain", CONTINUE, token="other")
    lifecycle.complete("web", "drain", CONTINUE, token=action.token)
    assert state(lifecycle) == "Terminated"


def test_another_groups_or_hooks_name_finds_no_action(lifecycle: Lifecycle) -> None:
    group(lifecycle)
    lifecycle.notice(ME)
    for names in (("other", "drain"), ("web", "other")):
        with pytest.raises(NoActionError):
            lifecycle.complete(*names, CONTINUE, instance_id=ME)


def test_a_warm_pool_takes_the_instance_back_and_gives_it_again(lifecycle: Lifecycle) -> None:
    group(lifecycle)
    lifecycle.notice(ME, "Warmed:Stopped")
    instance = lifecycle.instance(ME)
    assert instance is not None
    assert (instance.state, instance.target) == ("Warmed:Pending:Wait", "Warmed:Stopped")
    complete(lifecycle)
    assert state(lifecycle) == "Warmed:Stopped"
    lifecycle.launch(ME)
    assert (state(lifecycle), instance.target) == ("InService", "InService")
    lifecycle.notice(ME)
    assert (state(lifecycle), len(lifecycle.passages())) == ("Terminating:Wait", 2)


def test_a_second_notice_changes_nothing(lifecycle: Lifecycle, clock: FakeClock) -> None:
    group(lifecycle)
    first = lifecycle.notice(ME)
    clock.after(10)
    assert lifecycle.notice(ME) is first
    assert first.noticed_at == START


def test_the_record_says_how_long_it_took(lifecycle: Lifecycle, clock: FakeClock) -> None:
    group(lifecycle, deregistration_delay=10)
    lifecycle.notice(ME)
    clock.after(42.5)
    assert lifecycle.passages()[0].as_json()["seconds"] is None
    complete(lifecycle)
    record = lifecycle.passages()[0].as_json()
    assert (record["seconds"], record["outcome"], record["actions"][0]["result"]) == (42.5, "Terminated", CONTINUE)


def test_what_is_not_there_is_named(lifecycle: Lifecycle) -> None:
    with pytest.raises(LifecycleError, match="No managed instance found for instance ID: i-x"):
        lifecycle.notice("i-x")
    with pytest.raises(LifecycleError, match="AutoScalingGroup 'none' not found"):
        lifecycle.group("none")
    group(lifecycle)
    with pytest.raises(LifecycleError, match="cannot go to Mars"):
        lifecycle.notice(ME, "Mars")


# the operations


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    with Standin.start(clock=lambda: START) as standin:
        yield standin


@pytest.fixture
def standin(running: Standin) -> Iterator[Standin]:
    yield running
    running.reset()


@pytest.fixture(scope="module")
def client(running: Standin) -> Any:
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=running.region)
    return session.client("autoscaling", endpoint_url=running.url)


HOOK = {"AutoScalingGroupName": "web", "LifecycleHookName": "drain"}
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"


def refusal(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    error = raised.value.response["Error"]
    assert error["Code"] == "ValidationError"
    return str(error["Message"])


def test_a_drain_over_the_wire(standin: Standin, client: Any) -> None:
    standin.lifecycle.add_group(
        "web", instances=[ME, "i-2"], retain=True, hooks=[Hook("drain", heartbeat_timeout=30)]
    )
    assert refusal(client.complete_lifecycle_action, **HOOK, InstanceId=ME, LifecycleActionResult="CONTINUE") == (
        f"No active Lifecycle Action found with instance ID {ME}"
    )
    client.terminate_instance_in_auto_scaling_group(InstanceId=ME, ShouldDecrementDesiredCapacity=True)
    client.record_lifecycle_action_heartbeat(**HOOK, InstanceId=ME)
    (details,) = client.describe_auto_scaling_instances(InstanceIds=[ME])["AutoScalingInstances"]
    assert (details["LifecycleState"], details["AutoScalingGroupName"]) == ("Terminating:Wait", "web")
    client.complete_lifecycle_action(**HOOK, InstanceId=ME, LifecycleActionResult="ABANDON")
    (described,) = client.describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"]
    assert {i["InstanceId"]: i["LifecycleState"] for i in described["Instances"]} == {
        ME: "Terminating:Retained",
        "i-2": "InService",
    }
    assert described["InstanceLifecyclePolicy"] == {"RetentionTriggers": {"TerminateHookAbandon": "retain"}}


def test_a_group_without_a_policy_has_none(standin: Standin, client: Any) -> None:
    standin.lifecycle.add_group("web")
    (described,) = client.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert "InstanceLifecyclePolicy" not in described


def test_a_hook_is_put_changed_described_and_deleted(standin: Standin, client: Any) -> None:
    standin.lifecycle.add_group("web")
    client.put_lifecycle_hook(**HOOK, LifecycleTransition=TERMINATING, NotificationMetadata="hello")
    client.put_lifecycle_hook(**HOOK, HeartbeatTimeout=30, DefaultResult="CONTINUE")
    (hook,) = client.describe_lifecycle_hooks(AutoScalingGroupName="web")["LifecycleHooks"]
    assert (hook["HeartbeatTimeout"], hook["GlobalTimeout"], hook["DefaultResult"]) == (30, 3000, "CONTINUE")
    assert (hook["LifecycleTransition"], hook["NotificationMetadata"]) == (TERMINATING, "hello")
    client.delete_lifecycle_hook(**HOOK)
    assert client.describe_lifecycle_hooks(AutoScalingGroupName="web")["LifecycleHooks"] == []


def test_a_new_hook_has_awss_defaults(standin: Standin, client: Any) -> None:
    standin.lifecycle.add_group("web")
    client.put_lifecycle_hook(**HOOK, LifecycleTransition=TERMINATING)
    found = client.describe_lifecycle_hooks(AutoScalingGroupName="web", LifecycleHookNames=["drain", "none"])
    (hook,) = found["LifecycleHooks"]
    assert (hook["HeartbeatTimeout"], hook["GlobalTimeout"], hook["DefaultResult"]) == (3600, 172_800, "ABANDON")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"LifecycleTransition": "sideways"},
        {"LifecycleTransition": TERMINATING, "HeartbeatTimeout": 29},
        {"LifecycleTransition": TERMINATING, "HeartbeatTimeout": 7201},
        {"LifecycleTransition": TERMINATING, "DefaultResult": "RETRY"},
        {"LifecycleTransition": TERMINATING, "LifecycleHookName": "with space"},
        {"LifecycleTransition": TERMINATING, "NotificationMetadata": "m" * 4001},
    ],
)
def test_a_hook_is_checked(standin: Standin, client: Any, parameters: dict[str, Any]) -> None:
    standin.lifecycle.add_group("web")
    assert refusal(client.put_lifecycle_hook, **HOOK | parameters)
    assert standin.lifecycle.group("web").hooks == {}


def test_what_is_not_there_is_a_validation_error(standin: Standin, client: Any) -> None:
    assert "not found" in refusal(client.describe_lifecycle_hooks, AutoScalingGroupName="none")
    assert "No managed instance" in refusal(
        client.terminate_instance_in_auto_scaling_group, InstanceId="i-x", ShouldDecrementDesiredCapacity=True
    )
    assert client.describe_auto_scaling_instances(InstanceIds=["i-x"])["AutoScalingInstances"] == []
    assert client.describe_auto_scaling_groups(AutoScalingGroupNames=["none"])["AutoScalingGroups"] == []
    assert "Either an instance id" in refusal(client.record_lifecycle_action_heartbeat, **HOOK)
    assert "not one of" in refusal(
        client.complete_lifecycle_action, **HOOK, InstanceId=ME, LifecycleActionResult="RETRY"
    )


def test_instances_come_in_pages(standin: Standin, client: Any) -> None:
    standin.lifecycle.add_group("web", instances=[f"i-{n:03d}" for n in range(60)])
    pages = client.get_paginator("describe_auto_scaling_instances").paginate()
    found = [[i["InstanceId"] for i in page["AutoScalingInstances"]] for page in pages]
    assert [len(page) for page in found] == [50, 10]
    assert [name for page in found for name in page] == [f"i-{n:03d}" for n in range(60)]


def test_warm_instances_cannot_be_terminated_by_the_group(standin: Standin, client: Any) -> None:
    standin.lifecycle.add_group("web", instances=[ME])
    standin.lifecycle.notice(ME, "Warmed:Running")
    assert "warm pool" in refusal(
        client.terminate_instance_in_auto_scaling_group, InstanceId=ME, ShouldDecrementDesiredCapacity=True
    )
