"""A model of Auto Scaling's instance lifecycle at termination, moved along by a clock whenever it is looked at.

A notice starts a *passage*: Terminating (the load balancer's deregistration delay) -> Terminating:Wait, where each
termination hook has a lifecycle action -> Terminating:Proceed -> Terminated, or Terminating:Retained when an action
was abandoned and the group retains such instances. An instance that goes back to a warm pool takes the same way from
Warmed:Pending to Warmed:Stopped (or Running, Hibernated).

docs.aws.amazon.com/autoscaling/ec2/userguide: lifecycle-hooks-overview, ec2-auto-scaling-lifecycle,
ec2-auto-scaling-warm-pools; API Reference: API_LifecycleHook, API_RetentionTriggers.
"""

import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
CONTINUE = "CONTINUE"
ABANDON = "ABANDON"
MAX_GLOBAL_TIMEOUT = 172_800.0  # seconds; a hundred heartbeats if that is less
WARM_STATES = ("Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated")


class LifecycleError(Exception):
    """The model cannot do this: no such group, instance or hook."""


class NoActionError(LifecycleError):
    """There is no active lifecycle action: too early, finished, timed out, or another hook's."""


@dataclass
class Hook:
    """A lifecycle hook; times in seconds."""

    name: str
    transition: str = TERMINATING
    heartbeat_timeout: float = 3600.0
    default_result: str = ABANDON
    notification_target: str | None = None
    notification_metadata: str | None = None
    role: str | None = None

    @property
    def global_timeout(self) -> float:
        return min(MAX_GLOBAL_TIMEOUT, 100 * self.heartbeat_timeout)


@dataclass
class Action:
    """A hook's lifecycle action for one instance, with all that happened to it.

    It can be completed from `active_at` on. `ended_by` is "call", "timeout", "global timeout", "abandoned elsewhere"
    or "hook deleted".
    """

    hook: str
    token: str
    active_at: float
    deadline: float
    global_deadline: float
    heartbeat_timeout: float
    default_result: str
    heartbeats: list[float] = field(default_factory=list)
    result: str | None = None
    ended_at: float | None = None
    ended_by: str | None = None

    @property
    def expires(self) -> float:
        return min(self.deadline, self.global_deadline)

    def beat(self, now: float) -> None:
        self.heartbeats.append(now)
        self.deadline = now + self.heartbeat_timeout

    def end(self, result: str, at: float, by: str) -> None:
        self.result, self.ended_at, self.ended_by = result, at, by


@dataclass
class Passage:
    """One instance's way out of service, from the notice on; times in seconds since the epoch."""

    instance: str
    group: str
    noticed_at: float
    waits_at: float
    stem: str  # "Terminating" or "Warmed:Pending"
    destination: str
    waiting: bool = False
    actions: list[Action] = field(default_factory=list)
    proceeded_at: float | None = None
    outcome: str | None = None  # the state it ended in

    @property
    def abandoned(self) -> bool:
        return any(action.result == ABANDON for action in self.actions)

    def as_json(self) -> dict[str, Any]:
        """All of it, and `seconds` from the notice to the end of the last action."""
        done = self.proceeded_at
        return {**asdict(self), "seconds": None if done is None else done - self.noticed_at}


@dataclass
class Instance:
    id: str
    group: str
    zone: str
    type: str = "m6i.large"
    state: str = "InService"
    target: str = "InService"
    passage: Passage | None = None


@dataclass
class Group:
    """An Auto Scaling group. Delays in seconds.

    `deregistration_delay` passes between the notice and the wait state, `action_delay` between the wait state and the
    moment when its action can be completed, `proceed_delay` between the last action's end and the final state.
    """

    name: str
    created: float
    retain: bool = False
    has_policy: bool = False
    deregistration_delay: float = 0.0
    action_delay: float = 0.0
    proceed_delay: float = 0.0
    desired: int = 1
    hooks: dict[str, Hook] = field(default_factory=dict)


