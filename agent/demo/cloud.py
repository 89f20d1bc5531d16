"""The stand-ins as the demo asks them: by their control API, beside the agent and without its help."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from agent.demo.errors import StandinsSilent
from agent.demo.written import Total

_TIMEOUT = 10.0  # seconds for an answer
_OVERHEAD = 26  # bytes that CloudWatch Logs counts for each event (API_PutLogEvents)


@dataclass(frozen=True)
class Arrivals:
    """How much has arrived, in numbers."""

    lines: int = 0
    log_bytes: int = 0  # as in the files: a line end each, without what CloudWatch adds in its count
    objects: int = 0
    object_bytes: int = 0
    streams: Mapping[tuple[str, str], int] = field(default_factory=dict)  # lines of each


class Cloud:
    """All methods raise StandinsSilent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = urlsplit(url).netloc

    def about(self) -> dict[str, Any]:
        """Where and who the stand-in is."""
        about: dict[str, Any] = self._ask("GET", "")
        return about

    def make_bucket(self, name: str) -> None:
        self._ask("POST", "/buckets", {"name": name})

    def make_group(self, name: str, instance_id: str, hook: str) -> None:
        """An Auto Scaling group with one instance and one terminating hook."""
        self._ask("POST", "/lifecycle/groups", {"name": name, "instances": [instance_id], "hooks": [{"name": hook}]})

    def refuse_connections(self, seconds: float) -> None:
        """An outage of all of AWS, instance metadata apart."""
        self._ask("POST", "/outage", {"seconds": seconds})

    def give_notice(self, instance_id: str) -> None:
        """Auto Scaling wants the instance gone."""
        self._ask("POST", "/lifecycle/notice", {"instance_id": instance_id})

    def passage(self) -> dict[str, Any] | None:
        """The instance's way out, with `seconds` from the notice to the answer of its hook; None before a notice."""
        passages = self._ask("GET", "/lifecycle")["passages"]
        return passages[-1] if passages else None

    def arrivals(self, group_prefix: str, bucket: str) -> Arrivals:
        """What the log groups with a prefix and a bucket hold."""
        groups = self._ask("GET", "/logs")
        streams = {
            (name, stream): held
            for name, group in groups.items()
            if name.startswith(group_prefix)
            for stream, held in group["streams"].items()
        }
        lines = {each: held["events"] for each, held in streams.items()}
        counted = sum(held["bytes"] for held in streams.values())
        total, stored = sum(lines.values()), self._ask("GET", "/buckets")[bucket]
        return Arrivals(total, counted - total * (_OVERHEAD - 1), stored["objects"], stored["bytes"], lines)

    def messages(self, group: str, stream: str) -> list[str]:
        """All events of a stream, in order of arrival."""
        return [event["message"] for event in self._records("/logs/events", group=group, stream=stream)]

    def metrics(self) -> dict[str, Total]:
        """All metrics by name, whatever their dimensions."""
        totals: dict[str, Total] = {}
        for series in self._ask("GET", "/metrics"):
            total = totals.setdefault(series["name"], Total())
            total.count += series["count"]
            total.sum += series["sum"]
        return totals

    def objects(self, bucket: str) -> dict[str, int]:
        """Sizes by key."""
        return {record["key"]: record["size"] for record in self._records("/objects", bucket=bucket)}

    def content(self, bucket: str, key: str) -> bytes:
        return self._call("GET", f"/object?{_query(bucket=bucket, key=key)}", b"")

    def _records(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        for line in self._call("GET", f"{path}?{_query(**query)}", b"").splitlines():
            yield orjson.loads(line)

    def _ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        return orjson.loads(self._call(method, path, orjson.dumps(document) if document is not None else b""))

    def _call(self, method: str, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT)
        try:
            connection.request(method, f"/_standin{path}", body)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise StandinsSilent(f"the stand-ins at {self.url} do not answer {path}: {error}") from None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise StandinsSilent(f"the stand-ins answer {method} {path} with {answer.status}: {content[:200]!r}")
        return content


def _query(**parameters: str) -> str:
    return urlencode(parameters, quote_via=quote)  # a plus sign would be one, not a space
