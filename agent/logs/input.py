"""One entry of the configuration: its files are met, each has its turn, and each is let go when it is finished."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.engine.events import Events
from agent.engine.files import OWNED_LINKS, open_regular
from agent.logs.cursors import Cursor, Cursors
from agent.logs.deliver import Dispatcher
from agent.logs.discover import Patterns, Scan
from agent.logs.following import Following
from agent.logs.packed import Packed
from agent.logs.removal import remove
from agent.logs.resting import Resting
from agent.logs.room import Room
from agent.logs.rotations import Rotations
from agent.logs.tail import Route, TailedFile
from agent.logs.unreadable import Trouble, Unreadable

_COPYING_SECONDS = 5.0  # quiet time after which a file that is like another one counts as a file of its own
_BAD_SECONDS = 10.0  # that reading a file fails before it is opened anew


@dataclass
class _Copy:
    """A file that has all that was read of another one: perhaps still being made, before that is cut off."""

    size: int
    since: float  # monotonic time of its last growth


class Input:
    """One entry of `logs.files`. For the reading thread alone, but for the iteration and the public mappings."""

    def __init__(
        self,
        patterns: Patterns,
        route: Route,
        room: Room,
        cursors: Cursors,
        dispatcher: Dispatcher,
        events: Events,
        *,
        folder: str,
        from_end: bool = False,
        delete: bool = False,
    ) -> None:
        """`folder`: for what is unpacked. `from_end`: skip what is in files that exist when this entry first runs.
        `delete`: rotated files, once every byte is acknowledged.
        """
        self.scan_errors: dict[str, str] = {}
        self.waiting: dict[str, int] = {}  # by path: size of what is meant and has to wait until it is opened
        self._patterns = patterns
        self._room = room
        self._cursors = cursors
        self._events = events
        self._entry = f"{route.scope} {patterns.written}"
        self._is_new = cursors.is_new(self._entry)
        self._from_end = from_end
        self._delete = delete
        known = cursors.claim(route.scope, self._is_ours)
        self._following = Following(route, cursors, dispatcher, room.memory, events, known)
        self._unreadable = Unreadable(events)
        packed = Packed(folder, room.limits.max_deleted_bytes)
        self._rotations = Rotations(patterns, self._following, self._unreadable, events, packed, room.may_open)
        self._copies: dict[str, _Copy] = {}
        self._odd: Sequence[str] = ()  # paths of no regular file, as the last look found them
        self._undeletable: set[int | None] = set()  # cursors whose files could not be deleted
        room.tenants.append(self)

    def __iter__(self) -> Iterator[TailedFile]:
        """All open files, those rotated away first: what they have is older. Safe from any thread."""
        return iter(self._following)

    @property
    def files(self) -> Mapping[str, TailedFile]:
        """Open files, by path."""
        return self._following.files

    @property
    def rotated(self) -> Sequence[TailedFile]:
        """Open files whose paths lead elsewhere."""
        return self._following.rotated

    @property
    def resting(self) -> Mapping[str, Resting]:
        """By path: files that are read and acknowledged, and closed for want of descriptors."""
        return self._following.resting

    @property
    def unreadable(self) -> Mapping[str, Trouble]:
        """Files that are meant and can't be opened, by path."""
        return self._unreadable.troubles

    @property
    def searching(self) -> Collection[str]:
        """Paths of which a generation may still be found."""
        return self._rotations.searching

    # -- what the reader asks of it

    def scan(self, now: float) -> None:
        """Look which files there are; open what is new."""
        self._room.look_again()
        scan = self._patterns.scan()
        self._report(scan)
        for file in self:
            self._rotations.follow(file, now)
            file.remember(now)
        self._following.look_around()
        self._meet_all(scan.found, now)
        self._rotations.find_missing(now, self._is_hidden)
        self._rotations.find_unseen(now)

    def visit(self, file: TailedFile, now: float, epoch: float, *, hurry: bool, final: bool) -> bool:
        """A file's turn: take in what became of it, then what is in it. True if there is more to do at once.

        A file's own troubles are said and remembered; they are no one else's.
        """
        try:
            more = self._turn(file, now, epoch, hurry=hurry or bool(self.waiting), final=final)
        except OSError as error:
            self._failed(file, error, now)
            return False
        if file.error is not None:
            file.error = None
            self._events.over("log_read_failed", file.path, said="log_readable_again", path=file.path)
        return more

    def close_finished(self, now: float) -> None:
        """Let go of rotated files that are read, acknowledged and quiet."""
        for file in [file for file in self.rotated if self._is_finished(file, now)]:
            self._end(file)
        if self._delete:
            for file in [file for file in self.files.values() if self._was_renamed(file)]:
                if self._is_finished(file, now):
                    self._end(file)

    def close(self) -> None:
        """Let go of everything, cursors kept."""
        self._following.close()
        self._rotations.close()

    # -- what becomes of it when the configuration changes (`agent.logs.retire`)

    @property
    def tenant(self) -> Input:
        """Itself: what a retired one stands for."""
        return self

    def cursors(self) -> Iterator[Cursor]:
        """All that are this input's."""
        return self._following.cursors()

    def follow(self, file: TailedFile, now: float) -> None:
        """Notice that the file's path leads elsewhere by now; nothing is read."""
        if not file.sealed:
            self._rotations.follow(file, now)

    def save(self) -> None:
        """Let the state know all that is known of what is open."""
        self._following.save()

    def hand_over(self, heirs: Sequence[Input], now: float) -> None:
        """Let go of everything: each open file goes on with the first heir whose it is, the others are closed."""
        self._following.hand_over(lambda file: any(heir.take_over(file, now) for heir in heirs))
        for heir in heirs:
            heir.search_on(self._rotations)
        self._rotations.close()
        for path in list(self.unreadable):
            self._unreadable.over(path, said=None)
        for path in self.scan_errors:
            self._events.over("log_directory_unreadable", path)

    def take_over(self, file: TailedFile, now: float) -> bool:
        """Go on with a file that an input before this one, of the same scope, has open; False if it is not ours."""
        return self._is_ours(file.cursor) and self._following.take_over(file, now)

    def search_on(self, rotations: Rotations) -> None:
        """Look for what an input before this one was looking for."""
        self._rotations.go_on_from(rotations)

    # -- what its room asks of it (`agent.logs.room.Tenant`)

    def open_files(self) -> int:
        return len(self._following)

    def restful(self) -> Sequence[TailedFile]:
        return [file for file in self.files.values() if file.restful]

    def rest(self, file: TailedFile) -> None:
        self._following.rest(file)

    def nameless(self) -> Sequence[tuple[TailedFile, int]]:
        stats = [(file, os.fstat(file.descriptor)) for file in self.rotated if not file.sealed]
        return [(file, stat.st_blocks * 512) for file, stat in stats if stat.st_nlink == 0]

    def give_up(self, file: TailedFile, why: str, now: float, epoch: float) -> None:
        os.close(file.abandon(now, epoch))
        gone = file.take_gone()
        self._events.say("error", "log_lost", path=file.path, bytes=gone, reason=why)
        self._following.lose(file.cursor, gone, why)

    # -- one file's turn

    def _turn(self, file: TailedFile, now: float, epoch: float, *, hurry: bool, final: bool) -> bool:
        self._rotations.follow(file, now)
        file.look(now)
        if file.overwritten:
            self._rotations.part(file, now, self._rotations.find_copy(file), epoch)
            return True
        more = file.advance(now, epoch, hurry=hurry, final=final)
        self._count(file)
        return more or file.overwritten

    def _failed(self, file: TailedFile, error: OSError, now: float) -> None:
        """What fails for long may work through another descriptor: one of NFS can be stale for good."""
        if file.error is None:
            file.failing_since = now
        file.error = error.strerror or str(error)
        self._events.trouble("warning", "log_read_failed", file.path, counter="log_read_failures", path=file.path,
                             error=file.error)  # fmt: skip
        if now - file.failing_since >= _BAD_SECONDS:
            self._following.let_go(file)

    def _count(self, file: TailedFile) -> None:
        """Move the counters by what reading changed, skipped, or could not do any more."""
        gone = file.take_gone()
        if gone:
            self._events.say("error", "log_cut_off", path=file.path, bytes=gone)
            self._following.lose(file.cursor, gone, "cut off before it was read")
        counts = file.counts
        for counter, number in (("log_empty_lines", counts.empty), ("log_blocks_with_invalid_text", counts.invalid),
                                ("log_events_split", counts.split), ("log_events_dropped", counts.dropped),
                                ("log_events_untimed", counts.untimed),
                                ("log_zero_bytes", file.take_blank())):  # fmt: skip
            if number:
                self._events.count(counter, number)
        file.cursor.dropped += counts.dropped
        counts.empty = counts.invalid = counts.split = counts.dropped = counts.untimed = 0

    # -- the end of a file

    def _is_finished(self, file: TailedFile, now: float) -> bool:
        """Whether nothing more is to come, as far as the last look and one more can tell."""
        if file.sealed:
            return file.idle
        quiet, seen = now - max(file.grown_at, file.detached_at), file.size
        if not file.idle or file.cursor.id in self._undeletable or quiet < self._room.limits.rotated_linger:
            return False
        try:
            file.look(now)
        except OSError:
            return False
        return file.size == seen and not file.overwritten

    def _was_renamed(self, file: TailedFile) -> bool:
        """Whether a file within the pattern is a rotated one: it has not the name any more that it had at first."""
        return file.path != file.cursor.origin and file.cursor.id not in self._undeletable

    def _end(self, file: TailedFile) -> None:
        if self._delete and not file.sealed and not self._delete_file(file) and not file.detached:
            return
        self._following.end(file)

    def _delete_file(self, file: TailedFile) -> bool:
        """Every byte is acknowledged: the file may go. False where it can't be deleted."""
        directory = os.path.dirname(file.path)
        try:
            gone = remove(file.descriptor, *self._patterns.place(file.path))
        except OSError as error:
            self._undeletable.add(file.cursor.id)
            self._events.trouble("warning", "log_not_deleted", directory, counter="logs_not_deleted", path=file.path,
                                 error=error.strerror or str(error),
                                 hint="delete_when_shipped needs permission to write in the directory")  # fmt: skip
            return False
        if gone:
            self._events.say("info", "log_deleted", counter="logs_deleted", path=file.path, bytes=file.acknowledged)
        return True

    # -- files that are met

    def _is_ours(self, cursor: Cursor) -> bool:
        """Entries with the same group and stream share a scope: their files tell them apart."""
        return self._patterns.means(cursor.origin) or self._patterns.means(cursor.path)

    def _report(self, scan: Scan) -> None:
        for path in self.scan_errors.keys() - scan.errors.keys():
            self._events.over("log_directory_unreadable", path, said="log_directory_readable_again", path=path)
        self.scan_errors = {path: str(error) for path, error in scan.errors.items()}
        for path in set(scan.odd).difference(self._odd):
            self._events.say("warning", "log_not_regular", counter="logs_not_regular", path=path,
                             hint="only regular files are read; exclude it")  # fmt: skip
        self._odd = scan.odd
        for path, error in self.scan_errors.items():
            self._events.trouble("warning", "log_directory_unreadable", path, counter="log_scan_failures", path=path,
                                 error=error, hint="give the agent's user read and search permission")  # fmt: skip

    def _is_hidden(self, cursor: Cursor) -> bool:
        """Whether nobody can tell that its file is not where it was: an error is not absence."""
        above = (path for path in self.scan_errors if cursor.path.startswith(f"{path}/") or path == cursor.path)
        return cursor.path in self._unreadable or cursor.path in self.waiting or next(above, None) is not None

    def _meet_all(self, found: Mapping[str, str], now: float) -> None:
        copies, self._copies = self._copies, {}
        before, self.waiting = self.waiting, {}
        for path in self._following.not_followed(found):
            self._meet(path, found[path], now, copies.get(path))
        if self._is_new:
            self._is_new = False
            self._cursors.began(self._entry)
        if self.waiting and not before:
            self._events.say("info", "logs_wait_to_be_opened", files=len(self.waiting))
        self._unreadable.forget_gone()

    def _meet(self, path: str, root: str, now: float, copy: _Copy | None) -> None:
        """Open a path that is not followed yet, unless it is another name of a file that is. Links in its `root` are
        the administrator's.
        """
        if not self._unreadable.may_try(path, now):
            return
        stat = _stat(path)
        if stat is not None and self._following.is_alias(path, stat, now):
            self._unreadable.over(path)
            return
        free = self._room.may_open()
        if stat is not None and not free and not self._skips_existing:
            self._rest_or_wait(path, stat)
            return
        try:
            descriptor = open_regular(root, path[len(root) :].lstrip("/"), OWNED_LINKS)
        except FileNotFoundError:
            return
        except OSError as error:
            self._unreadable.note(path, error, now)
            return
        try:
            used = self._adopt(path, descriptor, now, copy)
        except OSError as error:
            os.close(descriptor)
            self._unreadable.note(path, error, now)
            return
        self._unreadable.over(path)
        if not used:
            os.close(descriptor)
        elif not free:
            self.files[path].look(now)
            self._following.rest(self.files[path])

    @property
    def _skips_existing(self) -> bool:
        return self._from_end and self._is_new

    def _rest_or_wait(self, path: str, found: os.stat_result) -> None:
        """No descriptor is free: a file that is known to be as it was may rest, another one has to wait."""
        cursor = self._following.known.as_it_was(found)
        if cursor is None:
            self.waiting[path] = found.st_size
        else:
            self._following.known.remove(cursor)
            self._following.set_resting(path, cursor, found)

    def _adopt(self, path: str, descriptor: int, now: float, copy: _Copy | None) -> bool:
        """Recognise an open file, or take it as new. Whether the descriptor is used. Raises OSError."""
        following = self._following
        cursor = following.known.recognise(descriptor) or self._rotations.moved_to(descriptor, now, self._is_hidden)
        if cursor is not None:
            if cursor.path != path:
                self._rotations.leave(cursor)
            following.reopen(cursor, path, descriptor, now)
            return True
        if following.has(descriptor):  # found just now, in search of another one
            return False
        size, original = os.fstat(descriptor).st_size, following.original_of(descriptor)
        if original is not None:
            if self._takes_the_place_of(original, path, descriptor, now):
                return True
            if self._may_be_in_the_making(path, size, copy, now):
                return False
        offset = size if self._skips_existing else 0
        following.open(following.new_cursor(path, descriptor, offset), descriptor, now)
        return True

    def _takes_the_place_of(self, original: TailedFile, path: str, descriptor: int, now: float) -> bool:
        """Whether the original has no name any more, or another content, so that it goes on in its copy."""
        if original.detached and os.fstat(original.descriptor).st_nlink == 0:
            os.close(self._rotations.go_on(original, path, descriptor, now))
            return True
        original.look(now)
        if not original.overwritten:
            return False
        self._rotations.part(original, now, (path, descriptor), 0.0)
        return True

    def _may_be_in_the_making(self, path: str, size: int, copy: _Copy | None, now: float) -> bool:
        """Whether to wait, for what is copied now will be cut off or deleted next."""
        if copy is None or copy.size != size:
            copy = _Copy(size, now)
        if now - copy.since >= _COPYING_SECONDS:
            return False
        self._copies[path] = copy
        self.waiting[path] = size
        return True


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
