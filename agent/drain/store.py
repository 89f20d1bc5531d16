"""Receipts in S3: PREFIX{auto_scaling_group|-}/{instance_id}/DRAIN_ID.REVISION.json, attachments beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

from agent.aws.objects import Objects
from agent.drain.journal import DrainRecord
from agent.drain.receipt import encode


class BucketStore:
    """Implements `agent.drain.machine.ReceiptStore`."""

    def __init__(
        self,
        objects: Objects,
        bucket: str,
        prefix: Callable[[float], str],
        group: Callable[[], str | None],
        instance_id: str,
    ) -> None:
        """`prefix` gives what keys begin with, for a moment (seconds since the epoch); `group` our group."""
        self._objects = objects
        self._bucket = bucket
        self._prefix = prefix
        self._group = group
        self._instance_id = instance_id

    def put(self, record: DrainRecord, document: Mapping[str, Any], attachments: Mapping[str, str]) -> None:
        """Attachments first, so that a receipt never names what is not there. Raises AwsError, OSError."""
        base = self._base(record)
        for name, path in attachments.items():
            key = f"{base}.{name}{os.path.splitext(path)[1]}"
            with open(path, "rb") as file:
                self._objects.put_once(self._bucket, key, file, "application/x-ndjson")
        self._objects.put_once(self._bucket, f"{base}.json", BytesIO(encode(document)), "application/json")

    def _base(self, record: DrainRecord) -> str:
        group = record.hook.get("group") or self._group() or "-"
        return f"{self._prefix(record.started)}{group}/{self._instance_id}/{record.drain_id}.{record.revision}"
