"""Where the running agent is asked: the control socket, and the status over HTTP, which may move."""

from __future__ import annotations

from collections.abc import Mapping

from agent.engine.clock import Clock
from agent.engine.control import ControlServer, Handler
from agent.engine.events import Events
from agent.engine.status_server import Status, StatusServer
from agent.engine.workers import WorkerThread

_END_SECONDS = 1.0  # for a server's thread to end: a peer may be in the middle of its answer


class Doors:
    """Each with a thread of its own, for they wait for peers."""

    def __init__(
        self,
        path: str,
        handlers: Mapping[str, Handler],
        address: tuple[str, int] | None,
        status: Status,
        clock: Clock,
        events: Events,
    ) -> None:
        """Bind the control socket at `path`, and `address` for the status if there is one. Raises OSError."""
        self._status = status
        self._clock = clock
        self._events = events
        self._control = self._served(ControlServer(path, handlers, events))
        self._http: _Served | None = None
        try:
            self._http = self._reserved(address)
        except OSError:
            self._control.server.close()
            raise

    def open(self) -> None:
        """Begin to answer."""
        for each in self._all():
            each.thread.start()

    def reserve(self, address: tuple[str, int] | None) -> Reservation:
        """Another place for the status, bound and not yet answering. Raises OSError."""
        return Reservation(self._reserved(address))

    def move(self, there: Reservation) -> None:
        """Answer there, and no longer where it was."""
        before, self._http = self._http, there.served
        if self._http is not None:
            self._http.thread.start()
        if before is not None:
            before.end()

    def shut(self) -> None:
        """Answer no more; may be called again."""
        for each in self._all():
            each.server.close()

    def end(self) -> None:
        """The same, and wait a little for the threads."""
        for each in self._all():
            each.end()

    def _all(self) -> list[_Served]:
        return [each for each in (self._control, self._http) if each is not None]

    def _reserved(self, address: tuple[str, int] | None) -> _Served | None:
        return None if address is None else self._served(StatusServer(address, self._status, self._events))

    def _served(self, server: ControlServer | StatusServer) -> _Served:
        return _Served(server, WorkerThread(server.name, [server], self._clock, self._events))


class Reservation:
    """A place for the status that is ours from here on; `cancel` unless it is moved to."""

    def __init__(self, served: _Served | None) -> None:
        self.served = served

    def cancel(self) -> None:
        if self.served is not None:
            self.served.server.close()


class _Served:
    """A server and its thread."""

    def __init__(self, server: ControlServer | StatusServer, thread: WorkerThread) -> None:
        self.server = server
        self.thread = thread

    def end(self) -> None:
        self.server.close()
        self.thread.stop()
        self.thread.join(_END_SECONDS)
