"""Auto Scaling's wish, by instance metadata: `target-lifecycle-state`, present in instances of a group only.

It turns to Terminated before the hook's action begins (load balancers are drained in between). Source:
docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html.
"""

from __future__ import annotations

from agent.aws.metadata import Metadata
from agent.drain.notice import Notice
from agent.drain.notices.metadata import Question
from agent.engine.events import Events

_GOING = "Terminated"


class AutoScalingNotices:
    """A NoticeSource."""

    name = "auto-scaling"
    interval = 2.0

    def __init__(self, metadata: Metadata, events: Events) -> None:
        self._state = Question(metadata, "autoscaling/target-lifecycle-state", events)

    def look(self, epoch: float) -> Notice | None:
        return Notice("auto-scaling", epoch) if self._state.ask() == _GOING else None
