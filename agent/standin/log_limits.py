"""The limits of PutLogEvents, checked a whole batch at a time.

docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
"""

import itertools
from bisect import bisect_left, bisect_right
from operator import le
from typing import Any, NamedTuple

from agent.standin.errors import ApiError
from agent.standin.validation import Json, constraint

MAX_BATCH = 1_048_576  # bytes of a batch: the messages in UTF-8 and OVERHEAD for each
MAX_EVENT = 1_048_576  # bytes of one event, counted the same way
OVERHEAD = 26  # bytes that each event counts beside its message
MAX_EVENTS = 10_000  # events of a batch
DAY = 24 * 3600 * 1000  # milliseconds
MAX_SPAN = DAY  # milliseconds from a batch's first valid event to its last
MAX_FUTURE = 2 * 3600 * 1000  # milliseconds
MAX_AGE = 14 * DAY  # milliseconds


class InvalidParameterError(ApiError):
    """The call breaks a documented limit: it will never be accepted as it is."""

    code = "InvalidParameterException"
    status = 400


class Verdict(NamedTuple):
    """Which events of a batch are too old, expired or too new; the rest lies between `start` and `end`."""

    too_old_end: int
    expired_end: int
    too_new_start: int | None
    start: int
    end: int

    def rejected(self) -> Json | None:
        """AWS's rejectedLogEventsInfo: end indices are exclusive, the start index is inclusive."""
        info = {
            "tooNewLogEventStartIndex": self.too_new_start,
            "tooOldLogEventEndIndex": self.too_old_end or None,
            "expiredLogEventEndIndex": self.expired_end or None,
        }
        return {name: value for name, value in info.items() if value is not None} or None


def judge(timestamps: list[int], now: int, retention: int | None) -> Verdict:
    """Sort a batch's events (in order of time) into too old, expired, valid and too new."""
    too_old = bisect_left(timestamps, now - MAX_AGE)
    expired = 0 if retention is None else bisect_left(timestamps, now - retention * DAY)
    end = bisect_right(timestamps, now + MAX_FUTURE)
    too_new = end if end < len(timestamps) else None
    return Verdict(too_old, expired, too_new, max(too_old, expired), end)


def columns(events: list[Any]) -> tuple[list[int], list[str]]:
    """Timestamps and messages of the input events, of the right types; the work is done in whole columns."""
    try:
        timestamps = [event["timestamp"] for event in events]
        messages = [event["message"] for event in events]
    except (KeyError, TypeError) as error:
        raise InvalidParameterError(constraint("null", "logEvents", "not be null")) from error
    if set(map(type, timestamps)) != {int} or min(timestamps) < 0:
        raise InvalidParameterError(
            constraint("", "logEvents.member.timestamp", "have value greater than or equal to 0")
        )
    if set(map(type, messages)) != {str} or not all(messages):
        number = next((n for n, m in enumerate(messages, 1) if not m), 1)
        raise InvalidParameterError(
            constraint("", f"logEvents.{number}.member.message", "have length greater than or equal to 1")
        )
    return timestamps, messages


def measure(messages: list[str]) -> int:
    """The batch's size as AWS counts it; raises if it, or one event, is too large."""
    if max(map(len, messages)) * 4 + OVERHEAD > MAX_EVENT:  # only then can one be too large
        largest = max(len(message.encode()) for message in messages) + OVERHEAD
        if largest > MAX_EVENT:
            raise InvalidParameterError(f"Log event too large: {largest} bytes exceeds limit of {MAX_EVENT}")
    size = len("".join(messages).encode()) + OVERHEAD * len(messages)
    if size > MAX_BATCH:
        raise InvalidParameterError(f"Upload too large: {size} bytes exceeds limit of {MAX_BATCH}")
    return size


def require_order(timestamps: list[int]) -> None:
    if not all(map(le, timestamps, itertools.islice(timestamps, 1, None))):
        raise InvalidParameterError("Log events in a single PutLogEvents request must be in chronological order.")


def require_span(valid: list[int]) -> None:
    if valid and valid[-1] - valid[0] > MAX_SPAN:
        raise InvalidParameterError(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
        )
