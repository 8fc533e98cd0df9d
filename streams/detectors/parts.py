"""What detectors are made of. Each part is bounded, and writes itself as a frozen struct.

Numbers are kept as 32-bit floats of the distance from the series' first value: half the memory, and a large offset costs no
precision. They are rounded when they enter, not when they are saved, so a restart changes nothing.
"""

import sys
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable
from math import log1p
from operator import sub
from typing import Final

import msgspec

__all__ = [
    "Cadence",
    "CadenceState",
    "Recent",
    "Sample",
    "SampleState",
    "Season",
    "SeasonState",
    "Tail",
    "TailState",
]

HOUR_MS: Final = 3_600_000
BIG: Final = 1e30
_LN10: Final = 2.302585092994046


class Recent:
    """The last ``size`` numbers, oldest first."""

    def __init__(self, size: int, state: bytes = b"") -> None:
        self._size = size
        self.values = array("f")
        self.values.frombytes(state)

    def add(self, value: float) -> None:
        self.values.append(value)
        if len(self.values) > self._size:
            del self.values[0]

    @property
    def full(self) -> bool:
        return len(self.values) == self._size

    def mean(self, count: int) -> float:
        """Of the last ``count``."""
        return sum(self.values[-count:]) / count if count > 1 else self.values[-1]

    def travel(self) -> float:
        """Mean absolute step."""
        values = self.values
        steps: Iterable[float] = map(sub, values[1:], values)
        return sum(map(abs, steps)) / max(1, len(values) - 1)

    def clear(self) -> None:
        del self.values[:]

    def state(self) -> bytes:
        return self.values.tobytes()


class SampleState(msgspec.Struct, frozen=True, array_like=True):
    """``median``, ``scale``, ``low`` and ``high`` follow from the values: kept so that opening need not sort."""

    values: bytes = b""
    seen: int = 0
    stride: int = 1
    median: float | None = None
    scale: float = 0.0
    low: float = 0.0
    high: float = 0.0


class Sample:
    """Every n-th of the past numbers, at most ``SIZE``: median and robust scale of the last ``SIZE * WIDEST`` of them.

    n doubles as the series grows, up to ``WIDEST``; then the oldest goes. Systematic rather than random, so that it is the same
    in every run. The order is made when somebody asks, and what follows from it is kept until the next number is.
    """

    SIZE: Final = 128
    WIDEST: Final = 32

    def __init__(self, state: SampleState) -> None:
        self.values = array("f")
        self.values.frombytes(state.values)
        self.seen, self._stride = state.seen, state.stride
        self._sorted: list[float] | None = None
        self._known = None if state.median is None else (state.median, state.scale, state.low, state.high)

    def add(self, value: float) -> bool:
        """True if this one was kept."""
        self.seen += 1
        if self.seen % self._stride:
            return False
        values, order = self.values, self._sorted
        values.append(value)
        self._known = None
        if len(values) > self.SIZE and self._stride < self.WIDEST:
            self._stride *= 2
            self.values = values[1::2]
            self._sorted = None
            return True
        if order is not None:
            insort(order, values[-1])
        if len(values) > self.SIZE:
            if order is not None:
                del order[bisect_left(order, values[0])]
            del values[0]
        return True

    @property
    def full(self) -> bool:
        """At least half filled, as it is after its first thinning."""
        return len(self.values) >= self.SIZE // 2

    def location(self) -> tuple[float, float]:
        """Median, and the larger of two robust scales that equal the standard deviation of a normal distribution:
        by the quartiles, and by the outer tenths where more than half of all values are equal."""
        return (self._known or self._learn())[:2]

    def resolution(self) -> float:
        """Least scale: a thousandth of the range, a millionth of the values; never zero, for what never moved may yet move."""
        _, _, low, high = self._known or self._learn()
        return max((high - low) * 1e-3, max(abs(low), abs(high)) * 1e-6, 1e-30)

    def _learn(self) -> tuple[float, float, float, float]:
        order = self._sorted
        if order is None:
            order = self._sorted = sorted(self.values)
        count = len(order)
        quartiles = (order[int(0.75 * count)] - order[int(0.25 * count)]) / 1.349
        tenths = (order[int(0.9 * count)] - order[int(0.1 * count)]) / 2.563
        # Of equal numbers the order is not told: a zero with a sign would make two states of one.
        self._known = (order[int(0.5 * count)] + 0.0, max(quartiles, tenths), order[0] + 0.0, order[-1] + 0.0)
        return self._known

    def state(self) -> SampleState:
        if not self.values:
            return SampleState(b"", self.seen, self._stride)
        return SampleState(self.values.tobytes(), self.seen, self._stride, *(self._known or self._learn()))


