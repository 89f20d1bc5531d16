"""What is assumed of journalctl holds for the real one, over a journald of our own in a mount namespace.

Skipped where there is no systemd-journald or where this user may not make namespaces: the reason says so.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import eventually
from journald_kit import Rig, following

JOURNALD = "/lib/systemd/systemd-journald"
TOOLS = ("journalctl", "unshare", "nsenter", "setpriv", "mount")
_PRIVATE = f"""
set -e
test -s /etc/machine-id
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log/journal
mkdir -p /run/systemd/journal /run/log/journal /run/outlive-private
exec {JOURNALD}
"""
_OURS = "outlive-test"


class RealJournal:
    """journald, with its files and sockets where only its namespace sees them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _PRIVATE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.program = self.command("journalctl")

    def command(self, name: str, prefix: Sequence[str] = (), before: str = "") -> str:
        """A program that runs journalctl where journald runs."""
        path = self.home / name
        inside = f'nsenter --target={self._process.pid} --mount {" ".join(prefix)} journalctl "$@"'
        path.write_text(f"#!/bin/sh\n{before}exec {inside}\n")
        path.chmod(0o755)
        return str(path)

    def wait(self) -> None:
        """Until it takes messages; skips the test if it never does."""
        if not eventually(lambda: self._is_private() or self._process.poll() is not None):
            self.close()
            pytest.skip("systemd-journald does not start here")
        if self._process.poll() is not None:
            assert self._process.stderr is not None
            why = self._process.stderr.read().decode()
            self.close()
            pytest.skip(f"no journald of our own can run here: {why}")

    def log(self, *messages: bytes, **fields: str) -> None:
        """As sd_journal_send does: the native protocol, length-prefixed, so that any bytes go."""
        for message in messages:
            datagram = b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n"
            lines = {"PRIORITY": "6", "SYSLOG_IDENTIFIER": _OURS, **fields}
            datagram += b"".join(f"{name}={value}\n".encode() for name, value in lines.items())
            with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
                sock.sendto(datagram, self._socket)
        self.ask("--sync")

    def ask(self, *arguments: str) -> str:
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout

    def alive(self) -> list[int]:
        return []

    def calls(self) -> list[list[object]]:
        """The processes of journalctl that run, with their arguments."""
        found: list[list[object]] = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                argv = (folder / "cmdline").read_bytes().split(b"\0")[:-1]
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == os.getpid() and argv and argv[0].endswith(b"journalctl"):
                found.append([int(folder.name), *(each.decode() for each in argv)])
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def _socket(self) -> str:
        return f"{self._run}/systemd/journal/socket"

    @property
    def _run(self) -> str:
        return f"/proc/{self._process.pid}/root/run"

    def _is_private(self) -> bool:
        """Whether its own journal is in place: never is that of the machine written to."""
        return os.path.exists(f"{self._run}/outlive-private") and os.path.exists(self._socket)


@contextmanager
def real_journal(home: Path) -> Iterator[RealJournal]:
    missing = [each for each in (JOURNALD, *TOOLS) if shutil.which(each) is None]
    if missing or os.geteuid() != 0 or not os.path.isdir("/var/log/journal"):
        pytest.skip(f"a real journald can't be tried: root, /var/log/journal and the tools are needed ({missing})")
    journal = RealJournal(home)
    journal.wait()
    try:
        yield journal
    finally:
        journal.close()


@pytest.fixture
def journal(public: Path) -> Iterator[RealJournal]:
    with real_journal(public) as journal:
        yield journal