class Lifecycle:
    """Groups, instances and passages. Every method first moves the model to the clock's time."""

    def __init__(self, clock: Callable[[], float], zone: str) -> None:
        self._clock = clock
        self._zone = zone
        self._lock = threading.RLock()
        self._groups: dict[str, Group] = {}
        self._instances: dict[str, Instance] = {}
        self._passages: list[Passage] = []

    # setting up

    def add_group(
        self,
        name: str,
        *,
        instances: Iterable[str] = (),
        hooks: Iterable[Hook] = (),
        retain: bool | None = None,
        deregistration_delay: float = 0.0,
        action_delay: float = 0.0,
        proceed_delay: float = 0.0,
    ) -> Group:
        """A group with instances in service; `retain` None leaves it without an instance lifecycle policy."""
        with self._lock:
            group = Group(name, self._clock(), bool(retain), retain is not None)
            group.deregistration_delay = deregistration_delay
            group.action_delay = action_delay
            group.proceed_delay = proceed_delay
            group.hooks = {hook.name: hook for hook in hooks}
            self._groups[name] = group
            for instance in instances:
                self.add_instance(name, instance)
            return group

    def add_instance(self, group: str, instance: str) -> None:
        with self._lock:
            self.group(group).desired = 1 + sum(1 for i in self._instances.values() if i.group == group)
            self._instances[instance] = Instance(instance, group, self._zone)

    def put_hook(self, group: str, hook: Hook) -> None:
        with self._lock:
            self.group(group).hooks[hook.name] = hook

    def delete_hook(self, group: str, name: str) -> None:
        """Its outstanding actions are completed with CONTINUE, as AWS does for terminating instances."""
        with self._lock:
            if self.group(group).hooks.pop(name, None) is None:
                raise LifecycleError(f"No lifecycle hook named {name}")
            for instance in self._instances.values():
                if instance.passage and instance.group == group:
                    self._end_actions(instance.passage, name)
            self.settle()

    def clear(self) -> None:
        with self._lock:
            self._groups.clear()
            self._instances.clear()
            self._passages.clear()

    # looking

    def groups(self) -> list[Group]:
        with self._lock:
            return sorted(self._groups.values(), key=lambda group: group.name)

    def group(self, name: str) -> Group:
        with self._lock:
            if name not in self._groups:
                raise LifecycleError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
            return self._groups[name]

    def instances(self) -> list[Instance]:
        """Instances that a group still counts: the terminated ones are gone."""
        with self._lock:
            self.settle()
            return [i for i in self._instances.values() if i.state != "Terminated"]

    def instance(self, instance_id: str) -> Instance | None:
        with self._lock:
            self.settle()
            return self._instances.get(instance_id)

    def passages(self) -> list[Passage]:
        """All passages so far, oldest first."""
        with self._lock:
            self.settle()
            return list(self._passages)

    # what happens

    def notice(self, instance_id: str, destination: str = "Terminated") -> Passage:
        """Start the way out of service: to "Terminated", or back to a warm pool (one of WARM_STATES)."""
        if destination != "Terminated" and destination not in WARM_STATES:
            raise LifecycleError(f"an instance cannot go to {destination}")
        with self._lock:
            instance = self._require(instance_id)
            if instance.passage and instance.passage.outcome is None:
                return instance.passage
            return self._depart(instance, destination)

    def launch(self, instance_id: str) -> None:
        """Bring an instance (back) into service, for example from the warm pool."""
        with self._lock:
            instance = self._require(instance_id)
            instance.state = instance.target = "InService"
            instance.passage = None

    def terminate(self, instance_id: str) -> Passage:
        """Like a notice; but an instance that is retained ends at once, and no hook runs again."""
        with self._lock:
            instance = self._require(instance_id)
            passage = instance.passage
            if passage and instance.state.endswith(":Retained"):
                instance.state = passage.outcome = "Terminated"
                return passage
            return self.notice(instance_id)

    def heartbeat(self, group: str, hook: str, *, instance_id: str | None = None, token: str | None = None) -> None:
        with self._lock:
            self._active(group, hook, instance_id, token).beat(self._clock())

    def complete(
        self, group: str, hook: str, result: str, *, instance_id: str | None = None, token: str | None = None
    ) -> None:
        with self._lock:
            self._active(group, hook, instance_id, token).end(result, self._clock(), "call")
            self.settle()

    def settle(self) -> None:
        """Move everything to where it is at the clock's time."""
        with self._lock:
            now = self._clock()
            for instance in self._instances.values():
                if instance.passage and instance.passage.outcome is None:
                    self._advance(instance, instance.passage, now)

    def _require(self, instance_id: str) -> Instance:
        self.settle()
        instance = self._instances.get(instance_id)
        if instance is None or instance.state == "Terminated":
            raise LifecycleError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")
        return instance

    def _depart(self, instance: Instance, destination: str) -> Passage:
        now = self._clock()
        stem = "Terminating" if destination == "Terminated" else "Warmed:Pending"
        waits_at = now + self._groups[instance.group].deregistration_delay
        passage = Passage(instance.id, instance.group, now, waits_at, stem, destination)
        instance.state, instance.target, instance.passage = stem, destination, passage
        self._passages.append(passage)
        self.settle()
        return passage

    def _advance(self, instance: Instance, passage: Passage, now: float) -> None:
        group = self._groups[instance.group]
        if now < passage.waits_at:
            return
        if not passage.waiting:
            passage.waiting = True
            passage.actions = [_action(hook, passage.waits_at, group) for hook in _termination_hooks(group)]
            instance.state = f"{passage.stem}:Wait"
        _expire(passage.actions, now)
        if any(action.result is None for action in passage.actions):
            return
        ended = [action.ended_at for action in passage.actions if action.ended_at is not None]
        passage.proceeded_at = max(ended, default=passage.waits_at)
        instance.state = f"{passage.stem}:Proceed"
        if now >= passage.proceeded_at + group.proceed_delay:
            self._arrive(instance, passage, group)

    def _arrive(self, instance: Instance, passage: Passage, group: Group) -> None:
        retained = passage.abandoned and group.retain
        passage.outcome = f"{passage.stem}:Retained" if retained else passage.destination
        instance.state = passage.outcome

    def _active(self, group: str, hook: str, instance_id: str | None, token: str | None) -> Action:
        self.settle()
        now = self._clock()
        for passage in self._passages:
            for action in passage.actions:
                named = action.token == token if token else passage.instance == instance_id
                ours = named and passage.group == group and action.hook == hook
                if ours and action.result is None and action.active_at <= now:
                    return action
        what = f"token {token}" if token else f"instance ID {instance_id}"
        raise NoActionError(f"No active Lifecycle Action found with {what}")

    def _end_actions(self, passage: Passage, hook: str) -> None:
        for action in passage.actions:
            if action.hook == hook and action.result is None:
                action.end(CONTINUE, self._clock(), "hook deleted")


