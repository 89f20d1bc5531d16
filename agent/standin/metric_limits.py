"""The limits of PutMetricData: one bad datum fails the whole call, and the answer names every bad one.

docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference: API_PutMetricData, API_MetricDatum, API_Dimension.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.standin.errors import ApiError
from agent.standin.validation import Json

MAX_BODY = 1_000_000  # bytes of a request: AWS says 1 MB, read here as the smaller of the two, and unpacked
MAX_DATUMS = 1_000  # of a call, over MetricData and EntityMetricData
MAX_ENTITIES = 2  # groups in EntityMetricData
MAX_VALUES = 150  # unique values of a datum
MAX_DIMENSIONS = 30
MAX_NAME = 255  # characters of a namespace, metric name or dimension name
MAX_VALUE = 1024  # characters of a dimension's value
MAX_MAGNITUDE = 2.0**360
MAX_AGE = 14 * 86_400  # seconds
MAX_FUTURE = 2 * 3_600  # seconds
_SIZES = ("", "Kilo", "Mega", "Giga", "Tera")
_AMOUNTS = [f"{size}{unit}".capitalize() for unit in ("bytes", "bits") for size in _SIZES]
UNITS = frozenset(
    ["Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None"]
    + _AMOUNTS
    + [f"{amount}/Second" for amount in _AMOUNTS]
)


class InvalidValueError(ApiError):
    """A value is not allowed: the call will never be accepted as it is."""

    code = "InvalidParameterValue"
    shape = "InvalidParameterValueException"
    status = 400


class MissingError(ApiError):
    """A required parameter is missing."""

    code = "MissingParameter"
    shape = "MissingRequiredParameterException"
    status = 400


class CombinationError(ApiError):
    """Parameters that exclude each other were used together."""

    code = "InvalidParameterCombination"
    shape = "InvalidParameterCombinationException"
    status = 400


def check_metric_data(document: Json, now: float) -> tuple[str, list[Json]]:
    """The namespace and all datums of a call, or the error that fails it."""
    namespace = document.get("Namespace")
    if not isinstance(namespace, str) or not namespace:
        raise MissingError("The parameter Namespace is required.")
    _raise_first(_namespace_faults(namespace))
    datums = list(_all_datums(document))
    if not datums:
        raise MissingError("The parameter MetricData is required.")
    if len(datums) > MAX_DATUMS:
        raise InvalidValueError(f"The collection MetricData must not have a size greater than {MAX_DATUMS}.")
    faults = [fault for number, datum in enumerate(datums, 1) for fault in _datum_faults(number, datum, now)]
    _raise_first(faults)
    return namespace, datums


def _raise_first(faults: Sequence[ApiError]) -> None:
    """One error that says all that is wrong of the first one's kind."""
    if faults:
        kind = type(faults[0])
        raise kind("\n".join(fault.message for fault in faults if isinstance(fault, kind)))


def _all_datums(document: Json) -> Iterator[Json]:
    entities = document.get("EntityMetricData") or []
    if len(entities) > MAX_ENTITIES:
        raise InvalidValueError(f"The collection EntityMetricData must not have a size greater than {MAX_ENTITIES}.")
    yield from document.get("MetricData") or []
    for entity in entities:
        yield from entity.get("MetricData") or []


def _namespace_faults(namespace: str) -> list[ApiError]:
    faults = list(_text_faults("Namespace", namespace, MAX_NAME))
    if namespace.startswith((":", "AWS/")):
        faults.append(InvalidValueError(f"The value {namespace} for parameter Namespace is invalid."))
    return faults


def _datum_faults(number: int, datum: Mapping[str, Any], now: float) -> Iterator[ApiError]:
    where = f"MetricData.member.{number}"
    name = datum.get("MetricName")
    if not name:
        yield MissingError(f"The parameter {where}.MetricName is required.")
    else:
        yield from _text_faults(f"{where}.MetricName", name, MAX_NAME)
    yield from _dimension_faults(f"{where}.Dimensions", datum.get("Dimensions") or [])
    yield from _value_faults(where, datum)
    yield from _time_faults(where, datum, now)
    if datum.get("Unit", "None") not in UNITS:
        yield InvalidValueError(
            f"The parameter {where}.Unit must be a value in the set [ {', '.join(sorted(UNITS))} ]."
        )
    if datum.get("StorageResolution", 60) not in (1, 60):
        yield InvalidValueError(f"The parameter {where}.StorageResolution must be 1 or 60.")


