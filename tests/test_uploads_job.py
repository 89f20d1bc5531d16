"""Uploads as a whole: what arrives, what is sent again, what is never sent, what survives."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uploads_kit import BUCKET, Rig

from agent.aws.checksums import encode
from agent.aws.errors import AnswerLost, Denied, Refused, Throttled, Unreachable
from agent.aws.s3 import OpenUpload

MakeRig = Callable[..., Rig]
LARGE = os.urandom(700_000)  # more than is read at once


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[MakeRig]:
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        made.append(Rig(tmp_path, **options))
        return made[-1]

    yield make
    for rig in made:
        rig.drop()


def once(action: Callable[[], object]) -> Callable[[str, str], None]:
    """Something that happens in the middle of the first request's body."""
    left = [action]

    def during(_operation: str, _key: str) -> None:
        if left:
            left.pop()()

    return during


# what arrives


def test_files_arrive_byte_for_byte_and_enter_the_ledger(rigs: MakeRig) -> None:
    rig = rigs(prefix="host/")
    rig.write("a/b.txt", b"hello")
    rig.write("empty", b"")
    rig.write("large", LARGE)
    rig.run()
    assert rig.bucket.data() == {"host/a/b.txt": b"hello", "host/empty": b"", "host/large": LARGE}
    assert rig.ledger() == {"a/b.txt": 5, "empty": 0, "large": len(LARGE)}
    assert rig.uploads()["pending"] == 0
    assert rig.events.counters()["uploads_sent"] == 3
    assert rig.events.counters()["upload_bytes"] == 5 + len(LARGE)


def test_a_tree_of_2000_files_scanned_again_makes_no_second_request(rigs: MakeRig) -> None:
    rig = rigs(rescan=60)
    for folder in range(20):
        (rig.tree / f"d{folder}").mkdir()
        for number in range(100):
            (rig.tree / f"d{folder}" / f"f{number}").touch()
    rig.run()
    assert rig.bucket.calls == {"PutObject": 2_000}
    rig.run(1_000)
    assert rig.job.finder.searches[0].finished >= 2
    assert rig.bucket.calls == {"PutObject": 2_000}


def test_objects_get_the_properties_that_are_configured(rigs: MakeRig) -> None:
    rig = rigs(
        prefix="{date:%Y}/",
        tags={"team": "a b+c", "file": "{file_name}"},
        metadata={"origin": "{parent}"},
        cache_control="max-age=60",
        content_type={"*.bin": "x/y"},
        storage_class="STANDARD_IA",
        kms_key="alias/shop",
    )
    rig.clock.set_time(1_800_000_000.0)
    rig.write("img/a.PNG")
    rig.write("img/b.bin")
    rig.write("img/c.tar.gz")
    rig.run()
    kinds = {key: each.headers["Content-Type"] for key, each in rig.bucket.objects.items()}
    assert kinds == {
        "2027/img/a.PNG": "image/png",
        "2027/img/b.bin": "x/y",
        "2027/img/c.tar.gz": "application/gzip",
    }
    headers = dict(rig.bucket.objects["2027/img/a.PNG"].headers)
    assert headers == {
        "Content-Type": "image/png",
        "Cache-Control": "max-age=60",
        "x-amz-meta-origin": "img",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "alias/shop",
        "x-amz-tagging": "team=a%20b%2Bc&file=a.PNG",
    }


def test_the_key_of_a_dated_prefix_is_remembered_as_it_was(rigs: MakeRig) -> None:
    rig = rigs(prefix="{date:%Y-%m-%d}/")
    rig.write("a")
    rig.run()
    (key,) = rig.bucket.objects
    rig.clock.advance(3 * 86_400)
    (place,) = (search.directory.place for search in rig.job.finder.searches)
    ((entry,),) = list(rig.job.drainage._ledger.objects(place))
    assert entry.key == key != rig.job.finder.searches[0].directory.key("a", rig.clock.time())


def test_only_what_is_included_and_not_excluded_is_sent(rigs: MakeRig) -> None:
    rig = rigs(include=["**/*.jpg", "docs/**"], exclude=["*.part.jpg", ".*", "docs/drafts"])
    for name in ("a.jpg", "x/b.jpg", "x/c.png", "x/d.part.jpg", ".git/e.jpg", "docs/f", "docs/g/h", "docs/drafts/i"):
        rig.write(name)
    rig.run()
    assert sorted(rig.bucket.objects) == ["a.jpg", "docs/f", "docs/g/h", "x/b.jpg"]


