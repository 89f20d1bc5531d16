"""What can go wrong at AWS, sorted by what to do about it.

AwsError
├── Transient        keep the data and try again
│   ├── Throttled      AWS asks for fewer calls: back off
│   ├── ServerFault    AWS failed (5xx)
│   ├── Unreachable    nothing was accepted: no route, no name, refused, TLS or proxy failed
│   └── AnswerLost     sent, and no answer came: it may have been accepted, so a repeat may be a duplicate
├── Denied           no, wrong or expired credentials, or a policy that does not allow the call: mend the role
├── NotFound         the group, stream, bucket, key or lifecycle action is not there, or in another region
├── Conflict         a precondition failed, or it exists already
└── Refused          AWS will never take this request as it is: split it, or settle it as refused
"""

from __future__ import annotations

from agent.engine.redact import redacted

_MESSAGE_CHARACTERS = 2_000  # of AWS's own text, as far as it is passed on
_THROTTLES = frozenset(
    [
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "SlowDown",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "EC2ThrottledException",
        "ServiceQuotaExceededException",
        "KMS.ThrottlingException",
    ]
)
_DENIALS = frozenset(
    [
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "ExpiredToken",
        "ExpiredTokenException",
        "TokenRefreshRequired",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "OptInRequired",
        "AuthFailure",
        "NotAuthorized",
        "AccountProblem",
        "AllAccessDisabled",
        "KMSAccessDeniedException",
        "InvalidToken",
    ]
)
_ABSENCES = frozenset(
    [
        "ResourceNotFoundException",
        "ResourceNotFound",
        "NoSuchBucket",
        "NoSuchKey",
        "NoSuchUpload",
        "NotFound",
        "404",
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",  # says which region the bucket is in
    ]
)
_CONFLICTS = frozenset(
    [
        "ResourceAlreadyExistsException",
        "OperationAbortedException",
        "OperationAborted",
        "PreconditionFailed",
        "ConditionalRequestConflict",
        "412",
        "409",
    ]
)
_FAULTS = frozenset(
    [
        "InternalFailure",
        "InternalError",
        "InternalServerError",
        "InternalServiceError",
        "InternalServiceFault",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "RequestTimeout",
        "RequestTimeoutException",
        "BadDigest",  # these three: the body was damaged on its way
        "IncompleteBody",
        "XAmzContentSHA256Mismatch",
        "503",
        "500",
    ]
)
CLOCK_ERRORS = frozenset(["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"])


class AwsError(Exception):
    """A call to AWS did not do what it should. `code` is AWS's own; `hint` is the operator's next step."""

    hint = "see the message"

    def __init__(self, operation: str, code: str = "", message: str = "", status: int = 0) -> None:
        self.operation = operation
        self.code = code
        self.message = message
        self.status = status
        super().__init__(f"{operation}: {': '.join(part for part in (code, message) if part) or status}")


class Transient(AwsError):
    """The same call may work later."""

    hint = "nothing to do: it is tried again"


class Throttled(Transient):
    """Too many calls."""

    hint = "if it lasts, ask AWS for a higher quota of this call"


class ServerFault(Transient):
    """A failure on AWS's side."""


class Unreachable(Transient):
    """Nothing was sent."""

    hint = "check the route, DNS, proxy (HTTPS_PROXY, NO_PROXY), VPC endpoint and security group"


class AnswerLost(Transient):
    """Sent without an answer: accepted or not, nobody knows."""


class Denied(AwsError):
    """Not allowed, or not known to AWS."""

    hint = "check the instance profile or role and its policy against README"


class NotFound(AwsError):
    """What the call names does not exist."""


class Conflict(AwsError):
    """It exists already, or changed in between."""


class Refused(AwsError):
    """Never, as it is."""


def from_answer(operation: str, status: int, code: str, message: str) -> AwsError:
    """The error for an answer of AWS: its HTTP status, its code, its text."""
    text = redacted(message[:_MESSAGE_CHARACTERS])  # a signature that failed is explained with the whole request
    return _kind(status, code, message)(operation, code, text, status)


def _kind(status: int, code: str, message: str) -> type[AwsError]:
    tables: list[tuple[frozenset[str], type[AwsError]]] = [
        (_THROTTLES, Throttled),
        (_DENIALS, Denied),
        (_ABSENCES, NotFound),
        (_CONFLICTS, Conflict),
        (_FAULTS, ServerFault),
        (CLOCK_ERRORS, Transient),  # the wire has taken over AWS's time by now
    ]
    for codes, kind in tables:
        if code in codes:
            return kind
    if "Rate exceeded" in message:
        return Throttled
    if code.startswith("KMS"):  # the key is disabled, deleted or not ours: nothing is wrong with the data
        return Denied
    if 300 <= status < 400:
        return NotFound
    return _BY_STATUS.get(status, ServerFault if status >= 500 or status == 0 else Refused)


_BY_STATUS: dict[int, type[AwsError]] = {
    401: Denied,
    403: Denied,
    404: NotFound,
    407: Unreachable,  # a proxy wants to know who we are
    408: ServerFault,
    409: Conflict,
    412: Conflict,
    429: Throttled,
}
