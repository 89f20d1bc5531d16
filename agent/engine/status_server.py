"""The status over HTTP, for load balancers, scrapers and people on the instance: loopback only, read only.

GET /healthz (200 or 503), /status (JSON), /metrics (Prometheus' text format), / (a page).
"""

from __future__ import annotations

import contextlib
import html
import re
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import orjson

from agent.engine.events import Events

_PEER_SECONDS = 2.0  # for a peer to send its request and take its answer
_SHOWN_ROWS = 200  # files on the page
_LOCAL_NAMES = re.compile(r"(127(\.\d+){3}|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
Status = Callable[[], Mapping[str, Any]]


class StatusServer:
    """A worker for a thread of its own; like the control socket it waits outside."""

    name = "status-server"

    def __init__(self, address: tuple[str, int], status: Status, events: Events) -> None:
        """Bind `address`, (host, port). Raises OSError."""
        self._closed = False
        kind = _IPv6Server if ":" in address[0] else _Server
        self._server = kind(address, _handler(status, events))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def step(self, now: float) -> float | None:
        """Answer one request, waiting for it; None once the server is closed."""
        if self._closed:
            return None
        self._server.handle_request()
        return now

    def close(self) -> None:
        """Stop listening; a `step` that waits comes back."""
        self._closed = True
        with contextlib.suppress(OSError):  # closed before
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.server_close()


class _Server(HTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that leaves in the middle is its own affair."""


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


def _handler(status: Status, events: Events) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PEER_SECONDS
        server_version = "outlive"
        sys_version = ""

        def do_GET(self) -> None:
            if not _LOCAL_NAMES.fullmatch(self.headers.get("Host", "localhost")):
                self._send(
                    HTTPStatus.FORBIDDEN, "text/plain", b"only by a name of this machine\n"
                )  # no DNS rebinding
                return
            answer = _PAGES.get(self.path.partition("?")[0])
            if answer is None:
                self._send(HTTPStatus.NOT_FOUND, "text/plain", b"there are / /healthz /status /metrics\n")
                return
            code, kind, body = answer(status())
            self._send(code, kind, body)

        def _send(self, code: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's own name
            events.say("debug", "status_request", request=format % args)

    return Handler


Page = tuple[HTTPStatus, str, bytes]


def health(status: Mapping[str, Any]) -> Page:
    """200 while every thread comes back, else 503 and which do not."""
    if status["healthy"]:
        return HTTPStatus.OK, "text/plain", f"{status['state']}\n".encode()
    return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"stuck: {', '.join(status['stuck'])}\n".encode()


def document(status: Mapping[str, Any]) -> Page:
    return HTTPStatus.OK, "application/json", orjson.dumps(status, default=str)


def exposition(status: Mapping[str, Any]) -> Page:
    """Counters and debt. Source: prometheus.io/docs/instrumenting/exposition_formats."""
    lines = []
    for name, value in status["counters"].items():
        lines += [f"# TYPE outlive_{name}_total counter", f"outlive_{name}_total {value}"]
    gauges = {
        "debt_bytes": status["debt"]["bytes"],
        "debt_items": status["debt"]["items"],
        "debt_seconds": status["debt"]["seconds"],
        "healthy": int(status["healthy"]),
        "draining": int(status["drain"] is not None),
    }
    for name, value in gauges.items():
        if value is not None:
            lines += [f"# TYPE outlive_{name} gauge", f"outlive_{name} {value}"]
    return HTTPStatus.OK, "text/plain; version=0.0.4", ("\n".join(lines) + "\n").encode()


def page(status: Mapping[str, Any]) -> Page:
    """The status for people; loads itself anew every five seconds."""
    rows = [
        (file["path"], f"{file['acknowledged']:,} of {file['size']:,} bytes", file["error"] or "")
        for file in status["logs"][:_SHOWN_ROWS]
    ]
    rows += [(item["path"], "upload fails", item["error"]) for item in status["uploads"]["failing"][:_SHOWN_ROWS]]
    facts = {
        "state": status["state"],
        "not yet in AWS": f"{status['debt']['bytes']:,} bytes in {status['debt']['items']:,} items",
        "metrics": f"{status['metrics']['series']:,} series, {status['metrics']['spooled']:,} samples waiting",
        "uploads": f"{status['uploads']['pending']:,} pending, {len(status['uploads']['failing']):,} failing",
        "as of": status.get("time", ""),
    }
    body = _PAGE.format(
        title=html.escape(f"outlive on {status['instance_id']}"),
        tone="good" if status["healthy"] else "bad",
        facts="".join(
            f"<dt>{html.escape(key)}</dt><dd>{html.escape(str(value))}</dd>" for key, value in facts.items()
        ),
        rows="".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
        ),
        counters="".join(
            f"<tr><td>{html.escape(name)}</td><td class=number>{value:,}</td></tr>"
            for name, value in status["counters"].items()
        ),
    )
    return HTTPStatus.OK, "text/html; charset=utf-8", body.encode()


_PAGES: dict[str, Callable[[Mapping[str, Any]], Page]] = {
    "/healthz": health,
    "/status": document,
    "/metrics": exposition,
    "/": page,
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2530 }}
h1 {{ font-size: 1.3rem; border-left: .4rem solid; padding-left: .6rem }}
.good {{ border-color: #2a8f5c }} .bad {{ border-color: #c0392b }}
dl {{ display: grid; grid-template-columns: max-content auto; gap: .2rem 1.5rem }}
dt {{ color: #5d6b7a }} dd {{ margin: 0 }}
table {{ border-collapse: collapse; margin-top: 1.5rem; width: 100% }}
td {{ padding: .25rem .8rem .25rem 0; border-top: 1px solid #e3e8ee; word-break: break-word }}
.number {{ text-align: right; font-variant-numeric: tabular-nums }}
</style></head><body><h1 class="{tone}">{title}</h1><dl>{facts}</dl>
<table>{rows}</table><table>{counters}</table></body></html>
"""
