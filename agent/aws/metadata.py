"""The instance metadata service, version 2 only.

Source: docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html. Absent (404) and not answering
are told apart everywhere: absence is knowledge, silence is not.
"""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import orjson

from agent.aws.answers import read_whole
from agent.engine.clock import Clock

DEFAULT_ENDPOINT = "http://169.254.169.254"
_TOKEN_SECONDS = 21_600  # the longest life of a session token
_ANSWER_BYTES = 256 << 10  # bounds an answer; the identity document has about 500 bytes
_CALL_SECONDS = 2.0  # a container behind one hop too many gets no answer at all
_PATH_SAFE = "/-_.~:@=+,"
_FAILURES = (OSError, http.client.HTTPException, ValueError)  # ValueError: no UTF-8, or an endpoint that is none


class MetadataError(Exception):
    """The metadata service did not answer a question.

    MetadataError
    ├── MetadataDisabled      by AWS_EC2_METADATA_DISABLED, or 403: enable it, or give region and instance id yourself
    └── MetadataUnavailable   no route, time-out, 5xx, 429, empty or garbled: asked again
    """


class MetadataDisabled(MetadataError):
    """Not to be asked."""


class MetadataUnavailable(MetadataError):
    """No usable answer now."""


class Metadata:
    """A client with one cached token and one kept-alive connection; safe to use from any thread."""

    def __init__(self, clock: Clock, environment: Mapping[str, str] | None = None) -> None:
        env = os.environ if environment is None else environment
        self.endpoint = env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/") or DEFAULT_ENDPOINT
        self.disabled = env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._token: str | None = None
        self._renew_at = 0.0

    def get(self, path: str) -> str | None:
        """The value below `latest/meta-data/`, or None where it is absent. Raises MetadataError."""
        return self._get(f"/latest/meta-data/{path}")

    def identity(self) -> dict[str, str]:
        """The instance identity document: accountId, region, instanceId, pendingTime ... Raises MetadataError."""
        text = self._get("/latest/dynamic/instance-identity/document")
        try:
            document = orjson.loads(text or "")
        except ValueError:
            raise MetadataUnavailable(
                f"{self.endpoint}: the instance identity document is absent or garbled"
            ) from None
        if not isinstance(document, dict) or not document.get("instanceId"):
            raise MetadataUnavailable(f"{self.endpoint}: the instance identity document names no instance")
        return {str(key): str(value) for key, value in document.items() if value is not None}

    def identity_signature(self) -> str | None:
        """AWS's signature of that document (RSA, base64), or None where it is absent. Raises MetadataError."""
        return self._get("/latest/dynamic/instance-identity/signature")

    def tag(self, key: str) -> str | None:
        """An instance tag, where the instance allows tags in metadata. Raises MetadataError."""
        return self.get(f"tags/instance/{key}")

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _get(self, path: str) -> str | None:
        if self.disabled:
            raise MetadataDisabled("the metadata service is switched off by AWS_EC2_METADATA_DISABLED")
        with self._lock:
            status, body = self._authorised(quote(path, safe=_PATH_SAFE))
        if status == 200:
            return body
        if status == 404:
            return None
        if status == 403:
            raise MetadataDisabled(f"{self.endpoint} answers 403: the metadata service is disabled for this instance")
        raise MetadataUnavailable(f"{self.endpoint}{path} answers {status}")

    def _authorised(self, path: str) -> tuple[int, str]:
        """One question with a valid token; a rejected token is renewed once."""
        status, body = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._valid_token()})
        if status == 401:
            self._token = None
            status, body = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._valid_token()})
        return status, body

    def _valid_token(self) -> str:
        if self._token is None or self._clock.monotonic() >= self._renew_at:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
            status, token = self._ask("PUT", "/latest/api/token", headers)
            if status == 403:
                raise MetadataDisabled(f"{self.endpoint} answers 403: the metadata service is disabled")
            if status != 200 or not token or not (token.isascii() and token.isprintable()):
                raise MetadataUnavailable(f"{self.endpoint} gives no session token (status {status})")
            self._token = token
            self._renew_at = self._clock.monotonic() + _TOKEN_SECONDS / 2
        return self._token

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """Status and text, on the kept connection or, if that was closed meanwhile, on a new one."""
        kept = self._connection is not None
        try:
            return self._exchange(method, path, headers)
        except _FAILURES as error:
            self._drop()
            if not kept or isinstance(error, TimeoutError):
                raise self._unavailable(error) from None
        try:
            return self._exchange(method, path, headers)
        except _FAILURES as error:
            self._drop()
            raise self._unavailable(error) from None

    def _exchange(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if self._connection is None:
            parts = urlsplit(self.endpoint)
            if not parts.hostname:
                raise ValueError("AWS_EC2_METADATA_SERVICE_ENDPOINT must be http://host[:port]")
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(parts.hostname, parts.port, timeout=_CALL_SECONDS)
        self._connection.request(method, path, headers=headers)
        response = self._connection.getresponse()
        body = read_whole(response, _ANSWER_BYTES)
        return response.status, body.decode("utf-8").strip()

    def _unavailable(self, error: Exception) -> MetadataUnavailable:
        return MetadataUnavailable(f"{self.endpoint} does not answer: {type(error).__name__}: {error}")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
