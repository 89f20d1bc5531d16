"""How a bucket is reached: in its region, by a host of its own or by a path.

Sources: docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html and Redirects.html;
docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html (S3 escapes a path once).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from agent.aws.session import Aws
from agent.aws.wire import Wire

_SAFE = "/-_.~"  # beside letters and digits, what S3's canonical path leaves as it is
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]*")
_PUBLIC_HOST = re.compile(r"s3[.-](?!.*\.vpce\.).*\.?amazonaws\.(com|com\.cn|eu)$|s3\.amazonaws\.com$")
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")  # a dot in it would not fit the certificate
_HOST_REGION = re.compile(r"s3[.-](?:dualstack\.)?([a-z]{2,5}(?:-[a-z]+)+-\d)\.amazonaws\.")


@dataclass(frozen=True, slots=True)
class Door:
    """A bucket's entrance in one region. `signs_bodies`: without TLS, the signature covers the body too."""

    wire: Wire
    base: str
    region: str
    signs_bodies: bool

    @classmethod
    def of(cls, aws: Aws, bucket: str, region: str) -> Door:
        """By path where the endpoint is not one of AWS's public ones, as boto3 does. Raises AwsError."""
        wire = aws.wire("s3", region)
        parts = urlsplit(wire.route.url)
        base = parts.path.rstrip("/")
        if _PUBLIC_HOST.match(parts.hostname or "") and _HOST_LABEL.fullmatch(bucket):
            wire = aws.wire("s3", region, f"{parts.scheme}://{bucket}.{parts.netloc}")
        else:
            base = f"{base}/{bucket}"
        return cls(wire, base, region, signs_bodies=parts.scheme != "https")

    def target(self, key: str, query: str) -> str:
        """Path and query of an object's URL."""
        return f"{self.base}/{escape_key(key)}{'?' if query else ''}{query}"


def escape_key(key: str) -> str:
    """A key as a URL's path and SigV4's canonical path both have it: UTF-8, escaped once, slashes kept."""
    return key if _PLAIN.fullmatch(key) else quote(key, safe=_SAFE)


def region_of(status: int, headers: Mapping[str, str], error: Mapping[str, str]) -> str | None:
    """The bucket's region, where an answer that is no success tells it."""
    told = headers.get("x-amz-bucket-region") or error.get("Region")
    if told or status not in (301, 307):
        return told
    host = _HOST_REGION.search(error.get("Endpoint", "") or headers.get("location", ""))
    return host[1] if host else None