def test_awkward_names_become_keys_of_their_own(rigs: MakeRig) -> None:
    rig = rigs(prefix="p/")
    names = ["ünï", "a b", "+%&#?", "new\nline", "..dots", "...", "q\\w", "‛", "tab\t", "e\u0301", "\u00e9"]
    for name in names:
        rig.write(name)
    raw = os.path.join(os.fsencode(rig.tree), b"bad\xff\xfename")
    with open(raw, "wb") as file:
        file.write(b"raw")
    rig.run()
    assert sorted(rig.bucket.objects) == sorted(
        [f"p/{name}" for name in names if name != "‛"] + ["p/‛‛", "p/bad‛FF‛FEname"]
    )
    assert rig.bucket.objects["p/bad‛FF‛FEname"].data == b"raw"
    rig.restart()
    rig.run()
    assert rig.bucket.calls["PutObject"] == len(names) + 1


# settling


def test_a_file_is_sent_when_it_has_been_quiet_for_so_long(rigs: MakeRig) -> None:
    rig = rigs(settle=2, age=0)
    file = rig.write("a")
    rig.clock.set_time(file.stat().st_ctime)
    rig.run(1.9)
    assert rig.bucket.objects == {}
    assert rig.uploads()["pending"] == 1
    rig.run(0.3)
    assert rig.bucket.data() == {"a": b"data"}


def test_a_file_that_changes_before_it_has_settled_waits_anew(rigs: MakeRig) -> None:
    rig = rigs(settle=2, age=0)
    file = rig.write("a")
    rig.clock.set_time(file.stat().st_ctime)
    rig.run(1.5)
    rig.write("a", b"more data")
    rig.clock.set_time(file.stat().st_ctime)
    rig.run(1.5)
    assert rig.bucket.objects == {}
    rig.run(2.0)
    assert rig.bucket.data() == {"a": b"more data"}
    assert rig.bucket.calls["PutObject"] == 1


def test_a_file_that_never_settles_is_said(rigs: MakeRig) -> None:
    rig = rigs(settle=12, age=0)
    file = rig.write("a")
    rig.clock.set_time(file.stat().st_ctime)
    for _ in range(70):
        rig.run(10.0)
        rig.write("a", os.urandom(4))
        rig.clock.set_time(file.stat().st_ctime)
    assert rig.bucket.objects == {}
    assert rig.log.of("upload_never_quiet")[0]["path"] == str(file)


# changes


@pytest.mark.parametrize("content", [b"other data", b"DATA"], ids=["another size", "the same size"])
def test_a_changed_file_is_sent_again(rigs: MakeRig, content: bytes) -> None:
    rig = rigs()
    file = rig.write("a", b"data")
    os.utime(file, ns=(10**18, 10**18))
    rig.run()
    file.write_bytes(content)
    os.utime(file, ns=(10**17, 10**17))  # older than before, as a restored file's
    rig.run(400)
    assert rig.bucket.data() == {"a": content}
    assert rig.bucket.calls["PutObject"] == 2


def test_a_hint_finds_a_change_before_the_next_scan(rigs: MakeRig) -> None:
    rig = rigs(rescan=3600)
    rig.run()
    rig.write("new/deep/a")
    rig.hint("new")
    rig.run()
    assert rig.bucket.data() == {"new/deep/a": b"data"}
    rig.write("b")
    rig.hint("b")
    rig.hint("new/deep/gone")
    rig.run()
    assert sorted(rig.bucket.objects) == ["b", "new/deep/a"]


def test_a_hint_to_a_file_that_waits_lets_it_wait_anew(rigs: MakeRig) -> None:
    rig = rigs(settle=2, age=0)
    file = rig.write("a")
    rig.clock.set_time(file.stat().st_ctime)
    rig.run(1.5)
    rig.write("a", b"more data")
    rig.clock.set_time(file.stat().st_ctime)
    rig.hint("a")
    rig.run(3.0)
    assert rig.bucket.data() == {"a": b"more data"}
    assert "uploads_changed_meanwhile" not in rig.events.counters()  # it was not opened too early


