"""Identity: a file is its place and its content, never its path; many names of one file are one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from logs_harness import Entry, Rig, append, check, lines, rigs, unprivileged

from agent.logs.identity import GUARD_BYTES, Locator, guard, locate, prefix

Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with rigs(tmp_path) as make:
        yield make


@pytest.fixture
def rig(make: Make) -> Rig:
    return make(Entry("*.log"))


def again(rig: Rig) -> None:
    """Kill and start."""
    rig.crash()
    rig.start()
    rig.run(10)


# alike but not the same


@pytest.mark.parametrize("banner", ["x", "banner " * 200], ids=["first line", "first kilobyte"])
def test_files_that_begin_alike_are_all_read(rig: Rig, banner: str) -> None:
    written = []
    for name in ("a", "b", "c"):
        written += [banner, *lines(50, word=name)]
        rig.write(f"{name}.log", [banner, *lines(50, word=name)])
    rig.run(10)
    again(rig)
    check(written, rig.logs.messages())


def test_files_that_are_alike_to_the_last_byte_are_all_read(rig: Rig) -> None:
    for name in ("a", "b"):
        rig.write(f"{name}.log", lines(50))
    rig.run(10)
    again(rig)
    check(lines(50) * 2, rig.logs.messages())


@pytest.mark.parametrize("size", [1, 16, 1023, 1024, 1025])
def test_a_file_is_read_from_its_first_byte_however_small_and_not_again_when_it_grows(rig: Rig, size: int) -> None:
    rig.path("a.log").write_text("x" * (size - 1) + "\n")
    rig.run(10)
    for number in range(5):
        again(rig)
        rig.write("a.log", lines(30, 30 * number))
        rig.run(10)
    check(["x" * (size - 1)] * (size > 1) + lines(150), rig.logs.messages())


def test_empty_files_are_not_taken_for_each_other(rig: Rig) -> None:
    names = [f"{number}.log" for number in range(10)]
    for name in names:
        rig.path(name).touch()
    rig.run(10)
    again(rig)
    for name in names:
        rig.write(name, [name])
    rig.run(10)
    again(rig)
    check(names, rig.logs.messages())
    assert len(rig.rows()) == 10


# one file, many names


def test_hard_links_are_one_file_while_permissions_count() -> None:
    with unprivileged() as home, rigs(home) as make:
        rig = make(Entry("*.log"))
        rig.write("a.log", lines(10))
        rig.path("b.log").hardlink_to(rig.path("a.log"))
        rig.run(10)
        rig.write("b.log", lines(10, 10))
        rig.run(10)
        rig.path("a.log").unlink()
        rig.write("b.log", lines(10, 20))
        rig.run(10)
        again(rig)
        check(lines(30), rig.logs.messages())
        assert [Path(file.path).name for file in rig.files] == ["b.log"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what it may not")
def test_hard_links_are_refused_by_name_while_this_process_may_read_everything(rig: Rig) -> None:
    rig.write("a.log", lines(10))
    rig.path("b.log").hardlink_to(rig.path("a.log"))
    rig.run(10)
    assert rig.files == []
    assert {Path(path).name for path in rig.input.unreadable} == {"a.log", "b.log"}
    rig.path("b.log").unlink()
    rig.run(60)
    check(lines(10), rig.logs.messages())
    assert rig.input.unreadable == {}


def test_a_link_and_its_target_are_one_file(rig: Rig) -> None:
    rig.path("current.log").symlink_to("real.log")
    rig.write("real.log", lines(10))
    rig.run(10)
    rig.write("current.log", lines(10, 10))
    rig.run(10)
    again(rig)
    check(lines(20), rig.logs.messages())
    assert len(rig.files) == 1


@pytest.mark.parametrize("pattern", ["current.log", "*.log"])
def test_a_link_that_is_turned_to_another_file_is_followed_and_the_old_file_read_to_its_end(
    make: Make, pattern: str
) -> None:
    rig = make(Entry(pattern))
    written = []
    for number in range(20, 25):
        written += lines(10, number * 100)
        rig.write(f"app-{number}.log", lines(10, number * 100))
        rig.path("current.tmp").symlink_to(f"app-{number}.log")
        rig.path("current.tmp").rename(rig.path("current.log"))
        rig.run(10)
        if number > 20:
            written.append(f"late {number}")
            rig.write(f"app-{number - 1}.log", [f"late {number}"])
    rig.run(10)
    check(written, rig.logs.messages())


def test_a_link_that_is_turned_and_turned_back_at_once_is_the_first_file_again(make: Make) -> None:
    rig = make(Entry("current.log"))
    for target in ("a", "b", "a"):
        rig.write(target, [target])
        rig.path("tmp").symlink_to(target)
        rig.path("tmp").rename(rig.path("current.log"))
        rig.run(10)
    assert os.path.samestat(rig.path("a").stat(), os.fstat(rig.input.files[str(rig.path("current.log"))].descriptor))
    rig.run(200)
    rig.write("a", ["more"])
    rig.run(10)
    check(["a", "b", "a", "more"], rig.logs.messages())
    assert [Path(file.path).name for file in rig.files] == ["current.log"]


def test_links_in_two_steps_with_rotation_as_kubernetes_has_them(make: Make) -> None:
    rig = make(Entry("containers/*.log"))
    for folder in ("containers", "pods", "pods/p1"):
        rig.path(folder).mkdir()
    append(rig.path("pods/p1/0.log"), lines(10))
    rig.path("pods/c.log").symlink_to("p1/0.log")
    rig.path("containers/c.log").symlink_to("../pods/c.log")
    rig.run(10)
    with rig.path("pods/p1/0.log").open("a") as old:
        rig.path("pods/p1/0.log").rename(rig.path("pods/p1/0.log.1"))
        append(rig.path("pods/p1/0.log"), lines(10, 20))
        old.write("late\n")
    rig.run(10)
    check([*lines(10), "late", *lines(10, 20)], rig.logs.messages())


def test_a_link_of_somebody_else_is_refused_and_its_target_not_read(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be several users")
    with rigs(tmp_path) as make:
        rig = make(Entry("*.log"))
        secret = tmp_path / "secret"
        secret.write_text("secret\n")
        rig.path("a.log").symlink_to(secret)
        os.lchown(rig.path("a.log"), 65534, 65534)
        rig.run(10)
        assert rig.logs.calls == []
        (trouble,) = rig.input.unreadable.values()
        assert "symbolic link" in trouble.error


# the evidence itself


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "f").write_bytes(bytes(range(256)))
    found = os.open(tmp_path / "f", os.O_RDONLY)
    yield found
    os.close(found)


def test_head_and_guard_are_of_the_bytes_that_are_there(descriptor: int) -> None:
    assert prefix(descriptor, 1024)[0] == 256
    assert prefix(descriptor, 10) == (10, prefix(descriptor, 10)[1])
    assert prefix(descriptor, 10)[1] != prefix(descriptor, 11)[1]
    assert guard(descriptor, 256)[0] == min(GUARD_BYTES, 256)
    assert guard(descriptor, 256, 64) == (64, guard(descriptor, 256, 64)[1])
    assert guard(descriptor, 10)[0] == 10
    assert guard(descriptor, 100)[1] != guard(descriptor, 101)[1]
    assert guard(descriptor, 0) == prefix(descriptor, 0)


def test_a_place_is_the_same_by_inode_and_birth_as_far_as_anyone_can_tell() -> None:
    here = Locator(device=1, inode=2, born=3)
    assert here.same_place(Locator(9, 2, 3))
    assert here.same_place(Locator(1, 2, 0))
    assert Locator(1, 2, 0).same_place(here)
    assert not here.same_place(Locator(1, 2, 4))
    assert not here.same_place(Locator(1, 3, 3))


def test_a_birth_time_stays_and_another_file_has_another(tmp_path: Path) -> None:
    locators = []
    for number in range(2):
        (tmp_path / f"{number}").touch()
        found = os.open(tmp_path / f"{number}", os.O_RDONLY)
        (tmp_path / f"{number}").rename(tmp_path / f"renamed {number}")
        append(tmp_path / f"renamed {number}", ["more"])
        locators.append((locate(found), locate(found)))
        os.close(found)
    assert all(before == after for before, after in locators)
    if locators[0][0].born:  # some file systems keep none
        assert locators[0][0].born < locators[1][0].born
