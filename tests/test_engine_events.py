"""Events: said once and counted always; nothing that an enemy wrote gets through to a terminal or forges a line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Said

from agent.engine.clock import FakeClock
from agent.engine.events import Events, make_logger
from agent.engine.redact import redacted

ENEMY = 'a\nERROR forged\r\x1b[2J\x00\x9b31m\u2028\u202e\udcff"'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def logging(stream: io.StringIO, level: str = "info") -> Events:
    return Events(make_logger(level, stream), FakeClock())


# counting


def test_an_event_is_a_line_and_its_counter_moves_by_as_much_as_it_says(events: Events, said: Said) -> None:
    events.say("warning", "dropped", counter="dropped_events", by=3, path="/a")
    assert said.lines == [("warning", "dropped", {"path": "/a"})]
    assert events.counters() == {"dropped_events": 3}


def test_what_is_only_counted_is_not_said(events: Events, said: Said) -> None:
    events.count("seen")
    events.count("seen", 4)
    assert (said.lines, events.counters()) == ([], {"seen": 5})


def test_counters_are_exact_with_many_threads(events: Events) -> None:
    def count() -> None:
        for _ in range(1000):
            events.count("seen")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events.counters() == {"seen": 8000}


def test_counters_are_a_copy(events: Events) -> None:
    events.count("seen")
    events.counters()["seen"] = 99
    assert events.counters() == {"seen": 1}


# standing troubles


def test_a_standing_trouble_is_said_at_once_and_then_after_1_2_4_minutes(
    events: Events, said: Said, clock: FakeClock
) -> None:
    said_at: list[int] = []
    for second in range(16 * 60):
        events.trouble("error", "unreadable", "/a", counter="failures")
        if len(said.lines) > len(said_at):
            said_at.append(second)
        clock.advance(1)
    assert said_at == [0, 60, 180, 420, 900]
    assert events.counters() == {"failures": 960}


def test_it_is_repeated_at_least_every_hour(events: Events, said: Said, clock: FakeClock) -> None:
    said_at: list[int] = []
    for minute in range(8 * 60):
        events.trouble("error", "unreadable", "/a")
        if len(said.lines) > len(said_at):
            said_at.append(minute)
        clock.advance(60)
    assert said_at[-4:] == [243, 303, 363, 423]


def test_a_reminder_says_how_often_it_happened(events: Events, said: Said, clock: FakeClock) -> None:
    for _ in range(61):
        events.trouble("error", "unreadable", "/a", path="/a")
        clock.advance(1)
    assert said.fields("unreadable") == [{"path": "/a"}, {"path": "/a", "times": 61}]


def test_troubles_are_told_apart_by_event_and_key(events: Events, said: Said) -> None:
    for event, key in (("unreadable", "/a"), ("unreadable", "/b"), ("late", "/a"), ("late", "/a")):
        events.trouble("error", event, key)
    assert said.names() == ["unreadable", "unreadable", "late"]


def test_the_end_of_a_trouble_is_said_once_with_how_long_it_lasted(
    events: Events, said: Said, clock: FakeClock
) -> None:
    events.trouble("error", "unreadable", "/a")
    clock.advance(5)
    events.over("unreadable", "/a", said="readable_again", path="/a")
    events.over("unreadable", "/a", said="readable_again", path="/a")
    assert said.fields("readable_again") == [{"path": "/a", "seconds": 5.0}]


def test_after_its_end_a_trouble_is_news_again(events: Events, said: Said) -> None:
    events.trouble("error", "unreadable", "/a")
    events.over("unreadable", "/a")
    events.trouble("error", "unreadable", "/a")
    assert said.names() == ["unreadable", "unreadable"]


def test_a_jump_of_the_wall_clock_repeats_nothing(events: Events, said: Said, clock: FakeClock) -> None:
    events.trouble("error", "unreadable", "/a")
    clock.set_time(clock.time() + 1e6)
    events.trouble("error", "unreadable", "/a")
    assert said.names() == ["unreadable"]


def test_the_memory_of_troubles_is_bounded_and_forgets_the_oldest(events: Events, said: Said) -> None:
    for number in range(4097):
        events.trouble("error", "unreadable", str(number))
    said.lines.clear()
    events.trouble("error", "unreadable", "4096")
    events.trouble("error", "unreadable", "0")
    assert len(said.lines) == 1


# lines of JSON


def test_each_event_is_one_line_of_json_with_time_and_level() -> None:
    stream = io.StringIO()
    logging(stream).say("warning", "late", path="/a", size=3, seconds=0.5, ok=True, none=None, names=["x", ("y",)])
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "late",
        "level": "warning",
        "path": "/a",
        "size": 3,
        "seconds": 0.5,
        "ok": True,
        "none": None,
        "names": ["x", ["y"]],
    }


def test_lower_levels_are_counted_and_not_written() -> None:
    stream = io.StringIO()
    events = logging(stream, "warning")
    events.say("info", "quiet", counter="seen")
    assert (stream.getvalue(), events.counters()) == ("", {"seen": 1})


@pytest.mark.parametrize(
    "fields",
    [
        {"path": ENEMY},
        {"paths": [ENEMY, {ENEMY: ENEMY}]},
        {"error": OSError(ENEMY)},
        {"path": Path(ENEMY.replace("\0", ""))},
        {"raw": ENEMY.encode("utf-8", "surrogateescape")},
    ],
    ids=["text", "nested", "exception", "path", "bytes"],
)
def test_foreign_text_cannot_forge_a_line_or_move_a_terminal(fields: dict[str, Any]) -> None:
    plain, terminal = io.StringIO(), Terminal()
    logging(plain).say("error", "refused", **fields)
    logging(terminal).say("error", "refused", **fields)
    (decoded,) = lines(plain)
    for written in (terminal.getvalue().rstrip("\n"), plain.getvalue().rstrip("\n"), "".join(texts(decoded))):
        assert "forged" in written
        for character in ENEMY.replace("\x1b", "").replace("forged", ""):
            assert character.isprintable() or character not in written
        assert "\x1b[2J" not in written


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    else:
        yield str(value)


def test_what_was_escaped_can_still_be_told() -> None:
    stream = io.StringIO()
    logging(stream).say("info", "seen", path="\x1b\x9b\u2028\udcff")
    assert lines(stream)[0]["path"] == r"\x1b\x9b\u2028\udcff"


def test_a_number_that_json_cannot_hold_is_said_as_text() -> None:
    stream = io.StringIO()
    logging(stream).say("info", "seen", size=2**64, low=-(2**63) - 1)
    assert lines(stream)[0]["size"] == "18446744073709551616"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_traceback_is_written_whatever_the_exception_says(stream: type[io.StringIO]) -> None:
    out = stream()
    try:
        raise ValueError(ENEMY)
    except ValueError as error:
        logging(out).say("error", "worker_failed", exc_info=error)
    written = out.getvalue()
    assert "Traceback (most recent call last)" in written
    assert "raise ValueError(ENEMY)" in written
    for sequence in ("\x1b[2J", "\x00", "\x9b", "\u2028", "\udcff"):
        assert sequence not in written


def test_a_traceback_on_a_terminal_shows_no_values_of_variables() -> None:
    out = Terminal()
    secret = "wJalrXUtnFEMI"
    try:
        raise ValueError(len(secret))
    except ValueError as error:
        logging(out).say("error", "worker_failed", exc_info=error)
    assert "ValueError: 13" in out.getvalue()
    assert "wJalr" not in out.getvalue().replace('secret = "wJalrXUtnFEMI"', "")


# what must never be written


@pytest.mark.parametrize(
    "text",
    [
        "The canonical string should have been 'POST\n/\n\nx-amz-security-token:SECRET/+=\n\nhost'",
        "https://bucket/key?X-Amz-Security-Token=SECRET&X-Amz-Date=1",
        "cannot connect to proxy http://user:SECRET@proxy:3128",
        "{'SecretAccessKey': 'SECRET', 'SessionToken': 'SECRET'}",
        '{"SecretAccessKey" : "SECRET"}',
        "aws_secret_access_key = SECRET",
        "Proxy-Authorization: Basic SECRET",
        "authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=SECRET",
    ],
)
def test_secrets_in_foreign_text_are_starred_out(text: str) -> None:
    stream = io.StringIO()
    logging(stream).say("error", "denied", error=text, details=[{"message": text}])
    assert "SECRET" not in stream.getvalue()
    assert "***" in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    ["http://host:8080/a@b", "the security token included in the request is invalid", "key AKIAEXAMPLE not found"],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


LIBRARY = """
import logging
from agent.engine.events import make_logger
make_logger()
make_logger()
try:
    raise ValueError("x-amz-security-token:SECRET")
