"""The StatsD server takes datagrams from real sockets."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from metrics_fakes import Told, make_aggregate, values

from agent.engine.clock import FakeClock, SystemClock
from agent.engine.workers import WorkerThread
from agent.metrics.statsd.datagrams import Datagrams
from agent.metrics.statsd.fold import Fold
from agent.metrics.statsd.intake import Intake
from agent.metrics.statsd.server import Listener, Server
from agent.metrics.statsd.sockets import ask_for_buffer, dropped, open_udp, open_unix

BUFFER = 65_536
NAMING = SimpleNamespace(prefix="", separator=None, metric_type=False, dimensions={})


class Bench:
    """A server on a free UDP port and, with a directory, on a Unix socket."""

    def __init__(self, directory: Path | None = None) -> None:
        self.clock = FakeClock()
        self.told = Told(self.clock)
        self.path = str(directory / "statsd.sock") if directory else None
        self.aggregate = make_aggregate(self.clock, self.told)
        intake = Intake()
        self.fold = Fold(intake, self.aggregate, NAMING, self.told)
        self.server = Server(self._listeners(), intake, self.fold)
        self.server.interrupt()
        self.server.step(self.clock.monotonic())  # opens

    def _listeners(self) -> list[Listener]:
        udp = partial(open_udp, "127.0.0.1", 0, BUFFER, self.told)
        listeners = [Listener("udp", udp, self.told, Random(1), naps=True)]
        if self.path:
            unix = partial(open_unix, self.path, 0o622, BUFFER, self.told)
            listeners.append(Listener("unix", unix, self.told, Random(1), naps=False))
        return listeners

    def send(self, *packets: bytes, unix: bool = False) -> None:
        kind, address = (socket.AF_UNIX, self.path) if unix else (socket.AF_INET, self.server.addresses()[0])
        with socket.socket(kind, socket.SOCK_DGRAM) as client:
            for packet in packets:
                client.sendto(packet, address)  # type: ignore[arg-type]

    def step(self) -> dict[str, dict[float, float]]:
        self.server.step(self.clock.monotonic())
        return self.sealed()

    def sealed(self) -> dict[str, dict[float, float]]:
        self.fold.fold()
        return values(self.aggregate.seal(0, early=True))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.server.close()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.server.close()


def test_datagrams_are_taken_many_at_once_and_in_order() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind("")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(one.getsockname())
            for packet in (b"first", b"", b"x" * 60_000):
                client.send(packet)
        datagrams = Datagrams()
        assert [bytes(view) for view in datagrams.receive(one.fileno())] == [b"first", b"", b"x" * 60_000]
        assert datagrams.receive(one.fileno()) == []


def test_a_descriptor_that_is_no_socket_is_an_os_error(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file, pytest.raises(OSError, match="Socket operation on non-socket"):
        Datagrams().receive(file.fileno())


def test_packets_by_udp_arrive(bench: Bench) -> None:
    bench.send(b"hits:1|c\nhits:2|c", *[b"hits:1|c"] * 140)
    assert bench.step() == {"hits": {143.0: 1.0}}
    bench.send(b"big:1|c|#k:" + b"v" * 1000 + b"\n" * 64_000)
    assert bench.step() == {"big": {1.0: 1.0}}
    assert bench.told.counters()["statsd_packets"] == 142


def test_packets_by_unix_socket_arrive_beside_udp(both: Bench) -> None:
    both.send(b"hits:1|c", unix=True)
    both.send(b"hits:2|c")
    assert both.step() == {"hits": {3.0: 1.0}}
    assert both.path is not None
    assert stat.S_IMODE(os.stat(both.path).st_mode) == 0o622


def test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(both: Bench, tmp_path: Path) -> None:
    told = Told()
    stale = str(tmp_path / "stale.sock")
    open_unix(stale, 0o666, BUFFER, told).close()
    open_unix(stale, 0o666, BUFFER, told).close()
    assert both.path is not None
    with pytest.raises(OSError, match="Address already in use"):
        open_unix(both.path, 0o666, BUFFER, told)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="no socket"):
        open_unix(str(tmp_path / "file"), 0o666, BUFFER, told)


def test_an_address_in_use_is_said_and_taken_as_soon_as_it_is_free(bench: Bench) -> None:
    host, port = bench.server.addresses()[0]  # type: ignore[misc]
    told = Told(bench.clock)
    listener = Listener("statsd", partial(open_udp, host, port, BUFFER, told), told, Random(1), naps=True)
    now = bench.clock.monotonic()
    listener.open(now)
    assert listener.socket is None
    assert told.log.fields("statsd_not_listening")[0]["error"] == "[Errno 98] Address already in use"
    assert 0 < listener.wait(now) <= 1.0
    bench.server._listeners[0].close()
    listener.open(now + listener.wait(now))
    assert listener.socket is not None
    assert "statsd_listening" in told.log.names()
    listener.close()


def test_a_socket_that_fails_is_opened_anew(bench: Bench) -> None:
    (listener,) = bench.server._listeners
    assert listener.socket is not None
    os.close(listener.socket.detach())
    listener.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)  # not connected: receiving fails
    bench.server.receive()
    assert (
        bench.told.log.fields("statsd_not_listening")[0]["error"] == "[Errno 107] Transport endpoint is not connected"
    )
    bench.server.interrupt()
    bench.server.step(bench.clock.monotonic())
    assert bench.told.log.names()[-1] == "statsd_listening"
    bench.send(b"hits:1|c")
    assert bench.step() == {"hits": {1.0: 1.0}}


def test_closing_takes_what_was_there() -> None:
    bench = Bench()
    bench.send(b"last:1|c")
    bench.server.close()
    assert bench.sealed() == {"last": {1.0: 1.0}}


def test_a_buffer_smaller_than_asked_for_is_said() -> None:
    with open("/proc/sys/net/core/rmem_max", encoding="ascii") as file:
        allowed = int(file.read())
    told = Told()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        assert ask_for_buffer(one, allowed, told) == allowed
        assert told.log.lines == []
        assert ask_for_buffer(one, allowed + 4096, told) == allowed
    (said,) = told.log.fields("statsd_receive_buffer_clamped")
    assert (said["wanted"], said["granted"]) == (allowed + 4096, allowed)


def overflow(bench: Bench) -> int:
    """Send more than the buffer holds; how much the kernel has dropped."""
    bench.send(*[b"x" * 1000] * 500)
    udp = bench.server._listeners[0].socket
    assert udp is not None
    assert dropped(udp) > 0
    return dropped(udp)


def test_what_the_kernel_drops_is_counted_and_said(bench: Bench) -> None:
    lost = overflow(bench)
    bench.server.say_dropped()
    bench.server.say_dropped()
    assert bench.told.counters()["statsd_packets_dropped"] == lost
    assert bench.told.log.fields("statsd_packets_dropped")[0]["packets"] == lost


def test_a_socket_that_is_opened_anew_counts_its_drops_from_zero(bench: Bench) -> None:
    lost = overflow(bench)
    (listener,) = bench.server._listeners
    listener.close()
    listener.open(bench.clock.monotonic())
    lost += overflow(bench)
    bench.server.say_dropped()
    assert bench.told.counters()["statsd_packets_dropped"] == lost


def test_many_distinct_lines_are_folded_by_the_server_itself(bench: Bench) -> None:
    for start in range(0, 12_000, 1000):
        bench.send(b"\n".join(b"m:%d|ms" % number for number in range(start, start + 1000)))
        bench.server.receive()
    assert bench.aggregate.unsealed() == 1
    assert sum(bench.sealed()["m"].values()) == 12_000


def test_its_thread_ends_at_once_when_it_is_interrupted(bench: Bench) -> None:
    thread = WorkerThread("statsd", [bench.server], SystemClock(), bench.told)
    thread.start()
    thread.stop()
    bench.server.interrupt()
    assert thread.join(4.0)
