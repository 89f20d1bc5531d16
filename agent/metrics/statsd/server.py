"""The StatsD server: one thread that sleeps until datagrams come, and then takes many at once.

Under load UDP is read late: a nap of 5 ms lets packets gather in the kernel's buffer, so that waking up, which costs
more than a packet, happens 200 times a second and not once for each. A Unix socket queues only
net.unix.max_dgram_qlen datagrams (10 by default; unix(7)), and its senders wait or fail then, so it is never napped
on.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from random import Random

from agent.engine.backoff import Backoff
from agent.engine.events import Events
from agent.metrics.statsd.datagrams import Datagrams
from agent.metrics.statsd.fold import Fold
from agent.metrics.statsd.intake import Intake
from agent.metrics.statsd.sockets import dropped

_NAP_MS = 5
_IDLE_MS = 5000  # the longest step of an idle server: its thread shows that it lives
_ROUNDS = 64  # receive calls for one socket before the other has its turn


class Listener:
    """A socket that is opened as soon as it can be."""

    def __init__(
        self, name: str, opener: Callable[[], socket.socket], events: Events, random: Random, *, naps: bool
    ) -> None:
        self.name = name
        self.naps = naps
        self.socket: socket.socket | None = None
        self._opener = opener
        self._events = events
        self._backoff = Backoff(base=1.0, random=random)
        self._due = 0.0
        self._dropped = 0

    def open(self, now: float) -> None:
        """Open it, if it is due; a failure is a standing trouble and tried again after a while."""
        if self.socket is not None or now < self._due:
            return
        try:
            self.socket = self._opener()
        except OSError as error:
            self._due = now + self._backoff.next()
            self._say_failure(error)
            return
        self._backoff.reset()
        self._dropped = 0
        self._events.over("statsd_not_listening", self.name, said="statsd_listening", address=self.name)

    def fail(self, error: OSError) -> None:
        """The open socket does not work: say so and let it be opened anew."""
        self.close()
        self._say_failure(error)

    def wait(self, now: float) -> float:
        """Seconds until it wants to be opened."""
        return float("inf") if self.socket is not None else max(0.0, self._due - now)

    def close(self) -> None:
        if self.socket is None:
            return
        self.say_dropped()
        path = self.socket.getsockname() if self.socket.family == socket.AF_UNIX else None
        self.socket.close()
        self.socket = None
        self._due = 0.0
        if path:
            with contextlib.suppress(OSError):  # one left behind is replaced when it is opened again
                os.unlink(path)

    def say_dropped(self) -> None:
        """Count and say what the kernel has dropped since the last time."""
        if self.socket is None:
            return
        now = dropped(self.socket)
        lost, self._dropped = now - self._dropped, now
        if lost > 0:
            self._events.count("statsd_packets_dropped", lost)
            self._events.trouble(
                "error",
                "statsd_packets_dropped",
                self.name,
                packets=lost,
                address=self.name,
                hint="raise metrics.statsd.receive_buffer and net.core.rmem_max, or let clients pack several lines",
            )
        else:
            self._events.over("statsd_packets_dropped", self.name)

    def _say_failure(self, error: OSError) -> None:
        self._events.trouble(
            "error",
            "statsd_not_listening",
            self.name,
            "statsd_failures",
            address=self.name,
            error=str(error),
            hint="stop what uses the address (the CloudWatch agent?), or change metrics.statsd",
        )


class Server:
    """A worker that receives; its thread's `stop` takes effect with `interrupt`."""

    name = "statsd"

    def __init__(self, listeners: list[Listener], intake: Intake, fold: Fold) -> None:
        self._listeners = listeners
        self._intake = intake
        self._fold = fold
        self._datagrams = Datagrams()
        self._lock = threading.Lock()  # sockets, and the buffers that datagrams are received into
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def step(self, now: float) -> float:
        """Wait for datagrams, for a bounded time, and take what has come."""
        with self._lock:
            open_now = self._open(now)
        ready = self._poll(open_now, self._idle_ms(now))
        if ready and all(open_now[descriptor].naps for descriptor in ready):
            self._poll({key: one for key, one in open_now.items() if not one.naps}, _NAP_MS)
        if ready:
            self.receive()
        return now

    def receive(self) -> None:
        """Take in all datagrams that are there now."""
        with self._lock:
            for listener in self._listeners:
                if listener.socket is not None:
                    self._drain(listener, listener.socket.fileno())

    def say_dropped(self) -> None:
        """Count and say what the kernel has dropped."""
        with self._lock:
            for listener in self._listeners:
                listener.say_dropped()

    def addresses(self) -> list[object]:
        """What the open sockets are bound to."""
        with self._lock:
            return [one.socket.getsockname() for one in self._listeners if one.socket is not None]

    def interrupt(self) -> None:
        """End the wait of a step under way."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Take in what is there and give everything back; no step may be under way, and none may follow."""
        self.receive()
        with self._lock:
            for listener in self._listeners:
                listener.close()
            os.close(self._wake)

    def _idle_ms(self, now: float) -> float:
        return min(_IDLE_MS, *(1000.0 * listener.wait(now) for listener in self._listeners))

    def _open(self, now: float) -> dict[int, Listener]:
        """The open listeners by descriptor, after those that are due were opened."""
        for listener in self._listeners:
            listener.open(now)
        return {one.socket.fileno(): one for one in self._listeners if one.socket is not None}

    def _poll(self, descriptors: dict[int, Listener], timeout_ms: float) -> list[int]:
        """Which of the descriptors have something to read, or have failed."""
        poller = select.poll()
        for descriptor in (*descriptors, self._wake):
            poller.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poller.poll(timeout_ms)]
        if self._wake in ready:
            os.eventfd_read(self._wake)
        return [descriptor for descriptor in ready if descriptor in descriptors]

    def _drain(self, listener: Listener, descriptor: int) -> None:
        for _ in range(_ROUNDS):
            try:
                packets = self._datagrams.receive(descriptor)
            except OSError as error:
                listener.fail(error)
                return
            if not packets:
                return
            if self._intake.add(packets):
                self._fold.fold()
