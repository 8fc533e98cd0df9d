"""What detectors are made of. Each part is bounded, and writes itself as a frozen struct.

Numbers are kept as 32-bit floats of the distance from the series' first value: half the memory, and a large offset costs no
precision. They are rounded when they enter, not when they are saved, so a restart changes nothing.
"""

from array import array
from bisect import bisect_left, insort
from itertools import pairwise
from math import log1p
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
        return sum(self.values[-count:]) / count

    def median(self) -> float:
        return sorted(self.values)[len(self.values) // 2]

    def travel(self) -> float:
        """Mean absolute step."""
        values = self.values
        return sum(abs(b - a) for a, b in pairwise(values)) / max(1, len(values) - 1)

    def clear(self) -> None:
        del self.values[:]

    def state(self) -> bytes:
        return self.values.tobytes()


class SampleState(msgspec.Struct, frozen=True, array_like=True):
    values: bytes = b""
    seen: int = 0
    stride: int = 1


class Sample:
    """Every n-th of the past numbers, at most ``SIZE``: median and robust scale of the last ``SIZE * WIDEST`` of them.

    n doubles as the series grows, up to ``WIDEST``; then the oldest goes. Systematic rather than random, so that it is the same
    in every run.
    """

    SIZE: Final = 128
    WIDEST: Final = 32

    def __init__(self, state: SampleState) -> None:
        self.values = array("f")
        self.values.frombytes(state.values)
        self.seen, self._stride = state.seen, state.stride
        self._sorted = sorted(self.values)

    def add(self, value: float) -> bool:
        """True if this one was kept."""
        self.seen += 1
        if self.seen % self._stride:
            return False
        self.values.append(value)
        insort(self._sorted, self.values[-1])
        if len(self.values) > self.SIZE:
            if self._stride < self.WIDEST:
                self._stride *= 2
                self.values = self.values[1::2]
                self._sorted = sorted(self.values)
            else:
                del self._sorted[bisect_left(self._sorted, self.values[0])]
                del self.values[0]
        return True

    @property
    def full(self) -> bool:
        """At least half filled, as it is after its first thinning."""
        return len(self.values) >= self.SIZE // 2

    def quantile(self, share: float) -> float:
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]

    def location(self) -> tuple[float, float]:
        """Median, and the larger of two robust scales that equal the standard deviation of a normal distribution:
        by the quartiles, and by the outer tenths where more than half of all values are equal."""
        quantile = self.quantile
        return quantile(0.5), max((quantile(0.75) - quantile(0.25)) / 1.349, (quantile(0.9) - quantile(0.1)) / 2.563)

    def resolution(self) -> float:
        """Least scale: a thousandth of the range, a millionth of the values; never zero, for what never moved may yet move."""
        low, high = self._sorted[0], self._sorted[-1]
        return max((high - low) * 1e-3, max(abs(low), abs(high)) * 1e-6, 1e-30)

    def state(self) -> SampleState:
        return SampleState(self.values.tobytes(), self.seen, self._stride)


class TailState(msgspec.Struct, frozen=True, array_like=True):
    values: bytes = b""
    ages: bytes = b""
    seen: int = 0


class Tail:
    """How improbable a number is by the series' own past: minus the decimal logarithm of its probability.

    The ``SIZE`` largest of the last ``MEMORY`` numbers are kept. Inside them the probability is counted; beyond the largest it
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

    def __init__(self, warm: int, state: TailState) -> None:
        self._warm = warm
        self._values, self._ages = array("f"), array("I")
        self._values.frombytes(state.values)
        self._ages.frombytes(state.ages)
        self._seen = state.seen
        self._sorted = sorted(self._values)

    def surprise(self, size: float) -> float:
        """Decades of improbability of a size; 0 while fewer than ``warm`` numbers are known."""
        if self._seen < self._warm:
            return 0.0
        kept = self._sorted
        known = min(self._seen, self.MEMORY)
        rank = len(kept) - bisect_left(kept, size)
        if rank == len(kept) and kept:
            return 0.0
        if rank or not kept:
            return _log10((known + 1) / (rank + 1))
        upper = kept[len(kept) // 2 :]
        slope = max(sum(upper) / len(upper) - upper[0], self.LEAST_SLOPE)
        return min(self.MOST, _log10(known + 1) + (size - kept[-1]) / slope / _LN10)

    def add(self, size: float) -> None:
        self._seen += 1
        while self._ages and self._seen - self._ages[0] > self.MEMORY:
            self._drop(0)
        if len(self._sorted) < self.SIZE or size > self._sorted[0]:
            self._values.append(size)
            self._ages.append(self._seen)
            insort(self._sorted, self._values[-1])
            if len(self._sorted) > self.SIZE:
                self._drop(self._values.index(self._sorted[0]))

    def _drop(self, at: int) -> None:
        del self._sorted[bisect_left(self._sorted, self._values[at])]
        del self._values[at]
        del self._ages[at]

    def state(self) -> TailState:
        return TailState(self._values.tobytes(), self._ages.tobytes(), self._seen)


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

    def baseline(self, time: int) -> tuple[float, str] | None:
        """(value, ``hour-of-week`` | ``hour-of-day``) of an instant, ms; None while too little is known."""
        cell = time // HOUR_MS % self.HOURS
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

    def usual(self) -> int:
        """0 while it is not known."""
        if self._given:
            return self._given
        return sorted(self._steps)[len(self._steps) // 2] if len(self._steps) >= 5 else 0

    def gap(self, time: int) -> float:
        """Distance of a sample from the one before, in usual ones; 1 while that is not known."""
        usual = self.usual()
        return (time - self.last) / usual if usual and self.last else 1.0

    def add(self, time: int) -> None:
        if self.last and time > self.last:
            self._steps = [*self._steps[1 - self.KEPT :], time - self.last]
        self.last = max(time, self.last)

    def state(self) -> CadenceState:
        return CadenceState(self.last, tuple(self._steps))