def _text_faults(where: str, text: object, most: int) -> Iterator[ApiError]:
    if not isinstance(text, str) or not text.strip():
        yield InvalidValueError(f"The parameter {where} must contain at least one non-whitespace character.")
    elif len(text) > most:
        yield InvalidValueError(f"The parameter {where} must be shorter than {most + 1} characters.")
    elif not text.isascii():
        yield InvalidValueError(f"The parameter {where} must contain only ASCII characters.")
    elif not text.isprintable():
        yield InvalidValueError(f"The parameter {where} must not contain control characters.")


def check_dimensions(where: str, dimensions: list[Json]) -> list[Json]:
    """The same dimensions, or the error that says what is wrong with them."""
    _raise_first(list(_dimension_faults(where, dimensions)))
    return dimensions


def _dimension_faults(where: str, dimensions: list[Json]) -> Iterator[ApiError]:
    if len(dimensions) > MAX_DIMENSIONS:
        yield InvalidValueError(f"The collection {where} must not have a size greater than {MAX_DIMENSIONS}.")
    for number, dimension in enumerate(dimensions, 1):
        name, value = dimension.get("Name"), dimension.get("Value")
        yield from _text_faults(f"{where}.member.{number}.Name", name, MAX_NAME)
        yield from _text_faults(f"{where}.member.{number}.Value", value, MAX_VALUE)
        if isinstance(name, str) and name.startswith(":"):
            yield InvalidValueError(f"The parameter {where}.member.{number}.Name must not start with a colon.")
    if len({str(dimension.get("Name")) for dimension in dimensions}) < len(dimensions):
        yield InvalidValueError(f"The collection {where} must not name a dimension twice.")


def _value_faults(where: str, datum: Mapping[str, Any]) -> Iterator[ApiError]:
    kinds = [kind for kind in ("Value", "StatisticValues", "Values") if datum.get(kind) is not None]
    if not kinds:
        yield MissingError(f"At least one of Value, Values and StatisticValues of {where} must be specified.")
    elif len(kinds) > 1:
        both = " and ".join(f"{where}.{kind}" for kind in kinds)
        yield CombinationError(f"The parameters {both} are mutually exclusive and you have specified both.")
    elif kinds == ["Value"]:
        yield from _number_faults(f"{where}.Value", [datum["Value"]])
    elif kinds == ["Values"]:
        yield from _values_faults(where, datum["Values"], datum.get("Counts"))
    else:
        yield from _statistic_faults(f"{where}.StatisticValues", datum["StatisticValues"])


def _values_faults(where: str, values: list[Any], counts: list[Any] | None) -> Iterator[ApiError]:
    if not 1 <= len(values) <= MAX_VALUES:
        yield InvalidValueError(f"The collection {where}.Values must not have a size greater than {MAX_VALUES}.")
    if len(set(map(str, values))) < len(values):
        yield InvalidValueError(f"The collection {where}.Values must list each unique value once.")
    yield from _number_faults(f"{where}.Values", values)
    if counts is None:
        return
    if len(counts) != len(values):
        yield InvalidValueError(f"The parameters {where}.Values and {where}.Counts must be of equal length.")
    yield from _number_faults(f"{where}.Counts", counts)
    if any(isinstance(count, int | float) and count <= 0 for count in counts):
        yield InvalidValueError(f"The parameter {where}.Counts must be greater than 0.")


def _statistic_faults(where: str, values: Mapping[str, Any]) -> Iterator[ApiError]:
    names = ("SampleCount", "Sum", "Minimum", "Maximum")
    missing = [name for name in names if values.get(name) is None]
    yield from (MissingError(f"The parameter {where}.{name} is required.") for name in missing)
    if missing:
        return
    faults = list(_number_faults(where, [values[name] for name in names]))
    yield from faults
    if not faults and values["SampleCount"] <= 0:
        yield InvalidValueError(f"The parameter {where}.SampleCount must be greater than 0.")
    if not faults and values["Minimum"] > values["Maximum"]:
        yield InvalidValueError(f"The parameter {where}.Maximum must be greater than {where}.Minimum.")


def _number_faults(where: str, values: Sequence[Any]) -> Iterator[ApiError]:
    """NaN and the infinities come as strings in JSON, so that they are no numbers here."""
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or abs(value) > MAX_MAGNITUDE:
            yield InvalidValueError(f"The value {value} for parameter {where} is invalid.")


def _time_faults(where: str, datum: Mapping[str, Any], now: float) -> Iterator[ApiError]:
    at = datum.get("Timestamp", now)
    if not isinstance(at, int | float):
        yield InvalidValueError(f"The parameter {where}.Timestamp must be a time in seconds since the epoch.")
    elif at < now - MAX_AGE:
        yield InvalidValueError(f"The parameter {where}.Timestamp must specify a time within the past two weeks.")
    elif at > now + MAX_FUTURE:
        yield InvalidValueError(f"The parameter {where}.Timestamp must specify a time no more than two hours ahead.")
