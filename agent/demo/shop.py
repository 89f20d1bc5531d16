"""The applications of the demo: a shop with an access log, an application log, StatsD and an upload folder.

All of it is numbered or computed from its name, so that whatever is lost, doubled, swapped or cut can be told.
`step` moves everything on by the clock; nothing here waits.
"""

from __future__ import annotations

from agent.demo.logwriter import LogWriter
from agent.demo.statsd import StatsdClient
from agent.demo.uploads import UploadFolder
from agent.demo.written import Written
from agent.engine.clock import Clock

ACCESS_GROUP, APP_GROUP = "/shop/access", "/shop/app"
REQUESTS = "shop.requests"
REQUEST_TIME = "shop.request_time"
RATE = 300  # requests a second
_MOST = 3000  # requests of one step: who was suspended for an hour does not make up for all of it
_INFO_EVERY, _ERROR_EVERY = 4, 40  # requests
_REOPEN_SECONDS = 0.7  # from a rename to the moment when the web server takes a new file


class Shop:
    """Closed until `open`. Close it."""

    def __init__(
        self, logs: str, uploads: UploadFolder, statsd: StatsdClient, instance_id: str, clock: Clock
    ) -> None:
        """`logs` is the folder of its log files."""
        self.written = Written(counters=statsd.counters, timers=statsd.timers, files=uploads.files)
        self.uploads = uploads
        self.statsd = statsd
        self._clock = clock
        self._access = self._writer(logs, "access.log", ACCESS_GROUP, instance_id)
        self._app = self._writer(logs, "app.log", APP_GROUP, instance_id)
        self._opened: float | None = None
        self._requests = 0  # since it was opened
        self._reopen_at: float | None = None

    def open(self) -> None:
        """Customers come."""
        self._opened = self._clock.monotonic()

    def step(self) -> None:
        """Serve the customers who came since the last time."""
        if self._opened is None:
            return
        now = self._clock.monotonic()
        self._reopen_if_due(now)
        due = int((now - self._opened) * RATE) - self._requests
        self._serve(range(self._requests, self._requests + min(due, _MOST)))
        self._requests += due
        self.uploads.step(now)

    def rotate(self) -> None:
        """Rename the access log, as logrotate does; the web server writes on into the old file for a moment."""
        self._reopen_if_due(float("inf"))
        self._access.rename()
        self._reopen_at = self._clock.monotonic() + _REOPEN_SECONDS

    @property
    def is_rotating(self) -> bool:
        """Whether the renamed file is still written to."""
        return self._reopen_at is not None

    def close(self) -> None:
        """The applications stop; the last line that they log has no end."""
        if self._opened is not None:
            self._reopen_if_due(float("inf"))
            self._app.write([f"{self._time()} INFO  closing after request {self._requests:06d}, a last"], ended=False)
        self._opened = None
        self.uploads.finish()
        self.statsd.close()
        self._access.close()
        self._app.close()

    def _writer(self, folder: str, name: str, group: str, instance_id: str) -> LogWriter:
        return LogWriter(f"{folder}/{name}", (group, f"{instance_id}/{name}"), self.written.generations)

    def _serve(self, numbers: range) -> None:
        if not numbers:
            return
        moment = self._time()
        self._access.write([access_line(number, moment) for number in numbers])
        self._app.write([line for number in numbers for line in app_lines(number, moment)])
        self.statsd.count(REQUESTS, len(numbers))
        self.statsd.time(REQUEST_TIME, [milliseconds(number) for number in numbers])

    def _reopen_if_due(self, now: float) -> None:
        if self._reopen_at is not None and now >= self._reopen_at:
            self._reopen_at = None
            self._access.reopen()

    def _time(self) -> str:
        from agent.drain.receipt import rfc3339

        return rfc3339(self._clock.time())


def access_line(number: int, moment: str) -> str:
    """A line of an access log."""
    status = 503 if number % _ERROR_EVERY == 0 else 200
    return (
        f'10.0.{number % 4}.{number % 250 + 1} - - [{moment}] "GET /items/{number % 997} HTTP/1.1" {status} '
        f'{200 + number * 37 % 9000} "-" request={number:06d}'
    )


def app_lines(number: int, moment: str) -> list[str]:
    """What the application says to a request: mostly nothing, now and then a line, at times a stack trace."""
    if number % _ERROR_EVERY == 0:
        return [
            f"{moment} ERROR order {number:06d} was not paid",
            f"shop.PaymentRefused: order {number:06d}: card declined",
            f"    at shop.Payment.charge(Payment.java:88) ~[order {number:06d}]",
            f"    at shop.Checkout.submit(Checkout.java:41) ~[order {number:06d}]",
            f"Caused by: java.net.SocketTimeoutException: bank did not answer, order {number:06d}",
        ]
    if number % _INFO_EVERY == 0:
        return [f"{moment} INFO  order {number:06d} of Zoë Groß: answered in {milliseconds(number)} ms"]
    return []


def milliseconds(number: int) -> int:
    """How long a request took."""
    return 5 + number * 7 % 120
