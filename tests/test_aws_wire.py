"""The fast path: signed requests over kept connections, and what it means when one of them fails."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from botocore.credentials import ReadOnlyCredentials
from conftest import eventually
from raw_server import Proxy, RawServer, http, read_request, saying, tls_front

from agent.aws.errors import AnswerLost, Denied, Unreachable
from agent.aws.wire import Answer, KeptConnectionClosed, Route, Wire
from agent.engine.clock import Clock, FakeClock, SystemClock
from agent.standin.faults import Fault, Kind
from agent.standin.keys import ACCESS_KEY, SECRET_KEY
from agent.standin.standin import Standin

JSON = "application/x-amz-json-1.1"
PATIENCE = 5.0  # seconds that a test waits before it fails
Make = Callable[..., Wire]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes wires; they are closed after the test, and none leaves a socket behind."""
    before = sockets()
    wires: list[Wire] = []

    def make_wire(
        url: str,
        service: str = "logs",
        *,
        secret: str = SECRET_KEY,
        token: str | None = None,
        key: str = ACCESS_KEY,
        clock: Clock | None = None,
        proxy: str | None = None,
        ca_bundle: str | None = None,
    ) -> Wire:
        credentials = ReadOnlyCredentials(key, secret, token)
        route = Route(url, "eu-west-1", service, ca_bundle=ca_bundle, proxy=proxy)
        wires.append(Wire(route, lambda: credentials, clock or SystemClock()))
        return wires[-1]

    yield make_wire
    for wire in wires:
        wire.close()
    assert eventually(lambda: sockets() <= before)  # the stand-in's ends are closed a moment later


