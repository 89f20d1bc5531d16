"""A reload is decided whole and then applied: what is refused has changed nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Said
from drain_fakes import Stage

from agent.aws.errors import Denied
from agent.config.errors import Finding, InvalidConfig
from agent.config.schema import Config
from agent.drain.notice import Notice
from agent.engine.clock import SystemClock
from agent.engine.control import ask
from agent.engine.crew import Crew
from agent.engine.database import DatabaseUnavailable
from agent.engine.doors import Doors
from agent.engine.events import Events
from agent.engine.job import Debt, Proofs
from agent.engine.notify import ServiceNotifier
from agent.reload.errors import Unserved
from agent.reload.worker import Outcome, Reload, Running

FILE = {"path": "/var/log/a.log", "group": "/g"}


class PlainJob:
    """A job that remembers what became of it."""

    threads = ()

    def __init__(self, name: str, journal: list[str]) -> None:
        self.name = name
        self.meanwhile: Callable[[], object] = lambda: None  # while it stops
        self._journal = journal

    def start(self) -> None:
        self._journal.append(f"start {self.name}")

    def debt(self) -> Debt:
        return Debt(1, 1, 0.0)

    def status(self) -> Mapping[str, Any]:
        return {self.name: "there"}

    def drain(self, deadline: float) -> Proofs:
        self._journal.append(f"drain {self.name}")
        return Proofs(True)

    def resume(self) -> None: ...

    def stop(self, deadline: float) -> bool:
        self.meanwhile()
        self._journal.append(f"stop {self.name}")
        return True


class AdaptingJob(PlainJob):
    """One that can take a changed section in, if it is not told otherwise."""

    able = True

    def can_adapt(self, section: Any) -> bool:
        return self.able

    def adapt(self, section: Any) -> None:
        self._journal.append(f"adapt {self.name} {'away' if section is None else len(section.files)}")


class Workshop:
    """A maker, and the files that are read: what a test says of them."""

    def __init__(self) -> None:
        self.journal: list[str] = []
        self.config: Config | Exception = Config()
        self.failing: dict[str, Exception] = {}  # by section, when a job is prepared
        self.broken: dict[str, Exception] = {}  # the same when it is made

    def reread(self) -> Config:
        if isinstance(self.config, Exception):
            raise self.config
        return self.config

    def prepare(self, name: str, config: Config) -> Callable[[], PlainJob | None]:
        if name in self.failing:
            raise self.failing[name]
        return lambda: self._make(name, config)

    def rearm(self, config: Config) -> None:
        self.journal.append("rearm")

    def set_level(self, level: str) -> None:
        self.journal.append(f"level {level}")

    def _make(self, name: str, config: Config) -> PlainJob | None:
        if name in self.broken:
            raise self.broken[name]
        return None if getattr(config, name) is None else PlainJob(name, self.journal)


class Bench:
    """A reload with real machine, crew and doors."""

    def __init__(self, home: Path, notifier: ServiceNotifier) -> None:
        self.stage = Stage(home)
        self.clock = SystemClock()
        self.said = Said()
        self.events = Events(self.said, self.clock)
        self.workshop = Workshop()
        self.journal = self.workshop.journal
        self.logs = AdaptingJob("logs", self.journal)
        self.metrics = PlainJob("metrics", self.journal)
        self.crew = Crew(self.clock, self.events)
        self.crew.enlist([self.logs, self.metrics])
        self.doors = Doors(str(home / "control.sock"), {}, None, dict, self.clock, self.events)
        self.doors.open()
        self.old = config()
        running = Running(self.workshop.reread, self.workshop, self.stage.machine, self.crew, self.doors, notifier)
        self.reload = Reload(self.old, running, self.clock, self.events)

    def take(self, given: Config | Exception) -> Outcome:
        """One reload of that configuration."""
        self.workshop.config = given
        number = self.reload.ask()
        assert self.reload.outcome(number).state == "asked"
        while self.reload.step(self.clock.monotonic()) is not None:
            pass
        return self.reload.outcome(number)

    def close(self) -> None:
        self.doors.end()
        self.stage.database.close()


def config(**sections: Any) -> Config:
    base = {"agent": {"stop_timeout": 1}, "logs": {"files": [FILE]}, "metrics": {"os": {}}}
    return Config.model_validate({**base, **sections})


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end of the notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def bench(tmp_path: Path, manager: socket.socket) -> Iterator[Bench]:
    bench = Bench(tmp_path, ServiceNotifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
    yield bench
    bench.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_nothing_to_change_touches_nothing(bench: Bench) -> None:
    assert bench.take(config()).state == "unchanged"
    assert bench.journal == []
    assert bench.said.names() == ["reload_found_no_change"]


def test_only_the_job_whose_section_changed_is_replaced(bench: Bench) -> None:
    outcome = bench.take(config(metrics={"os": {}, "interval": "10s"}))
    assert (outcome.state, outcome.changes) == ("applied", ("metrics.interval",))
    assert bench.journal == ["stop metrics", "start metrics"]
    assert bench.crew.find("logs") is bench.logs
    assert bench.crew.find("metrics") is not bench.metrics
    assert bench.reload.config.metrics.interval == 10.0
    assert bench.said.fields("reloaded") == [{"changes": ("metrics.interval",)}]


def test_a_job_that_can_take_the_change_in_is_not_stopped(bench: Bench) -> None:
    assert bench.take(config(logs={"files": [FILE, {**FILE, "group": "/h"}]})).state == "applied"
    assert bench.take(config(logs=None)).state == "applied"
    assert bench.journal == ["adapt logs 2", "adapt logs away"]


def test_a_job_that_can_not_is_replaced(bench: Bench) -> None:
    bench.logs.able = False
    bench.take(config(logs={"files": [FILE], "compression": "none"}))
    assert bench.journal == ["stop logs", "start logs"]


def test_jobs_appear_and_vanish(bench: Bench) -> None:
    uploads = {"directories": [{"path": "/srv", "bucket": "b-1"}]}
    bench.take(config(metrics=None, uploads=uploads))
    assert bench.journal == ["stop metrics", "start uploads"]
    assert [job.name for job in bench.crew] == ["logs", "uploads"]


def test_a_wrong_configuration_changes_nothing_and_says_everything(bench: Bench) -> None:
    problems = [Finding("/etc/o.yaml", 3, 1, "logs.fils", "unknown"), Finding("/etc/o.yaml", 9, 1, "metrics", "bad")]
    outcome = bench.take(InvalidConfig(problems))
    assert (outcome.state, outcome.problems) == ("invalid", tuple(map(str, problems)))
    assert bench.journal == []
    assert bench.reload.config is bench.old
    assert bench.events.counters() == {"reloads_refused": 1}
    assert bench.said.fields("reload_refused")[0]["problems"] == tuple(map(str, problems))


def test_what_this_version_can_not_do_is_refused_as_a_wrong_configuration(bench: Bench) -> None:
    outcome = bench.take(Unserved(["alarms", "snapshots"]))
    assert outcome.state == "invalid"
    assert [problem.partition(":")[0] for problem in outcome.problems] == ["alarms", "snapshots"]


def test_keys_that_need_a_restart_refuse_all_of_it(bench: Bench) -> None:
    outcome = bench.take(config(agent={"state_dir": "/srv/x"}, aws={"region": "eu-west-1"}, metrics=None))
    assert outcome.state == "refused"
    assert outcome.problems == ("needs a restart: agent.state_dir, aws.region",)
    assert bench.journal == []


def test_a_client_that_can_not_be_made_refuses_before_anything_is_stopped(bench: Bench) -> None:
    bench.workshop.failing["uploads"] = Denied("CreateClient", "ProfileNotFound", "no profile")
    outcome = bench.take(config(metrics=None, uploads={"directories": [{"path": "/srv", "bucket": "b-1"}]}))
    assert outcome.state == "refused"
    assert "uploads" in outcome.problems[0]
    assert bench.journal == []


def test_a_status_address_that_is_taken_refuses_before_anything_is_stopped(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        outcome = bench.take(config(agent={"status_address": address, "stop_timeout": 1}, metrics=None))
    assert outcome.state == "refused"
    assert address in outcome.problems[0]
    assert bench.journal == []


def test_the_status_moves_to_another_address_and_away(bench: Bench) -> None:
    ports = [free_port(), free_port()]
    for port in ports:
        agent = {"status_address": f"127.0.0.1:{port}", "stop_timeout": 1}
        assert bench.take(config(agent=agent)).state == "applied"
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
    assert bench.take(config()).state == "applied"
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_the_log_level_and_the_drain_change_without_stopping_a_job(bench: Bench) -> None:
    agent = {"log_level": "debug", "stop_timeout": 1}
    assert bench.take(config(agent=agent, drain={"timeout": "5m"})).state == "applied"
    assert bench.journal == ["level debug", "rearm"]


def test_while_a_drain_is_under_way_and_after_it_a_reload_is_refused(bench: Bench) -> None:
    bench.stage.machine.notice(Notice("operator", bench.stage.clock.time()))
    refused = bench.take(config(metrics=None))
    assert (refused.state, refused.problems[0][:22]) == ("refused", "a drain is under way (")
    bench.stage.run()
    refused = bench.take(config(metrics=None))
    assert (refused.state, refused.problems[0][:25]) == ("refused", "this instance is drained ")
    assert bench.journal == []


def test_a_drain_that_is_noticed_while_jobs_change_begins_after_it(bench: Bench) -> None:
    machine, clock = bench.stage.machine, bench.stage.clock
    seen: list[object] = []

    def notice() -> None:
        machine.notice(Notice("operator", clock.time()))
        seen.append(machine.step(clock.monotonic()))
        seen.append(bench.stage.job.drains)

    bench.metrics.meanwhile = notice
    assert bench.take(config(metrics=None)).state == "applied"
    assert seen == [None, 0]
    bench.stage.run()
    assert bench.stage.job.drains > 0


def test_what_can_not_be_made_in_the_end_is_said_and_tried_again_by_the_next_reload(bench: Bench) -> None:
    bench.workshop.broken["metrics"] = DatabaseUnavailable("spool.db: disk full")
    new = config(metrics={"os": {}, "interval": "10s"})
    outcome = bench.take(new)
    assert (outcome.state, outcome.problems) == ("failed", ("metrics: does not run: spool.db: disk full",))
    assert bench.events.counters() == {"reloads_failed": 1}
    bench.workshop.broken.clear()
    assert bench.take(new).state == "applied"
    assert bench.crew.find("metrics") is not None


def test_systemd_hears_of_the_reload_and_of_its_end_refused_or_not(bench: Bench, manager: socket.socket) -> None:
    for given in (config(metrics=None), InvalidConfig([])):
        bench.take(given)
        assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(1000) == b"READY=1"


def test_a_defect_is_not_a_reload_for_ever(bench: Bench, manager: socket.socket) -> None:
    bench.workshop.config = ZeroDivisionError()
    number = bench.reload.ask()
    with pytest.raises(ZeroDivisionError):
        bench.reload.step(0.0)
    assert bench.reload.outcome(number).state == "failed"
    assert bench.reload.step(0.0) is None
    assert [manager.recv(1000)[:8] for _ in range(2)] == [b"RELOADIN", b"READY=1"]


def test_requests_that_wait_become_one_and_one_that_comes_in_the_middle_is_another(bench: Bench) -> None:
    numbers: list[int] = [bench.reload.ask(), bench.reload.ask()]
    bench.metrics.meanwhile = lambda: numbers.append(bench.reload.ask())
    bench.workshop.config = config(metrics=None)
    while bench.reload.step(0.0) is not None:
        pass
    assert numbers == [1, 1, 2]
    assert bench.reload.outcome(1).number == 2
    assert bench.events.counters() == {"reloads": 2}


def test_an_agent_that_stops_begins_no_reload_and_waits_for_the_one_under_way(bench: Bench) -> None:
    waits: list[bool] = []

    def stop() -> None:
        bench.reload.close()
        waits.append(bench.reload.wait(0.0))

    bench.metrics.meanwhile = stop
    assert bench.take(config(metrics=None)).state == "applied"
    assert waits == [False]
    assert bench.reload.wait(0.0)
    outcome = bench.take(config())
    assert (outcome.state, outcome.problems) == ("refused", ("the agent is stopping",))


def test_status_and_debt_count_a_job_that_is_being_replaced(bench: Bench) -> None:
    seen: list[object] = []
    bench.metrics.meanwhile = lambda: seen.append((bench.crew.debt().bytes, sorted(bench.crew.status())))
    bench.take(config(metrics=None))
    assert seen == [(2, ["logs", "metrics"])]
    assert bench.crew.debt().bytes == 1


def test_the_control_socket_answers_while_jobs_change(bench: Bench, tmp_path: Path) -> None:
    answers: list[object] = []

    def inquire() -> None:
        try:
            ask(str(tmp_path / "control.sock"), "status")
        except Exception as error:  # noqa: BLE001 - what it is, is the answer
            answers.append(str(error))

    bench.metrics.meanwhile = inquire
    bench.take(config(metrics=None))
    assert answers == ["no such command"]


def test_asking_from_many_threads_loses_no_request(bench: Bench) -> None:
    threads = [threading.Thread(target=bench.reload.ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.reload.step(0.0) is not None
    assert bench.reload.step(0.0) is None
    assert bench.reload.status()["number"] == 1
