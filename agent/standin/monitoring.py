"""CloudWatch metrics and alarms: state and operations.

docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference, API_PutMetricData and API_PutMetricAlarm.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.standin.errors import ApiError
from agent.standin.metric_limits import (
    UNITS,
    CombinationError,
    InvalidValueError,
    check_dimensions,
    check_metric_data,
)
from agent.standin.tape import Extent, Tape
from agent.standin.validation import Json, Parameters

STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
OPERATORS = (
    "GreaterThanOrEqualToThreshold",
    "GreaterThanThreshold",
    "LessThanThreshold",
    "LessThanOrEqualToThreshold",
)
MISSING_DATA = ("breaching", "notBreaching", "ignore", "missing")
MAX_ACTIONS = 5  # actions for each state of an alarm
MAX_DELETED = 100  # alarms of one DeleteAlarms
MAX_PAGE = 100  # alarms of one answer
MAX_ALARMS = 5_000  # alarms of an account


class NotFoundError(ApiError):
    """There is no alarm of this name."""

    code = "ResourceNotFound"
    status = 404


class LimitExceededError(ApiError):
    """The account's quota of alarms is used up: delete some."""

    code = "LimitExceeded"
    shape = "LimitExceededFault"
    status = 400


@dataclass(frozen=True, slots=True)
class Series:
    """A metric: namespace, name and the full set of dimensions."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]


@dataclass(slots=True)
class Statistics:
    """All that a series received, as one statistic set, with the last datum's time and unit."""

    count: float = 0.0
    sum: float = 0.0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    datums: int = 0
    last: float = 0.0
    unit: str = "None"

    def add(self, datum: Mapping[str, Any], at: float) -> None:
        count, total, minimum, maximum = _statistic_set(datum)
        self.count += count
        self.sum += total
        self.minimum = min(self.minimum, minimum)
        self.maximum = max(self.maximum, maximum)
        self.datums += 1
        self.last = max(self.last, at)
        self.unit = datum.get("Unit", "None")


class Monitoring:
    """The service's state and operations. `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float], tape: Tape, region: str, account_id: str) -> None:
        self._clock = clock
        self._tape = tape
        self._arn = f"arn:aws:cloudwatch:{region}:{account_id}:alarm"
        self._lock = threading.Lock()
        self._calls: list[Extent] = []
        self._series: dict[Series, Statistics] = {}
        self._alarms: dict[str, Json] = {}

    def operations(self) -> Mapping[str, Callable[[Json], Json]]:
        return {
            "PutMetricData": self._put_metric_data,
            "PutMetricAlarm": self._put_alarm,
            "DescribeAlarms": self._describe_alarms,
            "DeleteAlarms": self._delete_alarms,
        }

    # what arrived

    def datums(self, namespace: str | None = None, name: str | None = None) -> Iterator[Json]:
        """Accepted datums in the order of arrival, as sent, with `Namespace` and `Received` (seconds) added.

        `Dimensions` is a dictionary; a datum that had no `Timestamp` has the time of its arrival.
        """
        with self._lock:
            calls = list(self._calls)
        for extent in calls:
            for datum in self._tape.read(extent) or ():
                if namespace in (None, datum["Namespace"]) and name in (None, datum["MetricName"]):
                    yield datum

    def series(self) -> dict[Series, Statistics]:
        with self._lock:
            return dict(self._series)

    def statistics(self, namespace: str, name: str, dimensions: Mapping[str, str] | None = None) -> Statistics | None:
        """What one metric received, or None if nothing."""
        with self._lock:
            return self._series.get(Series(namespace, name, frozenset((dimensions or {}).items())))

    def alarms(self) -> dict[str, Json]:
        with self._lock:
            return dict(self._alarms)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()
            self._tape.clear()
            self._series.clear()
            self._alarms.clear()

    # metrics

    def _put_metric_data(self, document: Json) -> Json:
        now = self._clock()
        namespace, datums = check_metric_data(document, now)
        kept = [_kept(namespace, datum, now) for datum in datums]
        with self._lock:
            self._calls.append(self._tape.append(kept))
            for datum in kept:
                key = Series(namespace, datum["MetricName"], frozenset(datum["Dimensions"].items()))
                self._series.setdefault(key, Statistics()).add(datum, datum["Timestamp"])
        return {}

    # alarms

    def _put_alarm(self, document: Json) -> Json:
        given = Parameters(document, InvalidValueError)
        alarm = _alarm(given)
        name = alarm["AlarmName"]
        with self._lock:
            old = self._alarms.get(name)
            if old is None and len(self._alarms) >= MAX_ALARMS:
                raise LimitExceededError("The maximum limit for alarms has been reached")
            alarm["AlarmArn"] = f"{self._arn}:{name}"
            alarm["AlarmConfigurationUpdatedTimestamp"] = self._clock()
            alarm["StateValue"] = old["StateValue"] if old else "INSUFFICIENT_DATA"
            self._alarms[name] = alarm
        return {}

    def _describe_alarms(self, document: Json) -> Json:
        given = Parameters(document, InvalidValueError)
        names = set(given.items("AlarmNames", MAX_PAGE))
        prefix = given.optional_text("AlarmNamePrefix", 255) or ""
        if names and prefix:
            raise CombinationError("AlarmNames and AlarmNamePrefix are mutually exclusive")
        start = int(given.optional_text("NextToken") or 0)
        end = start + given.integer("MaxRecords", 1, MAX_PAGE, MAX_PAGE)
        with self._lock:
            found = [
                self._alarms[n] for n in sorted(self._alarms) if n.startswith(prefix) and (not names or n in names)
            ]
        more = {"NextToken": str(end)} if end < len(found) else {}
        return {"MetricAlarms": found[start:end], "CompositeAlarms": [], **more}

    def _delete_alarms(self, document: Json) -> Json:
        names = Parameters(document, InvalidValueError).items("AlarmNames", MAX_DELETED, least=1)
        with self._lock:
            missing = [name for name in names if self._alarms.pop(name, None) is None]
        if missing:
            raise NotFoundError(f"The alarms {missing} do not exist")
        return {}


def _kept(namespace: str, datum: Mapping[str, Any], now: float) -> Json:
    dimensions = {pair["Name"]: pair["Value"] for pair in datum.get("Dimensions", ())}
    return {"Timestamp": now, **datum, "Namespace": namespace, "Dimensions": dimensions, "Received": now}


def _statistic_set(datum: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Sample count, sum, minimum and maximum of one datum."""
    if "StatisticValues" in datum:
        values = datum["StatisticValues"]
        return values["SampleCount"], values["Sum"], values["Minimum"], values["Maximum"]
    if "Values" in datum:
        values = datum["Values"]
        counts = datum.get("Counts") or [1.0] * len(values)
        total = sum(value * count for value, count in zip(values, counts, strict=True))
        return sum(counts), total, min(values), max(values)
    return 1.0, datum["Value"], datum["Value"], datum["Value"]


