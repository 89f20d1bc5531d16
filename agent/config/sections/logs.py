"""The section `logs`: files and the journal, into CloudWatch Logs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from agent.config.base import Section
from agent.config.errors import quoted
from agent.config.markers import Bytes, Parsed, Seconds, Shape, words
from agent.config.names import (
    FileLogGroup,
    FileLogStream,
    KeyArn,
    LogGroup,
    LogStream,
    MetricName,
    RoleArn,
    StandardUnit,
    TagKey,
    TagValue,
    Text,
)
from agent.config.units import parse_duration
from agent.config.values import (
    AbsoluteGlob,
    Duration,
    Encoding,
    Glob,
    Pattern,
    PositiveDuration,
    Size,
    TimeZone,
    parse_absolute_glob,
)

# CloudWatch Logs takes no other numbers of days (PutRetentionPolicy).
RETENTION_DAYS = tuple(
    map(int, words("1 3 5 7 14 30 60 90 120 150 180 365 400 545 731 1096 1827 2192 2557 2922 3288 3653"))
)
GROUP_TAGS_MAX = 50  # tags of a log group (CreateLogGroup)

Priority = Literal["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
MultilinePreset = Literal["indented", "python", "java"]
JournalField = Annotated[str, Shape("field of the journal", "[A-Z_][A-Z0-9_]{0,63}", "_TRANSPORT")]


def parse_paths(value: object) -> tuple[str, ...]:
    """One pattern or a list of them."""
    patterns = value if isinstance(value, list) else [value]
    if not patterns:
        raise ValueError("the list is empty; name at least one file")
    return tuple(parse_absolute_glob(pattern) for pattern in patterns)


def parse_retention(value: object) -> int:
    """Days, out of those that CloudWatch Logs takes."""
    days = parse_duration(value) / 86400
    if value in RETENTION_DAYS:
        raise ValueError(f"a plain {value} is a number of seconds; write {value}d")
    if days not in RETENTION_DAYS:
        known = " ".join(f"{each}d" for each in RETENTION_DAYS)
        raise ValueError(f"{quoted(value)} is no retention of CloudWatch Logs; it takes {known}")
    return int(days)


def parse_time_format(value: object) -> str:
    """iso8601, epoch, epoch_ms, or a format that strptime reads back."""
    if not isinstance(value, str) or (
        "%" not in value.replace("%%", "") and value not in ("iso8601", "epoch", "epoch_ms")
    ):
        raise ValueError(f"{quoted(value)} is no time format; write iso8601, epoch, epoch_ms, or one of strptime")
    if "%" in value:
        _try_strptime(value)
    return value


def _try_strptime(pattern: str) -> None:
    moment = datetime(2026, 10, 17, 23, 59, 58, 999999, tzinfo=UTC)
    try:
        datetime.strptime(moment.strftime(pattern), pattern)  # noqa: DTZ007  # only whether it can be read
    except (ValueError, re.error) as error:
        raise ValueError(f"{quoted(pattern)} can't be read by strptime: {error}") from None


RetentionDays = Annotated[int, Parsed("retention in days, as `30d`", parse_retention, lambda days: f"{days}d")]
LogPaths = Annotated[tuple[AbsoluteGlob, ...], Parsed("absolute path or pattern, one or a list", parse_paths)]
TimeFormat = Annotated[str, Parsed("time format", parse_time_format)]


class Timestamp(Section):
    """How an event's time is read from its text."""

    format: TimeFormat = Field(
        description="`iso8601`, `epoch` (seconds), `epoch_ms`, or a format of Python's strptime, as "
        "`%d/%b/%Y:%H:%M:%S %z`."
    )
    timezone: TimeZone = Field(
        default="UTC", description="The zone of times that name none: UTC, local, or a name of the IANA database."
    )
    json_key: Text | None = Field(
        default=None, description="Events are JSON objects: the key that holds the time; null: search the text."
    )


class MultilinePattern(Section):
    """How lines become one event: one of the two."""

    start: Pattern | None = Field(default=None, description="A line that matches begins an event.")
    continue_: Pattern | None = Field(
        default=None, alias="continue", description="A line that matches belongs to the event before it."
    )

    @model_validator(mode="after")
    def _one(self) -> MultilinePattern:
        if (self.start is None) == (self.continue_ is None):
            raise ValueError("write exactly one of start and continue")
        return self


def _multiline_kind(value: object) -> str:
    return "=preset" if isinstance(value, str) else "=pattern"


Multiline = Annotated[
    Annotated[MultilinePreset, Tag("=preset")] | Annotated[MultilinePattern, Tag("=pattern")],
    Discriminator(_multiline_kind),
]


