"""The demo's applications: what they remember is what they wrote, by a fake clock and in real files."""

import os
import socket

import pytest

from agent.demo.child import environment
from agent.demo.folder import Folder, FolderUnfit, free_port
from agent.demo.logwriter import LogWriter
from agent.demo.shop import RATE, REQUEST_TIME, REQUESTS, Shop
from agent.demo.statsd import StatsdClient
from agent.demo.uploads import FIRST_DROPS, LATER_DROPS, OVERWRITTEN, SLOW, UploadFolder, content
from agent.engine.clock import FakeClock


@pytest.fixture
def listener():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def shop(tmp_path, clock, listener):
    (tmp_path / "log").mkdir()
    uploads = UploadFolder(str(tmp_path / "uploads"))
    shop = Shop(str(tmp_path / "log"), uploads, StatsdClient(listener.getsockname()[1]), "i-1", clock)
    yield shop
    shop.close()


def run(shop, clock, seconds):
    for _ in range(round(seconds * 10)):
        clock.advance(0.1)
        shop.step()


def received(listener):
    lines = []
    while True:
        try:
            lines += listener.recv(65536).decode().split("\n")
        except BlockingIOError:
            return lines


def on_disk(generation):
    with open(generation.path, encoding="utf-8") as file:
        return file.read()


def test_what_is_remembered_of_each_log_file_is_what_is_in_it(shop, clock):
    shop.open()
    run(shop, clock, 1.0)
    shop.rotate()
    run(shop, clock, 2.0)
    shop.rotate()
    run(shop, clock, 1.0)
    shop.close()
    generations = shop.written.generations
    assert sorted(os.path.basename(each.path) for each in generations) == [
        "access.log", "access.log.1", "access.log.2", "app.log",
    ]  # fmt: skip
    for generation in generations:
        found = os.stat(generation.path)
        assert (found.st_size, found.st_ino, found.st_dev) == (generation.size, generation.inode, generation.device)
        assert on_disk(generation).split("\n")[: len(generation.lines)] == generation.lines


def test_the_web_server_writes_on_into_the_renamed_file_for_a_moment(shop, clock):
    shop.open()
    run(shop, clock, 1.0)
    first = shop.written.generations[0]
    before = len(first.lines)
    shop.rotate()
    run(shop, clock, 0.5)
    assert first.path.endswith("access.log.1")
    assert len(first.lines) > before
    run(shop, clock, 0.5)
    assert len(shop.written.generations) == 3


def test_a_second_rotation_at_once_leaves_no_file_behind(shop, clock):
    shop.open()
    run(shop, clock, 1.0)
    shop.rotate()
    shop.rotate()
    run(shop, clock, 1.0)
    shop.close()
    generations = {os.path.basename(each.path): len(each.lines) for each in shop.written.generations}
    assert list(generations) == ["access.log.2", "app.log", "access.log.1", "access.log"]
    assert all(os.path.exists(each.path) for each in shop.written.generations)


def test_every_line_is_a_different_one(shop, clock):
    shop.open()
    run(shop, clock, 3.0)
    shop.close()
    lines = [line for generation in shop.written.generations for line in generation.lines]
    assert len(lines) > 3 * RATE - 50
    assert len(set(lines)) == len(lines)
    assert any(line.startswith("    at ") for line in lines)


def test_the_last_line_has_no_end(shop, clock):
    shop.open()
    run(shop, clock, 0.5)
    shop.close()
    (app,) = [each for each in shop.written.generations if each.path.endswith("app.log")]
    assert on_disk(app).split("\n")[-1] == app.lines[-1] != ""


def test_requests_come_by_the_clock_and_not_by_the_steps(shop, clock):
    shop.open()
    clock.advance(2.0)
    shop.step()
    shop.step()
    assert len(shop.written.generations[0].lines) == 2 * RATE


def test_a_machine_that_slept_does_not_make_up_for_all_of_it(shop, clock):
    shop.open()
    clock.advance(3600.0)
    shop.step()
    assert len(shop.written.generations[0].lines) == 3000
    clock.advance(1.0)
    shop.step()
    assert len(shop.written.generations[0].lines) == 3000 + RATE


def test_statsd_says_nothing_until_it_may(shop, clock, listener):
    shop.open()
    run(shop, clock, 0.5)
    assert received(listener) == []
    assert shop.written.samples == 0