def test_a_change_right_after_a_file_was_sent_is_not_forgotten(rigs: MakeRig) -> None:
    rig = rigs(rescan=3600, concurrency=1)
    rig.write("a", b"old")
    now = rig.clock.monotonic()
    rig.job.finder.step(now)
    rig.job.pool.senders[0].step(now)
    assert rig.bucket.data() == {"a": b"old"}
    rig.write("a", b"new!")
    rig.hint("a")
    rig.run()
    assert rig.bucket.data() == {"a": b"new!"}
    assert rig.ledger() == {"a": 4}


def test_hints_to_excluded_places_are_ignored(rigs: MakeRig) -> None:
    rig = rigs(rescan=3600, exclude=[".*", "*.tmp"])
    rig.run()
    for name in (".git/x", "a.tmp", ".hidden"):
        rig.write(name)
        rig.hint(name)
    rig.hint(".git")
    rig.run()
    assert rig.bucket.objects == {}


@pytest.mark.parametrize("size", [1_000, 700_000], ids=["small", "large"])
@pytest.mark.parametrize("change", ["replace", "append", "truncate", "overwrite"])
def test_a_file_changed_while_it_is_sent_is_sent_again_and_never_recorded_mixed(
    rigs: MakeRig, size: int, change: str
) -> None:
    rig = rigs()
    old, new = b"o" * size, b"n" * size
    file = rig.write("a", old)

    def act() -> None:
        if change == "replace":
            rig.write("b.tmp", new).rename(file)
        elif change == "append":
            with file.open("ab") as opened:
                opened.write(new)
        elif change == "truncate":
            os.truncate(file, size // 3)
        else:
            with file.open("r+b") as opened:
                opened.write(new)

    rig.bucket.during = once(act)
    rig.run()
    final = file.read_bytes()
    assert rig.bucket.data() == {"a": final}
    assert rig.bucket.calls["PutObject"] == 2
    assert rig.ledger() == {"a": len(final)}
    assert rig.bucket.objects["a"].checksum == encode(zlib.crc32(final).to_bytes(4, "big"))


def test_a_change_while_the_file_is_sent_leaves_nothing_in_the_ledger_until_it_is_sent_again(rigs: MakeRig) -> None:
    rig = rigs(settle=30)
    file = rig.write("a", b"old")

    def act() -> None:
        file.write_bytes(b"new!")
        rig.clock.set_time(file.stat().st_ctime)

    rig.bucket.during = once(act)
    rig.clock.set_time(file.stat().st_ctime + 30)
    rig.run(1)
    assert rig.bucket.data() == {"a": b"old"}
    assert rig.ledger() == {}
    rig.run(60)
    assert rig.ledger() == {"a": 4}


def test_a_file_deleted_while_it_is_sent_is_in_the_ledger_as_it_was(rigs: MakeRig) -> None:
    rig = rigs()
    file = rig.write("a", b"short life")
    rig.bucket.during = once(file.unlink)
    rig.run()
    assert rig.bucket.data() == {"a": b"short life"}
    assert rig.ledger() == {"a": 10}
    assert rig.uploads()["pending"] == 0


def test_a_file_gone_before_it_is_sent_is_forgotten(rigs: MakeRig) -> None:
    rig = rigs(settle=60, age=1)
    file = rig.write("a")
    rig.run(5)
    assert rig.uploads()["pending"] == 1
    file.unlink()
    rig.run(120)
    assert rig.uploads()["pending"] == 0
    assert rig.bucket.calls["PutObject"] == 0


# what is never sent


def test_links_and_special_files_are_skipped_and_counted(rigs: MakeRig, tmp_path: Path) -> None:
    rig = rigs()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "shadow").write_text("secret")
    rig.write("a")
    (rig.tree / "link").symlink_to(tmp_path / "secret")
    (rig.tree / "folder").symlink_to(tmp_path / "elsewhere")
    (rig.tree / "loop").symlink_to(".")
    os.mkfifo(rig.tree / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(rig.tree / "sock"))
        rig.run()
    assert rig.bucket.data() == {"a": b"data"}
    assert rig.uploads()["directories"][0]["skipped"] == {"link": 3, "special": 2}
    assert rig.uploads()["pending"] == 0


def test_a_file_swapped_for_a_link_or_fifo_after_the_scan_is_not_sent(rigs: MakeRig, tmp_path: Path) -> None:
    rig = rigs(settle=60, age=1)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("secret")
    link, pipe, inner = rig.write("link"), rig.write("pipe"), rig.write("folder/file")
    rig.run(5)
    assert rig.uploads()["pending"] == 3
    for path in (link, pipe, inner):
        path.unlink()
    inner.parent.rmdir()
    link.symlink_to(tmp_path / "outside" / "file")
    inner.parent.symlink_to(tmp_path / "outside")
    os.mkfifo(pipe)
    rig.run(120)
    assert rig.bucket.calls["PutObject"] == 0
    assert rig.uploads()["pending"] == 0


