"""The map `metrics.os`: what the operating system tells about itself, in the CloudWatch agent's names.

Source of the measurements: the CloudWatch agent's documentation, "Metrics collected by the CloudWatch agent".
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from agent.config.base import Section
from agent.config.errors import quoted
from agent.config.markers import OneOf, words
from agent.config.values import Glob

DEFAULT_COLLECTORS = ("cpu", "memory", "swap", "disk")
_CPU_STATES = words("active guest guest_nice idle iowait irq nice softirq steal system user")

CPU = tuple(f"{kind}_{state}" for kind in ("usage", "time") for state in _CPU_STATES)
MEMORY = words("active available available_percent buffered cached free inactive shared total used used_percent")
SWAP = ("free", "used", "used_percent")
DISK = words("free total used used_percent inodes_free inodes_total inodes_used")
DISKIO = words("reads writes read_bytes write_bytes read_time write_time io_time iops_in_progress")
NET = words("bytes_sent bytes_recv packets_sent packets_recv drop_in drop_out err_in err_out")
NETSTAT = words(
    "tcp_close tcp_close_wait tcp_closing tcp_established tcp_fin_wait1 tcp_fin_wait2 tcp_last_ack tcp_listen "
    "tcp_none tcp_syn_recv tcp_syn_sent tcp_time_wait udp_socket"
)
PROCESSES = words("blocked dead idle paging running sleeping stopped total total_threads wait zombies")

Items = Annotated[tuple[Glob, ...], Field(min_length=1)]


class Cpu(Section):
    """Processor time."""

    measurements: tuple[Annotated[str, OneOf("measurement of cpu", CPU)], ...] = Field(
        default=("usage_idle", "usage_iowait", "usage_user", "usage_system", "usage_steal"),
        description="What is published, as `cpu_NAME`.",
    )
    per_cpu: bool = Field(default=False, strict=True, description="Each processor too, not only their total.")


class Memory(Section):
    """Main memory."""

    measurements: tuple[Annotated[str, OneOf("measurement of memory", MEMORY)], ...] = Field(
        default=("used_percent", "available"), description="What is published, as `mem_NAME`."
    )


class Swap(Section):
    """Swap space."""

    measurements: tuple[Annotated[str, OneOf("measurement of swap", SWAP)], ...] = Field(
        default=("used_percent",), description="What is published, as `swap_NAME`."
    )


class Disk(Section):
    """File systems. Pseudo file systems and those of images are never among them."""

    measurements: tuple[Annotated[str, OneOf("measurement of disk", DISK)], ...] = Field(
        default=("used_percent", "inodes_free"), description="What is published, as `disk_NAME`."
    )
    mounts: Items = Field(default=("*",), description="Patterns of mount points.")
    drop_device: bool = Field(default=False, strict=True, description="Leave out the dimension `device`.")
    volume_id: bool = Field(
        default=False, strict=True, description="Add the dimension `VolumeId`, the EBS volume's id."
    )


class DiskIo(Section):
    """Block devices."""

    measurements: tuple[Annotated[str, OneOf("measurement of diskio", DISKIO)], ...] = Field(
        default=("reads", "writes", "read_bytes", "write_bytes", "io_time"),
        description="What is published, as `diskio_NAME`.",
    )
    devices: Items = Field(default=("*",), description="Patterns of device names.")


class Net(Section):
    """Network interfaces."""

    measurements: tuple[Annotated[str, OneOf("measurement of net", NET)], ...] = Field(
        default=("bytes_sent", "bytes_recv", "drop_in", "drop_out", "err_in", "err_out"),
        description="What is published, as `net_NAME`.",
    )
    interfaces: Items = Field(default=("*",), description="Patterns of interface names.")


class Netstat(Section):
    """Sockets by state."""

    measurements: tuple[Annotated[str, OneOf("measurement of netstat", NETSTAT)], ...] = Field(
        default=("tcp_established", "tcp_time_wait", "udp_socket"),
        description="What is published, as `netstat_NAME`.",
    )


class Processes(Section):
    """All processes, counted by state."""

    measurements: tuple[Annotated[str, OneOf("measurement of processes", PROCESSES)], ...] = Field(
        default=("running", "blocked", "zombies", "total"), description="What is published, as `processes_NAME`."
    )


class Ethtool(Section):
    """Counters of network drivers, as those of ENA that tell that the instance's allowance is exceeded."""

    interfaces: Items = Field(default=("eth*", "en*"), description="Patterns of interface names.")
    include: Items = Field(
        default=("*_allowance_exceeded", "conntrack_allowance_available"),
        description="Patterns of the driver's counters; published as `ethtool_NAME`.",
    )


class Pressure(Section):
    """Pressure stall information, /proc/pressure: what the CloudWatch agent lacks. It has no keys."""


class Os(Section):
    """Collectors. `os: {}` is the default set: cpu, memory, swap and disk, each with its default measurements.

    Once any collector is listed, only the listed ones are on; one given as `{}` takes its default measurements.
    """

    cpu: Cpu | None = Field(default=None, description="Processor time.")
    memory: Memory | None = Field(default=None, description="Main memory.")
    swap: Swap | None = Field(default=None, description="Swap space.")
    disk: Disk | None = Field(default=None, description="File systems.")
    diskio: DiskIo | None = Field(default=None, description="Block devices.")
    net: Net | None = Field(default=None, description="Network interfaces.")
    netstat: Netstat | None = Field(default=None, description="Sockets by state.")
    processes: Processes | None = Field(default=None, description="All processes, by state.")
    ethtool: Ethtool | None = Field(default=None, description="Counters of network drivers.")
    pressure: Pressure | None = Field(default=None, description="Pressure stall information; it takes no keys.")

    @model_validator(mode="before")
    @classmethod
    def _default_set(cls, value: Any) -> Any:
        return {name: {} for name in DEFAULT_COLLECTORS} if value == {} else value

    @model_validator(mode="before")
    @classmethod
    def _no_empty_collector(cls, value: Any) -> Any:
        empty = [key for key, given in value.items() if given is None] if isinstance(value, dict) else []
        if empty:
            name = quoted(empty[0])[1:-1]
            raise ValueError(f"{name} has no value; write `{name}: {{}}` for its defaults, or leave it out")
        return value
