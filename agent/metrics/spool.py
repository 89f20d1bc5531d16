"""The spool: sealed samples on disk until CloudWatch has acknowledged them, bounded by size and age.

Written in one transaction an interval. While the disk can't be written, samples are held in memory within a bound,
and what was acknowledged is remembered, so that the disk's copy of it is not sent again. Safe to use from any thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from agent.engine.database import Database, DatabaseError
from agent.engine.events import Events
from agent.metrics.encode import Fragment, fits, halve

_MEMORY_BYTES = 8 << 20  # of what is held in memory while the disk can't be written
_OVERHEAD_BYTES = 100  # what a fragment costs beside its body
_ROWS = 500  # fragments that one look at the spool sees, and that one request joins

_TABLE = """
CREATE TABLE IF NOT EXISTS fragments (
    id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, oldest INTEGER NOT NULL, datums INTEGER NOT NULL,
    alone INTEGER NOT NULL, body BLOB NOT NULL)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS fragments_by_age ON fragments (oldest, id)"
_TOTALS = "SELECT COUNT(*), SUM(datums), SUM(LENGTH(body)), MAX(id) FROM fragments"
_OLDEST = "SELECT id, namespace, oldest, datums, LENGTH(body), alone FROM fragments ORDER BY oldest, id LIMIT ?"
_NEWEST = _OLDEST.replace("oldest, id LIMIT", "oldest DESC, id DESC LIMIT")
_INSERT = "INSERT INTO fragments (id, namespace, oldest, datums, alone, body) VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What the spool knows of a fragment."""

    id: int
    namespace: str
    oldest: int  # the least timestamp, seconds since the epoch
    datums: int
    size: int  # bytes of the body
    alone: bool  # to be sent by itself: it may hold a datum that CloudWatch refuses

    @property
    def cost(self) -> int:
        """Bytes of max_size that it takes up."""
        return self.size + _OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Load:
    """Parcels for one request, at least one, of one namespace."""

    parcels: Sequence[Parcel]
    bodies: Sequence[bytes]

    @property
    def namespace(self) -> str:
        return self.parcels[0].namespace

    @property
    def datums(self) -> int:
        return sum(parcel.datums for parcel in self.parcels)


