"""The receipt: what left this instance, proven item by item; written here and to S3 before the hook is answered."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson

from agent.drain.journal import DrainRecord
from agent.engine.job import Gap, Proofs, Refusal

SCHEMA = 1
FOLDER = "receipts"
_KEPT = 20  # receipts kept on the instance
_EMPTY: dict[str, Any] = {
    "logs": [],
    "uploads": {"objects": 0, "bytes": 0, "manifest": None},
    "snapshots": [],
    "samples": {"sent": 0, "left": 0},
}


def compose(
    record: DrainRecord, instance_id: str, proofs: Sequence[Proofs], extra_gaps: Sequence[Gap]
) -> dict[str, Any]:
    """The receipt as a document, `digest` last: SHA-256 over the canonical JSON of everything else."""
    parts: dict[str, Any] = dict(_EMPTY)
    for proof in proofs:
        parts.update(proof.receipt)
    gaps = [*(gap for proof in proofs for gap in proof.gaps), *extra_gaps]
    refused: list[Refusal] = [item for proof in proofs for item in proof.refused]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "drain_id": record.drain_id,
        "revision": record.revision,
        "instance_id": instance_id,
        "outcome": record.outcome,
        "reason": record.reason,
        "note": record.note,
        "started": rfc3339(record.started),
        "finished": rfc3339(record.finished or record.started),
        **parts,
        "commands": [
            {"name": run.name, "exit_code": run.exit_code, "seconds": round(run.seconds, 3), "note": run.note}
            for run in record.commands.values()
        ],
        "hook": dict(record.hook),
        "gaps": [asdict(gap) for gap in gaps],
        "refused": [asdict(item) for item in refused],
    }
    return {**document, "digest": digest(document)}


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of a receipt without its digest: keys sorted, no spaces, UTF-8."""
    plain = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def encode(document: Mapping[str, Any]) -> bytes:
    """As written to disk and to S3."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write(folder: str, document: Mapping[str, Any]) -> str:
    """Write the receipt durably into `folder`; its path. Raises OSError."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, f"{document['drain_id']}.{document['revision']}.json")
    partial = path + ".partial"
    with open(partial, "wb") as file:
        file.write(encode(document))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync(folder)
    _prune(folder)
    return path


def latest(folder: str) -> dict[str, Any] | None:
    """The newest receipt in `folder`, or None. Raises OSError, ValueError."""
    try:
        paths = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".json")]
    except FileNotFoundError:
        return None
    if not paths:
        return None
    with open(max(paths, key=_age), "rb") as file:
        document: dict[str, Any] = orjson.loads(file.read())
    return document


def rfc3339(epoch: float) -> str:
    """A moment in UTC, to the millisecond."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _age(path: str) -> tuple[int, int]:
    """Order of receipts: when written, then revision."""
    return os.stat(path).st_mtime_ns, int(path.rsplit(".", 2)[1])


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prune(folder: str) -> None:
    paths = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".json")]
    for path in sorted(paths, key=_age)[:-_KEPT]:
        os.unlink(path)
