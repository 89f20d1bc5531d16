"""A plan of faults: which calls fail, how, how often and for how long."""

import itertools
import random
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

METADATA = "imds"  # the one service that a fault must name: an outage of AWS leaves instance metadata alone
MAX_RULES = 1000  # rules at a time


class FaultError(ValueError):
    """The rule makes no sense: correct what the message names."""


class Kind(StrEnum):
    """How a call fails.

    throttle      the service's own throttling answer; nothing is accepted
    error         an answer with `code` and `status`; nothing is accepted
    reset         the connection is reset in the middle of the request; nothing is accepted
    refuse        the connection is reset as soon as it shows whom it is for; nothing is read or accepted
    hang          silence for `seconds`, then the connection closes; nothing is accepted
    slow          an ordinary answer, after `seconds`
    lost          the request is accepted, and the connection reset instead of the answer
    error_in_200  CompleteMultipartUpload of S3: status 200 with an error in the body; nothing is accepted
    """

    THROTTLE = "throttle"
    ERROR = "error"
    RESET = "reset"
    REFUSE = "refuse"
    HANG = "hang"
    SLOW = "slow"
    LOST = "lost"
    ERROR_IN_200 = "error_in_200"


@dataclass(slots=True)
class Fault:
    """One rule.

    `service` and `operation` are globs over the names in the credential scope ("imds" for instance metadata, which
    "*" leaves out) and of the API operation (for metadata the path below /latest/). The first `skip` matching calls
    pass; then the rule acts with `probability`, `times` times (None: for ever), for `for_seconds` of the stand-in's
    clock.
    """

    kind: Kind
    service: str = "*"
    operation: str = "*"
    status: int = 500
    code: str = "InternalFailure"
    seconds: float = 0.0
    times: int | None = None
    for_seconds: float | None = None
    skip: int = 0
    probability: float = 1.0

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Fault":
        """Raises FaultError for an unknown key or kind."""
        known = {item.name for item in fields(cls)}
        if unknown := sorted(document.keys() - known):
            raise FaultError(f"unknown key {unknown[0]!r}; there are {', '.join(sorted(known))}")
        try:
            return cls(**{**document, "kind": Kind(document.get("kind", ""))})
        except ValueError as error:
            raise FaultError(f"kind must be one of {', '.join(Kind)}") from error

    def matches(self, service: str, operation: str) -> bool:
        named = self.service == METADATA if service == METADATA else fnmatchcase(service, self.service)
        return named and fnmatchcase(operation, self.operation)


@dataclass(slots=True)
class _Rule:
    number: int
    fault: Fault
    ends: float | None
    passed: int = 0
    acted: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def is_over(self, now: float) -> bool:
        fault = self.fault
        spent = fault.times is not None and self.acted >= fault.times
        return spent or (self.ends is not None and now >= self.ends)


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that acts on one call; `over` is set when its rule is taken away, so that waiting can end."""

    fault: Fault
    over: threading.Event

    def wait(self) -> None:
        self.over.wait(self.fault.seconds)


class FaultPlan:
    """The rules in force, asked once for each call; the first one that acts wins."""

    def __init__(self, clock: Callable[[], float], seed: int = 0) -> None:
        self._clock = clock
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._rules: dict[int, _Rule] = {}
        self._waited_for: weakref.WeakSet[threading.Event] = weakref.WeakSet()

    def add(self, fault: Fault) -> int:
        """Put a rule in force; its number takes it away again."""
        with self._lock:
            if len(self._rules) >= MAX_RULES:
                raise FaultError(f"more than {MAX_RULES} rules: clear some first")
            number = next(self._numbers)
            ends = None if fault.for_seconds is None else self._clock() + fault.for_seconds
            self._rules[number] = _Rule(number, fault, ends)
            return number

    def outage(self, seconds: float | None = None) -> int:
        """All of AWS refuses connections, instance metadata apart, for `seconds` or until it is cleared."""
        return self.add(Fault(Kind.REFUSE, for_seconds=seconds))

    def remove(self, number: int) -> None:
        with self._lock:
            rule = self._rules.pop(number, None)
        if rule:
            rule.over.set()

    def clear(self) -> None:
        """Take all rules away; who waits because of one, even one that is spent, waits no longer."""
        with self._lock:
            self._rules.clear()
            events = list(self._waited_for)
        for event in events:
            event.set()

    def take(self, service: str, operation: str) -> Strike | None:
        """What befalls this call, counted against its rule."""
        with self._lock:
            now = self._clock()
            for rule in list(self._rules.values()):
                if self._acts(rule, service, operation, now):
                    rule.acted += 1
                    self._waited_for.add(rule.over)
                    return Strike(rule.fault, rule.over)
            return None

    def _acts(self, rule: _Rule, service: str, operation: str, now: float) -> bool:
        if rule.is_over(now):
            del self._rules[rule.number]
            return False
        if not rule.fault.matches(service, operation):
            return False
        if rule.passed < rule.fault.skip:
            rule.passed += 1
            return False
        return self._random.random() < rule.fault.probability

    def as_json(self) -> list[dict[str, Any]]:
        """Rules in force with their numbers and how often they acted."""
        with self._lock:
            now = self._clock()
            alive = [rule for rule in self._rules.values() if not rule.is_over(now)]
            return [{"number": rule.number, "acted": rule.acted, **asdict(rule.fault)} for rule in alive]
