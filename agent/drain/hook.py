"""The lifecycle hook that holds this instance: found, kept waiting by heartbeats, answered once."""

from __future__ import annotations

import random
import threading

from agent.aws.autoscaling import AutoScaling, Hook, Result, is_no_action
from agent.aws.errors import AwsError, Denied, Refused
from agent.aws.limits import HEARTBEAT_TIMEOUT_MIN
from agent.engine.backoff import Backoff
from agent.engine.clock import Clock
from agent.engine.events import Events

_BEAT_SHARE = 3.0  # heartbeats in each heartbeat timeout
_BEAT_MIN, _BEAT_MAX = 10.0, 300.0  # seconds between two heartbeats
_BEAT_JITTER = 0.2  # so that a fleet does not beat in step
_ANSWER_CAP = 5.0  # seconds between two tries to answer
_WAITING = ("Terminating", "Terminating:Wait", "Warmed:Terminating", "Warmed:Terminating:Wait", "Warmed:Pending:Wait")


class HookFinder:
    """Which hook of which group is ours, by configuration or by asking."""

    def __init__(self, client: AutoScaling, group: str | None, hook: str | None, events: Events) -> None:
        self._client = client
        self._group = group
        self._name = hook
        self._events = events

    def find(self) -> Hook | None:
        """Our hook, or None: in no group, without a hook, or not to be told apart. Raises AwsError if unreachable."""
        try:
            group = self._group or self._membership()
            hooks = self._client.hooks(group) if group else []
        except (Denied, Refused) as error:
            hint = "allow autoscaling:Describe*, or set drain.auto_scaling_group and drain.hook"
            self._events.trouble("warning", "hook_unknown", "", error=str(error), hint=hint)
            return self._configured()
        return self._choose(group, hooks)

    def _membership(self) -> str | None:
        found = self._client.membership()
        return found[0] if found else None

    def _configured(self) -> Hook | None:
        """Without permission to ask, the shortest heartbeat timeout that AWS allows is assumed."""
        if self._group is None or self._name is None:
            return None
        return Hook(self._group, self._name, HEARTBEAT_TIMEOUT_MIN)

    def _choose(self, group: str | None, hooks: list[Hook]) -> Hook | None:
        if self._name is not None:
            hooks = [hook for hook in hooks if hook.name == self._name]
        if len(hooks) == 1:
            return hooks[0]
        if group is not None:
            self._events.trouble(
                "warning",
                "hook_unknown",
                "",
                group=group,
                hooks=[hook.name for hook in hooks],
                hint="the group needs one terminating hook, or name ours in drain.hook",
            )
        return None


class Heartbeat:
    """A worker: while it is on, keeps the hook waiting."""

    name = "heartbeat"

    def __init__(self, client: AutoScaling, clock: Clock, events: Events, rng: random.Random) -> None:
        self._client = client
        self._clock = clock
        self._events = events
        self._random = rng
        self._lock = threading.Lock()
        self._hook: Hook | None = None
        self._until = 0.0
        self.sent = 0
        self.failed = 0

    def begin(self, hook: Hook, until: float) -> None:
        """Beat until monotonic time `until`, or `end`."""
        with self._lock:
            self._hook, self._until = hook, until

    def end(self) -> None:
        with self._lock:
            self._hook = None

    def step(self, now: float) -> float | None:
        with self._lock:
            hook = self._hook if now < self._until else None
        if hook is None:
            return None
        interval = min(max(hook.timeout / _BEAT_SHARE, _BEAT_MIN), _BEAT_MAX)
        try:
            self._client.heartbeat(hook)
        except AwsError as error:
            interval = self._missed(error, interval)
        else:
            self.sent += 1
            self._events.over("heartbeat_missed", "", said="heartbeat_accepted_again")
        return self._clock.monotonic() + interval * self._random.uniform(1 - _BEAT_JITTER, 1 + _BEAT_JITTER)

    def _missed(self, error: AwsError, interval: float) -> float:
        """Before the action is active there is nothing to keep waiting: not a trouble, and soon tried again."""
        if is_no_action(error):
            return _BEAT_MIN / 2
        self.failed += 1
        self._events.trouble(
            "warning", "heartbeat_missed", "", counter="heartbeats_missed", error=str(error), hint=error.hint
        )
        return min(interval, _BEAT_MIN)


class Answer:
    """Answers the hook, again and again, until AWS has taken it or needs it no more."""

    def __init__(self, client: AutoScaling, events: Events, rng: random.Random) -> None:
        self._client = client
        self._events = events
        self._backoff = Backoff(base=1.0, cap=_ANSWER_CAP, floor=0.25, random=rng)

    def give(self, hook: Hook, result: Result) -> tuple[str | None, float]:
        """One try: what became of it, or None and seconds until the next try."""
        try:
            self._client.complete(hook, result)
        except AwsError as error:
            if is_no_action(error) and not self._still_waiting():
                return "no action waits", 0.0
            wait = self._backoff.next()
            self._events.trouble(
                "warning",
                "hook_not_answered",
                hook.name,
                counter="hook_answers_retried",
                error=str(error),
                hint=error.hint,
                retry_in=round(wait, 2),
            )
            return None, wait
        self._events.say("info", "hook_answered", group=hook.group, hook=hook.name, result=result)
        return "accepted", 0.0

    def _still_waiting(self) -> bool:
        """Whether an action is still to come: Auto Scaling shows the state before it takes the answer."""
        try:
            found = self._client.membership()
        except AwsError:
            return True
        return found is not None and found[1] in _WAITING
