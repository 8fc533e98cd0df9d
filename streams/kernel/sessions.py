"""Session windows of event time over one partition: what a key does without a longer pause than the gap.

A session runs from its first record to its last, and closes when the partition's clock has gone ``gap + lateness`` beyond the
last. The clock, lateness, corrections and silence are those of ``streams.kernel.windows``; a late record may also join sessions
that were closed as two, and the correction then names both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heappush
from typing import NamedTuple
from zlib import crc32

import msgspec

from streams.kernel.ahead import Ahead, Fate
from streams.kernel.parts import Parts
from streams.kernel.windows import Aside

__all__ = ["Session", "SessionSpec", "SessionTable"]

BUCKETS = 64
"""So many wholes hold the keys of a table; a commit adds to each what has changed of it."""


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """How sessions are told apart, in ms of event time; see ``WindowSpec`` for what is not about the gap."""

    gap_ms: int
    lateness_ms: int = 0
    keep_ms: int = 600_000
    max_jump_ms: int = 86_400_000

    def __post_init__(self) -> None:
        if self.gap_ms <= 0 or self.lateness_ms < 0 or self.keep_ms < 0 or self.max_jump_ms <= 0:
            raise ValueError(f"no session has a gap of {self.gap_ms} ms, or a time of its own that is negative")

    @property
    def pane_ms(self) -> int:
        """Length of the panes by which second copies are told (``streams.kernel.seen``)."""
        return self.gap_ms

    @property
    def size_ms(self) -> int:
        return self.gap_ms


class Session(NamedTuple):
    """Figures of one closed session. ``corrects``: (start, revision) of those that were told before and are part of it now."""

    key: str
    start: int
    last: int
    total: int
    records: int
    minimum: int
    maximum: int
    revision: int
    corrects: tuple[tuple[int, int], ...]


class _Row(msgspec.Struct, array_like=True):
    """A session that is open, or closed and kept. ``told``: (start, revision) of what was emitted and is in it."""

    start: int
    last: int
    total: int
    records: int
    minimum: int
    maximum: int
    told: list[tuple[int, int]]
    changed: bool = True


class _Meta(msgspec.Struct, array_like=True):
    clock: int
    late: int


_META = b"sessions"
_encode = msgspec.msgpack.Encoder().encode
_meta_decoder = msgspec.msgpack.Decoder(_Meta)
_bucket_decoder = msgspec.msgpack.Decoder(dict[str, list[_Row]], strict=False)
"""Not strict: a total beyond 64 bits is kept as text."""


def _bucket(key: str) -> int:
    return crc32(key.encode()) % BUCKETS


class SessionTable:
    """The sessions of one partition."""

    def __init__(self, spec: SessionSpec) -> None:
        self.spec = spec
        self.clock = 0
        self.late = 0
        self.ceiling = 1 << 62
        """The greatest time that a first record is believed."""
        self.ahead = Ahead(spec.pane_ms, spec.max_jump_ms)
        self._sessions: dict[str, list[_Row]] = {}
        self._buckets: list[dict[str, list[_Row]]] = [{} for _ in range(BUCKETS)]
        """The same, as they lie in the state."""
        self._starts: list[tuple[int, str]] = []
        """(start, key) of every session; some are not there any more."""
        self._due: list[tuple[int, str]] = []
        """(when it may be time to look at a key, key): a look too early finds nothing to do."""
        self._dirty: dict[int, dict[str, None]] = {}
        """Keys that have changed since the last checkpoint, by bucket."""
        self._parts = Parts(b"session/")

    def fold(self, rows: Iterable[tuple[str, int, int]], aside: list[Aside]) -> list[Session]:
        """Fold (key, time in ms, value) in order.

        Returns what closed or was corrected on the way; ``aside`` gets what no session takes.
        """
        results: list[Session] = []
        spec, in_row = self.spec, self.ahead.in_row
        after = spec.gap_ms + spec.lateness_ms
        for number, (key, time, value) in enumerate(rows):
            if time > self.clock:
                far = time - self.clock > spec.max_jump_ms and (self.clock or time > self.ceiling)
                if far and (fate := self.ahead.judge(key, time, self.clock)) is not Fate.BELIEVED:
                    if fate is Fate.REFUSED:
                        aside.append(Aside("ahead", key, time, value, number))
                        continue
                else:
                    in_row.clear()
                    self._move(time, results)
            elif in_row:
                in_row.clear()  # not in a row
            near = [s for s in self._sessions.get(key, ()) if s.start - spec.gap_ms <= time <= s.last + spec.gap_ms]
            if not near and time + after + spec.keep_ms <= self.clock:
                aside.append(Aside("late", key, time, value, number))
                self.late += 1
                continue
            merged = _Row(time, time, value, 1, value, value, [])
            for one in near:
                merged = _joined(one, merged)
            kept = [s for s in self._sessions.get(key, ()) if s not in near]
            self._put(key, sorted([*kept, merged], key=lambda s: s.start))
            if not any(one.start == merged.start for one in near):
                heappush(self._starts, (merged.start, key))
            if not any(one.changed for one in near):  # else it is looked at already, and again from there
                heappush(self._due, (max(merged.last + after, self.clock + 1), key))
        return results

    def advance(self, clock: int) -> list[Session]:
        """Bring the clock to a time that no record has shown: the partition is silent."""
        results: list[Session] = []
        if clock > self.clock:
            self.ahead.in_row.clear()
            self._move(clock, results)
        return results

    @property
    def last_close(self) -> int:
        """The clock at which everything that is open now, or corrected and not told, will have been told; 0: nothing is."""
        after = self.spec.gap_ms + self.spec.lateness_ms
        open_ = [s.last for of in self._sessions.values() for s in of if s.changed and s.start <= self.clock]
        return max(max(open_) + after, self.clock + 1) if open_ else 0

    @property
    def oldest(self) -> int:
        """Start of the oldest session that is open or kept; the clock where there is none."""
        starts = self._starts
        while starts and not any(one.start == starts[0][0] for one in self._sessions.get(starts[0][1], ())):
            heappop(starts)
        return starts[0][0] if starts else self.clock

    def _put(self, key: str, sessions: list[_Row]) -> None:
        number = _bucket(key)
        if sessions:
            self._sessions[key] = self._buckets[number][key] = sessions
        else:
            self._sessions.pop(key, None)
            self._buckets[number].pop(key, None)
        self._dirty.setdefault(number, {})[key] = None

    def _move(self, clock: int, results: list[Session]) -> None:
        """Tell, key by key in the order of their times, what has closed by ``clock``; let go what is past correction."""
        self.clock = clock
        spec = self.spec
        after = spec.gap_ms + spec.lateness_ms
        looked: set[str] = set()
        found: list[Session] = []
        while self._due and self._due[0][0] <= clock:
            looked.add(heappop(self._due)[1])
        for key in looked:
            sessions, told = self._sessions.get(key, []), len(found)
            for one in sessions:
                if one.changed and one.last + after <= clock:
                    revision = 1 + max((r for _, r in one.told), default=-1)
                    found.append(
                        Session(
                            key,
                            one.start,
                            one.last,
                            one.total,
                            one.records,
                            one.minimum,
                            one.maximum,
                            revision,
                            tuple(one.told),
                        )
                    )
                    one.told, one.changed = [(one.start, revision)], False
            left = [s for s in sessions if s.last + after + spec.keep_ms > clock]
            if len(found) > told or len(left) < len(sessions):
                self._put(key, left)
            if left:
                self._look_again(key, left)
        results += sorted(found, key=lambda s: (s.last, s.key))

    def _look_again(self, key: str, sessions: list[_Row]) -> None:
        """At the next closing of one that is open or corrected, else when the first is past correction."""
        after = self.spec.gap_ms + self.spec.lateness_ms
        due = min(s.last + after + (0 if s.changed else self.spec.keep_ms) for s in sessions)
        heappush(self._due, (max(due, self.clock + 1), key))

    def checkpoint(self) -> dict[bytes, bytes | None]:
        """State entries since the last call: of each bucket the keys that have changed. A key without sessions is gone."""
        entries: dict[bytes, bytes | None] = {}
        for number, keys in self._dirty.items():
            bucket = self._buckets[number]
            if bucket:
                part = _encoded({key: bucket.get(key, []) for key in keys})
                entries |= self._parts.write(number, part, partial(_encoded, bucket))
            else:
                self._parts.drop(number)
        entries |= self._parts.dropped()
        self._dirty = {}
        entries[_META] = _encode(_Meta(self.clock, self.late))
        return entries | self.ahead.checkpoint()

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take over what checkpoints left. Without any, nothing has been seen yet."""
        blob = entries.get(_META)
        if blob is None:
            return
        meta = _meta_decoder.decode(blob)
        self.clock, self.late = meta.clock, meta.late
        self.ahead.restore(entries)
        for number, blobs in self._parts.restore(entries).items():
            bucket: dict[str, list[_Row]] = {}
            for part in blobs:
                bucket |= _bucket_decoder.decode(part)
            self._buckets[number] = {key: sessions for key, sessions in bucket.items() if sessions}
            self._sessions |= self._buckets[number]
        self._due = []
        for key, sessions in self._sessions.items():
            self._look_again(key, sessions)
        self._starts = [(one.start, key) for key, sessions in self._sessions.items() for one in sessions]
        heapify(self._starts)


def _encoded(sessions: Mapping[str, Sequence[_Row]]) -> bytes:
    try:
        return _encode(sessions)
    except OverflowError:
        as_text = {key: [[*msgspec.structs.astuple(one)] for one in of] for key, of in sessions.items()}
        for of in as_text.values():
            for one in of:
                one[2] = str(one[2])
        return _encode(as_text)


def _joined(one: _Row, other: _Row) -> _Row:
    return _Row(
        min(one.start, other.start), max(one.last, other.last), one.total + other.total, one.records + other.records,
        min(one.minimum, other.minimum), max(one.maximum, other.maximum), sorted([*one.told, *other.told]),
    )  # fmt: skip
