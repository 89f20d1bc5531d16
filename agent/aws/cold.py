"""Plain boto3 calls, their errors as ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.aws.errors import AnswerLost, AwsError, Denied, Refused, Transient, Unreachable, from_answer


def call(operation: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """What `function(**arguments)` of a boto3 client returns. Raises AwsError."""
    from botocore import exceptions

    try:
        return function(**arguments)
    except exceptions.ClientError as error:
        raise _from_client_error(operation, error) from error
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.UnauthorizedSSOTokenError,
        exceptions.ProfileNotFound,
    ) as error:
        raise Denied(operation, type(error).__name__, str(error)) from error
    except exceptions.ConnectionError as error:
        raise Unreachable(operation, type(error).__name__, str(error)) from error
    except (exceptions.HTTPClientError, exceptions.IncompleteReadError) as error:
        raise AnswerLost(operation, type(error).__name__, str(error)) from error
    except exceptions.ParamValidationError as error:
        raise Refused(operation, type(error).__name__, str(error)) from error
    except exceptions.BotoCoreError as error:
        raise Transient(operation, type(error).__name__, str(error)) from error
    except RuntimeError as error:  # botocore's way to say that renewed credentials have expired, too
        raise Denied(operation, type(error).__name__, str(error)) from error


def _from_client_error(operation: str, error: Any) -> AwsError:
    described = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return from_answer(operation, status, str(described.get("Code", "")), str(described.get("Message", "")))
