"""Collectors read the machine as the CloudWatch agent does, and fail each for itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from metrics_fakes import Told

from agent.config.sections.collectors import CPU, DISK, MEMORY, SWAP
from agent.metrics.collect.base import CollectError, Machine, Measure
from agent.metrics.collect.cpu import Cpu
from agent.metrics.collect.disk import Disk
from agent.metrics.collect.memory import Memory
from agent.metrics.collect.mounts import Mount, one_each, read_mounts, volume_id
from agent.metrics.collect.patience import Patience
from agent.metrics.collect.registry import COLLECTORS, Collection, make_collectors
from agent.metrics.collect.swap import Swap

DATA = Path(__file__).parent / "data"
KIB = 1024


def machine(tree: str = "proc-nitro", **changes: Any) -> Machine:
    return Machine(**{"proc": str(DATA / tree), "statvfs": statvfs(), **changes})


def statvfs(failing: Mapping[str, OSError] | None = None):
    """100 blocks of 4 KiB, 30 free, 20 of them to ordinary users; 50 inodes, 10 free."""

    def call(path: str) -> os.statvfs_result:
        if failing and path in failing:
            raise failing[path]
        return os.statvfs_result((4096, 4096, 100, 30, 20, 50, 10, 10, 0, 255))

    return call


def never(item: str, error: Exception) -> None:
    raise AssertionError((item, error))


def cpu(measurements=CPU, per_cpu: bool = False) -> SimpleNamespace:
    return SimpleNamespace(measurements=measurements, per_cpu=per_cpu)


def disk(measurements=("used_percent",), mounts=("*",), **changes: bool) -> SimpleNamespace:
    return SimpleNamespace(
        **{"measurements": measurements, "mounts": mounts, "drop_device": False, "volume_id": False, **changes}
    )


def by_name(measures: list[Measure]) -> dict[str, tuple[float, str | None]]:
    return {measure.name: (measure.value, measure.unit) for measure in measures}


def paths(measures: list[Measure]) -> list[str]:
    return [measure.dimensions["path"] for measure in measures]


class Later:
    """A machine that moves from one tree to the next with each reading of a file."""

    def __init__(self, *trees: str) -> None:
        self._trees = list(trees)

    def read(self, *path: str) -> str:
        return (DATA / self._trees.pop(0)).joinpath(*path).read_text()


def test_processor_shares_are_those_of_the_time_between_two_readings() -> None:
    collector = Cpu(cpu(), Later("proc-nitro", "proc-nitro-later"))  # type: ignore[arg-type]
    first = by_name(list(collector.collect(never)))
    assert all(name.startswith("cpu_time_") for name in first)
    second = list(collector.collect(never))
    assert {measure.dimensions["cpu"] for measure in second} == {"cpu-total"}
    shares = {name: value for name, value in by_name(second).items() if name.startswith("cpu_usage_")}
    assert shares == {
        "cpu_usage_user": (20.0, "Percent"),
        "cpu_usage_nice": (5.0, "Percent"),
        "cpu_usage_system": (10.0, "Percent"),
        "cpu_usage_idle": (35.0, "Percent"),
        "cpu_usage_iowait": (6.0, "Percent"),
        "cpu_usage_irq": (1.0, "Percent"),
        "cpu_usage_softirq": (3.0, "Percent"),
        "cpu_usage_steal": (5.0, "Percent"),
        "cpu_usage_guest": (10.0, "Percent"),
        "cpu_usage_guest_nice": (5.0, "Percent"),
        "cpu_usage_active": (65.0, "Percent"),
    }
    assert by_name(second)["cpu_time_user"] == (103.0, None)
    assert by_name(second)["cpu_time_active"] == (201.5, None)


def test_each_processor_too_where_it_is_asked_for_and_none_that_did_not_run() -> None:
    collector = Cpu(cpu(["usage_idle"], per_cpu=True), Later("proc-nitro", "proc-nitro-later"))  # type: ignore[arg-type]
    assert list(collector.collect(never)) == []
    found = {measure.dimensions["cpu"]: measure.value for measure in collector.collect(never)}
    assert found == {"cpu-total": 35.0, "cpu0": pytest.approx(100 * 350 / 1000)}


def test_a_processor_that_counts_from_zero_again_gives_no_shares_until_the_next_reading() -> None:
    later = Later("proc-nitro-later", "proc-nitro", "proc-nitro-later")
    collector = Cpu(cpu(["usage_idle"]), later)  # type: ignore[arg-type]
    assert [len(list(collector.collect(never))) for _ in range(3)] == [0, 0, 1]


def test_columns_that_an_old_kernel_lacks_are_zero() -> None:
    (steal,) = Cpu(cpu(["time_steal"]), machine("proc-old")).collect(never)
    assert steal.value == 0.0


def test_all_memory_measurements_by_the_cloudwatch_agents_arithmetic() -> None:
    found = by_name(list(Memory(SimpleNamespace(measurements=MEMORY), machine()).collect(never)))
    assert found == {
        "mem_active": (900000 * KIB, "Bytes"),
        "mem_available": (2500000 * KIB, "Bytes"),
        "mem_available_percent": (62.5, "Percent"),
        "mem_buffered": (100000 * KIB, "Bytes"),
        "mem_cached": (1400000 * KIB, "Bytes"),
        "mem_free": (1000000 * KIB, "Bytes"),
        "mem_inactive": (800000 * KIB, "Bytes"),
        "mem_shared": (30000 * KIB, "Bytes"),
        "mem_total": (4000000 * KIB, "Bytes"),
        "mem_used": (1500000 * KIB, "Bytes"),
        "mem_used_percent": (37.5, "Percent"),
    }


def test_memory_of_a_kernel_without_an_estimate_of_what_is_available() -> None:
    (available,) = Memory(SimpleNamespace(measurements=["available"]), machine("proc-old")).collect(never)
    assert available.value == 300000 * KIB


def test_all_swap_measurements() -> None:
    found = by_name(list(Swap(SimpleNamespace(measurements=SWAP), machine()).collect(never)))
    assert found == {
        "swap_free": (1500000 * KIB, "Bytes"),
        "swap_used": (500000 * KIB, "Bytes"),
        "swap_used_percent": (25.0, "Percent"),
    }


def test_no_swap_space_is_used_by_0_percent() -> None:
    (used,) = Swap(SimpleNamespace(measurements=["used_percent"]), machine("proc-old")).collect(never)
    assert used.value == 0.0


def test_all_disk_measurements_as_df_has_them() -> None:
    found = by_name(list(Disk(disk(DISK, ["/"]), machine()).collect(never)))
    assert found == {
        "disk_free": (20 * 4096, "Bytes"),
        "disk_total": (100 * 4096, "Bytes"),
        "disk_used": (70 * 4096, "Bytes"),
        "disk_used_percent": (pytest.approx(100 * 70 / 90), "Percent"),
        "disk_inodes_free": (10, "Count"),
        "disk_inodes_total": (50, "Count"),
        "disk_inodes_used": (40, "Count"),
    }


def test_each_file_system_once_and_never_pseudo_image_or_overlay_ones() -> None:
    found = list(Disk(disk(), machine()).collect(never))
    assert paths(found) == ["/", "/boot/efi", "/data", "/mnt/my disk", "/var/log", "/tank"]
    assert found[0].dimensions == {"path": "/", "fstype": "xfs", "device": "nvme0n1p1"}


def test_of_mounts_on_one_path_only_the_uppermost_is_seen() -> None:
    lower, upper = Mount("8:1", "/", "/data", "ext4", "/dev/sda1"), Mount("8:2", "/", "/data", "xfs", "/dev/sda2")
    assert one_each([lower, upper]) == [upper]


def test_a_pattern_may_choose_a_mount_of_a_part_of_a_file_system() -> None:
    assert paths(list(Disk(disk(mounts=["/srv/*", "/tan?"]), machine()).collect(never))) == ["/srv/shop", "/tank"]


def test_a_network_file_system_is_measured_only_where_it_is_named() -> None:
    assert paths(list(Disk(disk(mounts=["/mnt/*"]), machine()).collect(never))) == ["/mnt/my disk"]
    (found,) = Disk(disk(mounts=["/mnt/efs"]), machine()).collect(never)
    assert found.dimensions == {"path": "/mnt/efs", "fstype": "nfs4", "device": "127.0.0.1:/"}


def test_pseudo_file_systems_are_not_measured_even_where_they_are_named() -> None:
    assert list(Disk(disk(mounts=["/run", "/dev/shm", "/snap/core22/1"]), machine()).collect(never)) == []


def test_the_device_may_be_dropped() -> None:
    (found,) = Disk(disk(mounts=["/"], drop_device=True), machine()).collect(never)
    assert found.dimensions == {"path": "/", "fstype": "xfs"}


def test_a_file_system_of_no_size_is_passed_over() -> None:
    nothing = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    assert list(Disk(disk(), machine(statvfs=lambda path: nothing)).collect(never)) == []


def test_a_mount_that_can_not_be_read_is_reported_and_the_others_go_on() -> None:
    reported: list[str] = []
    failing = statvfs({"/data": PermissionError(13, "Permission denied")})
    found = list(
        Disk(disk(), machine(statvfs=failing)).collect(lambda item, error: reported.append(f"{item}: {error}"))
    )
    assert paths(found) == ["/", "/boot/efi", "/mnt/my disk", "/var/log", "/tank"]
    assert reported == ["/data: [Errno 13] Permission denied"]


def test_mounts_come_from_the_process_itself_where_those_of_the_first_one_are_hidden() -> None:
    assert [mount.path for mount in read_mounts(machine("proc-old"))] == ["/", "/proc"]


def make_block_tree(root: Path) -> Machine:
    """A /sys and a /dev with an EBS disk, a partition of it, and a logical volume."""
    disk_folder = root / "sys/devices/pci/nvme/nvme0/nvme0n1"
    partition = disk_folder / "nvme0n1p1"
    partition.mkdir(parents=True)
    (partition / "partition").write_text("1\n")
    (disk_folder / "device").symlink_to("../../nvme0")
    (disk_folder.parent / "serial").write_text("vol0123456789abcdef0 \n")
    for folder in ("sys/class/block", "sys/dev/block", "dev/mapper"):
        (root / folder).mkdir(parents=True)
    (root / "sys/class/block/nvme0n1").symlink_to(disk_folder)
    (root / "sys/class/block/nvme0n1p1").symlink_to(partition)
    (root / "sys/dev/block/202:1").symlink_to(partition)
    (root / "dev/dm-0").touch()
    (root / "dev/mapper/vg-logs").symlink_to("../dm-0")
    return machine(sys=str(root / "sys"), dev=str(root / "dev"))


def test_the_volume_of_a_disk_or_partition_is_known_by_its_serial_number(tmp_path: Path) -> None:
    here = make_block_tree(tmp_path)
    assert volume_id("nvme0n1p1", here) == volume_id("nvme0n1", here) == "vol-0123456789abcdef0"
    assert volume_id("sda1", here) is None
    (found,) = Disk(disk(mounts=["/"], volume_id=True), here).collect(never)
    assert found.dimensions["VolumeId"] == "vol-0123456789abcdef0"
    (other,) = Disk(disk(mounts=["/data"], volume_id=True), here).collect(never)
    assert "VolumeId" not in other.dimensions


def test_a_logical_volume_and_the_boot_device_go_by_their_kernel_names(tmp_path: Path) -> None:
    here = make_block_tree(tmp_path)
    (found,) = Disk(disk(mounts=["/var/log"]), here).collect(never)
    assert found.dimensions["device"] == "dm-0"
    old = Machine(proc=str(DATA / "proc-old"), sys=here.sys, dev=here.dev, statvfs=statvfs())
    (root,) = Disk(disk(), old).collect(never)
    assert root.dimensions["device"] == "nvme0n1p1"


def test_text_that_does_not_parse_is_an_error_that_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu one two\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    here = machine(proc=str(tmp_path))
    with pytest.raises(CollectError, match="stat: ValueError"):
        list(Cpu(cpu(), here).collect(never))
    with pytest.raises(CollectError, match="meminfo: KeyError"):
        list(Memory(SimpleNamespace(measurements=["used"]), here).collect(never))


class Flaky:
    """A collector that fails when it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = OSError(5, "Input/output error")

    def collect(self, report):
        if self.error is not None:
            raise self.error
        return [Measure("flaky", 1.0, None)]


