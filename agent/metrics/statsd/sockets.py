"""Datagram sockets to receive on: UDP and Unix, with a receive buffer that was asked for and read back."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct

from agent.engine.events import Events

_SO_MEMINFO = 55  # linux/sock_diag.h; since Linux 4.12
_MEMINFO = struct.Struct("9I")  # its last number: datagrams dropped because the buffer was full


def open_udp(host: str, port: int, buffer_bytes: int, events: Events) -> socket.socket:
    """A socket bound to host:port (0: any). Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        ask_for_buffer(listener, buffer_bytes, events)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def open_unix(path: str, mode: int, buffer_bytes: int, events: Events) -> socket.socket:
    """A socket bound to `path`, with these permissions; one left behind is replaced. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        _remove_stale(path)
        ask_for_buffer(listener, buffer_bytes, events)
        listener.bind(path)
        os.chmod(path, mode)
    except BaseException:
        listener.close()
        raise
    return listener


def ask_for_buffer(listener: socket.socket, wanted: int, events: Events) -> int:
    """Ask for a receive buffer of `wanted` bytes; what was granted is returned, and said if it is less."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    granted = listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel shows the double: socket(7)
    if granted < wanted:
        events.say(
            "warning",
            "statsd_receive_buffer_clamped",
            wanted=wanted,
            granted=granted,
            hint=f"allow it: sysctl -w net.core.rmem_max={wanted}; until then bursts may lose packets",
        )
    return granted


def dropped(listener: socket.socket) -> int:
    """Datagrams that the kernel has dropped since the socket was made; 0 where it does not tell."""
    try:
        numbers: tuple[int, ...] = _MEMINFO.unpack(listener.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
    except (OSError, struct.error):
        return 0
    return numbers[-1]


def _remove_stale(path: str) -> None:
    """Remove the socket of a receiver that has ended. Raises OSError if one still listens, or it is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file that is no socket", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        if probe.connect_ex(path) == 0:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
    os.unlink(path)
