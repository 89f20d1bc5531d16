"""`outlive check`, as a user meets it: what it prints, where, and how it exits."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.check import register, run

ROOT = Path(__file__).parent.parent
STARTING_FILE = ROOT / "config" / "outlive.yaml"


def parse(*words):
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    return parser.parse_args(["check", *words])


@pytest.fixture
def check(tmp_path, capsys):
    """Writes a configuration and checks it: the exit code, and the lines on stdout and stderr."""

    def of(text):
        path = tmp_path / "outlive.yaml"
        path.write_text(text)
        path.chmod(0o640)
        code = run(parse("-c", str(path)))
        printed = capsys.readouterr()
        return code, *(stream.replace(f"{tmp_path}/", "").splitlines() for stream in (printed.out, printed.err))

    return of


def test_the_default_file_is_the_package_s():
    assert parse().config == "/etc/outlive/outlive.yaml"
    assert parse().func is run


def test_a_good_configuration_exits_0_and_says_what_is_on_and_what_is_off(check):
    code, out, err = check("""
logs: {files: [{path: /a, group: g}], journald: [{group: j}]}
metrics: {os: {cpu: {}}, statsd: {}, processes: [{exe: x}, {exe: y}]}
uploads: {directories: [{path: /srv/a, bucket: shop}]}
snapshots: [{name: s, sqlite: /s, bucket: abc, key: k}]
drain: {receipt: {bucket: receipts}}
""")
    assert (code, err) == (0, [])
    assert [line for line in out if "this version" not in line] == [
        "outlive.yaml: fine",
        "  logs       1 entry of files, 1 of the journal",
        "  metrics    into CWAgent: cpu, 2 process entries, statsd on 127.0.0.1:8125",
        "  uploads    /srv/a to shop",
        "  snapshots  1 entry",
        "  drain      receipts to receipts",
        "  off        alarms, restore, sessions",
    ]


def test_what_run_would_refuse_is_noted(check):
    code, out, _ = check("alarms: []\ndrain: {triggers: {rebalance: true}}\n")
    assert code == 0
    assert "note: drain.triggers.rebalance: this version can't do it yet; `outlive run` refuses it" in out


def test_notes_stand_below_and_change_nothing(check):
    code, out, _ = check("drain: {}")
    assert code == 0
    assert out[-1].startswith("note: outlive.yaml:1:8: drain.receipt.bucket: is null")


def test_problems_go_to_stderr_one_a_line_with_a_count_and_exit_2(check):
    code, out, err = check("aws: {regoin: x}\nagent: {log_level: loud}\n")
    assert (code, out) == (2, [])
    assert err == [
        "outlive.yaml:1:7: aws.regoin: unknown key; did you mean region?",
        "outlive.yaml:2:20: agent.log_level: 'loud' is not one of debug, info, warning, error",
        "2 problems in 1 file",
    ]


def test_a_file_full_of_problems_shows_the_first_hundred(check):
    code, _, err = check("".join(f"k{i}: 1\n" for i in range(150)))
    assert code == 2
    assert len(err) == 101
    assert err[-1] == "150 problems in 1 file, of which the first 100 are shown"


def test_a_missing_file_exits_2_without_a_traceback(tmp_path, capsys):
    path = tmp_path / "none.yaml"
    assert run(parse("-c", str(path))) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: there is no such file; write one, or name another with -c",
        "1 problem in 1 file",
    ]


def test_the_starting_file_is_fine(capsys):
    assert run(parse("-c", str(STARTING_FILE))) == 0
    out = capsys.readouterr().out
    assert "metrics    into CWAgent: memory, disk\n" in out
    assert "off        logs, alarms, uploads, snapshots, restore, sessions\n" in out


def test_every_example_of_the_starting_file_is_fine_when_its_sign_is_removed(check):
    lines = STARTING_FILE.read_text().splitlines()
    code, out, err = check("\n".join(line.removeprefix("# ") for line in lines if not line.startswith("##")))
    assert (code, err) == (0, [])
    assert "  off        snapshots, restore, sessions" in out


def test_importing_the_command_imports_nothing_heavy():
    script = "import sys, agent.cli.check; print(*{'pydantic', 'yaml', 'boto3', 'apscheduler'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert printed.stdout == "\n"


def test_checking_opens_no_socket_and_imports_no_client(tmp_path):
    path = tmp_path / "outlive.yaml"
    path.write_text('logs: {journald: [{group: g, stream: "{instance_id}{tag:Name}{env:X}"}]}')
    script = (
        "import sys, argparse\n"
        "sys.addaudithook(lambda event, args: event.startswith('socket.') and sys.exit(f'touched {event}'))\n"
        "from agent.cli.check import run\n"
        f"code = run(argparse.Namespace(config={str(path)!r}))\n"
        "sys.exit(code or bool({'boto3', 'botocore', 'apscheduler'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
