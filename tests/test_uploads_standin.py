"""Uploads end to end: real threads, real HTTP, an S3 that verifies signatures and checksums."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from s3_kit import LocalAws
from uploads_kit import INSTANCE, Recorder

from agent.aws.s3 import S3
from agent.config.sections.uploads import Directory, Uploads
from agent.engine.clock import SystemClock
from agent.engine.events import Events
from agent.engine.job import Proofs
from agent.engine.state import StateDirectory
from agent.standin.faults import Fault, Kind
from agent.standin.standin import Standin
from agent.uploads.job import UploadsJob

BUCKET = "shop-uploads"
SECONDS = 30.0  # the longest that anything here may take
MIB = 1 << 20


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    with Standin.start() as standin:
        yield standin


@pytest.fixture
def standin(running: Standin) -> Iterator[Standin]:
    running.s3.add_bucket(BUCKET)
    yield running
    running.reset()


class Agent:
    """The job with its threads, as the daemon runs it."""

    def __init__(self, standin: Standin, folder: Path, *, watcher: bool = False, **options: object) -> None:
        self.tree = folder / "tree"
        self.tree.mkdir(exist_ok=True)
        self.log = Recorder()
        self.clock = SystemClock()
        self.events = Events(self.log, self.clock)
        self.aws = LocalAws(standin)
        self.state = StateDirectory.open(str(folder / "state"), INSTANCE, self.clock, self.events)
        directory = Directory.model_validate({"path": str(self.tree), "bucket": BUCKET, "settle": "0s", **options})
        config = Uploads(concurrency=4, part_size=5 * MIB, directories=(directory,))
        s3 = S3(self.aws)  # type: ignore[arg-type]
        self.job = UploadsJob(config, s3, self.state, self.clock, self.events, random.Random(3), watcher=watcher)
        self.job.start()

    def drain(self) -> Proofs:
        """Ask as the drain does, until it is settled."""
        deadline = self.clock.monotonic() + SECONDS
        pause = threading.Event()
        while not (proofs := self.job.drain(deadline)).settled and self.clock.monotonic() < deadline:
            pause.wait(0.01)
        return proofs

    def stop(self, seconds: float = 5.0) -> bool:
        ended = self.job.stop(self.clock.monotonic() + seconds)
        self.state.close()
        self.aws.close()
        return ended


@pytest.fixture
def agents(standin: Standin, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    made: list[Agent] = []

    def make(**options: object) -> Agent:
        made.append(Agent(standin, tmp_path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for agent in made:
        agent.stop()
        assert "worker_failed" not in agent.log.names()


def contents(standin: Standin) -> dict[str, bytes]:
    return {
        key: b"".join(Path(segment.path).read_bytes() for segment in standin.s3.get(BUCKET, key).segments)
        for key in standin.s3.keys_after(BUCKET, "", "")
    }


def files(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_a_tree_arrives_and_is_proven(standin: Standin, agents: Callable[..., Agent], tmp_path: Path) -> None:
    (tmp_path / "tree" / "ü b").mkdir(parents=True)
    for number in range(50):
        (tmp_path / "tree" / "ü b" / f"f{number}+%#?").write_bytes(os.urandom(number * 100))
    (tmp_path / "tree" / "middle").write_bytes(os.urandom(MIB))
    (tmp_path / "tree" / "large").write_bytes(os.urandom(12 * MIB))
    agent = agents()
    proofs = agent.drain()
    assert proofs.settled
    assert contents(standin) == files(agent.tree)
    lines = [orjson.loads(line) for line in Path(proofs.attachments["manifest"]).read_bytes().splitlines()]
    assert {line["key"]: line["checksum"] for line in lines} == {
        key: f"CRC32:{standin.s3.get(BUCKET, key).checksum.value}"  # type: ignore[union-attr]
        for key in standin.s3.keys_after(BUCKET, "", "")
    }
    assert standin.journal.count("s3", "UploadPart", "ok") == 3
    assert agent.stop()


def test_faults_of_all_kinds_cost_time_and_nothing_else(standin: Standin, agents: Callable[..., Agent]) -> None:
    for kind in (Kind.THROTTLE, Kind.ERROR, Kind.RESET, Kind.LOST):
        standin.faults.add(Fault(kind, operation="PutObject", skip=5, times=1))
    standin.faults.add(Fault(Kind.LOST, operation="CreateMultipartUpload", times=1))
    standin.faults.add(Fault(Kind.RESET, operation="UploadPart", skip=1, times=1))
    standin.faults.add(Fault(Kind.ERROR_IN_200, operation="CompleteMultipartUpload", times=1))
    agent = agents()
    for number in range(30):
        (agent.tree / f"f{number}").write_bytes(os.urandom(1_000))
    (agent.tree / "large").write_bytes(os.urandom(11 * MIB))
    proofs = agent.drain()
    assert proofs.settled
    assert contents(standin) == files(agent.tree)
    assert standin.uploads.open_uploads(BUCKET) == []


def test_a_file_replaced_while_its_request_is_held_up_is_sent_again(
    standin: Standin, agents: Callable[..., Agent]
) -> None:
    standin.faults.add(Fault(Kind.SLOW, operation="PutObject", seconds=SECONDS, times=1))
    agent = agents()
    (agent.tree / "a").write_bytes(b"old")
    agent.job.drain(agent.clock.monotonic() + SECONDS)
    assert agent.aws.asked.wait(SECONDS)
    (agent.tree / "b").write_bytes(b"newer")
    (agent.tree / "b").rename(agent.tree / "a")
    standin.faults.clear()
    assert agent.drain().settled
    assert contents(standin) == {"a": b"newer"}


def test_a_new_file_is_sent_on_the_file_system_s_hint(standin: Standin, agents: Callable[..., Agent]) -> None:
    agent = agents(watcher=True, rescan="1h")
    (agent.tree / "first").write_bytes(b"1")
    assert standin.journal.wait_for(lambda: "first" in standin.s3.keys_after(BUCKET, "", ""), SECONDS)
    (agent.tree / "d" / "e").mkdir(parents=True)
    (agent.tree / "d" / "e" / "second").write_bytes(b"2")
    assert standin.journal.wait_for(lambda: "d/e/second" in standin.s3.keys_after(BUCKET, "", ""), SECONDS)


def test_a_restart_sends_nothing_twice(standin: Standin, agents: Callable[..., Agent]) -> None:
    agent = agents()
    for number in range(40):
        (agent.tree / f"f{number}").write_bytes(b"x")
    assert agent.drain().settled
    agent.stop()
    puts = standin.journal.count("s3", "PutObject")
    again = agents()
    assert again.drain().settled
    assert standin.journal.count("s3", "PutObject") == puts == 40


def test_a_stop_ends_in_time_though_s3_hangs(standin: Standin, agents: Callable[..., Agent]) -> None:
    standin.faults.add(Fault(Kind.HANG, seconds=SECONDS))
    agent = agents()
    (agent.tree / "a").write_bytes(b"x")
    agent.job.drain(agent.clock.monotonic() + SECONDS)
    assert agent.aws.asked.wait(SECONDS)
    began = agent.clock.monotonic()
    assert not agent.job.stop(agent.clock.monotonic() + 0.2)
    assert agent.clock.monotonic() - began < 5.0
    agent.aws.close()  # as the daemon does: calls under way end
    standin.faults.clear()
