"""`mode: mirror`: what was deleted here, and nothing else, is deleted in S3."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uploads_kit import Rig

from agent.aws.errors import Conflict, Denied, Unreachable
from agent.engine.database import Database
from agent.uploads.journal import Deletion, Intent
from agent.uploads.mounts import Mounts, mount_points

MakeRig = Callable[..., Rig]


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[MakeRig]:
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        made.append(Rig(tmp_path, **{"mode": "mirror", "rescan": 60, **options}))
        return made[-1]

    yield make
    for rig in made:
        rig.drop()


def filled(rig: Rig, files: int = 30) -> Rig:
    for number in range(files):
        rig.write(f"d{number % 3}/f{number:02}", str(number))
    rig.run(100)
    assert len(rig.bucket.objects) == files
    return rig


def deletes(rig: Rig) -> int:
    return rig.bucket.calls["DeleteObject"]


# what is deleted


def test_what_was_deleted_here_is_deleted_in_s3_and_forgotten(rigs: MakeRig) -> None:
    rig = filled(rigs(prefix="p/"))
    (rig.tree / "d1/f01").unlink()
    (rig.tree / "d2/f02").unlink()
    rig.run(100)
    assert "p/d1/f01" not in rig.bucket.objects
    assert len(rig.bucket.objects) == 28
    assert len(rig.ledger()) == 28
    assert rig.events.counters()["uploads_deleted"] == 2
    assert rig.log.of("uploads_deleted_in_s3")[0]["objects"] == 2


def test_the_only_file_may_go_though_it_is_more_than_a_tenth(rigs: MakeRig) -> None:
    rig = filled(rigs(), 1)
    (rig.tree / "d0/f00").unlink()
    rig.run(100)
    assert rig.bucket.objects == {}


def test_a_deleted_directory_is_deleted_with_all_that_was_sent_of_it(rigs: MakeRig) -> None:
    rig = filled(rigs(max_deletes="40%"))
    for file in (rig.tree / "d1").iterdir():
        file.unlink()
    (rig.tree / "d1").rmdir()
    rig.run(100)
    assert {key[:2] for key in rig.bucket.objects} == {"d0", "d2"}


def test_a_file_whose_place_a_directory_has_taken_is_deleted(rigs: MakeRig) -> None:
    rig = filled(rigs())
    (rig.tree / "d0/f00").unlink()
    rig.write("d0/f00/inner")
    rig.run(200)
    assert "d0/f00" not in rig.bucket.objects
    assert "d0/f00/inner" in rig.bucket.objects


def test_a_tree_in_which_nothing_is_gone_makes_no_request(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.run(2_000)
    assert rig.bucket.calls == {"PutObject": 30}


def test_copy_never_deletes_and_remembers(rigs: MakeRig) -> None:
    rig = filled(rigs(mode="copy"))
    (rig.tree / "d1/f01").unlink()
    rig.run(1_000)
    assert len(rig.bucket.objects) == len(rig.ledger()) == 30
    assert deletes(rig) == 0


# what is not


def test_objects_that_are_not_in_the_ledger_are_left_alone(rigs: MakeRig) -> None:
    rig = rigs()
    rig.bucket._put("d0/of-another-instance", b"theirs", {}, False)
    for number in range(20):
        rig.write(f"d0/f{number}")
    rig.run(100)
    (rig.tree / "d0/f1").unlink()
    rig.run(200)
    assert len(rig.bucket.objects) == 20
    assert "d0/of-another-instance" in rig.bucket.objects


def test_an_object_that_another_has_replaced_is_left_alone(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.bucket._put("d1/f01", b"of another writer", {}, False)
    (rig.tree / "d1/f01").unlink()
    rig.run(200)
    assert rig.bucket.objects["d1/f01"].data == b"of another writer"
    assert rig.log.of("upload_of_another_kept")[0]["key"] == "d1/f01"
    assert deletes(rig) == 1


def test_more_than_max_deletes_at_once_is_refused_and_said(rigs: MakeRig) -> None:
    rig = filled(rigs())
    gone = sorted(rig.tree.glob("d*/f*"))[:4]
    for file in gone:
        file.unlink()
    rig.run(200)
    assert deletes(rig) == 0
    assert rig.log.of("uploads_deletes_refused")[0]["gone"] == 4
    assert rig.events.counters()["uploads_deletes_refused"] >= 1
    assert "4 of 30 files are gone; max_deletes allows 3" in rig.uploads()["failing"][0]["error"]


def test_a_refusal_ends_when_fewer_files_are_gone(rigs: MakeRig) -> None:
    rig = filled(rigs())
    gone = sorted(rig.tree.glob("d*/f*"))[:4]
    for file in gone:
        file.unlink()
    rig.run(200)
    gone[0].write_bytes(b"back")
    rig.run(200)
    assert deletes(rig) == 3
    assert rig.uploads()["failing"] == []
    assert "uploads_deletes_accepted" in rig.log.names()


def test_a_refusal_ends_when_max_deletes_is_raised(rigs: MakeRig) -> None:
    rig = filled(rigs())
    for file in rig.tree.glob("d*/f*"):
        file.unlink()
    rig.run(200)
    assert deletes(rig) == 0
    rig.restart(max_deletes="100%")
    rig.run(200)
    assert rig.bucket.objects == {}
    assert rig.ledger() == {}


def test_with_no_deletes_allowed_none_is_made(rigs: MakeRig) -> None:
    rig = filled(rigs(max_deletes="0%"))
    (rig.tree / "d1/f01").unlink()
    rig.run(200)
    assert deletes(rig) == 0


def test_a_directory_that_has_disappeared_deletes_nothing(rigs: MakeRig) -> None:
    rig = filled(rigs(max_deletes="100%"))
    rig.tree.rename(rig.tree.with_name("elsewhere"))
    rig.run(500)
    assert deletes(rig) == 0


def test_another_directory_in_its_place_deletes_nothing(rigs: MakeRig) -> None:
    rig = filled(rigs(max_deletes="99%"), 1)
    rig.tree.rename(rig.tree.with_name("unmounted"))
    rig.tree.mkdir()
    rig.run(500)
    assert deletes(rig) == 0
    assert "is another directory than it was" in rig.log.of("uploads_deletes_refused")[0]["error"]


def test_the_same_files_under_another_device_number_are_the_same_tree(rigs: MakeRig) -> None:
    rig = filled(rigs())
    mirror = next(iter(rig.job.modes._mirrors.values()))
    mirror._mounts.accept((1, 2))  # what a reboot may do
    (rig.tree / "d1/f01").unlink()
    rig.run(200)
    assert "d1/f01" not in rig.bucket.objects
    assert mirror._mounts.known() == mirror._mounts.identity()


def test_a_scan_with_errors_deletes_nothing(rigs: MakeRig) -> None:
    rig = filled(rigs())
    deep = rig.write("/".join(["d"] * 129) + "/a")
    (rig.tree / "d1/f01").unlink()
    rig.run(300)
    assert rig.job.finder.searches[0].tally.errors
    assert deletes(rig) == 0
    deep.unlink()
    for parent in list(deep.parents)[:130]:
        if parent == rig.tree:
            break
        parent.rmdir()
    rig.run(300)
    assert deletes(rig) == 1


def test_a_link_in_the_place_of_a_directory_hides_what_was_in_it(rigs: MakeRig) -> None:
    rig = filled(rigs(max_deletes="100%"))
    (rig.tree / "d1").rename(rig.tree.with_name("moved-away"))
    (rig.tree / "d1").symlink_to(rig.tree.with_name("moved-away"))
    rig.run(300)
    assert deletes(rig) == 0
    assert "uploads_deletes_postponed" in rig.log.names()


def test_what_is_excluded_by_now_is_left_alone(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.restart(exclude=["d1"])
    (rig.tree / "d1/f01").unlink()
    rig.run(300)
    assert deletes(rig) == 0


def test_a_file_made_again_before_its_turn_is_not_deleted(rigs: MakeRig) -> None:
    rig = filled(rigs(settle=30))
    file = rig.tree / "d1/f01"
    file.unlink()
    mirror = next(iter(rig.job.modes._mirrors.values()))
    while mirror._sweep is None or mirror._stage != mirror._delete:
        rig.clock.advance(1)
        rig.run(0)
    file.write_bytes(b"again")
    rig.run(300)
    assert deletes(rig) == 0
    assert rig.bucket.objects["d1/f01"].data == b"again"


@pytest.mark.parametrize("known", ["to the sender", "to the finder", "to the ledger"])
def test_a_file_made_and_sent_while_s3_deletes_is_sent_again(rigs: MakeRig, known: str) -> None:
    rig = filled(rigs(settle=0))
    file = rig.tree / "d1/f01"
    content = file.read_bytes()
    file.unlink()

    def act(operation: str, key: str) -> None:
        if operation != "DeleteObject" or file.exists():
            return
        file.write_bytes(content)  # the same content has the same ETag
        rig.hint("d1/f01")
        rig.clock.set_time(file.stat().st_ctime + 1)
        rig.job.finder.step(rig.clock.monotonic())
        rig.job.pool.senders[0].step(rig.clock.monotonic())
        if known != "to the sender":
            rig.job.finder.step(rig.clock.monotonic())
        if known == "to the ledger":
            rig.clock.advance(1)
            rig.job.finder.step(rig.clock.monotonic())
        assert rig.bucket.sent.count("d1/f01") == 2
        assert ("d1/f01" in rig.fresh()) == (known == "to the ledger")

    rig.bucket.during = act
    rig.run(200)
    assert rig.bucket.sent.count("d1/f01") == 3  # at first, while S3 deleted, and once more
    assert rig.bucket.objects["d1/f01"].data == content
    assert rig.ledger()["d1/f01"] == len(content)


def test_a_renamed_file_keeps_its_object_until_the_new_one_is_there(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.bucket.refuse("PutObject", Unreachable("PutObject", "", ""), times=1_000)
    (rig.tree / "d1/f01").rename(rig.tree / "d1/renamed")
    rig.run(300)
    assert "d1/f01" in rig.bucket.objects
    rig.bucket.heal()
    rig.run(1_000)
    assert "d1/f01" not in rig.bucket.objects
    assert rig.bucket.objects["d1/renamed"].data == b"1"


def test_a_failing_file_does_not_hold_up_deletions(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.bucket.refuse("PutObject", Unreachable("PutObject", "", ""), times=1_000)
    rig.write("new")
    (rig.tree / "d1/f01").unlink()
    rig.run(300)
    assert "d1/f01" not in rig.bucket.objects


def test_the_object_of_two_files_is_kept(tmp_path: Path, rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.restart(prefix="d1/", path=str(rig.tree / "d1"))
    rig.run(100)
    assert len(rig.bucket.objects) == 30
    rig.restart(prefix="", path=str(rig.tree))
    (rig.tree / "d1/f01").unlink()
    rig.run(300)
    assert "d1/f01" in rig.bucket.objects  # the other directory's ledger has it, too
    assert "d1/f01" not in rig.ledger_of(str(rig.tree))


def test_a_drain_deletes_nothing(rigs: MakeRig) -> None:
    rig = filled(rigs(max_deletes="100%"))
    (rig.tree / "d1/f01").unlink()
    rig.job.drain(rig.clock.monotonic() + 600)
    rig.run(500)
    assert rig.job.drain(rig.clock.monotonic() + 600).settled
    assert deletes(rig) == 0
    rig.job.resume()
    rig.run(300)
    assert deletes(rig) == 1


# trouble and crashes


def test_a_denied_deletion_is_said_and_tried_again(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.bucket.refuse("DeleteObject", Denied("DeleteObject", "AccessDenied"), times=3)
    rig.bucket.refuse("DeleteObject", Conflict("DeleteObject", "ConditionalRequestConflict", "", 409))
    (rig.tree / "d1/f01").unlink()
    rig.run(300)
    assert "s3:DeleteObject" in rig.log.of("upload_not_deleted")[0]["hint"]
    assert "d1/f01" not in rig.bucket.objects
    assert rig.events.counters()["upload_delete_retries"] == 4


@pytest.mark.parametrize("arrived", [True, False])
def test_a_deletion_cut_short_by_a_kill_is_finished(rigs: MakeRig, arrived: bool) -> None:
    rig = filled(rigs())
    (rig.tree / "d1/f01").unlink()

    def die(operation: str, key: str) -> None:
        if operation == "DeleteObject":
            if arrived:
                rig.bucket.objects.pop(key)
            raise KeyboardInterrupt

    rig.bucket.during = die
    with pytest.raises(KeyboardInterrupt):
        rig.run(200)
    rig.bucket.during = None
    rig.restart()
    rig.run(200)
    assert "d1/f01" not in rig.bucket.objects
    assert len(rig.bucket.objects) == len(rig.ledger()) == 29
    assert rig.job.finder._journal.deleting_places() == []


@pytest.mark.parametrize("mode", ["mirror", "copy"])
def test_a_file_made_again_after_a_kill_in_its_deletion_is_sent_again(rigs: MakeRig, mode: str) -> None:
    rig = filled(rigs())
    place = rig.job.finder.searches[0].directory.place
    journal = rig.job.finder._journal
    journal.begin_deletions(place, [Deletion("d1/f01", "d1/f01", "etag-of-1")])
    del rig.bucket.objects["d1/f01"]  # S3 had deleted it, and the file is there
    rig.restart(mode=mode)
    rig.run(200)
    assert rig.bucket.objects["d1/f01"].data == b"1"
    assert rig.job.finder._journal.deleting_places() == []


def test_where_the_bucket_may_not_be_listed_what_may_be_left_is_said_once(rigs: MakeRig) -> None:
    rig = filled(rigs())
    place = rig.job.finder.searches[0].directory.place
    rig.job.finder._journal.intend(place, [Intent("gone", "gone", 1, 1.0)])
    rig.bucket.refuse("ListObjectsV2", Denied("ListObjectsV2", "AccessDenied"), times=1_000)
    (rig.tree / "d1/f01").unlink()
    rig.run(200)
    assert [each["key"] for each in rig.log.of("upload_left_in_s3")] == ["gone"]
    assert deletes(rig) == 1


@pytest.mark.parametrize("whose", ["ours", "of another size", "older"])
def test_an_object_whose_answer_was_lost_goes_if_its_file_is_gone(rigs: MakeRig, whose: str) -> None:
    rig = filled(rigs())
    rig.write("new", b"12345")

    def die(operation: str, key: str) -> None:
        if key == "new":
            raise KeyboardInterrupt

    rig.bucket.during = die
    with pytest.raises(KeyboardInterrupt):
        rig.run(200)
    rig.bucket.during = None
    rig.bucket._put("new", b"1234" if whose == "of another size" else b"12345", {}, False)
    rig.bucket.modified = 1.0 if whose == "older" else rig.clock.time()
    (rig.tree / "new").unlink()
    rig.restart()
    rig.run(200)
    assert ("new" in rig.bucket.objects) == (whose != "ours")
    place = rig.job.finder.searches[0].directory.place
    assert rig.job.finder._journal.intents(place, 10) == []


# mounts


def test_what_was_on_a_file_system_that_is_not_mounted_is_not_gone(tmp_path: Path) -> None:
    mounted = [str(tmp_path / "disk with space"), "/elsewhere"]
    database = Database(":memory:")
    mounts = Mounts(database, 1, str(tmp_path), lambda: list(mounted))
    assert mounts.look(forget=False) == []
    mounted.pop(0)
    assert mounts.look(forget=False) == ["disk with space"]
    assert mounts.hides("disk with space/a")
    assert not mounts.hides("disk with spaces/a")
    assert mounts.look(forget=True) == []
    assert mounts.look(forget=False) == []
    assert not mounts.hides("disk with space/a")
    database.close()


def test_mount_points_are_those_of_the_kernel() -> None:
    points = mount_points()
    assert "/" in points
    assert "/proc" in points
    assert all(os.path.isabs(point) for point in points)
