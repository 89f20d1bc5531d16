"""What differs between two configurations, and what of it needs a restart."""

from __future__ import annotations

from typing import Any

from agent.config.schema import Config
from agent.reload.plan import compare

FILE = {"path": "/var/log/a.log", "group": "/g", "drop": ["x"]}
OTHER = {"path": ["/var/log/b.log", "/var/log/c.log"], "group": "/g"}


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def test_equal_configurations_differ_in_nothing() -> None:
    sections = {"logs": {"files": [FILE]}, "metrics": {"os": {}}, "drain": {"timeout": "5m"}}
    plan = compare(config(**sections), config(**sections))
    assert (plan.fixed, plan.jobs, plan.changes) == ((), (), ())
    assert (plan.drain, plan.log_level, plan.status_address) == (False, False, False)


def test_what_everything_stands_on_needs_a_restart_and_is_named() -> None:
    new = config(
        agent={"state_dir": "/srv/state", "run_dir": "/srv/run", "instance_id": "i-1"},
        aws={"region": "eu-west-1", "external_id": "abc"},
    )
    names = ("agent.state_dir", "agent.run_dir", "agent.instance_id", "aws.region", "aws.external_id")
    assert compare(config(), new).fixed == names


def test_level_timeout_and_status_address_do_not() -> None:
    new = config(agent={"log_level": "debug", "stop_timeout": "3s", "status_address": "127.0.0.1:9464"})
    plan = compare(config(), new)
    assert plan.fixed == ()
    assert (plan.log_level, plan.status_address) == (True, True)
    assert plan.changes == ("agent.log_level", "agent.stop_timeout", "agent.status_address")


def test_the_sections_of_jobs_and_the_drain_are_told_apart() -> None:
    old = config(metrics={"os": {}}, uploads={"directories": [{"path": "/srv", "bucket": "b-1"}]})
    new = config(metrics={"os": {}, "interval": "10s"}, logs={"files": [FILE]}, drain={"strict": True})
    plan = compare(old, new)
    assert plan.jobs == ("logs", "metrics", "uploads")
    assert plan.drain
    assert set(plan.changes) == {"logs: on", "metrics.interval", "uploads: off", "drain: on"}


def test_log_entries_are_named_by_their_paths_a_changed_one_as_both() -> None:
    old = config(logs={"files": [FILE, OTHER]})
    new = config(logs={"files": [{**FILE, "drop": ["y"]}, OTHER], "flush_interval": "1s"})
    assert compare(old, new).changes == (
        "logs.flush_interval",
        "logs.files: - /var/log/a.log",
        "logs.files: + /var/log/a.log",
    )


def test_changes_name_no_value() -> None:
    old, new = (config(metrics={"os": {}, "dimensions": {"Token": value}}) for value in ("hunter1", "hunter2"))
    assert compare(old, new).changes == ("metrics.dimensions",)


def test_keys_that_are_words_of_python_are_named_as_they_are_written() -> None:
    old, new = (config(metrics={"statsd": {"prefix": value}}) for value in ("a.", "b."))
    assert compare(old, new).changes == ("metrics.statsd",)
