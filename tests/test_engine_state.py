"""The state directory: one agent's and one instance's; what is not ours is kept and never used; no disk stops us."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Said, as_user, tiny_disk

from agent.engine.clock import FakeClock
from agent.engine.database import DatabaseUnavailable
from agent.engine.events import Events
from agent.engine.state import SCHEMA, StateBusy, StateDirectory

NOBODY = 65534
MINE, OTHER = "i-0aaa", "i-0bbb"
Open = Callable[..., StateDirectory]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def opened(folder: Path, clock: FakeClock, events: Events) -> Iterator[Open]:
    """Opens the state directory, for this instance or another; closed after the test."""
    states: list[StateDirectory] = []

    def open_state(instance_id: str = MINE, path: Path = folder) -> StateDirectory:
        states.append(StateDirectory.open(str(path), instance_id, clock, events))
        return states[-1]

    yield open_state
    for state in states:
        state.close()


def write(state: StateDirectory, value: str, name: str = "state.db") -> None:
    with state.database(name).transaction() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (value TEXT)")
        connection.execute("INSERT INTO t VALUES (?)", (value,))


def values(state: StateDirectory, name: str = "state.db") -> list[object]:
    database = state.database(name)
    if not database.read("SELECT name FROM sqlite_master WHERE name = 't'"):
        return []
    return [row[0] for row in database.read("SELECT value FROM t")]


def set_aside(folder: Path) -> list[Path]:
    return sorted((folder / "set-aside").iterdir()) if (folder / "set-aside").exists() else []


# one agent


def test_state_is_there_again_after_a_restart(opened: Open, said: Said) -> None:
    state = opened()
    write(state, "kept")
    state.close()
    assert values(opened()) == ["kept"]
    assert said.lines == []


def test_a_second_agent_is_told_that_the_first_one_is_there(opened: Open, folder: Path) -> None:
    opened()
    with pytest.raises(StateBusy, match="another outlive agent") as caught:
        opened()
    assert str(folder) in str(caught.value)
    assert "agent.state_dir" in str(caught.value)


def test_a_second_agent_of_another_instance_touches_nothing(opened: Open, folder: Path) -> None:
    write(opened(), "kept")
    with pytest.raises(StateBusy):
        opened(OTHER)
    assert set_aside(folder) == []


def test_the_directory_is_free_again_once_it_is_closed(opened: Open) -> None:
    state = opened()
    state.close()
    state.close()
    opened()


def test_the_directory_is_its_users_alone(opened: Open, folder: Path) -> None:
    opened()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "lock").stat().st_mode & 0o777 == 0o600


def test_a_lock_that_is_a_link_is_not_followed(opened: Open, folder: Path, tmp_path: Path, said: Said) -> None:
    folder.mkdir()
    (folder / "lock").symlink_to(tmp_path / "victim")
    assert not opened().durable
    assert not (tmp_path / "victim").exists()
    assert said.names() == ["state_not_durable"]


# one instance


def test_state_of_another_instance_is_set_aside_and_not_used(opened: Open, folder: Path, said: Said) -> None:
    state = opened(OTHER)
    write(state, "theirs")
    (folder / "receipts").mkdir()
    (folder / "receipts" / "drain.json").write_text("{}")
    state.close()

    assert values(opened(MINE)) == []
    (aside,) = set_aside(folder)
    assert aside.name.endswith(f"-of-{OTHER}")
    assert (aside / "receipts" / "drain.json").read_text() == "{}"
    assert not (folder / "receipts").exists()
    with closing(sqlite3.connect(aside / "state.db")) as database:
        assert database.execute("SELECT value FROM t").fetchall() == [("theirs",)]
    assert said.lines == [
        ("warning", "foreign_state_set_aside", {"owner": OTHER, "instance_id": MINE, "schema": SCHEMA})
    ]


def test_what_was_not_yet_in_the_file_goes_with_it(opened: Open, folder: Path) -> None:
    """The agent that was baked into an image was killed: its last transactions are in the write-ahead log."""
    state = opened(OTHER)
    write(state, "in the log")
    image = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert image["state.db-wal"]
    state.close()
    for name, content in image.items():
        (folder / name).write_bytes(content)

    opened(MINE)
    with closing(sqlite3.connect(set_aside(folder)[0] / "state.db")) as database:
        assert database.execute("SELECT value FROM t").fetchall() == [("in the log",)]


def test_set_aside_state_is_never_deleted_however_often_the_instance_changes(opened: Open, folder: Path) -> None:
    for number in range(8):
        state = opened(f"i-{number:03}")
        write(state, str(number))
        state.close()
    assert [path.name.partition("-of-")[2] for path in set_aside(folder)] == [f"i-{n:03}" for n in range(7)]


def test_the_way_back_to_the_first_instance_starts_afresh_too(opened: Open, folder: Path) -> None:
    for instance in (MINE, OTHER, MINE):
        state = opened(instance)
        assert values(state) == []
        write(state, instance)
        state.close()
    assert values(opened(MINE)) == [MINE]


def test_an_instance_id_cannot_lead_out_of_the_directory(opened: Open, folder: Path, tmp_path: Path) -> None:
    opened("../../../../escaped\n\x1b" + "x" * 300).close()
    opened(MINE)
    assert {path.name for path in tmp_path.iterdir()} == {"state"}
    (aside,) = set_aside(folder)
    assert (aside / "state.db").exists()
    assert aside.name.isprintable()


def test_setting_aside_that_was_cut_short_is_finished_by_the_next_start(
    opened: Open, folder: Path, said: Said
) -> None:
    """The database that names the owner goes last: as long as it is there, all the rest is known to be foreign."""
    state = opened(OTHER)
    write(state, "theirs", "a-spool.db")
    write(state, "theirs", "z-spool.db")
    state.close()
    (folder / "receipts").mkdir()
    with tiny_disk(kilobytes=64, at=folder / "receipts"):  # what is mounted can't be renamed
        state = opened(MINE)
        assert [values(state, name) for name in ("a-spool.db", "z-spool.db")] == [[], []]
        assert not state.durable
        state.close()
    assert (folder / "state.db").exists()
    state = opened(MINE)
    assert [values(state, name) for name in ("a-spool.db", "z-spool.db")] == [[], []]
    assert state.durable
    assert said.names() == ["state_not_durable", "foreign_state_set_aside"]


# another version


@pytest.mark.parametrize("schema", [str(SCHEMA + 1), "2024.1"])
def test_state_of_a_newer_version_is_set_aside(opened: Open, folder: Path, said: Said, schema: str) -> None:
    state = opened()
    write(state, "newer")
    with state.database("state.db").transaction() as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (schema,))
    state.close()

    assert values(opened()) == []
    (aside,) = set_aside(folder)
    assert aside.name.endswith(f"-schema-{SCHEMA + 1}")
    assert said.names() == ["foreign_state_set_aside"]


# damage


def test_a_damaged_database_is_set_aside_said_and_begun_afresh(opened: Open, folder: Path, said: Said) -> None:
    state = opened()
    write(state, "spooled", "spool.db")
    write(state, "cursor", "state.db")
    state.close()
    (folder / "spool.db").write_bytes(b"garbage" * 1000)

    state = opened()
    assert values(state, "spool.db") == []
    assert values(state, "state.db") == ["cursor"]
    (aside,) = set_aside(folder)
    assert aside.name.endswith("-damaged")
    assert (aside / "spool.db").read_bytes().startswith(b"garbage")
    ((level, event, fields),) = said.lines
    assert (level, event) == ("error", "state_damaged")
    assert "spool.db" in fields["error"]
    assert state.durable


def test_a_damaged_state_database_is_this_instances_afterwards(opened: Open, folder: Path, said: Said) -> None:
    opened().close()
    (folder / "state.db").write_bytes(b"garbage" * 1000)
    opened().close()
    opened().close()
    assert said.names() == ["state_damaged"]


def test_a_failing_disk_is_not_filled_with_damaged_databases(opened: Open, folder: Path, events: Events) -> None:
    for _ in range(6):
        opened().close()
        (folder / "state.db").write_bytes(b"garbage" * 1000)
    opened().close()
    assert len(set_aside(folder)) == 5
    assert events.counters() == {"state_failures": 6}


def test_damage_removes_no_foreign_state(opened: Open, folder: Path) -> None:
    opened("i-damaged").close()
    for _ in range(6):
        opened().close()
        (folder / "state.db").write_bytes(b"garbage" * 1000)
    opened().close()
    assert [path.name for path in set_aside(folder) if "-of-" in path.name] != []


# disks that can't be written


def shipping_goes_on(state: StateDirectory) -> None:
    write(state, "in memory")
    assert not state.durable


def test_an_unwritable_directory_is_said_aloud_and_state_lives_in_memory(public: Path, said: Said) -> None:
    folder = public / "state"
    folder.mkdir(mode=0o755)

    def run() -> str:
        events = Events(said, FakeClock())
        state = StateDirectory.open(str(folder), MINE, FakeClock(), events)
        shipping_goes_on(state)
        state.close()
        return str([said.lines[0][:2], "restart" in said.lines[0][2]["hint"], events.counters()])

    expected = [("error", "state_not_durable"), True, {"state_failures": 1}]
    assert as_user(NOBODY, run) == str(expected)


def test_a_directory_that_cannot_be_made_is_said_aloud(opened: Open, tmp_path: Path, said: Said) -> None:
    (tmp_path / "file").touch()
    shipping_goes_on(opened(path=tmp_path / "file" / "state"))
    assert said.names() == ["state_not_durable"]


def test_a_disk_that_is_full_at_the_first_start_does_not_stop_the_agent(
    clock: FakeClock, events: Events, said: Said
) -> None:
    with tiny_disk(kilobytes=64) as disk:
        (disk / "state").mkdir()
        fill(disk)
        with closing(StateDirectory.open(str(disk / "state"), MINE, clock, events)) as state:
            shipping_goes_on(state)
    assert said.names() == ["state_not_durable"]


def test_a_disk_that_is_full_at_a_restart_does_not_stop_the_agent(
    clock: FakeClock, events: Events, said: Said
) -> None:
    with tiny_disk(kilobytes=256) as disk:
        with closing(StateDirectory.open(str(disk / "state"), MINE, clock, events)) as state:
            write(state, "kept")
        fill(disk)
        with closing(StateDirectory.open(str(disk / "state"), MINE, clock, events)) as state:
            write_or_not(state)
        os.unlink(disk / "filling")
        with closing(StateDirectory.open(str(disk / "state"), MINE, clock, events)) as state:
            assert values(state)[:1] == ["kept"]


def write_or_not(state: StateDirectory) -> None:
    """In memory a write succeeds; in the file it says that there is no room. Both can be lived with."""
    try:
        write(state, "more")
    except DatabaseUnavailable:
        assert state.durable
    else:
        assert not state.durable


def test_foreign_state_on_a_full_disk_is_not_used(clock: FakeClock, events: Events, said: Said) -> None:
    with tiny_disk(kilobytes=256) as disk:
        with closing(StateDirectory.open(str(disk / "state"), OTHER, clock, events)) as state:
            write(state, "theirs")
        fill(disk)
        with closing(StateDirectory.open(str(disk / "state"), MINE, clock, events)) as state:
            assert values(state) == []


def test_a_read_only_disk_does_not_stop_the_agent(clock: FakeClock, events: Events, said: Said) -> None:
    with tiny_disk(kilobytes=256) as disk:
        with closing(StateDirectory.open(str(disk / "state"), MINE, clock, events)) as state:
            write(state, "kept")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with closing(StateDirectory.open(str(disk / "state"), MINE, clock, events)) as state:
            shipping_goes_on(state)
    assert said.names() == ["state_not_durable"]


def fill(disk: Path) -> None:
    with open(disk / "filling", "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def test_a_failure_leaves_no_lock_behind(opened: Open, folder: Path) -> None:
    folder.mkdir()
    (folder / "state.db").mkdir()
    state = opened()
    shipping_goes_on(state)
    state.close()
    (folder / "state.db").rmdir()
    assert opened().durable


# kill -9

WRITER = """
import sys
from agent.engine.clock import SystemClock
from agent.engine.events import Events, make_logger
from agent.engine.state import StateDirectory
clock = SystemClock()
state = StateDirectory.open(sys.argv[1], "i-0aaa", clock, Events(make_logger(), clock))
database = state.database("state.db")
with database.transaction() as connection:
    connection.execute("CREATE TABLE t (a INTEGER, b INTEGER, filling BLOB)")
for number in range(1_000_000):
    with database.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (?, 0, zeroblob(2000))", (number,))
        connection.execute("UPDATE t SET b = a + 1 WHERE a = ?", (number,))
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [3, 150])
def test_kill_9_in_the_middle_of_transactions_loses_nothing_committed(
    folder: Path, opened: Open, said: Said, after: int
) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(after):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")
        child.wait()
    committed = int(rest[-2]) if len(rest) > 1 else after - 1  # the last line that came whole

    state = opened()
    assert state.durable
    rows = state.database("state.db").read("SELECT a, b FROM t ORDER BY a")
    assert len(rows) > committed
    assert rows == [(number, number + 1) for number in range(len(rows))]
    assert said.lines == []
