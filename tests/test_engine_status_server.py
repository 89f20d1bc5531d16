"""The status over HTTP: truthful, loopback names only, and it comes back when closed."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from agent.engine.clock import SystemClock
from agent.engine.events import Events
from agent.engine.status_server import StatusServer

STATUS: dict[str, Any] = {
    "instance_id": "i-<1>", "state": "running", "healthy": True, "stuck": [], "time": "now",
    "debt": {"bytes": 12, "items": 1, "seconds": None},
    "logs": [{"path": "/var/log/<script>", "size": 20, "acknowledged": 8, "error": "denied & gone"}],
    "metrics": {"series": 3, "spooled": 0, "oldest": None}, "uploads": {"pending": 0, "failing": []},
    "counters": {"log_events_accepted": 7}, "drain": None,
}  # fmt: skip


@pytest.fixture
def status() -> dict[str, Any]:
    return dict(STATUS)


@pytest.fixture
def server(status: dict[str, Any]) -> Iterator[StatusServer]:
    made = StatusServer(("127.0.0.1", 0), lambda: status, Events(CapturingLogger(), SystemClock()))

    def serve() -> None:
        while made.step(0.0) is not None:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield made
    made.close()
    thread.join(10)
    assert not thread.is_alive()


def get(server: StatusServer, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_healthz_is_200_while_well_and_503_naming_what_is_stuck(server: StatusServer, status: dict[str, Any]) -> None:
    assert get(server, "/healthz") == (200, "running\n")
    status.update(healthy=False, stuck=["logs-reader"])
    assert get(server, "/healthz") == (503, "stuck: logs-reader\n")


def test_status_is_the_document_of_the_command(server: StatusServer, status: dict[str, Any]) -> None:
    code, text = get(server, "/status")
    assert (code, json.loads(text)) == (200, status)


def test_metrics_are_in_prometheus_text_format(server: StatusServer) -> None:
    lines = get(server, "/metrics")[1].splitlines()
    assert "outlive_log_events_accepted_total 7" in lines
    assert "outlive_debt_bytes 12" in lines
    assert not any("debt_seconds" in line for line in lines)  # not known


def test_the_page_escapes_what_comes_from_files(server: StatusServer) -> None:
    code, text = get(server, "/")
    assert code == 200
    assert "/var/log/&lt;script&gt;" in text
    assert "<script>" not in text
    assert "denied &amp; gone" in text


def test_unknown_paths_say_which_there_are(server: StatusServer) -> None:
    assert get(server, "/admin") == (404, "there are / /healthz /status /metrics\n")


def test_a_name_of_elsewhere_is_refused_so_that_no_web_page_can_read_it(server: StatusServer) -> None:
    assert get(server, "/status", Host="evil.example")[0] == 403
    assert get(server, "/status", Host="localhost:9464")[0] == 200


def test_a_peer_that_sends_nothing_does_not_stop_the_next(server: StatusServer) -> None:
    silent = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    silent.connect()
    try:
        assert get(server, "/healthz")[0] == 200
    finally:
        silent.close()
