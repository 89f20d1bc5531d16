"""Small documents in S3, written once: receipts and their manifests, by plain boto3."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from io import BufferedReader, BytesIO
from typing import Any

from agent.aws.cold import call
from agent.aws.errors import Conflict
from agent.aws.session import Aws


class Objects:
    """A thin client; safe to use from any thread."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def put_once(self, bucket: str, key: str, body: BytesIO | BufferedReader, content_type: str) -> None:
        """Store an object that is not there yet; an equal one that is there is success. Raises AwsError, OSError.

        `body` is read from its present position, twice. S3 verifies the SHA-256 on the way in. Source: PutObject,
        If-None-Match and x-amz-checksum-sha256.
        """
        start = body.tell()
        checksum = b64encode(hashlib.file_digest(body, "sha256").digest()).decode()
        body.seek(start)
        try:
            call(
                "PutObject",
                self._client().put_object,
                Bucket=bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                ChecksumSHA256=checksum,
                IfNoneMatch="*",
            )
        except Conflict as error:
            if error.status != 412 or self._checksum(bucket, key) != checksum:
                raise

    def _checksum(self, bucket: str, key: str) -> str | None:
        found = call("HeadObject", self._client().head_object, Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        checksum: str | None = found.get("ChecksumSHA256")
        return checksum

    def _client(self) -> Any:
        return self._aws.client("s3")
