"""EC2 Auto Scaling: the operations around lifecycle hooks, over the lifecycle model.

docs.aws.amazon.com/autoscaling/ec2/APIReference
"""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from agent.standin import xml
from agent.standin.errors import ApiError
from agent.standin.keys import Key
from agent.standin.lifecycle import (
    ABANDON,
    CONTINUE,
    LAUNCHING,
    TERMINATING,
    Group,
    Hook,
    Instance,
    Lifecycle,
    LifecycleError,
    Passage,
)
from agent.standin.query_protocol import Form, Operation, Result, members

NAMESPACE = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
MAX_PAGE = 50  # instances or groups of one answer
MAX_HOOKS = 50  # hooks of a group
MAX_METADATA = 4000  # characters of a hook's notification metadata
DEFAULT_HEARTBEAT = 3600  # seconds
_HOOK_NAME = re.compile(r"[A-Za-z0-9\-_/]{1,255}")
_PRINTABLE = re.compile(r"[\t\n\r -~]*")
_RESULTS = (CONTINUE, ABANDON)
Item = TypeVar("Item")


class ValidationError(ApiError):
    """The service refuses the call as it is, or what it names does not exist (any more)."""

    code = "ValidationError"
    status = 400


class AutoScaling:
    """The service's operations; the state is the lifecycle model's."""

    def __init__(self, lifecycle: Lifecycle, region: str, account_id: str) -> None:
        self._lifecycle = lifecycle
        self._arn = f"arn:aws:autoscaling:{region}:{account_id}:autoScalingGroup"

    def operations(self) -> Mapping[str, Operation]:
        calls: dict[str, Callable[[Form], Result | None]] = {
            "DescribeAutoScalingInstances": self._describe_instances,
            "DescribeAutoScalingGroups": self._describe_groups,
            "DescribeLifecycleHooks": self._describe_hooks,
            "PutLifecycleHook": self._put_hook,
            "DeleteLifecycleHook": self._delete_hook,
            "RecordLifecycleActionHeartbeat": self._heartbeat,
            "CompleteLifecycleAction": self._complete,
            "TerminateInstanceInAutoScalingGroup": self._terminate,
        }
        return {name: _checked(call) for name, call in calls.items()}

    def _describe_instances(self, form: Form) -> Result:
        wanted = members(form, "InstanceIds")
        if len(wanted) > MAX_PAGE:
            raise ValidationError(f"The number of instance ids that may be passed in is limited to {MAX_PAGE}")
        found = [i for i in self._lifecycle.instances() if not wanted or i.id in wanted]
        page, token = _page(found, form)
        return {"AutoScalingInstances": [_instance_details(i) for i in page], "NextToken": token}

    def _describe_groups(self, form: Form) -> Result:
        wanted = members(form, "AutoScalingGroupNames")
        page, token = _page([g for g in self._lifecycle.groups() if not wanted or g.name in wanted], form)
        instances = self._lifecycle.instances()
        return {"AutoScalingGroups": [self._group(g, instances) for g in page], "NextToken": token}

    def _group(self, group: Group, instances: list[Instance]) -> xml.Value:
        action = "retain" if group.retain else "terminate"
        policy = {"RetentionTriggers": {"TerminateHookAbandon": action}} if group.has_policy else None
        own = [instance for instance in instances if instance.group == group.name]
        return {
            "AutoScalingGroupName": group.name,
            "AutoScalingGroupARN": f"{self._arn}:{_uuid_of(group.name)}:autoScalingGroupName/{group.name}",
            "MinSize": 0,
            "MaxSize": max(group.desired, 1),
            "DesiredCapacity": group.desired,
            "DefaultCooldown": 300,
            "AvailabilityZones": sorted({instance.zone for instance in own}),
            "HealthCheckType": "EC2",
            "Instances": [_instance(instance) for instance in own],
            "CreatedTime": _time(group.created),
            "InstanceLifecyclePolicy": policy,
        }

    def _describe_hooks(self, form: Form) -> Result:
        group = self._lifecycle.group(_required(form, "AutoScalingGroupName"))
        wanted = members(form, "LifecycleHookNames")
        hooks = [hook for name, hook in sorted(group.hooks.items()) if not wanted or name in wanted]
        return {"LifecycleHooks": [_hook(group.name, hook) for hook in hooks]}

    def _put_hook(self, form: Form) -> Result:
        group = self._lifecycle.group(_required(form, "AutoScalingGroupName"))
        name = _required(form, "LifecycleHookName")
        old = group.hooks.get(name)
        if old is None and len(group.hooks) >= MAX_HOOKS:
            raise ApiError("The limit of lifecycle hooks is reached", code="LimitExceeded", status=400)
        self._lifecycle.put_hook(group.name, _parse_hook(form, name, old))
        return {}

    def _delete_hook(self, form: Form) -> Result:
        self._lifecycle.delete_hook(_required(form, "AutoScalingGroupName"), _required(form, "LifecycleHookName"))
        return {}

    def _heartbeat(self, form: Form) -> Result:
        group, hook, instance_id, token = _action_of(form)
        self._lifecycle.heartbeat(group, hook, instance_id=instance_id, token=token)
        return {}

    def _complete(self, form: Form) -> Result:
        group, hook, instance_id, token = _action_of(form)
        result = _required(form, "LifecycleActionResult")
        if result not in _RESULTS:
            raise ValidationError(f"Lifecycle action result {result} is not one of {', '.join(_RESULTS)}")
        self._lifecycle.complete(group, hook, result, instance_id=instance_id, token=token)
        return {}

    def _terminate(self, form: Form) -> Result:
        if _required(form, "ShouldDecrementDesiredCapacity") not in ("true", "false"):
            raise ValidationError("ShouldDecrementDesiredCapacity must be true or false")
        instance_id = _required(form, "InstanceId")
        instance = self._lifecycle.instance(instance_id)
        if instance and instance.state.startswith("Warmed:") and not instance.state.endswith(":Retained"):
            raise ValidationError(f"The instance {instance_id} is in a warm pool and can not be terminated")
        return {"Activity": _activity(self._lifecycle.terminate(instance_id))}


