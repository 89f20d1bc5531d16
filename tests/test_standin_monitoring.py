"""CloudWatch: the limits of PutMetricData, and alarms."""

from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from agent.standin.errors import ApiError
from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.metric_limits import UNITS
from agent.standin.monitoring import Monitoring, Statistics
from agent.standin.standin import Standin
from agent.standin.tape import Tape

NOW = 1_700_000_000.0
DAY = 86_400


class Service:
    def __init__(self, monitoring: Monitoring) -> None:
        self.monitoring = monitoring
        self._operations = monitoring.operations()

    def __call__(self, operation: str, **parameters: Any) -> Any:
        return self._operations[operation](parameters)

    def put(self, *datums: Mapping[str, Any], namespace: str = "App") -> None:
        assert self("PutMetricData", Namespace=namespace, MetricData=list(datums)) == {}

    def refusal(self, *datums: Mapping[str, Any], namespace: str = "App") -> tuple[str, str]:
        with pytest.raises(ApiError) as raised:
            self("PutMetricData", Namespace=namespace, MetricData=list(datums))
        return raised.value.code, raised.value.message


@pytest.fixture
def service(tmp_path: Any) -> Iterator[Service]:
    tape = Tape(str(tmp_path))
    yield Service(Monitoring(lambda: NOW, tape, "eu-west-1", "123456789012"))
    tape.close()


def datum(**fields: Any) -> dict[str, Any]:
    values = {"MetricName": "m", "Value": 1.0, **fields}
    return {name: value for name, value in values.items() if value is not None}


def dimensions(**pairs: str) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in pairs.items()]


# what is accepted can be read


def test_datums_are_kept_as_sent(service: Service) -> None:
    service.put(datum(Dimensions=dimensions(b="2", a="1"), Unit="Count", Timestamp=NOW - 5, StorageResolution=1))
    service.put(datum(MetricName="n"))
    first, second = service.monitoring.datums()
    assert first == {
        "MetricName": "m",
        "Value": 1.0,
        "Dimensions": {"a": "1", "b": "2"},
        "Unit": "Count",
        "Timestamp": NOW - 5,
        "StorageResolution": 1,
        "Namespace": "App",
        "Received": NOW,
    }
    assert second["Timestamp"] == NOW
    assert [d["MetricName"] for d in service.monitoring.datums(namespace="App", name="n")] == ["n"]
    assert list(service.monitoring.datums(namespace="Other")) == []


def test_all_forms_of_values_add_up(service: Service) -> None:
    service.put(
        datum(Value=4.0),
        datum(Value=None, Values=[1.0, 10.0], Counts=[2.0, 1.0]),
        datum(Value=None, Values=[5.0]),
        datum(Value=None, StatisticValues={"SampleCount": 3, "Sum": 6, "Minimum": 0.5, "Maximum": 3}),
    )
    found = service.monitoring.statistics("App", "m")
    assert found == Statistics(count=8, sum=27, minimum=0.5, maximum=10, datums=4, last=NOW, unit="None")


def test_a_series_is_its_full_set_of_dimensions(service: Service) -> None:
    service.put(datum(Dimensions=dimensions(a="1", b="2")), datum(Dimensions=dimensions(b="2", a="1")), datum())
    assert len(service.monitoring.series()) == 2
    found = service.monitoring.statistics("App", "m", {"a": "1", "b": "2"})
    assert found is not None
    assert found.datums == 2
    assert service.monitoring.statistics("App", "m", {"a": "1"}) is None


def test_entity_data_counts_and_is_kept(service: Service) -> None:
    service("PutMetricData", Namespace="App", EntityMetricData=[{"MetricData": [datum()]}])
    assert service.monitoring.statistics("App", "m") is not None


# limits

