"""Scores of anomaly detectors as two published benchmarks define them.

Numenta Anomaly Benchmark, version 1.1 (Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms: the Numenta
anomaly benchmark", ICMLA 2015). A row counts as detected when its score reaches the threshold. In a labelled window only the
best detection counts, by a sigmoid of its place in the window (1 at the left edge, falling to the right); a window without one
counts the negative weight of a miss; each detected row outside counts the negative weight of a false alarm, less of it just
after a window, by the same sigmoid. Rows of the probationary period, 15 % of a file and at most 750 rows, count nothing. A
corpus is scored from 0 (a detector that says nothing) to 100 (every window detected on its first row and nothing else).

SKAB 0.9 (Katser and Kozitsin, "Skoltech anomaly benchmark", 2020), outlier detection: rows counted over all files, F1, false
alarm rate FP / (FP + TN) and missed alarm rate FN / (FN + TP), the last two in per cent.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Final

__all__ = ["PROFILES", "Counts", "Labelled", "Profile", "best_threshold", "nab_score", "probation"]

PROBATION_SHARE: Final = 0.15
PROBATION_ROWS: Final = 750
"""15 % of at most 5,000 rows."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights of a detected window, of a false alarm and of a missed window."""

    detected: float
    false_alarm: float
    missed: float


PROFILES: Final = {
    "standard": Profile(1.0, 0.11, 1.0),
    "low false alarms": Profile(1.0, 0.22, 1.0),
    "low misses": Profile(1.0, 0.11, 2.0),
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A scored series. ``windows`` are (first row, last row) of each labelled window, both inside it, ascending."""

    scores: Sequence[float]
    windows: Sequence[tuple[int, int]] = ()


def probation(rows: int) -> int:
    """Rows at the start that count nothing."""
    return min(int(PROBATION_SHARE * rows), PROBATION_ROWS)


def _sigmoid(place: float) -> float:
    """1 at -1 (nearly), 0 at 0, towards -1 after it."""
    return -1.0 if place > 3.0 else 2.0 / (1.0 + exp(5.0 * place)) - 1.0


_FIRST_ROW: Final = _sigmoid(-1.0)


def _gains(series: Labelled, profile: Profile) -> Iterable[tuple[float, int, float]]:
    """(score, window or -1, what a detection in this row counts) of every row that counts."""
    starts = [first for first, _ in series.windows]
    for row in range(probation(len(series.scores)), len(series.scores)):
        at = bisect_left(starts, row + 1) - 1
        if at < 0:
            yield series.scores[row], -1, -profile.false_alarm
            continue
        first, last = series.windows[at]
        width = last - first + 1
        if row <= last:
            yield series.scores[row], at, _sigmoid(-(last - row + 1) / width) * profile.detected / _FIRST_ROW
        else:
            yield series.scores[row], -1, _sigmoid((row - last) / max(1, width - 1)) * profile.false_alarm


def _sweep(corpus: Sequence[Labelled], profile: Profile) -> tuple[list[tuple[float, float]], int]:
    """(threshold, raw score) from the highest threshold down, and the number of windows."""
    rows = [
        (score, number, window, gain) for number, series in enumerate(corpus) for score, window, gain in _gains(series, profile)
    ]
    rows.sort(key=lambda row: -row[0])
    windows = sum(len(series.windows) for series in corpus)
    best: dict[tuple[int, int], float] = {}
    raw = -profile.missed * windows
    found = [(float("inf"), raw)]
    for at, (score, number, window, gain) in enumerate(rows):
        if window < 0:
            raw += gain
        else:
            before = best.get((number, window), -profile.missed)
            if gain > before:
                raw += gain - before
                best[number, window] = gain
        if at + 1 == len(rows) or rows[at + 1][0] != score:
            found.append((score, raw))
    return found, windows


def _normalised(raw: float, windows: int, profile: Profile) -> float:
    null, perfect = -profile.missed * windows, profile.detected * windows
    return 100.0 * (raw - null) / (perfect - null) if windows else raw


def nab_score(corpus: Sequence[Labelled], profile: Profile, threshold: float) -> float:
    """Score of a corpus at a threshold, 0 to 100, negative where a null detector would have been better.

    A corpus without a window has no scale: then the raw score, the sum of its false alarms, is returned.
    """
    found, windows = _sweep(corpus, profile)
    raw = found[0][1]
    for at, here in found:
        if at < threshold:
            break
        raw = here
    return _normalised(raw, windows, profile)


def best_threshold(corpus: Sequence[Labelled], profile: Profile) -> tuple[float, float]:
    """(threshold, score) of the threshold that suits this corpus best: what the benchmark publishes."""
    found, windows = _sweep(corpus, profile)
    threshold, raw = max(found, key=lambda one: one[1])
    return threshold, _normalised(raw, windows, profile)


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by what was said and what was so."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    @classmethod
    def of(cls, said: Iterable[bool], so: Iterable[bool]) -> "Counts":
        tp = fp = fn = tn = 0
        for one, other in zip(said, so, strict=True):
            if other:
                tp, fn = (tp + 1, fn) if one else (tp, fn + 1)
            else:
                fp, tn = (fp + 1, tn) if one else (fp, tn + 1)
        return cls(tp, fp, fn, tn)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def f1(self) -> float:
        return 2 * self.true_positive / max(1, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def false_alarm_rate(self) -> float:
        """Per cent of the normal rows."""
        return 100.0 * self.false_positive / max(1, self.false_positive + self.true_negative)

    @property
    def missed_alarm_rate(self) -> float:
        """Per cent of the anomalous rows."""
        return 100.0 * self.false_negative / max(1, self.false_negative + self.true_positive)