def test_links_inside_the_tree_are_followed_where_that_is_configured(rigs: MakeRig, tmp_path: Path) -> None:
    rig = rigs(follow_symlinks=True)
    (tmp_path / "outside").write_text("secret")
    rig.write("real/a", b"a")
    (rig.tree / "current").symlink_to("real")
    (rig.tree / "one").symlink_to("real/../real/a")
    (rig.tree / "out").symlink_to("../outside")
    (rig.tree / "absolute").symlink_to(rig.tree / "real" / "a")
    (rig.tree / "real" / "up").symlink_to("..")
    rig.run()
    assert rig.bucket.data() == {"real/a": b"a", "current/a": b"a", "one": b"a"}
    assert rig.uploads()["directories"][0]["skipped"] == {"link": 4}  # `up` by two ways


def test_a_key_that_is_too_long_is_refused_without_a_request_and_named_as_refused(rigs: MakeRig) -> None:
    rig = rigs(prefix="p" * 24 + "/")
    folder = "d" * 200
    fits = "/".join([folder] * 4) + "/" + "f" * (1000 - 1 - 4 * 201)
    rig.write(fits)
    rig.write(fits + "x")
    rig.write("a")
    rig.run()
    assert sorted(len(key) for key in rig.bucket.objects) == [26, 1024]
    assert rig.uploads()["directories"][0]["refused"] == 1
    assert rig.uploads()["pending"] == 0


def test_with_overwrite_off_the_first_writer_wins_and_the_refusal_survives_a_restart(rigs: MakeRig) -> None:
    rig = rigs(overwrite=False)
    rig.s3.bucket(BUCKET)._put("a", b"theirs", {}, False)
    rig.s3.bucket(BUCKET)._put("b", b"data", {}, False)
    rig.write("a", b"ours")
    rig.write("b", b"data")
    rig.run()
    assert rig.bucket.data() == {"a": b"theirs", "b": b"data"}
    assert rig.ledger() == {"b": 4}
    assert rig.log.of("upload_refused")[0]["path"].endswith("/a")
    calls = rig.bucket.calls["PutObject"]
    rig.restart()
    rig.run(400)
    assert rig.bucket.calls["PutObject"] == calls
    assert rig.uploads()["directories"][0]["refused"] == 1


# failures


def test_the_failure_of_one_file_is_named_and_blocks_no_other(rigs: MakeRig) -> None:
    rig = rigs(concurrency=1)
    for name in ("a", "b", "c"):
        rig.write(name)
    rig.bucket.refuse("PutObject", Refused("PutObject", "InvalidTag", "no"))
    rig.run(0.2)
    assert len(rig.bucket.objects) == 2
    (failing,) = rig.uploads()["failing"]
    assert failing["path"] not in rig.bucket.objects
    assert failing["error"] == "PutObject: InvalidTag: no"
    assert rig.uploads()["pending"] == 1
    rig.run(10)
    assert len(rig.bucket.objects) == 3
    assert rig.uploads()["failing"] == []
    assert rig.log.names().count("upload_failed") == rig.log.names().count("upload_recovered") == 1


def test_a_file_of_several_names_fails_only_where_everything_can_be_read(rigs: MakeRig) -> None:
    rig = rigs()
    os.link(rig.write("a"), rig.tree / "b")
    rig.job.pool.transfer._privileged = True
    rig.run()
    assert rig.bucket.objects == {}
    assert "several hard links" in rig.uploads()["failing"][0]["error"]
    rig.job.pool.transfer._privileged = False
    rig.run(400)
    assert sorted(rig.bucket.objects) == ["a", "b"]


def test_in_an_outage_few_requests_are_made_and_after_it_everything_arrives(rigs: MakeRig) -> None:
    rig = rigs()
    for number in range(100):
        rig.write(f"f{number:03}")
    rig.bucket.refuse("PutObject", Unreachable("PutObject", "ConnectionRefusedError", "no route"), times=10_000)
    rig.run(600)
    assert rig.bucket.calls["PutObject"] < 60
    assert rig.uploads()["pending"] == 100
    assert len(rig.log.of("uploads_held_up")) < 6  # said again after 1, 2, 4 ... minutes
    rig.bucket.heal()
    rig.run(600)
    assert len(rig.bucket.objects) == 100
    assert len(rig.log.of("uploads_resumed")) == 1