@pytest.fixture
def make(journal: RealJournal, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(program: str | None = None) -> Rig:
        rig = Rig(tmp_path, {"matches": {"SYSLOG_IDENTIFIER": _OURS}}, journal=journal)  # type: ignore[arg-type]
        rig.clock.set_time(time.time())
        rig.program = program or journal.program
        rig.restart()
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.crash()


def test_entries_of_all_kinds_arrive_once_and_whole(journal: RealJournal, make: Callable[..., Rig]) -> None:
    rig = make()
    kinds = [b"plain", b"two\nlines", b"\x1b[31mred\xff", b"x" * 5000, "é😀".encode(), b""]
    journal.log(*kinds)
    rig.run(following(rig))
    journal.log(b"later")
    rig.settle()
    wanted = [each.decode(errors="replace") for each in kinds]
    assert rig.messages() == [*wanted, "later"]
    assert {event["identifier"] for event in rig.events_in()} == {_OURS}
    assert {event["pid"] for event in rig.events_in()} == {os.getpid()}
    assert rig.counter("journal_lines_unreadable") == 0


def test_it_goes_on_exactly_where_it_was(journal: RealJournal, make: Callable[..., Rig]) -> None:
    rig = make()
    journal.log(b"1", b"2")
    rig.settle()
    rig.restart()
    journal.log(b"3")
    rig.settle()
    rig.settle()
    assert rig.messages() == ["1", "2", "3"]
    assert rig.counter("journal_gaps") == 0


def test_a_follower_shows_what_comes(journal: RealJournal, make: Callable[..., Rig]) -> None:
    rig = make()
    rig.run(following(rig))
    journal.log(b"now")
    rig.run(lambda: rig.journals.owed > 0)
    rig.clock.advance(6.0)
    rig.run(lambda: rig.messages() == ["now"])


def test_of_a_vacuumed_journal_the_first_entry_that_is_left_is_not_left_out(
    journal: RealJournal, make: Callable[..., Rig]
) -> None:
    rig = make()
    journal.log(b"1")
    rig.settle()
    journal.ask("--rotate")
    journal.ask("--vacuum-size=1")
    journal.log(b"2", b"3")
    rig.restart()
    rig.settle()
    assert rig.messages() == ["1", "2", "3"]
    assert rig.counter("journal_gaps") == 1


def test_a_journal_that_moves_from_run_to_var_is_followed_without_gap_or_repetition(
    journal: RealJournal, make: Callable[..., Rig]
) -> None:
    rig = make()
    journal.log(b"1", b"2")
    rig.settle()
    journal.ask("--flush")
    assert "/var/log/journal" in journal.ask("--header")
    journal.log(b"3")
    rig.settle()
    rig.restart()
    journal.log(b"4")
    rig.settle()
    assert rig.messages() == ["1", "2", "3", "4"]
    assert rig.counter("journal_gaps") == 0


def test_a_cursor_that_makes_no_sense_gives_way_to_its_time(journal: RealJournal, make: Callable[..., Rig]) -> None:
    rig = make()
    journal.log(b"1", b"2")
    rig.settle()
    cursor = rig.saved()[0]["position"]["cursor"]
    with rig.database.transaction() as connection:
        connection.execute("UPDATE journal_cursors SET cursor = replace(cursor, ?, 'nonsense')", (cursor,))
    journal.log(b"3")
    rig.restart()
    rig.run(lambda: rig.counter("journal_cursors_unusable") == 1)
    rig.clock.advance(61.0)
    rig.settle()
    assert rig.messages() in (["1", "2", "3"], ["1", "2", "2", "3"])


def test_a_user_who_may_not_read_the_journal_is_told_what_to_do(
    journal: RealJournal, make: Callable[..., Rig]
) -> None:
    unprivileged = journal.command("unprivileged", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    rig = make(unprivileged)
    rig.run(lambda: rig.counter("journal_read_failures") == 1)
    assert "systemd-journal" in rig.said.fields("journal_unreadable")[0]["hint"]
    assert rig.journals.status()[0]["error"] == "not permitted to read the journal"


def test_where_no_journal_is_it_is_said(journal: RealJournal, make: Callable[..., Rig]) -> None:
    empty = journal.command("empty")
    Path(empty).write_text(
        "#!/bin/sh\nexec unshare --mount --propagation private sh -c "
        '\'mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log/journal && exec journalctl "$@"\' sh "$@"\n'
    )
    rig = make(empty)
    rig.run(lambda: rig.counter("journal_read_failures") == 1)
    assert rig.journals.status()[0]["error"] == "there is no journal"


_READER = """
import sys, time
from agent.engine.clock import SystemClock
from agent.logs.journald.child import Child
child = Child([sys.argv[1], "--follow", "--no-tail", "--output=json"], SystemClock())
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_follower_ends_when_the_agent_is_killed(journal: RealJournal) -> None:
    agent = subprocess.Popen([sys.executable, "-c", _READER, journal.program], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    with agent.stdout:
        pid = int(agent.stdout.readline())
        comm = Path(f"/proc/{pid}/comm")
        assert eventually(lambda: comm.read_text().strip() == "journalctl")
        agent.kill()
        agent.wait(10)
    assert eventually(lambda: not comm.exists() or _state(pid) == "Z")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
