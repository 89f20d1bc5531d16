"""Scanning a tree: bounded slices, nothing followed, absence and error told apart."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.engine.database import Database
from agent.engine.files import LinkRefused
from agent.uploads.globs import Filter
from agent.uploads.ledger import Confirmed, Ledger
from agent.uploads.names import to_text
from agent.uploads.scan import Row, Scan
from agent.uploads.tree import Stamp, TreeTooDeep, Walk, stamp_of

EVERYTHING = Filter(["**"], [])


class Book:
    """What is known, folder by folder; how often and of how many names it was asked."""

    def __init__(self) -> None:
        self.rows: dict[str, set[Row]] = {}
        self.asked: list[int] = []

    def __call__(self, folder: str, names: object) -> set[Row]:
        self.asked.append(len(list(names)))  # type: ignore[call-overload]
        return self.rows.get(folder, set())

    def learn(self, found: list[tuple[str, Stamp]]) -> None:
        for relative, stamp in found:
            folder, _, name = to_text(relative).rpartition("/")
            self.rows.setdefault(folder, set()).add((name, *stamp))


@contextmanager
def scanning(root: Path, book: Book, *, follow: bool = False, filter_: Filter = EVERYTHING) -> Iterator[Scan]:
    scan = Scan(str(root), filter_, book, follow=follow)
    try:
        yield scan
    finally:
        scan.close()


def all_of(scan: Scan, budget: int = 1_000) -> list[tuple[str, Stamp]]:
    found = []
    while not scan.done:
        found += scan.advance(budget)
    return found


def grow(root: Path, seed: int) -> set[str]:
    """A random tree; its files."""
    dice, files = random.Random(seed), set()
    for _ in range(60):
        folder = "/".join(dice.choice(["a", "b", "ü", "c d"]) for _ in range(dice.randrange(4)))
        (root / folder).mkdir(parents=True, exist_ok=True)
        name = f"{folder}/f{dice.randrange(40)}".lstrip("/")
        (root / name).write_bytes(b"x" * dice.randrange(5))
        files.add(name)
    return files


@pytest.mark.parametrize("budget", [1, 2, 7, 1_000])
def test_every_file_is_found_once_whatever_the_slice(tmp_path: Path, budget: int) -> None:
    files = grow(tmp_path, budget)
    book = Book()
    with scanning(tmp_path, book) as scan:
        found = all_of(scan, budget)
    assert sorted(relative for relative, _ in found) == sorted(files)
    assert dict(found) == {name: stamp_of(os.stat(tmp_path / name)) for name in files}
    assert scan.tally.files == len(files)
    book.learn(found)
    with scanning(tmp_path, book) as again:
        assert all_of(again, budget) == []


def test_a_slice_is_bounded_also_in_a_directory_without_end(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"f{number}").touch()
    with scanning(tmp_path, Book()) as scan:
        sizes = []
        while not scan.done:
            sizes.append(len(scan.advance(64)))
    assert max(sizes) <= 64
    assert sum(sizes) == 300


def test_a_file_of_a_strange_name_is_compared_by_its_text(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff\xe2\x80\x9b", "wb"):
        pass
    book = Book()
    with scanning(tmp_path, book) as scan:
        found = all_of(scan)
    assert [os.fsencode(relative) for relative, _ in found] == [b"\xff\xe2\x80\x9b"]
    book.learn(found)
    with scanning(tmp_path, book) as again:
        assert all_of(again) == []


def test_times_beyond_what_sqlite_holds_are_compared(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    os.utime(file, ns=(0, 13_000_000_000 * 10**9))  # the year 2381
    if os.stat(file).st_mtime_ns < 2**63:
        pytest.skip("this file system has no such time")
    database = Database(":memory:")
    ledger = Ledger(database)
    place = ledger.place(str(tmp_path), "b", "")
    stamp = stamp_of(os.stat(file))
    ledger.confirm([Confirmed(place, "a", stamp, "a", "e", "c", 0.0)])
    assert ledger.known(place, "", [("a", *stamp)]) == {("a", *stamp)}
    database.close()


def test_a_directory_that_vanishes_after_it_was_listed_is_no_error(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    with scanning(tmp_path, Book()) as scan:
        scan.advance(4)  # the root
        (tmp_path / "a" / "file").unlink()
        (tmp_path / "a").rmdir()
        found = all_of(scan)
    assert sorted(relative for relative, _ in found) == ["b/file", "c/file"]
    assert scan.tally.errors == {}


def test_a_directory_swapped_for_a_link_after_it_was_listed_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    with scanning(tree, Book()) as scan:
        scan.advance(2)
        (tree / "a").rmdir()
        (tree / "a").symlink_to(tmp_path / "outside")
        assert all_of(scan) == []


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Scan(str(tmp_path / "none"), EVERYTHING, Book(), follow=False)


def test_a_linked_root_is_the_administrators(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").touch()
    (tmp_path / "root").symlink_to("real")
    with scanning(tmp_path / "root", Book()) as scan:
        assert [relative for relative, _ in all_of(scan)] == ["a"]


def test_the_walk_refuses_to_leave_the_tree(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "up").symlink_to("a/b/../../..")
    (tree / "a" / "absolute").symlink_to(tmp_path / "outside")
    (tree / "ring").symlink_to("gnir")
    (tree / "gnir").symlink_to("ring")
    walk = Walk(str(tree), follow=True)
    for name in ("up", "a/absolute", "ring"):
        with pytest.raises(LinkRefused):
            walk.enter(name)
    walk.close()


def test_links_to_links_do_not_make_a_tree_without_end(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        for other in ("a", "b", "c"):
            (tmp_path / name / f"to-{other}").symlink_to(f"../{other}")
    with scanning(tmp_path, Book(), follow=True) as scan:
        found = all_of(scan)
    assert scan.done
    assert 3 < len(found) < 100


def test_a_walk_is_no_deeper_than_its_bound(tmp_path: Path) -> None:
    walk = Walk(str(tmp_path), follow=False)
    with pytest.raises(TreeTooDeep):
        walk.enter("/".join("d" * 129))
    walk.close()


def test_moving_about_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/x/y", "q"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to("b")
    before = len(os.listdir("/proc/self/fd"))
    walk = Walk(str(tmp_path), follow=True)
    for name in ("a/b/c", "a/x/y", "q", "", "a/link/c", "a/b"):
        walk.enter(name)
    with pytest.raises(FileNotFoundError):
        walk.enter("a/none/deeper")
    walk.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_large_folder_is_compared_name_by_name() -> None:
    database = Database(":memory:")
    ledger = Ledger(database)
    place = ledger.place("/d", "b", "p/")
    ledger.confirm(
        [
            Confirmed(place, f"x/f{number}", (number, 0, 0, 0), f"p/x/f{number}", "e", "c", 0.0)
            for number in range(5_000)
        ]
    )
    wanted = [("f7", 7, 0, 0, 0), ("f4999", 4_999, 0, 0, 0), ("none", 0, 0, 0, 0)]
    assert ledger.known(place, "x", wanted) == set(wanted[:2])
    entries = [entry for page in ledger.objects(place) for entry in page]
    assert len(entries) == 5_000
    assert {entry.key for entry in entries} == {f"p/x/f{number}" for number in range(5_000)}
    database.close()


def test_a_transaction_that_fails_leaves_no_folder_number_behind() -> None:
    database = Database(":memory:")
    ledger = Ledger(database)
    place = ledger.place("/d", "b", "")
    row = Confirmed(place, "new/a", (1, 2, 3, 4), "new/a", "e", "c", 0.0)
    bad = Confirmed(place, "new/b", (2**70, 2, 3, 4), "new/b", "e", "c", 0.0)
    with pytest.raises(OverflowError):
        ledger.confirm([row, bad])
    ledger.confirm([row])
    assert ledger.known(place, "new", [("a", 1, 2, 3, 4)]) == {("a", 1, 2, 3, 4)}
    database.close()
