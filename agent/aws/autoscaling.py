"""EC2 Auto Scaling: which hook holds this instance, heartbeats, and the answer that lets it go.

Source: docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html and .../APIReference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from agent.aws.cold import call
from agent.aws.errors import AwsError
from agent.aws.limits import HEARTBEAT_TIMEOUT_DEFAULT
from agent.aws.session import Aws

Result = Literal["CONTINUE", "ABANDON"]
_TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
_NO_ACTION = "No active Lifecycle Action found"


@dataclass(frozen=True, slots=True)
class Hook:
    """A terminating lifecycle hook. `timeout` is its heartbeat timeout in seconds."""

    group: str
    name: str
    timeout: float


class AutoScaling:
    """A thin client for one instance; safe to use from any thread."""

    def __init__(self, aws: Aws, instance_id: str) -> None:
        self._aws = aws
        self._instance_id = instance_id

    def membership(self) -> tuple[str, str] | None:
        """Group and lifecycle state of this instance, or None if it is in no group. Raises AwsError."""
        describe = self._client().describe_auto_scaling_instances
        answer = call("DescribeAutoScalingInstances", describe, InstanceIds=[self._instance_id])
        for found in answer.get("AutoScalingInstances", []):
            return str(found["AutoScalingGroupName"]), str(found["LifecycleState"])
        return None

    def hooks(self, group: str) -> list[Hook]:
        """The group's terminating hooks. Raises AwsError."""
        describe = self._client().describe_lifecycle_hooks
        answer = call("DescribeLifecycleHooks", describe, AutoScalingGroupName=group)
        return [
            Hook(
                group, str(hook["LifecycleHookName"]), float(hook.get("HeartbeatTimeout", HEARTBEAT_TIMEOUT_DEFAULT))
            )
            for hook in answer.get("LifecycleHooks", [])
            if hook.get("LifecycleTransition") == _TERMINATING
        ]

    def retains_abandoned(self, group: str) -> bool:
        """Whether the group keeps an instance whose hook was abandoned (InstanceLifecyclePolicy). Raises AwsError."""
        describe = self._client().describe_auto_scaling_groups
        answer = call("DescribeAutoScalingGroups", describe, AutoScalingGroupNames=[group])
        for found in answer.get("AutoScalingGroups", []):
            policy: dict[str, Any] = found.get("InstanceLifecyclePolicy") or {}
            return bool((policy.get("RetentionTriggers") or {}).get("TerminateHookAbandon") == "retain")
        return False

    def heartbeat(self, hook: Hook) -> None:
        """Begin the hook's heartbeat timeout anew. Raises AwsError."""
        record = self._client().record_lifecycle_action_heartbeat
        call("RecordLifecycleActionHeartbeat", record, **self._action(hook))

    def complete(self, hook: Hook, result: Result) -> None:
        """Answer the hook. Raises AwsError; see `is_no_action`."""
        complete = self._client().complete_lifecycle_action
        call("CompleteLifecycleAction", complete, LifecycleActionResult=result, **self._action(hook))

    def _action(self, hook: Hook) -> dict[str, str]:
        """An action is named by its instance: the token of a notification is not needed."""
        return {
            "AutoScalingGroupName": hook.group,
            "LifecycleHookName": hook.name,
            "InstanceId": self._instance_id,
        }

    def _client(self) -> Any:
        return self._aws.client("autoscaling")


def is_no_action(error: AwsError) -> bool:
    """Whether AWS says that there is no action to answer: too early, answered already, or timed out."""
    return error.code == "ValidationError" and _NO_ACTION in error.message
