"""The real process reloads: by signal and by command, in the middle of rotations, again and again."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from logs_harness import check, check_order
from real_agent import RealAgent, eventually

from agent.engine.control import SOCKET_NAME, ask
from agent.standin.faults import Fault, Kind
from agent.standin.standin import INSTANCE_ID, Standin

RELOADS = 100
SHORT_OF_MEMORY = 4 << 20  # bytes that 90 reloads may cost: what an allocator keeps, not what one reload leaves


@pytest.fixture
def standin() -> Iterator[Standin]:
    with Standin.start() as running:
        yield running


class Reloadable(RealAgent):
    """An agent whose configuration is written anew."""

    def write(self, sections: str, own: str = "") -> None:
        """Put another configuration in the place of the file, as an editor does."""
        agent = f"state_dir: {self.folder}/state, run_dir: {self.folder}/run, stop_timeout: 3s"
        new = self.folder / "outlive.yaml.new"
        new.write_text(f"agent: {{{agent}{own}}}\n{sections}")
        new.rename(self.file)

    def reload(self) -> dict[str, Any]:
        """Ask for one as the command does; what came of it."""
        path = str(self.folder / "run" / SOCKET_NAME)
        number = ask(path, "reload")["reload"]["number"]
        answers = (ask(path, "reload", number=number)["reload"] for _ in count())
        return eventually(lambda: (found := next(answers))["state"] != "asked" and found)

    def counter(self, name: str) -> int:
        status = self.status()
        return int(status["counters"].get(name, 0)) if status else 0

    def hang_up(self) -> None:
        """SIGHUP; until it was taken in."""
        before = self.counter("reloads")
        self.signal(signal.SIGHUP)
        eventually(lambda: self.counter("reloads") > before)


@pytest.fixture
def agent(tmp_path: Path, standin: Standin) -> Iterator[Reloadable]:
    made = Reloadable(tmp_path, standin, logs(tmp_path, "a.log"))
    yield made
    made.close()


def logs(folder: Path, *names: str, **more: str) -> str:
    options = "".join(f", {key}: {value}" for key, value in more.items())
    entries = ", ".join(f"{{path: {folder}/{name}, group: /app, stream: s{options}}}" for name in names)
    return f"logs: {{flush_interval: 100ms, files: [{entries}]}}\n"


def messages(standin: Standin) -> list[str]:
    group = standin.logs.groups().get("/app")
    return [each for stream in list(group.streams) for each in standin.logs.messages("/app", stream)] if group else []


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def opened(agent: Reloadable, path: Path) -> bool:
    """Whether the agent has opened the file that is at `path` now."""
    inode = path.stat().st_ino
    return any(event["inode"] == inode for event in agent.events("log_opened"))


def test_hung_up_in_the_middle_of_rotations_it_loses_and_doubles_nothing(
    agent: Reloadable, standin: Standin, tmp_path: Path
) -> None:
    """The writer goes on writing to the renamed file, as it does until it is told to open another."""
    agent.running()
    path, generations = tmp_path / "a.log", []
    for number in range(8):
        old = tmp_path / f"a.log.{number}"
        generations.append([f"{number} {line}" for line in range(300)])
        append(path, *generations[-1][:100])
        eventually(partial(opened, agent, path))
        more = {"drop": "[nothing of it]"} if number % 3 else {}
        agent.write(logs(tmp_path, "a.log", *["b.log"] * (number % 2), **more))
        path.rename(old)
        agent.signal(signal.SIGHUP)
        append(old, *generations[-1][100:200])
        append(path, f"next to {number}")
        generations.append([f"next to {number}"])
        eventually(lambda expected=number + 1: agent.counter("reloads") == expected)
        append(old, *generations[-2][200:])
    written = [line for generation in generations for line in generation]
    eventually(lambda: len(messages(standin)) >= len(written))
    check(written, messages(standin))
    for generation in generations:
        check_order(generation, messages(standin))
    assert agent.terminate() == 0


def test_the_command_says_what_came_of_it_and_exits_so(agent: Reloadable, standin: Standin, tmp_path: Path) -> None:
    call = agent.call("reload")
    assert (call.returncode, call.stdout) == (1, "")
    assert "is it running" in call.stderr
    agent.running()
    agent.write(logs(tmp_path, "b.log"))
    call = agent.call("reload")
    assert call.returncode == 0
    changes = [f"  logs.files: - {tmp_path}/a.log", f"  logs.files: + {tmp_path}/b.log"]
    assert call.stdout.splitlines() == [*changes, "reloaded"]
    for wrong, code, words in [
        ("logs: {files: [{pth: /x}]}\nmetrics: {interval: soon}\n", 2, ("pth", "interval")),
        ('logs: {files: [{path: /x/y, group: "/g/{tag:Team}"}]}\n', 2, ("{tag:Team}",)),
        ("aws: {region: eu-north-1}\n" + logs(tmp_path, "a.log"), 1, ("needs a restart: aws.region",)),
    ]:
        agent.write(wrong)
        call = agent.call("reload")
        assert (call.returncode, call.stdout) == (code, "")
        assert [word for word in words if word not in call.stderr] == []
        assert "Traceback" not in call.stderr
    append(tmp_path / "b.log", "still here")
    eventually(lambda: messages(standin) == ["still here"])


def test_hung_up_with_an_invalid_file_it_says_every_mistake_and_goes_on(
    agent: Reloadable, standin: Standin, tmp_path: Path
) -> None:
    agent.running()
    agent.write("logs: {files: [{pth: /x}]}\nmetrics: {interval: soon}\n")
    agent.signal(signal.SIGHUP)
    [said] = eventually(lambda: agent.events("reload_refused"))
    assert [word for word in ("pth", "interval") if not any(word in each for each in said["problems"])] == []
    assert agent.status()["reload"]["state"] == "invalid"
    append(tmp_path / "a.log", "still here")
    eventually(lambda: messages(standin) == ["still here"])


def test_a_new_entry_starts_and_a_removed_one_stops_after_its_acknowledgements(
    agent: Reloadable, standin: Standin, tmp_path: Path
) -> None:
    agent.running()
    append(tmp_path / "a.log", "one")
    eventually(lambda: messages(standin) == ["one"])
    fault = standin.faults.add(Fault(Kind.THROTTLE, service="logs"))
    append(tmp_path / "a.log", "two")
    eventually(lambda: agent.counter("log_batches_retried"))
    agent.write(logs(tmp_path, "b.log"))
    assert agent.reload()["state"] == "applied"
    append(tmp_path / "a.log", "three, which nobody wants any more")
    append(tmp_path / "b.log", "four")
    standin.faults.remove(fault)
    eventually(lambda: sorted(messages(standin)) == ["four", "one", "two"])
    eventually(lambda: [row["path"] for row in agent.status()["logs"]] == [f"{tmp_path}/b.log"])
    agent.write(logs(tmp_path, "a.log", "b.log"))
    agent.hang_up()
    eventually(lambda: "three, which nobody wants any more" in messages(standin))
    assert sorted(messages(standin))[:3] == ["four", "one", "three, which nobody wants any more"]
    assert len(messages(standin)) == 4


def metrics(port: int, interval: str = "1s") -> str:
    return f"metrics: {{interval: {interval}, flush_interval: 1s, statsd: {{address: '127.0.0.1:{port}'}}}}\n"


def listens(port: int) -> bool:
    """Whether somebody is bound to the UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def test_statsd_moves_to_another_port_and_loses_no_sample(
    agent: Reloadable, standin: Standin, tmp_path: Path
) -> None:
    first, second = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    agent.write(logs(tmp_path, "a.log") + metrics(first))
    agent.running()
    eventually(lambda: listens(first))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"before:1|c", ("127.0.0.1", first))
        eventually(lambda: agent.counter("statsd_packets") == 1)
        agent.write(logs(tmp_path, "a.log") + metrics(second))
        assert agent.reload()["state"] == "applied"
        eventually(lambda: listens(second))
        assert not listens(first)
        sock.sendto(b"after:1|c", ("127.0.0.1", second))
    eventually(lambda: {"before", "after"} <= {each["MetricName"] for each in standin.monitoring.datums()})
    agent.write(logs(tmp_path, "a.log"))
    assert agent.reload()["changes"] == ["metrics: off"]
    assert not listens(second)