def _termination_hooks(group: Group) -> list[Hook]:
    return [hook for hook in group.hooks.values() if hook.transition == TERMINATING]


def _action(hook: Hook, waits_at: float, group: Group) -> Action:
    return Action(
        hook=hook.name,
        token=str(uuid.uuid4()),
        active_at=waits_at + group.action_delay,
        deadline=waits_at + hook.heartbeat_timeout,
        global_deadline=waits_at + hook.global_timeout,
        heartbeat_timeout=hook.heartbeat_timeout,
        default_result=hook.default_result,
    )


def _expire(actions: list[Action], now: float) -> None:
    """End what has timed out, in order of time; the first ABANDON ends the wait for all."""
    open_actions = sorted((a for a in actions if a.result is None), key=lambda action: action.expires)
    abandoned_at = min((a.ended_at or 0.0 for a in actions if a.result == ABANDON), default=None)
    for action in open_actions:
        if abandoned_at is not None and abandoned_at <= action.expires:
            action.end(ABANDON, abandoned_at, "abandoned elsewhere")
        elif action.expires <= now:
            by = "global timeout" if action.global_deadline <= action.deadline else "timeout"
            action.end(action.default_result, action.expires, by)
            abandoned_at = action.expires if action.default_result == ABANDON else abandoned_at
