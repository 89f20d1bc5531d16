"""Signature Version 4 for the hot calls, written for requests that we made ourselves.

It gives what botocore's SigV4Auth gives, byte for byte (a test holds it to that), at a tenth of its cost: no request
object, the signing key kept for the day, the time formatted once a second. The path is taken as it is: S3 signs the
escaped path once, and the other hot calls have none.
Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Protocol

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = frozenset(["expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"])  # may change on the way


class Credentials(Protocol):
    """As botocore freezes them."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class Signer:
    """Signs for one service in one region. Safe to use from several threads: what it keeps is replaced whole."""

    def __init__(self, service: str, region: str, host: str) -> None:
        """`host` as the Host header has it: with the port, where it is not the scheme's own."""
        self._scope = f"{region}/{service}/aws4_request"
        self._service = service
        self._region = region
        self._host = host
        self._key: tuple[str, str, bytes] = ("", "", b"")  # of this secret, on this day
        self._stamp: tuple[int, str] = (-1, "")

    def sign(
        self, method: str, target: str, headers: Mapping[str, str], digest: str, credentials: Credentials, when: float
    ) -> dict[str, str]:
        """The headers that are to be added to `headers`, and with them authorize the request.

        `target`: path and query, escaped. `digest`: SHA-256 of the body in hex, or UNSIGNED-PAYLOAD. `when`: seconds
        of the epoch.
        """
        stamp = self._timestamp(int(when))
        added = {"Host": self._host, "X-Amz-Content-SHA256": digest, "X-Amz-Date": stamp}
        if credentials.token:
            added["X-Amz-Security-Token"] = credentials.token
        signed = {name.lower(): value for name, value in (*headers.items(), *added.items())}
        names = sorted(signed.keys() - _UNSIGNED)
        listed = ";".join(names)
        path, _, query = target.partition("?")
        lines = "".join([f"{name}:{' '.join(signed[name].split())}\n" for name in names])
        canonical = f"{method}\n{path or '/'}\n{_canonical_query(query)}\n{lines}\n{listed}\n{digest}"
        scope = f"{stamp[:8]}/{self._scope}"
        told = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._signing_key(credentials.secret_key, stamp[:8]), told.encode(), "sha256").hex()
        added["Authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
        )
        return added

    def _timestamp(self, second: int) -> str:
        kept, text = self._stamp
        if kept != second:
            text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            self._stamp = (second, text)
        return text

    def _signing_key(self, secret: str, day: str) -> bytes:
        kept_secret, kept_day, key = self._key
        if (kept_secret, kept_day) != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = (secret, day, key)
        return key


def _canonical_query(query: str) -> str:
    """The arguments in order; one without a value has an empty one."""
    if not query:
        return ""
    pairs = sorted(argument.partition("=")[::2] for argument in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in pairs)
