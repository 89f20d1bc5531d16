"""Signature Version 4, the service's side: what a request must carry, and whether its secret is ours.

Written from AWS's specification, "AWS Signature Version 4 for API requests" in the IAM User Guide
(docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html), and for S3 from
"Authenticating Requests: Using the Authorization Header" in the S3 API Reference.
"""

import functools
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote, unquote_to_bytes

from agent.standin.keys import Key, KeyRing
from agent.standin.message import Request

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = 300.0  # seconds that a request's date may be off
SKEW_S3 = 900.0  # the same for S3
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
UNRESERVED = "-_.~"  # beside letters and digits, what URI encoding leaves alone
_SPACES = re.compile(" +")


class SignatureError(Exception):
    """The request is not authentic; each service has its own code for each kind."""


class MissingAuthenticationError(SignatureError):
    """No Authorization header: the client has no credentials."""


class IncompleteSignatureError(SignatureError):
    """The Authorization header or the date is malformed: look at the client's signer."""


class UnknownKeyError(SignatureError):
    """The access key is not one of ours: use the credentials that the stand-in gives out."""


class InvalidTokenError(SignatureError):
    """The session token is missing, or not the one that was issued with the key."""


class ExpiredTokenError(SignatureError):
    """The temporary key has expired: fetch new credentials."""


class WrongSignatureError(SignatureError):
    """Another secret, or the request changed after it was signed."""


class SkewedError(SignatureError):
    """The request's date is too far from the service's: correct the clock."""


class UnsignedHeaderError(SignatureError):
    """A header that must be signed was left out of the signature."""


class WrongScopeError(SignatureError):
    """The credential scope names another region, or its date is not the request's."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """The parts of an Authorization header: key, scope, the names of the signed headers, signature."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def parse_authorization(header: str | None) -> Authorization:
    """Raises MissingAuthenticationError or IncompleteSignatureError."""
    if not header:
        raise MissingAuthenticationError("Missing Authentication Token")
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise IncompleteSignatureError(f"Unsupported signature algorithm {algorithm!r}")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parts.get(name):
            raise IncompleteSignatureError(f"Authorization header requires {name!r} parameter.")
    access_key, *scope = parts["Credential"].split("/")
    if len(scope) != 4 or scope[3] != "aws4_request":
        raise IncompleteSignatureError(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term"
        )
    date, region, service, _ = scope
    signed = tuple(parts["SignedHeaders"].split(";"))
    return Authorization(access_key, date, region, service, signed, parts["Signature"])


class Verifier:
    """Says whose request it is, or raises a SignatureError."""

    def __init__(self, keys: KeyRing, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock

    def verify(self, request: Request, payload_hash: str, *, region: str | None = None) -> Key:
        """`payload_hash` is the hex SHA-256 of the body, or S3's word for a body that is not signed.

        With `region`, the scope must name it.
        """
        authorization = parse_authorization(request.headers.get("authorization"))
        stamp = self._fresh_date(request, authorization)
        if region is not None and authorization.region != region:
            raise WrongScopeError(f"Credential should be scoped to a valid region, not '{authorization.region}'.")
        key = self._key(request, authorization)
        _require_signed(request, authorization)
        if not hmac.compare_digest(
            _signature(request, authorization, stamp, payload_hash, key), authorization.signature
        ):
            raise WrongSignatureError(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method."
            )
        return key

    def _fresh_date(self, request: Request, authorization: Authorization) -> str:
        stamp = request.headers.get("x-amz-date", "")
        signed_at = _parse_stamp(stamp)
        if not stamp.startswith(authorization.date):
            raise WrongScopeError(
                f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: {stamp}"
            )
        now = self._clock()
        allowed = SKEW_S3 if authorization.service == "s3" else SKEW
        if abs(now - signed_at) > allowed:
            raise SkewedError(_skew_message(stamp, signed_at, now, allowed))
        return stamp

    def _key(self, request: Request, authorization: Authorization) -> Key:
        key = self._keys.find(authorization.access_key)
        if key is None:
            raise UnknownKeyError("The security token included in the request is invalid.")
        if request.headers.get("x-amz-security-token") != key.token:
            raise InvalidTokenError("The security token included in the request is invalid.")
        if key.expires is not None and key.expires <= self._clock():
            raise ExpiredTokenError("The security token included in the request is expired")
        return key


def _parse_stamp(stamp: str) -> float:
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise IncompleteSignatureError(
            f"Date must be in ISO-8601 'basic format'. Got '{stamp}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ) from error


def _skew_message(stamp: str, signed_at: float, now: float, allowed: float) -> str:
    limit = now - allowed if signed_at < now else now + allowed
    what, relation = ("expired", "earlier") if signed_at < now else ("not yet current", "later")
    bound, current = (datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ") for at in (limit, now))
    sign = "-" if signed_at < now else "+"
    return f"Signature {what}: {stamp} is still {relation} than {bound} ({current} {sign} {allowed / 60:.0f} min.)"


def _require_signed(request: Request, authorization: Authorization) -> None:
    """The host, the payload hash of S3, and every x-amz-* header that is there must be under the signature."""
    signed = set(authorization.signed_headers)
    needed = {"host", *(name for name in request.headers if name.startswith("x-amz-"))}
    if missing := sorted(needed - signed):
        raise UnsignedHeaderError(
            f"There were headers present in the request which were not signed: {', '.join(missing)}"
        )
    if absent := sorted(signed - request.headers.keys()):
        raise WrongSignatureError(f"Signed headers are not in the request: {', '.join(absent)}")


def _signature(request: Request, authorization: Authorization, stamp: str, payload_hash: str, key: Key) -> str:
    canonical = canonical_request(request, authorization, payload_hash).encode("latin-1")
    to_sign = "\n".join((ALGORITHM, stamp, authorization.scope, hashlib.sha256(canonical).hexdigest()))
    signing_key = _signing_key(key.secret_key, authorization.date, authorization.region, authorization.service)
    return hmac.digest(signing_key, to_sign.encode(), "sha256").hex()


def canonical_request(request: Request, authorization: Authorization, payload_hash: str) -> str:
    """The request in the one form that both sides sign.

    S3 encodes a path once; the other services encode the encoded path again.
    """
    path = quote(unquote_to_bytes(request.path), safe=f"/{UNRESERVED}")
    if authorization.service != "s3":
        path = quote(path, safe=f"/{UNRESERVED}")
    names = authorization.signed_headers
    headers = "".join(f"{name}:{_SPACES.sub(' ', request.headers[name])}\n" for name in names)
    query = _canonical_query(request.raw_query)
    return "\n".join((request.method, path, query, headers, ";".join(names), payload_hash))


def _canonical_query(raw: str) -> str:
    pairs = (pair.partition("=") for pair in raw.split("&") if pair)
    return "&".join(f"{name}={value}" for name, value in sorted((_again(n), _again(v)) for n, _, v in pairs))


def _again(text: str) -> str:
    return quote(unquote(text), safe=UNRESERVED)


@functools.lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
