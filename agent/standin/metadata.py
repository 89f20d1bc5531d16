"""Instance metadata, version 2: session tokens, the tree of values, the role's credentials.

docs.aws.amazon.com/AWSEC2/latest/UserGuide: configuring-instance-metadata-service, instancedata-data-categories,
instance-identity-documents, spot-instance-termination-notices.
"""

import base64
import hashlib
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson

from agent.standin.errors import ApiError
from agent.standin.faults import METADATA
from agent.standin.keys import Key, KeyRing
from agent.standin.lifecycle import Lifecycle
from agent.standin.message import Request, Response

TOKEN_TTLS = range(1, 21_601)  # seconds
MAX_TOKENS = 10_000  # session tokens remembered; the oldest are forgotten first
ROTATE = 300.0  # seconds before their end when the role's credentials are replaced
ROLE = "stand-in"
_VERSION = re.compile(r"/(latest|\d{4}-\d\d-\d\d)/(.*)")
_TOKEN_HEADER = "x-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_TTL_HEADER = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
_CREDENTIALS = f"meta-data/iam/security-credentials/{ROLE}"
_TARGET_STATE = "meta-data/autoscaling/target-lifecycle-state"
_TAGS = "meta-data/tags/instance/"
_IDENTITY = "dynamic/instance-identity/"

Value = str | int | None
"""What a path answers: a text with status 200 (also an empty one), a bare status, or 404 for None."""


class Metadata:
    """The service at 169.254.169.254. Paths are written without /latest/: "meta-data/spot/instance-action"."""

    name = METADATA
    throttled = ApiError("", code="503", status=503)

    def __init__(
        self,
        clock: Callable[[], float],
        keys: KeyRing,
        lifecycle: Lifecycle,
        *,
        instance_id: str,
        region: str,
        account_id: str,
    ) -> None:
        self._clock = clock
        self._keys = keys
        self._lifecycle = lifecycle
        self._lock = threading.Lock()
        self._tokens: dict[str, float] = {}
        self._overrides: dict[str, Value] = {}
        self._key: Key | None = None
        self._signing_clock = keys.clock
        self._region = region
        self._account_id = account_id
        self.instance_id = instance_id
        self.enabled = True
        self.credentials_lifetime = 21_600.0  # seconds
        self.pending_time = clock()
        self._base = _tree(instance_id, region)

    # setting it up

    def set(self, path: str, value: Value) -> None:
        """Let a path answer something else; an override wins over everything."""
        with self._lock:
            self._overrides[path.strip("/")] = value

    def unset(self, path: str) -> None:
        """Take an override away."""
        with self._lock:
            self._overrides.pop(path.strip("/"), None)

    def set_tags(self, tags: dict[str, str]) -> None:
        """Instance tags in metadata, switched on for this instance."""
        for name, value in tags.items():
            self.set(_TAGS + name, value)

    def tags(self) -> dict[str, str]:
        with self._lock:
            found = {p: v for p, v in self._overrides.items() if p.startswith(_TAGS)}
        return {path.removeprefix(_TAGS): value for path, value in found.items() if isinstance(value, str)}

    def spot_notice(self, action: str, at: float) -> None:
        """An interruption notice: `action` (terminate, stop, hibernate) comes at `at` (seconds since the epoch)."""
        when = _time(at)
        self.set("meta-data/instance-life-cycle", "spot")
        self.set("meta-data/spot/instance-action", orjson.dumps({"action": action, "time": when}).decode())
        if action == "terminate":
            self.set("meta-data/spot/termination-time", when)

    def restart(self) -> None:
        """A stop and start: session tokens are gone, and the pending time is new."""
        with self._lock:
            self._tokens.clear()
            self.pending_time = self._clock()

    def expire_credentials(self) -> None:
        """The role's credentials are of no use any more; the next request for them gets new ones."""
        self._keys.revoke_temporary()
        with self._lock:
            self._key = None

    def clear(self) -> None:
        with self._lock:
            self._overrides.clear()
            self._tokens.clear()
            self._key = None
            self.pending_time = self._clock()
        self.enabled = True
        self.credentials_lifetime = 21_600.0

    def as_json(self) -> dict[str, Value]:
        """The overrides in force."""
        with self._lock:
            return dict(self._overrides)

    # answering

    @staticmethod
    def operation(request: Request) -> str:
        """The path below the version: what faults and the journal call it."""
        match = _VERSION.fullmatch(request.path)
        return match[2].strip("/") if match else request.path

    def handle(self, request: Request, operation: str) -> Response:
        if not self.enabled:
            return _error(403)
        if operation == "api/token":
            return self._issue_token(request)
        if request.method != "GET":
            return _error(405)
        if not self._knows(request.headers.get(_TOKEN_HEADER)):
            return _error(401)
        return self._answer(operation)

    @staticmethod
    def refuse(error: ApiError) -> Response:
        return _error(error.status)

    def _issue_token(self, request: Request) -> Response:
        if request.method != "PUT":
            return _error(405)
        if not request.path.startswith("/latest/") or "x-forwarded-for" in request.headers:
            return _error(403)
        ttl = request.headers.get(_TTL_HEADER.lower(), "")
        if not ttl.isdecimal() or int(ttl) not in TOKEN_TTLS:
            return _error(400)
        token = secrets.token_urlsafe(40)
        with self._lock:
            self._tokens[token] = self._clock() + int(ttl)
            if len(self._tokens) > MAX_TOKENS:
                del self._tokens[next(iter(self._tokens))]
        return _text(token, {_TTL_HEADER: ttl})

    def _knows(self, token: str | None) -> bool:
        with self._lock:
            return token is not None and self._tokens.get(token, 0.0) > self._clock()

    def _answer(self, path: str) -> Response:
        values = self._values()
        found = values[path] if path in values else _listing(values, path)
        value = found() if callable(found) else found
        if value is None:
            return _error(404)
        return _error(value) if isinstance(value, int) else _text(value)

    def _values(self) -> dict[str, Value | Callable[[], str]]:
        instance = self._lifecycle.instance(self.instance_id)
        target = {_TARGET_STATE: instance.target} if instance else {}
        live = {
            _CREDENTIALS: self._credentials,
            f"{_IDENTITY}document": self._identity,
            **{f"{_IDENTITY}{form}": self._identity_signature for form in ("signature", "pkcs7", "rsa2048")},
        }
        with self._lock:
            return {**self._base, **target, **live, **self._overrides}

    def _identity(self) -> str:
        return _identity_document(self._base, self._region, self._account_id, self.pending_time)

    def _identity_signature(self) -> str:
        """Of the right shape (lines of base64), made without AWS's key."""
        return base64.encodebytes(hashlib.sha512(self._identity().encode()).digest()).decode().strip()

    def _credentials(self) -> str:
        with self._lock:
            key = self._key
            if key is None or (key.expires or 0.0) - self._signing_clock() < ROTATE:
                arn = f"arn:aws:sts::{self._account_id}:assumed-role/{ROLE}/{self.instance_id}"
                key = self._key = self._keys.issue(arn, self.credentials_lifetime)
        return _credentials_document(key, self._signing_clock())


