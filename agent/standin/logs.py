"""CloudWatch Logs: groups, streams and events, with the limits of its API Reference.

docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference, above all API_PutLogEvents.
"""

import itertools
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from agent.standin.errors import ApiError
from agent.standin.log_limits import (
    MAX_BATCH,
    MAX_EVENTS,
    OVERHEAD,
    InvalidParameterError,
    columns,
    judge,
    measure,
    require_order,
    require_span,
)
from agent.standin.tape import Extent, Tape
from agent.standin.validation import Json, Parameters, constraint

RETENTIONS = frozenset(
    # days
    (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
)
CLASSES = ("STANDARD", "INFREQUENT_ACCESS", "DELIVERY")
PAGE = 50  # groups or streams of one page
GROUP_NAME = re.compile(r"[\.\-_/#A-Za-z0-9]+")
STREAM_NAME = re.compile(r"[^:*]*")
MAX_NAME = 512  # characters
Item = TypeVar("Item")


class NotFoundError(ApiError):
    """The group or stream does not exist: create it first."""

    code = "ResourceNotFoundException"
    status = 400


class AlreadyExistsError(ApiError):
    """The group or stream exists: use it."""

    code = "ResourceAlreadyExistsException"
    status = 400


class TooManyTagsError(ApiError):
    """More than 50 tags on a group: remove some."""

    code = "TooManyTagsException"
    status = 400


class LogEvent(NamedTuple):
    """One event as it arrived; times in milliseconds since the epoch."""

    timestamp: int
    message: str
    ingested: int


class Batch(NamedTuple):
    """The accepted events of one PutLogEvents call: where they lie, and between which times."""

    extent: Extent
    events: int
    size: int
    first: int
    last: int
    ingested: int


@dataclass
class Stream:
    name: str
    arn: str
    created: int
    batches: list[Batch] = field(default_factory=list)


@dataclass
class Group:
    name: str
    arn: str
    created: int
    log_class: str
    kms_key: str | None
    tags: dict[str, str]
    protected: bool = False
    retention: int | None = None  # days
    streams: dict[str, Stream] = field(default_factory=dict)


class Logs:
    """The service's state and operations. `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float], tape: Tape, region: str, account_id: str) -> None:
        self._clock = clock
        self._tape = tape
        self._arn = f"arn:aws:logs:{region}:{account_id}:log-group"
        self._lock = threading.RLock()
        self._groups: dict[str, Group] = {}

    def operations(self) -> Mapping[str, Callable[[Json], Json]]:
        calls: dict[str, Callable[[Parameters], Json]] = {
            "CreateLogGroup": self._create_group,
            "CreateLogStream": self._create_stream,
            "DeleteLogGroup": self._delete_group,
            "DeleteLogStream": self._delete_stream,
            "PutRetentionPolicy": self._put_retention,
            "DeleteRetentionPolicy": self._delete_retention,
            "DescribeLogGroups": self._describe_groups,
            "DescribeLogStreams": self._describe_streams,
            "TagResource": self._tag,
            "ListTagsForResource": self._list_tags,
            "PutLogEvents": self._put_events,
            "GetLogEvents": self._get_events,
            "FilterLogEvents": self._filter_events,
        }
        return {name: self._checked(call) for name, call in calls.items()}

    def _checked(self, call: Callable[[Parameters], Json]) -> Callable[[Json], Json]:
        def checked(document: Json) -> Json:
            return call(Parameters(document, InvalidParameterError))

        return checked

    # what arrived

    def groups(self) -> dict[str, Group]:
        with self._lock:
            return dict(self._groups)

    def events(self, group: str, stream: str) -> Iterator[LogEvent]:
        """What a stream received, in the order of arrival; nothing if it does not exist."""
        for batch in self._batches(group, stream):
            record = self._tape.read(batch.extent) or {"t": [], "m": []}
            for timestamp, message in zip(record["t"], record["m"], strict=True):
                yield LogEvent(timestamp, message, batch.ingested)

    def messages(self, group: str, stream: str) -> list[str]:
        return [event.message for event in self.events(group, stream)]

    def clear(self) -> None:
        with self._lock:
            self._groups.clear()
            self._tape.clear()

    def summary(self) -> Json:
        """Groups and streams with what they hold, for the control API."""
        with self._lock:
            return {name: _group_summary(group) for name, group in sorted(self._groups.items())}

    def _batches(self, group: str, stream: str) -> list[Batch]:
        with self._lock:
            known = self._groups.get(group)
            found = known and known.streams.get(stream)
            return list(found.batches) if found else []

    # groups

    def _create_group(self, given: Parameters) -> Json:
        name = _group_name(given)
        if name.startswith("aws/"):
            raise InvalidParameterError("Log groups starting with aws/ are reserved for AWS.")
        log_class = given.choice("logGroupClass", CLASSES, "STANDARD")
        kms_key = given.optional_text("kmsKeyId", 256)
        group = Group(name, f"{self._arn}:{name}", self._now(), log_class, kms_key, given.tags())
        group.protected = given.flag("deletionProtectionEnabled")
        with self._lock:
            if name in self._groups:
                raise AlreadyExistsError("The specified log group already exists")
            self._groups[name] = group
        return {}

    def _delete_group(self, given: Parameters) -> Json:
        with self._lock:
            group = self._group(given)
            if group.protected:
                raise InvalidParameterError("The specified log group has deletion protection enabled")
            del self._groups[group.name]
        return {}

    def _put_retention(self, given: Parameters) -> Json:
        days = given.integer("retentionInDays", 1, 3653)
        if days not in RETENTIONS:
            raise InvalidParameterError(
                constraint(days, "retentionInDays", f"satisfy enum value set: {sorted(RETENTIONS)}")
            )
        with self._lock:
            self._group(given).retention = days
        return {}

    def _delete_retention(self, given: Parameters) -> Json:
        with self._lock:
            self._group(given).retention = None
        return {}

    def _describe_groups(self, given: Parameters) -> Json:
        prefix = given.optional_text("logGroupNamePrefix", MAX_NAME, GROUP_NAME) or ""
        pattern = given.optional_text("logGroupNamePattern", MAX_NAME) or ""
        if prefix and pattern:
            raise InvalidParameterError(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
            )
        with self._lock:
            names = sorted(name for name in self._groups if name.startswith(prefix) and pattern in name)
            page, token = _page(names, given)
            return _without_none(logGroups=[_describe_group(self._groups[n]) for n in page], nextToken=token)

    def _tag(self, given: Parameters) -> Json:
        tags = given.tags()
        with self._lock:
            group = self._group_of_arn(given)
            if len({**group.tags, **tags}) > 50:
                raise TooManyTagsError("The number of tags exceeds the limit of 50")
            group.tags.update(tags)
        return {}

    def _list_tags(self, given: Parameters) -> Json:
        with self._lock:
            return {"tags": self._group_of_arn(given).tags}

    def _group_of_arn(self, given: Parameters) -> Group:
        arn = given.text("resourceArn", most=1011)
        for group in self._groups.values():
            if group.arn == arn:
                return group
        raise NotFoundError("The specified log group does not exist.")

    def _group(self, given: Parameters) -> Group:
        group = self._groups.get(_group_name(given))
        if group is None:
            raise NotFoundError("The specified log group does not exist.")
        return group

    # streams

    def _create_stream(self, given: Parameters) -> Json:
        name = _stream_name(given)
        with self._lock:
            group = self._group(given)
            if name in group.streams:
                raise AlreadyExistsError("The specified log stream already exists")
            arn = f"{group.arn}:log-stream:{name}"
            group.streams[name] = Stream(name, arn, self._now())
        return {}

    def _delete_stream(self, given: Parameters) -> Json:
        with self._lock:
            self._stream(given)
            del self._group(given).streams[_stream_name(given)]
        return {}

    def _describe_streams(self, given: Parameters) -> Json:
        prefix = given.optional_text("logStreamNamePrefix", MAX_NAME, STREAM_NAME) or ""
        by_time = given.choice("orderBy", ("LogStreamName", "LastEventTime"), "LogStreamName") == "LastEventTime"
        if by_time and prefix:
            raise InvalidParameterError("Cannot order by LastEventTime with a logStreamNamePrefix.")
        with self._lock:
            streams = [s for s in self._group(given).streams.values() if s.name.startswith(prefix)]
            streams.sort(key=_last_event if by_time else _name, reverse=given.flag("descending"))
            page, token = _page(streams, given)
            return _without_none(logStreams=[_describe_stream(s) for s in page], nextToken=token)

    def _stream(self, given: Parameters) -> Stream:
        stream = self._group(given).streams.get(_stream_name(given))
        if stream is None:
            raise NotFoundError("The specified log stream does not exist.")
        return stream

    # events

    def _put_events(self, given: Parameters) -> Json:
        timestamps, messages = columns(given.items("logEvents", MAX_EVENTS, least=1))
        measure(messages)
        require_order(timestamps)
        with self._lock:
            group, stream = self._group(given), self._stream(given)
            verdict = judge(timestamps, self._now(), group.retention)
            valid = slice(verdict.start, verdict.end)
            require_span(timestamps[valid])
            if verdict.start < verdict.end:
                self._keep(stream, timestamps[valid], messages[valid])
        return _without_none(nextSequenceToken=uuid.uuid4().hex, rejectedLogEventsInfo=verdict.rejected())

    def _keep(self, stream: Stream, timestamps: list[int], messages: list[str]) -> None:
        extent = self._tape.append({"t": timestamps, "m": messages})
        size = measure(messages)
        stream.batches.append(Batch(extent, len(messages), size, timestamps[0], timestamps[-1], self._now()))

    def _get_events(self, given: Parameters) -> Json:
        with self._lock:
            group, stream = self._group(given).name, self._stream(given).name
        events = self._between(group, stream, given)
        limit = given.integer("limit", 1, MAX_EVENTS, MAX_EVENTS)
        head = given.flag("startFromHead")
        start = _position(given, len(events), limit, head=head)
        page = _fit(events[start : start + limit])
        return {
            "events": [_output(event) for event in page],
            "nextForwardToken": f"f/{start + len(page)}",
            "nextBackwardToken": f"b/{start}",
        }

    def _filter_events(self, given: Parameters) -> Json:
        terms = _terms(given.optional_text("filterPattern") or "")
        prefix = given.optional_text("logStreamNamePrefix", MAX_NAME, STREAM_NAME) or ""
        with self._lock:
            group = self._group(given)
            streams = sorted(name for name in group.streams if name.startswith(prefix))
        found = [
            {**_output(event), "logStreamName": stream, "eventId": f"{stream}/{number}"}
            for stream in streams
            for number, event in enumerate(self._between(group.name, stream, given))
            if all(term in event.message for term in terms)
        ]
        found.sort(key=lambda event: event["timestamp"])
        page, token = _page(found, given, MAX_EVENTS)
        return _without_none(events=page, nextToken=token)

    def _between(self, group: str, stream: str, given: Parameters) -> list[LogEvent]:
        """The stream's events from startTime to before endTime, by time and then by arrival."""
        start = given.integer("startTime", 0, 2**63, 0)
        end = given.integer("endTime", 0, 2**63, 2**63)
        events = [event for event in self.events(group, stream) if start <= event.timestamp < end]
        return sorted(events, key=lambda event: event.timestamp)

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _group_name(given: Parameters) -> str:
    return given.text("logGroupName", 1, MAX_NAME, GROUP_NAME)


def _stream_name(given: Parameters) -> str:
    return given.text("logStreamName", 1, MAX_NAME, STREAM_NAME)


def _page(items: list[Item], given: Parameters, most: int = PAGE) -> tuple[list[Item], str | None]:
    start = int(given.optional_text("nextToken") or 0)
    end = start + given.integer("limit", 1, most, most)
    return items[start:end], str(end) if end < len(items) else None


def _position(given: Parameters, total: int, limit: int, *, head: bool) -> int:
    token = given.optional_text("nextToken") or ""
    direction, _, number = token.partition("/")
    if direction == "f" and number.isdecimal():
        return int(number)
    if direction == "b" and number.isdecimal():
        return max(0, int(number) - limit)
    if token:
        raise InvalidParameterError("The specified nextToken is invalid.")
    return 0 if head else max(0, total - limit)


def _fit(events: list[LogEvent]) -> list[LogEvent]:
    """As many events, from the first on, as fit in an answer of 1 MB."""
    sizes = itertools.accumulate(len(event.message.encode()) + OVERHEAD for event in events)
    return [event for event, size in zip(events, sizes, strict=True) if size <= MAX_BATCH]


def _terms(pattern: str) -> list[str]:
    """Terms that must all occur; other kinds of filter patterns are refused rather than misread."""
    if re.search(r"[\[\]{}?%$*-]", re.sub(r'"[^"]*"', "", pattern)):
        raise InvalidParameterError("Invalid filter pattern: the stand-in knows only terms")
    return [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', pattern)]


def _output(event: LogEvent) -> Json:
    return {"timestamp": event.timestamp, "message": event.message, "ingestionTime": event.ingested}


def _describe_group(group: Group) -> Json:
    return _without_none(
        logGroupName=group.name,
        creationTime=group.created,
        retentionInDays=group.retention,
        metricFilterCount=0,
        arn=f"{group.arn}:*",
        storedBytes=sum(batch.size for stream in group.streams.values() for batch in stream.batches),
        kmsKeyId=group.kms_key,
        logGroupClass=group.log_class,
        logGroupArn=group.arn,
        deletionProtectionEnabled=group.protected,
    )


def _describe_stream(stream: Stream) -> Json:
    return _without_none(
        logStreamName=stream.name,
        creationTime=stream.created,
        firstEventTimestamp=min((batch.first for batch in stream.batches), default=None),
        lastEventTimestamp=max((batch.last for batch in stream.batches), default=None),
        lastIngestionTime=max((batch.ingested for batch in stream.batches), default=None),
        uploadSequenceToken=uuid.uuid5(uuid.NAMESPACE_URL, stream.arn).hex,
        arn=stream.arn,
        storedBytes=0,
    )


def _group_summary(group: Group) -> Json:
    return {
        "class": group.log_class,
        "kms_key": group.kms_key,
        "retention": group.retention,
        "tags": group.tags,
        "streams": {name: _stream_summary(stream) for name, stream in sorted(group.streams.items())},
    }


def _stream_summary(stream: Stream) -> Json:
    batches = stream.batches
    return {
        "batches": len(batches),
        "events": sum(batch.events for batch in batches),
        "bytes": sum(batch.size for batch in batches),
        "first": min((batch.first for batch in batches), default=None),
        "last": max((batch.last for batch in batches), default=None),
    }


def _name(stream: Stream) -> Any:
    return stream.name


def _last_event(stream: Stream) -> Any:
    return max((batch.last for batch in stream.batches), default=0)


def _without_none(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value is not None}