def test_another_compression_replaces_the_whole_job_and_loses_and_doubles_nothing(
    agent: Reloadable, standin: Standin, tmp_path: Path
) -> None:
    agent.running()
    written: list[str] = []
    for number in range(4):
        written += [f"{number} {line}" for line in range(100)]
        append(tmp_path / "a.log", *written[-100:])
        eventually(partial(opened, agent, tmp_path / "a.log"))
        (tmp_path / "a.log").rename(tmp_path / f"a.log.{number}")
        entries = logs(tmp_path, "a.log").replace("logs: {", f"logs: {{compression: {('none', 'gzip')[number % 2]}, ")
        agent.write(entries)
        outcome = agent.reload()
        assert (outcome["state"], outcome["changes"]) == ("applied", ["logs.compression"])
    eventually(lambda: len(messages(standin)) >= len(written))
    check(written, messages(standin))


def test_the_log_level_changes_while_it_runs(agent: Reloadable, tmp_path: Path) -> None:
    agent.running()
    agent.write(logs(tmp_path, "a.log"), own=", log_level: error")
    assert agent.reload()["state"] == "applied"
    append(tmp_path / "a.log", "one")
    eventually(lambda: agent.status()["logs"])
    assert agent.events("log_opened") == []
    agent.write(logs(tmp_path, "a.log", "b.log"), own=", log_level: info")
    assert agent.reload()["state"] == "applied"
    append(tmp_path / "b.log", "one")
    eventually(lambda: agent.events("log_opened"))


