"""What went wrong at AWS, sorted by what to do about it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions

from agent.aws.cold import call
from agent.aws.errors import (
    AnswerLost,
    AwsError,
    Conflict,
    Denied,
    NotFound,
    Refused,
    ServerFault,
    Throttled,
    Transient,
    Unreachable,
    from_answer,
)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        # too much is asked
        (400, "ThrottlingException", Throttled),
        (400, "Throttling", Throttled),
        (400, "LimitExceededException", Throttled),
        (400, "ServiceQuotaExceededException", Throttled),
        (503, "SlowDown", Throttled),
        (503, "ServiceUnavailable", ServerFault),
        (429, "", Throttled),
        # AWS failed
        (500, "InternalFailure", ServerFault),
        (500, "", ServerFault),
        (502, "", ServerFault),
        (501, "NotImplemented", ServerFault),
        (400, "RequestTimeout", ServerFault),
        (408, "", ServerFault),
        (200, "InternalError", ServerFault),
        (0, "", ServerFault),
        # the role, its policy, a key
        (403, "AccessDenied", Denied),
        (400, "AccessDeniedException", Denied),
        (403, "SomethingNewException", Denied),
        (401, "", Denied),
        (400, "UnrecognizedClientException", Denied),
        (400, "InvalidSignatureException", Denied),
        (400, "ExpiredTokenException", Denied),
        (403, "InvalidClientTokenId", Denied),
        (400, "KMS.DisabledException", Denied),
        (400, "KMSInvalidStateException", Denied),
        (400, "KMS.NotFoundException", Denied),
        (400, "KMS.ThrottlingException", Throttled),
        # what is named is not there
        (400, "ResourceNotFoundException", NotFound),
        (404, "NoSuchBucket", NotFound),
        (404, "", NotFound),
        (301, "PermanentRedirect", NotFound),
        (307, "TemporaryRedirect", NotFound),
        (302, "", NotFound),
        (400, "AuthorizationHeaderMalformed", NotFound),
        # it is there already
        (400, "ResourceAlreadyExistsException", Conflict),
        (412, "PreconditionFailed", Conflict),
        (409, "OperationAborted", Conflict),
        (409, "", Conflict),
        (412, "", Conflict),
        # never
        (400, "InvalidParameterException", Refused),
        (400, "ValidationError", Refused),
        (413, "", Refused),
        (400, "EntityTooLarge", Refused),
        (400, "", Refused),
    ],
)
def test_a_code_says_what_to_do(status: int, code: str, kind: type[AwsError]) -> None:
    error = from_answer("PutLogEvents", status, code, "text")
    assert type(error) is kind
    assert (error.operation, error.status, error.code, error.message) == ("PutLogEvents", status, code, "text")


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"])
@pytest.mark.parametrize("status", [400, 403])
def test_a_clock_that_is_off_never_makes_data_refused(status: int, code: str) -> None:
    assert isinstance(from_answer("PutLogEvents", status, code, ""), Transient)


@pytest.mark.parametrize("code", ["BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"])
def test_a_body_that_was_damaged_on_its_way_is_sent_again(code: str) -> None:
    assert isinstance(from_answer("PutObject", 400, code, ""), Transient)


def test_a_proxy_that_wants_a_password_is_not_aws() -> None:
    assert isinstance(from_answer("PutLogEvents", 407, "", ""), Unreachable)


def test_rate_exceeded_is_throttling_whatever_the_code() -> None:
    assert isinstance(from_answer("PutLogEvents", 400, "InvalidParameterException", "Rate exceeded"), Throttled)


@pytest.mark.parametrize("kind", [Throttled, ServerFault, Unreachable, AnswerLost])
def test_what_may_work_later_is_transient(kind: type[AwsError]) -> None:
    assert issubclass(kind, Transient)


@pytest.mark.parametrize("kind", [Denied, NotFound, Conflict, Refused])
def test_what_will_not_work_by_itself_is_not(kind: type[AwsError]) -> None:
    assert not issubclass(kind, Transient)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Denied("PutObject", "AccessDenied", "no"), "PutObject: AccessDenied: no"),
        (Denied("PutObject", "", "no"), "PutObject: no"),
        (ServerFault("PutObject", status=503), "PutObject: 503"),
    ],
)
def test_the_text_names_the_operation_and_all_that_is_known(error: AwsError, text: str) -> None:
    assert str(error) == text


def test_every_kind_has_a_next_step() -> None:
    assert all(kind.hint for kind in (Throttled, ServerFault, Unreachable, AnswerLost, Denied, NotFound, Refused))


def test_aws_explains_a_failed_signature_with_the_whole_request_and_its_token() -> None:
    message = (
        "The Canonical String for this request should have been 'POST\n/\n\nx-amz-security-token:IQoJb3JpZ2lu\n\n'"
    )
    error = from_answer("PutLogEvents", 400, "InvalidSignatureException", message)
    assert "IQoJ" not in str(error)
    assert "Canonical String" in str(error)


def test_a_message_without_end_is_cut() -> None:
    assert len(from_answer("PutLogEvents", 400, "ValidationError", "x" * 1_000_000).message) == 2000


# plain boto3 calls


def client_error(code: str, status: int) -> exceptions.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "text"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return exceptions.ClientError(response, "Operation")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (client_error("AccessDenied", 403), Denied),
        (client_error("ThrottlingException", 400), Throttled),
        (client_error("404", 404), NotFound),
        (client_error("ResourceAlreadyExistsException", 400), Conflict),
        (client_error("", 500), ServerFault),
        (exceptions.ClientError({}, "Operation"), ServerFault),
        (exceptions.NoCredentialsError(), Denied),
        (exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), Denied),
        (exceptions.CredentialRetrievalError(provider="iam-role", error_msg="x"), Denied),
        (exceptions.ProfileNotFound(profile="none"), Denied),
        (RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."), Denied),
        (exceptions.EndpointConnectionError(endpoint_url="http://x", error="refused"), Unreachable),
        (exceptions.ConnectTimeoutError(endpoint_url="http://x", error="slow"), Unreachable),
        (exceptions.SSLError(endpoint_url="http://x", error=ValueError("certificate")), Unreachable),
        (exceptions.ProxyConnectionError(proxy_url="http://p", error="refused"), Unreachable),
        (exceptions.ReadTimeoutError(endpoint_url="http://x", error="slow"), AnswerLost),
        (exceptions.ConnectionClosedError(endpoint_url="http://x", error="closed"), AnswerLost),
        (exceptions.ResponseStreamingError(error="cut"), AnswerLost),
        (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), AnswerLost),
        (exceptions.HTTPClientError(error="reset"), AnswerLost),
        (exceptions.ParamValidationError(report="Missing required parameter"), Refused),
        (exceptions.NoRegionError(), Transient),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_what_boto3_raises_is_one_of_ours(raised: Exception, kind: type[AwsError]) -> None:
    def function(**arguments: object) -> None:
        assert arguments == {"Bucket": "b"}
        raise raised

    with pytest.raises(kind) as caught:
        call("Operation", function, Bucket="b")
    assert type(caught.value) is kind
    assert caught.value.operation == "Operation"
    assert caught.value.__cause__ is raised


def test_what_boto3_returns_is_handed_on() -> None:
    assert call("Operation", lambda **arguments: arguments, Bucket="b") == {"Bucket": "b"}


def test_a_defect_is_not_dressed_up_as_an_error_of_aws() -> None:
    with pytest.raises(TypeError):
        call("Operation", lambda: None, Bucket="b")
