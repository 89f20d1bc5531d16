"""The drain itself, as steps: quiesce, seal, finish, receipt, answer. Each is journaled before it is done.

NOTICED -> QUIESCING -> SEALING -> FINISHING -> RECEIPT -> COMPLETING -> DONE

All jobs begin to flush at the notice. When the `before` commands have stopped what produces, what was flushed so far
counts for nothing: the jobs look again from the start. Only what they then show is proof.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from agent.aws.autoscaling import Hook, Result
from agent.aws.errors import AwsError
from agent.config.sections.drain import Drain
from agent.drain import receipt
from agent.drain.hook import Answer, Heartbeat, HookFinder
from agent.drain.journal import DrainRecord, Journal, Phase
from agent.drain.notice import Notice
from agent.drain.steps import Steps, failures
from agent.engine.backoff import Backoff
from agent.engine.clock import Clock
from agent.engine.events import Events, Level
from agent.engine.job import DROPPED, Gap, Job, Proofs

_POLL_SECONDS = 0.05  # between two looks at commands and jobs
_RECEIPT_SECONDS = 30.0  # after the deadline, for the receipt to reach S3 and the hook its answer
_ANSWER_SECONDS = 300.0  # after that, for the hook to take its answer
_HOOKED = ("auto-scaling", "spot")  # reasons with which a hook may be waiting for an answer


class DrainUnderWay(Exception):
    """What a drain goes by can't be changed once it was noticed: wait for its end and restart, or let it be."""


class ReceiptStore(Protocol):
    """Where receipts go beside the local disk."""

    def put(self, record: DrainRecord, document: Mapping[str, Any], attachments: Mapping[str, str]) -> None:
        """Store the receipt and its attachments; an equal one that is there already is success. Raises AwsError."""


@dataclass(frozen=True)
class Tools:
    """What the machine works with."""

    journal: Journal
    jobs: Iterable[Job]  # they may change between two drains, never within one
    finder: HookFinder
    heartbeat: Heartbeat
    answer: Answer
    retains_abandoned: Callable[[str], bool]
    store: ReceiptStore | None
    receipts: str  # the local folder
    instance_id: str
    boot_id: str
    clock: Clock
    events: Events
    rng: random.Random
    wake_heartbeat: Callable[[], None]


