"""CloudWatch Logs: PutLogEvents on the fast path, groups and streams by plain boto3.

Source: docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from agent.aws.cold import call
from agent.aws.errors import AnswerLost, Conflict, from_answer
from agent.aws.session import Aws

_HEADERS = {"X-Amz-Target": "Logs_20140328.PutLogEvents", "Content-Type": "application/x-amz-json-1.1"}
_GZIP_LEVEL = 1  # of isal: a tenth of zlib's price for about the same size
_GZIP_WBITS = 31  # zlib's way to ask for a gzip header


@dataclass(frozen=True, slots=True)
class Accepted:
    """AWS took the call. Events it rejected one by one are counted, by index rules of rejectedLogEventsInfo."""

    too_old: int  # or already past the group's retention
    too_new: int
    digest: bytes  # SHA-256 of the payload as sent


class Logs:
    """A thin client; safe to use from any thread."""

    def __init__(self, aws: Aws, *, gzip: bool) -> None:
        self._aws = aws
        self._gzip = gzip

    def put_log_events(self, body: bytes, events: int) -> Accepted:
        """Send the JSON of one PutLogEvents with so many events. Raises AwsError."""
        headers = _HEADERS
        if self._gzip:
            from isal import isal_zlib

            headers = {**_HEADERS, "Content-Encoding": "gzip"}
            body = isal_zlib.compress(body, _GZIP_LEVEL, _GZIP_WBITS)
        digest = hashlib.sha256(body)
        wire = self._aws.wire("logs")
        answer = wire.send("PutLogEvents", "POST", "/", headers, body, digest=digest.hexdigest())
        document = _json(answer.body)
        if answer.status != 200:
            raise from_answer("PutLogEvents", answer.status, *_error(document or {}, answer.headers))
        if document is None:
            raise AnswerLost("PutLogEvents", "NotJson", "status 200 without a JSON object: that was not AWS", 200)
        return _accepted(document.get("rejectedLogEventsInfo") or {}, events, digest.digest())

    def create_group(self, name: str, log_class: str | None, kms_key: str | None, tags: Mapping[str, str]) -> bool:
        """Make a log group; False if it was there. Raises AwsError."""
        optional = {"logGroupClass": log_class, "kmsKeyId": kms_key, "tags": dict(tags)}
        arguments = {key: value for key, value in optional.items() if value}
        return self._made("CreateLogGroup", self._client().create_log_group, logGroupName=name, **arguments)

    def create_stream(self, group: str, stream: str) -> bool:
        """Make a log stream; False if it was there. Raises AwsError."""
        create = self._client().create_log_stream
        return self._made("CreateLogStream", create, logGroupName=group, logStreamName=stream)

    def describe_group(self, name: str) -> dict[str, Any] | None:
        """AWS's description of the log group, or None. Raises AwsError."""
        client = self._client()
        answer = call("DescribeLogGroups", client.describe_log_groups, logGroupNamePrefix=name, limit=50)
        found = [group for group in answer.get("logGroups", []) if group.get("logGroupName") == name]
        return found[0] if found else None

    def put_retention(self, group: str, days: int) -> None:
        """Keep the group's events for so many days. Raises AwsError."""
        put = self._client().put_retention_policy
        call("PutRetentionPolicy", put, logGroupName=group, retentionInDays=days)

    def _client(self) -> Any:
        return self._aws.client("logs")

    def _made(self, operation: str, function: Any, **arguments: Any) -> bool:
        try:
            call(operation, function, **arguments)
        except Conflict:
            return False
        return True


def _json(body: bytes) -> dict[str, Any] | None:
    """The JSON object of an answer; None if it is none."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _error(document: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[str, str]:
    """Code and message of a JSON error. The code may have a namespace before it and an address after it.

    Source: smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html, operation error serialization.
    """
    code = str(document.get("__type") or headers.get("x-amzn-errortype") or document.get("code") or "")
    message = document.get("message") or document.get("Message") or ""
    return code.partition(":")[0].rpartition("#")[2], str(message)


def _accepted(rejected: Mapping[str, Any], events: int, digest: bytes) -> Accepted:
    """The end indices are exclusive, the start index is inclusive."""
    too_old = max(int(rejected.get("tooOldLogEventEndIndex") or 0), int(rejected.get("expiredLogEventEndIndex") or 0))
    new_from = rejected.get("tooNewLogEventStartIndex")
    too_new = events - int(new_from) if new_from is not None else 0
    return Accepted(too_old, max(0, too_new), digest)
