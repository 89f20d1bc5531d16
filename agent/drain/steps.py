"""The commands of a drain, one after the other, each written down before it is started."""

from __future__ import annotations

from collections.abc import Sequence

from agent.config.sections.drain import Step
from agent.drain.commands import RunningCommand
from agent.drain.journal import CommandRecord, DrainRecord, Journal
from agent.engine.clock import Clock
from agent.engine.events import Events, Level
from agent.engine.job import Gap


class Steps:
    """Runs configured commands without ever waiting: `advance` again and again."""

    def __init__(self, journal: Journal, clock: Clock, events: Events) -> None:
        self._journal = journal
        self._clock = clock
        self._events = events
        self._command: RunningCommand | None = None

    @property
    def command(self) -> RunningCommand | None:
        """The command under way."""
        return self._command

    def advance(self, record: DrainRecord, steps: Sequence[Step], deadline: float) -> bool:
        """Look after the command under way, or start the next; True while there is something to wait for.

        `deadline` in monotonic seconds: no command that is started now runs on after it.
        """
        if self._command is not None:
            self._look_after(record, self._command)
            return True
        step = next((step for step in steps if self._is_to_run(record, step)), None)
        if step is None:
            return False
        self._start(record, step, deadline)
        return True

    def _is_to_run(self, record: DrainRecord, step: Step) -> bool:
        """Whether the command was not yet run; at shutdown only those that say so; interrupted ones as they say."""
        if record.reason == "shutdown" and not step.at_shutdown:
            return False
        run = record.commands.get(step.name)
        if run is None:
            return True
        if run.state == "done":
            return False
        if step.on_resume == "rerun":
            return True
        run.state = "done"
        run.note = "interrupted: whether it ran to its end is not known"
        if step.on_resume == "fail":
            run.note = "interrupted, and counted as failed"
            run.exit_code = -1
        self._journal.save(record)
        return False

    def _start(self, record: DrainRecord, step: Step, deadline: float) -> None:
        run = record.commands[step.name] = CommandRecord(step.name)
        self._journal.save(record)
        environment = {
            "DRAIN_ID": record.drain_id,
            "DRAIN_REASON": record.reason,
            "DRAIN_DEADLINE": str(int(record.deadline)),
        }
        try:
            self._command = RunningCommand(step, environment, deadline, self._clock)
        except OSError as error:
            run.state, run.note = "done", f"not started: {error.strerror}"
            self._journal.save(record)
            self._events.say("error", "command_failed", counter="commands_failed", name=step.name, error=run.note)

    def _look_after(self, record: DrainRecord, command: RunningCommand) -> None:
        code = command.poll()
        if code is None:
            return
        run = record.commands[command.step.name]
        run.state, run.exit_code, run.seconds = "done", code, command.seconds
        run.note = "timed out" if command.timed_out else ""
        self._say_end(run, command.output())
        command.close()
        self._command = None
        self._journal.save(record)

    def _say_end(self, run: CommandRecord, output: str) -> None:
        level: Level = "info" if run.exit_code == 0 else "error"
        self._events.say(
            level,
            "command_ended",
            counter="commands_failed" if run.exit_code else None,
            name=run.name,
            exit_code=run.exit_code,
            seconds=round(run.seconds, 3),
            note=run.note,
            output=output,
        )


def failures(record: DrainRecord, steps: Sequence[Step]) -> list[Gap]:
    """Of the commands whose failure makes a drain incomplete, those that failed."""
    strict = {step.name for step in steps if step.on_failure == "incomplete"}
    return [
        Gap("command", run.name, 0, run.note or f"exit code {run.exit_code}")
        for run in record.commands.values()
        if run.name in strict and run.exit_code != 0
    ]
