"""`verify-uploads`: every kind of difference between ledger, tree and bucket is found, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_agent import RealAgent, eventually
from uploads_kit import Rig

from agent.aws.errors import Denied
from agent.standin.faults import Fault
from agent.standin.faults import Kind as Kind_
from agent.standin.standin import Standin
from agent.uploads.verify import Findings, Kind, Verifier

BUCKET = "shop-uploads"
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


def verify(rig: Rig) -> Findings:
    rig.bucket.calls.clear()
    directory = rig.job.finder.searches[0].directory
    return Verifier(directory, rig.state.database("uploads.db").read, rig.clock).run()


def filled(rig: Rig) -> Rig:
    for name in ("a", "d/b", "d/ü +%&#?\n", ".hidden"):
        rig.write(name, name)
    rig.write(os.fsdecode(b"raw\xff"))
    rig.run()
    assert verify(rig).same
    rig.clock.advance(1_000)
    return rig


def named(found: Findings) -> dict[str, list[str]]:
    return {kind.value: [each.path for each in differences] for kind, differences in found.named.items()}


@pytest.mark.parametrize("prefix", ["", "host/", "{date:%Y}/{file_stem}-"])
def test_what_was_sent_and_did_not_change_is_the_same_by_listing_alone(rigs: MakeRig, prefix: str) -> None:
    rig = filled(rigs(prefix=prefix))
    found = verify(rig)
    assert found.same
    assert (found.objects, found.others) == (5, 0)
    assert found.bytes == sum(len(each.data) for each in rig.bucket.objects.values())
    assert rig.bucket.calls == {"ListObjectsV2": 1}


def test_each_kind_of_difference_is_found_and_named(rigs: MakeRig) -> None:
    rig = filled(rigs())
    del rig.bucket.objects["a"]
    rig.bucket._put("d/b", b"of another", {}, False)
    rig.bucket.objects["d/b"].etag = "another"
    rig.write(".hidden", "changed")
    rig.write("new")
    rig.write("taken")
    rig.write("/".join(["l" * 250] * 5))
    rig.bucket._put("taken", b"theirs", {}, False)
    found = verify(rig)
    assert named(found) == {
        "missing": ["a"],
        "different": ["d/b"],
        "changed": [".hidden"],
        "not_sent": ["new", "taken"] if found.named[Kind.NOT_SENT][0].path == "new" else ["taken", "new"],
        "refused": ["/".join(["l" * 250] * 5)],
        "foreign": ["taken"],
    }
    assert "10 bytes, not 3" in found.named[Kind.DIFFERENT][0].detail
    assert found.others == 1


def test_content_of_the_same_size_is_told_by_its_checksum(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.bucket._put("a", b"b", {}, False)
    rig.bucket.objects["a"].etag = "another"
    found = verify(rig)
    assert named(found) == {"different": ["a"]}
    assert found.named[Kind.DIFFERENT][0].detail.startswith("CRC32 ")


def test_an_object_that_was_copied_onto_itself_is_the_same(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.bucket.objects["a"].etag = "after-encryption-with-another-key"
    assert verify(rig).same
    assert rig.bucket.calls["HeadObject"] == 1


def test_a_place_that_can_not_be_read_is_a_difference(rigs: MakeRig) -> None:
    rig = filled(rigs())
    deep = "/".join(["d"] * 129)
    rig.write(f"{deep}/a")
    assert named(verify(rig)) == {"unreadable": [deep]}


def test_a_directory_that_has_disappeared_is_a_difference(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.tree.rename(rig.tree.with_name("unmounted"))
    assert named(verify(rig)) == {"unreadable": [""]}


def test_in_copy_mode_what_was_deleted_here_is_the_same(rigs: MakeRig) -> None:
    rig = filled(rigs())
    (rig.tree / "a").unlink()
    assert verify(rig).same


def test_what_a_mode_has_still_to_delete_is_a_difference(rigs: MakeRig) -> None:
    rig = filled(rigs())
    (rig.tree / "a").unlink()
    rig.restart(mode="mirror")
    assert named(verify(rig)) == {"deleted_here": ["a"]}
    rig.restart(mode="move")
    assert sorted(named(verify(rig))["still_here"]) == [".hidden", "d/b", "d/ü +%&#?\n", "raw‛FF"]


def test_where_the_bucket_may_not_be_listed_the_permission_is_named(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.bucket.refuse("ListObjectsV2", Denied("ListObjectsV2", "AccessDenied"))
    rig.write("new")
    found = verify(rig)
    assert "s3:ListBucket" in found.named[Kind.UNCHECKED][0].detail
    assert [each.path for each in found.named[Kind.NOT_SENT]] == ["new"]


def test_where_objects_may_not_be_asked_for_the_permission_is_named(rigs: MakeRig) -> None:
    rig = filled(rigs())
    rig.bucket.objects["a"].etag = "another"
    rig.bucket.refuse("HeadObject", Denied("HeadObject", "403"))
    found = verify(rig)
    assert named(found) == {"unchecked": ["a"]}
    assert "s3:GetObject" in found.named[Kind.UNCHECKED][0].detail


def test_what_the_agent_sends_while_we_look_is_no_difference(rigs: MakeRig) -> None:
    rig = filled(rigs())
    bucket = rig.bucket
    listed = list(bucket.list_objects(""))

    def list_objects(_prefix: str) -> Any:
        rig.write("a", "newer")
        rig.write("new")
        rig.hint("a")
        rig.hint("new")
        rig.run(100)
        return iter(listed)

    bucket.list_objects = list_objects  # type: ignore[method-assign]
    assert verify(rig).same


# the command


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RealAgent]:
    with Standin.start() as standin:
        standin.s3.add_bucket(BUCKET)
        (tmp_path / "tree").mkdir()
        text = (
            f"uploads: {{directories: [{{path: {tmp_path}/tree, bucket: {BUCKET}, "
            'prefix: "{instance_id}/", settle: 0s}]}\n'
        )
        agent = RealAgent(tmp_path, standin, text)
        agent.standin = standin  # type: ignore[attr-defined]
        yield agent
        agent.close()


def test_the_command_verifies_beside_the_running_agent_and_after_it(agent: RealAgent, tmp_path: Path) -> None:
    assert agent.call("verify-uploads").returncode == 1  # no ledger yet
    for number in range(20):
        (tmp_path / "tree" / f"f {number}+%\n").write_bytes(os.urandom(100))
    agent.running()
    store = agent.standin.s3  # type: ignore[attr-defined]
    eventually(lambda: len(store.objects(BUCKET)) == 20)
    eventually(lambda: (agent.status() or {})["uploads"]["pending"] == 0)
    same = agent.call("verify-uploads")
    assert (same.returncode, same.stderr) == (0, "")
    assert "the same (20 objects, 2.0 KB; 0 others there)" in same.stdout
    assert agent.terminate() == 0
    assert agent.call("verify-uploads").returncode == 0
    store.delete(BUCKET, store.objects(BUCKET)[0].key)
    answer = agent.call("verify-uploads", "--json")
    assert answer.returncode == 1
    document = json.loads(answer.stdout)
    assert document["same"] is False
    assert document["directories"][0]["counts"] == {"missing": 1}
    assert sorted(os.listdir(tmp_path / "state")).count("uploads.db") == 1


def test_the_command_says_what_it_can_not_check(agent: RealAgent, tmp_path: Path) -> None:
    agent.running()
    (tmp_path / "tree" / "a").write_bytes(b"x")
    store = agent.standin.s3  # type: ignore[attr-defined]
    eventually(lambda: len(store.objects(BUCKET)) == 1)
    eventually(lambda: (agent.status() or {})["uploads"]["pending"] == 0)
    agent.standin.faults.add(Fault(Kind_.ERROR, operation="ListObjectsV2", code="AccessDenied", status=403))  # type: ignore[attr-defined]
    answer = agent.call("verify-uploads")
    assert answer.returncode == 1
    assert "s3:ListBucket" in answer.stdout


def test_a_configuration_without_directories_is_bad_usage(agent: RealAgent) -> None:
    agent.file.write_text("uploads: {directories: []}\n")
    assert agent.call("verify-uploads").returncode == 2
    assert agent.call("verify-uploads", "--nonsense").returncode == 2
