"""The real agent, and a tree of awkward names that is written, renamed and deleted while the agent is killed.

In the end the bucket holds the tree byte for byte and nothing else. `OUTLIVE_FILES` makes it larger (`make soak`).
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_agent import RealAgent, eventually

from agent.standin.faults import Fault, Kind
from agent.standin.standin import Standin

FILES = int(os.environ.get("OUTLIVE_FILES", "2000"))
SEED = int(os.environ.get("OUTLIVE_SEED", "11"))
PATIENCE = 60.0 + FILES / 20
BUCKET = "shop-uploads"
MIB = 1 << 20
PIECES = [
    *("ü", "日本", "e\u0301", "🙂", " ", "  x", "x ", "+", "%", "%2F", "%C3", "&", "#", "?", "=", ";", ":", "@", "$"),
    *(
        "\n",
        "\t",
        "\r",
        "\x01",
        "\x7f",
        "\\",
        "'",
        '"',
        "<",
        ">",
        "|",
        "^",
        "`",
        "~",
        "*",
        "[a]",
        "{b}",
        "!",
        "(",
        ",",
    ),
    *(".", "..", "...", "-rf", "--", "‛", "‛FF", "\u202e", "\u2028", "index.html", "a" * 180, "ß" * 90, "CON"),
]
RAW = [b"\xff", b"\xfe\xff", b"caf\xe9", b"\xc3\x28", b"\xed\xa0\x80"]  # no UTF-8


def key_of(relative: bytes) -> str:
    """The documented rule, once more: what is no UTF-8 as U+201B and two digits, U+201B itself doubled."""
    text = relative.decode("utf-8", "surrogateescape").replace("‛", "‛‛")
    return "".join(f"‛{ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else char for char in text)


class Writer(threading.Thread):
    """An application: makes files in pieces, overwrites, replaces by renaming, renames and deletes some."""

    def __init__(self, tree: Path, seed: int) -> None:
        super().__init__(name="writer")
        self.failure: BaseException | None = None
        self._tree = os.fsencode(tree)
        self._random = random.Random(seed)
        self._pause = threading.Event()
        self._folders = [b""]
        self._files: list[bytes] = []

    def run(self) -> None:
        try:
            for number in range(FILES):
                self._make(number)
                if number % 5 == 4:
                    self._change()
                if number % 40 == 0:
                    self._pause.wait(0.02)
        except BaseException as error:
            self.failure = error
            raise

    def _new_name(self, number: int) -> bytes:
        pieces = [os.fsencode(self._random.choice(PIECES)) for _ in range(self._random.randint(1, 3))]
        if self._random.random() < 0.1:
            pieces.append(self._random.choice(RAW))
        name = b"".join(pieces)[:200] + b"%d" % number
        return name if self._random.random() < 0.5 else b"%d" % number + name

    def _folder(self, number: int) -> bytes:
        if self._random.random() < 0.03:
            parent = self._random.choice(self._folders)
            folder = parent + self._new_name(number)[:60] + b"/"
            if len(key_of(folder)) < 400 and folder.count(b"/") < 8:
                os.mkdir(self._tree + b"/" + folder)
                self._folders.append(folder)
        return self._random.choice(self._folders)

    def _make(self, number: int) -> None:
        relative = self._folder(number) + self._new_name(number)
        size = 11 * MIB if number in (FILES // 3, FILES // 2) else self._random.choice([0, 1, 100, 5_000, 70_000])
        self._write(relative, size, pieces=self._random.choice([1, 1, 1, 3]))
        self._files.append(relative)

    def _write(self, relative: bytes, size: int, pieces: int = 1) -> None:
        with open(self._tree + b"/" + relative, "wb", buffering=0) as file:
            for piece in range(pieces):
                file.write(self._random.randbytes(size // pieces + piece))
                if pieces > 1:
                    self._pause.wait(0.003)

    def _change(self) -> None:
        relative = self._random.choice(self._files)
        path = self._tree + b"/" + relative
        action = self._random.randrange(4)
        if action == 0:
            self._write(relative, self._random.randrange(3_000))
        elif action == 1:
            self._write(relative + b".tmp", self._random.randrange(3_000), pieces=2)
            os.replace(path + b".tmp", path)
        elif action == 2:
            os.rename(path, path + b"~moved")
            self._files[self._files.index(relative)] = relative + b"~moved"
        else:
            os.unlink(path)
            self._files.remove(relative)


@pytest.fixture
def standin() -> Iterator[Standin]:
    with Standin.start() as running:
        running.s3.add_bucket(BUCKET)
        yield running


@pytest.fixture
def agent(tmp_path: Path, standin: Standin) -> Iterator[RealAgent]:
    tree = tmp_path / "tree"
    tree.mkdir()
    text = (
        f"uploads: {{part_size: 5MiB, directories: [{{path: {tree}, bucket: {BUCKET}, mode: mirror, "
        'max_deletes: 100%, settle: 100ms, rescan: 1s, exclude: ["*.tmp"]}]}\n'
    )
    made = RealAgent(tmp_path, standin, text)
    yield made
    made.close()


def wanted(tree: Path) -> dict[str, bytes]:
    """Regular files as objects; links count for nothing."""
    root = os.fsencode(tree)
    found: dict[str, bytes] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                with open(path, "rb") as file:
                    found[key_of(os.path.relpath(path, root))] = file.read()
    return found


def stored(standin: Standin) -> dict[str, bytes]:
    return {each.key: standin.s3.read(BUCKET, each.key) for each in standin.s3.objects(BUCKET)}


def test_a_busy_tree_of_awkward_names_arrives_whole_though_the_agent_is_killed(
    agent: RealAgent, standin: Standin, tmp_path: Path
) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"not ours")
    (tree / "link to a file").symlink_to(outside / "secret")
    (tree / "link to a directory").symlink_to(outside)
    (tree / "loop").symlink_to(".")
    standin.faults.add(Fault(Kind.RESET, operation="UploadPart", times=1))
    standin.faults.add(Fault(Kind.LOST, operation="PutObject", skip=50, times=3))
    writer = Writer(tree, SEED)
    agent.running()
    writer.start()
    moments = sorted(random.Random(SEED).sample(range(FILES // 20, FILES * 3 // 4), 4))
    for moment in moments:
        eventually(lambda least=moment: len(standin.s3.objects(BUCKET)) >= least or not writer.is_alive(), PATIENCE)
        agent.kill()
        agent.start()
    writer.join(PATIENCE)
    assert writer.failure is None
    too_long = tree / "/".join(["ß" * 100] * 6)
    too_long.parent.mkdir(parents=True)
    too_long.touch()
    expected = wanted(tree)
    del expected[key_of(os.fsencode(too_long.relative_to(tree)))]
    eventually(lambda: {each.key for each in standin.s3.objects(BUCKET)} == set(expected), PATIENCE)
    eventually(lambda: stored(standin) == expected, PATIENCE)
    eventually(lambda: not standin.uploads.open_uploads(BUCKET), PATIENCE)
    status = eventually(lambda: (found := agent.status()) and found["uploads"]["pending"] == 0 and found, PATIENCE)
    assert status["uploads"]["failing"] == []
    (directory,) = status["uploads"]["directories"]
    assert (directory["refused"], directory["skipped"]) == (1, {"link": 3})
    answer = agent.call("verify-uploads")
    assert "S3 will not take it: 1" in answer.stdout
    assert answer.stdout.count("    ") == 1  # the refused one is the only difference
    assert agent.terminate() == 0
    assert agent.events("worker_failed") == []
    assert len(expected) > FILES // 2
