"""The awsJson protocols: X-Amz-Target names the operation, input and output are JSON documents.

From "AWS JSON 1.0 protocol" and "AWS JSON 1.1 protocol" of the Smithy specification (smithy.io/2.0/aws/protocols).
"""

import hashlib
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from agent.standin import signatures
from agent.standin.errors import ApiError
from agent.standin.message import Request, Response, TooLargeError
from agent.standin.signatures import SignatureError, Verifier
from agent.standin.validation import Json

MAX_BODY = 16_777_216  # bytes of a request, as sent and as unpacked
GZIP = 16 + zlib.MAX_WBITS

Operation = Callable[[Json], Json]

_REFUSALS: dict[type[SignatureError], str] = {
    signatures.MissingAuthenticationError: "MissingAuthenticationTokenException",
    signatures.IncompleteSignatureError: "IncompleteSignatureException",
    signatures.UnknownKeyError: "UnrecognizedClientException",
    signatures.InvalidTokenError: "UnrecognizedClientException",
    signatures.ExpiredTokenError: "ExpiredTokenException",
}


class BadRequestError(ApiError):
    """The document cannot be read: look at how the client serialises and compresses."""

    code = "SerializationException"
    status = 400


@dataclass
class JsonFront:
    """One service behind the awsJson protocol.

    `limit` bounds the unpacked document. With `query_errors` the service used to speak the Query protocol, and its
    error codes of those days go into a header ("AWS query compatible").
    """

    name: str
    target: str
    version: str
    region: str
    verifier: Verifier
    operations: Mapping[str, Operation]
    limit: int = MAX_BODY
    query_errors: bool = False
    throttled: ApiError = field(
        default_factory=lambda: ApiError("Rate exceeded", code="ThrottlingException", status=400)
    )

    def operation(self, request: Request) -> str:
        prefix, _, name = request.headers.get("x-amz-target", "").partition(".")
        return name if prefix == self.target else ""

    def handle(self, request: Request, operation: str) -> Response:
        try:
            body = request.body.read(MAX_BODY)
            self._verify(request, body)
            document = self._document(request, body)
            if operation not in self.operations:
                raise ApiError("", code="UnknownOperationException", status=400)
            return self._answer(200, self.operations[operation](document))
        except ApiError as error:
            return self.refuse(error)
        except TooLargeError as error:
            return self.refuse(ApiError(str(error), code="RequestEntityTooLargeException", status=413))

    def refuse(self, error: ApiError) -> Response:
        response = self._answer(
            error.status, {"__type": error.shape or error.code, "message": error.message, **error.details}
        )
        response.error = error.code
        response.headers.update(error.headers)
        if self.query_errors:
            fault = "Sender" if error.status < 500 else "Receiver"
            response.headers["x-amzn-query-error"] = f"{error.code};{fault}"
        return response

    def _verify(self, request: Request, body: bytes) -> None:
        try:
            self.verifier.verify(request, hashlib.sha256(body).hexdigest(), region=self.region)
        except SignatureError as error:
            code = _REFUSALS.get(type(error), "InvalidSignatureException")
            raise ApiError(str(error), code=code, status=400) from error

    def _document(self, request: Request, body: bytes) -> Json:
        expected = f"application/x-amz-json-{self.version}"
        if request.method != "POST" or request.headers.get("content-type", "") != expected:
            raise ApiError(f"Content-Type must be {expected}", code="UnknownOperationException", status=404)
        try:
            document = orjson.loads(self._unpack(request, body))
        except (orjson.JSONDecodeError, zlib.error) as error:
            raise BadRequestError(str(error)) from error
        if not isinstance(document, dict):
            raise BadRequestError("Start of structure or map found where not expected.")
        return document

    def _unpack(self, request: Request, body: bytes) -> bytes:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding == "gzip":
            unpacker = zlib.decompressobj(GZIP)
            body = unpacker.decompress(body, self.limit + 1)
            if not unpacker.eof and len(body) <= self.limit:
                raise BadRequestError("the gzip body ends in the middle")
        elif encoding != "identity":
            raise BadRequestError(f"Content-Encoding {encoding} is not supported")
        if len(body) > self.limit:
            raise TooLargeError(f"Request size exceeded the limit of {self.limit} bytes")
        return body

    def _answer(self, status: int, document: Json) -> Response:
        headers = {
            "x-amzn-RequestId": str(uuid.uuid4()),
            "Content-Type": f"application/x-amz-json-{self.version}",
        }
        return Response(status, orjson.dumps(document), headers)
