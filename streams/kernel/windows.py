"""Windows of event time over one partition: folded in place, closed by the partition's own clock, kept by what changed.

A *window* covers ``[start, start + size)`` of event time; a hopping one is put together from panes of the hop's length, so each
record is folded once. The *clock* is the greatest event time that the partition has shown; a window closes at the record that
brings the clock to ``start + size + lateness``. So what is emitted depends on the partition's records and their order alone:
not on how they were cut into slices or commits, nor on other partitions, which may be read far ahead.

* A record for a closed window that is still kept corrects it: the new totals follow at the next closing, with a revision
  number, so that they can name what they correct.
* One that no kept window takes (``keep_ms`` after the closing) is handed back as late, and counted.
* A time far ahead of the clock (``max_jump_ms``) does not move it, until so many in a row, of different keys or panes, say so
  that it is the stream that has jumped and not a device's clock. Their windows open and wait; for how many there is room, and
  that the others are handed back, says ``streams.kernel.ahead``.
* A partition that falls silent is closed by ``advance``: its task decides when, and commits that it did.

Rows are integers: sum, count, minimum, maximum per key. A value has 64 bits (``check_rows``); a sum stays exact beyond them.
Memory: about 330 bytes a key of an open window, and 32 bytes beside the key itself in a closed one that is kept.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import msgspec

from streams.kernel.ahead import Ahead, Fate
from streams.kernel.parts import Parts

__all__ = ["Aside", "Result", "WindowSpec", "WindowTable", "check_rows"]

KEY_LENGTH = 4_096
"""Characters. A result, and what is put aside, name their key, and have to fit into a record."""

_NEVER = 1 << 62

Row = list[int]
"""Sum, count, minimum, maximum, and the number of the checkpoint that the row is dirty for."""


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """How windows lie and close, all in ms of event time.

    Attributes:
        size_ms: length of a window.
        hop_ms: distance of window starts; ``size_ms`` must be a multiple. 0: as long as the window (tumbling).
        lateness_ms: how long after its end a window stays open.
        keep_ms: how long after its closing a window can be corrected.
        max_jump_ms: a time further ahead of the clock does not move it.
    """

    size_ms: int
    hop_ms: int = 0
    lateness_ms: int = 0
    keep_ms: int = 600_000
    max_jump_ms: int = 86_400_000

    def __post_init__(self) -> None:
        if self.size_ms <= 0 or self.hop_ms < 0 or self.size_ms % self.pane_ms:
            raise ValueError(f"a window of {self.size_ms} ms cannot hop by {self.hop_ms} ms")
        if self.lateness_ms < 0 or self.keep_ms < 0 or self.max_jump_ms <= 0:
            raise ValueError("lateness_ms and keep_ms must not be negative, max_jump_ms must be positive")

    @property
    def pane_ms(self) -> int:
        return self.hop_ms or self.size_ms


class Result(NamedTuple):
    """Figures of one key in one closed window. ``revision`` 0 is the first; a later one corrects the one before it."""

    key: str
    start: int
    total: int
    records: int
    minimum: int
    maximum: int
    revision: int


class Aside(NamedTuple):
    """A record that is in no window: its window is no longer kept (late), or there is no room so far ahead of the clock.

    ``row``: its number among the rows that were folded with it.
    """

    cause: Literal["late", "ahead"]
    key: str
    time: int
    value: int
    row: int


_key, _time, _value = itemgetter(0), itemgetter(1), itemgetter(2)


def check_rows(rows: Sequence[tuple[str, int, int]]) -> None:
    """Make sure that each row is (text of at most ``KEY_LENGTH``, and two integers of 64 bits).

    Raises:
        TypeError, OverflowError, ValueError: one of them is not.
    """
    keys = list(map(_key, rows))
    "".join(keys).encode()
    if max(map(len, keys), default=0) > KEY_LENGTH:
        raise ValueError(f"a key has more than {KEY_LENGTH} characters")
    array("q", list(map(_time, rows)))
    array("q", list(map(_value, rows)))


class _Meta(msgspec.Struct, array_like=True):
    """What a checkpoint keeps beside the panes, revisions and pending keys."""

    clock: int
    closed_at: int
    late: int


_META = b"windows"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.decode


def _pack(rows: Iterable[tuple[str, Row]]) -> bytes:
    """Rows as columns: keys, then four columns of integers (64 bits each, or text where one does not fit)."""
    pairs = list(rows)
    packed: list[bytes | list[str]] = []
    for number in range(4):
        column = [row[number] for _, row in pairs]
        try:
            packed.append(array("q", column).tobytes())
        except OverflowError:
            packed.append([str(value) for value in column])
    return _encode([[key for key, _ in pairs], *packed])


def _unpack(blob: bytes) -> dict[str, Row]:
    keys, *packed = _decode(blob)
    columns: list[Any] = []
    for column in packed:
        if isinstance(column, bytes):
            numbers = array("q")
            numbers.frombytes(column)
            columns.append(numbers)
        else:
            columns.append([int(text) for text in column])
    rows = [[total, count, low, high, 0] for total, count, low, high in zip(*columns, strict=True)]
    return dict(zip(keys, rows, strict=True))


class WindowTable:
    """The windows of one partition."""

    def __init__(self, spec: WindowSpec) -> None:
        self.spec = spec
        self.clock = 0
        """Greatest event time believed, ms."""
        self.late = 0
        """How many records came after their window was let go."""
        self.ceiling = _NEVER
        """The greatest time that a first record is believed."""
        self.ahead = Ahead(spec.pane_ms, spec.max_jump_ms)
        self._next_close = _NEVER
        self._open: dict[int, dict[str, Row]] = {}
        self._closed: dict[int, bytes] = {}
        """Closed panes that are kept and that nothing has touched since, packed."""
        self._pending: dict[int, dict[str, None]] = {}
        """Keys of closed panes that changed since the last closing, by pane."""
        self._closed_at = 0
        """The clock at the last closing."""
        self._revisions: dict[int, dict[str, int]] = {}
        """By window: how often a key's totals have been corrected."""
        self._mark = 1
        self._dirty: dict[int, list[tuple[str, Row]]] = {}
        self._revised: dict[int, dict[str, None]] = {}
        """Keys whose revisions have changed since the last checkpoint, by window."""
        self._owing: dict[int, list[str]] = {}
        """Keys that have become pending since the last checkpoint, by pane."""
        self._pane_parts = Parts(b"pane/")
        self._revision_parts = Parts(b"revision/")
        self._pending_parts = Parts(b"pending/")

    def __len__(self) -> int:
        """Rows of panes that are not packed."""
        return sum(len(pane) for pane in self._open.values())

    # ---- folding

    def fold(self, rows: Iterable[tuple[str, int, int]], aside: list[Aside]) -> list[Result]:
        """Fold (key, time in ms, value) in order.

        Returns what closed or was corrected on the way; ``aside`` gets what no window takes.
        """
        results: list[Result] = []
        step, max_jump = self.spec.pane_ms, self.spec.max_jump_ms
        clock, next_close, mark, in_row = self.clock, self._next_close, self._mark, self.ahead.in_row
        current, is_late = -1, False
        pane: dict[str, Row] | None = None
        dirty: list[tuple[str, Row]] = []
        for number, (key, time, value) in enumerate(rows):
            if time > clock:
                far = time - clock > max_jump and (clock or time > self.ceiling)
                if far and (fate := self.ahead.judge(key, time, clock)) is not Fate.BELIEVED:
                    if fate is Fate.REFUSED:
                        aside.append(Aside("ahead", key, time, value, number))
                        continue
                else:
                    clock = time
                    if in_row:
                        in_row.clear()
                    if time >= next_close:
                        self._close(clock, results)
                        next_close, current = self._next_close, -1
            elif in_row:
                in_row.clear()  # not in a row
            start = time - time % step
            if start != current:
                self.clock = clock
                pane, is_late = self._enter(start)
                current, next_close = start, self._next_close
                dirty = self._dirty.setdefault(start, [])
            if pane is None:
                aside.append(Aside("late", key, time, value, number))
                self.late += 1
                continue
            row = pane.get(key)
            if row is None:
                if is_late:
                    self._first_seen(key, start)
                pane[key] = row = [value, 1, value, value, mark]
                dirty.append((key, row))
            else:
                row[0] += value
                row[1] += 1
                if value < row[2]:
                    row[2] = value
                if value > row[3]:
                    row[3] = value
                if row[4] != mark:
                    row[4] = mark
                    dirty.append((key, row))
            if is_late and key not in (owed := self._pending.setdefault(start, {})):
                owed[key] = None
                self._owing.setdefault(start, []).append(key)
        self.clock = clock
        return results

    def advance(self, clock: int) -> list[Result]:
        """Bring the clock to a time that no record has shown: the partition is silent."""
        results: list[Result] = []
        if clock > self.clock:
            self.clock = clock
            self.ahead.in_row.clear()
            if clock >= self._next_close or self._pending:
                self._close(clock, results)
        return results

    @property
    def last_close(self) -> int:
        """The clock at which everything that is open now will have closed; 0 when nothing is open."""
        spec = self.spec
        found = max((start + spec.size_ms + spec.lateness_ms for start in self._open if start <= self.clock), default=0)
        return max(found, self.clock + 1) if self._pending else found

    def _enter(self, start: int) -> tuple[dict[str, Row] | None, bool]:
        """The pane that begins at ``start`` and whether a window over it has closed; None when it is no longer kept."""
        spec = self.spec
        first_close = start + spec.pane_ms + spec.lateness_ms
        pane = self._open.get(start)
        if first_close > self.clock:
            if pane is None:
                pane = self._open[start] = {}
                self._next_close = min(self._next_close, first_close)
            return pane, False
        if start + spec.size_ms + spec.lateness_ms + spec.keep_ms <= self.clock:
            return None, True
        if pane is None:
            packed = self._closed.pop(start, None)
            pane = self._open[start] = _unpack(packed) if packed is not None else {}
            # A hopping pane that begins late may still owe windows that have not closed.
            owed = self._first_open(start)
            if owed <= start:
                self._next_close = min(self._next_close, owed + spec.size_ms + spec.lateness_ms)
        return pane, True

    def _first_seen(self, key: str, start: int) -> None:
        """A late record brings a key of which the closed windows over the pane have not told: nothing to correct."""
        for window in self._windows_over(start):
            revisions = self._revisions.setdefault(window, {})
            if key not in revisions and not any(key in pane for pane in self._panes(window)):
                self._revise(window, key, -1)

    def _revise(self, window: int, key: str, revision: int) -> None:
        self._revisions.setdefault(window, {})[key] = revision
        self._revised.setdefault(window, {})[key] = None

    def _forget_revisions(self, window: int) -> None:
        if self._revisions.pop(window, None) is not None:
            self._revised.pop(window, None)
            self._revision_parts.drop(window)

    def _windows_over(self, start: int) -> range:
        """Starts of the windows that hold the pane at ``start``."""
        return range(start - self.spec.size_ms + self.spec.pane_ms, start + 1, self.spec.pane_ms)

    def _first_open(self, start: int) -> int:
        """Start of the first window over the pane at ``start`` that has not closed at the present clock."""
        spec = self.spec
        first = start - spec.size_ms + spec.pane_ms
        closed = self.clock - spec.size_ms - spec.lateness_ms  # windows that begin at or before this have closed
        if first > closed:
            return first
        return first + ((closed - first) // spec.pane_ms + 1) * spec.pane_ms

    # ---- closing

    def _close(self, clock: int, results: list[Result]) -> None:
        """Emit corrections, then the windows that close by ``clock``, in order of their starts and keys; let go what is old."""
        self.clock = clock
        before, self._closed_at = self._closed_at, clock
        self._emit_corrections(before, results)
        after = self.spec.size_ms + self.spec.lateness_ms
        panes = [*self._open, *self._closed] if self.spec.size_ms > self.spec.pane_ms else [*self._open]
        due = {window for start in panes for window in self._windows_over(start) if before < window + after <= clock}
        for window in sorted(due):
            self._forget_revisions(window)
            results += [Result(key, window, total, n, low, high, 0) for key, total, n, low, high in self._totals(window)]
        self._settle()

    def _panes(self, window: int) -> list[Mapping[str, Row]]:
        found: list[Mapping[str, Row]] = []
        for start in range(window, window + self.spec.size_ms, self.spec.pane_ms):
            pane = self._open.get(start)
            if pane is None and start in self._closed:
                pane = _unpack(self._closed[start])
            if pane:
                found.append(pane)
        return found

    def _totals(self, window: int, keys: Iterable[str] | None = None) -> list[tuple[str, int, int, int, int]]:
        """(key, sum, count, minimum, maximum), by key."""
        panes = self._panes(window)
        if len(panes) == 1 and keys is None:
            return sorted((key, *row[:4]) for key, row in panes[0].items())  # type: ignore[misc]
        found: list[tuple[str, int, int, int, int]] = []
        for key in sorted({key for pane in panes for key in pane} if keys is None else keys):
            rows = [pane[key] for pane in panes if key in pane]
            found.append(
                (key, sum(r[0] for r in rows), sum(r[1] for r in rows), min(r[2] for r in rows), max(r[3] for r in rows))
            )
        return found

    def _emit_corrections(self, closed_at: int, results: list[Result]) -> None:
        spec = self.spec
        by_window: dict[int, dict[str, None]] = {}
        for start, keys in self._pending.items():
            for window in self._windows_over(start):
                # One that is no longer kept has lost its first panes already.
                end = window + spec.size_ms + spec.lateness_ms
                if end <= closed_at < end + spec.keep_ms:
                    by_window.setdefault(window, {}).update(keys)
        for window in sorted(by_window):
            revisions = self._revisions.setdefault(window, {})
            for key, total, count, low, high in self._totals(window, by_window[window]):
                self._revise(window, key, revisions.get(key, 0) + 1)
                results.append(Result(key, window, total, count, low, high, revisions[key]))
        for start in self._pending:
            self._pending_parts.drop(start)
        self._pending.clear()
        self._owing.clear()

    def _settle(self) -> None:
        """Pack closed panes, let go those that are past correction, and look when the next window closes."""
        spec, clock = self.spec, self.clock
        for start in sorted(self._open):
            if start + spec.size_ms + spec.lateness_ms <= clock:
                self._closed[start] = _pack(sorted(self._open.pop(start).items()))
        old = clock - spec.size_ms - spec.lateness_ms - spec.keep_ms
        for start in [s for s in self._closed if s <= old]:
            del self._closed[start]
            self._dirty.pop(start, None)
            self._pane_parts.drop(start)
        for window in [w for w in self._revisions if w <= old]:
            self._forget_revisions(window)
        self._look_ahead()

    def _look_ahead(self) -> None:
        after = self.spec.size_ms + self.spec.lateness_ms
        ends = [self._first_open(start) + after for start in self._open if start + after > self.clock]
        self._next_close = min(ends, default=_NEVER)

    # ---- state

    def checkpoint(self) -> dict[bytes, bytes | None]:
        """State entries since the last call: of panes, revisions and pending keys what has changed."""
        entries = self._pane_parts.dropped() | self._revision_parts.dropped() | self._pending_parts.dropped()
        for start, rows in self._dirty.items():
            if rows:
                entries |= self._pane_parts.write(start, _pack(rows), partial(self._packed, start))
        for window, keys in self._revised.items():
            revisions = self._revisions[window]
            part = _encode({key: revisions[key] for key in keys})
            entries |= self._revision_parts.write(window, part, partial(_encode, revisions))
        for start, owing in self._owing.items():
            entries |= self._pending_parts.write(start, _encode(owing), partial(_encode, list(self._pending[start])))
        self._dirty, self._revised, self._owing = {}, {}, {}
        self._mark += 1
        entries[_META] = _encode(_Meta(self.clock, self._closed_at, self.late))
        return entries | self.ahead.checkpoint()

    def _packed(self, start: int) -> bytes:
        pane = self._open.get(start)
        return self._closed[start] if pane is None else _pack(pane.items())

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take over what checkpoints left. Without any, nothing has been seen yet."""
        blob = entries.get(_META)
        if blob is None:
            return
        meta = _decode(blob, type=_Meta)
        self.clock, self._closed_at, self.late = meta.clock, meta.closed_at, meta.late
        self.ahead.restore(entries)
        for window, blobs in self._revision_parts.restore(entries).items():
            of = self._revisions[window] = {}
            for part in blobs:
                of |= _decode(part, type=dict[str, int])
        for start, blobs in self._pending_parts.restore(entries).items():
            self._pending[start] = {key: None for part in blobs for key in _decode(part, type=list[str])}
        spec = self.spec
        for start, blobs in self._pane_parts.restore(entries).items():
            pane: dict[str, Row] = {}
            for part in blobs:
                pane.update(_unpack(part))
            if start + spec.size_ms + spec.lateness_ms <= self._closed_at and start not in self._pending:
                self._closed[start] = _pack(sorted(pane.items()))
            else:
                self._open[start] = pane
        self._look_ahead()