def test_what_statsd_remembers_is_what_it_sent(shop, clock, listener):
    shop.open()
    shop.statsd.resume()
    run(shop, clock, 1.0)
    shop.statsd.pause()
    run(shop, clock, 0.5)
    lines = received(listener)
    times = [int(line.split(":")[1].removesuffix("|ms")) for line in lines if line.startswith(REQUEST_TIME)]
    counted = lines.count(f"{REQUESTS}:1|c")
    written = shop.written
    assert counted + len(times) == len(lines) == written.samples == 2 * RATE
    assert written.counters[REQUESTS].sum == counted
    assert (written.timers[REQUEST_TIME].count, written.timers[REQUEST_TIME].sum) == (len(times), sum(times))


def test_statsd_knows_whether_somebody_listens(listener):
    client = StatsdClient(listener.getsockname()[1])
    assert client.heard()
    listener.close()
    assert not client.heard()
    client.close()


def test_sending_to_nobody_is_remembered_as_sent(listener):
    client = StatsdClient(listener.getsockname()[1])
    listener.close()
    client.resume()
    client.count("a", 3)
    client.count("a", 3)
    assert client.counters["a"].sum == 6
    client.close()


def test_files_are_what_is_remembered_of_them(tmp_path):
    folder = UploadFolder(str(tmp_path))
    folder.drop(FIRST_DROPS)
    folder.drop(LATER_DROPS)
    folder.drop(OVERWRITTEN)
    assert {name: (tmp_path / name).read_bytes() for name in folder.files} == folder.files
    assert len(folder.files) == len(FIRST_DROPS) + len(LATER_DROPS)


def test_a_file_written_again_is_another_one_of_the_same_name():
    assert content("a", 1, 10) == content("a", 1, 10)
    assert content("a", 1, 10) != content("a", 2, 10)
    assert OVERWRITTEN[0] in FIRST_DROPS  # the same size: only the content tells


def test_a_file_grows_step_by_step(tmp_path):
    folder = UploadFolder(str(tmp_path))
    folder.grow(*SLOW, now=0.0)
    sizes = []
    for tenth in range(20):
        folder.step(tenth / 10)
        sizes.append((tmp_path / SLOW[0]).stat().st_size)
    assert len(set(sizes)) == 8
    assert (tmp_path / SLOW[0]).read_bytes() == folder.files[SLOW[0]]


def test_a_file_that_still_grows_is_finished_when_the_shop_closes(tmp_path):
    folder = UploadFolder(str(tmp_path))
    folder.grow(*SLOW, now=0.0)
    folder.step(0.0)
    folder.finish()
    assert (tmp_path / SLOW[0]).read_bytes() == folder.files[SLOW[0]]


def test_a_log_file_is_never_begun_over_an_existing_one(tmp_path):
    (tmp_path / "a.log").write_text("not ours")
    with pytest.raises(FileExistsError):
        LogWriter(str(tmp_path / "a.log"), ("group", "stream"), [])


def test_the_agent_accepts_the_configuration(tmp_path):
    from agent.config.load import load
    from agent.unserved import unserved

    folder = Folder(f"{tmp_path}/it's ünï #1")
    os.makedirs(folder.root)
    folder.write_configuration(free_port())
    config = load(folder.configuration).config
    assert list(unserved(config, root=False)) == []
    assert config.uploads.directories[0].path == folder.uploads
    assert config.drain.before[0].run == ("touch", folder.stopped)


def test_the_shell_reads_the_environment(tmp_path):
    folder = Folder(str(tmp_path))
    folder.write_environment({"AWS_REGION": "eu-west-1", "ODD": "it's $HOME"})
    assert (tmp_path / "aws.sh").read_text() == "export AWS_REGION=eu-west-1\nexport ODD='it'\"'\"'s $HOME'\n"


def test_a_place_too_deep_for_a_socket_is_told_and_left_clean(tmp_path):
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    with pytest.raises(FolderUnfit, match="TMPDIR=/tmp"):
        Folder.make(str(deep))
    assert list(deep.iterdir()) == []


def test_children_are_led_to_the_stand_ins_and_nowhere_else():
    own = {"PATH": "/bin", "AWS_PROFILE": "prod", "AWS_ENDPOINT_URL_S3": "https://x", "https_proxy": "http://p",
           "HTTP_PROXY": "http://p", "NOTIFY_SOCKET": "/run/s", "PYTHONPATH": "/mine"}  # fmt: skip
    found = environment(own, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    home = os.path.dirname(os.path.dirname(os.path.abspath(__import__("agent").__file__)))
    assert found == {
        "PATH": "/bin", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "PYTHONPATH": f"{home}{os.pathsep}/mine",
    }  # fmt: skip
