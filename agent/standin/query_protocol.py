"""The Query protocols: a form names the action, the answer is XML.

From "AWS query protocol" and "EC2 query protocol" of the Smithy specification (smithy.io/2.0/aws/protocols).
"""

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from agent.standin import signatures, xml
from agent.standin.errors import ApiError
from agent.standin.keys import Key
from agent.standin.message import Request, Response, TooLargeError
from agent.standin.signatures import SignatureError, Verifier

MAX_BODY = 1_048_576  # bytes of a form
MAX_FIELDS = 2_000  # fields of a form

Form = dict[str, str]
Result = Mapping[str, xml.Value]
Operation = Callable[[Form, Key], Result | None]

_REFUSALS: dict[type[SignatureError], tuple[str, int]] = {
    signatures.MissingAuthenticationError: ("MissingAuthenticationToken", 403),
    signatures.IncompleteSignatureError: ("IncompleteSignature", 403),
    signatures.UnknownKeyError: ("InvalidClientTokenId", 403),
    signatures.InvalidTokenError: ("InvalidClientTokenId", 403),
    signatures.ExpiredTokenError: ("ExpiredToken", 403),
}
_EC2_REFUSALS: dict[type[SignatureError], tuple[str, int]] = {
    **_REFUSALS,
    signatures.MissingAuthenticationError: ("MissingAuthenticationToken", 400),
    signatures.UnknownKeyError: ("AuthFailure", 401),
    signatures.InvalidTokenError: ("AuthFailure", 401),
    signatures.ExpiredTokenError: ("RequestExpired", 400),
    signatures.SkewedError: ("RequestExpired", 400),
}


@dataclass
class QueryFront:
    """One service behind the Query protocol; `ec2` turns on that service's own dialect of the answers."""

    name: str
    namespace: str
    region: str
    verifier: Verifier
    operations: Mapping[str, Operation]
    ec2: bool = False
    throttled: ApiError = field(default_factory=lambda: ApiError("Rate exceeded", code="Throttling", status=400))

    def operation(self, request: Request) -> str:
        return _form(request).get("Action", "")

    def handle(self, request: Request, operation: str) -> Response:
        try:
            key = self._verify(request)
            if operation not in self.operations:
                raise ApiError(f"Could not find operation {operation}", code="InvalidAction", status=400)
            return self._answer(operation, self.operations[operation](_form(request), key))
        except ApiError as error:
            return self.refuse(error)

    def refuse(self, error: ApiError) -> Response:
        content = self._ec2_error(error) if self.ec2 else self._error(error)
        return Response(error.status, content, {**error.headers, "Content-Type": "text/xml"}, error=error.code)

    def _verify(self, request: Request) -> Key:
        body = request.body.read(MAX_BODY)
        try:
            return self.verifier.verify(request, hashlib.sha256(body).hexdigest(), region=self.region)
        except SignatureError as error:
            table = _EC2_REFUSALS if self.ec2 else _REFUSALS
            code, status = table.get(type(error), ("SignatureDoesNotMatch", 403))
            raise ApiError(str(error), code=code, status=status) from error

    def _answer(self, operation: str, result: Result | None) -> Response:
        request_id = str(uuid.uuid4())
        if self.ec2:
            content = {"requestId": request_id, **(result or {})}
        else:
            payload = {} if result is None else {f"{operation}Result": result}
            content = {**payload, "ResponseMetadata": {"RequestId": request_id}}
        member = "item" if self.ec2 else "member"
        body = xml.document(f"{operation}Response", content, self.namespace, member)
        return Response(200, body, {"Content-Type": "text/xml", "x-amzn-RequestId": request_id})

    def _error(self, error: ApiError) -> bytes:
        kind = "Sender" if error.status < 500 else "Receiver"
        inner = {"Type": kind, "Code": error.code, "Message": error.message}
        return xml.document("ErrorResponse", {"Error": inner, "RequestId": str(uuid.uuid4())}, self.namespace)

    def _ec2_error(self, error: ApiError) -> bytes:
        inner = {"Error": {"Code": error.code, "Message": error.message}}
        return xml.document("Response", {"Errors": inner, "RequestID": str(uuid.uuid4())})


def _form(request: Request) -> Form:
    try:
        text = request.body.read(MAX_BODY).decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except (TooLargeError, ValueError):
        return {}  # no action: the service refuses it


def members(form: Form, name: str) -> list[str]:
    """A list parameter: `Name.member.1=...&Name.member.2=...`."""
    found = [(int(key.rsplit(".", 1)[1]), value) for key, value in form.items() if _is_member(key, name)]
    return [value for _, value in sorted(found)]


def _is_member(key: str, name: str) -> bool:
    return key.startswith(f"{name}.member.") and key.rsplit(".", 1)[1].isdecimal()
