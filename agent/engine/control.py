"""The control socket: the running agent answers `status`, `drain` and the like to its own user and to root.

One request a connection: a line of JSON `{"command": ..., ...}`, answered by a line of JSON.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from agent.engine.events import Events

SOCKET_NAME = "control.sock"
_REQUEST_BYTES = 64 << 10  # a request's size
_ANSWER_BYTES = 64 << 20  # an answer's size, as a client takes it: a status of 10,000 files is a few MB
_PEER_SECONDS = 2.0  # for a peer to send its request and take its answer
_BACKLOG = 16
_PEERCRED = struct.Struct("3i")

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ControlError(Exception):
    """The running agent could not be asked, or refused.

    ControlError
    ├── NotRunning   nobody answers at the socket: start the agent (systemctl start outlive), or check -c and run_dir
    ├── NotAllowed   the socket belongs to another user: use sudo
    └── BadRequest   the agent does not do that: see the message
    """


class NotRunning(ControlError):
    """No agent listens."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no agent answers at {path}: is it running? (systemctl status outlive)")


class NotAllowed(ControlError):
    """This user may not ask."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: not allowed: ask as root or as the agent's user (sudo)")


class BadRequest(ControlError):
    """The agent refused the request."""


class ControlServer:
    """Answers at a Unix socket, one peer at a time; a worker for a thread of its own."""

    name = "control"

    def __init__(self, path: str, handlers: Mapping[str, Handler], events: Events) -> None:
        """Bind the socket, mode 0600. Raises OSError."""
        self.path = path
        self._handlers = handlers
        self._events = events
        self._closed = False
        self._socket = _listen(path)

    def step(self, now: float) -> float | None:
        """Wait for one peer and answer it; None once the server is closed. The one step that waits outside."""
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return None if self._closed else now
        with peer:
            self._serve(peer)
        return now

    def close(self) -> None:
        """Stop listening; a `step` that waits comes back."""
        self._closed = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            self._events.say("debug", "control_socket_gone", error=str(error))
        self._socket.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return

    def _serve(self, peer: socket.socket) -> None:
        peer.settimeout(_PEER_SECONDS)
        try:
            answer = self._answer(peer)
            peer.sendall(orjson.dumps(answer, default=str) + b"\n")
        except OSError as error:
            self._events.say("debug", "control_peer_left", error=str(error))

    def _answer(self, peer: socket.socket) -> Mapping[str, Any]:
        if not _allowed(peer):
            return {"error": "not allowed"}
        try:
            request = orjson.loads(_read_line(peer, _REQUEST_BYTES))
            handler = self._handlers[request["command"]]
        except (ValueError, KeyError, TypeError):
            return {"error": "no such command"}
        try:
            return handler(request)
        except BadRequest as error:
            return {"error": str(error)}


def ask(path: str, command: str, timeout: float = 5.0, **fields: Any) -> dict[str, Any]:
    """The running agent's answer. `timeout` is seconds. Raises ControlError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(path)
            sock.sendall(orjson.dumps({"command": command, **fields}) + b"\n")
            answer: dict[str, Any] = orjson.loads(_read_line(sock, _ANSWER_BYTES))
        except PermissionError:
            raise NotAllowed(path) from None
        except (OSError, ValueError):
            raise NotRunning(path) from None
    if set(answer) == {"error"}:
        raise BadRequest(answer["error"])
    return answer


def _listen(path: str) -> socket.socket:
    """A listening socket at `path`, open to this user alone from its first moment."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    sock.listen(_BACKLOG)
    return sock


def _allowed(peer: socket.socket) -> bool:
    """Root and the agent's own user only (SO_PEERCRED, unix(7))."""
    _pid, uid, _gid = _PEERCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    return uid in (0, os.geteuid())


def _read_line(sock: socket.socket, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= limit:
        part = sock.recv(1 << 16)
        parts.append(part)
        size += len(part)
        if not part or part.endswith(b"\n"):
            return b"".join(parts)
    raise ValueError
