"""The drain of uploads: nothing is settled before a whole scan, begun after the drain, has found nothing owed."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from uploads_kit import BUCKET, Rig

from agent.aws.errors import Denied, Refused, Unreachable
from agent.engine.job import Debt, Gap, Proofs, Refusal
from agent.uploads.manifest import ManifestWriter

MakeRig = Callable[..., Rig]


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[MakeRig]:
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        made.append(Rig(tmp_path, **options))
        return made[-1]

    yield make
    for rig in made:
        rig.drop()


def drain(rig: Rig, seconds: float = 10.0, deadline: float = 600.0) -> Proofs:
    """Ask, let so much time pass, ask again."""
    end = rig.clock.monotonic() + deadline
    assert not rig.job.drain(end).settled
    rig.run(seconds)
    return rig.job.drain(end)


def manifest(proofs: Proofs) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in Path(proofs.attachments["manifest"]).read_bytes().splitlines()]


def test_a_drain_sends_without_settle_time_and_shows_every_object(rigs: MakeRig) -> None:
    rig = rigs(settle=3600, age=0, prefix="p/")
    rig.write("a", b"one")
    rig.write("d/b", b"three")
    rig.clock.advance(1)
    rig.run(1)
    assert rig.bucket.objects == {}
    proofs = drain(rig)
    assert proofs.settled
    assert proofs.gaps == ()
    assert proofs.refused == ()
    name = Path(proofs.attachments["manifest"]).name
    read_back = {"checked": 2, "different": 0, "left": 0, "why": None}
    assert proofs.receipt == {"uploads": {"objects": 2, "bytes": 8, "manifest": name, "read_back": read_back}}
    lines = manifest(proofs)
    assert [line["path"] for line in lines] == [str(rig.tree / "a"), str(rig.tree / "d/b")]
    for line in lines:
        stored = rig.bucket.objects[line["key"]]
        assert line["bucket"] == BUCKET
        assert line["size"] == len(stored.data)
        assert line["checksum"] == f"CRC32:{stored.checksum}"
        assert line["etag"] == f"etag-of-{len(stored.data)}"
        assert line["time"].endswith("Z")


def test_what_was_sent_before_and_is_gone_from_disk_is_in_the_manifest(rigs: MakeRig) -> None:
    rig = rigs()
    file = rig.write("a")
    rig.run()
    file.unlink()
    proofs = drain(rig)
    assert proofs.settled
    assert [line["key"] for line in manifest(proofs)] == ["a"]


def test_an_empty_tree_is_settled_with_an_empty_manifest(rigs: MakeRig) -> None:
    proofs = drain(rigs())
    assert proofs.settled
    assert proofs.receipt["uploads"]["objects"] == 0
    assert manifest(proofs) == []


def test_a_file_that_no_hint_told_of_is_found_by_the_drain(rigs: MakeRig) -> None:
    rig = rigs(rescan=86_400)
    rig.run()
    rig.write("a")
    rig.run()
    assert rig.bucket.objects == {}
    assert drain(rig).settled
    assert rig.bucket.data() == {"a": b"data"}


def test_files_written_while_the_drain_goes_on_are_included(rigs: MakeRig) -> None:
    rig = rigs()
    for number in range(5):
        rig.write(f"early{number}")
    rig.bucket.during = lambda _operation, key: rig.write(f"late-{key}") if key.startswith("early") else None
    proofs = drain(rig)
    assert proofs.settled
    assert len(manifest(proofs)) == len(rig.bucket.objects) == 10


def test_what_arrives_after_it_was_settled_is_included_too(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    assert drain(rig).settled
    rig.write("b")
    rig.hint("b")
    assert not rig.job.drain(rig.clock.monotonic() + 600).settled
    rig.run()
    proofs = rig.job.drain(rig.clock.monotonic() + 600)
    assert proofs.settled
    assert [line["key"] for line in manifest(proofs)] == ["a", "b"]


def test_what_arrives_after_it_was_settled_and_can_not_be_sent_is_a_gap(rigs: MakeRig) -> None:
    rig = rigs()
    assert drain(rig).settled
    rig.bucket.refuse("PutObject", Denied("PutObject", "AccessDenied", ""), times=1_000)
    rig.write("b")
    rig.hint("b")
    rig.run(3)
    proofs = rig.job.drain(rig.clock.monotonic() + 600)
    assert not proofs.settled
    assert [gap.item for gap in proofs.gaps] == [str(rig.tree / "b")]


def test_a_clean_scan_of_before_the_drain_proves_nothing(rigs: MakeRig) -> None:
    rig = rigs(rescan=86_400)
    rig.run()
    rig.write("a")
    for _ in range(5):
        assert not rig.job.drain(rig.clock.monotonic() + 600).settled
        rig.job.drainage.step(rig.clock.monotonic())


def test_what_could_not_be_sent_is_a_gap_with_its_reason(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a", b"12345")
    rig.bucket.refuse("PutObject", Denied("PutObject", "AccessDenied", "not you"), times=1_000)
    proofs = drain(rig)
    assert not proofs.settled
    assert proofs.gaps == (Gap("upload", str(rig.tree / "a"), 5, "PutObject: AccessDenied: not you"),)
    assert rig.job.debt() == Debt(5, 1, None)
    rig.bucket.heal()
    rig.run()
    proofs = rig.job.drain(rig.clock.monotonic() + 600)
    assert proofs.settled
    assert proofs.gaps == ()
    assert rig.job.debt() == Debt(0, 0, 0.0)


def test_what_was_sent_before_the_drain_is_not_read_back(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    rig.run()
    rig.clock.advance(10)
    proofs = drain(rig)
    assert proofs.settled
    assert proofs.receipt["uploads"]["read_back"]["checked"] == 0
    assert rig.bucket.calls["HeadObject"] == 0


def test_without_permission_to_read_back_the_drain_is_proven_all_the_same(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    rig.bucket.refuse("HeadObject", Denied("HeadObject", "403"), times=1_000)
    proofs = drain(rig)
    assert proofs.settled
    assert proofs.receipt["uploads"]["read_back"]["left"] == 1
    assert "s3:GetObject" in proofs.receipt["uploads"]["read_back"]["why"]


def test_what_s3_does_not_have_as_it_was_sent_is_sent_again(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a", b"ours")
    end = rig.clock.monotonic() + 600
    assert not rig.job.drain(end).settled
    head = rig.bucket.head_object

    def head_object(key: str) -> Any:
        rig.bucket.head_object = head  # type: ignore[method-assign]
        rig.bucket._put("a", b"of another", {}, False)
        return head(key)

    rig.bucket.head_object = head_object  # type: ignore[method-assign]
    rig.run(10)
    proofs = rig.job.drain(end)
    assert proofs.settled
    assert rig.bucket.data() == {"a": b"ours"}
    assert proofs.receipt["uploads"]["read_back"]["different"] == 1
    assert rig.log.of("upload_not_as_sent")[0]["key"] == "a"


def test_reading_back_ends_before_the_deadline(rigs: MakeRig) -> None:
    rig = rigs()
    for number in range(30):
        rig.write(f"f{number}")
    proofs = drain(rig, seconds=5, deadline=15)
    assert proofs.settled
    assert proofs.receipt["uploads"]["read_back"]["left"] == 30


def test_a_drain_tries_at_once_what_waits_out_a_backoff(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    rig.bucket.refuse("PutObject", Unreachable("PutObject", "", ""), times=12)
    rig.run(300)
    assert rig.bucket.objects == {}
    rig.bucket.heal()
    assert drain(rig, seconds=8).settled


def test_a_directory_not_read_to_its_end_is_a_gap(rigs: MakeRig) -> None:
    rig = rigs()
    deep = "/".join(["d"] * 129)
    rig.write(f"{deep}/a")
    proofs = drain(rig, seconds=30)
    assert not proofs.settled
    (gap,) = proofs.gaps
    assert (gap.kind, gap.item) == ("directory", str(rig.tree / deep))
    assert rig.job.finder.searches[0].finished <= 7  # it is tried again, but not all the time


def test_before_its_scan_has_ended_a_directory_is_a_gap(rigs: MakeRig) -> None:
    rig = rigs()
    proofs = rig.job.drain(rig.clock.monotonic() + 600)
    assert proofs.gaps == (Gap("directory", str(rig.tree), 0, "the scan has not come to its end"),)


def test_a_directory_that_never_was_holds_nothing(rigs: MakeRig) -> None:
    rig = rigs()
    rig.tree.rmdir()
    assert drain(rig).settled


def test_a_directory_that_has_disappeared_is_a_gap(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    rig.run()
    rig.tree.rename(rig.tree.with_name("unmounted"))
    proofs = drain(rig)
    assert not proofs.settled
    assert proofs.gaps == (Gap("directory", str(rig.tree), 0, "No such file or directory"),)


def test_what_s3_will_never_take_is_refused_and_does_not_keep_the_drain(rigs: MakeRig) -> None:
    rig = rigs(overwrite=False, prefix="x" * 500)
    rig.bucket._put("x" * 500 + "taken", b"theirs", {}, False)
    long = "/".join(["l" * 250] * 3)
    rig.write(long)
    rig.write("taken", b"ours")
    rig.write("fine")
    proofs = drain(rig, seconds=30)
    assert proofs.settled
    refused = {item.item: item for item in proofs.refused}
    assert sorted(refused) == [str(rig.tree / long), str(rig.tree / "taken")]
    assert refused[str(rig.tree / long)] == Refusal(
        "upload", str(rig.tree / long), 1, "its key would have 1252 bytes; S3 takes 1024"
    )
    assert "another object has the key" in refused[str(rig.tree / "taken")].reason


@pytest.mark.parametrize("code", ["KeyTooLongError", "InvalidURI"])
def test_a_key_that_s3_refuses_is_refused_and_no_gap(rigs: MakeRig, code: str) -> None:
    rig = rigs()
    rig.write("odd")
    rig.bucket.refuse("PutObject", Refused("PutObject", code, "no", 400))
    proofs = drain(rig, seconds=30)
    assert proofs.settled
    assert [each.item for each in proofs.refused] == [str(rig.tree / "odd")]
    assert rig.bucket.calls["PutObject"] == 1


def test_an_incomplete_drain_has_a_manifest_of_what_there_is_before_the_deadline(rigs: MakeRig) -> None:
    rig = rigs(concurrency=1)
    rig.write("a")
    rig.run()
    rig.write("b")
    rig.bucket.refuse("PutObject", Unreachable("PutObject", "", ""), times=1_000)
    proofs = drain(rig, seconds=45, deadline=60)
    assert proofs.attachments == {}
    rig.run(10)
    proofs = rig.job.drain(rig.clock.monotonic() + 5)
    assert not proofs.settled
    assert [line["key"] for line in manifest(proofs)] == ["a"]
    assert proofs.receipt["uploads"]["objects"] == 1


def test_gaps_beyond_the_listed_ones_are_summed_up(rigs: MakeRig) -> None:
    rig = rigs()
    rig.job.finder.candidates.most_failing = 10_000
    for number in range(1_010):
        (rig.tree / f"f{number:04}").touch()
    rig.bucket.refuse("PutObject", Denied("PutObject", "AccessDenied", ""), times=10_000)
    gaps = drain(rig, seconds=1).gaps
    assert len(gaps) == 1_001
    assert gaps[-1] == Gap("upload", "10 more files", 0, "not sent yet")


def test_a_file_that_keeps_changing_is_a_gap_and_is_not_tried_all_the_time(rigs: MakeRig) -> None:
    rig = rigs()
    file = rig.write("a")
    rig.bucket.during = lambda _operation, _key: file.write_bytes(os.urandom(8)) and None  # type: ignore[func-returns-value]
    proofs = drain(rig)
    assert not proofs.settled
    assert [gap.reason for gap in proofs.gaps] == ["it keeps changing"]
    assert rig.bucket.calls["PutObject"] < 20
    assert rig.ledger() == {}


def test_after_a_cancelled_drain_files_settle_again(rigs: MakeRig) -> None:
    rig = rigs(settle=3600, rescan=5)
    rig.write("a")
    assert drain(rig).settled
    rig.job.resume()
    rig.clock.set_time(rig.write("b").stat().st_ctime)
    rig.run(60)
    assert rig.bucket.data() == {"a": b"data"}
    assert drain(rig).settled
    assert sorted(rig.bucket.objects) == ["a", "b"]


def test_a_manifest_that_cannot_be_written_is_said_and_the_objects_are_proven_all_the_same(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a")
    os.mkdir(rig.state.file("uploads-manifest.ndjson.new"))
    proofs = drain(rig)
    assert proofs.settled
    assert proofs.receipt["uploads"]["manifest"] is None
    assert "upload_manifest_not_written" in rig.log.names()


def test_a_disk_that_is_full_costs_the_manifest_and_not_the_count(rigs: MakeRig) -> None:
    rig = rigs()
    rig.write("a", b"12345")
    assert drain(rig).settled
    directories = [search.directory for search in rig.job.finder.searches]
    writer = ManifestWriter(rig.state.file("other"), directories, rig.job.drainage._ledger)
    assert writer.advance() is None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # every write to a file fails from here on
    try:
        written = writer.advance()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (written.path, written.objects, written.bytes) == (None, 1, 5)
    assert written.error.errno == errno.EFBIG
    assert not os.path.exists(rig.state.file("other"))