def test_throttling_slows_the_pool_down_and_success_speeds_it_up(rigs: MakeRig) -> None:
    rig = rigs()
    for number in range(50):
        rig.write(f"f{number:02}")
    rig.bucket.refuse("PutObject", Throttled("PutObject", "SlowDown", "", 503), times=5)
    rig.run(120)
    assert len(rig.bucket.objects) == 50
    gate = rig.job.pool.queue._turns[0].gate
    assert gate._limit == 8.0


def test_a_missing_directory_is_said_and_found_again_when_it_is_there(rigs: MakeRig) -> None:
    rig = rigs()
    rig.tree.rmdir()
    rig.run()
    assert rig.log.of("uploads_directory_unreadable")[0]["directory"] == str(rig.tree)
    assert rig.uploads()["failing"] == [{"path": str(rig.tree), "error": "No such file or directory"}]
    rig.tree.mkdir()
    rig.write("a")
    rig.run(30)
    assert rig.bucket.data() == {"a": b"data"}
    assert rig.uploads()["failing"] == []
    assert "uploads_directory_readable" in rig.log.names()


def test_a_place_that_cannot_be_read_is_named(rigs: MakeRig) -> None:
    rig = rigs()
    deep = "/".join(["d"] * 130)
    rig.write(f"{deep}/a")
    rig.write("b")
    rig.run()
    assert rig.bucket.data() == {"b": b"data"}
    (failing,) = rig.uploads()["failing"]
    assert failing["path"] == str(rig.tree / "/".join(["d"] * 129))
    assert "128 directories deep" in failing["error"]


def test_more_failing_files_than_are_remembered_are_found_again(rigs: MakeRig) -> None:
    rig = rigs()
    rig.job.finder.candidates.most_failing = 5
    for number in range(20):
        rig.write(f"f{number:02}")
    rig.bucket.refuse("PutObject", Refused("PutObject", "InvalidTag", "no"), times=10_000)
    rig.run(1)
    assert len(rig.uploads()["failing"]) == 5
    assert rig.uploads()["pending"] == 20
    assert rig.job.debt().items == 20
    rig.bucket.heal()
    rig.run(400)
    assert len(rig.bucket.objects) == 20
    assert rig.uploads()["pending"] == 0


def test_no_more_files_are_held_than_the_bound_and_all_arrive(rigs: MakeRig) -> None:
    rig = rigs()
    rig.job.finder.candidates.most = 10
    for folder in range(20):
        for number in range(5):
            rig.write(f"d{folder}/f{number}")
    rig.bucket.refuse("PutObject", Denied("PutObject", "AccessDenied", ""), times=10_000)
    rig.run(5)
    assert len(rig.job.finder.candidates) >= 10
    rig.bucket.heal()
    rig.run(100)
    assert len(rig.bucket.objects) == 100


def test_no_more_is_sent_than_the_bandwidth_allows(rigs: MakeRig) -> None:
    rig = rigs(max_bandwidth=100_000)
    for number in range(20):
        rig.write(f"f{number:02}", b"x" * 50_000)
    rig.run(5.0)
    assert 9 <= len(rig.bucket.objects) <= 11
    rig.run(6.0)
    assert len(rig.bucket.objects) == 20


def test_a_ledger_that_can_not_be_written_is_said_and_written_later_without_another_request(rigs: MakeRig) -> None:
    rig = rigs(rescan=3600)
    rig.run(1)
    connection = rig.state.database("uploads.db")._connection
    connection.execute("PRAGMA query_only=1")
    rig.write("a")
    rig.hint("a")
    rig.run(30)
    assert rig.bucket.data() == {"a": b"data"}
    assert rig.uploads()["pending"] == 1
    assert rig.log.names().count("upload_ledger_not_written") == 1
    connection.execute("PRAGMA query_only=0")
    rig.run(30)
    assert rig.uploads()["pending"] == 0
    assert rig.ledger() == {"a": 4}
    assert rig.bucket.calls["PutObject"] == 1


# scans


