"""systemd's notification protocol, over a real datagram socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.engine.notify import ServiceNotifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


@pytest.fixture
def notifier(manager: socket.socket) -> ServiceNotifier:
    return ServiceNotifier({"NOTIFY_SOCKET": manager.getsockname()})


def heard(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


def test_each_message_is_one_datagram_of_assignments(manager: socket.socket, notifier: ServiceNotifier) -> None:
    notifier.ready()
    notifier.alive()
    notifier.stopping()
    notifier.reloading(12.5)
    notifier.extend_timeout(1.5)
    assert [heard(manager) for _ in range(5)] == [
        "READY=1",
        "WATCHDOG=1",
        "STOPPING=1",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "EXTEND_TIMEOUT_USEC=1500000",
    ]


def test_a_status_is_one_line_whatever_is_in_it(manager: socket.socket, notifier: ServiceNotifier) -> None:
    notifier.status("running:\nREADY=1\r\n  3 bytes of \udcff")
    assert heard(manager) == "STATUS=running: READY=1 3 bytes of \\udcff"


def test_an_abstract_address_begins_with_an_at_sign() -> None:
    name = f"outlive-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(5)
        ServiceNotifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert heard(manager) == "READY=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_a_manager_it_is_silent(environment: dict[str, str]) -> None:
    notifier = ServiceNotifier(environment)
    notifier.ready()
    notifier.status("running")


def test_a_manager_that_is_gone_is_no_reason_to_stop(tmp_path: Path) -> None:
    ServiceNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive()


def fill(manager: socket.socket) -> None:
    """Send until the manager's queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        for _ in range(10_000):
            try:
                other.sendto(b"STATUS=full", manager.getsockname())
            except BlockingIOError:
                return
    pytest.fail("the queue has no end")


def test_ready_waits_for_a_manager_whose_queue_is_full(manager: socket.socket, notifier: ServiceNotifier) -> None:
    fill(manager)
    sender = threading.Thread(target=notifier.ready)
    sender.start()
    sender.join(0.05)
    messages = {heard(manager)}
    while "READY=1" not in messages:
        messages.add(heard(manager))
    sender.join(5)
    assert not sender.is_alive()


def test_a_manager_that_never_reads_holds_nothing_up_for_long(
    manager: socket.socket, notifier: ServiceNotifier
) -> None:
    fill(manager)
    sender = threading.Thread(target=notifier.alive)
    sender.start()
    sender.join(5)
    assert not sender.is_alive()


# the watchdog


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_kept_if_it_is_meant_for_this_process(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert ServiceNotifier(environment).watchdog_interval == seconds
