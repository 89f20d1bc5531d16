"""Receipts in S3: PREFIX{auto_scaling_group|-}/{instance_id}/DRAIN_ID.REVISION.json, attachments beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from agent.aws.objects import Objects
from agent.drain.journal import DrainRecord
from agent.drain.receipt import encode

_ATTACHMENT_BYTES = 64 << 20  # bounds a manifest that is read at once: about 300,000 objects


class BucketStore:
    """Implements `agent.drain.machine.ReceiptStore`."""

    def __init__(self, objects: Objects, bucket: str, prefix: Callable[[float], str], instance_id: str) -> None:
        """`prefix` gives what keys begin with, for a moment in seconds since the epoch."""
        self._objects = objects
        self._bucket = bucket
        self._prefix = prefix
        self._instance_id = instance_id

    def put(self, record: DrainRecord, document: Mapping[str, Any], attachments: Mapping[str, str]) -> None:
        """Attachments first, so that a receipt never names what is not there. Raises AwsError, OSError."""
        base = self._base(record)
        for name, path in attachments.items():
            with open(path, "rb") as file:
                body = file.read(_ATTACHMENT_BYTES)
            self._objects.put_once(
                self._bucket, f"{base}.{name}{os.path.splitext(path)[1]}", body, "application/x-ndjson"
            )
        self._objects.put_once(self._bucket, f"{base}.json", encode(document), "application/json")

    def _base(self, record: DrainRecord) -> str:
        group = record.hook.get("group") or "-"
        return f"{self._prefix(record.started)}{group}/{self._instance_id}/{record.drain_id}.{record.revision}"