def _alarm(given: Parameters) -> Json:
    """A static-threshold alarm on one metric, the only kind that the agent makes."""
    alarm = {
        "AlarmName": given.text("AlarmName", 1, 255),
        "AlarmDescription": given.optional_text("AlarmDescription", 1024, least=0),
        "ActionsEnabled": given.flag("ActionsEnabled", default=True),
        "MetricName": given.text("MetricName", 1, 255),
        "Namespace": given.text("Namespace", 1, 255),
        "Statistic": given.choice("Statistic", STATISTICS),
        "Period": _period(given),
        "EvaluationPeriods": given.integer("EvaluationPeriods", 1, 2**31),
        "DatapointsToAlarm": _datapoints(given),
        "Threshold": _threshold(given),
        "ComparisonOperator": given.choice("ComparisonOperator", OPERATORS),
        "TreatMissingData": given.choice("TreatMissingData", MISSING_DATA, "missing"),
        "Dimensions": check_dimensions("Dimensions", given.items("Dimensions", 30)),
        "Unit": given.choice("Unit", UNITS) if given.has("Unit") else None,
        **{name: given.items(name, MAX_ACTIONS) for name in ("OKActions", "AlarmActions", "InsufficientDataActions")},
    }
    return {name: value for name, value in alarm.items() if value is not None}


def _datapoints(given: Parameters) -> int | None:
    if not given.has("DatapointsToAlarm"):
        return None
    datapoints = given.integer("DatapointsToAlarm", 1, 2**31)
    if datapoints > given.integer("EvaluationPeriods", 1, 2**31):
        raise InvalidValueError("DatapointsToAlarm must not be greater than EvaluationPeriods")
    return datapoints


def _period(given: Parameters) -> int:
    period = given.integer("Period", 1, 86_400)
    if period not in (10, 20, 30) and period % 60:
        raise InvalidValueError(f"The value {period} for parameter Period is not 10, 20, 30 or a multiple of 60.")
    return period


def _threshold(given: Parameters) -> float:
    value = given.raw("Threshold")
    if not isinstance(value, int | float):
        raise InvalidValueError("Threshold must be a number")
    return float(value)