class TailState(msgspec.Struct, frozen=True, array_like=True):
    """``least`` of the values: kept so that opening need not read them, since most numbers are below it. None: look."""

    values: bytes = b""
    ages: bytes = b""
    seen: int = 0
    least: float | None = None


class Tail:
    """How improbable a number is by the series' own past: minus the decimal logarithm of its probability.

    The ``size`` largest of the last ``MEMORY`` numbers are kept. Inside them the probability is counted; beyond the largest it
    falls exponentially with the mean excess over the median of the kept ones (peaks over threshold: Pickands 1975, with the
    exponential as the limit for light tails; numbers come as log(1 + z), so that of heavy tails it is Pareto's). Below the kept
    ones nothing is improbable: 0.
    """

    SIZE: Final = 40
    MEMORY: Final = 4_000
    LEAST_SLOPE: Final = 0.03
    """Mean excess is never taken for less, in log(1 + z): equal values would make the next different one impossible."""
    MOST: Final = 12.0
    """Decades; beyond them a figure would only say how narrow the past was."""

    def __init__(self, warm: int, state: TailState, size: int = SIZE) -> None:
        self._warm, self._size = warm, size
        self._written: TailState | None = state
        """What was opened, until a number changes it: only then are the kept ones unpacked."""
        self._values, self._ages = array("f"), array("I")
        self._seen, self._kept = state.seen, len(state.values) // 4
        self._oldest = int.from_bytes(state.ages[:4], sys.byteorder)
        self._sorted: list[float] | None = None
        self._least = state.least or 0.0
        if self._kept and (state.least is None or self._kept > size):
            self._unpack()
            self._least = min(self._values)
            while len(self._values) > size:  # a rule now keeps fewer
                self._drop(self._values.index(self._least))
            self._written, self._kept, self._oldest = None, len(self._values), self._ages[0]

    def surprise(self, size: float) -> float:
        """Decades of improbability of a size; 0 while fewer than ``warm`` numbers are known."""
        if self._seen < self._warm or (self._kept and size <= self._least):
            return 0.0
        self._unpack()
        kept = self._sorted
        if kept is None:
            kept = self._sorted = sorted(self._values)
        known = min(self._seen, self.MEMORY)
        rank = len(kept) - bisect_left(kept, size)
        if rank or not kept:
            return _log10((known + 1) / (rank + 1))
        upper = kept[len(kept) // 2 :]
        slope = max(sum(upper) / len(upper) - upper[0], self.LEAST_SLOPE)
        return min(self.MOST, _log10(known + 1) + (size - kept[-1]) / slope / _LN10)

    def add(self, size: float) -> None:
        self.skip()
        if self._kept >= self._size and size <= self._least:
            return
        self._unpack()
        values, ages = self._values, self._ages
        if len(values) < self._size or size > self._least:
            values.append(size)
            ages.append(self._seen)
            kept = values[-1]
            if self._sorted is not None:
                insort(self._sorted, kept)
            if kept < self._least or len(values) == 1:
                self._least = kept
            if len(values) > self._size:
                self._drop(values.index(self._least))
        self._written, self._kept, self._oldest = None, len(values), ages[0]

    def skip(self) -> None:
        """A number that was none of these, as a fall is no rise."""
        self._seen += 1
        if not self._kept or self._seen - self._oldest <= self.MEMORY:
            return
        self._unpack()
        ages = self._ages
        while ages and self._seen - ages[0] > self.MEMORY:
            self._drop(0)
        self._written, self._kept, self._oldest = None, len(ages), ages[0] if ages else 0

    def _unpack(self) -> None:
        if self._written is not None and not self._values:
            self._values.frombytes(self._written.values)
            self._ages.frombytes(self._written.ages)

    def _drop(self, at: int) -> None:
        gone = self._values[at]
        if self._sorted is not None:
            del self._sorted[bisect_left(self._sorted, gone)]
        del self._values[at]
        del self._ages[at]
        if gone == self._least:
            self._least = min(self._values, default=0.0)

    def state(self) -> TailState:
        if self._written is not None:
            return TailState(self._written.values, self._written.ages, self._seen, self._least)
        return TailState(self._values.tobytes(), self._ages.tobytes(), self._seen, self._least)


def _log10(value: float) -> float:
    return log1p(value - 1) / _LN10


class SeasonState(msgspec.Struct, frozen=True, array_like=True):
    visits: bytes = b""
    counts: bytes = b""
    hour: int = 0
    total: float = 0.0
    samples: int = 0


class Season:
    """Means of the last ``VISITS`` visits to each hour of the week (UTC; any fixed offset serves as well).

    The baseline of an hour is the median of its visits; until there are three, the median over the weekdays' latest visits to
    that hour of the day, of at least three.
    """

    VISITS: Final = 4
    HOURS: Final = 168

    def __init__(self, state: SeasonState) -> None:
        self._visits = array("f")
        self._visits.frombytes(state.visits or bytes(4 * self.VISITS * self.HOURS))
        self._counts = bytearray(state.counts or bytes(self.HOURS))
        self._hour, self._total, self._samples = state.hour, state.total, state.samples
        self._asked = -1
        self._answer: tuple[float, str] | None = None

    def baseline(self, time: int) -> tuple[float, str] | None:
        """(value, ``hour-of-week`` | ``hour-of-day``) of an instant, ms; None while too little is known."""
        hour = time // HOUR_MS
        if hour != self._asked:
            self._asked, self._answer = hour, self._of_cell(hour % self.HOURS)
        return self._answer

    def _of_cell(self, cell: int) -> tuple[float, str] | None:
        count = min(self.VISITS, self._counts[cell])
        if count >= 3:
            visits = sorted(self._visits[cell * self.VISITS : cell * self.VISITS + count])
            middle = count // 2
            return (visits[middle] if count % 2 else (visits[middle - 1] + visits[middle]) / 2), "hour-of-week"
        latest = []
        for day in range(7):
            other = cell % 24 + 24 * day
            if number := self._counts[other]:
                latest.append(self._visits[other * self.VISITS + (number - 1) % self.VISITS])
        if len(latest) < 3:
            return None
        return sorted(latest)[len(latest) // 2], "hour-of-day"

    def add(self, time: int, value: float) -> None:
        hour = time // HOUR_MS
        if hour != self._hour:
            self._asked = -1
            if self._samples:
                cell = self._hour % self.HOURS
                number = self._counts[cell]
                self._visits[cell * self.VISITS + number % self.VISITS] = self._total / self._samples
                # Saturates at a number that is full and keeps its place in the ring.
                self._counts[cell] = number + 1 if number < 2 * self.VISITS - 1 else self.VISITS
            self._hour, self._total, self._samples = hour, 0.0, 0
        self._total += value
        self._samples += 1

    def state(self) -> SeasonState:
        return SeasonState(self._visits.tobytes(), bytes(self._counts), self._hour, self._total, self._samples)


class CadenceState(msgspec.Struct, frozen=True, array_like=True):
    last: int = 0
    steps: tuple[int, ...] = ()


class Cadence:
    """Usual distance of samples, ms: given, or the median of the last ``KEPT`` distances."""

    KEPT: Final = 15

    def __init__(self, given_s: int, state: CadenceState) -> None:
        self._given = given_s * 1000
        self.last, self._steps = state.last, list(state.steps)
        self._usual = -1

    def usual(self) -> int:
        """0 while it is not known."""
        if self._given:
            return self._given
        if self._usual < 0:
            steps = self._steps
            self._usual = sorted(steps)[len(steps) // 2] if len(steps) >= 5 else 0
        return self._usual

    def gap(self, time: int) -> float:
        """Distance of a sample from the one before, in usual ones; 1 while that is not known."""
        usual = self.usual()
        return (time - self.last) / usual if usual and self.last else 1.0

    def add(self, time: int) -> None:
        if self.last and time > self.last:
            steps, step = self._steps, time - self.last
            if len(steps) < self.KEPT or steps.pop(0) != step:
                self._usual = -1
            steps.append(step)
        self.last = max(time, self.last)

    def state(self) -> CadenceState:
        return CadenceState(self.last, tuple(self._steps))
