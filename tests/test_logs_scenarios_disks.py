"""What disks do to log files: unmounting, holes, descriptors that go bad, sizes that go back; and many folders."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, append, check, copytruncate, lines, rigs

Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


# a volume that is unmounted


class Volume:
    """A folder that can be mounted and unmounted, with its files and their inodes as they were."""

    def __init__(self, source: Path, mountpoint: Path) -> None:
        self.source, self.mountpoint = source, mountpoint
        self.mounted = False

    def mount(self) -> None:
        command = ["mount", "--bind", str(self.source), str(self.mountpoint)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        self.mounted = True

    def unmount(self) -> None:
        """Open files stay open, as after `umount --lazy`."""
        subprocess.run(["umount", "--lazy", str(self.mountpoint)], check=True)
        self.mounted = False


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """Mounted on the folder `volume` of the logs."""
    source, mountpoint = tmp_path / "source", tmp_path / "logs" / "volume"
    source.mkdir()
    mountpoint.mkdir(parents=True)
    volume = Volume(source, mountpoint)
    volume.mount()
    yield volume
    if volume.mounted:
        volume.unmount()


@pytest.mark.parametrize("seconds", [3.0, 600.0], ids=["short", "long"])
def test_a_volume_that_is_unmounted_for_a_while_is_not_read_again(make: Make, volume: Volume, seconds: float) -> None:
    rig = make(Entry("volume/*.log"))
    rig.write("volume/app.log", lines(10))
    rig.run(10)
    rig.write("volume/app.log", lines(10, 10))
    volume.unmount()
    rig.run(seconds)
    volume.mount()
    rig.write("volume/app.log", lines(10, 20))
    rig.run(100)
    check(lines(30), rig.logs.messages())
    assert rig.counter("log_bytes_lost") == 0
    assert len(rig.files) == 1


@pytest.mark.parametrize("end", [Rig.stop, Rig.crash], ids=["stopped", "killed"])
def test_a_volume_that_is_not_mounted_at_start_is_known_again_when_it_is(
    make: Make, volume: Volume, end: Callable[[Rig], None]
) -> None:
    rig = make(Entry("volume/*.log"))
    rig.write("volume/app.log", lines(10))
    rig.run(10)
    end(rig)
    rig.write("volume/app.log", lines(10, 10))
    volume.unmount()
    for _ in range(2):
        rig.start()
        rig.run(60)
        end(rig)
    rig.start()
    rig.run(60)
    volume.mount()
    rig.run(60)
    check(lines(20), rig.logs.messages())


# holes


def write_at(path: Path, offset: int, text: str) -> None:
    """As a writer does that did not open its log for appending."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(text.encode())


@pytest.mark.parametrize("size", [1_200, 100_003, 10 << 20])
@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_the_hole_that_a_writer_leaves_after_copytruncate_is_skipped_and_counted(
    make: Make, size: int, down: bool
) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(100))
    rig.run(10)
    copytruncate(rig.path("app.log"), rig.path("copy"))
    if down:
        rig.stop()
    write_at(rig.path("app.log"), size, "".join(f"{line}\n" for line in lines(50, 100)))
    if down:
        rig.start()
    rig.run(30)
    rig.write("app.log", lines(5, 150))
    rig.run(30)
    check(lines(155), rig.logs.messages())
    assert size in rig.events.counters().values()
    assert rig.files[0].acknowledged == rig.path("app.log").stat().st_size
    rig.restart()
    rig.run(30)
    check(lines(155), rig.logs.messages())


def test_a_hole_of_a_terabyte_takes_no_time(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.path("app.log").touch()
    write_at(rig.path("app.log"), 1 << 40, "".join(f"{line}\n" for line in lines(50)))
    rig.run(30)
    check(lines(50), rig.logs.messages())


def test_a_hole_in_the_middle_of_a_file_takes_no_line_with_it(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    write_at(rig.path("app.log"), 1_000_000, "".join(f"{line}\n" for line in lines(10, 10)))
    rig.run(30)
    check(lines(20), rig.logs.messages())


# descriptors that go bad, as on a network file system


def spoil(rig: Rig) -> None:
    """Let every operation on the one open file fail, as a stale handle does."""
    (file,) = rig.files
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(file.descriptor)
    file.descriptor = soft - 1  # nothing else is given this number


def test_a_file_whose_descriptor_went_bad_is_named(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    spoil(rig)
    rig.run(5)
    (said,) = rig.said.fields("log_read_failed")
    assert said["path"] == str(rig.path("app.log"))
    assert rig.files[0].error == "Bad file descriptor"
    rig.files[0].descriptor = -1


def test_a_file_whose_descriptor_went_bad_is_opened_anew_and_goes_on_where_it_was(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(10))
    rig.run(10)
    rig.write("app.log", lines(10, 10))
    spoil(rig)
    try:
        rig.run(120)
        rig.write("app.log", lines(10, 20))
        rig.run(60)
        check(lines(30), rig.logs.messages())
    finally:
        for file in rig.files:
            file.descriptor = -1 if file.descriptor > 500 else file.descriptor


def test_a_size_that_goes_back_for_a_moment_costs_duplicates_and_no_line(make: Make) -> None:
    rig = make(Entry("app.log"))
    rig.write("app.log", lines(100))
    rig.run(10)
    whole = rig.path("app.log").read_bytes()
    os.truncate(rig.path("app.log"), 600)
    rig.run(2)
    with rig.path("app.log").open("ab") as file:
        file.write(whole[600:])
    rig.write("app.log", lines(10, 100))
    rig.run(60)
    check(lines(110), rig.logs.messages(), duplicates=100)


# many folders


def test_a_pattern_over_two_thousand_folders_finds_what_appears_in_any_of_them(make: Make) -> None:
    rig = make(Entry("d*/app.log"))
    for number in range(2000):
        rig.path(f"d{number}").mkdir()
    rig.run(5)
    for number in range(0, 2000, 100):
        append(rig.path(f"d{number}/app.log"), [f"from {number}"])
    rig.run(10)
    check([f"from {number}" for number in range(0, 2000, 100)], rig.logs.messages())
