"""The fast path: signed requests whose bodies we made ourselves, over kept-alive connections.

A plain botocore call costs several times the CPU of the request it sends (validation, serialising, user agent,
endpoint rules). Here only the signature is botocore's (SigV4); endpoint, region, credentials, proxies and CA bundle
are found by botocore once, in `agent.aws.session`.
"""

from __future__ import annotations

import hashlib
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest

from agent import __version__
from agent.aws.answers import read_whole
from agent.aws.errors import AnswerLost, Denied, Unreachable
from agent.engine.clock import Clock

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
USER_AGENT = f"outlive/{__version__}"
_CONNECT_SECONDS = 5.0
_IDLE_CONNECTIONS = 16  # kept open by one wire
_IDLE_SECONDS = (
    60.0  # that one is kept unused: NAT gateways forget it after 350 s and say so only to the next request
)
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
        self._idle: dict[http.client.HTTPConnection, float] = {}  # since when, oldest first
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False
        self._parts = urlsplit(route.url)
        self._proxy = _parse_proxy(route.proxy)
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
        AnswerLost, and what making the blocks raises; any answer of AWS, also an error, is returned.
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
        """Close every connection, for good: a call under way ends in AnswerLost, a later one in Unreachable."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
            busy = list(self._busy)
        for connection in idle:
            connection.close()
        for connection in busy:
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
            _transmit(connection, method, self._target(target), {**headers, **self._plain_proxy()}, body)
            response = connection.getresponse()
            answer = Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                read_whole(response, _ANSWER_BYTES),
            )
        except (OSError, http.client.HTTPException) as error:
            self._discard(connection)
            where = "a new" if fresh else "a kept"
            raise AnswerLost(operation, type(error).__name__, f"{error} (on {where} connection)") from error
        except _SourceFailed as failed:
            self._discard(connection)
            raise failed.error from None
        except BaseException:
            self._discard(connection)
            raise
        self._keep(connection)
        return answer

    def _target(self, target: str) -> str:
        """Plain HTTP through a proxy names the whole URL."""
        return self._origin() + target if self._proxy and self._parts.scheme == "http" else target

    def _plain_proxy(self) -> dict[str, str]:
        """What plain HTTP through a proxy says to the proxy itself; it is no part of what is signed."""
        return _proxy_headers(self._proxy) if self._proxy and self._parts.scheme == "http" else {}

    def _connection(self, operation: str, timeout: float) -> tuple[http.client.HTTPConnection, bool]:
        """An idle connection that the other side has not closed, or a new one."""
        with self._lock:
            while self._idle:
                connection, since = self._idle.popitem()
                if self._clock.monotonic() - since < _IDLE_SECONDS and not _is_stale(connection):
                    connection.sock.settimeout(timeout)
                    self._busy.add(connection)
                    return connection, False
                connection.close()
        connection = self._dial(operation, timeout)
        with self._lock:
            if not self._closed:
                self._busy.add(connection)
                return connection, True
        connection.close()
        raise Unreachable(operation, "Closed", "the agent is ending")

    def _dial(self, operation: str, timeout: float) -> http.client.HTTPConnection:
        connection = self._new_connection(operation, min(timeout, _CONNECT_SECONDS))
        try:
            connection.connect()
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # UnicodeError: no name of a host
            connection.close()
            raise Unreachable(operation, type(error).__name__, f"{self.route.url}: {error}") from error
        connection.sock.settimeout(timeout)
        return connection

    def _new_connection(self, operation: str, timeout: float) -> http.client.HTTPConnection:
        host, port = self._near(operation)
        if self._parts.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=timeout, blocksize=_BLOCK_BYTES)
        context = self._tls(operation)
        secure = http.client.HTTPSConnection(host, port, timeout=timeout, context=context, blocksize=_BLOCK_BYTES)
        if self._proxy is not None:
            headers = _proxy_headers(self._proxy)
            secure.set_tunnel(self._parts.hostname or "", self._parts.port or 443, headers=headers)
        return secure

    def _near(self, operation: str) -> tuple[str, int | None]:
        """Where to connect to: the proxy, or the endpoint itself (None: its scheme's own port)."""
        try:
            if self._proxy is None:
                return self._parts.hostname or "", self._parts.port
            if self._proxy.scheme == "http" and self._proxy.hostname:
                return self._proxy.hostname, self._proxy.port or 80
        except ValueError as error:
            raise Unreachable(operation, "InvalidPort", str(error)) from error
        raise Unreachable(operation, "InvalidProxy", "HTTPS_PROXY must be http://[user:password@]host[:port]")

    def _tls(self, operation: str) -> ssl.SSLContext:
        if self._context is None:
            bundle = self.route.ca_bundle
            try:
                self._context = ssl.create_default_context(cafile=bundle)
            except OSError as error:
                raise Unreachable(operation, type(error).__name__, f"AWS_CA_BUNDLE {bundle}: {error}") from error
        return self._context

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
            if connection.sock is not None and not self._closed and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle[connection] = self._clock.monotonic()
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


class _SourceFailed(Exception):
    """A block of a body could not be made, which is no failure of the connection."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _transmit(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: Body
) -> None:
    """Send the request; if the other side stops listening in the middle, its answer may still say why."""
    try:
        connection.request(method, target, body if isinstance(body, bytes) else _blocks(body), headers)
    except (BrokenPipeError, ConnectionResetError):
        if connection.sock is None or not _is_readable(connection.sock, 0.5):
            raise


def _blocks(body: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
    try:
        yield from body()
    except OSError as error:
        raise _SourceFailed(error) from error


def _is_stale(connection: http.client.HTTPConnection) -> bool:
    """An idle connection with something to read was closed, or speaks out of turn."""
    return connection.sock is None or _is_readable(connection.sock, 0.0)


def _is_readable(sock: socket.socket, seconds: float) -> bool:
    """By poll(2): select(2) knows only the first 1024 descriptors, and logs may hold thousands open."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _sever(connection: http.client.HTTPConnection) -> None:
    """End a connection under its user's hands. Not by SSLSocket.shutdown, which would go on in plain text."""
    sock = connection.sock
    if sock is not None:
        try:
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            return


def _parse_proxy(proxy: str | None) -> SplitResult | None:
    """A proxy may be written without its scheme, as host:port."""
    if not proxy:
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    from base64 import b64encode
    from urllib.parse import unquote

    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": "Basic " + b64encode(pair).decode("ascii")}