def _checked(call: Callable[[Form], Result | None]) -> Operation:
    def checked(form: Form, _key: Key) -> Result | None:
        try:
            return call(form)
        except LifecycleError as error:
            raise ValidationError(str(error)) from error

    return checked


def _required(form: Form, name: str) -> str:
    value = form.get(name)
    if not value:
        lower = name[0].lower() + name[1:]
        raise ValidationError(
            f"1 validation error detected: Value null at '{lower}' failed to satisfy constraint: "
            "Member must not be null"
        )
    return value


def _page(items: list[Item], form: Form) -> tuple[list[Item], str | None]:
    start = int(form.get("NextToken") or 0)
    end = start + min(int(form.get("MaxRecords") or MAX_PAGE), MAX_PAGE)
    return items[start:end], str(end) if end < len(items) else None


def _action_of(form: Form) -> tuple[str, str, str | None, str | None]:
    group, hook = _required(form, "AutoScalingGroupName"), _required(form, "LifecycleHookName")
    instance_id, token = form.get("InstanceId"), form.get("LifecycleActionToken")
    if not instance_id and not token:
        raise ValidationError("Either an instance id or a lifecycle action token must be given")
    return group, hook, instance_id, token


def _parse_hook(form: Form, name: str, old: Hook | None) -> Hook:
    """The hook that the call describes; what it leaves out stays as it was."""
    if not _HOOK_NAME.fullmatch(name):
        raise ValidationError(f"Lifecycle hook name {name} must satisfy {_HOOK_NAME.pattern}")
    base = old or Hook(name, _transition(form), DEFAULT_HEARTBEAT)
    metadata = form.get("NotificationMetadata", base.notification_metadata)
    if metadata and (len(metadata) > MAX_METADATA or not _PRINTABLE.fullmatch(metadata)):
        raise ValidationError(f"NotificationMetadata must be printable ASCII of at most {MAX_METADATA} characters")
    return Hook(
        name=name,
        transition=form.get("LifecycleTransition", base.transition),
        heartbeat_timeout=_heartbeat_timeout(form, base.heartbeat_timeout),
        default_result=_default_result(form, base.default_result),
        notification_target=form.get("NotificationTargetARN", base.notification_target) or None,
        notification_metadata=metadata,
        role=form.get("RoleARN", base.role),
    )


def _transition(form: Form) -> str:
    transition = _required(form, "LifecycleTransition")
    if transition not in (TERMINATING, LAUNCHING):
        raise ValidationError(f"Lifecycle transition {transition} is not one of {TERMINATING}, {LAUNCHING}")
    return transition


def _heartbeat_timeout(form: Form, default: float) -> float:
    text = form.get("HeartbeatTimeout")
    if text is None:
        return default
    if not text.isdecimal() or not 30 <= int(text) <= 7200:
        raise ValidationError("Heartbeat timeout must be between 30 and 7200 seconds")
    return float(text)


def _default_result(form: Form, default: str) -> str:
    result = form.get("DefaultResult", default)
    if result not in _RESULTS:
        raise ValidationError(f"Default result {result} is not one of {', '.join(_RESULTS)}")
    return result


def _instance(instance: Instance) -> dict[str, xml.Value]:
    return {
        "InstanceId": instance.id,
        "InstanceType": instance.type,
        "AvailabilityZone": instance.zone,
        "LifecycleState": instance.state,
        "HealthStatus": "Healthy",
        "ProtectedFromScaleIn": False,
    }


def _instance_details(instance: Instance) -> xml.Value:
    # this operation writes the health in capitals, DescribeAutoScalingGroups does not
    return {**_instance(instance), "AutoScalingGroupName": instance.group, "HealthStatus": "HEALTHY"}


def _hook(group: str, hook: Hook) -> xml.Value:
    return {
        "LifecycleHookName": hook.name,
        "AutoScalingGroupName": group,
        "LifecycleTransition": hook.transition,
        "NotificationTargetARN": hook.notification_target,
        "RoleARN": hook.role,
        "NotificationMetadata": hook.notification_metadata,
        "HeartbeatTimeout": int(hook.heartbeat_timeout),
        "GlobalTimeout": int(hook.global_timeout),
        "DefaultResult": hook.default_result,
    }


def _activity(passage: Passage) -> xml.Value:
    return {
        "ActivityId": _uuid_of(f"{passage.instance}/{passage.noticed_at}"),
        "AutoScalingGroupName": passage.group,
        "Description": f"Terminating EC2 instance: {passage.instance}",
        "Cause": f"At {_time(passage.noticed_at)} instance {passage.instance} was taken out of service.",
        "StartTime": _time(passage.noticed_at),
        "StatusCode": "InProgress",
        "Progress": 0,
    }


def _uuid_of(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