@pytest.mark.parametrize(("watched", "scans"), [(True, 6), (False, 51)], ids=["watched", "not watched"])
def test_whole_scans_become_rarer_while_nothing_changes_and_events_can_be_trusted(
    rigs: MakeRig, watched: bool, scans: int
) -> None:
    rig = rigs(rescan=60)
    rig.job.finder.searches[0].hints.watched = watched
    rig.run(3_001)  # at once, then after 2, 4, 8, 15, 15 minutes; or every minute
    assert rig.job.finder.searches[0].finished == scans


def test_lost_events_lead_to_a_whole_scan_but_not_all_the_time(rigs: MakeRig) -> None:
    rig = rigs(rescan=3600)
    rig.run(10)
    rig.write("a")
    hints = rig.job.finder.searches[0].hints
    for _ in range(100):
        hints.everywhere()
        rig.run(0.1)
    assert rig.bucket.data() == {"a": b"data"}
    assert rig.job.finder.searches[0].finished <= 12


# restarts


def test_a_killed_agent_sends_nothing_twice_and_forgets_nothing(rigs: MakeRig) -> None:
    rig = rigs()
    for number in range(30):
        rig.write(f"d/f{number:02}")
    rig.run()
    for number in range(30, 40):
        rig.write(f"d/f{number:02}")
    rig.restart()
    rig.run()
    assert rig.bucket.calls["PutObject"] == 40
    assert len(rig.bucket.objects) == 40


def test_a_kill_in_the_middle_loses_only_what_is_sent_again(rigs: MakeRig) -> None:
    rig = rigs(concurrency=2)
    for number in range(30):
        rig.write(f"f{number:02}")
    for _ in range(8):
        rig.job.finder.step(rig.clock.monotonic())
        for sender in rig.job.pool.senders:
            sender.step(rig.clock.monotonic())
    assert 0 < len(rig.bucket.objects) < 30
    rig.restart()
    rig.run()
    assert len(rig.ledger()) == len(rig.bucket.objects) == 30


