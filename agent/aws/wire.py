"""The fast path: signed requests whose bodies we made ourselves, over kept-alive connections.

A plain botocore call costs several times the CPU of the request it sends (validation, serialising, user agent,
endpoint rules). Here only the signature is botocore's (SigV4); endpoint, region, credentials, proxies and CA bundle
are found by botocore once, in `agent.aws.session`.
"""

from __future__ import annotations

import hashlib
import http.client
import select
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest

from agent import __version__
from agent.aws.errors import AnswerLost, Denied, Unreachable
from agent.engine.clock import Clock

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
USER_AGENT = f"outlive/{__version__}"
_CONNECT_SECONDS = 5.0
_IDLE_CONNECTIONS = 16  # kept open by one wire
_ANSWER_BYTES = 8 << 20  # bounds the body of an answer
_BLOCK_BYTES = 256 << 10  # of a streamed body, handed to the socket at once
_SKEW_SECONDS = 240.0  # a clock further off than this is corrected; AWS allows 5 minutes

Body = bytes | Callable[[], Iterable[bytes]]
"""A request's body: bytes, or what makes an iterator over its blocks (anew for each try)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach an endpoint, as the standard environment says."""

    url: str
    region: str
    signing_name: str
    ca_bundle: str | None = None
    proxy: str | None = None


class Wire:
    """Sends signed requests to one endpoint; safe to use from several threads at once."""

    def __init__(self, route: Route, credentials: Callable[[], Any], clock: Clock) -> None:
        """`credentials` gives botocore's frozen credentials (or None), fresh each time."""
        self.route = route
        self._credentials = credentials
        self._clock = clock
        self._skew = 0.0
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._parts = urlsplit(route.url)
        self._context: ssl.SSLContext | None = None

    def send(
        self,
        operation: str,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body = b"",
        *,
        digest: str | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """One request, answered. `target` is path and query, already escaped; `digest` the body's SHA-256 in hex.

        `timeout` bounds connecting and each read and write, in seconds. A body made of blocks needs a
        Content-Length header and a digest (or UNSIGNED_PAYLOAD). Raises Denied without credentials, Unreachable,
        AnswerLost; any answer of AWS, also an error, is returned.
        """
        if digest is None:
            digest = hashlib.sha256(body if isinstance(body, bytes) else b"").hexdigest()
        for attempt in (1, 2):
            signed = self._sign(operation, method, target, headers, digest)
            answer = self._exchange(operation, method, target, signed, body, timeout)
            if attempt == 2 or answer.status not in (400, 403) or not self._correct_skew(answer):
                break
        return answer

    def close(self) -> None:
        """Close every connection; a call under way ends in AnswerLost."""
        with self._lock:
            connections = [*self._idle, *self._busy]
            self._idle.clear()
        for connection in connections:
            _sever(connection)

    def _sign(
        self, operation: str, method: str, target: str, headers: Mapping[str, str], digest: str
    ) -> dict[str, str]:
        credentials = self._credentials()
        if credentials is None:
            raise Denied(
                operation, "NoCredentials", "no AWS credentials found: attach an instance profile, or set them"
            )
        request = AWSRequest(method=method, url=self._origin() + target, headers=dict(headers))
        request.headers["Host"] = self._parts.netloc
        request.headers["X-Amz-Content-SHA256"] = digest
        when = datetime.fromtimestamp(self._clock.time() + self._skew, UTC)
        _Signer(credentials, self.route.signing_name, self.route.region).sign(request, when)
        return {**dict(request.headers.items()), "User-Agent": USER_AGENT}

    def _origin(self) -> str:
        return f"{self._parts.scheme}://{self._parts.netloc}"

    def _exchange(
        self, operation: str, method: str, target: str, headers: Mapping[str, str], body: Body, timeout: float
    ) -> Answer:
        connection, fresh = self._connection(operation, timeout)
        try:
            _transmit(connection, method, self._target(target), headers, body)
            response = connection.getresponse()
            answer = Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(_ANSWER_BYTES),
            )
        except (OSError, http.client.HTTPException) as error:
            self._discard(connection)
            where = "a new" if fresh else "a kept"
            raise AnswerLost(operation, type(error).__name__, f"{error} (on {where} connection)") from error
        except BaseException:
            self._discard(connection)
            raise
        self._keep(connection, response)
        return answer

    def _target(self, target: str) -> str:
        """Plain HTTP through a proxy names the whole URL."""
        return self._origin() + target if self.route.proxy and self._parts.scheme == "http" else target

    def _connection(self, operation: str, timeout: float) -> tuple[http.client.HTTPConnection, bool]:
        """An idle connection that the other side has not closed, or a new one."""
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not _is_stale(connection):
                    connection.sock.settimeout(timeout)
                    self._busy.add(connection)
                    return connection, False
                connection.close()
        connection = self._dial(operation, timeout)
        with self._lock:
            self._busy.add(connection)
        return connection, True

    def _dial(self, operation: str, timeout: float) -> http.client.HTTPConnection:
        connection = self._new_connection()
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable(operation, type(error).__name__, f"{self.route.url}: {error}") from error
        connection.sock.settimeout(timeout)
        return connection

    def _new_connection(self) -> http.client.HTTPConnection:
        proxy = urlsplit(self.route.proxy) if self.route.proxy else None
        near = proxy or self._parts
        host, port = near.hostname or "", near.port
        if self._parts.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=_CONNECT_SECONDS, blocksize=_BLOCK_BYTES)
        if self._context is None:
            self._context = ssl.create_default_context(cafile=self.route.ca_bundle)
        secure = http.client.HTTPSConnection(
            host, port, timeout=_CONNECT_SECONDS, context=self._context, blocksize=_BLOCK_BYTES
        )
        if proxy is not None:
            secure.set_tunnel(self._parts.hostname or "", self._parts.port or 443, headers=_proxy_headers(proxy))
        return secure

    def _keep(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        with self._lock:
            self._busy.discard(connection)
            if response.isclosed() and connection.sock is not None and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _discard(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
        connection.close()

    def _correct_skew(self, answer: Answer) -> bool:
        """Take over AWS's time if ours is off by more than AWS allows; True if it was."""
        try:
            theirs = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
        except ValueError:
            return False
        skew = theirs - self._clock.time()
        corrected = abs(skew - self._skew) > _SKEW_SECONDS
        if corrected:
            self._skew = skew
        return corrected


class _Signer(SigV4Auth):
    """SigV4 at a time of our choosing, the path taken as it is (S3 signs the escaped path once)."""

    def sign(self, request: AWSRequest, when: datetime) -> None:
        request.context["timestamp"] = when.strftime(SIGV4_TIMESTAMP)
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]
        string = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(string, request))  # type: ignore[attr-defined]

    def _normalize_url_path(self, path: str) -> str:
        return path or "/"


def _transmit(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: Body
) -> None:
    """Send the request; if the other side stops listening in the middle, its answer may still say why."""
    try:
        connection.request(method, target, body if isinstance(body, bytes) else body(), headers)
    except (BrokenPipeError, ConnectionResetError):
        if connection.sock is None or not select.select([connection.sock], [], [], 0.5)[0]:
            raise


def _is_stale(connection: http.client.HTTPConnection) -> bool:
    """An idle connection with something to read was closed, or speaks out of turn."""
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


def _sever(connection: http.client.HTTPConnection) -> None:
    import socket

    sock = connection.sock
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _proxy_headers(proxy: Any) -> dict[str, str]:
    if not proxy.username:
        return {}
    from base64 import b64encode
    from urllib.parse import unquote

    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": "Basic " + b64encode(pair).decode("ascii")}