class Spool:
    """Fragments by age. `database` belongs to the state directory, which closes it."""

    def __init__(self, database: Database, max_size: int, events: Events) -> None:
        self._database = database
        self._max_size = max_size
        self._events = events
        self._lock = threading.Lock()
        self._held: dict[int, tuple[Parcel, bytes]] = {}  # not on disk yet
        self._settled: set[int] = set()  # still on disk
        self.dropped: Counter[str] = Counter()  # datums by reason
        self.datums, self.bytes, self._last_id = self._totals()
        with self._lock:
            self._write()

    def put(self, namespace: str, fragments: Iterable[Fragment]) -> None:
        """Take fragments in. Where there is no room, the oldest in the spool are dropped, counted and said."""
        with self._lock:
            self._hold(namespace, fragments, alone=False)
            self._write()
            self._make_room()

    def take(self, *, newest: bool = False) -> Load | None:
        """What one request can carry of the oldest, or of the newest; it stays in the spool until it is settled."""
        with self._lock:
            parcels = _one_request(self._parcels(newest=newest))
            try:
                return Load(parcels, [self._body(parcel) for parcel in parcels]) if parcels else None
            except DatabaseError as error:
                self._say_unreadable(error)
                return None

    def settle(self, parcels: Iterable[Parcel]) -> None:
        """Let go of parcels: acknowledged, or dropped by a decision that was said."""
        with self._lock:
            self._let_go(parcels)
            self._write()

    def split(self, load: Load) -> None:
        """Put two halves in the place of a load of at least two datums, each to be sent alone."""
        with self._lock:
            self._let_go(load.parcels)
            self._hold(load.namespace, halve(load.bodies), alone=True)
            self._write()

    def drop(self, parcels: Sequence[Parcel], reason: str) -> None:
        """Let go of parcels that will never be sent, and count their datums as dropped for `reason`."""
        with self._lock:
            self._drop(parcels, reason)
            self._write()

    def expire(self, before: float) -> None:
        """Drop what is older than `before`, in seconds since the epoch."""
        with self._lock:
            while doomed := list(takewhile(lambda parcel: parcel.oldest < before, self._parcels())):
                self._drop(doomed, "expired")
                self._say_dropped("expired", doomed, hint="CloudWatch could not be reached for metrics.spool.max_age")
                self._write()

    def oldest(self) -> int | None:
        """The least timestamp in the spool, seconds since the epoch."""
        with self._lock:
            return next((parcel.oldest for parcel in self._parcels()), None)

    def _hold(self, namespace: str, fragments: Iterable[Fragment], *, alone: bool) -> None:
        for fragment in fragments:
            self._last_id += 1
            parcel = Parcel(self._last_id, namespace, fragment.oldest, fragment.datums, len(fragment.body), alone)
            self._held[parcel.id] = (parcel, fragment.body)
            self.datums += parcel.datums
            self.bytes += parcel.cost

    def _let_go(self, parcels: Iterable[Parcel]) -> None:
        for parcel in parcels:
            if self._held.pop(parcel.id, None) is None:
                self._settled.add(parcel.id)
            self.datums -= parcel.datums
            self.bytes -= parcel.cost

    def _drop(self, parcels: Sequence[Parcel], reason: str) -> None:
        self._let_go(parcels)
        datums = sum(parcel.datums for parcel in parcels)
        self.dropped[reason] += datums
        self._events.count("samples_dropped", datums)

    def _make_room(self) -> None:
        """Drop the oldest until what is held in memory, and all there is, are within their bounds."""
        held = [parcel for parcel, _ in self._held.values()]
        excess = sum(parcel.cost for parcel in held) - _MEMORY_BYTES
        self._drop_oldest(held, excess, "memory_full", "free space on the disk of agent.state_dir")
        while (excess := self.bytes - self._max_size) > 0 and (parcels := self._parcels()):
            self._drop_oldest(parcels, excess, "spool_full", "raise metrics.spool.max_size")
            self._write()

    def _drop_oldest(self, parcels: Iterable[Parcel], excess: int, reason: str, hint: str) -> None:
        doomed: list[Parcel] = []
        for parcel in parcels:
            if excess <= 0:
                break
            doomed.append(parcel)
            excess -= parcel.cost
        if doomed:
            self._drop(doomed, reason)
            self._say_dropped(reason, doomed, hint)

    def _write(self) -> None:
        """Bring the disk up to date, if it can be written now."""
        try:
            with self._database.transaction() as connection:
                connection.execute(_TABLE)
                connection.execute(_INDEX)
                connection.executemany(_INSERT, [_row(*held) for held in self._held.values()])
                connection.executemany("DELETE FROM fragments WHERE id = ?", [(number,) for number in self._settled])
        except DatabaseError as error:
            self._events.trouble(
                "error",
                "spool_not_written",
                self._database.path,
                "spool_failures",
                error=str(error),
                hint="free space or mend the disk; until then samples are held in memory, and a crash loses them",
            )
            return
        self._events.over("spool_not_written", self._database.path, said="spool_written_again")
        self._held.clear()
        self._settled.clear()

    def _totals(self) -> tuple[int, int, int]:
        """Datums, bytes and the last id of what an earlier life left."""
        try:
            ((rows, datums, size, last),) = self._database.read(_TOTALS)
        except DatabaseError:
            return 0, 0, 0  # there is no table yet; what else may be wrong, the first write says
        return _integer(datums), _integer(size) + _integer(rows) * _OVERHEAD_BYTES, _integer(last)

    def _parcels(self, *, newest: bool = False) -> list[Parcel]:
        """The first few hundred parcels, by age; at least one unless the spool is empty or can't be read."""
        parcels = [parcel for parcel, _ in self._held.values()]
        try:
            rows = self._database.read(_NEWEST if newest else _OLDEST, (_ROWS + len(self._settled),))
        except DatabaseError as error:
            self._say_unreadable(error)
        else:
            parcels += [_parcel(row) for row in rows if row[0] not in self._settled]
        return sorted(parcels, key=lambda parcel: (parcel.oldest, parcel.id), reverse=newest)

    def _body(self, parcel: Parcel) -> bytes:
        """Raises DatabaseError."""
        if parcel.id in self._held:
            return self._held[parcel.id][1]
        ((body,),) = self._database.read("SELECT body FROM fragments WHERE id = ?", (parcel.id,))
        assert isinstance(body, bytes)
        return body

    def _say_unreadable(self, error: DatabaseError) -> None:
        self._events.trouble(
            "error",
            "spool_not_read",
            self._database.path,
            "spool_failures",
            error=str(error),
            hint="mend the disk; samples on it wait until it can be read",
        )

    def _say_dropped(self, reason: str, parcels: Sequence[Parcel], hint: str) -> None:
        self._events.trouble(
            "error",
            "samples_dropped",
            reason,
            reason=reason,
            datums=sum(parcel.datums for parcel in parcels),
            hint=hint,
        )


def _one_request(parcels: Iterable[Parcel]) -> list[Parcel]:
    """The first parcels that go together into one request."""
    load: list[Parcel] = []
    datums = size = 0
    for parcel in parcels:
        datums += parcel.datums
        size += parcel.size + 1  # and a comma
        if load and not (_belong_together(load[0], parcel) and fits(datums, size) and len(load) < _ROWS):
            break
        load.append(parcel)
    return load


def _belong_together(first: Parcel, other: Parcel) -> bool:
    return first.namespace == other.namespace and not first.alone and not other.alone


def _row(parcel: Parcel, body: bytes) -> tuple[object, ...]:
    return parcel.id, parcel.namespace, parcel.oldest, parcel.datums, parcel.alone, body


def _parcel(row: tuple[object, ...]) -> Parcel:
    number, namespace, oldest, datums, size, alone = row
    return Parcel(_integer(number), str(namespace), _integer(oldest), _integer(datums), _integer(size), bool(alone))


def _integer(value: object) -> int:
    """SQLite's sums of nothing are null."""
    return value if isinstance(value, int) else 0
