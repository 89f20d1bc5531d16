"""The control API, /_standin/...: what arrived, and what shall happen. JSON in, JSON or NDJSON out.

GET    /_standin                        where and who this is
POST   /_standin/reset
GET POST DELETE  /_standin/faults       a rule or a list of rules (faults.Fault); DELETE ?number= takes one away
POST   /_standin/outage                 {"seconds": 30} or {}
GET    /_standin/calls                  the journal, NDJSON; ?service= and ?operation= are globs
GET    /_standin/counters               [{service, operation, result, count}]
POST   /_standin/clock                  {"advance": seconds} and/or {"signing_offset": seconds}
GET    /_standin/logs                   groups, streams and their counts
GET    /_standin/logs/events            ?group=&stream=, NDJSON
GET    /_standin/metrics                series with their statistics
GET    /_standin/metrics/datums         ?namespace=&name=, NDJSON
GET    /_standin/alarms
GET POST  /_standin/buckets             names, counts and uploads in progress; POST {"name", "region", "owner"}
GET    /_standin/objects                ?bucket=, NDJSON of descriptions
GET    /_standin/object                 ?bucket=&key=, the content
GET    /_standin/lifecycle              instances and passages
POST   /_standin/lifecycle/groups       {"name", "instances": [], "hooks": [{"name", ...}], "retain", delays}
POST   /_standin/lifecycle/notice       {"instance_id", "destination"}
POST   /_standin/lifecycle/launch       {"instance_id"}
GET POST DELETE  /_standin/metadata     {"path": value}: a text, a status, or null for 404; DELETE ?path=
POST   /_standin/metadata/tags          {"Name": "web"}
POST   /_standin/metadata/spot          {"action", "at": seconds since the epoch}
POST   /_standin/metadata/state         {"enabled", "credentials_lifetime", "expire_credentials", "restart"}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from agent.standin.errors import ApiError
from agent.standin.faults import Fault, FaultError
from agent.standin.lifecycle import Hook, LifecycleError
from agent.standin.message import Request, Response
from agent.standin.s3_store import Bucket, StoredObject

if TYPE_CHECKING:
    from agent.standin.standin import Standin

MAX_BODY = 4_194_304  # bytes of a control request
BLOCK = 65_536  # bytes of NDJSON gathered into one chunk
Json = dict[str, Any]


class ControlError(Exception):
    """The control request cannot be carried out: correct what the message names."""


class Control:
    """The control API over a stand-in's state."""

    def __init__(self, standin: Standin) -> None:
        self._standin = standin
        self._routes: Mapping[tuple[str, str], Callable[[Request], object]] = {
            ("GET", ""): self._about,
            ("POST", "reset"): self._reset,
            ("GET", "faults"): lambda _: standin.faults.as_json(),
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._remove_faults,
            ("POST", "outage"): self._outage,
            ("GET", "calls"): self._calls,
            ("GET", "counters"): self._counters,
            ("POST", "clock"): self._set_clock,
            ("GET", "logs"): lambda _: standin.logs.summary(),
            ("GET", "logs/events"): self._log_events,
            ("GET", "metrics"): self._metrics,
            ("GET", "metrics/datums"): self._datums,
            ("GET", "alarms"): lambda _: standin.monitoring.alarms(),
            ("GET", "buckets"): self._buckets,
            ("POST", "buckets"): self._add_bucket,
            ("GET", "objects"): self._objects,
            ("GET", "object"): self._object,
            ("GET", "lifecycle"): self._lifecycle,
            ("POST", "lifecycle/groups"): self._add_group,
            ("POST", "lifecycle/notice"): self._notice,
            ("POST", "lifecycle/launch"): self._launch,
            ("GET", "metadata"): lambda _: standin.metadata.as_json(),
            ("POST", "metadata"): self._set_metadata,
            ("DELETE", "metadata"): self._unset_metadata,
            ("POST", "metadata/tags"): self._set_tags,
            ("POST", "metadata/spot"): self._spot,
            ("POST", "metadata/state"): self._metadata_state,
        }

    def __call__(self, request: Request) -> Response:
        route = self._routes.get((request.method, request.path.removeprefix("/_standin").strip("/")))
        if route is None:
            return _json({"error": f"no {request.method} {request.path} in the control API"}, 404)
        try:
            answer = route(request)
        except (ControlError, FaultError, LifecycleError, ApiError, TypeError) as error:
            return _json({"error": str(error)}, 400)
        return answer if isinstance(answer, Response) else _json(answer)

    # the stand-in itself

    def _about(self, _request: Request) -> Json:
        standin = self._standin
        return {
            "url": standin.url,
            "region": standin.region,
            "account_id": standin.account_id,
            "instance_id": standin.instance_id,
            "now": standin.clock(),
            "environment": standin.environment(),
        }

    def _reset(self, _request: Request) -> Json:
        self._standin.reset()
        return {}

    def _add_faults(self, request: Request) -> list[int]:
        document = _document(request)
        rules = document if isinstance(document, list) else [document]
        return [self._standin.faults.add(fault) for fault in map(Fault.from_json, rules)]

    def _remove_faults(self, request: Request) -> Json:
        if "number" in request.query:
            self._standin.faults.remove(int(request.query["number"]))
        else:
            self._standin.faults.clear()
        return {}

    def _outage(self, request: Request) -> int:
        return self._standin.faults.outage(_fields(request).get("seconds"))

    def _calls(self, request: Request) -> Response:
        query = request.query
        calls = self._standin.journal.calls(query.get("service", "*"), query.get("operation", "*"))
        return _ndjson(map(asdict, calls))

    def _counters(self, _request: Request) -> list[Json]:
        counters = sorted(self._standin.journal.counters().items())
        return [{**outcome._asdict(), "count": count} for outcome, count in counters]

    def _set_clock(self, request: Request) -> Json:
        given = _fields(request)
        self._standin.clock.advance(given.get("advance", 0.0))
        signing = self._standin.signing_clock
        signing.offset = given.get("signing_offset", signing.offset)
        return {"now": self._standin.clock(), "signing_offset": signing.offset}

    # what arrived

    def _log_events(self, request: Request) -> Response:
        events = self._standin.logs.events(_query(request, "group"), _query(request, "stream"))
        return _ndjson(event._asdict() for event in events)

    def _metrics(self, _request: Request) -> list[Json]:
        return [
            {
                "namespace": series.namespace,
                "name": series.name,
                "dimensions": dict(series.dimensions),
                **asdict(statistics),
            }
            for series, statistics in self._standin.monitoring.series().items()
        ]

    def _datums(self, request: Request) -> Response:
        query = request.query
        return _ndjson(self._standin.monitoring.datums(query.get("namespace"), query.get("name")))

    def _buckets(self, _request: Request) -> Json:
        return {bucket.name: self._bucket(bucket) for bucket in self._standin.s3.buckets()}

    def _bucket(self, bucket: Bucket) -> Json:
        objects = self._standin.s3.objects(bucket.name)
        return {
            "region": bucket.region,
            "owner": bucket.owner,
            "objects": len(objects),
            "bytes": sum(stored.size for stored in objects),
            "uploads": [
                {"key": upload.key, "id": upload.id, "parts": sorted(upload.parts)}
                for upload in self._standin.uploads.open_uploads(bucket.name)
            ],
        }

    def _add_bucket(self, request: Request) -> Json:
        given = _fields(request)
        self._standin.s3.add_bucket(_field(given, "name"), given.get("region"), given.get("owner"))
        return {}

    def _objects(self, request: Request) -> Response:
        return _ndjson(map(_describe, self._standin.s3.objects(_query(request, "bucket"))))

    def _object(self, request: Request) -> Response:
        content = self._standin.s3.open(_query(request, "bucket"), _query(request, "key"))
        return Response(200, content, {"Content-Type": "application/octet-stream"}, content.length)

    # instance and group

    def _lifecycle(self, _request: Request) -> Json:
        lifecycle = self._standin.lifecycle
        instances = [
            {"id": i.id, "group": i.group, "state": i.state, "target": i.target} for i in lifecycle.instances()
        ]
        return {"instances": instances, "passages": [passage.as_json() for passage in lifecycle.passages()]}

    def _add_group(self, request: Request) -> Json:
        given = _fields(request)
        hooks = [Hook(**hook) for hook in given.pop("hooks", [])]
        name = _field(given, "name")
        del given["name"]
        self._standin.lifecycle.add_group(name, hooks=hooks, **given)
        return {}

    def _notice(self, request: Request) -> Json:
        given = _fields(request)
        instance_id = given.get("instance_id", self._standin.instance_id)
        passage = self._standin.lifecycle.notice(instance_id, given.get("destination", "Terminated"))
        return passage.as_json()

    def _launch(self, request: Request) -> Json:
        self._standin.lifecycle.launch(_fields(request).get("instance_id", self._standin.instance_id))
        return {}

    def _set_metadata(self, request: Request) -> Json:
        for path, value in _fields(request).items():
            if not isinstance(value, str | int | None) or isinstance(value, bool):
                raise ControlError(f"{path}: a text, a status or null, not {value!r}")
            self._standin.metadata.set(path, value)
        return {}

    def _unset_metadata(self, request: Request) -> Json:
        self._standin.metadata.unset(_query(request, "path"))
        return {}

    def _set_tags(self, request: Request) -> Json:
        self._standin.metadata.set_tags(_fields(request))
        return {}

    def _spot(self, request: Request) -> Json:
        given = _fields(request)
        self._standin.metadata.spot_notice(_field(given, "action"), _field(given, "at"))
        return {}

    def _metadata_state(self, request: Request) -> Json:
        metadata, given = self._standin.metadata, _fields(request)
        metadata.enabled = given.get("enabled", metadata.enabled)
        metadata.credentials_lifetime = given.get("credentials_lifetime", metadata.credentials_lifetime)
        if given.get("expire_credentials"):
            metadata.expire_credentials()
        if given.get("restart"):
            metadata.restart()
        return {}


