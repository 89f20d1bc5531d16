"""From a request to its service: faults first, then the service, then the journal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

import orjson

from agent.standin.errors import ApiError
from agent.standin.faults import FaultPlan, Kind, Strike
from agent.standin.journal import Journal, Outcome
from agent.standin.message import HangUpError, Request, Response
from agent.standin.signatures import SignatureError, parse_authorization

CONTROL = "/_standin"
MAX_DISCARD = 5 * 1024**3  # bytes of a body that a fault reads past
LOOPBACK = ("127.", "::1")
Handler = Callable[[Request], Response]


class Front(Protocol):
    """A service behind its protocol."""

    @property
    def name(self) -> str:
        """As the credential scope calls it."""

    @property
    def throttled(self) -> ApiError:
        """What the service says when it is asked too much."""

    def operation(self, request: Request) -> str:
        """The operation's name; empty if there is none."""

    def handle(self, request: Request, operation: str) -> Response: ...
    def refuse(self, error: ApiError) -> Response: ...


class Absent:
    """A service that the stand-in does not have: said aloud, as a call to it is a test's mistake."""

    throttled = ApiError("Rate exceeded", code="ThrottlingException", status=400)

    def __init__(self, name: str) -> None:
        self.name = name

    def operation(self, request: Request) -> str:
        return request.headers.get("x-amz-target", request.path)

    def handle(self, _request: Request, _operation: str) -> Response:
        return self.refuse(ApiError(f"the stand-in has no service {self.name!r}", code="NoSuchService", status=501))

    def refuse(self, error: ApiError) -> Response:
        body = orjson.dumps({"__type": error.code, "message": error.message})
        return Response(error.status, body, {"Content-Type": "application/x-amz-json-1.1"}, error=error.code)


@dataclass
class Dispatcher:
    """Answers every request. `clock` is the stand-in's, `date` that of the Date header."""

    fronts: Mapping[str, Front]
    unsigned: Front
    metadata: Front
    control: Handler
    faults: FaultPlan
    journal: Journal
    clock: Callable[[], float]
    date: Callable[[], float]

    def __call__(self, request: Request) -> Response:
        response = self._route(request)
        response.headers.setdefault("Date", formatdate(self.date(), usegmt=True))
        return response

    def _route(self, request: Request) -> Response:
        if request.path == CONTROL or request.path.startswith(f"{CONTROL}/"):
            return self.control(request) if request.peer.startswith(LOOPBACK) else Response(403)
        return self._serve(self._front(request), request)

    def _front(self, request: Request) -> Front:
        """By the service in the signature's scope; without one it is metadata or, as on AWS, S3."""
        header = request.headers.get("authorization")
        if header is None and self._is_metadata(request):
            return self.metadata
        try:
            service = parse_authorization(header).service
        except SignatureError:
            return self._by_shape(request)
        return self.fronts.get(service) or Absent(service)

    def _is_metadata(self, request: Request) -> bool:
        return request.path.startswith("/latest") or request.path[1:5].isdecimal()

    def _by_shape(self, request: Request) -> Front:
        """The service that would refuse an unauthentic request, told by its X-Amz-Target."""
        for front in self.fronts.values():
            if "x-amz-target" in request.headers and front.operation(request):
                return front
        return self.unsigned

    def _serve(self, front: Front, request: Request) -> Response:
        operation = front.operation(request)
        strike = self.faults.take(front.name, operation)
        try:
            response = self._struck(front, request, operation, strike)
        except HangUpError:
            self._record(front, request, operation, strike, None)
            raise
        self._record(front, request, operation, strike, response)
        if strike and strike.fault.kind is Kind.LOST:
            response.close()
            raise HangUpError(reset=True)
        return response

    def _struck(self, front: Front, request: Request, operation: str, strike: Strike | None) -> Response:
        if strike is None:
            return front.handle(request, operation)
        if strike.fault.kind is Kind.SLOW:
            strike.wait()
        if strike.fault.kind in (Kind.SLOW, Kind.LOST):
            return front.handle(request, operation)
        _sever(request, strike)
        return _faulty(front, strike)

    def _record(
        self, front: Front, request: Request, operation: str, strike: Strike | None, response: Response | None
    ) -> None:
        fault = strike.fault.kind.value if strike else None
        lost = response is None or (strike is not None and strike.fault.kind is Kind.LOST)
        result = (response.error if response else fault) or "ok"
        self.journal.record(
            self.clock(),
            request.connection,
            Outcome(front.name, operation, result),
            status=0 if lost or response is None else response.status,
            fault=fault,
            received=request.body.received,
        )


def _sever(request: Request, strike: Strike) -> None:
    """Read as much of the request as the fault lets through; end the connection if that is the fault."""
    kind = strike.fault.kind
    if kind is Kind.REFUSE:
        raise HangUpError(reset=True)
    if kind is Kind.RESET:
        request.body.discard((request.body.length or 0) // 2, invite=True)
        raise HangUpError(reset=True)
    request.body.discard(MAX_DISCARD)
    if kind is Kind.HANG:
        strike.wait()
        raise HangUpError(reset=False)


def _faulty(front: Front, strike: Strike) -> Response:
    fault = strike.fault
    if fault.kind is Kind.THROTTLE:
        return front.refuse(front.throttled)
    message = "We encountered an internal error. Please try again."
    if fault.kind is Kind.ERROR_IN_200:
        response = front.refuse(ApiError(message, code="InternalError", status=500))
        response.status = 200
        return response
    return front.refuse(ApiError(message, code=fault.code, status=fault.status))
