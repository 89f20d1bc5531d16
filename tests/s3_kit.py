"""The way into a stand-in for S3, without the environment."""

from __future__ import annotations

import threading
from typing import Any

from agent.aws.wire import Answer, Route, Wire
from agent.engine.clock import SystemClock
from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.standin import Standin


class TellingWire(Wire):
    """A wire that says when a request is about to go."""

    asked: threading.Event

    def send(self, *args: Any, **rest: Any) -> Answer:
        self.asked.set()
        return super().send(*args, **rest)


class LocalAws:
    """What `agent.aws.s3` needs of `agent.aws.session.Aws`, at a stand-in. Close it."""

    def __init__(self, standin: Standin, region: str | None = None, secret: str = SECRET_KEY) -> None:
        self.asked = threading.Event()  # set by each request
        self.region = region or standin.region
        self._url = standin.url
        self._secret = secret
        self._wires: dict[str, Wire] = {}
        self._clients: list[Any] = []

    def wire(self, service: str, region: str | None = None, url: str | None = None) -> Wire:
        from botocore.credentials import ReadOnlyCredentials

        credentials = ReadOnlyCredentials(ACCESS_KEY, self._secret, None)
        key = f"{region} {url}"
        if key not in self._wires:
            route = Route(url or self._url, region or self.region, service)
            self._wires[key] = wire = TellingWire(route, lambda: credentials, SystemClock())
            wire.asked = self.asked
        return self._wires[key]

    def client(self, service: str, region: str | None = None) -> Any:
        import boto3

        session = boto3.Session(ACCESS_KEY, self._secret, region_name=region or self.region)
        self._clients.append(session.client(service, endpoint_url=self._url))
        return self._clients[-1]

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()
        for client in self._clients:
            client.close()
