"""The control socket: answers its own user and root, and nothing that a peer does stops it."""

from __future__ import annotations

import os
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import as_user

from agent.engine.control import (
    BadRequest,
    ControlError,
    ControlServer,
    Handler,
    NoAnswer,
    NotAllowed,
    NotRunning,
    ask,
)
from agent.engine.events import Events

NOBODY = 65534
PATIENCE = 0.3  # seconds that the server gives a peer here


@contextmanager
def serving(path: str, events: Events, **handlers: Handler) -> Iterator[ControlServer]:
    """A server in a thread that calls its steps, as a worker's thread does."""
    server = ControlServer(path, handlers, events, peer_seconds=PATIENCE)
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            while server.step(0.0) is not None:
                pass
        except BaseException as error:  # noqa: BLE001 - the test sees it
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(5)
        assert not thread.is_alive()
        assert failures == []


def status(_request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"state": "running"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "control.sock")


@pytest.fixture
def server(path: str, events: Events) -> Iterator[ControlServer]:
    with serving(path, events, status=status) as server:
        yield server


def raw(path: str, *parts: bytes, end: bool = False) -> bytes:
    """What the server answers to these bytes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(path)
        for part in parts:
            sock.sendall(part)
        if end:
            sock.shutdown(socket.SHUT_WR)
        return sock.makefile("rb").readline()


# questions and answers


def test_a_command_gets_its_fields_and_its_answer_comes_back(path: str, events: Events) -> None:
    seen: list[Mapping[str, Any]] = []

    def drain(request: Mapping[str, Any]) -> Mapping[str, Any]:
        seen.append(request)
        return {"drain": {"id": "d-1", "bytes": 3}}

    with serving(path, events, drain=drain):
        assert ask(path, "drain", reason="update", seconds=5) == {"drain": {"id": "d-1", "bytes": 3}}
    assert seen == [{"command": "drain", "reason": "update", "seconds": 5}]


def test_many_ask_one_after_the_other(path: str, server: ControlServer) -> None:
    assert [ask(path, "status") for _ in range(20)] == [{"state": "running"}] * 20


def test_many_ask_at_once(path: str, server: ControlServer) -> None:
    answers: list[object] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(path, "status"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert answers == [{"state": "running"}] * 8


def test_a_large_answer_arrives_whole(path: str, events: Events) -> None:
    files = [{"path": f"/var/log/{number}.log"} for number in range(50_000)]
    with serving(path, events, status=lambda _request: {"logs": files}):
        assert ask(path, "status") == {"logs": files}


def test_a_file_name_that_is_no_text_does_not_break_the_status(path: str, events: Events) -> None:
    name = os.fsdecode(b"/var/log/\xff.log")
    with serving(path, events, status=lambda _request: {"logs": [{"path": name, name: (name, 1)}]}):
        (log,) = ask(path, "status")["logs"]
    assert log == {"path": "/var/log/\\udcff.log", "/var/log/\\udcff.log": ["/var/log/\\udcff.log", 1]}


def test_a_refusal_of_the_agent_is_told_in_its_words(path: str, events: Events) -> None:
    def refuse(_request: Mapping[str, Any]) -> Mapping[str, Any]:
        raise BadRequest("seconds must be a positive number")

    with serving(path, events, drain=refuse), pytest.raises(BadRequest, match="seconds must be a positive number"):
        ask(path, "drain", seconds=-1)


def test_an_unknown_command_is_a_bad_request(path: str, server: ControlServer) -> None:
    with pytest.raises(BadRequest, match="no such command"):
        ask(path, "self-destruct")


# peers that misbehave


@pytest.mark.parametrize(
    "junk",
    [
        b"\n",
        b"status\n",
        b"[]\n",
        b'"status"\n',
        b'{"command": ["status"]}\n',
        b"{}\n",
        b"\xff\x00\n",
        b"{" * 2000 + b"\n",
    ],
)
def test_junk_is_answered_and_does_no_harm(path: str, server: ControlServer, junk: bytes) -> None:
    assert orjson.loads(raw(path, junk)) == {"error": "no such command"}
    assert ask(path, "status") == {"state": "running"}


def test_what_follows_the_first_line_is_of_no_interest(path: str, server: ControlServer) -> None:
    assert orjson.loads(raw(path, b'{"command": "status"}\nand more')) == {"state": "running"}


def test_a_request_without_a_line_end_is_taken_at_its_end(path: str, server: ControlServer) -> None:
    assert orjson.loads(raw(path, b'{"command": "status"}', end=True)) == {"state": "running"}


def test_a_request_in_pieces_is_one_request(path: str, server: ControlServer) -> None:
    assert orjson.loads(raw(path, b'{"comm', b'and": "sta', b'tus"}\n')) == {"state": "running"}


def test_an_oversize_request_is_refused_and_its_sender_learns_it(path: str, server: ControlServer) -> None:
    with pytest.raises(BadRequest, match="no such command"):
        ask(path, "status", padding="x" * (4 << 20))
    assert ask(path, "status") == {"state": "running"}


def test_a_silent_peer_is_given_up(path: str, server: ControlServer) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(path)
        assert ask(path, "status") == {"state": "running"}


def test_a_peer_that_drips_is_given_up_as_soon(path: str, server: ControlServer) -> None:
    """Each byte comes in time; the request does not."""
    stop = threading.Event()

    def drip(sock: socket.socket) -> None:
        try:
            while not stop.wait(PATIENCE / 10):
                sock.sendall(b" ")
        except OSError:
            return

    with socket.socket(socket.AF_UNIX) as dripping:
        dripping.connect(path)
        thread = threading.Thread(target=drip, args=(dripping,))
        thread.start()
        try:
            assert ask(path, "status", timeout=5.0) == {"state": "running"}
        finally:
            stop.set()
            thread.join(5)


def test_a_peer_that_does_not_take_its_answer_is_given_up(path: str, events: Events) -> None:
    big = {"text": "x" * (8 << 20)}
    with serving(path, events, status=status, big=lambda _request: big), socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(path)
        deaf.sendall(b'{"command": "big"}\n')
        assert ask(path, "status") == {"state": "running"}


def test_a_peer_that_hangs_up_does_no_harm(path: str, server: ControlServer) -> None:
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(b'{"command": "status"}\n')
    assert ask(path, "status") == {"state": "running"}


def test_a_defect_of_a_handler_is_not_hidden(path: str, events: Events) -> None:
    """It goes up into the worker's thread, which says it and goes on."""

    def defect(_request: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ZeroDivisionError

    server = ControlServer(path, {"status": defect}, events)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(b'{"command": "status"}\n')
        with pytest.raises(ZeroDivisionError):
            server.step(0.0)
    server.close()


# who may ask


def test_the_socket_is_its_users_alone(path: str, server: ControlServer) -> None:
    found = os.stat(path)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600


def test_making_the_socket_leaves_the_umask_alone(path: str, events: Events) -> None:
    before = os.umask(0o027)
    try:
        with serving(path, events):
            assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_another_user_cannot_even_connect(public: Path, events: Events) -> None:
    path = str(public / "control.sock")
    with serving(path, events, status=status):
        assert as_user(NOBODY, lambda: ask(path, "status")) == "NotAllowed"


def test_another_user_who_comes_through_is_refused(public: Path, events: Events) -> None:
    """Where the mode were wider, the peer's credentials decide."""
    path = str(public / "control.sock")
    asked: list[object] = []

    def status(request: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(request)
        return {}

    with serving(path, events, status=status):
        os.chmod(path, 0o666)
        assert as_user(NOBODY, lambda: ask(path, "status")) == "NotAllowed"
        assert asked == []
        assert ask(path, "status") == {}


# the socket's file


def test_what_a_killed_agent_left_is_replaced(path: str, events: Events) -> None:
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with serving(path, events, status=status):
        assert ask(path, "status") == {"state": "running"}


def test_an_agent_that_lives_keeps_its_socket(path: str, server: ControlServer, events: Events) -> None:
    with pytest.raises(OSError, match="another agent listens here") as caught:
        ControlServer(path, {}, events)
    assert caught.value.filename == path
    assert ask(path, "status") == {"state": "running"}


def test_a_file_that_is_no_socket_is_not_removed(tmp_path: Path, events: Events) -> None:
    file = tmp_path / "control.sock"
    file.write_text("mine")
    with pytest.raises(FileExistsError):
        ControlServer(str(file), {}, events)
    assert file.read_text() == "mine"


def test_the_file_goes_with_the_server(path: str, events: Events) -> None:
    with serving(path, events):
        assert os.path.exists(path)
    assert not os.path.exists(path)


def test_a_successors_file_is_left_alone(path: str, events: Events) -> None:
    first = ControlServer(path, {}, events)
    os.unlink(path)
    with serving(path, events, status=status):
        first.close()
        assert ask(path, "status") == {"state": "running"}


def test_closing_twice_is_closing_once(path: str, events: Events) -> None:
    server = ControlServer(path, {}, events)
    server.close()
    server.close()
    assert server.step(0.0) is None


def test_out_of_descriptors_is_a_failure_and_no_busy_loop(path: str, events: Events) -> None:
    """A step that returned would be called again at once, and again."""
    server = ControlServer(path, {}, events)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        free = os.dup(sock.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                server.step(0.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    server.close()


# the client's errors


def test_without_a_socket_the_agent_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="is it running"):
        ask(str(tmp_path / "control.sock"), "status")


def test_with_a_dead_socket_the_agent_is_not_running(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(NotRunning):
        ask(path, "status")


@contextmanager
def answering(path: str, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Something that listens and is no control server."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                answer(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(5)


@pytest.mark.parametrize("answer", [b"", b"no JSON\n", b"[]\n", b'{"state": "run'])
def test_an_answer_that_makes_no_sense_is_said_to_be_none(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "control.sock")
    with answering(path, lambda peer: peer.sendall(answer)), pytest.raises(NoAnswer, match="see its log"):
        ask(path, "status")


def test_an_answer_that_drips_is_waited_for_no_longer_than_told(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")

    def drip(peer: socket.socket) -> None:
        over = threading.Event()
        try:
            while not over.wait(0.02):
                peer.sendall(b" ")
        except OSError:
            return

    before = time.monotonic()
    with answering(path, drip), pytest.raises(NoAnswer, match="timed out"):
        ask(path, "status", timeout=0.2)
    assert 0.2 <= time.monotonic() - before < 2.0


def test_every_error_of_the_client_is_a_control_error() -> None:
    assert all(issubclass(kind, ControlError) for kind in (NotRunning, NoAnswer, NotAllowed, BadRequest))
