"""The control socket: the running agent answers `status`, `drain` and the like to its own user and to root.

One request a connection: a line of JSON `{"command": ..., ...}`, answered by a line of JSON.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson

from agent.engine.events import Events

SOCKET_NAME = "control.sock"
_REQUEST_BYTES = 64 << 10  # a request's size
_ANSWER_BYTES = 64 << 20  # an answer's size, as a client takes it: a status of 10,000 files is a few MB
_PEER_SECONDS = 2.0  # for a peer to send its whole request, and again to take its answer
_BACKLOG = 16
_PEERCRED = struct.Struct("3i")
_STRANGER = "not allowed"

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ControlError(Exception):
    """The running agent could not be asked, or refused.

    ControlError
    ├── NotRunning   nobody listens at the socket: start the agent (systemctl start outlive), or check -c and run_dir
    ├── NoAnswer     the agent listens, and says nothing that makes sense in time: look at its log
    ├── NotAllowed   the socket belongs to another user: use sudo
    └── BadRequest   the agent does not do that: see the message
    """


class NotRunning(ControlError):
    """No agent listens."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no agent answers at {path}: is it running? (systemctl status outlive)")


class NoAnswer(ControlError):
    """The agent took the request and did not answer it."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"{path}: the agent is there but gave no answer ({why}); see its log (journalctl -u outlive)"
        )


class NotAllowed(ControlError):
    """This user may not ask."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: not allowed: ask as root or as the agent's user (sudo)")


class BadRequest(ControlError):
    """The agent refused the request."""


class ControlServer:
    """Answers at a Unix socket, one peer at a time; a worker for a thread of its own."""

    name = "control"

    def __init__(
        self, path: str, handlers: Mapping[str, Handler], events: Events, *, peer_seconds: float = _PEER_SECONDS
    ) -> None:
        """Bind the socket, mode 0600. Raises OSError; EADDRINUSE where another agent listens at `path`."""
        self.path = path
        self._handlers = handlers
        self._events = events
        self._peer_seconds = peer_seconds
        self._closed = False
        self._socket = _listen(path)
        self._identity = _identity(path)

    def step(self, now: float) -> float | None:
        """Wait for one peer and answer it; None once the server is closed. The one step that waits outside."""
        try:
            peer, _ = self._socket.accept()
        except OSError:
            if self._closed:
                return None
            raise  # out of descriptors: the thread tries again after a backoff
        with peer:
            self._serve(peer)
        return now

    def close(self) -> None:
        """Stop listening; a `step` that waits comes back. The socket's file goes, unless it is another's by now."""
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):  # not connected: nobody waits
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if _identity(self.path) == self._identity:
            os.unlink(self.path)

    def _serve(self, peer: socket.socket) -> None:
        try:
            answer = _encode(self._answer(peer))
            peer.settimeout(self._peer_seconds)
            peer.sendall(answer)
        except OSError as error:
            self._events.say("debug", "control_peer_left", error=str(error))

    def _answer(self, peer: socket.socket) -> Mapping[str, Any]:
        if not _allowed(peer):
            return {"error": _STRANGER}
        try:
            request = orjson.loads(_read_line(peer, _REQUEST_BYTES, self._peer_seconds))
            handler = self._handlers[request["command"]]
        except (ValueError, KeyError, TypeError):
            return {"error": "no such command"}
        try:
            return handler(request)
        except BadRequest as error:
            return {"error": str(error)}


def ask(path: str, command: str, timeout: float = 5.0, **fields: Any) -> dict[str, Any]:
    """The running agent's answer. `timeout` is seconds, for all of it. Raises ControlError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(timeout)
        _connect(sock, path)
        answer = _converse(sock, path, _encode({"command": command, **fields}), timeout)
    if answer == {"error": _STRANGER}:
        raise NotAllowed(path)
    if set(answer) == {"error"}:
        raise BadRequest(answer["error"])
    return answer


def _connect(sock: socket.socket, path: str) -> None:
    try:
        sock.connect(path)
    except PermissionError:
        raise NotAllowed(path) from None
    except OSError:
        raise NotRunning(path) from None


def _converse(sock: socket.socket, path: str, request: bytes, timeout: float) -> dict[str, Any]:
    """Send the request, read the answer. One that is refused unread is answered all the same."""
    try:
        with suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(request)
        answer = orjson.loads(_read_line(sock, _ANSWER_BYTES, timeout))
    except (OSError, ValueError) as error:
        raise NoAnswer(path, str(error)) from None
    if not isinstance(answer, dict):
        raise NoAnswer(path, "no JSON object")
    return answer


def _listen(path: str) -> socket.socket:
    """A listening socket at `path`, open to this user alone from its first moment."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    _make_room(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _make_room(path: str) -> None:
    """Take away what an agent that was killed has left; a file of another kind, or one in use, is not ours."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(errno.EEXIST, "is in the place of the control socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(_PEER_SECONDS)
        if sock.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "another agent listens here; give each a run_dir of its own", path)
    os.unlink(path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _allowed(peer: socket.socket) -> bool:
    """Root and the agent's own user only (SO_PEERCRED, unix(7))."""
    _pid, uid, _gid = _PEERCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    return uid in (0, os.geteuid())


def _read_line(sock: socket.socket, limit: int, seconds: float) -> bytes:
    """The first line that the other side sends. Raises TimeoutError unless it is whole within so many seconds."""
    until = time.monotonic() + seconds
    line = bytearray()
    while len(line) <= limit:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(left)
        part = sock.recv(1 << 16)
        line += part
        if not part or b"\n" in part:
            return bytes(line.partition(b"\n")[0])
    raise ValueError("longer than allowed")


def _encode(document: Mapping[str, Any]) -> bytes:
    """A line of JSON. A file's name may be any bytes: what of a text is no UTF-8 is escaped."""
    try:
        return orjson.dumps(document, default=str) + b"\n"
    except orjson.JSONEncodeError:
        return orjson.dumps(_plain(document), default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
