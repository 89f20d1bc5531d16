"""The parts of `outlive verify-uploads`: a ledger that is only read, directories, buckets."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.aws.session import Aws
    from agent.config.schema import Config
    from agent.uploads.directory import Directory
    from agent.uploads.verify import Findings

_PATIENCE = 10.0  # seconds for instance metadata to answer
_BUSY_MS = 5_000  # bounds a wait for the agent's own write


class Unverifiable(Exception):
    """Nothing can be compared; the message says what to do."""


def verify_uploads(config: Config) -> Iterator[dict[str, Any]]:
    """What came of each directory: its part of `verify-uploads --json`. Raises Unverifiable."""
    from agent.aws.s3 import S3
    from agent.engine.clock import SystemClock
    from agent.engine.database import DatabaseError
    from agent.uploads.directory import Directory
    from agent.uploads.ledger import FILE
    from agent.uploads.verify import Verifier

    resolved, aws = _resolve(config)
    assert resolved.uploads is not None
    s3 = S3(aws.as_role(resolved.uploads.role_arn, resolved.aws.external_id))
    with closing(aws), closing(_Ledger(os.path.join(resolved.agent.state_dir, FILE))) as ledger:
        try:
            for given in resolved.uploads.directories:
                directory = Directory(given, s3, ledger)
                yield _document(directory, Verifier(directory, ledger.read, SystemClock()).run())
        except DatabaseError as error:
            raise Unverifiable(str(error)) from error


def _resolve(config: Config) -> tuple[Config, Aws]:
    """The configuration as the agent fills it in, and the way into AWS."""
    from agent.aws.errors import AwsError
    from agent.aws.metadata import Metadata, MetadataError
    from agent.aws.session import Aws
    from agent.config.errors import ConfigError
    from agent.config.placeholders import needed, resolve
    from agent.engine.clock import SystemClock
    from agent.engine.events import Events, make_logger
    from agent.surroundings import Interrupted, SurroundingsError, find_place, gather

    clock = SystemClock()
    metadata = Metadata(clock)
    try:
        place = find_place(config, metadata, Events(make_logger("warning"), clock), _Patience())
        aws = Aws(place.region, clock).as_role(config.aws.role_arn, config.aws.external_id)
        return resolve(config, gather(config, place, needed(config), metadata, aws)), aws
    except ConfigError as error:
        raise Unverifiable("; ".join(str(problem) for problem in error.problems)) from error
    except Interrupted as error:
        raise Unverifiable("instance metadata does not answer; set agent.instance_id and aws.region") from error
    except (SurroundingsError, AwsError, MetadataError) as error:
        raise Unverifiable(str(error)) from error


class _Patience:
    """Waits, and says when it was long enough."""

    def __init__(self) -> None:
        self._until = time.monotonic() + _PATIENCE

    def __call__(self, seconds: float) -> bool:
        time.sleep(min(seconds, 1.0))
        return time.monotonic() > self._until


class _Ledger:
    """The ledger of an agent that may be running: read in short queries, never written."""

    def __init__(self, path: str) -> None:
        self._path = path
        if not _exists(path):
            raise Unverifiable(f"{path}: no ledger: no agent with this agent.state_dir has sent anything yet")
        try:
            self._connection = sqlite3.connect(_uri(path), uri=True, isolation_level=None)
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            self._connection.execute("PRAGMA query_only = ON")
            self.read("SELECT 1 FROM files LIMIT 1", ())
        except sqlite3.Error as error:
            raise Unverifiable(f"{path}: {error}. {_advice(path)}") from error

    def read(self, sql: str, parameters: tuple[object, ...]) -> list[tuple[object, ...]]:
        """The rows of one query. Raises DatabaseError."""
        from agent.engine.database import translate

        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def place(self, path: str, bucket: str, prefix: str) -> int:
        """The number of a directory; one that does not exist where nothing of it was ever sent."""
        sql = "SELECT id FROM places WHERE path = ? AND bucket = ? AND prefix = ?"
        found = self.read(sql, (path, bucket, prefix))
        return int(str(found[0][0])) if found else -1

    def close(self) -> None:
        self._connection.close()


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unverifiable(f"{path}: {error.strerror}. {_advice(path)}") from error
    return True


def _uri(path: str) -> str:
    """Writable, for SQLite must make its shared memory where no agent runs; `query_only` lets nothing through."""
    from urllib.parse import quote

    return f"file:{quote(path)}?mode=rw"


def _advice(path: str) -> str:
    """Who may read the ledger."""
    import pwd

    try:
        user = pwd.getpwuid(os.stat(os.path.dirname(path)).st_uid).pw_name
    except (OSError, KeyError):
        user = "outlive"
    return f"Run it as the agent's user: sudo -u {user} outlive verify-uploads"


def _document(directory: Directory, found: Findings) -> dict[str, Any]:
    return {
        "path": directory.path,
        "bucket": directory.bucket.name,
        "prefix": directory.prefix,
        "mode": directory.mode,
        "same": found.same,
        "objects": found.objects,
        "bytes": found.bytes,
        "others": found.others,
        "counts": {kind.value: count for kind, count in found.counts.items()},
        "differences": [
            {"kind": kind.value, "path": each.path, "key": each.key, "detail": each.detail}
            for kind, named in found.named.items()
            for each in named
        ],
    }
