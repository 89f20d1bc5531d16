"""CloudWatch metrics: PutMetricData on the fast path.

Source: docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html; the protocol is awsJson 1.0
with the error codes of the older Query protocol in a header (smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html).
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import orjson

from agent.aws.errors import AnswerLost, from_answer
from agent.aws.wire import Wire

_OPERATION = "PutMetricData"
_HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": f"GraniteServiceVersion20100801.{_OPERATION}",
}
_GZIP_BYTES = 10_240  # a larger body is compressed, as AWS's SDKs do by default
_GZIP_LEVEL = 6


class CloudWatch:
    """A thin client; safe to use from any thread."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def put_metric_data(self, body: bytes, *, timeout: float = 20.0) -> None:
        """Send the JSON of one PutMetricData; CloudWatch has accepted all of it when this returns.

        `timeout` bounds each read and write, in seconds. Raises AwsError; Refused for a body with a datum that
        CloudWatch will never take.
        """
        headers = _HEADERS
        if len(body) > _GZIP_BYTES:
            headers = {**_HEADERS, "Content-Encoding": "gzip"}
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        answer = self._wire.send(_OPERATION, "POST", "/", headers, body, timeout=timeout)
        document = _json(answer.body)
        if answer.status != 200:
            raise from_answer(_OPERATION, answer.status, *_error(document or {}, answer.headers))
        if document is None:
            raise AnswerLost(_OPERATION, "NotJson", "status 200 without a JSON object: that was not AWS", 200)


def _json(body: bytes) -> dict[str, Any] | None:
    """The JSON object of an answer, empty for an empty one; None if it is something else."""
    try:
        document = orjson.loads(body or b"{}")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _error(document: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[str, str]:
    """Code and message: the older protocol's code, or else the shape's name, freed from namespace and address."""
    code = headers.get("x-amzn-query-error", "").partition(";")[0]
    shape = str(document.get("__type") or headers.get("x-amzn-errortype") or document.get("code") or "")
    message = document.get("message") or document.get("Message") or ""
    return code or shape.partition(":")[0].rpartition("#")[2], str(message)
