"""Security Token Service: who am I, and a role's temporary credentials.

docs.aws.amazon.com/STS/latest/APIReference
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from agent.standin.errors import ApiError
from agent.standin.keys import Key, KeyRing
from agent.standin.query_protocol import Form, Operation, Result

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
DURATIONS = range(900, 43_201)  # seconds that a role's session may last
DEFAULT_DURATION = 3600  # seconds
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/(?:.*/)?([\w+=,.@-]{1,64})")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}")


class ValidationError(ApiError):
    """A parameter is missing or malformed."""

    code = "ValidationError"
    status = 400


class Sts:
    """The service's operations; `external_ids` names what a role wants to hear, by role ARN."""

    def __init__(self, keys: KeyRing, account_id: str) -> None:
        self._keys = keys
        self._account_id = account_id
        self.external_ids: dict[str, str] = {}

    def operations(self) -> Mapping[str, Operation]:
        return {"GetCallerIdentity": self._identity, "AssumeRole": self._assume}

    def _identity(self, _form: Form, key: Key) -> Result:
        return {"Arn": key.arn, "UserId": key.access_key, "Account": self._account_id}

    def _assume(self, form: Form, key: Key) -> Result:
        arn = form.get("RoleArn", "")
        role, name = _ROLE.fullmatch(arn), form.get("RoleSessionName", "")
        if role is None:
            raise ValidationError(f"{arn or 'null'} is invalid")
        if not _SESSION_NAME.fullmatch(name):
            raise ValidationError(f"RoleSessionName must satisfy {_SESSION_NAME.pattern}")
        if self.external_ids.get(arn, form.get("ExternalId")) != form.get("ExternalId"):
            raise ApiError(
                f"User: {key.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}",
                code="AccessDenied",
                status=403,
            )
        session = f"arn:aws:sts::{role[1]}:assumed-role/{role[2]}/{name}"
        issued = self._keys.issue(session, _duration(form))
        return {
            "Credentials": _credentials(issued),
            "AssumedRoleUser": {"AssumedRoleId": f"{issued.access_key}:{name}", "Arn": session},
        }


def _duration(form: Form) -> float:
    text = form.get("DurationSeconds", str(DEFAULT_DURATION))
    if not text.isdecimal() or int(text) not in DURATIONS:
        raise ValidationError(f"DurationSeconds must be between {DURATIONS.start} and {DURATIONS.stop - 1}")
    return float(text)


def _credentials(key: Key) -> Mapping[str, str]:
    assert key.token is not None
    assert key.expires is not None
    return {
        "AccessKeyId": key.access_key,
        "SecretAccessKey": key.secret_key,
        "SessionToken": key.token,
        "Expiration": datetime.fromtimestamp(key.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
