"""Log groups and streams: made when a call finds them missing, their retention set where it differs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.aws.errors import AwsError, NotFound
from agent.aws.logs import Logs
from agent.engine.clock import Clock
from agent.engine.events import Events

_RETRY_SECONDS = 600.0  # until a retention that could not be set is tried again


@dataclass(frozen=True, slots=True)
class GroupWish:
    """How a log group should be. All but the retention acts only when the group is made."""

    retention: int | None = None  # days
    log_class: str | None = None
    kms_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class Destinations:
    """Knows which groups have been looked after. Safe to use from any thread."""

    def __init__(self, logs: Logs, clock: Clock, events: Events) -> None:
        self._logs = logs
        self._clock = clock
        self._events = events
        self._lock = threading.Lock()
        self._check_at: dict[str, float] = {}  # group -> monotonic time from which it is to be looked at

    def make(self, group: str, stream: str, wish: GroupWish) -> None:
        """Make the stream, and the group if it is not there: a role need not be allowed to make groups.

        Raises AwsError.
        """
        try:
            made = self._logs.create_stream(group, stream)
        except NotFound:
            self._make_group(group, wish)
            made = self._logs.create_stream(group, stream)
        if made:
            self._events.say("info", "log_stream_made", group=group, stream=stream)

    def renew(self) -> None:
        """Look after every group once more: what is wished may be something else now."""
        with self._lock:
            self._check_at.clear()

    def _make_group(self, group: str, wish: GroupWish) -> None:
        if self._logs.create_group(group, wish.log_class, wish.kms_key, wish.tags):
            self._events.say("info", "log_group_made", group=group)
        with self._lock:
            self._check_at.pop(group, None)

    def look_after(self, group: str, wish: GroupWish) -> None:
        """Once for each group, after its first accepted batch: bring its retention to what is wished."""
        if wish.retention is None and wish.log_class is None and wish.kms_key is None:
            return
        now = self._clock.monotonic()
        with self._lock:
            if now < self._check_at.get(group, 0.0):
                return
            self._check_at[group] = float("inf")
        try:
            self._adjust(group, wish)
        except AwsError as error:
            with self._lock:
                self._check_at[group] = now + _RETRY_SECONDS
            self._events.trouble(
                "warning", "log_group_not_adjusted", group, group=group, error=str(error), hint=error.hint
            )

    def _adjust(self, group: str, wish: GroupWish) -> None:
        found = self._logs.describe_group(group)
        if found is None:
            return
        if wish.retention is not None and found.get("retentionInDays") != wish.retention:
            self._logs.put_retention(group, wish.retention)
            self._events.say("info", "log_retention_set", group=group, days=wish.retention)
        for key, wished in (("logGroupClass", wish.log_class), ("kmsKeyId", wish.kms_key)):
            if wished is not None and found.get(key, "STANDARD") != wished:
                self._events.say(
                    "warning",
                    "log_group_differs",
                    group=group,
                    property=key,
                    wished=wished,
                    found=found.get(key),
                    hint="it can only be chosen when a group is made",
                )
