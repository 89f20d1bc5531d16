"""A spot interruption, by instance metadata: two minutes before EC2 stops or terminates the instance.

Source: docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html.
"""

from __future__ import annotations

from datetime import datetime

import orjson

from agent.aws.metadata import Metadata
from agent.drain.notice import Notice
from agent.drain.notices.metadata import Question
from agent.engine.events import Events

_RESERVE_SECONDS = 10.0  # kept between the drain's end and the time that EC2 names


class SpotNotices:
    """A NoticeSource."""

    name = "spot"
    interval = 2.0

    def __init__(self, metadata: Metadata, events: Events) -> None:
        self._action = Question(metadata, "spot/instance-action", events)
        self._events = events

    def look(self, epoch: float) -> Notice | None:
        text = self._action.ask()
        if text is None:
            return None
        when = _time_of(text)
        if when is None:
            self._events.trouble("warning", "spot_notice_unreadable", text, text=text)
            return None
        return Notice("spot", epoch, deadline=max(epoch, when - _RESERVE_SECONDS))


def _time_of(text: str) -> float | None:
    """When EC2 will act: `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`."""
    try:
        return datetime.fromisoformat(orjson.loads(text)["time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None
