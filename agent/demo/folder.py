"""The demo's folder: where everything is, and the configuration that the agent runs with."""

from __future__ import annotations

import json
import os
import shlex
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from agent.demo.errors import DemoError

UPLOAD_BUCKET, RECEIPT_BUCKET = "shop-uploads", "shop-receipts"
UPLOAD_PREFIX = "web/"
METRICS_INTERVAL = 2  # seconds
_SOCKET_PATH_BYTES = 107  # of a Unix socket's path (unix(7))

_CONFIGURATION = """\
# The configuration of `outlive demo`: the intervals are shorter than one would choose for a fleet.
agent:
  state_dir: {state}
  run_dir: {run}
logs:
  flush_interval: 1s
  files:
    - {{path: {access}, group: /shop/access, retention: 30d}}
    - {{path: {app}, group: /shop/app, retention: 30d}}
metrics:
  interval: {interval}s
  flush_interval: {interval}s
  os: {{}}
  statsd: {{address: "127.0.0.1:{statsd}"}}
uploads:
  part_size: 5MiB
  directories:
    - {{path: {uploads}, bucket: {upload_bucket}, prefix: {prefix}, settle: 1s}}
drain:
  timeout: 20s
  before:
    - {{name: stop-shop, run: [touch, {stopped}]}}
  receipt: {{bucket: {receipt_bucket}}}
"""


class FolderUnfit(DemoError):
    """The place for temporary files can't be used."""


@dataclass(frozen=True)
class Folder:
    """Paths in the demo's folder."""

    root: str

    @classmethod
    def make(cls, parent: str | None = None) -> Folder:
        """A new one for this user alone, in `parent` or where temporary files go. Raises OSError, FolderUnfit."""
        folder = cls(tempfile.mkdtemp(prefix="outlive-demo-", dir=parent))
        if len(f"{folder.run}/control.sock".encode()) > _SOCKET_PATH_BYTES:
            os.rmdir(folder.root)
            raise FolderUnfit(f"{folder.root} is too long for the path of a Unix socket: set TMPDIR=/tmp")
        for path in (folder.standins, folder.logs, folder.uploads):
            os.makedirs(path)
        return folder

    @property
    def configuration(self) -> str:
        return f"{self.root}/outlive.yaml"

    @property
    def environment(self) -> str:
        return f"{self.root}/aws.sh"

    @property
    def state(self) -> str:
        return f"{self.root}/state"

    @property
    def receipts(self) -> str:
        return f"{self.state}/receipts"

    @property
    def run(self) -> str:
        return f"{self.root}/run"

    @property
    def standins(self) -> str:
        return f"{self.root}/standins"

    @property
    def logs(self) -> str:
        return f"{self.root}/shop/log"

    @property
    def uploads(self) -> str:
        return f"{self.root}/shop/uploads"

    @property
    def stopped(self) -> str:
        """What the drain's `before` command leaves behind."""
        return f"{self.root}/shop/stopped"

    def log_of(self, child: str) -> str:
        return f"{self.root}/{child}.log"

    def write_configuration(self, statsd: int) -> None:
        """`statsd` is the port of StatsD. Raises OSError."""
        text = _CONFIGURATION.format(
            state=_quoted(self.state),
            run=_quoted(self.run),
            access=_quoted(f"{self.logs}/access.log"),
            app=_quoted(f"{self.logs}/app.log"),
            uploads=_quoted(self.uploads),
            stopped=_quoted(self.stopped),
            interval=METRICS_INTERVAL,
            statsd=statsd,
            upload_bucket=UPLOAD_BUCKET,
            receipt_bucket=RECEIPT_BUCKET,
            prefix=UPLOAD_PREFIX,
        )
        _write(self.configuration, text)

    def write_environment(self, variables: Mapping[str, str]) -> None:
        """For a shell (`. aws.sh`): leads AWS tools to the stand-ins. Raises OSError."""
        _write(
            self.environment, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        )


def free_port() -> int:
    """A UDP port of 127.0.0.1 that nobody uses at this moment. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _quoted(text: str) -> str:
    """Text as a YAML scalar: JSON's strings are that too."""
    return json.dumps(text, ensure_ascii=False)