class LineMetric(Section):
    """A metric counted from events."""

    name: MetricName = Field(description="The metric's name.")
    match: Pattern = Field(description="An event counts if it matches.")
    value: float = Field(default=1.0, strict=True, allow_inf_nan=False, description="What each such event adds.")
    unit: StandardUnit = Field(default="Count", description="CloudWatch's unit.")


class LogFile(Section):
    """Files whose events go to one log group."""

    path: LogPaths = Field(
        description="One or a list of absolute paths or patterns: `*`, `?`, `[..]`, `{a,b}` and `**`. A rotated "
        "sibling outside the pattern is read only as what a known file became."
    )
    exclude: tuple[Glob, ...] = Field(
        default=(),
        description="Patterns of files to leave out. `*.gz *.bz2 *.xz *.zst *.zip *.tar` are always left out.",
    )
    group: FileLogGroup = Field(description="The log group; it is made if it does not exist.")
    stream: FileLogStream = Field(default="{instance_id}/{file_name}", description="The log stream.")
    retention: RetentionDays | None = Field(
        default=None,
        description="How long CloudWatch keeps events: 1d 3d 5d 7d 14d 30d 60d 90d 120d 150d 180d 365d 400d 545d "
        "731d 1096d 1827d 2192d 2557d 2922d 3288d or 3653d; set only where it differs. null: left alone.",
    )
    class_: Literal["STANDARD", "INFREQUENT_ACCESS"] | None = Field(
        default=None,
        alias="class",
        description="The group's class. `class`, `kms_key` and `tags` act when the group is made; a difference later "
        "is a warning.",
    )
    kms_key: KeyArn | None = Field(default=None, description="The ARN of the KMS key that encrypts the group.")
    tags: Mapping[TagKey, TagValue] = Field(default={}, max_length=GROUP_TAGS_MAX, description="Tags of the group.")
    start_at: Literal["beginning", "end"] = Field(
        default="beginning",
        description="Where reading starts in files that exist, unseen, when this entry first starts. Later ones are "
        "always read from the beginning.",
    )
    encoding: Encoding = Field(
        default="utf-8", description="The text's encoding, by any name that Python knows; a byte order mark wins."
    )
    timestamp: Timestamp | None = Field(
        default=None, description="How an event's time is read from its text; null: the time of reading."
    )
    multiline: Multiline | None = Field(
        default=None,
        description="How lines become one event: `{start: REGEX}`, `{continue: REGEX}`, or a preset: indented, "
        "python, java. null: each line is one.",
    )
    multiline_timeout: PositiveDuration = Field(
        default=5.0, description="An open event, or a line without its end, is sent after this quiet time."
    )
    keep: tuple[Pattern, ...] = Field(
        default=(), description="An event must match one of these, if there are any ..."
    )
    drop: tuple[Pattern, ...] = Field(default=(), description="... and none of these.")
    max_event_size: Annotated[int, Bytes("1KiB", "1MiB")] = Field(
        default=1 << 20,
        description="The largest event, less CloudWatch's overhead; a longer one is split, nothing is cut off.",
    )
    delete_when_shipped: bool = Field(
        default=False, strict=True, description="Delete a rotated file once every byte of it is acknowledged."
    )
    metrics: tuple[LineMetric, ...] = Field(
        default=(), description="Metrics counted from events; they need the section `metrics`."
    )


class Journal(Section):
    """Entries of the systemd journal that go to one log group."""

    units: tuple[Text, ...] = Field(default=(), description="The units whose entries are read; none: all.")
    priority: Priority = Field(default="debug", description="The least important priority that is read.")
    matches: Mapping[JournalField, Text] = Field(
        default={}, description="Fields of the journal and the value that each must have."
    )
    group: LogGroup = Field(description="The log group; it is made if it does not exist.")
    stream: LogStream = Field(default="{instance_id}", description="The log stream.")


class Logs(Section):
    """Log files and the journal, into CloudWatch Logs."""

    flush_interval: Annotated[float, Seconds("100ms", "1h")] = Field(
        default=5.0, description="A batch leaves when it is full or this old."
    )
    compression: Literal["gzip", "none"] = Field(default="gzip", description="Of the request's body.")
    rotated_linger: Duration = Field(
        default=60.0,
        description="A rotated file is closed when it is read, acknowledged, and quiet for this long.",
    )
    max_open_files: int = Field(
        default=1024, strict=True, ge=1, le=1 << 20, description="At most half of RLIMIT_NOFILE is used."
    )
    max_deleted_bytes: Size = Field(
        default=1 << 30, description="How much disk space files may hold that are deleted already."
    )
    role_arn: RoleArn | None = Field(default=None, description="A role for these calls instead of `aws.role_arn`.")
    files: tuple[LogFile, ...] = Field(default=(), description="The log files.")
    journald: tuple[Journal, ...] = Field(default=(), description="The journal.")