def sockets() -> set[str]:
    """This process's end of each of its sockets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # it was the listing's own
    return {target for target in found if target.startswith("socket:")}


@pytest.fixture
def wire(standin: Standin, make: Make) -> Wire:
    return make(standin.url)


def call(wire: Wire, operation: str, timeout: float = PATIENCE, **fields: Any) -> Answer:
    headers = {"X-Amz-Target": f"Logs_20140328.{operation}", "Content-Type": JSON}
    return wire.send(operation, "POST", "/", headers, orjson.dumps(fields), timeout=timeout)


def describe(wire: Wire, timeout: float = PATIENCE) -> int:
    return call(wire, "DescribeLogGroups", timeout).status


def met(standin: Standin) -> int:
    """How many calls have met a fault so far."""
    return sum(rule["acted"] for rule in standin.faults.as_json())


def error_of(answer: Answer) -> tuple[int, str]:
    return answer.status, orjson.loads(answer.body)["__type"].rpartition("#")[2]


# signatures


def test_the_signature_is_accepted(wire: Wire) -> None:
    answer = call(wire, "CreateLogGroup", logGroupName="/app")
    assert answer.status == 200
    answer = call(wire, "DescribeLogGroups")
    assert [group["logGroupName"] for group in orjson.loads(answer.body)["logGroups"]] == ["/app"]
    assert answer.headers["content-type"] == JSON


def test_another_secret_is_refused_by_aws_and_that_is_an_answer(standin: Standin, make: Make) -> None:
    answer = call(make(standin.url, secret="another"), "DescribeLogGroups")
    assert error_of(answer) == (400, "InvalidSignatureException")


def test_a_session_token_is_sent_and_signed(standin: Standin, make: Make) -> None:
    key = standin.keys.issue("arn:aws:sts::123456789012:assumed-role/r/s", 3600)
    assert key.token is not None
    assert describe(make(standin.url, key=key.access_key, secret=key.secret_key, token=key.token)) == 200
    without = call(make(standin.url, key=key.access_key, secret=key.secret_key), "DescribeLogGroups")
    assert without.status == 400


def test_credentials_are_asked_for_anew_with_each_request(standin: Standin) -> None:
    keys = [ReadOnlyCredentials(ACCESS_KEY, "expired", None), ReadOnlyCredentials(ACCESS_KEY, SECRET_KEY, None)]
    wire = Wire(Route(standin.url, "eu-west-1", "logs"), lambda: keys.pop(0), SystemClock())
    assert [describe(wire), describe(wire)] == [400, 200]
    wire.close()


def test_without_credentials_nothing_is_sent(standin: Standin) -> None:
    wire = Wire(Route(standin.url, "eu-west-1", "logs"), lambda: None, SystemClock())
    with pytest.raises(Denied) as caught:
        describe(wire)
    assert caught.value.code == "NoCredentials"
    assert standin.journal.calls() == []


@pytest.mark.parametrize("key", ["a b+c/d=e/%41~é", "dots/../and/./more//", "date=2024-01-01/(1).log", "ü" * 40])
def test_a_path_is_signed_as_it_is_sent(standin: Standin, make: Make, key: str) -> None:
    standin.s3.add_bucket("bucket")
    wire = make(standin.url, "s3")
    target = f"/bucket/{quote(key, safe='/-_.~')}"
    assert wire.send("PutObject", "PUT", target, {}, b"content").status == 200
    assert standin.s3.read("bucket", key) == b"content"
    listing = wire.send("ListObjectsV2", "GET", f"/bucket?list-type=2&prefix={quote(key, safe='')}", {})
    assert (listing.status, listing.body.count(b"<Key>")) == (200, 1)


def test_the_answers_of_a_head_request_have_no_body(standin: Standin, make: Make) -> None:
    standin.s3.add_bucket("bucket")
    wire = make(standin.url, "s3")
    wire.send("PutObject", "PUT", "/bucket/key", {}, b"content")
    answer = wire.send("HeadObject", "HEAD", "/bucket/key", {})
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "7")
    assert wire.send("HeadObject", "HEAD", "/bucket/none", {}).status == 404
    assert len({made.connection for made in standin.journal.calls()}) == 1


# a clock that is off


@pytest.mark.parametrize("off", [-3600.0, 3600.0, 400.0])
def test_a_clock_that_is_off_is_corrected_once_by_the_date_of_the_answer(
    standin: Standin, make: Make, off: float
) -> None:
    wire = make(standin.url, clock=FakeClock(time.time() + off))
    assert [describe(wire), describe(wire)] == [200, 200]
    assert [made.status for made in standin.journal.calls()] == [400, 200, 200]


def test_a_clock_that_is_put_right_later_is_followed(standin: Standin, make: Make) -> None:
    clock = FakeClock(time.time() + 3600)
    wire = make(standin.url, clock=clock)
    assert describe(wire) == 200
    clock.set_time(time.time())
    assert describe(wire) == 200
    assert [made.status for made in standin.journal.calls()] == [400, 200, 400, 200]


def test_an_error_while_the_clock_is_right_is_not_asked_again(standin: Standin, make: Make) -> None:
    call(make(standin.url, secret="another"), "DescribeLogGroups")
    assert len(standin.journal.calls()) == 1


@pytest.mark.parametrize("date", ["", "Date: yesterday", "Date: Thu, 99 Foo 2024 00:00:00 GMT"])
def test_an_answer_without_a_date_corrects_nothing(make: Make, date: str) -> None:
    with RawServer(saying(http(b"{}", "403 Forbidden", *([date] if date else [])))) as server:
        assert describe(make(server.url, clock=FakeClock(0.0))) == 403
        assert server.connections == 1


def test_a_corrected_request_sends_its_blocks_again(standin: Standin, make: Make) -> None:
    standin.s3.add_bucket("bucket")
    wire = make(standin.url, "s3", clock=FakeClock(time.time() - 7200))
    begun: list[int] = []

    def blocks() -> Iterable[bytes]:
        begun.append(1)
        return [b"con", b"tent"]

    digest = hashlib.sha256(b"content").hexdigest()
    answer = wire.send("PutObject", "PUT", "/bucket/key", {"Content-Length": "7"}, blocks, digest=digest)
    assert (answer.status, len(begun)) == (200, 2)
    assert standin.s3.read("bucket", "key") == b"content"


# bodies


def test_a_body_of_blocks_is_sent_as_it_is_made(standin: Standin, make: Make) -> None:
    standin.s3.add_bucket("bucket")
    content = os.urandom(1 << 20)
    step = 100_001

    def blocks() -> Iterator[bytes]:
        for start in range(0, len(content), step):
            yield content[start : start + step]
            yield b""

    digest = hashlib.sha256(content).hexdigest()
    headers = {"Content-Length": str(len(content))}
    answer = make(standin.url, "s3").send("PutObject", "PUT", "/bucket/key", headers, blocks, digest=digest)
    assert answer.status == 200
    assert standin.s3.read("bucket", "key") == content


@pytest.mark.parametrize("failure", [OSError(5, "Input/output error"), FileNotFoundError(2, "gone"), KeyError("x")])
def test_a_failure_to_make_the_blocks_is_the_callers_and_not_the_networks(
    standin: Standin, make: Make, failure: Exception
) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"begun"
        raise failure

    standin.s3.add_bucket("bucket")
    wire = make(standin.url, "s3")
    with pytest.raises(type(failure)) as caught:
        wire.send("PutObject", "PUT", "/bucket/key", {"Content-Length": "9"}, blocks, digest="0" * 64)
    assert caught.value is failure
    assert standin.s3.objects("bucket") == []
    assert wire.send("PutObject", "PUT", "/bucket/key", {}, b"after").status == 200


def test_an_answer_that_comes_before_the_body_was_sent_is_still_the_answer(make: Make) -> None:
    """S3 says why it will not have a body, and stops reading."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(http(b"<Error/>", "400 Bad Request"))
        time_out(connection)

    def time_out(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.close()  # with much unread: a reset

    big = b"x" * (32 << 20)
    with RawServer(refuse) as server:
        wire = make(server.url)
        answer = wire.send("PutObject", "PUT", "/b/k", {}, big, timeout=PATIENCE)
        assert (answer.status, answer.body) == (400, b"<Error/>")
        wire.send("PutObject", "PUT", "/b/k", {}, big, timeout=PATIENCE)
        assert server.connections == 2  # one on which half a body lies is not used again


# connections


def test_a_connection_is_kept_and_used_again(standin: Standin, wire: Wire) -> None:
    for _ in range(5):
        describe(wire)
    assert len({made.connection for made in standin.journal.calls()}) == 1


def test_each_call_under_way_has_a_connection_of_its_own(standin: Standin, wire: Wire) -> None:
    standin.faults.add(Fault(Kind.SLOW, seconds=PATIENCE))
    threads = [threading.Thread(target=describe, args=(wire, 2 * PATIENCE)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: met(standin) == 4)
    standin.faults.clear()
    for thread in threads:
        thread.join(PATIENCE)
    assert len({made.connection for made in standin.journal.calls()}) == 4
    for _ in range(4):
        describe(wire)
    assert len({made.connection for made in standin.journal.calls()}) == 4


def test_no_more_idle_connections_are_kept_than_sixteen(standin: Standin, wire: Wire) -> None:
    before = len(sockets())
    standin.faults.add(Fault(Kind.SLOW, seconds=PATIENCE))
    threads = [threading.Thread(target=describe, args=(wire, 2 * PATIENCE)) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: met(standin) == 20)
    standin.faults.clear()
    for thread in threads:
        thread.join(PATIENCE)
    assert eventually(lambda: len(sockets()) - before == 2 * 16)  # both ends are this process's


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_without_an_error(make: Make) -> None:
    closed = threading.Event()

    def once(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(http())
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with RawServer(once) as server:
        wire = make(server.url)
        for number in range(1, 4):
            assert describe(wire) == 200
            assert closed.wait(PATIENCE)
            closed.clear()
            assert server.connections == number


def test_a_connection_on_which_the_server_speaks_out_of_turn_is_not_used(make: Make) -> None:
    answered, said = threading.Event(), threading.Event()

    def talk(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(http())
        wait(answered)
        connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        said.set()
        read_request(connection)

    with RawServer(talk) as server:
        wire = make(server.url)
        assert describe(wire) == 200
        answered.set()
        assert said.wait(PATIENCE)
        assert describe(wire) == 200
        assert server.connections == 2


def test_a_connection_is_not_kept_where_the_answer_says_so(make: Make) -> None:
    with RawServer(saying(http(b"{}", "200 OK", "Connection: close"), http())) as server:
        wire = make(server.url)
        assert [describe(wire), describe(wire)] == [200, 200]
        assert server.connections == 2


@pytest.mark.parametrize("answer", [b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", http() + b"HTTP/1.1 408 x\r\n"])
def test_a_connection_is_not_kept_where_its_next_answer_would_be_in_doubt(make: Make, answer: bytes) -> None:
    with RawServer(saying(answer, answer)) as server:
        wire = make(server.url)
        assert [describe(wire), describe(wire)] == [200, 200]
        assert server.connections == 2


def test_an_answer_may_come_in_any_pieces(make: Make) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Y: z\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
    )

    def talk(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size in (1, 2, 7):
            read_request(connection)
            for start in range(0, len(answer), size):
                connection.sendall(answer[start : start + size])

    with RawServer(talk) as server:
        wire = make(server.url)
        assert [call(wire, "DescribeLogGroups").body for _ in range(3)] == [b"abc0123456789"] * 3
        assert server.connections == 1


def test_a_connection_unused_for_a_minute_is_not_used_again(standin: Standin, make: Make) -> None:
    """A NAT gateway forgets it, and says so only when something is sent: too late to know if it arrived."""
    clock = FakeClock(time.time())
    wire = make(standin.url, clock=clock)
    for seconds in (0, 59, 61):
        clock.advance(seconds)
        clock.set_time(time.time())
        assert describe(wire) == 200
    assert [made.connection for made in standin.journal.calls()] == [1, 1, 2]


def test_thousands_of_open_files_are_no_obstacle(standin: Standin, wire: Wire) -> None:
    """select(2) can't look at descriptors from 1024 on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("no more than 1024 descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        assert [describe(wire), describe(wire)] == [200, 200]
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len({made.connection for made in standin.journal.calls()}) == 1


# failures


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "no..such.host"])
def test_where_nobody_can_be_reached_nothing_was_sent(make: Make, host: str) -> None:
    with pytest.raises(Unreachable) as caught:
        describe(make(f"http://{host}:{free_port()}"))
    assert host in str(caught.value)


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.REFUSE])
def test_a_connection_that_breaks_after_something_was_sent_has_lost_its_answer(
    standin: Standin, wire: Wire, kind: Kind
) -> None:
    standin.faults.add(Fault(kind, times=1))
    with pytest.raises(AnswerLost, match="on a new connection"):
        describe(wire)
    assert describe(wire) == 200


def test_an_answer_lost_on_a_kept_connection_says_so(standin: Standin, wire: Wire) -> None:
    describe(wire)
    standin.faults.add(Fault(Kind.REFUSE, times=1))
    with pytest.raises(KeptConnectionClosed, match="on a kept connection"):
        describe(wire)


@pytest.mark.parametrize("kept", [False, True])
def test_an_answer_that_began_or_a_new_connection_is_no_kept_one_that_was_closed(make: Make, kept: bool) -> None:
    """Only what was most likely never read may be sent again without a thought."""

    def talk(connection: socket.socket) -> None:
        if kept:
            read_request(connection)
            connection.sendall(http())
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200" if kept else b"")

    with RawServer(talk) as server:
        wire = make(server.url)
        if kept:
            describe(wire)
        with pytest.raises(AnswerLost) as caught:
            describe(wire)
        assert type(caught.value) is AnswerLost


@pytest.mark.parametrize("header", ["x-amz-meta-a\r\nHost", "x-amz-meta-a"])
def test_a_header_can_not_become_two(standin: Standin, make: Make, header: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        make(standin.url, "s3").send("PutObject", "PUT", "/b/k", {header: "one\nx-two: 2"}, b"")
    assert standin.journal.calls() == []


def test_what_was_accepted_without_an_answer_is_never_said_to_have_failed_for_sure(
    standin: Standin, wire: Wire
) -> None:
    standin.faults.add(Fault(Kind.LOST, times=1))
    with pytest.raises(AnswerLost):
        call(wire, "CreateLogGroup", logGroupName="/app")
    assert "/app" in standin.logs.groups()


def test_silence_ends_with_the_time_limit(standin: Standin, wire: Wire) -> None:
    standin.faults.add(Fault(Kind.HANG, seconds=60, times=1))
    before = time.monotonic()
    with pytest.raises(AnswerLost) as caught:
        describe(wire, timeout=0.1)
    assert caught.value.code == "TimeoutError"
    assert time.monotonic() - before < 2.0
    standin.faults.clear()
    assert describe(wire) == 200


def test_a_server_that_takes_nothing_in_ends_with_the_time_limit(make: Make) -> None:
    over = threading.Event()
    with RawServer(lambda _connection: wait(over)) as server:
        with pytest.raises(AnswerLost):
            make(server.url).send("PutObject", "PUT", "/b/k", {}, b"x" * (32 << 20), timeout=0.1)
        over.set()


def wait(event: threading.Event) -> None:
    event.wait(PATIENCE)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half": ',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9_000_000,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 9_000_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100000\r\n%b\r\n" % (b"x" * (1 << 20)) * 9,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 200,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    ],
    ids=[
        "none",
        "no body",
        "half a body",
        "half its chunks",
        "no chunk",
        "another protocol",
        "headers",
        "too long",
        "too long until the end",
        "too many chunks",
        "a chunk that goes on",
        "endless trailers",
        "another coding",
        "a negative length",
        "two lengths",
        "a blank in a name",
        "a folded header",
        "an endless header",
        "endless interim answers",
    ],
)
def test_an_answer_that_is_not_whole_is_none(make: Make, answer: bytes) -> None:
    """http.client itself would give out half a body as if it were one."""
    with RawServer(saying(answer)) as server, pytest.raises(AnswerLost):
        describe(make(server.url))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\n" + http(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\nTrailer: t\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["chunked", "until the end", "continue", "chunks with extensions and trailers", "HTTP/1.0"],
)
def test_a_whole_answer_may_be_written_in_several_ways(make: Make, answer: bytes) -> None:
    with RawServer(saying(answer)) as server:
        wire = make(server.url)
        headers = {"Content-Type": JSON}
        found = wire.send("DescribeLogGroups", "POST", "/", headers, b"{}", timeout=PATIENCE)
        assert (found.status, found.body) == (200, b"{}")


# closing


def test_closing_ends_a_call_under_way_at_once(standin: Standin, wire: Wire) -> None:
    standin.faults.add(Fault(Kind.HANG, seconds=60))
    ends: list[str] = []

    def run() -> None:
        try:
            describe(wire, timeout=60)
        except AnswerLost:
            ends.append("lost")

    thread = threading.Thread(target=run)
    thread.start()
    assert eventually(lambda: met(standin) == 1)
    wire.close()
    thread.join(PATIENCE)
    assert ends == ["lost"]
    standin.faults.clear()


def test_after_closing_nothing_is_sent(standin: Standin, wire: Wire) -> None:
    describe(wire)
    wire.close()
    with pytest.raises(Unreachable, match="ending"):
        describe(wire)
    assert len(standin.journal.calls()) == 1


def test_closing_leaves_no_socket_open(standin: Standin, make: Make) -> None:
    before = sockets()
    wire = make(standin.url)
    describe(wire)
    assert sockets() != before
    wire.close()
    assert eventually(lambda: sockets() == before)


# proxies


@pytest.fixture
def proxy() -> Iterator[tuple[Proxy, str]]:
    talk = Proxy()
    with RawServer(talk) as server:
        yield talk, f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("form", ["http://{}", "{}", "http://{}/"])
def test_plain_http_goes_through_a_proxy_by_its_whole_url(
    standin: Standin, make: Make, proxy: tuple[Proxy, str], form: str
) -> None:
    talk, address = proxy
    wire = make(standin.url, proxy=form.format(address))
    assert [describe(wire), describe(wire)] == [200, 200]
    assert [head.split("\r\n")[0] for head in talk.heads] == [f"POST {standin.url}/ HTTP/1.1"] * 2
    assert not any("proxy-authorization" in head.lower() for head in talk.heads)


def test_a_proxys_user_and_password_go_to_the_proxy_alone(
    standin: Standin, make: Make, proxy: tuple[Proxy, str]
) -> None:
    talk, address = proxy
    assert describe(make(standin.url, proxy=f"http://us%40er:p%3Ass@{address}")) == 200
    (head,) = talk.heads
    assert "Proxy-Authorization: Basic dXNAZXI6cDpzcw==" in head
    assert "proxy-authorization" not in head.partition("SignedHeaders=")[2].partition(",")[0]


def test_a_proxy_that_is_not_there_makes_aws_unreachable(standin: Standin, make: Make) -> None:
    with pytest.raises(Unreachable):
        describe(make(standin.url, proxy=f"http://user:hunter2@127.0.0.1:{free_port()}"))
    assert standin.journal.calls() == []


@pytest.mark.parametrize("proxy", ["https://127.0.0.1:3128", "socks5://127.0.0.1:1080", "http://", "http://p:port"])
def test_a_proxy_that_is_not_understood_is_said_and_gets_no_password(make: Make, proxy: str) -> None:
    with pytest.raises(Unreachable, match=r"HTTPS_PROXY|[Pp]ort"):
        describe(make("http://127.0.0.1:9", proxy=proxy))


# TLS


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA (ca.pem), a certificate of it for localhost (localhost.pem, localhost.key), and a stranger (other.pem)."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", "/CN=localhost", "-keyout", "localhost.key", "-out", "localhost.csr")  # fmt: skip
    (folder / "extensions").write_text("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", "localhost.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "extensions", "-out", "localhost.pem")  # fmt: skip
    return folder


@pytest.fixture
def secure(standin: Standin, certificates: Path) -> Iterator[RawServer]:
    """TLS in front of the stand-in."""
    talk = tls_front(standin.port, str(certificates / "localhost.pem"), str(certificates / "localhost.key"))
    with RawServer(talk) as server:
        yield server


def test_tls_is_verified_with_the_bundle_and_the_connection_kept(
    secure: RawServer, make: Make, certificates: Path
) -> None:
    wire = make(f"https://localhost:{secure.port}", ca_bundle=str(certificates / "ca.pem"))
    assert [describe(wire), describe(wire), describe(wire)] == [200, 200, 200]
    assert secure.connections == 1


def test_a_certificate_of_another_authority_is_refused(
    secure: RawServer, make: Make, certificates: Path, standin: Standin
) -> None:
    with pytest.raises(Unreachable) as caught:
        describe(make(f"https://localhost:{secure.port}", ca_bundle=str(certificates / "other.pem")))
    assert caught.value.code == "SSLCertVerificationError"
    assert standin.journal.calls() == []


def test_a_certificate_for_another_name_is_refused(secure: RawServer, make: Make, certificates: Path) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        describe(make(f"https://127.0.0.1:{secure.port}", ca_bundle=str(certificates / "ca.pem")))


def test_a_server_without_tls_is_unreachable_by_https(standin: Standin, make: Make, certificates: Path) -> None:
    with pytest.raises(Unreachable):
        describe(make(f"https://localhost:{standin.port}", ca_bundle=str(certificates / "ca.pem")))


@pytest.mark.parametrize("bundle", ["missing.pem", "garbage.pem"])
def test_a_bundle_that_cannot_be_read_is_named(make: Make, tmp_path: Path, bundle: str) -> None:
    (tmp_path / "garbage.pem").write_text("no certificate")
    with pytest.raises(Unreachable, match=f"AWS_CA_BUNDLE .*{bundle}"):
        describe(make("https://localhost:9", ca_bundle=str(tmp_path / bundle)))


def test_https_goes_through_a_proxy_by_a_tunnel(
    secure: RawServer, make: Make, certificates: Path, proxy: tuple[Proxy, str]
) -> None:
    talk, address = proxy
    ca_bundle = str(certificates / "ca.pem")
    wire = make(f"https://localhost:{secure.port}", ca_bundle=ca_bundle, proxy=f"http://user:pass@{address}")
    assert [describe(wire), describe(wire)] == [200, 200]
    (head,) = talk.heads
    assert head.startswith(f"CONNECT localhost:{secure.port} HTTP/1.")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in head


def test_a_proxy_that_does_not_open_the_tunnel_makes_aws_unreachable(make: Make, certificates: Path) -> None:
    answer = http(b"", "407 Proxy Authentication Required")
    with RawServer(saying(answer)) as server, pytest.raises(Unreachable, match="407"):
        describe(make("https://localhost:9", ca_bundle=str(certificates / "ca.pem"), proxy=server.url))


def test_closing_ends_a_call_over_tls(secure: RawServer, make: Make, certificates: Path, standin: Standin) -> None:
    wire = make(f"https://localhost:{secure.port}", ca_bundle=str(certificates / "ca.pem"))
    standin.faults.add(Fault(Kind.HANG, seconds=60))
    ends: list[str] = []

    def run() -> None:
        try:
            describe(wire, timeout=60)
        except AnswerLost:
            ends.append("lost")

    thread = threading.Thread(target=run)
    thread.start()
    assert eventually(lambda: met(standin) == 1)
    wire.close()
    thread.join(PATIENCE)
    assert ends == ["lost"]
    standin.faults.clear()
