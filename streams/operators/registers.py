"""What a totalising register counted: differences of neighbouring readings by event time, and what its drops mean.

Pure bookkeeping, shared by meters and belt scales. A register's readings form *tracks*, sequences that do not fall (but for
back-flow). Usually there is one. Rules, in words; ``observe`` applies them to each reading as it is received:

- A reading joins the track that it continues with the smallest step: at its end, before its first, or between two readings,
  which splits their interval (the old one is taken back, two new ones count). Equal readings count a true zero.
- A drop of at most ``backflow`` or, with history, of four times the second largest recent step is back-flow or a reading
  stamped late: it counts negative and is no finding, and the sum stays last minus first. (The second largest, because the
  largest may be the very jump that is in question.)
- A drop from the top tenth to the bottom tenth of a register of known digits is a wrap.
- Any other drop is ambiguous until more is seen. If the reading before it, or the last two or three, were the odd ones (the
  new one continues the one before those), their intervals are taken back and they start a track; else the new one does. A track
  counts nothing before it has three readings. When it has, and the others had none since it began, the meter was replaced or
  reset: a new baseline, nothing negative. If the others went on, two registers report under one name: one finding, and each
  is counted for itself. A track that stays below three readings and is not continued was implausible, and is reported so.
- At most ``keep`` readings a track are held, the most recently received ones, the first and the last. A late reading that
  falls where readings have been let go cannot split any more: what it says is inside what has been counted, so no sum
  changes; it is counted as late and reported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

__all__ = ["Finding", "Reading", "Register", "RegisterPolicy", "Step", "Track", "observe"]

_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class RegisterPolicy:
    """How readings are judged; values in the register's own unit.

    Attributes:
        backflow: a drop up to this is always back-flow.
        zero_based: a replaced register counts from zero (a totaliser that was set to zero), not from its first reading.
        keep: readings held per track.
        confirm: readings that make a track.
        gap_factor: an interval longer than this many usual ones is a gap.
        gap_known: intervals that must be known before there is a usual one.
        forget_ms: an unconfirmed or dormant track is let go when nothing continued it for this long (event time), or for
            eight usual intervals if that is longer.
    """

    backflow: Decimal = _ZERO
    zero_based: bool = False
    keep: int = 48
    confirm: int = 3
    gap_factor: int = 4
    gap_known: int = 8
    forget_ms: int = 48 * 3_600_000


_MAX_TRACKS = 3
_FORGET_RECEIVED = 16
_BACKFLOW_STEPS = 4
_FEW_INTERVALS = 4


class Reading(msgspec.Struct, frozen=True, array_like=True):
    """One reading. ``interval`` numbers the counted interval that ends here; 0: none, or let go of inside."""

    time: int
    value: Decimal
    cause: str
    serial: int
    estimated: bool = False
    interval: int = 0
    gap: bool = False
    warned: bool = False
    tag: str = ""


class Track(msgspec.Struct, frozen=True, array_like=True):
    """A sequence of readings by time. ``offset`` is what wraps have added; ``alone``: no other track went on beside it."""

    number: int
    readings: tuple[Reading, ...]
    confirmed: bool
    alone: bool = True
    offset: Decimal = _ZERO

    @property
    def last(self) -> Reading:
        return self.readings[-1]


class Register(msgspec.Struct, frozen=True, array_like=True):
    """All that is held of one register. Counters number readings, counted intervals, tracks and findings."""

    tracks: tuple[Track, ...] = ()
    serial: int = 0
    intervals: int = 0
    numbered: int = 0
    interleaved: int = 0
    interleaved_since: int = 0
    late: int = 0
    duplicates: int = 0


class Step(NamedTuple):
    """An interval counted (or taken back: negative, ``corrects`` names the counted one). Times in ms."""

    interval: int
    start: int
    end: int
    amount: Decimal
    estimated: bool
    known_at: int
    cause: str
    corrects: int = 0
    tag: str = ""


class Finding(NamedTuple):
    """Something for a person to look at. ``number`` tells findings of one code of one register apart."""

    change: str
    code: str
    number: int
    sequence: int
    since: int
    parameters: Mapping[str, str]


def observe(
    register: Register,
    policy: RegisterPolicy,
    time: int,
    value: Decimal,
    *,
    known_at: int,
    cause: str,
    estimated: bool = False,
    span: Decimal | None = None,
    unheard: Callable[[int, int], int] | None = None,
    tag: str = "",
) -> tuple[Register, Sequence[Step | Finding]]:
    """Take in one reading, in the order of receipt.

    Args:
        time: event time, ms.
        value: what the register shows.
        span: value at which the register wraps; None when it does not.
        unheard: how much of a time (ms) nobody listened, so that no reading can be missed there; None: gaps are no findings.
        tag: given back with the interval that ends at this reading, whenever that is counted or taken back.
    """
    work = _Work(register, policy, span, unheard, known_at, cause)
    work.observe(Reading(time, value, cause, register.serial + 1, estimated, tag=tag))
    return work.result(), work.out


class _Work:
    """One observation in progress."""

    def __init__(
        self,
        register: Register,
        policy: RegisterPolicy,
        span: Decimal | None,
        unheard: Callable[[int, int], int] | None,
        known_at: int,
        cause: str,
    ) -> None:
        self._policy = policy
        self._span = span
        self._unheard = unheard
        self._known_at = known_at
        self._cause = cause
        self._tracks = {track.number: track for track in register.tracks}
        self._register = register
        self._intervals = register.intervals
        self._numbered = register.numbered
        self._interleaved = register.interleaved
        self._since = register.interleaved_since
        self._late = register.late
        self._duplicates = register.duplicates
        self.out: list[Step | Finding] = []

    def result(self) -> Register:
        return Register(
            tuple(self._tracks.values()), self._register.serial + 1, self._intervals, self._numbered, self._interleaved,
            self._since, self._late, self._duplicates,
        )  # fmt: skip

    def observe(self, reading: Reading) -> None:
        self._forget(reading)
        if not self._tracks:
            self._numbered = 1
            self._tracks[1] = Track(1, (reading,), confirmed=True)
            return
        best: tuple[Decimal, int, Decimal] | None = None
        for track in self._tracks.values():
            fit = self._fit(track, reading)
            if fit is not None and (best is None or (fit[0], track.number) < best[:2]):
                best = (fit[0], track.number, fit[1])
        if best is not None:
            self._place(best[1], reading, best[2])
            return
        for track in self._tracks.values():
            odd = self._odd_at_end(track, reading)
            if odd:
                self._split_off(track, odd, reading)
                return
        self._begin((reading,))

    def _fit(self, track: Track, reading: Reading) -> tuple[Decimal, Decimal] | None:
        """(size of the step, value with wraps added) if the reading continues the track."""
        before, same, after = _neighbours(track, reading.time)
        value = reading.value + track.offset
        span = self._span
        if span is not None and before is not None and after is None:
            shown = before.value - track.offset
            if shown * 10 >= span * 9 and reading.value * 10 <= span:
                value += span
        elif span is not None and after is not None and value > after.value:
            value -= span
        if same is not None and same.value == value:
            return _ZERO, value
        if before is None:
            following = after if after is not None else same
            assert following is not None, "a track has readings"
            return (abs(following.value - value), value) if value - following.value <= self._policy.backflow else None
        if value < before.value and before.value - value > self._allowance(track, before if after is None else None):
            return None
        if after is not None and value > after.value and value - after.value > self._policy.backflow:
            return None
        return abs(value - before.value), value

    def _allowance(self, track: Track, newest: Reading | None) -> Decimal:
        """The largest drop that is back-flow: four times the second largest step, the one to ``newest`` not counted."""
        readings = track.readings
        steps = [b.value - a.value for a, b in pairwise(readings) if b.interval and b is not newest]
        if len(steps) < _FEW_INTERVALS:
            # Too little is known to call a reading odd; down to the first reading the sum stays right.
            return max(self._policy.backflow, (newest.value if newest else readings[-1].value) - readings[0].value)
        return max(self._policy.backflow, _BACKFLOW_STEPS * sorted(steps)[-2])

    def _odd_at_end(self, track: Track, reading: Reading) -> int:
        """How many readings at the track's end are odd, if without them ``reading`` continues it; 0 if it does not."""
        readings = track.readings
        if not track.confirmed or reading.time <= track.last.time:
            return 0
        for odd in range(1, min(self._policy.confirm, len(readings) - 1) + 1):
            if not readings[-odd].interval:
                return 0
            if reading.value + track.offset >= readings[-odd - 1].value - self._policy.backflow:
                return odd
        return 0

    def _split_off(self, track: Track, odd: int, reading: Reading) -> None:
        """Give the last readings a track of their own, and put the new one in their place."""
        readings = track.readings
        for at in range(len(readings) - odd, len(readings)):
            self._take_back(readings[at - 1], readings[at])
        self._tracks[track.number] = msgspec.structs.replace(track, readings=readings[:-odd])
        clean = (msgspec.structs.replace(r, interval=0, gap=False, warned=False) for r in readings[-odd:])
        number = self._begin(tuple(msgspec.structs.replace(r, value=r.value - track.offset) for r in clean), track.number)
        self._place(track.number, reading, reading.value + track.offset)
        split = self._tracks[number]
        if len(split.readings) >= self._policy.confirm:
            self._confirm(split)

    def _place(self, number: int, reading: Reading, value: Decimal) -> None:
        track = self._tracks[number]
        before, same, after = _neighbours(track, reading.time)
        if same is not None and same.value == value:
            self._duplicates += 1
            return
        if track.confirmed and any(r is not None and not r.interval and r is not track.readings[0] for r in (same, after)):
            self._is_late(reading)
            return
        readings = list(track.readings)
        offset = track.offset
        if after is None and same is None:
            offset = value - reading.value
        if same is not None:
            readings.remove(same)
            if track.confirmed and before is not None:
                self._take_back(before, same)
            if track.confirmed and after is not None:
                self._take_back(same, after)
        elif track.confirmed and before is not None and after is not None:
            self._take_back(before, after)
        at = len(readings)
        while at and readings[at - 1].time > reading.time:
            at -= 1
        readings.insert(at, msgspec.structs.replace(reading, value=value))
        if track.confirmed:
            for later in (at, at + 1):
                if 0 < later < len(readings):
                    readings[later] = self._count(readings, later)
        self._beside(number, reading.time)
        track = msgspec.structs.replace(track, readings=self._bounded(readings), offset=offset)
        self._tracks[number] = track
        if not track.confirmed and len(track.readings) >= self._policy.confirm:
            self._confirm(track)

    def _beside(self, number: int, time: int) -> None:
        """A track went on at ``time``: those that began before are not alone."""
        for other in list(self._tracks.values()):
            if other.number == number or time <= other.readings[0].time:
                continue
            if other.alone:
                self._tracks[other.number] = msgspec.structs.replace(other, alone=False)
            if other.confirmed and other.number > number and not self._interleaved and self._tracks[number].confirmed:
                self._found_interleaved(other)  # it was taken for a replacement, but the old one goes on

    def _begin(self, readings: tuple[Reading, ...], beside: int = 0) -> int:
        """A new, unconfirmed track; returns its number. If there are too many, another than ``beside`` goes."""
        if len(self._tracks) >= _MAX_TRACKS:
            others = [t for t in self._tracks.values() if t.number != beside]
            loose = [t for t in others if not t.confirmed] or others
            self._let_go(min(loose, key=lambda t: t.last.serial))
        self._numbered += 1
        self._tracks[self._numbered] = Track(self._numbered, readings, confirmed=False)
        return self._numbered

    def _confirm(self, track: Track) -> None:
        readings = list(track.readings)
        old = max((t for t in self._tracks.values() if t.confirmed), key=lambda t: t.last.serial)
        for at in range(1, len(readings)):
            readings[at] = self._count(readings, at)
        if track.alone and self._policy.zero_based:
            first = readings[0]
            start = min(old.last.time, first.time)
            self._emit(start, first, first.value)
        track = msgspec.structs.replace(track, readings=tuple(readings), confirmed=True)
        self._tracks[track.number] = track
        if not track.alone:
            self._found_interleaved(track)
            return
        parameters = {"before": format(old.last.value - old.offset, "f"), "after": format(readings[0].value, "f")}
        self.out.append(Finding("raised", "meter-replaced", track.number, 0, readings[0].time, parameters))

    def _found_interleaved(self, track: Track) -> None:
        if self._interleaved:
            return
        self._numbered += 1
        self._interleaved, self._since = self._numbered, track.readings[0].time
        values = [format(t.last.value - t.offset, "f") for t in self._tracks.values() if t.confirmed]
        parameters = {"registers": str(len(values)), "values": " / ".join(values)}
        self.out.append(Finding("raised", "register-interleaved", self._interleaved, 0, self._since, parameters))

    def _forget(self, reading: Reading) -> None:
        for track in list(self._tracks.values()):
            if len(self._tracks) < 2 or (track.confirmed and sum(t.confirmed for t in self._tracks.values()) < 2):
                continue
            usual = max((u for t in self._tracks.values() if (u := _usual(t.readings, 1)) is not None), default=0)
            quiet = reading.time - track.last.time
            if quiet > max(self._policy.forget_ms, 8 * usual) and reading.serial - track.last.serial > _FORGET_RECEIVED:
                self._let_go(track)

    def _let_go(self, track: Track) -> None:
        del self._tracks[track.number]
        if track.confirmed:
            if self._interleaved:
                values = format(track.last.value - track.offset, "f")
                finding = Finding("cleared", "register-interleaved", self._interleaved, 1, self._since, {"ended": values})
                self.out.append(finding)
                self._interleaved = self._since = 0
            return
        values = " / ".join(format(r.value, "f") for r in track.readings)
        parameters = {"readings": str(len(track.readings)), "values": values}
        self.out.append(Finding("raised", "reading-implausible", track.number, 0, track.readings[0].time, parameters))

    def _is_late(self, reading: Reading) -> None:
        self._late += 1
        text = str(self._late)
        if text.rstrip("0") == "1":  # 1, 10, 100 …: a flood is one warning whose count is kept up to date
            change = "raised" if self._late == 1 else "updated"
            self.out.append(Finding(change, "late-beyond-horizon", 0, len(text) - 1, reading.time, {"readings": text}))

    def _count(self, readings: Sequence[Reading], at: int) -> Reading:
        """Count the interval that ends at ``readings[at]``; returns that reading with the interval's number."""
        start, end = readings[at - 1], readings[at]
        usual = _usual(readings, self._policy.gap_known)
        longest = None if usual is None else self._policy.gap_factor * usual
        gap = longest is not None and end.time - start.time > longest
        self._intervals += 1
        self.out.append(
            Step(
                self._intervals, start.time, end.time, end.value - start.value, start.estimated or end.estimated or gap,
                self._known_at, self._causes(start, end), tag=end.tag,
            )
        )  # fmt: skip
        warned = False
        if gap and longest is not None and self._unheard is not None:
            warned = end.time - start.time - self._unheard(start.time, end.time) > longest
        if warned:
            parameters = {"seconds": str((end.time - start.time) // 1000)}
            self.out.append(Finding("raised", "meter-gap", self._intervals, 0, start.time, parameters))
        return msgspec.structs.replace(end, interval=self._intervals, gap=gap, warned=warned)

    def _emit(self, start: int, end: Reading, amount: Decimal) -> None:
        self._intervals += 1
        self.out.append(Step(self._intervals, start, end.time, amount, True, self._known_at, self._cause, tag=end.tag))

    def _take_back(self, start: Reading, end: Reading) -> None:
        self._intervals += 1
        self.out.append(
            Step(
                self._intervals, start.time, end.time, start.value - end.value, start.estimated or end.estimated or end.gap,
                self._known_at, self._causes(start, end), end.interval, end.tag,
            )
        )  # fmt: skip
        if end.warned:
            self.out.append(Finding("cleared", "meter-gap", end.interval, 1, start.time, {}))

    def _causes(self, start: Reading, end: Reading) -> str:
        """Both ends, and the reading that made them count now where that is another one."""
        return ",".join(dict.fromkeys((start.cause, end.cause, self._cause)))

    def _bounded(self, readings: list[Reading]) -> tuple[Reading, ...]:
        while len(readings) > self._policy.keep:
            at = min(range(1, len(readings) - 1), key=lambda i: readings[i].serial)
            readings[at + 1] = msgspec.structs.replace(readings[at + 1], interval=0, gap=False, warned=False)
            del readings[at]
        return tuple(readings)


def _neighbours(track: Track, time: int) -> tuple[Reading | None, Reading | None, Reading | None]:
    """(last before, one at, first after) ``time``."""
    before = same = after = None
    for reading in reversed(track.readings):
        if reading.time > time:
            after = reading
        elif reading.time == time:
            same = reading
        else:
            before = reading
            break
    return before, same, after


def _usual(readings: Sequence[Reading], known: int) -> int | None:
    """Median length of the counted intervals, ms; None when fewer than ``known`` are known."""
    lengths = sorted(b.time - a.time for a, b in pairwise(readings) if b.interval)
    return lengths[len(lengths) // 2] if len(lengths) >= known and lengths else None
