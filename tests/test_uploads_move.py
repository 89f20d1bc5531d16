"""`mode: move`: what S3 has confirmed is deleted here, and nothing else; what the ledger forgets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uploads_kit import Rig

from agent.aws.errors import Denied
from agent.uploads.move import is_open_for_writing

MakeRig = Callable[..., Rig]


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[MakeRig]:
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        made.append(Rig(tmp_path, **{"mode": "move", "rescan": 60, **options}))
        return made[-1]

    yield make
    for rig in made:
        rig.drop()


def left(rig: Rig) -> list[str]:
    return sorted(str(path.relative_to(rig.tree)) for path in rig.tree.rglob("*") if not path.is_dir())


def mover(rig: Rig) -> Any:
    return next(iter(rig.job.modes._moves.values()))


def test_what_s3_has_confirmed_is_deleted_here_and_directories_stay(rigs: MakeRig) -> None:
    rig = rigs(part_size=100_000)
    rig.write("a", b"one")
    rig.write("d/e/b", os.urandom(250_000))
    rig.run()
    assert left(rig) == []
    assert (rig.tree / "d/e").is_dir()
    assert sorted(rig.bucket.objects) == ["a", "d/e/b"]
    assert sorted(rig.ledger()) == ["a", "d/e/b"]
    assert rig.events.counters()["uploads_moved"] == 2


def test_what_s3_has_not_confirmed_stays(rigs: MakeRig) -> None:
    rig = rigs(overwrite=False)
    rig.bucket._put("taken", b"theirs", {}, False)
    rig.write("taken")
    rig.write("a")
    rig.bucket.refuse("PutObject", Denied("PutObject", "AccessDenied"), times=2)
    rig.run(0.5)
    assert left(rig) == ["a", "taken"]
    rig.run(200)
    assert left(rig) == ["taken"]


@pytest.mark.parametrize("change", ["content", "times", "replaced"])
def test_a_file_that_changes_after_it_was_confirmed_is_sent_again(rigs: MakeRig, change: str) -> None:
    rig = rigs()
    file = rig.write("a", b"old")
    worker = mover(rig)
    step, worker.step = worker.step, lambda _now: None  # between the confirmation and the deletion
    rig.run()
    assert rig.ledger() == {"a": 3}
    if change == "content":
        file.write_bytes(b"new")
    elif change == "times":
        os.utime(file, ns=(1, 1))
    else:
        other = rig.write("other", b"new")
        other.rename(file)
    worker.step = step
    worker.step(rig.clock.monotonic())
    assert left(rig) == ["a"]
    rig.run(200)
    assert left(rig) == []
    assert rig.bucket.objects["a"].data == (b"old" if change == "times" else b"new")
    assert rig.bucket.calls["PutObject"] == 2


def test_a_kill_between_confirmation_and_deletion_is_made_up_for(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    rig.write("b")
    mover(rig).step = lambda _now: None
    rig.run()
    assert left(rig) == ["a", "b"]
    (rig.tree / "b").write_bytes(b"another")
    rig.restart()
    rig.run()
    assert left(rig) == []
    assert rig.bucket.data() == {"a": b"data", "b": b"another"}
    assert rig.bucket.calls["PutObject"] == 3  # the one that did not change is not sent again


def test_all_names_of_a_file_with_hard_links_are_sent_and_deleted(rigs: MakeRig) -> None:
    rig = rigs()
    rig.job.pool.transfer._privileged = False
    file = rig.write("a")
    os.link(file, rig.tree / "b")
    os.link(file, rig.tree / "c")
    rig.run(300)
    assert left(rig) == []
    assert rig.bucket.data() == {"a": b"data", "b": b"data", "c": b"data"}


def test_links_stay_and_so_does_what_a_link_out_of_the_tree_leads_to(rigs: MakeRig) -> None:
    rig = rigs(follow_symlinks=True)
    outside = rig.tree.with_name("outside")
    outside.write_bytes(b"theirs")
    (rig.tree / "link").symlink_to("../outside")
    (rig.tree / "inner").symlink_to("a")
    rig.write("a")
    rig.run(200)
    assert outside.read_bytes() == b"theirs"
    assert left(rig) == ["inner", "link"]


def test_a_file_that_is_not_included_any_more_stays(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    mover(rig).step = lambda _now: None
    rig.run()
    rig.restart(exclude=["a"])
    rig.run(200)
    assert left(rig) == ["a"]


def test_a_file_that_cannot_be_deleted_is_said_named_and_tried_again(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    worker = mover(rig)
    errors = [PermissionError(1, "Operation not permitted")] * 2

    def is_written(_descriptor: int, _name: str) -> bool:
        if errors:
            raise errors.pop()
        return False

    worker._is_written = is_written
    rig.run(30)
    assert left(rig) == ["a"]
    (said,) = rig.log.of("upload_not_moved")
    assert said["path"] == str(rig.tree / "a")
    assert rig.uploads()["failing"] == [
        {"path": str(rig.tree / "a"), "error": "in S3, and can't be deleted here: Operation not permitted"}
    ]
    assert rig.uploads()["pending"] == 0
    rig.run(300)
    assert left(rig) == []
    assert rig.uploads()["failing"] == []


def test_a_file_that_is_still_open_for_writing_stays_until_it_is_closed(rigs: MakeRig) -> None:
    rig = rigs()
    file = rig.write("a")
    with file.open("ab", buffering=0) as writer:
        rig.run(100)
        assert left(rig) == ["a"]
        writer.write(b" and more")
        rig.clock.set_time(file.stat().st_ctime + 10)
        rig.run(100)
        assert left(rig) == ["a"]
    rig.run(200)
    assert left(rig) == []
    assert rig.bucket.data() == {"a": b"data and more"}


def test_who_reads_a_file_is_no_writer(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with (tmp_path / "a").open("rb"):
            assert not is_open_for_writing(folder, "a")
        with (tmp_path / "a").open("r+b"):
            assert is_open_for_writing(folder, "a")
        assert not is_open_for_writing(folder, "a")
    finally:
        os.close(folder)


def test_a_drain_sends_and_deletes_nothing(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    assert not rig.job.drain(rig.clock.monotonic() + 600).settled
    rig.run(100)
    assert rig.job.drain(rig.clock.monotonic() + 600).settled
    assert left(rig) == ["a"]
    rig.job.resume()
    rig.run(200)
    assert left(rig) == []


# what the ledger forgets


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_of_files_that_are_gone_the_ledger_keeps_the_newest(rigs: MakeRig, mode: str) -> None:
    rig = rigs(mode=mode)
    (forget,) = rig.job.modes._forgets.values()
    forget._most = 50
    stays = rig.write("stays")
    rig.run(100)
    for hour in range(8):
        files = [rig.write(f"h{hour}/f{number}") for number in range(25)]
        rig.clock.set_time(max(rig.clock.time(), files[-1].stat().st_ctime) + 3_600)
        rig.run(100)
        for file in files:
            file.unlink(missing_ok=True)
    rig.run(2_000)
    kept = rig.ledger()
    assert {path.partition("/")[0] for path in kept} >= {"h7", "h6"}
    assert not any(path.startswith(("h0", "h1", "h2", "h3")) for path in kept)
    assert len(kept) <= 76
    assert ("stays" in kept) == (mode == "copy")  # there, and its row says that S3 has it
    assert stays.exists() == (mode == "copy")
    assert len(rig.bucket.objects) == 201
    assert rig.bucket.calls["PutObject"] == 201
    assert rig.events.counters()["upload_rows_forgotten"] >= 100


def test_few_rows_are_not_forgotten(rigs: MakeRig) -> None:
    rig = rigs()
    for number in range(30):
        rig.write(f"f{number}")
    rig.run(2_000)
    assert len(rig.ledger()) == 30
