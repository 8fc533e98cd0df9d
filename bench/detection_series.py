"""What each detector of series is worth on public, labelled series: NAB and SKAB.

::

    python -m bench.detection_series                 the tables
    python -m bench.detection_series --write         ... into docs/detection.md
    python -m bench.detection_series --files NAME    each file of one detector

The data are read from ``HENGLIU_REAL_DATA`` and not shipped (SKAB is GPL-3.0, NAB MIT). Each file is one pass in time order
through a fresh detector with the defaults; no parameter depends on a file or a group. ``detection_scoring`` has the scores.
"""

import argparse
import csv
import io
import os
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import Final

import msgspec

from bench.detection_city import write_section
from bench.detection_scoring import PROFILES, Counts, Labelled, best_threshold, nab_score, probation
from bench.report import machine
from hengliu.cli.detect import points
from hengliu.events.envelope import ms_of
from streams.detectors.base import Limits, Watch
from streams.detectors.catalog import DETECTORS, detector
from streams.operators.anomaly import AnomalyPolicy

__all__ = ["Series", "nab", "section", "skab"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "detection.md"
ANOMALOUS: Final = ("artificialWithAnomaly", "realKnownCause")
CLEAN: Final = "artificialNoAnomaly"
STANDARD: Final = PROFILES["standard"]
DEFAULT: Final = 0.5
"""Score at the limit: the threshold that nobody fitted to these files."""
SENSORS_NEEDED: Final = (1, 2, 3)
ON_PLANTS: Final = ("combined", "level-shift", "spike", "flat-line")
"""Detectors that twenty minutes are enough for."""
CHOSEN_ON: Final = 4
"""Files of SKAB's valve1 on which the number of sensors is chosen; the others are what counts."""


@dataclass(frozen=True, slots=True)
class Series:
    """One labelled series. ``windows`` are (first, last) rows; ``anomalous`` is per row, where the benchmark labels rows."""

    name: str
    times: list[int]
    values: list[float]
    windows: list[tuple[int, int]] = field(default_factory=list)

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Plant:
    """One experiment of SKAB: eight sensors, and whether each row is anomalous."""

    name: str
    times: list[int]
    sensors: dict[str, list[float]]
    anomalous: list[bool]


def _time(text: str) -> int:
    return ms_of(datetime.fromisoformat(text).replace(tzinfo=UTC))


def nab(data: Path) -> list[Series]:
    """The files of anomaly-nab.zip, with their windows as rows."""
    with zipfile.ZipFile(data / "anomaly-nab.zip") as archive:
        windows = msgspec.json.decode(archive.read("combined_windows.json"), type=dict[str, list[tuple[str, str]]])
        found = []
        for name, spans in sorted(windows.items()):
            rows = list(csv.DictReader(io.StringIO(archive.read(name).decode())))
            times = [_time(row["timestamp"]) for row in rows]
            place = {at: number for number, at in reversed(list(enumerate(times)))}
            ends = [(place[_time(first)], place[_time(last)]) for first, last in spans]
            found.append(Series(name, times, [float(row["value"]) for row in rows], ends))
    return found


def skab(data: Path) -> list[Plant]:
    """The files of anomaly-skab.zip; the anomaly-free one first."""
    found = []
    with zipfile.ZipFile(data / "anomaly-skab.zip") as archive:
        names = [n for n in archive.namelist() if n.endswith(".csv")]
        for name in sorted(names, key=lambda n: (n.startswith("valve"), len(n), n)):
            rows = list(csv.DictReader(io.StringIO(archive.read(name).decode()), delimiter=";"))
            sensors = [c for c in rows[0] if c not in ("datetime", "anomaly", "changepoint")]
            found.append(
                Plant(
                    name,
                    [_time(row["datetime"]) for row in rows],
                    {one: [float(row[one]) for row in rows] for one in sensors},
                    [float(row.get("anomaly") or 0) > 0 for row in rows],
                )
            )
    return found


# ---- what is compared -------------------------------------------------------------------------------------------------------

Scorer = Callable[[Series], list[float]]


def _of(name: str, limits: Limits) -> Scorer:
    def score(series: Series) -> list[float]:
        watch = detector(name, limits).open()
        return [watch.observe(at, value).score for at, value in zip(series.times, series.values, strict=True)]

    return score


def null(series: Series) -> list[float]:
    """Says nothing."""
    return [0.0] * len(series.values)


def moving_z(series: Series) -> list[float]:
    """Distance from the mean of the last 600 values in their standard deviations, no memory of what was said: z / (3 + z)."""
    span, least = 600, 30
    total = squares = 0.0
    found = []
    for at, value in enumerate(series.values):
        count = min(at, span)
        z = 0.0
        if count >= least:
            mean = total / count
            z = abs(value - mean) / sqrt(max(squares / count - mean * mean, 1e-12))
        found.append(z / (3 + z))
        total, squares = total + value, squares + value * value
        if at >= span:
            old = series.values[at - span]
            total, squares = total - old, squares - old * old
    return found


def every_tenth(series: Series) -> list[float]:
    """Cries out ten times a file, at equal distances: what luck alone is worth."""
    step = max(1, len(series.values) // 10)
    return [1.0 if at % step == step - 1 else 0.0 for at in range(len(series.values))]


BASELINES: Final[Mapping[str, Scorer]] = {"*null*": null, "*ten times a file*": every_tenth, "*moving z-score*": moving_z}


@dataclass(slots=True)
class Run:
    """Scores of one detector over all files."""

    name: str
    scored: dict[str, Labelled]
    groups: dict[str, list[Labelled]]
    seconds: float
    samples: int

    def score(self, group: str, threshold: float, profile: str = "standard") -> float:
        return nab_score(self.groups[group], PROFILES[profile], threshold)

    def fitted(self, group: str) -> float:
        """The threshold that suits a group best; of a range that does equally well its middle."""
        return fitted(self.groups[group])

    @property
    def corpus(self) -> list[Labelled]:
        return list(self.scored.values())

    def false_rows(self, group: str, threshold: float) -> int:
        return sum(score >= threshold for one in self.groups[group] for score in one.scores[probation(len(one.scores)) :])


def fitted(corpus: Sequence[Labelled]) -> float:
    """The best threshold by the standard profile, in the middle between it and the next score that would change anything."""
    threshold, _ = best_threshold(corpus, STANDARD)
    if threshold == float("inf"):
        return threshold
    below = [s for one in corpus for s in one.scores[probation(len(one.scores)) :] if s < threshold]
    return (threshold + max(below, default=threshold)) / 2


def measure(name: str, scorer: Scorer, files: Sequence[Series]) -> Run:
    began = time.process_time()
    scored = {one.name: Labelled(scorer(one), one.windows) for one in files}
    seconds = time.process_time() - began
    groups: dict[str, list[Labelled]] = {}
    for one in files:
        groups.setdefault(one.group, []).append(scored[one.name])
    return Run(name, scored, groups, seconds, sum(len(one.values) for one in files))


@dataclass(frozen=True, slots=True)
class PlantRun:
    """Flags of one detector on SKAB by how many sensors must be flagged at once."""

    name: str
    needed: int
    chosen: Counts
    others: Counts
    free: Counts


Flagger = Callable[[list[int], list[float]], Iterator[bool]]


def _flags_of(name: str, limits: Limits) -> Flagger:
    def flags(times: list[int], values: list[float]) -> Iterator[bool]:
        watch = detector(name, limits).open()
        return (watch.observe(at, value).flagged for at, value in zip(times, values, strict=True))

    return flags


def z_flags(times: list[int], values: list[float]) -> Iterator[bool]:
    """The moving z-score beyond 3."""
    return (score >= DEFAULT for score in moving_z(Series("", times, values)))


def measure_plants(name: str, flagger: Flagger, plants: Sequence[Plant]) -> list[PlantRun]:
    """Each sensor is a series of its own; a row is flagged when so many sensors are."""
    flagged: list[list[int]] = []
    for plant in plants:
        count = [0] * len(plant.times)
        for values in plant.sensors.values():
            for at, flag in enumerate(flagger(plant.times, values)):
                count[at] += flag
        flagged.append(count)
    found = []
    for needed in SENSORS_NEEDED:
        counts = [
            Counts.of((c >= needed for c in count), plant.anomalous) for plant, count in zip(plants, flagged, strict=True)
        ]
        free = [c for c, p in zip(counts, plants, strict=True) if not any(p.anomalous)]
        labelled = [c for c, p in zip(counts, plants, strict=True) if any(p.anomalous)]
        found.append(
            PlantRun(
                name, needed, sum(labelled[:CHOSEN_ON], Counts()), sum(labelled[CHOSEN_ON:], Counts()), sum(free, Counts())
            )
        )
    return found


# ---- showing ----------------------------------------------------------------------------------------------------------------


def _grid(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _held(runs: Sequence[Run]) -> str:
    artificial, real = ANOMALOUS
    rows = []
    for run in runs:
        of_artificial, of_real = run.fitted(artificial), run.fitted(real)
        both = [*run.groups[artificial], *run.groups[real]]
        rows.append((
            run.name,
            f"{run.score(real, of_artificial):.1f}",
            f"{run.score(artificial, of_real):.1f}",
            f"{nab_score(both, STANDARD, DEFAULT):.1f}",
            f"{run.score(artificial, DEFAULT):.1f} / {run.score(real, DEFAULT):.1f}",
            f"{run.false_rows(CLEAN, of_artificial)} / {run.false_rows(CLEAN, of_real)} / {run.false_rows(CLEAN, DEFAULT)}",
        ))  # fmt: skip
    head = (
        "detector", "fixed on artificial, scored on real", "fixed on real, scored on artificial", "at 0.5, both",
        "... artificial / real", "false alarms without anomalies",
    )  # fmt: skip
    return _grid(head, rows)


def _optimised(runs: Sequence[Run]) -> str:
    rows = []
    for run in runs:
        cells = [run.name]
        for profile in PROFILES.values():
            _, score = best_threshold(run.corpus, profile)
            cells.append(f"{score:.1f}")
        threshold, _ = best_threshold(run.corpus, STANDARD)
        cells.append("-" if threshold == float("inf") else f"{threshold:.3f}")
        cells += [f"{best_threshold(run.groups[group], STANDARD)[1]:.1f}" for group in ANOMALOUS]
        cells.append(f"{run.seconds * 1e6 / run.samples:.0f} µs")
        rows.append(cells)
    head = (
        "detector", "standard", "low false alarms", "low misses", "its threshold", "artificial alone", "real alone", "a sample",
    )  # fmt: skip
    return _grid(head, rows)


def _plants(runs: Sequence[Sequence[PlantRun]]) -> str:
    rows = []
    for of_one in runs:
        best = max(of_one, key=lambda run: run.chosen.f1)
        others = best.others
        rows.append((
            best.name, str(best.needed), f"{best.chosen.f1:.2f}", f"**{others.f1:.2f}**", f"{others.false_alarm_rate:.1f} %",
            f"{others.missed_alarm_rate:.1f} %", f"{best.free.false_alarm_rate:.2f} %",
        ))  # fmt: skip
    head = (
        "detector", "sensors needed", f"F1 on the {CHOSEN_ON} files it was chosen on", "F1 on the others", "FAR", "MAR",
        "FAR anomaly-free",
    )  # fmt: skip
    return _grid(head, rows)


def section(data: Path) -> str:
    """The part of docs/detection.md between the markers."""
    here = machine()
    files, plants = nab(data), skab(data)
    limits = Limits()
    scorers = {**BASELINES, **{f"`{name}`": _of(name, limits) for name in DETECTORS}}
    runs = [measure(name, scorer, files) for name, scorer in scorers.items()]
    flaggers = {"*moving z-score*": z_flags, **{f"`{name}`": _flags_of(name, limits) for name in ON_PLANTS}}
    plant_runs = [measure_plants(name, flagger, plants) for name, flagger in flaggers.items()]
    windows = sum(len(one.windows) for one in files)
    clean = sum(len(one.values) - probation(len(one.values)) for one in files if one.group == CLEAN)
    return f"""
`python -m bench.detection_series`, {here.at}: {here.processor}, {here.cores} cores, Python {here.python}, commit {here.commit}.
One pass in time order through a fresh detector a file, with the defaults; nothing is set by file or group. Defaults:
{_defaults(limits)}.
Rows in italics are no detectors of this project but what they are to be compared with. The constants inside the detectors were
chosen with these three groups, and made-up series of other kinds, at hand: only the thresholds are held out, not the design.

### NAB: one threshold, fixed elsewhere

{len(files)} files of three groups of the Numenta Anomaly Benchmark with {windows} windows; its score, standard profile:
0 is a detector that says nothing, 100 one that finds every window in its first row and nothing else. The threshold is fixed on
one group and scored on the other; 0.5, where a warning is raised, belongs to no group. *False alarms* are rows at or above each
of the three thresholds in the group without anomalies, {clean:,} rows.

{_held(runs)}

### NAB: its own scoring, with the threshold optimised on the files it is scored on

This is how NAB publishes, and it flatters everybody alike. It is **not comparable one to one** with NAB's table, which is of
seven groups (58 files, 116 windows) of which three are here. Published there, standard profile: Numenta HTM 70.5, CAD OSE 69.9,
KNN CAD 58.0, Relative Entropy 54.6, Windowed Gaussian 39.6, Bayesian Changepoint 17.7, EXPoSE 16.4, null 0.

{_optimised(runs)}

### SKAB: rows flagged

The warning flag, row by row, of SKAB's anomaly-free file and the {len(plants) - 1} of valve1 (eight sensors, one row a second).
Each sensor is a series of its own; a row counts as flagged when so many sensors are. That number is chosen on the first
{CHOSEN_ON} files and scored on the others. The detectors see one sensor at a time, and are not told which rows are normal.

{_plants(plant_runs)}

### Real loads, nobody's labels

Warnings that rule `anomaly` with its defaults would raise on real meters of which nobody knows what was wrong: how often a
person would be called.

{_unlabelled(data)}

### What is remembered

{_memory(limits, files)}
"""


LOADS: Final = (
    ("electricity-london-half-hourly-2013.csv.gz", "london-electricity", 40_000),
    ("electricity-steelworks-quarter-hourly-2018.csv.gz", "steelworks", 0),
    ("water-alicante-hourly-register.zip", "alicante-water", 20_000),
)
"""File, mapping, and rows at most (0: all)."""
MONTH_MS: Final = 2_629_800_000
"""A twelfth of 365.25 days."""


def _unlabelled(data: Path) -> str:
    rows = []
    limits = AnomalyPolicy().limits
    for name, mapping, most in LOADS:
        if not (data / name).exists():
            rows.append((f"`{mapping}`", "-", "0", "-", "-", "-"))
            continue
        found = points(data / name, mapping, Counter())
        watches: dict[str, tuple[Watch, int, int]] = {}
        raised: Counter[str] = Counter()
        samples = 0
        for point in islice(found, most or None):
            watch, first, last = watches.get(point.series) or (detector("combined", limits).open(), point.time, point.time)
            last = max(last, point.time)
            watches[point.series] = watch, first, last
            samples += 1
            if watch.observe(last, point.value).change == "raised":
                raised[point.series] += 1
        months = sum(last - first for _, first, last in watches.values()) / MONTH_MS
        rate = raised.total() / months if months else 0.0
        rows.append((f"`{mapping}`", f"{len(watches)}", f"{samples:,}", f"{months:.0f}", f"{raised.total()}", f"{rate:.2f}"))
    return _grid(("mapping", "meters", "samples", "meter-months", "warnings", "a meter and month"), rows)


def _defaults(limits: Limits) -> str:
    return ", ".join(f"{name} {getattr(limits, name)}" for name in Limits.__slots__)


def _memory(limits: Limits, files: Sequence[Series]) -> str:
    longest = max(files, key=lambda one: len(one.values))
    rows = []
    for name in DETECTORS:
        one = detector(name, limits)
        watch = one.open()
        most = 0
        for at, (moment, value) in enumerate(zip(longest.times, longest.values, strict=True)):
            watch.observe(moment, value)
            if at % 500 == 0:
                most = max(most, len(msgspec.msgpack.encode(watch.state())))
        rows.append((f"`{name}`", one.title.en, f"{one.state_bytes:,} B", f"{most:,} B"))
    rows_of = f"most seen in {len(longest.values):,} samples"
    return _grid(("detector", "what it is", "stated bound of a series' state", rows_of), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Scores of the detectors of series on NAB and SKAB.")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HENGLIU_REAL_DATA") or "../shared/data"))
    parser.add_argument("--files", metavar="NAME", help="each file of one detector, at its default threshold")
    parser.add_argument("--write", action="store_true", help="write the section of docs/detection.md")
    given = parser.parse_args(arguments)
    if not (given.data / "anomaly-nab.zip").exists():
        print(
            f"{given.data}: 没有 anomaly-nab.zip；请设 HENGLIU_REAL_DATA / no anomaly-nab.zip: set HENGLIU_REAL_DATA",
            file=sys.stderr,
        )
        return 2
    if given.files:
        run = measure(given.files, _of(given.files, Limits()), nab(given.data))
        for name, one in run.scored.items():
            score = nab_score([one], STANDARD, DEFAULT)
            print(f"{name:60} {score:7.2f}  {sum(s >= DEFAULT for s in one.scores[probation(len(one.scores)) :])} rows at 0.5")
        return 0
    text = section(given.data)
    print(text)
    if given.write:
        write_section(PAGE, text, "series")
    return 0


if __name__ == "__main__":
    sys.exit(main())