def test_a_collector_that_fails_is_said_counted_and_measured_while_the_others_go_on() -> None:
    told = Told()
    flaky = Flaky()
    memory = Memory(SimpleNamespace(measurements=["free"]), machine())
    collection = Collection({"flaky": flaky, "memory": memory}, told)
    found = list(collection.collect())
    assert [measure.name for measure in found] == ["outlive_collect_failures", "mem_free"]
    assert (found[0].value, found[0].unit, found[0].dimensions) == (1, "Count", {"collector": "flaky"})
    assert told.counters() == {"collect_failures": 1}
    assert told.log.fields("collect_failed")[0]["collector"] == "flaky"
    flaky.error = None
    assert [measure.name for measure in collection.collect()] == ["flaky", "mem_free"]
    assert told.log.names()[-1] == "collect_works_again"


def test_the_registry_makes_what_the_section_turns_on() -> None:
    section = SimpleNamespace(cpu=None, memory=SimpleNamespace(measurements=["free"]), disk=disk())
    assert list(make_collectors(section, machine())) == ["memory", "disk"]
    assert make_collectors(None, machine()) == {}


def test_a_call_that_hangs_is_left_alone_until_it_ends() -> None:
    released = threading.Event()
    patience: Patience[str] = Patience(0.02)
    calls: list[int] = []

    def hang() -> str:
        calls.append(1)
        released.wait(10)
        return "late"

    for _ in range(2):
        with pytest.raises(TimeoutError, match="/mnt/efs"):
            patience.call("/mnt/efs", hang)
    assert len(calls) == 1
    released.set()
    for thread in threading.enumerate():
        if thread.name == "patience /mnt/efs":
            thread.join(10)
    assert Patience[str](10.0).call("/mnt/efs", lambda: "prompt") == "prompt"
    assert patience.call("/mnt/efs", lambda: "again") == "again"


