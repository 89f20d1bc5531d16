"""The receipt as a stranger would check it: read twice, here and in S3, its digest computed anew."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from agent.demo.written import Generation, Written


@dataclass(frozen=True)
class Evidence:
    """What the drain left behind."""

    here: bytes | None = None  # the receipt on the instance
    stored: bytes | None = None  # the same in S3
    answer: str | None = None  # what the lifecycle hook was told
    seconds: float | None = None  # from the notice to that, as Auto Scaling measured
    before_ran: bool = False  # whether the command `before` has left its trace
    exit_code: int | None = None  # of the agent, after SIGTERM


def newest(folder: str) -> tuple[str, bytes] | None:
    """Name and content of the newest receipt in a folder. Raises OSError."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".json")]
    except FileNotFoundError:
        return None
    if not names:
        return None
    name = max(names, key=lambda name: os.stat(os.path.join(folder, name)).st_mtime_ns)
    with open(os.path.join(folder, name), "rb") as file:
        return name, file.read()


def document(content: bytes | None) -> dict[str, Any]:
    """The receipt, or {} if there is none that can be read."""
    try:
        found = orjson.loads(content or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def logs_of(evidence: Evidence) -> dict[tuple[int, int], int]:
    """Acknowledged bytes of each log file, by device and inode."""
    return {(row["device"], row["inode"]): row["acknowledged"] for row in document(evidence.here).get("logs", ())}


def check_receipt(evidence: Evidence, written: Written) -> Iterator[str]:
    """What speaks against the drain."""
    receipt = document(evidence.here)
    if receipt:
        yield from _check_itself(receipt)
        yield from _check_logs(logs_of(evidence), written.generations)
        yield from _check_uploads(receipt.get("uploads", {}), written)
        yield from _check_copy(evidence)
    else:
        yield "there is no receipt on the instance"
    if evidence.answer != "CONTINUE":
        yield f"the lifecycle hook was answered with {evidence.answer or 'nothing'}, not CONTINUE"
    if not evidence.before_ran:
        yield "the drain's command stop-shop did not run"
    if evidence.exit_code != 0:
        yield f"the agent ended with exit code {evidence.exit_code}, not 0"


def _check_itself(receipt: Mapping[str, Any]) -> Iterator[str]:
    if receipt.get("outcome") != "proven":
        yield f"the receipt says {receipt.get('outcome')}"
    for gap in receipt.get("gaps", ()):
        yield f"the receipt has a gap: {gap['kind']} {gap['item']}, {gap['bytes']:,} bytes: {gap['reason']}"
    for refusal in receipt.get("refused", ()):
        yield f"AWS refused: {refusal['kind']} {refusal['item']}, {refusal['count']:,}: {refusal['reason']}"
    plain = {key: value for key, value in receipt.items() if key != "digest"}
    if hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest() != receipt.get("digest"):
        yield "the receipt's digest is not that of its content"


def _check_logs(acknowledged: Mapping[tuple[int, int], int], generations: list[Generation]) -> Iterator[str]:
    for generation in generations:
        found = acknowledged.get((generation.device, generation.inode))
        if found is None:
            yield f"{generation.name}: not in the receipt"
        elif found != generation.size:
            yield f"{generation.name}: {generation.size:,} bytes written, {found:,} acknowledged by the receipt"


def _check_uploads(said: Mapping[str, Any], written: Written) -> Iterator[str]:
    objects, size = len(written.files), written.file_bytes
    if (said.get("objects"), said.get("bytes")) != (objects, size):
        yield (
            f"the receipt says {said.get('objects')} objects of {said.get('bytes')} bytes, written were {objects} "
            f"of {size}"
        )


def _check_copy(evidence: Evidence) -> Iterator[str]:
    if evidence.stored is None:
        yield "the receipt is not in S3"
    elif evidence.stored != evidence.here:
        yield "the receipt in S3 differs from the one on the instance"
