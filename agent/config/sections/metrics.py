"""The section `metrics`: samples into CloudWatch.

Source of names and limits: the API reference of CloudWatch (PutMetricData), and the CloudWatch agent's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from agent.config.base import Section
from agent.config.markers import Bytes, OneOf, Seconds, Shape, words
from agent.config.names import DimensionName, DimensionValue, HttpUrl, LogGroup, RoleArn
from agent.config.places import Place, Placed
from agent.config.sections.collectors import Os
from agent.config.values import (
    AbsolutePath,
    Address,
    Duration,
    FileMode,
    Glob,
    LoopbackAddress,
    Pattern,
    PositiveDuration,
    SocketAddress,
)

DIMENSIONS_MAX = 30  # of one metric (PutMetricData)
_PROCESS_LIMITS = words(
    "cpu_time file_locks memory_data memory_locked memory_rss memory_stack memory_vms nice_priority num_fds "
    "realtime_priority signals_pending"
)
PROCESS = words(
    "cpu_time cpu_time_system cpu_time_user cpu_usage memory_data memory_locked memory_rss memory_stack memory_swap "
    "memory_vms num_fds num_threads pid pid_count read_bytes read_count write_bytes write_count "
    "voluntary_context_switches involuntary_context_switches nice_priority realtime_priority signals_pending"
) + tuple(f"rlimit_{limit}_{kind}" for limit in _PROCESS_LIMITS for kind in ("hard", "soft"))

Namespace = Annotated[
    str,
    Shape(
        "namespace",
        r"(?!:|AWS/)[A-Za-z0-9._/#: -]{1,255}",
        "CWAgent",
        rule="at most 255 letters, digits, spaces and ._-/#:, and not AWS/",
    ),
]
Dimensions = Annotated[Mapping[DimensionName, DimensionValue], Field(max_length=DIMENSIONS_MAX)]
MetricPrefix = Annotated[str, Placed(Place.METRIC_PREFIX)]
Separator = Annotated[str, Shape("sign between the parts of a name", r"[!-~]{1,8}", '"_"')]


class Spool(Section):
    """What waits on disk while CloudWatch can't be reached; the oldest goes first, and is counted."""

    max_size: Annotated[int, Bytes("1MiB", "1TiB")] = Field(default=64 << 20, description="How much is kept.")
    max_age: Annotated[float, Seconds("1m", "14d")] = Field(
        default=13 * 86400.0, description="How long it is kept; CloudWatch takes nothing older than two weeks."
    )


class Process(Section):
    """Processes, as the CloudWatch agent's procstat: those that exactly one of pattern, exe and pid_file selects."""

    pattern: Pattern | None = Field(default=None, description="Searched in the whole command line.")
    exe: Pattern | None = Field(default=None, description="Searched in the executable's name.")
    pid_file: AbsolutePath | None = Field(default=None, description="A file that holds the process id.")
    measurements: tuple[Annotated[str, OneOf("measurement of processes", PROCESS)], ...] = Field(
        default=("cpu_usage", "memory_rss", "num_fds", "pid_count"),
        description="What is published, as `procstat_NAME`.",
    )

    @model_validator(mode="after")
    def _one(self) -> Process:
        if [self.pattern, self.exe, self.pid_file].count(None) != 2:
            raise ValueError("write exactly one of pattern, exe and pid_file")
        return self


