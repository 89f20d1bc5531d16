"""Delivery: what is in the spool goes to CloudWatch, and only what is acknowledged leaves it."""

from __future__ import annotations

from random import Random
from typing import Protocol

from agent.aws.errors import AnswerLost, AwsError, Refused, Transient
from agent.engine.backoff import Backoff
from agent.engine.clock import Clock
from agent.engine.events import Events
from agent.metrics.encode import name_of, request
from agent.metrics.spool import Load, Spool

_REQUEST_SECONDS = 20.0  # for each read and write of a request
_LONGEST_WAIT = 60.0  # seconds between two tries
_LONGEST_HURRY = 5.0  # the same while the instance must go
_SUSPECTS = 16  # datums refused in a row, with nothing accepted in between, that look like a fault of all
_NEVER = float("inf")
_REMEMBERED = 0.7  # weight of the past in the measured speed


class Publisher(Protocol):
    """CloudWatch, as far as delivery needs it."""

    def put_metric_data(self, body: bytes, *, timeout: float) -> None:
        """Raises AwsError."""


class Delivery:
    """A worker: one request a step.

    The oldest goes first; with more in the spool than one request can carry, every other request carries the newest,
    so that alarms see the present while the past catches up.
    """

    name = "metrics-deliver"

    def __init__(
        self, publisher: Publisher, spool: Spool, max_age: float, clock: Clock, events: Events, random: Random
    ) -> None:
        self._publisher = publisher
        self._spool = spool
        self._max_age = max_age
        self._clock = clock
        self._events = events
        self._backoff = Backoff(base=1.0, cap=_LONGEST_WAIT, random=random)
        self._wanted = (
            0.0  # monotonic time from which on the spool is to be emptied; a former life may have left some
        )
        self._retry = 0.0  # monotonic time before which AWS is left in peace
        self._newest = False
        self._refused = 0  # datums refused since something was accepted
        self._deadline: float | None = None
        self.sent = 0  # datums acknowledged
        self.speed: float | None = None  # datums a second, of the last requests
        self.error: str | None = None  # what went wrong last, until something goes right

    def want(self, at: float) -> None:
        """Empty the spool from the monotonic time `at` on. The caller wakes the worker."""
        self._wanted = min(self._wanted, at)

    def hurry(self, deadline: float | None) -> None:
        """Have everything sent before `deadline` (monotonic seconds), trying more often; None: no hurry any more."""
        if deadline is not None and self._deadline is None:
            self._retry = 0.0
        self._deadline = deadline
        self._backoff.cap = _LONGEST_WAIT if deadline is None else _LONGEST_HURRY

    def step(self, now: float) -> float | None:
        if now >= self._due():
            self._wanted = _NEVER  # before looking, so that what is wanted meanwhile is not forgotten
            self._spool.expire(self._clock.time() - self._max_age)
            load = self._spool.take(newest=self._newest)
            if load is None:
                return None if self._wanted == _NEVER else self._wanted
            self.want(now)
            self._deliver(load)
        due = self._due()
        return None if due == _NEVER else due

    def _due(self) -> float:
        return max(self._retry, self._wanted if self._deadline is None else 0.0)

    def _deliver(self, load: Load) -> None:
        body = request(load.namespace, load.bodies)
        started = self._clock.monotonic()
        try:
            self._publisher.put_metric_data(body, timeout=self._timeout(started))
        except Refused as error:
            self._refuse(load, error)
        except AwsError as error:
            self._fail(load, error)
        else:
            self._spool.settle(load.parcels)
            self._succeed(load, self._clock.monotonic() - started)

    def _timeout(self, now: float) -> float:
        left = _REQUEST_SECONDS if self._deadline is None else self._deadline - now
        return min(_REQUEST_SECONDS, max(1.0, left))

    def _succeed(self, load: Load, seconds: float) -> None:
        self.sent += load.datums
        self._events.count("samples_sent", load.datums)
        self._backoff.reset()
        self._newest = not self._newest
        self._refused = 0
        self._measure(load.datums / max(seconds, 0.001))
        self.error = None
        self._events.over("metrics_not_delivered", "", said="metrics_delivered_again")

    def _measure(self, speed: float) -> None:
        self.speed = speed if self.speed is None else _REMEMBERED * self.speed + (1 - _REMEMBERED) * speed

    def _fail(self, load: Load, error: AwsError) -> None:
        """Keep it all, and try again later."""
        wait = self._backoff.next()
        self._retry = self._clock.monotonic() + wait
        self.error = str(error)
        if isinstance(error, AnswerLost):
            self._events.count("samples_possibly_duplicated", load.datums)
        self._events.trouble(
            "warning" if isinstance(error, Transient) else "error",
            "metrics_not_delivered",
            "",
            "metrics_retries",
            error=str(error),
            hint=error.hint,
            datums=load.datums,
            waiting=self._spool.datums,
            retry_in=round(wait, 2),
        )

    def _refuse(self, load: Load, error: Refused) -> None:
        """Find the datum that spoils the request by halving; drop it where only it is refused."""
        self._events.count("metrics_requests_refused")
        if load.datums > 1:
            self._spool.split(load)
        elif self._refused >= _SUSPECTS:
            self._newest = not self._newest  # if the others are accepted, it is the datum after all
            self._fail(load, error)
        else:
            self._refused += 1
            self._drop(load, error)

    def _drop(self, load: Load, error: Refused) -> None:
        self._spool.drop(load.parcels, "refused")
        self._events.say(
            "error",
            "sample_refused_by_cloudwatch",
            counter="samples_refused",
            series=name_of(load.bodies[0])[:500],
            error=str(error),
        )