INVALID = [
    (datum(Value="NaN"), "value NaN for parameter MetricData.member.1.Value is invalid"),
    (datum(Value="Infinity"), "Value is invalid"),
    (datum(Value=2.0**360 * 1.01), "Value is invalid"),
    (datum(Value=True), "Value is invalid"),
    (datum(MetricName="x" * 256), "MetricName must be shorter than 256"),
    (datum(MetricName="wärme"), "MetricName must contain only ASCII"),
    (datum(MetricName="a\tb"), "MetricName must not contain control"),
    (datum(Unit="Furlongs"), "Unit must be a value in the set"),
    (datum(StorageResolution=30), "StorageResolution must be 1 or 60"),
    (datum(Timestamp=NOW - 14 * DAY - 1), "within the past two weeks"),
    (datum(Timestamp=NOW + 7201), "two hours ahead"),
    (datum(Dimensions=dimensions(**{f"d{n}": "v" for n in range(31)})), "size greater than 30"),
    (datum(Dimensions=dimensions(**{"": "v"})), "Name must contain at least one non-whitespace"),
    (datum(Dimensions=dimensions(**{":a": "v"})), "must not start with a colon"),
    (datum(Dimensions=dimensions(**{"n" * 256: "v"})), "Name must be shorter than 256"),
    (datum(Dimensions=dimensions(a=" ")), "Value must contain at least one non-whitespace"),
    (datum(Dimensions=dimensions(a="v" * 1025)), "Value must be shorter than 1025"),
    (datum(Dimensions=dimensions(a="é")), "Value must contain only ASCII"),
    (datum(Dimensions=dimensions(a="x\ny")), "Value must not contain control"),
    (datum(Dimensions=dimensions(a="1") + dimensions(a="2")), "must not name a dimension twice"),
    (datum(Value=None, Values=[float(n) for n in range(151)]), "size greater than 150"),
    (datum(Value=None, Values=[]), "Values must not have"),
    (datum(Value=None, Values=[1.0, 1.0]), "each unique value once"),
    (datum(Value=None, Values=[1.0], Counts=[1.0, 1.0]), "equal length"),
    (datum(Value=None, Values=[1.0], Counts=[0]), "Counts must be greater than 0"),
    (
        datum(Value=None, StatisticValues={"SampleCount": 1, "Sum": 1, "Minimum": 2, "Maximum": 1}),
        "Maximum must be greater than",
    ),
    (
        datum(Value=None, StatisticValues={"SampleCount": 0, "Sum": 1, "Minimum": 1, "Maximum": 1}),
        "SampleCount must be greater than 0",
    ),
]


@pytest.mark.parametrize(("bad", "complaint"), INVALID)
def test_one_bad_datum_fails_the_whole_call(service: Service, bad: dict[str, Any], complaint: str) -> None:
    code, message = service.refusal(bad, datum())
    assert code == "InvalidParameterValue"
    assert complaint in message
    assert list(service.monitoring.datums()) == []


def test_every_bad_datum_is_named(service: Service) -> None:
    first, second = service.refusal(datum(Value="NaN"), datum(), datum(Timestamp=1))[1].splitlines()
    assert "MetricData.member.1.Value" in first
    assert "MetricData.member.3.Timestamp" in second


def test_the_edges_of_the_limits_are_inside(service: Service) -> None:
    service.put(
        datum(MetricName="x" * 255, Value=2.0**360, Timestamp=NOW - 14 * DAY),
        datum(Value=-(2.0**360), Timestamp=NOW + 7200, StorageResolution=60),
        datum(Dimensions=dimensions(**{f"d{n}": "v" * 1024 for n in range(30)})),
        datum(Value=None, Values=[float(n) for n in range(150)]),
        *(datum(Unit=unit) for unit in sorted(UNITS)),
    )
    assert len(list(service.monitoring.datums())) == 4 + 27


def test_a_call_holds_at_most_1000_datums_over_both_lists(service: Service) -> None:
    service.put(*[datum()] * 1000)
    assert "size greater than 1000" in service.refusal(*[datum()] * 1001)[1]
    with pytest.raises(ApiError, match="1000"):
        service(
            "PutMetricData",
            Namespace="App",
            MetricData=[datum()] * 600,
            EntityMetricData=[{"MetricData": [datum()] * 401}],
        )


