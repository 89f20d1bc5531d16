"""S3's front: which operation a request is, who asks, whether it is for this place, and how errors look.

docs.aws.amazon.com/AmazonS3/latest/API; VirtualHosting, Redirects and ErrorResponses.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from agent.standin import signatures, xml
from agent.standin.errors import ApiError
from agent.standin.message import Request, Response, TooLargeError
from agent.standin.s3_errors import (
    AccessDeniedError,
    InvalidRequestError,
    NotImplementedByS3Error,
    PayloadMismatchError,
)
from agent.standin.s3_operations import Call, S3Operations, Target
from agent.standin.s3_store import Bucket, Store
from agent.standin.signatures import SignatureError, Verifier, parse_authorization

GLOBAL_REGION = "us-east-1"  # its endpoint answers for buckets everywhere, and knows where they are
MAX_KEY = 1024  # bytes of a key in UTF-8
MAX_DOCUMENT = 2_097_152  # bytes of a request's body where it is not an object's content
_VIRTUAL_HOST = re.compile(r"(?P<bucket>.+?)\.(localhost|s3[.-].*)")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# by method and by the query parameter that says which side of a bucket or object is meant
_BUCKET_OPERATIONS = {
    ("GET", "location"): "GetBucketLocation",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "uploads"): "ListMultipartUploads",
    ("POST", "delete"): "DeleteObjects",
    ("PUT", ""): "CreateBucket",
    ("HEAD", ""): "HeadBucket",
    ("DELETE", ""): "DeleteBucket",
}
_OBJECT_OPERATIONS = {
    ("PUT", "uploadId"): "UploadPart",
    ("PUT", ""): "PutObject",
    ("GET", "uploadId"): "ListParts",
    ("GET", "attributes"): "GetObjectAttributes",
    ("GET", "tagging"): "GetObjectTagging",
    ("GET", ""): "GetObject",
    ("HEAD", ""): "HeadObject",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("DELETE", ""): "DeleteObject",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
}
_SUBRESOURCES = (
    *("location", "list-type", "uploads", "delete", "uploadId", "attributes", "tagging"),
    # known, so that they are refused and not taken for something else
    *("acl", "policy", "versioning", "versions", "lifecycle", "cors", "encryption", "notification", "replication"),
    *("website", "logging", "torrent", "restore", "retention", "legal-hold", "select"),
)
_WITH_CONTENT = frozenset(("PutObject", "UploadPart"))
_ANYWHERE = frozenset(("CreateBucket", "ListBuckets"))

_REFUSALS: dict[type[SignatureError], tuple[str, int]] = {
    signatures.MissingAuthenticationError: ("AccessDenied", 403),
    signatures.IncompleteSignatureError: ("AuthorizationHeaderMalformed", 400),
    signatures.WrongScopeError: ("AuthorizationHeaderMalformed", 400),
    signatures.UnknownKeyError: ("InvalidAccessKeyId", 403),
    signatures.InvalidTokenError: ("InvalidToken", 400),
    signatures.ExpiredTokenError: ("ExpiredToken", 400),
    signatures.SkewedError: ("RequestTimeTooSkewed", 403),
    signatures.UnsignedHeaderError: ("AccessDenied", 403),
}


class S3:
    """The service; buckets may lie in any region, and the scope of the signature must name theirs."""

    name = "s3"
    throttled = ApiError("Please reduce your request rate.", code="SlowDown", status=503)

    def __init__(self, verifier: Verifier, store: Store, operations: S3Operations) -> None:
        self._verifier = verifier
        self._store = store
        self._operations = operations

    def operation(self, request: Request) -> str:
        target = _target(request)
        if not target.bucket:
            return "ListBuckets" if request.method == "GET" else ""
        side = next((name for name in _SUBRESOURCES if name in request.query), "")
        table = _OBJECT_OPERATIONS if target.key else _BUCKET_OPERATIONS
        return table.get((request.method, side), "")

    def handle(self, request: Request, operation: str) -> Response:
        try:
            call = self._admit(request, operation)
            return _signed_off(self._operations.calls[operation](call))
        except ApiError as error:
            return self.refuse(error)

    def refuse(self, error: ApiError) -> Response:
        request_id = _request_id()
        content = {
            "Code": error.code,
            "Message": error.message,
            **error.details,
            "RequestId": request_id,
            "HostId": request_id,
        }
        headers = {**error.headers, "Content-Type": "application/xml"}
        return _signed_off(Response(error.status, xml.document("Error", content), headers, error=error.code))

    def _admit(self, request: Request, operation: str) -> Call:
        """Check all that does not depend on the operation: signature, name, region, owner, and a small body."""
        payload_hash = self._verify(request)
        if operation not in self._operations.calls:
            raise NotImplementedByS3Error(f"{request.method} {request.target[:200]}")
        target = _target(request)
        if len(target.key.encode()) > MAX_KEY:
            raise ApiError(
                "Your key is too long",
                code="KeyTooLongError",
                status=400,
                details={"Size": str(len(target.key.encode())), "MaxSizeAllowed": str(MAX_KEY)},
            )
        region = parse_authorization(request.headers.get("authorization")).region
        if operation not in _ANYWHERE:
            self._require_place(self._store.bucket(target.bucket), region, operation)
            self._require_owner(self._store.bucket(target.bucket), request.headers)
        body = b"" if operation in _WITH_CONTENT else _small_body(request, payload_hash)
        return Call(request, target, region, payload_hash, body)

    def _verify(self, request: Request) -> str:
        payload_hash = request.headers.get("x-amz-content-sha256")
        if payload_hash is None and "authorization" in request.headers:
            raise InvalidRequestError("Missing required header for this request: x-amz-content-sha256")
        try:
            self._verifier.verify(request, payload_hash or "")
        except SignatureError as error:
            code, status = _REFUSALS.get(type(error), ("SignatureDoesNotMatch", 403))
            raise ApiError(str(error), code=code, status=status) from error
        assert payload_hash is not None  # without it there is no signature either
        if not (_SHA256.fullmatch(payload_hash) or payload_hash.startswith(("UNSIGNED-", "STREAMING-"))):
            raise ApiError(
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER "
                "or a valid sha256 value.",
                code="InvalidArgument",
                status=400,
            )
        return payload_hash

    def _require_place(self, bucket: Bucket, region: str, operation: str) -> None:
        """Wrong region: the global endpoint calls the signature malformed, a regional one redirects."""
        if bucket.region == region or (operation == "GetBucketLocation" and region == GLOBAL_REGION):
            return
        headers = {"x-amz-bucket-region": bucket.region}
        if region == GLOBAL_REGION:
            raise ApiError(
                f"The authorization header is malformed; the region '{region}' is wrong; expecting '{bucket.region}'",
                code="AuthorizationHeaderMalformed",
                status=400,
                headers=headers,
                details={"Region": bucket.region},
            )
        raise ApiError(
            "The bucket you are attempting to access must be addressed using the specified endpoint. "
            "Please send all future requests to this endpoint.",
            code="PermanentRedirect",
            status=301,
            headers=headers,
            details={"Endpoint": f"s3.{bucket.region}.amazonaws.com", "Bucket": bucket.name},
        )

    def _require_owner(self, bucket: Bucket, headers: Mapping[str, str]) -> None:
        if headers.get("x-amz-expected-bucket-owner", bucket.owner) != bucket.owner:
            raise AccessDeniedError


def _target(request: Request) -> Target:
    """Bucket and key: from the host name, or else the first part of the path."""
    try:
        path = unquote_to_bytes(request.path).decode().removeprefix("/")
    except UnicodeDecodeError as error:
        raise ApiError("Couldn't parse the specified URI.", code="InvalidURI", status=400) from error
    host = request.headers.get("host", "").partition(":")[0]
    if match := _VIRTUAL_HOST.fullmatch(host):
        return Target(match["bucket"], path)
    bucket, _, key = path.partition("/")
    return Target(bucket, key)


def _small_body(request: Request, payload_hash: str) -> bytes:
    try:
        body = request.body.read(MAX_DOCUMENT)
    except TooLargeError as error:
        raise ApiError("Your request was too big.", code="MaxMessageLengthExceeded", status=400) from error
    if _SHA256.fullmatch(payload_hash) and hashlib.sha256(body).hexdigest() != payload_hash:
        raise PayloadMismatchError
    return body


def _signed_off(response: Response) -> Response:
    request_id = _request_id()
    response.headers = {
        "x-amz-request-id": request_id,
        "x-amz-id-2": request_id,
        "Server": "AmazonS3",
        **response.headers,
    }
    return response


def _request_id() -> str:
    return uuid.uuid4().hex[:16].upper()
