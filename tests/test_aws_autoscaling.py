"""EC2 Auto Scaling: which hook holds this instance, and what AWS answers when none does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from conftest import environment_of

from agent.aws.autoscaling import AutoScaling, Hook, is_no_action
from agent.aws.errors import AwsError, Denied, Refused
from agent.aws.session import Aws
from agent.engine.clock import FakeClock, SystemClock
from agent.standin.faults import Fault, Kind
from agent.standin.lifecycle import ABANDON, LAUNCHING
from agent.standin.lifecycle import Hook as StandinHook
from agent.standin.standin import INSTANCE_ID, Standin

HOOK = Hook("web", "drain", 300.0)


@pytest.fixture(scope="module")
def moved() -> FakeClock:
    """One clock, one stand-in and one client for all tests here: making a client takes longer than all of them."""
    return FakeClock()


@pytest.fixture(scope="module")
def shared(moved: FakeClock) -> Iterator[tuple[Standin, AutoScaling]]:
    with (
        Standin.start(clock=moved.time) as standin,
        environment_of(standin.environment()),
        closing(Aws("eu-west-1", SystemClock())) as aws,
    ):
        yield standin, AutoScaling(aws, INSTANCE_ID)


@pytest.fixture
def clock(moved: FakeClock) -> FakeClock:
    return moved


@pytest.fixture
def standin(shared: tuple[Standin, AutoScaling]) -> Standin:
    shared[0].reset()
    return shared[0]


@pytest.fixture
def scaling(shared: tuple[Standin, AutoScaling]) -> AutoScaling:
    return shared[1]


def add_group(standin: Standin, *hooks: StandinHook, retain: bool | None = None, action_delay: float = 0.0) -> None:
    standin.lifecycle.add_group(
        "web", instances=[INSTANCE_ID, "i-0other"], hooks=hooks, retain=retain, action_delay=action_delay
    )


# membership


def test_an_instance_in_a_group_knows_group_and_state(standin: Standin, scaling: AutoScaling) -> None:
    add_group(standin, StandinHook("drain"))
    assert scaling.membership() == ("web", "InService")
    standin.lifecycle.notice(INSTANCE_ID)
    assert scaling.membership() == ("web", "Terminating:Wait")


def test_an_instance_in_no_group_is_told_from_one_that_cannot_ask(standin: Standin, scaling: AutoScaling) -> None:
    assert scaling.membership() is None
    standin.faults.add(Fault(Kind.ERROR, service="autoscaling", status=403, code="AccessDenied"))
    with pytest.raises(Denied):
        scaling.membership()


# hooks


def test_only_terminating_hooks_are_ours(standin: Standin, scaling: AutoScaling) -> None:
    add_group(
        standin,
        StandinHook("drain", heartbeat_timeout=300.0),
        StandinHook("boot", transition=LAUNCHING),
        StandinHook("other"),
    )
    assert scaling.hooks("web") == [Hook("web", "drain", 300.0), Hook("web", "other", 3600.0)]


def test_a_group_may_have_no_hook(standin: Standin, scaling: AutoScaling) -> None:
    add_group(standin)
    assert scaling.hooks("web") == []


def test_a_group_that_is_not_there_is_refused(standin: Standin, scaling: AutoScaling) -> None:
    with pytest.raises(Refused, match="not found"):
        scaling.hooks("web")


@pytest.mark.parametrize(("retain", "expected"), [(True, True), (False, False), (None, False)])
def test_whether_an_abandoned_instance_is_kept_is_the_groups_policy(
    standin: Standin, scaling: AutoScaling, retain: bool | None, expected: bool
) -> None:
    add_group(standin, retain=retain)
    assert scaling.retains_abandoned("web") is expected


def test_a_group_that_is_not_there_keeps_nothing(standin: Standin, scaling: AutoScaling) -> None:
    assert scaling.retains_abandoned("web") is False


# the action


def test_heartbeats_hold_and_the_answer_lets_go(standin: Standin, scaling: AutoScaling, clock: FakeClock) -> None:
    add_group(standin, StandinHook("drain", heartbeat_timeout=300.0))
    standin.lifecycle.notice(INSTANCE_ID)
    clock.advance(200)
    scaling.heartbeat(HOOK)
    clock.advance(200)
    assert scaling.membership() == ("web", "Terminating:Wait")
    scaling.complete(HOOK, "CONTINUE")
    (passage,) = standin.lifecycle.passages()
    (action,) = passage.actions
    assert (action.result, action.ended_by, passage.outcome) == ("CONTINUE", "call", "Terminated")


def test_an_instance_that_is_given_up_may_be_kept(standin: Standin, scaling: AutoScaling) -> None:
    add_group(standin, StandinHook("drain"), retain=True)
    standin.lifecycle.notice(INSTANCE_ID)
    scaling.complete(HOOK, "ABANDON")
    assert standin.lifecycle.passages()[0].outcome == "Terminating:Retained"


def test_another_instances_action_is_not_touched(standin: Standin, scaling: AutoScaling) -> None:
    add_group(standin, StandinHook("drain"))
    standin.lifecycle.notice("i-0other")
    with pytest.raises(AwsError) as caught:
        scaling.complete(HOOK, "CONTINUE")
    assert is_no_action(caught.value)
    assert standin.lifecycle.passages()[0].actions[0].result is None


# no action to answer


def refusal(scaling: AutoScaling) -> AwsError:
    with pytest.raises(AwsError) as caught:
        scaling.complete(HOOK, "CONTINUE")
    return caught.value


def test_no_action_yet(standin: Standin, scaling: AutoScaling) -> None:
    add_group(standin, StandinHook("drain"), action_delay=60.0)
    assert is_no_action(refusal(scaling))
    standin.lifecycle.notice(INSTANCE_ID)
    assert is_no_action(refusal(scaling))


def test_no_action_any_more(standin: Standin, scaling: AutoScaling, clock: FakeClock) -> None:
    add_group(standin, StandinHook("drain", heartbeat_timeout=300.0, default_result=ABANDON))
    standin.lifecycle.notice(INSTANCE_ID)
    clock.advance(301)
    assert is_no_action(refusal(scaling))
    with pytest.raises(AwsError) as caught:
        scaling.heartbeat(HOOK)
    assert is_no_action(caught.value)


def test_answered_already(standin: Standin, scaling: AutoScaling) -> None:
    add_group(standin, StandinHook("drain"))
    standin.lifecycle.notice(INSTANCE_ID)
    scaling.complete(HOOK, "CONTINUE")
    assert is_no_action(refusal(scaling))


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ValidationError"), (403, "AccessDenied"), (400, "ResourceContention")],
)
def test_other_refusals_are_not_taken_for_it(standin: Standin, scaling: AutoScaling, status: int, code: str) -> None:
    add_group(standin, StandinHook("drain"))
    standin.lifecycle.notice(INSTANCE_ID)
    standin.faults.add(Fault(Kind.ERROR, service="autoscaling", status=status, code=code))
    assert not is_no_action(refusal(scaling))