def _tree(instance_id: str, region: str) -> dict[str, Value]:
    values = {
        "ami-id": "ami-0123456789abcdef0",
        "events/maintenance/history": "[]",
        "events/maintenance/scheduled": "[]",
        "hostname": f"ip-10-0-0-10.{region}.compute.internal",
        "instance-action": "none",
        "instance-id": instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": "m6i.large",
        "local-hostname": f"ip-10-0-0-10.{region}.compute.internal",
        "local-ipv4": "10.0.0.10",
        "placement/availability-zone": f"{region}a",
        "placement/region": region,
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
    }
    return {f"meta-data/{path}": value for path, value in values.items()}


def _listing(values: Mapping[str, object], path: str) -> str | None:
    """The names below a directory, directories with a slash; None if there is no such directory."""
    prefix = f"{path}/" if path else ""
    below = [p.removeprefix(prefix) for p, value in values.items() if p.startswith(prefix) and value is not None]
    names = {name if not slash else f"{name}/" for name, slash, _ in (p.partition("/") for p in below)}
    return "\n".join(sorted(names)) or None


def _identity_document(base: dict[str, Value], region: str, account_id: str, pending_time: float) -> str:
    document = {
        "accountId": account_id,
        "architecture": "x86_64",
        "availabilityZone": base["meta-data/placement/availability-zone"],
        "imageId": base["meta-data/ami-id"],
        "instanceId": base["meta-data/instance-id"],
        "instanceType": base["meta-data/instance-type"],
        "pendingTime": _time(pending_time),
        "privateIp": base["meta-data/local-ipv4"],
        "region": region,
        "version": "2017-09-30",
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def _credentials_document(key: Key, now: float) -> str:
    document = {
        "Code": "Success",
        "LastUpdated": _time(now),
        "Type": "AWS-HMAC",
        "AccessKeyId": key.access_key,
        "SecretAccessKey": key.secret_key,
        "Token": key.token,
        "Expiration": _time(key.expires or now),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def _text(text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(200, text.encode(), {"Content-Type": "text/plain", "Server": "EC2ws", **(headers or {})})


def _error(status: int) -> Response:
    body = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>".encode()
    return Response(status, body, {"Content-Type": "text/html", "Server": "EC2ws"}, error=str(status))


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