@pytest.mark.parametrize("namespace", [":a", "AWS/EC2", "n" * 256, "é"])
def test_a_namespace_is_checked(service: Service, namespace: str) -> None:
    assert service.refusal(datum(), namespace=namespace)[0] == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (datum(Value=None), "MissingParameter"),
        (datum(MetricName=None), "MissingParameter"),
        (datum(Value=None, StatisticValues={"Sum": 1}), "MissingParameter"),
        (datum(Values=[1.0]), "InvalidParameterCombination"),
    ],
)
def test_missing_and_conflicting_values_have_codes_of_their_own(
    service: Service, bad: dict[str, Any], code: str
) -> None:
    assert service.refusal(bad)[0] == code


def test_a_call_without_namespace_or_data_is_refused(service: Service) -> None:
    assert service.refusal(namespace="App")[0] == "MissingParameter"
    assert service.refusal(datum(), namespace="")[0] == "MissingParameter"


def test_a_request_is_at_most_a_megabyte_unpacked() -> None:
    with Standin.start() as standin:
        session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=standin.region)
        client = session.client("cloudwatch", endpoint_url=standin.url)  # sends larger bodies gzipped
        large = datum(Dimensions=dimensions(a="v" * 1024))
        client.put_metric_data(Namespace="App", MetricData=[large] * 880)
        with pytest.raises(ClientError) as raised:
            client.put_metric_data(Namespace="App", MetricData=[large] * 920)
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
        assert len(list(standin.monitoring.datums())) == 880


# alarms

ALARM = {
    "AlarmName": "outlive/i-1 disk",
    "Namespace": "App",
    "MetricName": "m",
    "Statistic": "Average",
    "Period": 60,
    "EvaluationPeriods": 3,
    "Threshold": 90,
    "ComparisonOperator": "GreaterThanThreshold",
}


def alarm_names(service: Service, **parameters: Any) -> list[str]:
    return [alarm["AlarmName"] for alarm in service("DescribeAlarms", **parameters)["MetricAlarms"]]


def test_an_alarm_is_made_overwritten_and_deleted(service: Service) -> None:
    service("PutMetricAlarm", **ALARM, DatapointsToAlarm=2, AlarmActions=["arn:aws:sns:eu-west-1:1:t"])
    service("PutMetricAlarm", **ALARM)
    (alarm,) = service("DescribeAlarms")["MetricAlarms"]
    assert (alarm["Threshold"], alarm["StateValue"], alarm["AlarmActions"]) == (90.0, "INSUFFICIENT_DATA", [])
    assert "DatapointsToAlarm" not in alarm
    service("DeleteAlarms", AlarmNames=[ALARM["AlarmName"]])
    assert alarm_names(service) == []


def test_alarms_are_found_by_name_and_prefix(service: Service) -> None:
    for name in ("outlive/a", "outlive/b", "other"):
        service("PutMetricAlarm", **ALARM | {"AlarmName": name})
    assert alarm_names(service, AlarmNamePrefix="outlive/") == ["outlive/a", "outlive/b"]
    assert alarm_names(service, AlarmNames=["other", "none"]) == ["other"]
    first = service("DescribeAlarms", MaxRecords=2)
    assert alarm_names(service, MaxRecords=2, NextToken=first["NextToken"]) == ["outlive/b"]


def test_deleting_an_unknown_alarm_deletes_the_known_ones(service: Service) -> None:
    service("PutMetricAlarm", **ALARM)
    with pytest.raises(ApiError) as raised:
        service("DeleteAlarms", AlarmNames=[ALARM["AlarmName"], "unknown"])
    assert (raised.value.code, raised.value.status) == ("ResourceNotFound", 404)
    assert alarm_names(service) == []


@pytest.mark.parametrize(
    "change",
    [
        {"Period": 45},
        {"Period": 0},
        {"AlarmName": "n" * 256},
        {"AlarmDescription": "d" * 1025},
        {"AlarmActions": ["a"] * 6},
        {"Statistic": "p99"},
        {"ComparisonOperator": ">"},
        {"TreatMissingData": "sometimes"},
        {"DatapointsToAlarm": 4},
        {"EvaluationPeriods": 0},
        {"Threshold": "high"},
        {"Unit": "Furlongs"},
        {"Dimensions": dimensions(a="é")},
    ],
)
def test_an_alarm_is_checked(service: Service, change: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        service("PutMetricAlarm", **ALARM | change)
    assert alarm_names(service) == []
