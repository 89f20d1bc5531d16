"""A StatsD client that knows what it sent."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from agent.demo.written import Total

_PACKET_BYTES = 1400  # of a datagram, so that it fits a usual network packet


class StatsdClient:
    """Silent until `resume`. Close it."""

    def __init__(self, port: int) -> None:
        """`port` of 127.0.0.1."""
        self.counters: dict[str, Total] = {}
        self.timers: dict[str, Total] = {}
        self.speaking = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.connect(("127.0.0.1", port))

    def heard(self) -> bool:
        """Whether somebody listens: an empty line is refused by the kernel if not."""
        with contextlib.suppress(OSError):
            self._socket.send(b"\n")
            return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        return False

    def pause(self) -> None:
        self.speaking = False

    def resume(self) -> None:
        self.speaking = True

    def count(self, name: str, times: int) -> None:
        """Count something that happened, one by one."""
        self._send(self.counters.setdefault(name, Total()), name, [1] * times, "c")

    def time(self, name: str, values: Sequence[int]) -> None:
        """Durations in milliseconds."""
        self._send(self.timers.setdefault(name, Total()), name, values, "ms")

    def close(self) -> None:
        self.speaking = False
        self._socket.close()

    def _send(self, total: Total, name: str, values: Sequence[int], kind: str) -> None:
        if not self.speaking:
            return
        lines = [f"{name}:{value}|{kind}".encode() for value in values]
        for packet in _packets(lines):
            with contextlib.suppress(ConnectionRefusedError):  # lost, and so the check will find it missing
                self._socket.send(packet)
        for value in values:
            total.add(value)


def _packets(lines: Sequence[bytes]) -> list[bytes]:
    """Lines joined to datagrams of a bounded size."""
    packets: list[bytes] = []
    for line in lines:
        if packets and len(packets[-1]) + 1 + len(line) <= _PACKET_BYTES:
            packets[-1] += b"\n" + line
        else:
            packets.append(line)
    return packets