def test_the_next_drain_goes_by_the_drain_section_of_the_reload(
    agent: Reloadable, standin: Standin, tmp_path: Path
) -> None:
    standin.s3.add_bucket("receipts")
    agent.running()
    out = tmp_path / "out"
    step = f"{{name: touch, run: [touch, {out}]}}"
    agent.write(logs(tmp_path, "a.log") + f"drain: {{before: [{step}], receipt: {{bucket: receipts}}}}\n")
    assert agent.reload()["state"] == "applied"
    standin.lifecycle.add_group("web", instances=[INSTANCE_ID], hooks=[])
    standin.lifecycle.notice(INSTANCE_ID)
    eventually(lambda: agent.status()["state"] == "done")
    assert out.exists()
    assert len(standin.s3.objects("receipts")) == 1
    agent.write(logs(tmp_path, "b.log"))
    refused = agent.reload()
    assert refused["state"] == "refused"
    assert "this instance is drained" in refused["problems"][0]


def test_hung_up_before_it_is_ready_it_reloads_when_it_is(agent: Reloadable) -> None:
    agent.start()
    eventually(lambda: blocks_hangup(agent))
    agent.signal(signal.SIGHUP)
    eventually(lambda: agent.counter("reloads") == 1)


def blocks_hangup(agent: Reloadable) -> bool:
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    [mask] = [int(line.split()[1], 16) for line in lines if line.startswith("SigBlk")]
    return bool(mask & 1 << (signal.SIGHUP - 1))


def test_stopped_in_the_middle_of_a_reload_it_ends_in_order(
    agent: Reloadable, standin: Standin, tmp_path: Path
) -> None:
    agent.write(logs(tmp_path, "a.log") + metrics(free_port(socket.SOCK_DGRAM)))
    agent.running()
    standin.faults.add(Fault(Kind.HANG, service="monitoring", seconds=2))
    agent.write(logs(tmp_path, "a.log"))
    agent.signal(signal.SIGHUP)
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert agent.events("stopped")


def test_status_answers_while_a_job_that_is_replaced_hangs(
    agent: Reloadable, standin: Standin, tmp_path: Path
) -> None:
    port = free_port(socket.SOCK_DGRAM)
    agent.write(logs(tmp_path, "a.log") + metrics(port))
    agent.running()
    eventually(lambda: listens(port))
    hang = standin.faults.add(Fault(Kind.HANG, service="monitoring", seconds=60))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"one:1|c", ("127.0.0.1", port))
    eventually(lambda: standin.faults.as_json()[0]["acted"])
    agent.write(logs(tmp_path, "a.log", "b.log") + metrics(port, "2s"))
    agent.signal(signal.SIGHUP)
    eventually(lambda: not listens(port))
    assert agent.status()["reload"] is None
    assert agent.status()["debt"]["items"] > 0
    append(tmp_path / "a.log", "meanwhile")
    eventually(lambda: messages(standin) == ["meanwhile"])
    standin.faults.remove(hang)
    eventually(lambda: agent.counter("reloads") == 1)
    assert agent.events("worker_stuck") == []
    eventually(lambda: "one" in {each["MetricName"] for each in standin.monitoring.datums()})


@pytest.fixture
def snapshots(agent: Reloadable) -> Callable[[], dict[str, int]]:
    """What the process uses: descriptors, threads, bytes of memory."""

    def look() -> dict[str, int]:
        proc = Path(f"/proc/{agent.process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line)
        return {
            "descriptors": len(os.listdir(proc / "fd")),
            "threads": int(status["Threads"]),
            "memory": int(status["VmRSS"].split()[0]) << 10,
        }

    return look


def test_a_hundred_reloads_leave_nothing_behind(
    agent: Reloadable, standin: Standin, tmp_path: Path, snapshots: Callable[[], dict[str, int]]
) -> None:
    standin.s3.add_bucket("uploads")
    (tmp_path / "up").mkdir()
    uploads = f"uploads: {{directories: [{{path: {tmp_path}/up, bucket: uploads}}]}}\n"
    status, statsd = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    configurations: list[tuple[str, str]] = [
        (logs(tmp_path, "a.log") + uploads + metrics(statsd), ""),
        (logs(tmp_path, "a.log", "b.log", drop="[x]") + uploads + metrics(statsd, "2s"), ""),
        (logs(tmp_path, "a.log", "b.log"), f", status_address: '127.0.0.1:{status}'"),
        (logs(tmp_path, "b.log") + uploads.replace("bucket", "prefix: p/, bucket") + "drain: {strict: true}\n", ""),
    ]
    agent.running()
    seen: list[dict[str, Any]] = []
    for number in range(RELOADS):
        append(tmp_path / "a.log", f"a {number}")
        agent.write(*configurations[number % len(configurations)])
        agent.hang_up()
        if number in (11, RELOADS - 1):
            eventually(lambda: agent.status()["debt"]["bytes"] == 0)
            seen.append(snapshots())
    first, last = seen
    assert last["descriptors"] <= first["descriptors"]
    assert last["threads"] <= first["threads"] + 2
    assert last["memory"] <= first["memory"] + SHORT_OF_MEMORY
    assert agent.counter("worker_failures") == 0
    assert agent.terminate() == 0
