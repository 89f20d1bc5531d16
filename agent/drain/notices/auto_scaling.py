"""Auto Scaling's wish, by instance metadata: `target-lifecycle-state`, present in instances of a group only.

It turns to Terminated before the hook's action begins (load balancers are drained in between). Source:
docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html.
"""

from __future__ import annotations

from agent.aws.metadata import Metadata, MetadataError
from agent.drain.notice import Notice
from agent.engine.events import Events

_GOING = "Terminated"


class AutoScalingNotices:
    """A NoticeSource."""

    name = "auto-scaling"
    interval = 2.0

    def __init__(self, metadata: Metadata, events: Events) -> None:
        self._metadata = metadata
        self._events = events

    def look(self, epoch: float) -> Notice | None:
        try:
            state = self._metadata.get("autoscaling/target-lifecycle-state")
        except MetadataError as error:
            self._events.trouble(
                "warning", "metadata_silent", self.name, counter="metadata_failures", error=str(error)
            )
            return None
        self._events.over("metadata_silent", self.name, said="metadata_answers_again")
        return Notice("auto-scaling", epoch) if state == _GOING else None
