"""The fast path: signed requests whose bodies we made ourselves, over kept-alive connections.

A plain botocore call costs several times the CPU of the request it sends (validation, serialising, user agent,
endpoint rules, http.client). Here signature and HTTP are ours; endpoint, region, credentials, proxies and CA bundle
are found by botocore once, in `agent.aws.session`.
"""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from agent import __version__
from agent.aws.errors import AnswerLost, Denied, Unreachable
from agent.aws.http1 import Answer, BadAnswer, Body, Connection, SourceFailed, request_head
from agent.aws.signature import Signer
from agent.engine.clock import Clock

__all__ = ["UNSIGNED_PAYLOAD", "USER_AGENT", "Answer", "Body", "KeptConnectionClosed", "Route", "Wire"]

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
USER_AGENT = f"outlive/{__version__}"
_OURS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
_EMPTY = hashlib.sha256(b"").hexdigest()
_CONNECT_SECONDS = 5.0
_IDLE_CONNECTIONS = 16  # kept open by one wire
_IDLE_SECONDS = (
    60.0  # that one is kept unused: NAT gateways forget it after 350 s and say so only to the next request
)
_SKEW_SECONDS = 240.0  # a clock further off than this is corrected; AWS allows 5 minutes
_PORTS = {"http": 80, "https": 443}


class KeptConnectionClosed(AnswerLost):
    """A kept connection ended before a byte of the answer: most likely it was closed before the request came."""


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
        self._idle: dict[Connection, float] = {}  # since when, oldest first
        self._busy: set[Connection] = set()
        self._closed = False
        self._parts = urlsplit(route.url)
        self._signer = Signer(route.signing_name, route.region, self._parts.netloc)
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
            digest = hashlib.sha256(body).hexdigest() if isinstance(body, bytes) and body else _EMPTY
        for attempt in (1, 2):
            head = self._head(operation, method, target, headers, body, digest)
            answer = self._exchange(operation, method, head, body, timeout)
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
            connection.sever()

    def _head(
        self, operation: str, method: str, target: str, headers: Mapping[str, str], body: Body, digest: str
    ) -> bytes:
        """The request's head, signed; what is added after that is no part of what is signed."""
        credentials = self._credentials()
        if credentials is None:
            raise Denied(
                operation, "NoCredentials", "no AWS credentials found: attach an instance profile, or set them"
            )
        when = self._clock.time() + self._skew
        signed = {**headers, **self._signer.sign(method, target, headers, digest, credentials, when), **_OURS}
        if isinstance(body, bytes) and (body or method in ("PUT", "POST")):
            signed.setdefault("Content-Length", str(len(body)))
        if self._proxy and self._parts.scheme == "http":  # plain HTTP through a proxy names the whole URL
            signed.update(_proxy_headers(self._proxy))
            target = self._origin() + target
        return request_head(method, target, signed)

    def _origin(self) -> str:
        return f"{self._parts.scheme}://{self._parts.netloc}"

    def _exchange(self, operation: str, method: str, head: bytes, body: Body, timeout: float) -> Answer:
        connection, fresh = self._connection(operation, timeout)
        try:
            connection.send(head, body)
            answer = connection.receive(method)
        except (OSError, BadAnswer) as error:
            self._discard(connection)
            raise _lost(operation, error, fresh=fresh) from error
        except SourceFailed as failed:
            self._discard(connection)
            raise failed.error from None
        except BaseException:
            self._discard(connection)
            raise
        self._keep(connection)
        return answer

    def _connection(self, operation: str, timeout: float) -> tuple[Connection, bool]:
        """An idle connection that the other side has not closed, or a new one."""
        with self._lock:
            while self._idle:
                connection, since = self._idle.popitem()
                if self._clock.monotonic() - since < _IDLE_SECONDS and not connection.is_stale():
                    connection.limit(timeout)
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

    def _dial(self, operation: str, timeout: float) -> Connection:
        near = self._near(operation)
        context = self._tls(operation) if self._parts.scheme == "https" else None
        try:
            connection = Connection.dial(*near, min(timeout, _CONNECT_SECONDS))
            try:
                if context is not None:
                    connection = self._secure(connection, context)
            except BaseException:
                connection.close()
                raise
        except (OSError, BadAnswer, UnicodeError) as error:  # UnicodeError: no name of a host
            raise Unreachable(operation, type(error).__name__, f"{self.route.url}: {error}") from error
        connection.limit(timeout)
        return connection

    def _secure(self, connection: Connection, context: ssl.SSLContext) -> Connection:
        """TLS from here to the endpoint, through the proxy if there is one."""
        host = self._parts.hostname or ""
        if self._proxy is not None:
            end = f"[{host}]" if ":" in host else host
            end = f"{end}:{self._parts.port or _PORTS['https']}"
            connection.tunnel(request_head("CONNECT", end, {"Host": end, **_proxy_headers(self._proxy)}))
        return connection.secure(context, host)

    def _near(self, operation: str) -> tuple[str, int]:
        """Where to connect to: the proxy, or the endpoint itself."""
        try:
            if self._proxy is None:
                return self._parts.hostname or "", self._parts.port or _PORTS.get(self._parts.scheme, 80)
            if self._proxy.scheme == "http" and self._proxy.hostname:
                return self._proxy.hostname, self._proxy.port or _PORTS["http"]
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

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            self._busy.discard(connection)
            if connection.reusable and not self._closed and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle[connection] = self._clock.monotonic()
                return
        connection.close()

    def _discard(self, connection: Connection) -> None:
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


def _lost(operation: str, error: Exception, *, fresh: bool) -> AnswerLost:
    """What it means that a request got no answer; on a kept connection, perhaps that nobody was there any more."""
    kind = KeptConnectionClosed if not fresh and isinstance(error, ConnectionError) else AnswerLost
    return kind(operation, type(error).__name__, f"{error} (on {'a new' if fresh else 'a kept'} connection)")


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