except ValueError:
    logging.getLogger("botocore.credentials").warning("refreshing %s failed\\n", "them", exc_info=True)
logging.getLogger("botocore").info("quiet")
"""


def test_what_libraries_log_is_a_line_of_ours() -> None:
    """botocore says much, with tracebacks, that Python would print as it is."""
    ran = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True, check=True)
    (line,) = [json.loads(line) for line in ran.stderr.splitlines()]
    del line["timestamp"]
    assert line == {
        "event": "library_warning",
        "level": "warning",
        "library": "botocore.credentials",
        "message": "refreshing them failed\\x0a",
        "error": "ValueError: x-amz-security-token:***",
    }


# a log that can't be written


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["full", "closed", "pipe"])
def test_a_log_that_cannot_be_written_stops_nothing_and_is_counted(broken: str) -> None:
    stream: Any = Full()
    if broken == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
        stream = os.fdopen(writer, "w")
    events = Events(make_logger("info", stream), FakeClock())
    if broken == "closed":
        stream.close()
    events.say("error", "refused", counter="refused_events")
    events.trouble("error", "unreadable", "/a")
    events.over("unreadable", "/a", said="readable_again")
    assert events.counters() == {"log_lines_lost": 3, "refused_events": 1}
    if broken == "pipe":
        with pytest.raises(BrokenPipeError):
            stream.close()