def _document(request: Request) -> Any:
    body = request.body.read(MAX_BODY)
    try:
        return orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise ControlError(f"not JSON: {error}") from error


def _fields(request: Request) -> Json:
    document = _document(request)
    if not isinstance(document, dict):
        raise ControlError("an object is expected")
    return document


def _field(given: Mapping[str, Any], name: str) -> Any:
    if name not in given:
        raise ControlError(f"{name} is missing")
    return given[name]


def _query(request: Request, name: str) -> str:
    if name not in request.query:
        raise ControlError(f"the query parameter {name} is missing")
    return request.query[name]


def _describe(stored: StoredObject) -> Json:
    checksum = stored.checksum
    return {
        "key": stored.key,
        "size": stored.size,
        "etag": stored.etag,
        "modified": stored.modified,
        "parts": stored.part_count,
        "storage_class": stored.attributes.storage_class,
        "headers": stored.attributes.headers,
        "metadata": stored.attributes.metadata,
        "tags": stored.attributes.tags,
        "checksum": checksum and {"algorithm": checksum.algorithm, "value": checksum.value, "type": checksum.kind},
    }


def _json(answer: object, status: int = 200) -> Response:
    return Response(status, orjson.dumps(answer), {"Content-Type": "application/json"})


def _ndjson(records: Iterable[object]) -> Response:
    return Response(200, _gather(records), {"Content-Type": "application/x-ndjson"})


def _gather(records: Iterable[object]) -> Iterator[bytes]:
    block = bytearray()
    for record in records:
        block += orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        if len(block) >= BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