def test_another_bucket_or_prefix_gets_everything(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    rig.run()
    rig.restart(prefix="new/")
    rig.run()
    assert sorted(rig.bucket.objects) == ["a", "new/a"]


# parts


def test_a_large_file_goes_in_parts(rigs: MakeRig) -> None:
    rig = rigs(part_size=200_000)
    rig.write("a", LARGE)
    rig.run()
    assert rig.bucket.data() == {"a": LARGE}
    assert rig.bucket.calls == {"CreateMultipartUpload": 1, "UploadPart": 4, "CompleteMultipartUpload": 1}
    assert rig.ledger() == {"a": len(LARGE)}
    assert rig.job.finder._journal.all() == []


def test_a_failing_part_is_sent_again_and_no_other(rigs: MakeRig) -> None:
    rig = rigs(part_size=150_000)
    rig.write("a", LARGE)
    rig.bucket.refuse("UploadPart", Unreachable("UploadPart", "TimeoutError", ""))
    rig.run(60)
    assert rig.bucket.data() == {"a": LARGE}
    assert rig.bucket.calls == {"CreateMultipartUpload": 1, "UploadPart": 6, "CompleteMultipartUpload": 1}


def test_after_a_kill_a_large_file_goes_on_where_it_was(rigs: MakeRig) -> None:
    rig = rigs(part_size=150_000, concurrency=1)
    rig.write("a", LARGE)
    rig.job.finder.step(rig.clock.monotonic())
    for _ in range(4):
        rig.job.pool.senders[0].step(rig.clock.monotonic())
    assert rig.bucket.calls == {"CreateMultipartUpload": 1, "UploadPart": 3}
    rig.restart()
    rig.run()
    assert rig.bucket.data() == {"a": LARGE}
    assert rig.bucket.calls == {"CreateMultipartUpload": 1, "UploadPart": 5, "CompleteMultipartUpload": 1}


@pytest.mark.parametrize("change", ["content", "terms"])
def test_parts_of_another_file_or_under_other_terms_are_aborted(rigs: MakeRig, change: str) -> None:
    rig = rigs(part_size=150_000, concurrency=1)
    rig.write("a", LARGE)
    rig.job.finder.step(rig.clock.monotonic())
    for _ in range(3):
        rig.job.pool.senders[0].step(rig.clock.monotonic())
    final = LARGE[::-1] if change == "content" else LARGE
    if change == "content":
        rig.write("a", final)
    rig.restart(**({"storage_class": "GLACIER_IR"} if change == "terms" else {}))
    rig.run()
    assert rig.bucket.data() == {"a": final}
    assert rig.bucket.calls["AbortMultipartUpload"] == 1
    assert rig.bucket.calls["UploadPart"] == 2 + 5
    assert rig.bucket.uploads == {}


def test_a_large_file_changed_while_it_is_sent_starts_anew_and_leaves_no_parts(rigs: MakeRig) -> None:
    rig = rigs(part_size=150_000)
    file = rig.write("a", LARGE)
    final = LARGE + b"more"

    def act() -> None:
        file.write_bytes(final)

    rig.bucket.during = once(act)
    rig.run()
    assert rig.bucket.data() == {"a": final}
    assert rig.bucket.uploads == {}
    assert rig.bucket.calls["CompleteMultipartUpload"] == 1


def test_a_large_file_that_became_small_leaves_no_parts_to_the_next_scan(rigs: MakeRig) -> None:
    rig = rigs(part_size=150_000, rescan=3600)
    file = rig.write("a", LARGE)
    rig.bucket.during = once(lambda: os.truncate(file, 10))
    rig.run()
    assert rig.bucket.data() == {"a": LARGE[:10]}
    assert rig.bucket.uploads == {}


def test_an_upload_that_s3_has_dropped_is_begun_anew(rigs: MakeRig) -> None:
    rig = rigs(part_size=150_000, concurrency=1)
    rig.write("a", LARGE)
    rig.job.finder.step(rig.clock.monotonic())
    for _ in range(3):
        rig.job.pool.senders[0].step(rig.clock.monotonic())
    rig.bucket.uploads.clear()
    rig.run(30)
    assert rig.bucket.data() == {"a": LARGE}
    assert rig.bucket.calls["CreateMultipartUpload"] == 2


def test_an_upload_whose_id_was_never_learnt_is_looked_for_and_aborted(rigs: MakeRig) -> None:
    rig = rigs(part_size=150_000)
    rig.write("a", LARGE)
    now = rig.clock.time()
    rig.bucket.unknown = [
        OpenUpload("a", "ours", now),
        OpenUpload("a", "of yesterday", now - 86_400),
        OpenUpload("a2", "of another file", now),
    ]
    rig.bucket.refuse("CreateMultipartUpload", AnswerLost("CreateMultipartUpload"))
    rig.run(30)
    assert rig.bucket.data() == {"a": LARGE}
    assert [each.upload_id for each in rig.bucket.unknown] == ["of yesterday", "of another file"]


def test_where_uploads_may_not_be_listed_the_file_arrives_and_what_may_be_left_is_said(rigs: MakeRig) -> None:
    rig = rigs(part_size=150_000)
    rig.write("a", LARGE)
    rig.bucket.refuse("CreateMultipartUpload", AnswerLost("CreateMultipartUpload"))
    rig.bucket.refuse("ListMultipartUploads", Denied("ListMultipartUploads", "AccessDenied"))
    rig.run(30)
    assert rig.bucket.data() == {"a": LARGE}
    assert rig.log.of("upload_in_parts_left")[0]["key"] == "a"


def test_an_upload_that_was_refused_at_once_is_not_looked_for(rigs: MakeRig) -> None:
    rig = rigs(part_size=150_000)
    rig.write("a", LARGE)
    rig.bucket.refuse("CreateMultipartUpload", Throttled("CreateMultipartUpload", "SlowDown"))
    rig.run(30)
    assert rig.bucket.data() == {"a": LARGE}
    assert rig.bucket.calls["ListMultipartUploads"] == 0


def test_an_upload_in_parts_of_a_file_that_is_gone_is_aborted(rigs: MakeRig) -> None:
    rig = rigs(part_size=150_000, concurrency=1)
    file = rig.write("a", LARGE)
    rig.job.finder.step(rig.clock.monotonic())
    for _ in range(3):
        rig.job.pool.senders[0].step(rig.clock.monotonic())
    file.unlink()
    rig.restart()
    rig.run()
    assert rig.bucket.uploads == {}
    assert rig.job.finder._journal.all() == []


def test_large_files_leave_senders_to_small_ones(rigs: MakeRig) -> None:
    rig = rigs(part_size=1_000, concurrency=4)
    for number in range(4):
        rig.write(f"large{number}", os.urandom(50_000))
    for number in range(20):
        rig.write(f"small{number:02}", b"x")
    rig.run()
    assert [key[:5] for key in rig.bucket.sent] == ["small"] * 20 + ["large"] * 4