class Machine:
    """A worker. One drain for each stay of the instance; another notice can only shorten it."""

    name = "drain"

    def __init__(self, config: Drain, tools: Tools) -> None:
        self._config = config
        self._tools = tools
        self._lock = threading.Lock()
        self._record: DrainRecord | None = None
        self._hook: Hook | None = None
        self._hook_sought = 0.0  # monotonic time from which a hook that was not to be found is sought again
        self._steps = Steps(tools.journal, tools.clock, tools.events)
        self._proofs: list[Proofs] = []
        self._sealed = False
        self._document: dict[str, Any] = {}
        self._backoff = Backoff(base=0.5, cap=5.0, random=tools.rng)
        self._give_up_receipt = 0.0
        self._held = False
        self.finished = threading.Event()
        self.wake: Callable[[], None] = lambda: None

    @property
    def record(self) -> DrainRecord | None:
        """The drain under way or done, or None."""
        return self._record

    def restore(self) -> bool:
        """Take up the drain that an earlier run began; True if there is one that still holds."""
        record = self._tools.journal.load()
        if record is None:
            return False
        if record.boot_id != self._tools.boot_id and record.reason in ("operator", "shutdown"):
            self._tools.journal.forget()  # the machine was started again: it stays after all
            return False
        self._record = record
        self._tools.events.say("warning", "drain_resumed", drain_id=record.drain_id, phase=record.phase)
        if record.phase is Phase.DONE:
            self.finished.set()
        return True

    def notice(self, notice: Notice) -> DrainRecord:
        """Begin to drain, or shorten the drain under way. Safe from any thread."""
        with self._lock:
            if self._record is None:
                self._record = self._begin(notice)
            elif self._record.phase is Phase.DONE:
                self._reconsider(self._record, notice)
            else:
                self._shorten(self._record, notice)
            record = self._record
        self.wake()
        return record

    def check_idle(self) -> None:
        """Raises DrainUnderWay where one is, or was."""
        record = self._record
        if record is not None:
            what = "this instance is drained" if record.phase is Phase.DONE else "a drain is under way"
            raise DrainUnderWay(f"{what} (drain {record.drain_id})")

    @contextmanager
    def held(self) -> Iterator[None]:
        """In here no drain does anything, for the jobs change; one that is noticed goes on after it.

        Raises DrainUnderWay.
        """
        with self._lock:
            self.check_idle()
            self._held = True
        try:
            yield
        finally:
            self._held = False
            self.wake()

    def rearm(self, config: Drain, finder: HookFinder, store: ReceiptStore | None) -> None:
        """Go by these from the next drain on; to be called while it is held."""
        with self._lock:
            self._config = config
            self._tools = replace(self._tools, finder=finder, store=store)

    def status(self) -> dict[str, Any] | None:
        """For `status --json`."""
        record = self._record
        if record is None:
            return None
        gaps = [gap for proof in self._proofs for gap in proof.gaps]
        return {
            "drain_id": record.drain_id,
            "reason": record.reason,
            "phase": record.phase.value,
            "started": receipt.rfc3339(record.started),
            "deadline": receipt.rfc3339(record.deadline),
            "outcome": record.outcome,
            "result": record.result,
            "gaps": len(gaps),
        }

    def step(self, now: float) -> float | None:
        record = self._record
        if record is None or record.phase is Phase.DONE or self._held:
            return None
        self._seek_hook(record, now)
        act = {
            Phase.NOTICED: self._notice,
            Phase.QUIESCING: self._quiesce,
            Phase.SEALING: self._seal,
            Phase.FINISHING: self._finish,
            Phase.RECEIPT: self._receipt,
            Phase.COMPLETING: self._complete,
        }[record.phase]
        return act(record, now)

    # -- the phases

    def _notice(self, record: DrainRecord, now: float) -> float:
        self._flush(record)
        return self._go(record, Phase.QUIESCING, now)

    def _quiesce(self, record: DrainRecord, now: float) -> float:
        """Run `before`, one command after the other, while the jobs flush."""
        self._flush(record)
        if self._steps.advance(record, self._config.before, self._deadline_of(record)):
            return now + _POLL_SECONDS
        return self._go(record, Phase.SEALING, now)

    def _seal(self, record: DrainRecord, now: float) -> float:
        """Until every job shows that nothing is left, or the time is up."""
        if not self._sealed:
            self._sealed = True
            for job in self._tools.jobs:
                job.resume()
        self._flush(record)
        if not all(proof.settled for proof in self._proofs) and self._seconds_left(record) > 0:
            return now + _POLL_SECONDS
        return self._go(record, Phase.FINISHING, now)

    def _finish(self, record: DrainRecord, now: float) -> float:
        """Run `after`; then judge."""
        if self._steps.advance(record, self._config.after, self._deadline_of(record) + _RECEIPT_SECONDS):
            return now + _POLL_SECONDS
        self._flush(record)
        self._judge(record)
        self._give_up_receipt = self._deadline_of(record) + _RECEIPT_SECONDS
        return self._go(record, Phase.RECEIPT, now)

    def _receipt(self, record: DrainRecord, now: float) -> float:
        """Write the receipt here, then to S3; the hook is answered only after that, or when S3 will not take it."""
        if not self._document:
            if not self._proofs:
                self._flush(record)  # resumed after a crash: the proofs are made again
            more = [*self._failures(record), *self._silent_gaps()]
            self._document = receipt.compose(record, self._tools.instance_id, self._proofs, more)
            self._write_locally()
        if self._tools.store is not None and not self._stored(record, now):
            return self._tools.clock.monotonic() + self._backoff.next()
        return self._go(record, Phase.COMPLETING, now)

    def _complete(self, record: DrainRecord, now: float) -> float | None:
        """Answer the hook if there is one; then it is done."""
        patient = self._seconds_left(record) > -(_RECEIPT_SECONDS + _ANSWER_SECONDS)
        if self._hook is None and record.reason in _HOOKED and self._hook_sought < float("inf") and patient:
            return self._hook_sought
        if self._hook is not None:
            taken, wait = self._tools.answer.give(self._hook, cast("Result", record.result))
            if taken is None and patient:
                return self._tools.clock.monotonic() + wait
            record.hook["answer"] = taken or "not taken"
        self._tools.heartbeat.end()
        self._go(record, Phase.DONE, now)
        level: Level = "info" if record.outcome == "proven" else "error"
        seconds = round(self._tools.clock.time() - record.started, 3)
        self._tools.events.say(
            level,
            "drain_done",
            drain_id=record.drain_id,
            outcome=record.outcome,
            answer=record.hook.get("answer"),
            seconds=seconds,
        )
        self.finished.set()
        return None

    # -- their parts

    def _begin(self, notice: Notice) -> DrainRecord:
        record = DrainRecord(
            drain_id=str(uuid.UUID(int=self._tools.rng.getrandbits(128), version=4)),
            boot_id=self._tools.boot_id,
            reason=notice.reason,
            started=notice.at,
            deadline=self._deadline(notice),
            note=notice.note,
        )
        self._tools.journal.save(record)
        self._tools.events.say(
            "info",
            "drain_noticed",
            counter="drains",
            drain_id=record.drain_id,
            reason=record.reason,
            deadline=receipt.rfc3339(record.deadline),
        )
        return record

    def _deadline(self, notice: Notice) -> float:
        limit = self._config.shutdown_timeout if notice.reason == "shutdown" else self._config.timeout
        return min(notice.at + limit, float("inf") if notice.deadline is None else notice.deadline)

    def _shorten(self, record: DrainRecord, notice: Notice) -> None:
        """Another notice during the drain: its deadline counts if it is earlier. The same again says nothing."""
        deadline = self._deadline(notice)
        if (notice.reason == record.reason and notice.deadline is None) or deadline >= record.deadline:
            return
        record.deadline = deadline
        self._tools.journal.save(record)
        self._tools.events.say(
            "warning",
            "drain_shortened",
            drain_id=record.drain_id,
            reason=notice.reason,
            deadline=receipt.rfc3339(deadline),
        )

    def _reconsider(self, record: DrainRecord, notice: Notice) -> None:
        """Drained already, at an operator's wish; now a hook waits for the answer: what is left is proven anew."""
        if notice.reason not in _HOOKED or record.reason in _HOOKED:
            return
        self._tools.events.say("info", "drain_reopened", drain_id=record.drain_id, reason=notice.reason)
        record.reason, record.deadline = notice.reason, self._deadline(notice)
        record.phase, record.outcome, record.finished = Phase.NOTICED, None, None
        self._document, self._sealed, self._hook_sought = {}, False, 0.0
        self.finished.clear()
        self._tools.journal.save(record)

    def _go(self, record: DrainRecord, phase: Phase, now: float) -> float:
        """On to the next phase, journaled before anything of it is done."""
        record.phase = phase
        self._tools.journal.save(record)
        self._tools.events.say("info", "drain_phase", drain_id=record.drain_id, phase=phase.value)
        return now

    def _seconds_left(self, record: DrainRecord) -> float:
        return record.deadline - self._tools.clock.time()

    def _deadline_of(self, record: DrainRecord) -> float:
        """In monotonic seconds, never in the past."""
        return self._tools.clock.monotonic() + max(0.0, self._seconds_left(record))

    def _flush(self, record: DrainRecord) -> None:
        deadline = self._deadline_of(record)
        self._proofs = [job.drain(deadline) for job in self._tools.jobs]

    def _seek_hook(self, record: DrainRecord, now: float) -> None:
        """Find the hook early and keep it waiting; while AWS does not answer, try again."""
        if self._hook is not None or record.reason not in _HOOKED or now < self._hook_sought:
            return
        try:
            self._hook = self._tools.finder.find()
        except AwsError as error:
            self._hook_sought = self._tools.clock.monotonic() + self._backoff.next()
            self._tools.events.trouble("warning", "hook_not_found", "", error=str(error), hint=error.hint)
            return
        self._hook_sought = float("inf")
        if self._hook is not None:
            record.hook.update({"group": self._hook.group, "name": self._hook.name})
            self._tools.heartbeat.begin(self._hook, self._deadline_of(record) + _RECEIPT_SECONDS)
            self._tools.wake_heartbeat()

    def _failures(self, record: DrainRecord) -> list[Gap]:
        return failures(record, (*self._config.before, *self._config.after))

    def _silent_gaps(self) -> list[Gap]:
        """Jobs that are not done and name nothing that is missing: said too, never left out."""
        return [
            Gap(job.name, "", job.debt().bytes, "not settled when the time was up")
            for job, proof in zip(self._tools.jobs, self._proofs, strict=True)
            if not proof.settled and not proof.gaps
        ]

    def _judge(self, record: DrainRecord) -> None:
        gaps = bool(self._failures(record)) or not all(proof.settled and not proof.gaps for proof in self._proofs)
        refused = self._config.strict and any(
            item.kind != DROPPED for proof in self._proofs for item in proof.refused
        )
        record.outcome = "incomplete" if gaps or refused else "proven"
        record.finished = self._tools.clock.time()
        record.revision += 1
        record.result = self._result(record.outcome) if record.reason in _HOOKED else None
        record.hook.update(
            {
                "result": record.result,
                "heartbeats": self._tools.heartbeat.sent,
                "heartbeats_missed": self._tools.heartbeat.failed,
            }
        )

    def _result(self, outcome: str) -> Result:
        """What the hook is answered."""
        if outcome == "proven" or self._config.on_incomplete == "continue":
            return "CONTINUE"
        if self._config.on_incomplete == "abandon":
            return "ABANDON"
        try:
            retained = self._hook is not None and self._tools.retains_abandoned(self._hook.group)
        except AwsError as error:
            self._tools.events.say("warning", "retention_unknown", error=str(error), hint=error.hint)
            retained = False
        return "ABANDON" if retained else "CONTINUE"

    def _write_locally(self) -> None:
        try:
            path = receipt.write(self._tools.receipts, self._document)
        except OSError as error:
            self._tools.events.say("error", "receipt_not_written", counter="receipts_failed", error=str(error))
            return
        self._tools.events.say("info", "receipt_written", path=path, outcome=self._document["outcome"])

    def _stored(self, record: DrainRecord, now: float) -> bool:
        assert self._tools.store is not None
        attachments = {name: path for proof in self._proofs for name, path in proof.attachments.items()}
        try:
            self._tools.store.put(record, self._document, attachments)
        except (AwsError, OSError) as error:
            hint = getattr(error, "hint", "see the message")
            self._tools.events.trouble(
                "warning", "receipt_not_stored", "", counter="receipts_retried", error=str(error), hint=hint
            )
            if now < self._give_up_receipt:
                return False
            self._tools.events.say("error", "receipt_given_up", counter="receipts_failed", error=str(error))
        return True
