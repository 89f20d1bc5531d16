"""What is said of reading a journal: why it can't be read, what may be missing, what was skipped."""

from __future__ import annotations

from agent.engine.events import Events
from agent.logs.journald.cursors import JournalCursor
from agent.logs.journald.framer import EntryFramer
from agent.logs.journald.position import Position
from agent.logs.journald.source import Phase, Source

_DEAF_MICROSECONDS = 5_000_000  # that an entry must be older than the process that was to find it
_SURE_SECONDS = 120.0  # without a follower: no journal forgets entries so soon
_SAID_CHARACTERS = 500  # of journalctl's complaints that are said: the end


class Watch:
    """Looks on while one journal is read."""

    def __init__(
        self, path: str, source: Source, framer: EntryFramer, cursor: JournalCursor, boot: str, events: Events
    ) -> None:
        """`cursor` as it was saved; `boot` is the present _BOOT_ID."""
        self._path = path
        self._source = source
        self._framer = framer
        self._cursor = cursor
        self._boot = boot
        self._events = events
        self._foreign = cursor.position if cursor.inherited is not None else None  # of another selection
        self._noted_run = 0  # of the source, whose first entry was looked at
        self._current_at = float("-inf")  # monotonic seconds when a follower last had nothing more to show
        self._caught_up = False  # once, in this run of the agent
        self._tries = 0  # that were said
        self._by_time = False

    def tended(self) -> None:
        """Processes were looked after."""
        self._say_trouble()
        if self._source.by_time and not self._by_time:
            self._events.say("warning", "journal_cursor_unusable", counter="journal_cursors_unusable",
                             path=self._path,
                             hint="journalctl refuses the saved cursor: reading goes on from its time")  # fmt: skip
        self._by_time = self._source.by_time

    def fed(self) -> None:
        """Output was taken in. Once for each process: is the entry there that it began at, did others come late."""
        first = self._framer.first
        if first is None or self._noted_run == self._source.runs:
            return
        self._noted_run = self._source.runs
        if not self._framer.met and self._source.phase is Phase.CATCHING_UP:
            self._note_gap(first)
        late = self._source.began * 1e6 - first.monotonic > _DEAF_MICROSECONDS
        if self._source.after_silence and first.boot == self._boot and late:
            self._events.say("warning", "journal_follow_stalled", counter="journal_follow_stalls", path=self._path)

    def emptied(self, now: float) -> None:
        """Nothing more was there."""
        if self._source.phase is Phase.FOLLOWING:
            self._current_at = now

    def at_end(self) -> None:
        """The journal's end is reached."""
        if not self._framer.met and self._framer.entries == 0:
            self._note_gap(None)
        self._say_complaint()
        if not self._caught_up:
            self._caught_up = True
            self._events.say("info", "journal_caught_up", path=self._path, entries=self._framer.entries)

    def count(self) -> None:
        """Move the counters by what was not sent as it stood."""
        counts = self._framer.counts
        if counts.too_long:
            self._events.say("error", "journal_entries_too_long", counter="journal_entries_too_long",
                             by=counts.too_long, path=self._path, entries=counts.too_long)  # fmt: skip
        if counts.unreadable:
            self._events.say("error", "journal_lines_unreadable", counter="journal_lines_unreadable",
                             by=counts.unreadable, path=self._path, lines=counts.unreadable)  # fmt: skip
        if counts.split:
            self._events.count("log_events_split", counts.split)
        self._cursor.skipped += counts.too_long + counts.unreadable
        counts.too_long = counts.unreadable = counts.split = 0

    def _note_gap(self, first: Position | None) -> None:
        """The entry before is not in the journal any more; others may have gone with it, unread."""
        last = self._source.position
        if last is None or last is self._foreign:
            return
        if self._source.after_silence or self._source.began - self._current_at < _SURE_SECONDS:
            return
        self._events.say("error", "journal_gap", counter="journal_gaps", path=self._path,
                         since=last.realtime / 1e6, until=first.realtime / 1e6 if first else None,
                         hint="entries in between may have been removed unread: keep more (SystemMaxUse= in "
                         "journald.conf, Storage=persistent)")  # fmt: skip

    def _say_trouble(self) -> None:
        trouble = self._source.trouble
        if trouble is None:
            self._events.over("journal_unreadable", self._path, said="journal_readable_again", path=self._path)
        elif self._source.phase is Phase.WAITING and self._source.tries != self._tries:
            self._events.trouble("warning", "journal_unreadable", self._path, counter="journal_read_failures",
                                 path=self._path, error=trouble.error, hint=trouble.hint,
                                 retry_in=round(self._source.retry_in, 2))  # fmt: skip
        self._tries = self._source.tries

    def _say_complaint(self) -> None:
        """What journalctl says although it ends well, such as that it passes over a damaged file."""
        said = self._source.complaint()
        if not said:
            self._events.over("journalctl_complains", self._path)
            return
        self._events.trouble("warning", "journalctl_complains", self._path, counter="journalctl_complaints",
                             path=self._path, said=said[-_SAID_CHARACTERS:],
                             hint="a file that it can't read is not sent: journalctl --verify")  # fmt: skip