class Statsd(Section):
    """A StatsD server for the applications of this machine."""

    address: SocketAddress | None = Field(
        default=Address("127.0.0.1", 8125), description="Where to listen on UDP; null: nowhere."
    )
    socket: Annotated[str, Placed(Place.OWN_SOCKET)] | None = Field(
        default=None, description='A Unix datagram socket to listen on too, as "{run_dir}/statsd.sock"; null: none.'
    )
    socket_mode: FileMode = Field(default=0o666, description="The socket's permissions.")
    receive_buffer: Annotated[int, Bytes("4KiB", "1GiB")] = Field(
        default=4 << 20,
        description="The kernel's receive buffer: asked for, read back, and warned of where the system gives less.",
    )
    prefix: MetricPrefix = Field(default="", description="Put before each name.")
    separator: Separator | None = Field(
        default=None,
        description='What dots in names become; null keeps names as they are sent, "_" is what the CloudWatch '
        "agent makes of them.",
    )
    metric_type: bool = Field(
        default=False, strict=True, description="Add the CloudWatch agent's dimension `metric_type`."
    )
    dimensions: Dimensions = Field(
        default={}, description="Dimensions of all these metrics. DogStatsD's tags `#k:v` become dimensions too."
    )

    @model_validator(mode="after")
    def _somewhere(self) -> Statsd:
        if self.address is None and self.socket is None:
            raise ValueError("address and socket are both null; leave statsd out, or give one of them")
        return self


class Prometheus(Section):
    """A Prometheus endpoint to scrape."""

    url: HttpUrl = Field(description="The endpoint.")
    interval: Annotated[float, Seconds("1s", "48h")] = Field(default=60.0, description="How often.")
    include: tuple[Glob, ...] = Field(default=("*",), min_length=1, description="Patterns of metric names.")
    labels_as_dimensions: tuple[DimensionName, ...] = Field(
        default=(),
        max_length=DIMENSIONS_MAX,
        description="Labels that become dimensions. Series that differ in other labels only are summed.",
    )


class Emf(Section):
    """A server for the embedded metric format; its documents are forwarded as log events."""

    address: LoopbackAddress = Field(
        default=Address("127.0.0.1", 25888), description="Where to listen, on TCP and UDP; loopback only."
    )
    groups: tuple[LogGroup, ...] = Field(min_length=1, description="The log groups that senders may name.")


class Metrics(Section):
    """Samples of the operating system and of applications, into CloudWatch.

    Names, units and dimensions are the CloudWatch agent's, so that dashboards and alarms carry over.
    """

    namespace: Namespace = Field(default="CWAgent", description="The namespace of all metrics.")
    interval: Annotated[float, Seconds("1s", "48h")] = Field(
        default=60.0, description="How often is collected; below 60s metrics are of high resolution."
    )
    flush_interval: Annotated[float, Seconds("1s", "1h")] = Field(
        default=60.0, description="How often samples are sent."
    )
    dimensions: Dimensions = Field(default={"InstanceId": "{instance_id}"}, description="Dimensions of every metric.")
    aggregate: tuple[tuple[DimensionName, ...], ...] = Field(
        default=(),
        description="Roll-ups that are published too, each by the names of its dimensions, as `[[InstanceId], []]`; "
        "names that a metric lacks are ignored.",
    )
    spool: Spool = Field(default=Spool(), description="What waits on disk.")
    max_series: int = Field(
        default=1000,
        strict=True,
        ge=1,
        le=1_000_000,
        description="Distinct pairs of name and dimensions in an interval; what is over is dropped, counted, named.",
    )
    counter_zero_fill: Duration = Field(default=600.0, description="A counter that falls silent sends 0 for so long.")
    gauge_ttl: PositiveDuration = Field(
        default=600.0, description="A gauge that falls silent is repeated for so long."
    )
    role_arn: RoleArn | None = Field(default=None, description="A role for these calls instead of `aws.role_arn`.")
    os: Os | None = Field(
        default=None, description="What the operating system tells; null: nothing, `{}`: the default set."
    )
    processes: tuple[Process, ...] = Field(default=(), description="Single processes.")
    statsd: Statsd | None = Field(default=None, description="A StatsD server; null: none, `{}`: with its defaults.")
    prometheus: tuple[Prometheus, ...] = Field(default=(), description="Prometheus endpoints to scrape.")
    emf: Emf | None = Field(default=None, description="A server for the embedded metric format; null: none.")