def test_a_call_that_fails_in_time_fails_as_it_is() -> None:
    def deny() -> str:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        Patience[str](10.0).call("/mnt/efs", deny)


def test_memory_and_swap_of_this_machine_agree_with_psutil() -> None:
    names = ["total", "free", "active", "inactive", "buffered", "cached", "available"]
    found = by_name(list(Memory(SimpleNamespace(measurements=names), Machine()).collect(never)))
    theirs = psutil.virtual_memory()
    assert found["mem_total"][0] == theirs.total
    for name in names:
        same = getattr(theirs, {"buffered": "buffers"}.get(name, name))
        assert found[f"mem_{name}"][0] == pytest.approx(same, abs=0.05 * theirs.total)
    swap = by_name(list(Swap(SimpleNamespace(measurements=SWAP), Machine()).collect(never)))
    assert swap["swap_free"][0] == pytest.approx(psutil.swap_memory().free, abs=64 << 20)


def test_processor_time_of_this_machine_agrees_with_psutil() -> None:
    found = by_name(list(Cpu(cpu(["time_user", "time_system", "time_idle"]), Machine()).collect(never)))
    theirs = psutil.cpu_times()
    for name in ("user", "system", "idle"):
        assert found[f"cpu_time_{name}"][0] == pytest.approx(getattr(theirs, name), abs=5.0)


def test_file_systems_of_this_machine_agree_with_psutil() -> None:
    found = {measure.dimensions["path"]: measure.value for measure in Disk(disk(["total"]), Machine()).collect(never)}
    assert found
    for path, total in found.items():
        assert total == psutil.disk_usage(path).total


def test_every_measurement_of_the_configuration_is_served() -> None:
    listed = {"cpu": CPU, "memory": MEMORY, "swap": SWAP, "disk": DISK}
    assert set(COLLECTORS) == set(listed)
    sections = SimpleNamespace(
        cpu=cpu(CPU),
        memory=SimpleNamespace(measurements=MEMORY),
        swap=SimpleNamespace(measurements=SWAP),
        disk=disk(DISK, ["/"]),
    )
    collection = Collection(make_collectors(sections, machine()), Told())
    served = {measure.name for measure in collection.collect()}
    prefixes = {"cpu": "cpu", "memory": "mem", "swap": "swap", "disk": "disk"}
    wanted = {f"{prefixes[key]}_{name}" for key, names in listed.items() for name in names}
    assert wanted - served == {f"cpu_{name}" for name in CPU if name.startswith("usage_")}
