"""The HTTP server of the stand-ins: framing, keep-alive, broken clients, and nothing left behind."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from agent.standin.message import HangUpError, Request, Response, TooLargeError
from agent.standin.server import Server


class Echo:
    """Answers what it was sent, in the way that the path asks for."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if request.path == "/ignore":
            return Response(403, b"no")
        if request.path == "/reset":
            raise HangUpError(reset=True)
        if request.path == "/close":
            raise HangUpError(reset=False)
        try:
            body = request.body.read(1_000_000)
        except TooLargeError:
            return Response(413)
        if request.path == "/blocks":
            return Response(200, iter([body[:3], body[3:]]))
        return Response(200, body, {"X-Query": repr(request.query)})


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def server(echo: Echo) -> Iterator[Server]:
    running = Server(echo)
    yield running
    running.close()


class Client:
    """A connection that sends raw bytes."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def head(self) -> tuple[bytes, dict[str, str]]:
        status = self._file.readline().strip()
        lines = iter(lambda: self._file.readline().strip(), b"")
        return status, {
            k.decode().lower(): v.strip().decode() for k, _, v in (line.partition(b":") for line in lines)
        }

    def answer(self) -> tuple[bytes, bytes]:
        status, headers = self.head()
        return status, self._file.read(int(headers["content-length"]))

    def rest(self) -> bytes:
        return self._file.read()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    connection = Client(server)
    yield connection
    connection.close()


def test_several_requests_share_a_connection(client: Client, echo: Echo) -> None:
    for body in (b"one", b"", b"three"):
        client.send(b"POST /a?x=%%20y&z HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert client.answer() == (b"HTTP/1.1 200 OK", body)
    assert {request.connection for request in echo.requests} == {1}
    assert echo.requests[0].query == {"x": " y", "z": ""}


def test_requests_that_arrive_together_are_answered_in_order(client: Client) -> None:
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\naPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nb")
    assert [client.answer()[1], client.answer()[1]] == [b"a", b"b"]


def test_a_chunked_body_with_extensions_and_trailers_is_read(client: Client) -> None:
    client.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"3;name=value\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n")
    assert client.answer() == (b"HTTP/1.1 200 OK", b"abc0123456789")


def test_expect_100_continue_is_answered_when_the_body_is_wanted(client: Client) -> None:
    client.send(b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert client.head()[0] == b"HTTP/1.1 100 Continue"
    client.send(b"ok")
    assert client.answer() == (b"HTTP/1.1 200 OK", b"ok")


def test_a_refusal_before_the_body_spares_it_and_ends_the_connection(client: Client) -> None:
    client.send(b"PUT /ignore HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    status, headers = client.head()
    assert (status, headers["connection"]) == (b"HTTP/1.1 403 Forbidden", "close")
    client.half_close()
    assert client.rest() == b"no"


def test_a_body_that_nobody_read_does_not_disturb_the_next_request(client: Client) -> None:
    client.send(
        b"POST /ignore HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nb"
    )
    assert client.answer() == (b"HTTP/1.1 403 Forbidden", b"no")
    assert client.answer() == (b"HTTP/1.1 200 OK", b"b")


def test_a_body_over_the_limit_is_refused(client: Client) -> None:
    client.send(b"POST / HTTP/1.1\r\nContent-Length: 1000001\r\n\r\n" + bytes(1_000_001))
    assert client.answer()[0].endswith(b"413 Request Entity Too Large")


def test_an_answer_of_unknown_length_comes_in_chunks(client: Client) -> None:
    client.send(b"POST /blocks HTTP/1.1\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
    assert client.head()[1]["transfer-encoding"] == "chunked"
    client.half_close()
    assert client.rest() == b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


def test_head_is_answered_without_a_body(client: Client) -> None:
    client.send(b"HEAD /ignore HTTP/1.1\r\n\r\nGET /ignore HTTP/1.1\r\n\r\n")
    assert client.head()[1]["content-length"] == "2"
    assert client.answer() == (b"HTTP/1.1 403 Forbidden", b"no")


def test_connection_close_is_honoured(client: Client) -> None:
    client.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert client.head()[1]["connection"] == "close"
    client.half_close()
    assert client.rest() == b""


@pytest.mark.parametrize(
    "message",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 201 + b"\r\n",
        b"GET / HT",
    ],
)
def test_a_broken_message_ends_the_connection_without_an_answer(
    server: Server, client: Client, message: bytes
) -> None:
    client.send(message)
    client.half_close()
    with contextlib.suppress(ConnectionResetError):
        assert client.rest() == b""
    other = Client(server)  # and the server goes on
    other.send(b"GET / HTTP/1.1\r\n\r\n")
    assert other.answer()[0] == b"HTTP/1.1 200 OK"
    other.close()


def test_hanging_up_is_a_reset_or_an_orderly_close(server: Server, client: Client) -> None:
    client.send(b"GET /reset HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        client.rest()
    other = Client(server)
    other.send(b"GET /close HTTP/1.1\r\n\r\n")
    assert other.rest() == b""
    other.close()


def test_nagles_delay_is_off(echo: Echo) -> None:
    server = Server(echo)
    client = Client(server)
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    client.answer()
    ((_, connection),) = server._connections()
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    client.close()
    server.close()


def test_close_ends_idle_and_busy_connections_and_their_threads(echo: Echo) -> None:
    before = set(threading.enumerate())
    server = Server(echo)
    idle, busy = Client(server), Client(server)
    idle.send(b"GET / HTTP/1.1\r\n\r\n")
    idle.answer()
    busy.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
    busy.head()  # now the handler waits for the body
    server.close()
    assert set(threading.enumerate()) == before
    for client in (idle, busy):
        with contextlib.suppress(ConnectionResetError):
            assert client.rest() == b""
        client.close()
    with pytest.raises(ConnectionRefusedError):
        Client(server)


def test_an_answers_content_is_closed_even_if_the_client_has_gone() -> None:
    closed = threading.Event()

    class Content:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield bytes(1_000_000)

        def close(self) -> None:
            closed.set()

    endless = Server(lambda _: Response(200, Content(), length=10**12))
    client = Client(endless)
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    client.head()
    client.close()
    assert closed.wait(5)
    endless.close()
